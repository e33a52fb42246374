//! The private HTTP server (health, version, statistics, metrics, debug, COLIBRI2 in JSON) and the public
//! one (bridge channels).
//!
//! Status codes and fields are JVB's. Two differences are deliberate: errors are plain text rather than
//! Jetty's HTML page around the same text, and `/about/version` says `Rialto`.

mod about;
mod colibri;
mod concurrency;
mod connection_slots;
mod debug;
mod ec_key;
mod features;
pub(crate) mod files;
pub(crate) mod frames;
pub(crate) mod fuzz;
mod guard;
mod histogram;
pub(crate) mod key_store;
mod labelled;
mod lifecycle;
mod listen;
mod metrics;
mod muc_client;
mod queues;
mod readings;
mod socket;
mod stats;
pub(crate) mod status;
mod tls;
mod web_socket;

#[cfg(test)]
mod captures;
#[cfg(test)]
mod tests;

use std::time::Duration;

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, patch, post},
};

use concurrency::RequestLimiter;
pub use connection_slots::SlotHold;
pub use guard::{Guard, Hosts};
pub use listen::{ListenError, Server, bind};
pub use tls::{Https, TlsError, TlsPart, server_tls, tls_config};
pub use web_socket::web_sockets;

use crate::{
    bridge::{Bridge, SelfReport},
    config,
    xmpp::client::XmppClients,
};

/// Version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Maximum request body. A request that creates an endpoint is about 10 kB.
const BODY_BYTES: usize = 1 << 20;

/// A request without an answer after this time gets 503.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// State shared by the handlers.
#[derive(Clone)]
struct Shared {
    bridge: Bridge,
    report: SelfReport,
    clients: Option<XmppClients>,
    transit_times: bool,
}

/// Returns the resources that `rest` enables. `clients`: the XMPP clients, which requests can add and
/// remove. `root`: nothing else is served at `/`, so the status page is there too.
pub fn router(
    report: SelfReport,
    clients: Option<XmppClients>,
    rest: &config::Rest,
    root: bool,
) -> Router {
    limited_router(report, clients, rest, root, &RequestLimiter::default())
}

/// As [`router`], with the limiter that all resources but health pass.
fn limited_router(
    report: SelfReport,
    clients: Option<XmppClients>,
    rest: &config::Rest,
    root: bool,
    limiter: &RequestLimiter,
) -> Router {
    let limiter = limiter.clone();
    let mut router =
        resources(rest, root).layer(middleware::from_fn(move |request: Request, next: Next| {
            limiter.clone().answer(request, next)
        }));
    if rest.health {
        // As in JVB. Health checks are often configured with a trailing slash.
        router = router.route("/about/health", get(about::health));
        router = router.route("/about/health/", get(about::health));
    }
    let bridge = report.bridge().clone();
    router
        .layer(middleware::from_fn(options))
        .layer(middleware::from_fn(answer_in_time))
        .layer(middleware::from_fn(refuse_cross_origin))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(Shared { bridge, report, clients, transit_times: rest.transit_times })
}

/// All resources except health.
fn resources(rest: &config::Rest, root: bool) -> Router<Shared> {
    let mut router = Router::new();
    if rest.version {
        router = router.route("/about/version", get(about::version));
    }
    if rest.prometheus {
        router = router.route("/metrics", get(metrics::metrics));
    }
    if rest.debug {
        router = router
            .merge(status::routes(root))
            .route("/debug", get(debug::all))
            .route("/debug/{conference}", get(debug::conference))
            .route("/debug/{conference}/{endpoint}", get(debug::endpoint))
            .route("/debug/stats/{part}", get(debug::stats_moved))
            .route("/debug/stats/jvb/{part}", get(features::stats))
            .route("/debug/features/jvb/{feature}", get(features::feature))
            .route(
                "/debug/features/jvb/{feature}/{enabled}",
                get(features::set_feature).post(features::set_feature),
            )
            .route(
                "/debug/features/endpoint/{conference}/{endpoint}/{feature}",
                get(features::endpoint_feature),
            )
            .route(
                "/debug/features/endpoint/{conference}/{endpoint}/{feature}/{enabled}",
                post(features::set_endpoint_feature),
            )
            .route("/colibri/debug", get(debug::moved))
            .route("/colibri/debug/{*rest}", get(debug::moved));
    }
    if rest.rtcstats {
        router = router.route("/stats", get(debug::collected));
    }
    if rest.drain {
        router = router
            .route("/colibri/drain", get(lifecycle::drain))
            .route("/colibri/drain/enable", post(lifecycle::enable_drain))
            .route("/colibri/drain/disable", post(lifecycle::disable_drain));
    }
    if rest.colibri {
        router = router
            .route("/colibri/stats", get(stats::stats))
            .route("/colibri/muc-client/add", post(muc_client::add))
            .route("/colibri/muc-client/remove", post(muc_client::remove))
            .route("/colibri/muc-client/list", get(muc_client::list))
            .route("/colibri/v2/conferences", traced(post(colibri::create)).get(not_implemented))
            .route(
                "/colibri/v2/conferences/{meeting_id}",
                traced(patch(colibri::modify)).get(not_implemented),
            )
            .route(
                "/colibri/v2/conferences/{meeting_id}/dominant-speaker-identification",
                get(colibri::speakers),
            );
        if rest.shutdown {
            router = router.route("/colibri/shutdown", post(lifecycle::shutdown));
        }
    }
    router
}

/// Adds tracing to requests that may be part of a trace.
fn traced(methods: MethodRouter<Shared>) -> MethodRouter<Shared> {
    methods.layer(middleware::from_fn(colibri::traced))
}

/// Answers 501, as JVB does.
async fn not_implemented() -> Response {
    refuse(StatusCode::NOT_IMPLEMENTED, "Not Implemented")
}

/// Refuses requests from pages of other sites: the browser of somebody who can reach this server sends them
/// although the page cannot read the answers, and they must not change anything either.
async fn refuse_cross_origin(request: Request, next: Next) -> Response {
    let harmless = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if harmless || is_same_origin(request.headers()) {
        return next.run(request).await;
    }
    refuse(StatusCode::FORBIDDEN, "Requests of other sites may not change anything")
}

/// Answers OPTIONS with the allowed methods, and marks answers as dependent on the origin: pages of other
/// sites may not change anything. JVB lets any page read everything here; this bridge does not.
async fn options(path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let asked = *request.method() == Method::OPTIONS;
    let mut response = next.run(request).await;
    if asked && response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let allow = allowed(path.as_ref().map_or("", MatchedPath::as_str));
        let kind = (header::CONTENT_TYPE, "text/plain");
        response = ([kind, (header::ALLOW, allow)], allow).into_response();
    }
    if response.status().is_success() {
        response.headers_mut().insert(header::VARY, header::HeaderValue::from_static("Origin"));
    }
    response
}

/// Returns the methods of a resource.
fn allowed(path: &str) -> &'static str {
    match path {
        "/colibri/drain/enable"
        | "/colibri/drain/disable"
        | "/colibri/shutdown"
        | "/colibri/muc-client/add"
        | "/colibri/muc-client/remove"
        | "/debug/features/endpoint/{conference}/{endpoint}/{feature}/{enabled}" => "POST, OPTIONS",
        "/colibri/v2/conferences" | "/debug/features/jvb/{feature}/{enabled}" => {
            "HEAD, GET, POST, OPTIONS"
        }
        "/colibri/v2/conferences/{meeting_id}" => "HEAD, GET, PATCH, OPTIONS",
        _ => "HEAD, GET, OPTIONS",
    }
}

/// Returns whether a request comes from a page of this server, or from no page at all.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    match (text(header::ORIGIN), text(header::HOST)) {
        (None, _) => true,
        (Some(origin), Some(host)) => {
            origin.split_once("://").is_some_and(|(_, authority)| authority == host)
        }
        (Some(_), None) => false,
    }
}

async fn answer_in_time(request: Request, next: Next) -> Response {
    tokio::time::timeout(ANSWER_TIMEOUT, next.run(request)).await.unwrap_or_else(|_| {
        refuse(StatusCode::SERVICE_UNAVAILABLE, "The bridge did not answer in time")
    })
}

/// An error response: its text, with JVB's cache header.
fn refuse(status: StatusCode, text: &str) -> Response {
    let cache = [(header::CACHE_CONTROL, "must-revalidate,no-cache,no-store")];
    if text.is_empty() {
        return (status, cache).into_response();
    }
    (status, cache, text.to_owned()).into_response()
}
