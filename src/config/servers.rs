//! `videobridge.http-servers`: where the two HTTP servers listen, and their TLS.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use super::{Config, Secret, contradictions::Found, reader::Reader};

/// The supported TLS versions, by Java's names.
pub const TLS_PROTOCOLS: [&str; 2] = ["TLSv1.2", "TLSv1.3"];

/// The supported cipher suites, by IANA's names.
pub const TLS_CIPHER_SUITES: [&str; 9] = [
    "TLS_AES_256_GCM_SHA384",
    "TLS_AES_128_GCM_SHA256",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// An HTTP server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Http {
    /// `host`: the address to listen on; a name is resolved once, at the start. The private server's is
    /// 127.0.0.1, the public one's 0.0.0.0.
    pub host: IpAddr,
    /// `host`, if it is a name.
    pub name: Option<String>,
    /// `port` without TLS; `None` (a negative number in the file) disables the server, 0 lets the kernel
    /// choose. 8080, and none for the public server.
    pub port: Option<u16>,
    /// TLS; with it the server does not listen without TLS.
    pub tls: Tls,
}

/// TLS of a server, enabled by a key store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// `tls-port`: as `port`, when there is a key store. 8443, and none for the public server.
    pub port: Option<u16>,
    /// `key-store-path`: a PKCS#12 or PEM file with the server's key and certificates. None.
    pub key_store: Option<PathBuf>,
    /// `key-store-password`.
    pub password: Secret,
    /// `need-client-auth`: require a client certificate that the key store trusts. false.
    pub need_client_auth: bool,
    /// `tls-protocols`, by Java's names. None: all supported versions.
    pub protocols: Vec<String>,
    /// `tls-cipher-suites`, by IANA's names. None: all supported suites.
    pub cipher_suites: Vec<String>,
}

impl Http {
    /// The defaults of the public server.
    pub(super) fn public() -> Self {
        Self { host: IpAddr::from([0; 4]), name: None, port: None, tls: Tls::on(None) }
    }

    /// Returns the address to listen on, if any. With TLS, nothing listens without it, as in JVB.
    pub fn listen(&self) -> Option<SocketAddr> {
        let port = if self.tls.key_store.is_some() { self.tls.port } else { self.port };
        port.map(|port| SocketAddr::new(self.host, port))
    }

    /// Returns the key of the port in use.
    fn port_key(&self, keys: &ServerKeys) -> &'static str {
        if self.tls.key_store.is_some() { keys.tls_port } else { keys.port }
    }

    /// Returns the contradictions between the server's keys.
    pub(super) fn contradictions(&self, keys: &ServerKeys) -> Vec<Found> {
        let (tls, mut found) = (&self.tls, Vec::new());
        if tls.key_store.is_none() {
            let odd = [
                (tls.port.is_some() && tls.port != keys.default_tls_port, keys.tls_port),
                (tls.password != Secret::default(), keys.key_store_password),
                (tls.need_client_auth, keys.need_client_auth),
                (!tls.protocols.is_empty(), keys.tls_protocols),
                (!tls.cipher_suites.is_empty(), keys.tls_cipher_suites),
            ];
            let odd = odd.iter().filter(|(is, _)| *is).map(|(_, key)| *key);
            let why = keys.key_store_path;
            found.extend(odd.map(|key| (key, format!("{key} has no effect: {why} is not set"))));
            return found;
        }
        if tls.port.is_none() {
            let (key, why) = (keys.key_store_path, keys.tls_port);
            found.push((key, format!("{key}: the server is off, because {why} is not set")));
        }
        let lacks = |key, name: &str| (key, format!("{key}: the TLS library has no {name}"));
        let unknown = |names: &[String], known: &[&str]| -> Vec<String> {
            names.iter().filter(|name| !known.contains(&name.as_str())).cloned().collect()
        };
        let versions = unknown(&tls.protocols, &TLS_PROTOCOLS);
        found.extend(versions.iter().map(|name| lacks(keys.tls_protocols, name)));
        let suites = unknown(&tls.cipher_suites, &TLS_CIPHER_SUITES);
        found.extend(suites.iter().map(|name| lacks(keys.tls_cipher_suites, name)));
        found
    }
}

impl Default for Http {
    fn default() -> Self {
        let tls = Tls::on(PRIVATE.default_tls_port);
        Self { host: IpAddr::from([127, 0, 0, 1]), name: None, port: Some(8080), tls }
    }
}

impl Tls {
    fn on(port: Option<u16>) -> Self {
        Self {
            port,
            key_store: None,
            password: Secret::default(),
            need_client_auth: false,
            protocols: Vec::new(),
            cipher_suites: Vec::new(),
        }
    }
}

/// The keys of a server.
#[derive(Debug)]
pub struct ServerKeys {
    host: &'static str,
    port: &'static str,
    tls_port: &'static str,
    /// `key-store-path`.
    pub key_store_path: &'static str,
    /// `key-store-password`.
    pub key_store_password: &'static str,
    /// `need-client-auth`.
    pub need_client_auth: &'static str,
    tls_protocols: &'static str,
    /// `tls-cipher-suites`.
    pub tls_cipher_suites: &'static str,
    default_tls_port: Option<u16>,
}

macro_rules! keys {
    ($server:literal, $default_tls_port:expr) => {
        ServerKeys {
            host: concat!("videobridge.http-servers.", $server, ".host"),
            port: concat!("videobridge.http-servers.", $server, ".port"),
            tls_port: concat!("videobridge.http-servers.", $server, ".tls-port"),
            key_store_path: concat!("videobridge.http-servers.", $server, ".key-store-path"),
            key_store_password: concat!(
                "videobridge.http-servers.",
                $server,
                ".key-store-password"
            ),
            need_client_auth: concat!("videobridge.http-servers.", $server, ".need-client-auth"),
            tls_protocols: concat!("videobridge.http-servers.", $server, ".tls-protocols"),
            tls_cipher_suites: concat!("videobridge.http-servers.", $server, ".tls-cipher-suites"),
            default_tls_port: $default_tls_port,
        }
    };
}

/// The keys of the private server.
pub const PRIVATE: ServerKeys = keys!("private", Some(8443));

/// The keys of the public server.
pub const PUBLIC: ServerKeys = keys!("public", None);

/// Returns the key of the port that the private server listens on.
pub fn private_port_key(config: &Config) -> &'static str {
    config.http.port_key(&PRIVATE)
}

/// Returns the key of the port that the public server listens on.
pub fn public_port_key(config: &Config) -> &'static str {
    config.public_http.port_key(&PUBLIC)
}

/// Returns whether both servers are to listen on the same port, on which the second would fail.
pub fn servers_collide(config: &Config) -> bool {
    let (private, public) = (config.http.listen(), config.public_http.listen());
    let (Some(private), Some(public), true) = (private, public, config.web_sockets.enabled) else {
        return false;
    };
    private.port() == public.port()
        && private.port() != 0
        && (private.ip() == public.ip()
            || private.ip().is_unspecified()
            || public.ip().is_unspecified())
}

/// Fills `c`, which holds the defaults.
pub(super) fn read(r: &mut Reader<'_>, keys: &ServerKeys, c: &mut Http) {
    r.host(keys.host, &mut c.host);
    let name = r.written(keys.host).map(str::trim).filter(|text| text.parse::<IpAddr>().is_err());
    c.name = name.map(str::to_owned);
    r.optional_port(keys.port, &mut c.port);
    let c = &mut c.tls;
    r.optional_port(keys.tls_port, &mut c.port);
    let mut path = None;
    r.optional_text(keys.key_store_path, &mut path, "the path of a file", |text| {
        (1..=1024).contains(&text.len()) && !text.contains(char::is_control)
    });
    c.key_store = path.map(PathBuf::from);
    r.secret(keys.key_store_password, &mut c.password);
    r.boolean(keys.need_client_auth, &mut c.need_client_auth);
    let name = |text: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._".contains(&b);
        (1..=64).contains(&text.len()) && text.bytes().all(plain)
    };
    r.texts(keys.tls_protocols, &mut c.protocols, "versions such as TLSv1.3", name);
    let what = "cipher suites such as TLS_AES_128_GCM_SHA256";
    r.texts(keys.tls_cipher_suites, &mut c.cipher_suites, what, name);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(port: Option<u16>, tls_port: Option<u16>, key_store: bool) -> Http {
        let mut http = Http { port, ..Http::public() };
        http.tls.port = tls_port;
        http.tls.key_store = key_store.then(|| "store.p12".into());
        http
    }

    fn warnings(http: &Http) -> Vec<String> {
        http.contradictions(&PUBLIC).into_iter().map(|(_, what)| what).collect()
    }

    #[test]
    fn one_port_is_listened_on_and_which_depends_on_the_key_store() {
        let port = |http: Http| http.listen().map(|addr| addr.port());
        assert_eq!(port(server(Some(9090), Some(9443), false)), Some(9090));
        assert_eq!(port(server(Some(9090), Some(9443), true)), Some(9443));
        assert_eq!(port(server(None, Some(9443), true)), Some(9443));
        // A server with a key store must not listen without TLS.
        assert_eq!(port(server(Some(9090), None, true)), None);
        assert_eq!(port(server(None, Some(9443), false)), None);
        assert_eq!(Http::default().tls.port, Some(8443));
        assert_eq!(Http::public().listen(), None);
    }

    #[test]
    fn contradictions_between_a_servers_keys_are_reported() {
        assert!(
            warnings(&Http::public()).is_empty()
                && warnings(&server(None, Some(9443), true)).is_empty()
        );
        assert!(Http::default().contradictions(&PRIVATE).is_empty());
        let unset =
            "tls-port has no effect: videobridge.http-servers.public.key-store-path is not set";
        assert!(warnings(&server(Some(9090), Some(9443), false))[0].ends_with(unset));
        let off = "the server is off, because videobridge.http-servers.public.tls-port is not set";
        assert!(warnings(&server(Some(9090), None, true))[0].ends_with(off));
    }
}
