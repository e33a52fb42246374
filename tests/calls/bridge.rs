//! `rialto dev` and `rialto run` as child processes.

use std::{
    io::{BufRead, BufReader, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::json;

/// A running bridge; it ends with this value.
pub(crate) struct Bridge {
    child: Child,
    base: String,
    at: IpAddr,
    shards: u16,
}

impl Bridge {
    /// Starts one on free ports of loopback and waits for the line with its address.
    pub(crate) fn start(shards: u16) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), shards)
    }

    /// Starts one on free ports of this address.
    pub(crate) fn start_at(at: IpAddr, shards: u16) -> Self {
        let (child, base) = dev(at, shards, 0);
        Self { child, base, at, shards }
    }

    /// Ends it; what it had open is closed.
    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts another one at the address of the one that was stopped.
    pub(crate) fn start_again(&mut self) {
        let (_, port) = self.base.rsplit_once(':').expect("a port");
        (self.child, self.base) = dev(self.at, self.shards, port.parse().expect("a port"));
    }

    /// Where its page comes from.
    pub(crate) fn origin(&self) -> &str {
        &self.base
    }

    /// Its address and port.
    pub(crate) fn address(&self) -> String {
        self.base.trim_start_matches("http://").to_owned()
    }

    /// The address of a room.
    pub(crate) fn url(&self, room: &str) -> String {
        format!("{}/{room}", self.base)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts `rialto dev`; the process and where it serves its page.
fn dev(at: IpAddr, shards: u16, port: u16) -> (Child, String) {
    let (at, shards, port) = (at.to_string(), shards.to_string(), port.to_string());
    let mut child = Command::new(program())
        .args(["dev", "--bind", &at, "--port", &port, "--udp-port", "0"])
        .args(["--shards", &shards])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("rialto starts");
    let stdout = child.stdout.take().expect("a pipe");
    let mut lines = BufReader::new(stdout).lines();
    let base = loop {
        let line = lines.next().expect("rialto dev prints its address").expect("text");
        if let Some(start) = line.find("http://") {
            let url = line[start..].split_whitespace().next().unwrap_or_default();
            break url.trim_end_matches('/').to_owned();
        }
    };
    // Whatever else is printed is read, so that the bridge never waits for us.
    std::thread::spawn(move || lines.for_each(drop));
    (child, base)
}

/// The tests' own build, unless `RIALTO_BIN` names another program, such as a release build.
fn program() -> String {
    std::env::var("RIALTO_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_rialto").to_owned())
}

/// `rialto run` on free ports; it ends with this value.
pub(crate) struct Run {
    child: Child,
    file: PathBuf,
    /// Where its focus asks, and where WebSockets are taken.
    http: String,
    web_sockets: String,
}

impl Run {
    /// Starts one with WebSockets and waits until it serves.
    pub(crate) fn start() -> Self {
        Self::start_with(
            r#"
              apis.rest.enabled = true
              http-servers.public { host = 127.0.0.1, port = 0 }
              websockets { enabled = true, server-id = run, domains = ["bridge.invalid"] }
            "#,
        )
    }

    /// Starts one with data channels and these settings, which say how it comes to its focus.
    pub(crate) fn in_brewery(settings: &str) -> Self {
        Self::start_with(&format!(
            "{settings}\nsctp.enabled = true\nhealth.require-valid-address = false"
        ))
    }

    /// Starts one whose private server asks for this token.
    pub(crate) fn start_with_token(token: &str) -> Self {
        Self::start_in("health.require-valid-address = false", &[("RIALTO_HTTP_TOKEN", token)])
    }

    fn start_with(settings: &str) -> Self {
        Self::start_in(settings, &[])
    }

    fn start_in(settings: &str, variables: &[(&str, &str)]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rialto-browser-{}-{count}.conf", std::process::id());
        let file = std::env::temp_dir().join(name);
        let text = format!(
            r#"
            videobridge {{
              ice.udp.port = 0
              http-servers.private.port = 0
              {settings}
            }}
            ice4j.harvest.allowed-addresses = ["127.0.0.1"]
            rialto.shards = 1
        "#
        );
        std::fs::write(&file, text).expect("a file");
        let mut child = Command::new(program())
            .args(["run", "--config"])
            .arg(&file)
            .env_remove("RUST_LOG")
            .envs(variables.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .expect("rialto starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let serving = loop {
            let line = lines.next().expect("rialto run says that it serves").expect("text");
            if line.contains("serving") {
                break line;
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        let address = |name: &str| {
            let after = serving.split_once(&format!("{name}=Some(")).map(|(_, after)| after);
            after.and_then(|after| after.split(')').next()).unwrap_or_default().to_owned()
        };
        let (http, web_sockets) = (address(" http"), address("web_sockets"));
        Self { child, file, http, web_sockets }
    }

    /// A page of its private server.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// Creates an endpoint as a focus does; where its WebSocket is. The name of the domain is nobody's:
    /// there is no web server in front.
    pub(crate) fn create(&self, endpoint: &str, first: bool) -> String {
        let body = json!({
            "meeting-id": "m",
            "create": first,
            "endpoints": [{
                "id": endpoint,
                "create": true,
                "transport": { "ice-controlling": true },
                "capabilities": ["source-names"],
            }],
        });
        let (method, path) = if first { ("POST", "") } else { ("PATCH", "/m") };
        let (http, body) = (&self.http, body.to_string());
        let mut stream = TcpStream::connect(http).expect("HTTP");
        let length = body.len();
        write!(
            stream,
            "{method} /colibri/v2/conferences{path} HTTP/1.1\r\nHost: {http}\r\n\
             Connection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
        .expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let at = body.find("ws://bridge.invalid").unwrap_or_else(|| panic!("{answer}"));
        let url = body[at..].split('"').next().unwrap_or_default();
        url.replace("bridge.invalid", &self.web_sockets)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.file);
    }
}
