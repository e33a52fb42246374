//! Access check of a server's requests: the request must name the server in `Host`, and carry its token if
//! one is configured.
//!
//! A page of another site can make a browser resolve that site's name again and get this server's address
//! (DNS rebinding). The browser then treats the server as part of that site, and lets the page read all
//! responses. The `Host` of such requests still names the other site.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::Response,
};
use rustls_pki_types::{CertificateDer, ServerName};
use sha2::{Digest as _, Sha256};
use tokio_rustls::rustls::{client::verify_server_name, server::ParsedCertificate};

use super::{refuse, status};
use crate::config::Secret;

/// The names by which clients reach a server. Its IP addresses are always accepted: DNS rebinding needs a
/// name.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    names: Vec<String>,
    /// Names in the server's certificate are accepted: the client has verified that certificate.
    certificate: Option<CertificateDer<'static>>,
    short: bool,
}

impl Hosts {
    /// Accepts the names of this machine and those that an operator added.
    pub fn new(added: &[String]) -> Self {
        let machine = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let machine = machine.trim().to_ascii_lowercase();
        let mut names: Vec<String> = added.iter().map(|name| plain(name)).collect();
        if !machine.is_empty() {
            names.push(format!("{machine}.local"));
            names.push(machine);
        }
        Self { names, ..Self::default() }
    }

    /// Also accepts the names in a certificate.
    #[must_use]
    pub fn or_certified(mut self, certificate: Option<CertificateDer<'static>>) -> Self {
        self.certificate = certificate;
        self
    }

    /// Also accepts names without a dot: those of containers and of a local network. No site on the
    /// Internet has one, but somebody who controls a browser's DNS (a captive portal) may answer for one.
    #[must_use]
    pub fn or_short(mut self, short: bool) -> Self {
        self.short = short;
        self
    }

    /// Returns whether `host`, a value of the header field of this name (RFC 9110 section 7.2), names this
    /// server.
    fn has(&self, host: &str) -> bool {
        let Some(name) = name_of(host) else { return false };
        if name.parse::<Ipv4Addr>().is_ok() || name.parse::<Ipv6Addr>().is_ok() {
            return true;
        }
        let name = plain(name);
        name == "localhost"
            || name.ends_with(".localhost")
            || (self.short && !name.is_empty() && !name.contains('.'))
            || self.names.contains(&name)
            || self.certifies(&name)
    }

    fn certifies(&self, name: &str) -> bool {
        let Some(certificate) = &self.certificate else { return false };
        let (Ok(certificate), Ok(name)) =
            (ParsedCertificate::try_from(certificate), ServerName::try_from(name))
        else {
            return false;
        };
        verify_server_name(&certificate, &name).is_ok()
    }

    /// Returns whether a request names this server. Clients that send no `Host` are no browsers.
    fn is_for_us(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let mut named = headers.get_all(header::HOST).iter();
        let host = named.next();
        if named.next().is_some() {
            return false;
        }
        // A request target with an authority overrides the header field (RFC 9112 section 3.2.2).
        let target = uri.authority().is_none_or(|authority| self.has(authority.as_str()));
        target && host.is_none_or(|host| host.to_str().is_ok_and(|host| self.has(host)))
    }
}

/// Normalises a name for comparison: without the root's dot.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Returns the name or address of an authority, without port and without an address's brackets.
fn name_of(authority: &str) -> Option<&str> {
    let (name, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (address, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => match authority.rsplit_once(':') {
            Some((name, port)) if !name.contains(':') => (name, Some(port)),
            Some(_) => return None,
            None => (authority, None),
        },
    };
    port.is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit())).then_some(name)
}

/// Checks `Host` and token of a server's requests.
#[derive(Clone, Debug)]
pub struct Guard(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    hosts: Hosts,
    /// The token's digest: comparing digests takes no time that depends on the token.
    token: Option<[u8; 32]>,
    /// How an operator adds a name that was refused.
    remedy: &'static str,
}

impl Guard {
    /// `token`: required of requests, unless it is empty. `remedy`: how an operator adds a name.
    pub fn new(hosts: Hosts, token: &Secret, remedy: &'static str) -> Self {
        let token = Some(token.reveal()).filter(|token| !token.is_empty()).map(digest);
        Self(Arc::new(Inner { hosts, token, remedy }))
    }

    /// Returns a guard that checks `Host` only.
    #[must_use]
    pub fn hosts_only(&self) -> Self {
        let Inner { hosts, remedy, .. } = &*self.0;
        Self(Arc::new(Inner { hosts: hosts.clone(), token: None, remedy }))
    }

    /// Wraps `router` so that requests without the right host and token are refused.
    pub fn protect(&self, router: Router) -> Router {
        let guard = self.clone();
        router.layer(middleware::from_fn(move |request: Request, next: Next| {
            let guard = guard.clone();
            async move {
                match guard.refusal(&request) {
                    Some(refusal) => refusal,
                    None => next.run(request).await,
                }
            }
        }))
    }

    fn refusal(&self, request: &Request) -> Option<Response> {
        let Inner { hosts, token, remedy } = &*self.0;
        let shown = token.is_some_and(|token| bearer(request.headers()) == Some(token));
        // A page of another site does not know the token, so a token replaces the check of `Host`.
        if shown {
            return None;
        }
        if !hosts.is_for_us(request.uri(), request.headers()) {
            let text = format!("This server is not known by that name (add it with {remedy})");
            return Some(refuse(StatusCode::MISDIRECTED_REQUEST, &text));
        }
        // Health checks have no token, and health is all that they get. The status page asks the user for
        // the token, and shows nothing without it.
        let path = request.uri().path();
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        if token.is_none()
            || path.trim_end_matches('/') == "/about/health"
            || reads && status::is_file(path)
        {
            return None;
        }
        let text = "A token is needed: Authorization: Bearer ...";
        let mut refusal = refuse(StatusCode::UNAUTHORIZED, text);
        let bearer = header::HeaderValue::from_static("Bearer");
        refusal.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        Some(refusal)
    }
}

/// Returns the digest of a request's bearer token (RFC 6750 section 2.1).
fn bearer(headers: &HeaderMap) -> Option<[u8; 32]> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| digest(token.trim()))
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use proptest::prelude::*;
    use tower::ServiceExt as _;

    use super::*;

    #[test]
    fn a_server_is_known_by_its_addresses_and_names() {
        let hosts = Hosts::new(&["Bridge.example.com".to_owned()]);
        for host in [
            "127.0.0.1",
            "127.0.0.1:8080",
            "192.0.2.10:443",
            "[::1]",
            "[::1]:8080",
            "localhost:8080",
            "LOCALHOST",
            "tab.localhost",
            "bridge.example.com",
            "bridge.example.com.:8080",
        ] {
            assert!(hosts.has(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example",
            "evil-localhost",
            "localhost.evil.example",
            "bridge.example.com.evil.example",
            "bridge.example.com@evil.example",
            "127.0.0.1:8080@evil.example",
            "evil",
            "",
            "[::1].evil.example",
            "[evil.example]",
            "::1",
            "[::1",
            "127.0.0.1:evil",
        ] {
            assert!(!hosts.has(host), "{host}");
        }
        assert!(hosts.clone().or_short(true).has("jvb:8080"));
        assert!(!hosts.or_short(true).has("jvb.example:8080"));
    }

    #[test]
    fn a_server_is_known_by_the_names_of_its_certificate() {
        let names = ["call.example.com".to_owned(), "*.rooms.example.com".to_owned()];
        let certified = rcgen::generate_simple_self_signed(names).unwrap();
        let hosts = Hosts::new(&[]).or_certified(Some(certified.cert.der().clone()));
        assert!(hosts.has("call.example.com:8443") && hosts.has("a.rooms.example.com"));
        assert!(!hosts.has("example.com") && !hosts.has("evil.example"));
    }

    proptest! {
        #[test]
        fn any_host_is_judged(host in any::<String>(), short in any::<bool>()) {
            let known = Hosts::new(&[]).or_short(short).has(&host);
            prop_assert!(!(known && host.contains("evil.example")));
        }
    }

    async fn ask(guard: &Guard, path: &str, headers: &[(&str, &str)]) -> u16 {
        let router = Router::new()
            .route("/debug", get(async || "all"))
            .route("/about/health", get(async || ""))
            .route("/", get(async || ""))
            .route("/_rialto/status.json", get(async || "all"));
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        guard.protect(router).oneshot(request).await.unwrap().status().as_u16()
    }

    const US: (&str, &str) = ("host", "127.0.0.1:8080");
    const THEM: (&str, &str) = ("host", "evil.example:8080");

    #[tokio::test]
    async fn requests_for_somebody_else_are_refused() {
        let guard = Guard::new(Hosts::new(&[]), &Secret::default(), "--host");
        assert_eq!(ask(&guard, "/debug", &[US]).await, 200);
        assert_eq!(ask(&guard, "/debug", &[]).await, 200);
        assert_eq!(ask(&guard, "/debug", &[THEM]).await, 421);
        assert_eq!(ask(&guard, "/about/health", &[THEM]).await, 421);
        assert_eq!(ask(&guard, "/debug", &[US, THEM]).await, 421);
        assert_eq!(ask(&guard, "http://evil.example/debug", &[US]).await, 421);
        assert_eq!(ask(&guard, "http://127.0.0.1/debug", &[US]).await, 200);
    }

    #[tokio::test]
    async fn a_server_with_a_token_asks_for_it() {
        let guard = Guard::new(Hosts::new(&[]), &Secret::new("s3cr3t"), "--host");
        let with = |text: &'static str| ("authorization", text);
        assert_eq!(ask(&guard, "/debug", &[US]).await, 401);
        for wrong in
            ["Bearer", "Bearer ", "Bearer s3cr3t2", "Basic s3cr3t", "s3cr3t", "Bearer S3CR3T"]
        {
            assert_eq!(ask(&guard, "/debug", &[US, with(wrong)]).await, 401, "{wrong}");
        }
        assert_eq!(ask(&guard, "/debug", &[US, with("Bearer s3cr3t")]).await, 200);
        assert_eq!(ask(&guard, "/debug", &[US, with("bearer s3cr3t")]).await, 200);
        assert_eq!(ask(&guard, "/debug", &[THEM, with("Bearer s3cr3t")]).await, 200);
        assert_eq!(ask(&guard, "/about/health", &[US]).await, 200);
        assert_eq!(ask(&guard, "/about/health/", &[US]).await, 404, "the routes of this test");
        assert_eq!(ask(&guard, "/about/health", &[THEM]).await, 421);
        assert_eq!(ask(&guard, "/", &[US]).await, 200, "it asks for the token");
        assert_eq!(ask(&guard, "/", &[THEM]).await, 421);
        assert_eq!(ask(&guard, "/_rialto/status.json", &[US]).await, 401);
        assert_eq!(ask(&guard, "/_rialto/status.json/", &[US]).await, 401);
        assert_eq!(ask(&guard, "/_rialto/status.json", &[US, with("Bearer s3cr3t")]).await, 200);
    }
}
