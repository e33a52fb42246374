//! `rialto top`: the data of the status page in a terminal.

mod table;

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    str::FromStr,
    time::Duration,
};

use axum::http::{StatusCode, Uri, header, uri::Authority};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::MissedTickBehavior};

use super::{Failure, args::Top};
use crate::{bridge::Status, http};
use table::Size;

/// Interval of readings.
const PERIOD: Duration = Duration::from_secs(1);
/// A bridge that does not answer within this time is unreachable.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum bytes of an answer: the bridge limits its length.
const MAX_ANSWER: usize = 8 << 20;
/// The assumed size of a terminal that does not report its own.
const USUAL: Size = Size { columns: 80, rows: 24 };

/// Address of a bridge's private HTTP server.
#[derive(Clone, Debug)]
pub(super) struct Target {
    url: String,
    authority: Authority,
}

impl FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "write it as http://127.0.0.1:8080";
        let uri: Uri = text.parse().map_err(|_| FORM)?;
        match (uri.scheme_str(), uri.authority(), uri.path()) {
            (Some("http"), Some(authority), "" | "/") => {
                let url = format!("http://{authority}");
                Ok(Self { url, authority: authority.clone() })
            }
            _ => Err(FORM),
        }
    }
}

/// Why no status could be read.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("the bridge cannot be reached: {0}")]
    Unreachable(String),
    #[error("the bridge asks for a token: put it into RIALTO_HTTP_TOKEN")]
    NoToken,
    #[error("the bridge does not take the token in RIALTO_HTTP_TOKEN")]
    WrongToken,
    #[error("RIALTO_HTTP_TOKEN has characters that no HTTP header may have")]
    BadToken,
    #[error("there is no status page: is that a Rialto, with videobridge.rest.debug.enabled?")]
    NoStatus,
    #[error("the bridge has no conference '{0}'")]
    NoConference(String),
    #[error("the bridge refuses: {0}")]
    Refused(String),
    #[error("the answer is not understood: {0}")]
    Answer(#[from] serde_json::Error),
}

/// Prints the table once, or every second until this process or the bridge stops.
pub(super) fn run(args: &Top) -> Result<ExitCode, Failure> {
    let failure = |error: AskError| Failure::Other(format!("{}: {error}", args.url.url));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(format!("cannot start: {error}")))?;
    let token = std::env::var("RIALTO_HTTP_TOKEN").ok().filter(|token| !token.is_empty());
    runtime.block_on(async {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut first = true;
        loop {
            ticks.tick().await;
            let status = ask(&args.url, token.as_deref(), args.conference.as_deref()).await;
            let status = status.map_err(failure)?;
            // The reader closed the pipe: there is nobody to print to.
            if show(&status, args.once, first).is_err() || args.once {
                return Ok(ExitCode::SUCCESS);
            }
            first = false;
        }
    })
}

async fn ask(
    target: &Target,
    token: Option<&str>,
    conference: Option<&str>,
) -> Result<Status, AskError> {
    let exchange = exchange(target, token, conference);
    let late = |_| AskError::Unreachable(format!("no answer within {} s", TIMEOUT.as_secs()));
    let (code, body) = tokio::time::timeout(TIMEOUT, exchange).await.map_err(late)??;
    match code {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED if token.is_some() => return Err(AskError::WrongToken),
        StatusCode::UNAUTHORIZED => return Err(AskError::NoToken),
        StatusCode::NOT_FOUND => return Err(AskError::NoStatus),
        code => {
            let text = table::clean(String::from_utf8_lossy(&body).trim(), 200);
            return Err(AskError::Refused(format!("{code}: {text}")));
        }
    }
    let status: Status = serde_json::from_slice(&body)?;
    match conference {
        Some(wanted) if status.shown.is_none() => {
            Err(AskError::NoConference(table::clean(wanted, 200)))
        }
        _ => Ok(status),
    }
}

async fn exchange(
    target: &Target,
    token: Option<&str>,
    conference: Option<&str>,
) -> Result<(StatusCode, Bytes), AskError> {
    let unreachable = |error: &dyn std::fmt::Display| AskError::Unreachable(error.to_string());
    let (host, port) = (target.authority.host(), target.authority.port_u16().unwrap_or(80));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, port)).await.map_err(|e| unreachable(&e))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|e| unreachable(&e))?;
    let serving = tokio::spawn(connection);
    let mut request = Request::builder()
        .uri(path(conference))
        .header(header::HOST, target.authority.as_str())
        .header(header::CONNECTION, "close");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|_| AskError::BadToken)?;
    let response = sender.send_request(request).await.map_err(|e| unreachable(&e))?;
    let code = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    serving.abort();
    Ok((code, body.map_err(|e| unreachable(&e))?.to_bytes()))
}

/// Returns the path of the status data. Characters of a name other than letters and digits are escaped.
fn path(conference: Option<&str>) -> String {
    let escaped = |byte: u8| match byte {
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    let query = conference.map(|conference| {
        let name: String = conference.bytes().map(escaped).collect();
        format!("?conference={name}")
    });
    format!("{}{}", http::status::JSON, query.unwrap_or_default())
}

/// Prints the table: to a terminal cut to its size, to a file or pipe in full.
fn show(status: &Status, once: bool, first: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if once || !out.is_terminal() {
        let gap = if first { "" } else { "\n" };
        write!(out, "{gap}{}", table::draw(status, None))?;
        return out.flush();
    }
    let text = table::draw(status, Some(size()));
    // Move to the top left, clear each line to its end, and clear the rest below: nothing flickers.
    let erase = if first { "\x1b[2J" } else { "" };
    let lines: Vec<&str> = text.lines().collect();
    write!(out, "{erase}\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\n"))?;
    out.flush()
}

fn size() -> Size {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Size { columns: size.ws_col.into(), rows: size.ws_row.into() }
        }
        _ => USUAL,
    }
}

/// Fuzz entry: an answer is refused, or drawn without a character that a terminal would interpret.
pub(crate) fn fuzz(data: &[u8]) {
    let Ok(status) = serde_json::from_slice::<Status>(data) else { return };
    for size in [None, Some(USUAL)] {
        table::assert_harmless(&table::draw(&status, size));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_answer_is_understood_or_refused(answer in any::<Vec<u8>>()) {
            fuzz(&answer);
        }
    }

    #[test]
    fn only_http_addresses() {
        for (text, url) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]:8080/", "http://[::1]:8080"),
            ("http://bridge", "http://bridge"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().url, url);
        }
        for text in ["127.0.0.1:8080", "https://bridge", "http://", "http://bridge/debug", ""] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_of_conferences_are_escaped() {
        assert_eq!(path(None), "/_rialto/status.json");
        let escaped = "/_rialto/status.json?conference=a%40b%26c%3D%C3%A4%0D%0A";
        assert_eq!(path(Some("a@b&c=ä\r\n")), escaped);
    }
}
