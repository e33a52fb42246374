//! The bridge's HTTP interface: requests, answers, and refusals.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, StatusCode, Uri,
    header::{self, HeaderValue},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

/// Longest accepted answer.
const MAX_ANSWER: usize = 4 << 20;
/// Time limit of an answer.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Why a request did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// `--bridge` is not an address.
    #[error("'{0}' is not the address of a bridge: write it as http://127.0.0.1:8080")]
    Address(String),
    /// `--token` is not allowed in a header.
    #[error("the token has characters that no HTTP header may have")]
    Token,
    /// Nothing answers there.
    #[error("the bridge at {url} cannot be reached: {reason}")]
    Unreachable {
        /// Where.
        url: String,
        /// The system's reason.
        reason: String,
    },
    /// It answered with an error.
    #[error("the bridge refused to {what}: {status}: {text}")]
    Refused {
        /// The request.
        what: String,
        /// HTTP status.
        status: StatusCode,
        /// The bridge's error text.
        text: String,
    },
    /// It answered with something other than COLIBRI2 JSON.
    #[error("the bridge's answer to '{what}' is not understood: {reason}")]
    Answer {
        /// The request.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A bridge with an HTTP interface.
#[derive(Clone, Debug)]
pub struct Bridge {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
    authorization: Option<HeaderValue>,
}

impl Bridge {
    /// A bridge at `http://host:port`, which may ask for a bearer token (RFC 6750 section 2.1).
    pub fn new(base: &str, token: Option<&str>) -> Result<Self, HttpError> {
        let uri: Uri = base.parse().map_err(|_| HttpError::Address(base.to_owned()))?;
        if uri.scheme_str() != Some("http") || uri.authority().is_none() {
            return Err(HttpError::Address(base.to_owned()));
        }
        let client = Client::builder(TokioExecutor::new()).build_http();
        let mut authorization = match token {
            Some(token) => Some(format!("Bearer {token}").parse().map_err(|_| HttpError::Token)?),
            None => None,
        };
        if let Some(secret) = &mut authorization {
            HeaderValue::set_sensitive(secret, true);
        }
        Ok(Self { client, base: base.trim_end_matches('/').to_owned(), authorization })
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.base
    }

    /// Creates a conference, with its first endpoint.
    pub async fn create(&self, what: &str, body: &Value) -> Result<Value, HttpError> {
        self.call(Method::POST, "/colibri/v2/conferences", what, Some(body)).await
    }

    /// Changes a conference.
    pub async fn modify(
        &self,
        meeting: &str,
        what: &str,
        body: &Value,
    ) -> Result<Value, HttpError> {
        let path = format!("/colibri/v2/conferences/{meeting}");
        self.call(Method::PATCH, &path, what, Some(body)).await
    }

    /// Returns whether anything answers at all, healthy or not.
    pub async fn is_there(&self) -> bool {
        let call = self.call(Method::GET, "/about/health", "check its health", None);
        !matches!(call.await, Err(HttpError::Unreachable { .. }))
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        what: &str,
        body: Option<&Value>,
    ) -> Result<Value, HttpError> {
        let unreachable =
            |reason: String| HttpError::Unreachable { url: self.base.clone(), reason };
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(bytes))
            .map_err(|_| HttpError::Address(self.base.clone()))?;
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
        }
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                unreachable(cause.unwrap_or_else(|| error.to_string()))
            })?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| unreachable(error.to_string()))?.to_bytes();
            Ok((status, body))
        };
        let (status, body) = tokio::time::timeout(TIMEOUT, exchange)
            .await
            .map_err(|_| unreachable(format!("no answer within {} s", TIMEOUT.as_secs())))??;
        if !status.is_success() {
            let text = refusal(&String::from_utf8_lossy(&body));
            return Err(HttpError::Refused { what: what.to_owned(), status, text });
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body)
            .map_err(|e| HttpError::Answer { what: what.to_owned(), reason: e.to_string() })
    }
}

/// The text of a refusal: the title of an HTML page, the message of a JSON object, or the text
/// itself, at most 300 characters.
fn refusal(body: &str) -> String {
    let json: Option<Value> = serde_json::from_str(body).ok();
    let message = json.as_ref().and_then(|json| {
        ["message", "error", "reason"].iter().find_map(|key| json.get(key)?.as_str())
    });
    let title = || Some(body.split_once("<title>")?.1.split_once("</title>")?.0);
    let text = message.or_else(title).unwrap_or(body).trim();
    if text.is_empty() {
        return "(no reason given)".to_owned();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_quoted() {
        let html = "<html>\n<head><title>Error 400 Conference exists</title></head></html>";
        assert_eq!(refusal(html), "Error 400 Conference exists");
        assert_eq!(refusal(r#"{"message":"no transport"}"#), "no transport");
        assert_eq!(refusal("plain\ntext "), "plain text");
        assert_eq!(refusal(""), "(no reason given)");
    }

    #[test]
    fn only_http_addresses() {
        assert!(Bridge::new("http://127.0.0.1:8080/", None).is_ok());
        for bad in ["127.0.0.1:8080", "https://x", "http://", "no address"] {
            assert!(Bridge::new(bad, None).is_err(), "{bad}");
        }
    }

    /// Answers one request, and gives what stood in its head.
    async fn head_of_a_request(token: Option<&str>) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let bridge = Bridge::new(&url, token).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
            String::from_utf8(head).unwrap().to_lowercase()
        };
        let (head, answer) =
            tokio::join!(serve, bridge.call(Method::GET, "/about/health", "be tested", None));
        assert_eq!(answer.unwrap(), serde_json::json!({}));
        head
    }

    #[tokio::test]
    async fn a_token_stands_in_every_request() {
        let head = head_of_a_request(Some("s3cret")).await;
        assert!(head.contains("authorization: bearer s3cret\r\n"), "{head}");
        assert!(!head_of_a_request(None).await.contains("authorization"));
        let refused = Bridge::new("http://127.0.0.1:1", Some("two\nlines"));
        assert!(matches!(refused, Err(HttpError::Token)));
        let debug = format!("{:?}", Bridge::new("http://127.0.0.1:1", Some("s3cret")).unwrap());
        assert!(!debug.contains("s3cret"), "{debug}");
    }
}
