//! What nobody may read, in nothing that the bridge writes.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    daemon::{Daemon, client_section, component_section},
    fake::Server,
    prosody::{PASSWORD, PATIENCE, Prosody, SECRET, free_port},
};

const WRONG: &str = "swordfish-and-chips";
const ADDED: &str = "open-sesame-street";

/// All that is in an answer between `"<name>":"` and the next quote.
fn values(body: &str, name: &str) -> Vec<String> {
    body.split(&format!("\"{name}\":\""))
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect()
}

/// A request of a client for its bridge channel, with a password.
fn knock(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    String::from_utf8_lossy(&head).into_owned()
}

#[test]
fn no_secret_is_in_the_log_or_in_an_answer() {
    let Some((prosody, component_port)) = Prosody::with_component() else { return };
    // Servers of the test: one hears PLAIN, one is a wrong component's.
    let (plain, other) = (Server::new(), Server::new());
    let public = free_port();
    let conf = format!(
        "{}{}{}{}videobridge.http-servers.public {{ host = 127.0.0.1, port = {public} }}\n\
         videobridge.websockets {{ enabled = true, server-id = s, domains = [\"a.example\"] }}\n",
        client_section("right", prosody.port(), ""),
        client_section("wrong", prosody.port(), "").replace(PASSWORD, WRONG),
        client_section("plain", plain.port(), "SECURITY_MODE = disabled"),
        component_section(component_port, ""),
    );
    let mut daemon = Daemon::start_with(&conf, |command| {
        command.env("RUST_LOG", "trace");
    });
    plain.client().is_served("plain");
    daemon.log().wait(1, &["joined the room", "client=\"right\""]);
    daemon.log().wait(1, &["not connected", "client=\"wrong\"", "wrong user name or password"]);
    daemon.log().wait(1, &["XMPP component: connected"]);
    daemon.log().wait(1, &["DEBUG", "not connected", "client=\"wrong\""]);
    let mut answers = add_client(&daemon, &other);
    daemon.log().wait(1, &["not connected", "client=\"added\""]);

    let (status, body) = daemon.add("m", 0);
    assert_eq!(status, 200, "{body}");
    let mut secrets = values(&body, "pwd");
    let socket = body.split('"').find(|text| text.starts_with("ws://"));
    let socket = socket.unwrap_or_else(|| panic!("{body}"));
    let password = socket.split("pwd=").nth(1).unwrap().to_owned();
    let path = socket.strip_prefix("ws://a.example").unwrap();
    assert_eq!(knock(public, path), "HTTP/1.1 101");
    let wrong = path.replace(&password, "pineapple-pizza");
    assert_eq!(knock(public, &wrong), "HTTP/1.1 403");
    secrets.extend([password, "pineapple-pizza".to_owned()]);
    for path in [
        "/debug",
        "/debug?full=true",
        "/metrics",
        "/colibri/stats",
        "/about/health",
        "/colibri/muc-client/list",
    ] {
        answers.push_str(&daemon.get(path).1);
    }
    daemon.is_well();
    for secret in [PASSWORD, WRONG, ADDED, SECRET] {
        secrets.push(secret.to_owned());
        secrets.push(STANDARD.encode(format!("\0jvb\0{secret}")));
    }
    assert!(secrets.len() >= 11, "{secrets:?}");
    let said = format!("{}\n{answers}", daemon.log().text());
    // This is as much as it says: what `tokio-xmpp` says at TRACE, stanza by stanza, is compiled out.
    assert!(!said.contains("TRACE tokio_xmpp"));
    for secret in secrets {
        let line = said.lines().find(|line| line.contains(&secret));
        assert_eq!(line, None, "{secret}");
    }
}

/// Adds a client over HTTP, whose server refuses its password; what HTTP said.
fn add_client(daemon: &Daemon, server: &Server) -> String {
    let request = format!(
        r#"{{"id":"added","hostname":"127.0.0.1","port":"{}","domain":"auth.jitsi.local","username":"jvb",
        "password":"{ADDED}","muc_jids":"{}","muc_nickname":"added","disable_certificate_verification":"true",
        "security_mode":"disabled"}}"#,
        server.port(),
        crate::fake::ROOM
    );
    let (status, mut body) = daemon.post("/colibri/muc-client/add", &request);
    assert_eq!(status, 200, "{body}");
    // What is wrong is refused without saying what it was.
    let (status, refused) =
        daemon.post("/colibri/muc-client/add", &request.replace("hostname", "hostnam"));
    assert_eq!(status, 400);
    let (_, cut) = daemon.post("/colibri/muc-client/add", request.trim_end_matches('}'));
    body.push_str(&refused);
    body.push_str(&cut);
    let mut peer = server.accept();
    peer.open();
    peer.send(
        "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
         <mechanism>PLAIN</mechanism></mechanisms></stream:features>",
    );
    let auth = peer.next(|element| element.name() == "auth");
    // Some servers say too much.
    peer.send(&format!(
        "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/><text>{}</text></failure>",
        auth.text()
    ));
    body
}

#[test]
fn no_mistake_in_a_configuration_shows_a_secret() {
    let dir = std::env::temp_dir().join(format!("rialto-secrets-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("jvb.conf");
    let client = "videobridge.apis.xmpp-client.configs.a";
    for (conf, properties) in [
        (format!("{client}.PASSWORD = {WRONG}"), ""),
        (format!("{client}.PASWORD = {WRONG}"), ""),
        (format!("{client}.PASSWORD = [{WRONG}]"), ""),
        (format!("{client}.PASSWORD = {{ a = {WRONG} }}"), ""),
        (format!("{client}.PASSWORD = \"{WRONG}"), ""),
        (format!("{client}.PASSWORD = \"{WRONG}\" }}"), ""),
        (format!("p = {WRONG}\n{client}.PASSWORD = ${{p}}x${{nothing}}"), ""),
        (format!("videobridge.apis.xmpp-component.secret = [{WRONG}]"), ""),
        (format!("videobridge.apis.xmpp-component.secret = {WRONG}"), ""),
        (String::new(), "org.jitsi.videobridge.xmpp.user.shard.PASSWORD"),
        (String::new(), "org.jitsi.videobridge.xmpp.user.shard.PASWORD"),
        (String::new(), "org.jitsi.videobridge.xmpp.user.PASSWORD"),
    ] {
        std::fs::write(&path, format!("{conf}\n")).unwrap();
        let legacy = dir.join("sip-communicator.properties");
        std::fs::write(&legacy, format!("# none\n{properties}={WRONG}\n")).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_rialto"))
            .args(["check-config", path.to_str().unwrap()])
            .env("RUST_LOG", "trace")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!said.contains(WRONG), "{conf}{properties}: {said}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
