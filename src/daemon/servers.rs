//! The HTTP servers: the private one, the page's if it is separate, and the public one.

use axum::{
    Router,
    extract::Request,
    http::{Method, header},
    middleware::{self, Next},
};
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use super::{DaemonError, KeyStoreError, Options, public_address};
use crate::{
    config::{self, Config},
    http::{self, Guard, Hosts, Https, Server},
};

/// The key by which an operator adds a name.
const KEY: &str = "rialto.http.hosts";
/// The flag by which a user of the page adds a name.
const FLAG: &str = "--host";

/// Maximum WebSockets of bridge channels or of pages at a time: more than the default of
/// `rialto.max-endpoints`.
const SOCKETS: usize = 32 << 10;

/// Listening sockets with their TLS configurations.
pub(super) struct Servers {
    private: Option<BoundServer>,
    page: Option<BoundServer>,
    public: Option<BoundServer>,
}

struct BoundServer {
    listener: TcpListener,
    tls: Option<Https>,
}

impl Servers {
    /// Opens all sockets, before anything else starts.
    pub(super) fn open(config: &Config, options: &Options) -> Result<Self, DaemonError> {
        let (mut tls, public_tls) = server_tls(config)?;
        let mut page_tls = None;
        if let Some((certificate, key)) = &options.tls {
            let flags = Some(http::tls_config(certificate, key)?);
            if options.page.is_some() { page_tls = flags } else { tls = flags }
        }
        let mut servers = Self { private: None, page: None, public: None };
        if let Some(addr) = config.http.listen() {
            servers.private = Some(BoundServer { listener: http::bind(addr)?, tls });
        }
        if let Some(addr) = options.page {
            let listener = http::bind(addr).map_err(DaemonError::ListenPage)?;
            servers.page = Some(BoundServer { listener, tls: page_tls });
        }
        if let Some(addr) = public_address(config) {
            let listener = http::bind(addr).map_err(DaemonError::ListenPublic)?;
            servers.public = Some(BoundServer { listener, tls: public_tls });
        }
        Ok(servers)
    }

    /// Starts the private, the page's and the public server. The private server serves `page` too when it
    /// has no server of its own.
    pub(super) fn start(
        self,
        config: &Config,
        api: Router,
        page: Option<Router>,
        channels: Router,
    ) -> Result<[Option<Server>; 3], DaemonError> {
        let Self { private, page: page_server_socket, public } = self;
        let added = &config.http_access.hosts;
        let mut private_server = None;
        let mut page_server = None;
        if let Some(server) = private {
            let shared_page = page.clone().filter(|_| page_server_socket.is_none());
            let remedy = if shared_page.is_some() { FLAG } else { KEY };
            let guard = guard(config, &server, remedy);
            let what = "cannot serve HTTP";
            private_server = Some(match shared_page {
                Some(page) => {
                    let both = guard.hosts_only().protect(api_with_page(guard.protect(api), page));
                    server.serve_many(both, what, SOCKETS)?
                }
                None => server.serve(guard.protect(api), what)?,
            });
        }
        if let (Some(server), Some(page)) = (page_server_socket, page) {
            let hosts = Hosts::new(added).or_certified(server.certificate());
            let guard = Guard::new(hosts, &config::Secret::default(), FLAG);
            page_server =
                Some(server.serve_many(guard.protect(page), "cannot serve the page", SOCKETS)?);
        }
        let public_server = match public {
            Some(server) => {
                Some(server.serve_many(channels, "cannot serve WebSockets", SOCKETS)?)
            }
            None => None,
        };
        Ok([private_server, page_server, public_server])
    }
}

impl BoundServer {
    fn certificate(&self) -> Option<rustls_pki_types::CertificateDer<'static>> {
        self.tls.as_ref().and_then(Https::certificate)
    }

    fn serve_many(
        self,
        router: Router,
        what: &'static str,
        connections: usize,
    ) -> Result<Server, DaemonError> {
        Server::with_connections(self.listener, router, self.tls, connections)
            .map_err(|source| DaemonError::System { what, source })
    }

    fn serve(self, router: Router, what: &'static str) -> Result<Server, DaemonError> {
        Server::start(self.listener, router, self.tls)
            .map_err(|source| DaemonError::System { what, source })
    }
}

/// Returns the guard of the private server. When it listens beyond loopback, names without a dot are
/// accepted as well: other containers use such names.
fn guard(config: &Config, server: &BoundServer, remedy: &'static str) -> Guard {
    let access = &config.http_access;
    let mut names = access.hosts.clone();
    names.extend(config.http.name.clone());
    let hosts = Hosts::new(&names)
        .or_certified(server.certificate())
        .or_short(!config.http.host.is_loopback());
    Guard::new(hosts, &access.token, remedy)
}

/// Serves the page and the control API on one server. A few resources have paths of one word, as rooms do:
/// a navigation in a browser gets the room.
fn api_with_page(api: Router, page: Router) -> Router {
    let rooms = page.clone();
    api.merge(page).layer(middleware::from_fn(move |mut request: Request, next: Next| {
        let rooms = rooms.clone();
        async move {
            if !is_navigation(&request) {
                return next.run(request).await;
            }
            // Path parameters of the merged routes are cleared: the page's router matches the path again.
            request.extensions_mut().clear();
            let Ok(response) = rooms.oneshot(request).await;
            response
        }
    }))
}

/// Returns whether a browser navigates to a room: other clients do not accept HTML.
fn is_navigation(request: &Request) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let path = request.uri().path();
    request.method() == Method::GET
        && path.strip_prefix('/').is_some_and(|word| !word.is_empty() && !word.contains('/'))
        && accept.is_some_and(|accept| accept.contains("text/html"))
}

/// Returns the TLS configurations of the private and the public server, where they listen and have key
/// stores.
pub(crate) fn server_tls(config: &Config) -> Result<(Option<Https>, Option<Https>), KeyStoreError> {
    let private = config.http.listen().is_some();
    let public = public_address(config).is_some();
    let read = |listens, http: &config::Http, keys| {
        let tls = if listens { http::server_tls(&http.tls) } else { Ok(None) };
        tls.map_err(|error| KeyStoreError::of(keys, error))
    };
    let private = read(private, &config.http, &config::PRIVATE)?;
    Ok((private, read(public, &config.public_http, &config::PUBLIC)?))
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, extract::Path, routing::get};

    use super::*;

    #[tokio::test]
    async fn rooms_may_have_the_names_of_resources() {
        let api = Router::new().route("/debug", get(async || "all"));
        let room = async |Path(room): Path<String>| format!("the room {room}");
        let page = Router::new().route("/{room}", get(room));
        let server = api_with_page(api, page);
        let ask = async |path: &str, accept: &str| {
            let request = Request::get(path).header("accept", accept).body(Body::empty()).unwrap();
            let response = server.clone().oneshot(request).await.unwrap();
            let bytes = axum::body::to_bytes(response.into_body(), 100).await.unwrap();
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        assert_eq!(ask("/debug", browser).await, "the room debug");
        assert_eq!(ask("/other", browser).await, "the room other");
        assert_eq!(ask("/debug", "*/*").await, "all");
        assert_eq!(ask("/other", "*/*").await, "the room other");
    }
}
