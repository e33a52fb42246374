//! The call page: files that are compiled into the program, without a build step, and load nothing from
//! other sites.

use axum::{
    Router,
    extract::Path,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};

use super::room::is_room_name;
use crate::http::files::{self, CSS, HTML, JS};

const HOME: &str = include_str!("web/home.html");
const CALL: &str = include_str!("web/call.html");

/// The other files that the pages load, by name.
const FILES: [(&str, &str, &str); 15] = [
    ("style.css", CSS, include_str!("web/style.css")),
    ("theme.js", JS, include_str!("web/theme.js")),
    ("home.js", JS, include_str!("web/home.js")),
    ("call.js", JS, include_str!("web/call.js")),
    ("signal.js", JS, include_str!("web/signal.js")),
    ("trouble.js", JS, include_str!("web/trouble.js")),
    ("chat.js", JS, include_str!("web/chat.js")),
    ("devices.js", JS, include_str!("web/devices.js")),
    ("media.js", JS, include_str!("web/media.js")),
    ("peer.js", JS, include_str!("web/peer.js")),
    ("constraints.js", JS, include_str!("web/constraints.js")),
    ("measure.js", JS, include_str!("web/measure.js")),
    ("stats.js", JS, include_str!("web/stats.js")),
    ("tiles.js", JS, include_str!("web/tiles.js")),
    ("plot.js", JS, include_str!("web/plot.js")),
];

/// Only this server's files and its WebSocket. Not every browser accepts `'self'` for the latter.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; media-src 'self' blob:; connect-src 'self' ws: wss:; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

/// Returns the routes of the pages and their files.
pub(super) fn router() -> Router {
    Router::new()
        .route("/", get(async || file(HTML, HOME)))
        .route("/{room}", get(call))
        .route("/_rialto/{name}", get(asset))
}

async fn call(Path(room): Path<String>) -> Response {
    if is_room_name(&room) { file(HTML, CALL) } else { missing() }
}

async fn asset(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(known, _, _)| *known == name) {
        Some((_, kind, text)) => file(kind, text),
        None => missing(),
    }
}

fn file(kind: &'static str, text: &'static str) -> Response {
    files::file(kind, text, POLICY)
}

fn missing() -> Response {
    (
        StatusCode::NOT_FOUND,
        "There is nothing here. Rooms have names of letters, digits, - and _.\n",
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use tower::ServiceExt;

    use super::*;

    async fn status(path: &str) -> StatusCode {
        let request = Request::get(path).body(Body::empty()).unwrap();
        router().oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn pages_and_files_are_there() {
        assert_eq!(status("/").await, StatusCode::OK);
        assert_eq!(status("/any-room").await, StatusCode::OK);
        assert_eq!(status("/a%20b").await, StatusCode::NOT_FOUND);
        assert_eq!(status("/favicon.ico").await, StatusCode::OK, "a room like any other");
        assert_eq!(status("/_rialto/none.js").await, StatusCode::NOT_FOUND);
        for (name, _, _) in FILES {
            assert_eq!(status(&format!("/_rialto/{name}")).await, StatusCode::OK);
        }
    }

    #[test]
    fn what_a_page_loads_is_there() {
        let texts = [HOME, CALL].into_iter().chain(FILES.iter().map(|(_, _, text)| *text));
        // The name of the data channel's protocol is not an address to load.
        let protocol = "'http://jitsi.org/protocols/colibri'";
        for text in texts {
            let text = text.replace(protocol, "");
            assert!(
                !text.contains("http://") && !text.contains("https://"),
                "nothing from elsewhere"
            );
            for part in text.split("/_rialto/").skip(1) {
                let end = part.find(['"', '\'', '`', '?']).unwrap_or(part.len());
                let name = part.get(..end).unwrap_or_default();
                let known = name == "ws" || FILES.iter().any(|(known, _, _)| *known == name);
                assert!(known, "{name}");
            }
        }
    }
}
