//! Accepts connections and serves them, within bounds.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use hyper::{
    Request, StatusCode,
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use super::places::{Place, Places};

/// Connections at a time. A further one takes the place of one that waits for a request.
const CONNECTIONS: usize = 1024;

/// A connection that has not sent the whole head of its first request by then is closed.
const FIRST_HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// As for the head of the next.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// As for the TLS handshake.
const TLS_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that cannot be accepted are a line once in so long.
const SILENCE: Duration = Duration::from_secs(10);

/// Bytes of a request head, and read ahead of a body.
const HEAD_BYTES: usize = 32 << 10;

/// Header fields of a request.
const HEADERS: usize = 100;

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on TCP {addr}: {source}")]
pub struct ListenError {
    /// The address.
    pub addr: SocketAddr,
    /// The system's reason.
    pub source: io::Error,
}

/// Opens a listening socket.
///
/// # Errors
/// What the system says, with the address.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(addr).await.map_err(|source| ListenError { addr, source })
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves `router` on `listener`, over TLS if there is a configuration for it. Must be called in a
    /// tokio runtime.
    ///
    /// # Errors
    /// When the listener does not know its own address.
    pub fn start(
        listener: TcpListener,
        router: Router,
        tls: Option<Arc<ServerConfig>>,
    ) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        let task = tokio::spawn(accept(listener, router, tls.map(TlsAcceptor::from)));
        Ok(Self { addr, task })
    }

    /// The address that is listened on, with its real port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Connections end with the set that the task owns.
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, router: Router, tls: Option<TlsAcceptor>) {
    let places = Places::new(CONNECTIONS);
    let mut connections = JoinSet::new();
    let mut told: Option<Instant> = None;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Some(place) = places.take().await else { return };
                connections.spawn(connection(stream, router.clone(), tls.clone(), place));
            }
            Err(error) => {
                // No descriptors left, most likely: some will be closed soon.
                if told.is_none_or(|at| at.elapsed() >= SILENCE) {
                    tracing::warn!(%error, "cannot accept an HTTP connection");
                    told = Some(Instant::now());
                }
                time::sleep(Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    tls: Option<TlsAcceptor>,
    place: Arc<Place>,
) {
    let _ = stream.set_nodelay(true);
    let served = async {
        match tls {
            None => serve(stream, router, &place).await,
            Some(tls) => {
                if let Ok(Ok(stream)) = time::timeout(TLS_TIMEOUT, tls.accept(stream)).await {
                    serve(stream, router, &place).await;
                }
            }
        }
    };
    tokio::select! {
        () = served => {}
        () = place.wanted() => {}
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    place: &Arc<Place>,
) {
    let router = TowerToHyperService::new(router);
    let here = place.clone();
    let answer = service_fn(move |request: Request<Incoming>| {
        let busy = here.busy();
        let answer = router.call(request);
        async move {
            let answer = answer.await?;
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                busy.upgraded();
                return Ok(answer);
            }
            Ok::<_, Infallible>(answer.map(|body| busy.until_sent(body)))
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), answer)
        .with_upgrades();
    let mut served = pin!(served);
    // A client that goes away in the middle is nobody's fault and not worth a line.
    tokio::select! {
        _ = &mut served => return,
        asked = time::timeout(FIRST_HEAD_TIMEOUT, place.asked()) => {
            if asked.is_err() {
                return;
            }
        }
    }
    let _ = served.await;
}
