//! Calls as Jitsi has them: a real Prosody, a focus written for the tests, a bridge in its brewery, and pages
//! that speak XMPP.
#![allow(dead_code, reason = "each test program uses a part of it")]

mod focus;
#[path = "../../xmpp/prosody.rs"]
mod prosody;
#[path = "../../xmpp/wire.rs"]
mod wire;

use std::net::{Shutdown, TcpStream};

use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::calls::{
    bridge::Run,
    chromium::Chromium,
    participant::{Look, Participant},
};
use focus::BREWERY;
use prosody::{DOMAIN, PASSWORD, Prosody, free_port};

/// Where guests are.
const GUESTS: &str = "meet.jitsi.local";

/// The script of a client.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pages/jitsi.js");

/// A server, its focus, a bridge and a browser.
pub(crate) struct Jitsi {
    pub(crate) chromium: Chromium,
    pub(crate) bridge: Run,
    _prosody: Prosody,
    focus: TcpStream,
    page: String,
}

impl Jitsi {
    /// `None`, and a line why, where there is no server or no browser.
    pub(crate) async fn start() -> Option<Self> {
        let chromium = Chromium::start().await?;
        let http = free_port();
        let start = move || {
            let prosody = Prosody::start(&with_guests(http))?;
            let bridge = Run::in_brewery(&brewery(prosody.port()));
            let focus = focus::start(prosody.port());
            Some((prosody, bridge, focus))
        };
        let (prosody, bridge, focus) = spawn_blocking(start).await.expect("a server")?;
        let page = format!("http://127.0.0.1:{http}/xmpp-websocket");
        Some(Self { chromium, bridge, _prosody: prosody, focus, page })
    }

    /// Opens the page of a client, which is logged in and in no room yet.
    pub(crate) async fn open(&self, look: Look) -> Participant {
        let settings = json!({ "domain": GUESTS, "focus": focus::JID });
        // Read now, so that a change of it costs no build.
        let page = std::fs::read_to_string(PAGE).expect("the page");
        let script = format!("const JITSI = {settings};\n{page}");
        Participant::open(&self.chromium, &self.page, Look { script, ..look }).await
    }

    pub(crate) async fn stop(self) {
        // First of all: it has nobody to ask about those who leave then.
        let _ = self.focus.shutdown(Shutdown::Both);
        self.chromium.stop().await;
    }
}

impl Participant {
    /// Enters a room; `options` are those of `rialto.join` in the page.
    pub(crate) async fn enter(&self, room: &str, mut options: Value) {
        options["room"] = format!("{room}@conference.{GUESTS}").into();
        let problem = self.eval(&format!("rialto.join({options})")).await;
        assert!(problem.is_null(), "{problem}");
    }

    /// Waits until its media and its bridge channel are connected.
    pub(crate) async fn in_call(&self) {
        let there = async |person: &Self| {
            let state = person.state().await;
            (state["connection"] == "connected" && state["channel"] == "open").then_some(())
        };
        self.until("a connection", there).await;
    }

    /// Leaves the room.
    pub(crate) async fn leave(&self) {
        self.run("rialto.leave()").await;
    }
}

/// What the server has besides.
fn with_guests(http: u16) -> String {
    format!(
        r#"
network_settings = {{ nagle = false }}
http_ports = {{ {http} }}
http_interfaces = {{ "127.0.0.1" }}
https_ports = {{}}
http_default_host = "{GUESTS}"
VirtualHost "{GUESTS}"
    authentication = "anonymous"
    modules_enabled = {{ "websocket" }}
Component "conference.{GUESTS}" "muc"
    storage = "memory"
"#
    )
}

/// The bridge's way into the brewery.
fn brewery(port: u16) -> String {
    format!(
        r#"
            apis.xmpp-client.configs.shard {{
              hostname = 127.0.0.1
              port = {port}
              domain = "{DOMAIN}"
              username = jvb
              password = "{PASSWORD}"
              muc_jids = "{BREWERY}"
              muc_nickname = bridge
              disable_certificate_verification = true
            }}
        "#
    )
}
