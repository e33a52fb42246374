//! The HTTP client of the exporter, on the exporter's own thread.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::http::{HeaderValue, Request, Response, Uri, header, uri::Scheme};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring},
};

use super::Fault;
use crate::certificates;

/// Maximum bytes of a collector's answer.
const MAX_ANSWER: usize = 64 << 10;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    #[error("not an address of a collector: {0}")]
    Address(Uri),
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    #[error("{0}")]
    System(#[from] io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("the answer cannot be read: {0}")]
    Answer(Box<dyn std::error::Error + Send + Sync>),
}

/// Opens a connection for each request: there is at most one in some seconds.
#[derive(Debug)]
pub(super) struct Client {
    patience: Duration,
    fault: Arc<Fault>,
}

impl Client {
    pub(super) fn new(patience: Duration, fault: Arc<Fault>) -> Self {
        Self { patience, fault }
    }

    /// Sends a request and blocks until the answer arrives.
    fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ExchangeError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let patience = self.patience;
        runtime.block_on(async {
            timeout(patience, send(request)).await.map_err(|_| ExchangeError::Late(patience))?
        })
    }
}

impl HttpClient for Client {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        // The library polls this future on a thread of its own, which may block.
        Box::pin(async move {
            self.exchange(request).map_err(|error| {
                self.fault.set(error.to_string());
                error.into()
            })
        })
    }
}

async fn send(mut request: Request<Bytes>) -> Result<Response<Bytes>, ExchangeError> {
    let uri = std::mem::take(request.uri_mut());
    let (Some(authority), Some(path)) = (uri.authority(), uri.path_and_query()) else {
        return Err(ExchangeError::Address(uri));
    };
    let secure = uri.scheme() == Some(&Scheme::HTTPS);
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let names = HeaderValue::from_str(authority.as_str());
    let (Ok(name), Ok(path)) = (names, path.as_str().parse()) else {
        return Err(ExchangeError::Address(uri));
    };
    *request.uri_mut() = path;
    request.headers_mut().insert(header::HOST, name);
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    if !secure {
        return exchange(stream, request).await;
    }
    let Ok(name) = ServerName::try_from(host) else { return Err(ExchangeError::Address(uri)) };
    exchange(tls()?.connect(name, stream).await?, request).await
}

async fn exchange(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, ExchangeError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
    let serving = tokio::spawn(connection);
    let response = sender.send_request(request.map(Full::new)).await?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(ExchangeError::Answer)?;
    serving.abort();
    Ok(Response::from_parts(head, body.to_bytes()))
}

/// TLS with the system's trusted authorities.
fn tls() -> Result<TlsConnector, io::Error> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(TlsConnector::from(config.clone()));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates::trusted().iter().cloned());
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(CONFIG.get_or_init(|| Arc::new(config)).clone()))
}
