//! Accepts HTTP connections and serves them, within limits.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, http::header, response::Response};
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
    net::{TcpListener, TcpSocket, TcpStream},
    task::{JoinHandle, JoinSet},
    time,
};
use tokio_rustls::TlsAcceptor;

use super::{
    connection_slots::{ConnectionSlot, ConnectionSlots, SlotHold},
    refuse,
    tls::Https,
};

/// Concurrent connections, if the process may open that many files. A further connection replaces one that
/// waits for its client.
const CONNECTIONS: usize = 1024;

/// Additional connections, which serve health requests only: a health check must not wait while all other
/// connections have requests in progress.
const RESERVE: usize = 16;

/// Length of the listen backlog. With the usual 128, a burst of connections makes the system drop others,
/// which retry after a second, health checks among them.
const BACKLOG: u32 = 4096;

/// Open files reserved for everything else: media, XMPP, captures, the log.
const OTHER_FILES: usize = 128;

/// A connection that has not sent the complete head of its first request after this time is closed.
const FIRST_HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// The same limit for the head of each further request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The same limit for the TLS handshake.
const TLS_TIMEOUT: Duration = Duration::from_secs(10);

/// When accepting has failed for this long for lack of files, connections kept alive between requests are
/// closed too.
const KEPT_CLOSE_DELAY: Duration = Duration::from_millis(50);

/// Minimum time between two warnings about failed accepts.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// Maximum bytes of a request head, and of a body read ahead.
const HEAD_BYTES: usize = 32 << 10;

/// Maximum header fields of a request.
const HEADERS: usize = 100;

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on TCP {addr}: {source}")]
pub struct ListenError {
    /// The address.
    pub addr: SocketAddr,
    /// The system's reason.
    pub source: io::Error,
}

/// Opens a listening socket. Must be called in a tokio runtime.
///
/// # Errors
/// The system's error, with the address.
pub fn bind(addr: SocketAddr) -> Result<TcpListener, ListenError> {
    listen(addr).map_err(|source| ListenError { addr, source })
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of the previous process may still be closing.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
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
    pub fn start(listener: TcpListener, router: Router, tls: Option<Https>) -> io::Result<Self> {
        Self::with_connections(listener, router, tls, CONNECTIONS)
    }

    /// As [`Self::start`], with a limit on concurrent connections, which the process's limit on open files
    /// may lower.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn with_connections(
        listener: TcpListener,
        router: Router,
        tls: Option<Https>,
        connections: usize,
    ) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        let files = rialto_sys::open_files().map_or(usize::MAX, |(now, _)| now);
        let slots = ConnectionSlots::new(connections.min(share(files)), RESERVE);
        let tls = tls.map(|tls| TlsAcceptor::from(tls.config));
        let task = tokio::spawn(accept(listener, router, tls, slots));
        Ok(Self { addr, task })
    }

    /// Returns the listening address, with the real port.
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

/// Returns how many connections one server may have when the process may open `files` files: there are up
/// to three servers.
fn share(files: usize) -> usize {
    (files.saturating_sub(OTHER_FILES) / 3).saturating_sub(RESERVE).max(RESERVE)
}

async fn accept(
    listener: TcpListener,
    router: Router,
    tls: Option<TlsAcceptor>,
    slots: ConnectionSlots,
) {
    let mut connections = JoinSet::new();
    let mut warned: Option<Instant> = None;
    let mut failing: Option<Instant> = None;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                failing = None;
                let Some(slot) = slots.take().await else { return };
                connections.spawn(connection(stream, router.clone(), tls.clone(), slot));
            }
            Err(error) => {
                // Most likely no descriptors are left: close a connection that has sent no request yet.
                if warned.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL) {
                    tracing::warn!(%error, "cannot accept an HTTP connection");
                    warned = Some(Instant::now());
                }
                let since = *failing.get_or_insert_with(Instant::now);
                let closed = slots.close_longest_unused()
                    || (since.elapsed() >= KEPT_CLOSE_DELAY && slots.close_longest_waiting());
                let pause = if closed { 1 } else { 10 };
                time::sleep(Duration::from_millis(pause)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    tls: Option<TlsAcceptor>,
    slot: Arc<ConnectionSlot>,
) {
    let _ = stream.set_nodelay(true);
    let served = async {
        match tls {
            None => serve(stream, router, &slot).await,
            Some(tls) => {
                if let Ok(Ok(stream)) = time::timeout(TLS_TIMEOUT, tls.accept(stream)).await {
                    serve(stream, router, &slot).await;
                }
            }
        }
    };
    tokio::select! {
        () = served => {}
        () = slot.reclaimed() => {}
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    slot: &Arc<ConnectionSlot>,
) {
    let router = TowerToHyperService::new(router);
    let here = slot.clone();
    let answer = service_fn(move |mut request: Request<Incoming>| {
        let (here, router) = (here.clone(), router.clone());
        async move {
            if !is_about_health(&request) && !here.wait_until_regular().await {
                return Ok(too_many());
            }
            request.extensions_mut().insert(SlotHold::new(&here));
            let (head, body) = request.into_parts();
            let (work, body) = here.request(body);
            let answer = router.call(Request::from_parts(head, body)).await?;
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                work.upgraded();
            }
            Ok::<_, Infallible>(answer)
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
    // A client that disconnects early is not worth a log line.
    tokio::select! {
        _ = &mut served => return,
        asked = time::timeout(FIRST_HEAD_TIMEOUT, slot.first_request()) => {
            if asked.is_err() {
                return;
            }
        }
    }
    let _ = served.await;
}

fn is_about_health(request: &Request<Incoming>) -> bool {
    request.uri().path().trim_end_matches('/') == "/about/health"
}

/// The answer on a reserved connection, which then closes.
fn too_many() -> Response {
    let mut answer = refuse(StatusCode::SERVICE_UNAVAILABLE, "Too many requests are in hand");
    answer.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    answer
}
