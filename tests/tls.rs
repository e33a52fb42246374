//! The HTTP servers with key stores of their own, as clients see them.

use std::{io, path::Path, sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use rialto::{
    colibri::json as colibri,
    config::{self, Config},
    daemon::{Daemon, DaemonError, Options},
    http::TlsError,
};
use rialto_hocon::Source;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion,
        crypto::ring,
        version::{TLS12, TLS13},
    },
};
use tokio_tungstenite::tungstenite::Message;

/// Everything here takes milliseconds; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls");

/// Two servers with the same key store on ports of the kernel's choice.
fn configured(store: &str, more: &str) -> Config {
    struct Text(String);
    impl Source for Text {
        fn read(&self, path: &Path) -> io::Result<String> {
            let here = path == Path::new("jvb.conf");
            if here { Ok(self.0.clone()) } else { Err(io::ErrorKind::NotFound.into()) }
        }

        fn env(&self, _: &str) -> Option<String> {
            None
        }
    }
    let server = format!(
        "{{ host = 127.0.0.1, tls-port = 0, key-store-password = changeit\n\
         key-store-path = \"{DIRECTORY}/{store}\"\n{more}\n }}"
    );
    let text = format!(
        "videobridge {{\n http-servers {{ private = {server}, public = {server} }}\n\
         websockets {{ enabled = true, server-id = jvb1, domains = [localhost] }}\n\
         apis.rest.enabled = true, ice.udp.port = 0, health.require-valid-address = false\n }}\n\
         ice4j.harvest.allowed-addresses = [\"127.0.0.1\"]\nrialto.shards = 1\n"
    );
    config::load(Some(Path::new("jvb.conf")), &[], &Text(text)).unwrap().config
}

/// What is wrong with a key store, if that is it.
fn of_key_store(error: &DaemonError) -> Option<&TlsError> {
    match error {
        DaemonError::KeyStore(error) => Some(&error.source),
        _ => None,
    }
}

async fn start(config: &Config) -> Result<Daemon, DaemonError> {
    Daemon::start(config, &Options::default()).await
}

/// Who trusts the certificates in `roots`, and shows those in `own`.
struct Client {
    roots: &'static str,
    own: Option<&'static str>,
    versions: Vec<&'static SupportedProtocolVersion>,
}

fn certificates(file: &str) -> Vec<CertificateDer<'static>> {
    let all = CertificateDer::pem_file_iter(format!("{DIRECTORY}/{file}")).unwrap();
    all.map(Result::unwrap).collect()
}

impl Client {
    fn of(roots: &'static str) -> Self {
        Self { roots, own: None, versions: vec![&TLS12, &TLS13] }
    }

    /// A connection, if the server lets there be one.
    async fn connect(&self, to: std::net::SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates(self.roots));
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match self.own {
            None => config.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::from_pem_file(format!("{DIRECTORY}/{own}")).unwrap();
                config.with_client_auth_cert(certificates(own), key).unwrap()
            }
        };
        let stream = TcpStream::connect(to).await?;
        let name = "localhost".try_into().unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// The first line of an answer. With TLS 1.3 a client that is refused learns it here.
    async fn get(&self, daemon: &Daemon, path: &str) -> io::Result<String> {
        let asked = async {
            let mut stream = self.connect(daemon.http_addr().unwrap()).await?;
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            Ok(text.lines().next().unwrap_or_default().to_owned())
        };
        timeout(PATIENCE, asked).await.unwrap()
    }
}

/// Opens the bridge channel of a new endpoint, at the address that the focus was told.
async fn says_hello(daemon: &Daemon, client: &Client) {
    let request = json!({
        "meeting-id": "a-meeting",
        "create": true,
        "endpoints": [{ "id": "alice", "create": true, "transport": { "ice-controlling": true },
            "capabilities": ["source-names"] }],
    });
    let request = colibri::read_conference_modify(request.to_string().as_bytes(), None).unwrap();
    let answer = daemon.bridge().modify(request).await.unwrap();
    let text = colibri::write_conference_modified(&answer).to_string();
    let url = text.split('"').find(|part| part.starts_with("wss://localhost/colibri-ws/jvb1/"));
    let url = url.unwrap_or_else(|| panic!("{text}"));
    let stream = client.connect(daemon.public_addr().unwrap()).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    socket.send(Message::text(r#"{"colibriClass":"ClientHello"}"#)).await.unwrap();
    let heard = timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
    assert!(heard.to_text().unwrap().contains("ServerHello"), "{heard}");
}

#[tokio::test]
async fn each_kind_of_key_store_serves_https_and_wss() {
    for (store, roots) in [
        ("server.pem", "ca.pem"),
        ("openssl.p12", "ca.pem"),
        ("legacy.p12", "ca.pem"),
        ("keytool.p12", "keytool.pem"),
        ("keytool-ec.p12", "keytool-ec.pem"),
    ] {
        let daemon = start(&configured(store, "")).await.unwrap_or_else(|e| panic!("{store}: {e}"));
        let client = Client::of(roots);
        assert_eq!(
            client.get(&daemon, "/about/health").await.unwrap(),
            "HTTP/1.1 200 OK",
            "{store}"
        );
        says_hello(&daemon, &client).await;
        // Without TLS nothing is said, in the clear or otherwise.
        let mut plain = TcpStream::connect(daemon.http_addr().unwrap()).await.unwrap();
        plain.write_all(b"GET /about/health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut heard = Vec::new();
        let _ = plain.read_to_end(&mut heard).await;
        assert!(!String::from_utf8_lossy(&heard).contains("HTTP"), "{store}");
        drop(daemon.stop().await);
    }
}

#[tokio::test]
async fn clients_without_a_trusted_certificate_are_turned_away() {
    let daemon = start(&configured("keytool.p12", "need-client-auth = true")).await.unwrap();
    for versions in [vec![&TLS12], vec![&TLS13]] {
        let client = |own| Client { roots: "keytool.pem", own, versions: versions.clone() };
        // The authority that signed it was imported into the key store.
        let served = client(Some("client.pem")).get(&daemon, "/about/health").await;
        assert_eq!(served.unwrap(), "HTTP/1.1 200 OK");
        assert!(client(None).get(&daemon, "/about/health").await.is_err());
    }
    drop(daemon.stop().await);
    // What leads from the server's certificate to an authority makes nobody trusted, as in Java.
    let daemon = start(&configured("openssl.p12", "need-client-auth = true")).await.unwrap();
    let client = Client { own: Some("client.pem"), ..Client::of("ca.pem") };
    assert!(client.get(&daemon, "/about/health").await.is_err());
    drop(daemon.stop().await);
    let refused = start(&configured("server.pem", "need-client-auth = true")).await.unwrap_err();
    assert!(matches!(of_key_store(&refused), Some(TlsError::NoTrust { .. })), "{refused}");
}

#[tokio::test]
async fn only_the_protocols_and_suites_that_are_named_are_spoken() {
    let spoken = async |more: &str| {
        let daemon = start(&configured("server.pem", more)).await.unwrap();
        let mut spoken = Vec::new();
        for versions in [vec![&TLS12], vec![&TLS13]] {
            let client = Client { versions, ..Client::of("ca.pem") };
            if let Ok(stream) = client.connect(daemon.http_addr().unwrap()).await {
                let (_, connection) = stream.get_ref();
                let suite = connection.negotiated_cipher_suite().unwrap().suite();
                spoken.push((connection.protocol_version().unwrap(), format!("{suite:?}")));
            }
        }
        drop(daemon.stop().await);
        spoken
    };
    let versions =
        |all: &[(ProtocolVersion, String)]| all.iter().map(|(v, _)| *v).collect::<Vec<_>>();
    let both = [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3];
    assert_eq!(versions(&spoken("").await), both);
    assert_eq!(versions(&spoken("tls-protocols = [TLSv1.3]").await), both[1..]);
    assert_eq!(versions(&spoken("tls-protocols = [TLSv1.1, \"TLSv1.2\"]").await), both[..1]);
    let chacha = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";
    let only = spoken(&format!("tls-cipher-suites = [{chacha}, TLS_RSA_WITH_NULL_SHA]")).await;
    assert_eq!(only, [(both[0], chacha.to_owned())]);
    let only = spoken("tls-cipher-suites = [TLS_AES_256_GCM_SHA384]").await;
    assert_eq!(only, [(both[1], "TLS13_AES_256_GCM_SHA384".to_owned())]);
    let nothing = start(&configured("server.pem", "tls-protocols = [TLSv1.1]")).await.unwrap_err();
    assert!(matches!(of_key_store(&nothing), Some(TlsError::Nothing)), "{nothing}");
}
