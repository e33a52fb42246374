//! The status page: the state of the bridge in a browser. Its files are compiled into the program and load
//! nothing from other sites; it shows `/_rialto/status.json`, which `rialto top` reads as well.

use axum::{
    Json, Router,
    extract::{Query, State},
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;

use super::{
    Shared,
    files::{self, CSS, HTML, JS},
};

/// Path of the page, also when rooms are served at `/`: no room's name begins with `_`.
const PAGE: &str = "/_rialto/status";
/// Path of the page's data.
pub(crate) const JSON: &str = "/_rialto/status.json";

/// The page and the files that it loads; none of them is secret.
const FILES: [(&str, &str, &str); 5] = [
    (PAGE, HTML, include_str!("web/status.html")),
    ("/_rialto/status.css", CSS, include_str!("web/status.css")),
    ("/_rialto/status.js", JS, include_str!("web/status.js")),
    ("/_rialto/status-draw.js", JS, include_str!("web/status-draw.js")),
    ("/_rialto/status-plot.js", JS, include_str!("web/status-plot.js")),
];

/// Only this server's files and data. Names come from peers: the policy keeps a browser from running a
/// script in one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Returns the routes. `root`: the page is at `/` as well.
pub(super) fn routes(root: bool) -> Router<Shared> {
    let mut router = Router::new().route(JSON, get(figures));
    for (path, kind, text) in FILES {
        router = router.route(path, get(async move || file(kind, text)));
    }
    if root {
        let [(_, kind, text), ..] = FILES;
        router = router.route("/", get(async move || file(kind, text)));
    }
    router
}

/// Returns whether a path is a file of the page. These need no token: the page asks the user for it.
pub(super) fn is_file(path: &str) -> bool {
    path == "/" || FILES.iter().any(|(file, _, _)| *file == path)
}

#[derive(Deserialize)]
struct Shown {
    conference: Option<String>,
}

async fn figures(State(shared): State<Shared>, Query(shown): Query<Shown>) -> Response {
    let status = shared.report.status(shown.conference.as_deref()).await;
    ([(header::CACHE_CONTROL, "no-store")], Json(status)).into_response()
}

fn file(kind: &'static str, text: &'static str) -> Response {
    files::file(kind, text, POLICY)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        config::Rest,
        http::tests::{CONFERENCES, Http, alike},
    };

    #[tokio::test]
    async fn the_page_is_where_debug_is() {
        let here = Http::everything();
        for path in ["/", PAGE] {
            let page = here.get(path).await;
            assert_eq!((page.status, page.content_type.as_deref()), (200, Some(HTML)), "{path}");
        }
        let without = Http::new(&Rest { debug: false, ..Rest::default() });
        alike(&without.get("/").await, "idle-root");
        for path in [PAGE, JSON] {
            assert_eq!(without.get(path).await.status, 404, "{path}");
        }
    }

    #[test]
    fn the_policy_allows_only_our_own_files() {
        for (path, kind, text) in FILES {
            let response = file(kind, text);
            let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
            assert_eq!(header("content-type"), kind, "{path}");
            assert_eq!(header("x-content-type-options"), "nosniff");
            let policy = header("content-security-policy");
            assert!(
                policy.contains("default-src 'none'") && !policy.contains("unsafe"),
                "{policy}"
            );
            // The policy would block inline scripts and styles.
            assert!(!text.contains(" style=\"") && !text.contains(" onclick="), "{path}");
        }
    }

    #[tokio::test]
    async fn figures_name_conferences() {
        let here = Http::everything();
        let empty = here.get(JSON).await.json();
        assert_eq!((&empty["shown"], &empty["conferences"]), (&json!(null), &json!([])));
        for (meeting, create) in [("one", "a"), ("two", "b")] {
            let endpoint = json!({
                "id": create, "create": true, "transport": {}, "capabilities": ["source-names"],
            });
            let body = json!({ "meeting-id": meeting, "create": true, "endpoints": [endpoint] });
            assert_eq!(here.post(CONFERENCES, &body).await.status, 200);
        }
        let status = here.get(&format!("{JSON}?conference=two")).await.json();
        assert_eq!(status["shown"]["endpoints"][0]["id"], "b");
        assert_eq!(status["conferences"].as_array().unwrap().len(), 2);
        assert_eq!(
            here.get(&format!("{JSON}?conference=three")).await.json()["shown"],
            json!(null)
        );
    }

    #[test]
    fn what_the_page_loads_is_there_and_makes_no_markup_of_texts() {
        for (name, _, text) in FILES {
            assert!(!text.contains("https://"), "{name}: nothing from elsewhere");
            let foreign = text.replace("'http://www.w3.org/2000/svg'", "");
            assert!(!foreign.contains("http://"), "{name}: nothing from elsewhere");
            for part in text.split("/_rialto/").skip(1) {
                let end = part.find(['"', '\'', '`', '?', '$']).unwrap_or(part.len());
                let path = format!("/_rialto/{}", part.get(..end).unwrap_or_default());
                assert!(path == JSON || is_file(&path), "{name}: {path}");
            }
            for unsafe_call in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write"] {
                assert!(!text.contains(unsafe_call), "{name}: {unsafe_call}");
            }
        }
    }
}
