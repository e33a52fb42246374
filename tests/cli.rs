//! The command as a process: its output and its exit codes.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    process::{Command, Output, Stdio},
};

fn rialto(args: &[&str]) -> Output {
    rialto_with(args, &[])
}

fn rialto_with(args: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rialto"))
        .args(args)
        .env_remove("RUST_LOG")
        .env("JVB_TEST_PORT", "20000")
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file of this text, in a directory that ends with the test.
struct File(std::path::PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rialto-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// One line on stderr that holds `parts`, nothing on stdout, and this exit code.
fn one_line(output: &Output, code: i32, parts: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("rialto: "), "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{part} is not in {stderr}");
    }
    assert!(output.stdout.is_empty());
}

#[test]
fn no_command_prints_help() {
    let output = rialto(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("check-config"));
}

#[test]
fn version() {
    let said = text(&rialto(&["--version"]).stdout);
    let build = said.strip_prefix(concat!("rialto ", env!("CARGO_PKG_VERSION"), " (")).unwrap();
    // A debug build names no commit.
    let build: Vec<_> = build.trim_end_matches(")\n").split(", ").collect();
    assert_eq!(build.len(), 4, "{said}");
    assert!(build[1].contains("linux") && build[3].starts_with("rustc 1."), "{said}");
    for same in ["-V", "version"] {
        assert_eq!(text(&rialto(&[same]).stdout), said);
    }
}

#[test]
fn real_files_are_taken_unchanged() {
    for (file, expected) in [
        (
            "tests/data/config/debian-jvb.conf",
            "shard.MUC_NICKNAME = 9b2f6a54-51c5-4a3b-8ad0-90f7f1f4c1de ",
        ),
        ("tests/data/config/debian-2023-jvb.conf", "videobridge.stats.interval = 10 s "),
        (
            "tests/data/config/docker-2026-jvb.conf",
            "static-mappings = [172.18.0.5 port 10000 -> 203.0.113.20 port 4443 (ip-0)]",
        ),
        (
            "tests/data/config/docker-jvb.conf",
            "static-mappings = [172.18.0.5 -> 203.0.113.20 (ip-0)]",
        ),
        ("config/jvb.conf", "rialto.sigterm-drain = 0 s "),
    ] {
        let output = rialto(&["check-config", file]);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{stderr}");
        assert!(stdout.contains(expected), "{stdout}");
        assert!(!stderr.contains("unknown key"), "{stderr}");
        assert!(!stdout.contains("s3cr3t") && !stderr.contains("s3cr3t"));
    }
}

#[test]
fn check_config_tells_values_and_origins() {
    let file = File::new(
        "origins.conf",
        "videobridge.ice.udp.port = ${JVB_TEST_PORT}\nvideobridge.stats.interval = 7 s\nvideobridge.stat = 1\n",
    );
    let output = rialto(&["check-config", file.path()]);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success());
    let line = |key: &str| {
        stdout.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{stdout}"))
    };
    assert!(line("videobridge.ice.udp.port = 20000 ").contains("# environment JVB_TEST_PORT, "));
    assert!(line("videobridge.stats.interval = 7 s ").ends_with("origins.conf:2"));
    assert!(line("rialto.shards = 0 (one per core) ").ends_with("# default"));
    assert!(stderr.starts_with("warning: ") && stderr.contains("unknown key videobridge.stat"));
}

#[test]
fn check_config_looks_at_the_machine() {
    let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = udp.local_addr().unwrap().port();
    let conf = format!(
        "videobridge.ice.udp.port = {port}\nvideobridge.http-servers.private.port = 0\n\
         ice4j.harvest.use-ipv6 = false\nice4j.harvest.allowed-addresses = [\"127.0.0.1\"]\n\
         ice4j.harvest.udp.receive-buffer-size = 1 GiB\n"
    );
    let file = File::new("machine.conf", &conf);
    let output = rialto(&["check-config", file.path()]);
    let stdout = text(&output.stdout);
    let has = |part: &str| assert!(stdout.contains(part), "{part} is not in {stdout}");
    has(&format!("machine: problem UDP 0.0.0.0:{port} is in use"));
    has("machine: ok      TCP 127.0.0.1:0 is free");
    has("sysctl -w net.core.rmem_max=1073741824");
    has(&format!("told only private addresses: 127.0.0.1:{port}"));
    assert!(output.status.success(), "a machine can be changed");
}

/// A STUN server that sees everybody as they are, until the test process ends.
fn stun_server() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut request = [0; 64];
        while let Ok((20, from)) = socket.recv_from(&mut request) {
            let mut answer = vec![1, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42];
            answer.extend(&request[8..20]);
            answer.extend([0, 0x20, 0, 8, 0, 1]);
            answer.extend((from.port() ^ 0x2112).to_be_bytes());
            answer.extend((0x7f00_0001_u32 ^ 0x2112_a442).to_be_bytes());
            socket.send_to(&answer, from).unwrap();
        }
    });
    port
}

#[test]
fn check_config_asks_the_stun_servers() {
    // A port that nobody has: the socket is told so.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (answers, refuses) =
        (format!("127.0.0.1:{}", stun_server()), format!("127.0.0.1:{silent}"));
    let nowhere = "stun.invalid:3478";
    let no_nat = "server:  ok      STUN: 127.0.0.1 is seen as it is: there is no NAT here";
    let failed = |weight, server: &str, cause| {
        format!("server:  {weight} STUN: 127.0.0.1 learns nothing from {server}: {cause}")
    };
    for (server, required, code, says) in [
        (&*answers, false, 0, no_nat.to_owned()),
        (&answers, true, 0, no_nat.to_owned()),
        (&refuses, false, 0, failed("warning", &refuses, "Connection refused")),
        (&refuses, true, 78, failed("problem", &refuses, "Connection refused")),
        (nowhere, false, 0, failed("warning", nowhere, "failed to lookup address")),
    ] {
        let conf = format!(
            "videobridge.ice.udp.port = 0\nvideobridge.http-servers.private.port = 0\n\
             ice4j.harvest {{ allowed-addresses = [\"127.0.0.1\"]\n\
             mapping.stun.addresses = [\"{server}\"] }}\nvideobridge.health.require-stun = {required}\n"
        );
        let file = File::new("stun.conf", &conf);
        let output = rialto(&["check-config", "--connect", file.path()]);
        let stdout = text(&output.stdout);
        assert!(stdout.contains(&says), "{says} is not in {stdout}");
        assert_eq!(output.status.code(), Some(code), "{stdout}");
    }
}

#[test]
fn a_mistake_in_the_configuration_is_one_line_and_78() {
    let file = File::new("mistake.conf", "\nvideobridge.ice.udp.port = many\n");
    let parts = ["mistake.conf:2: videobridge.ice.udp.port: needs a whole number", "'many'"];
    one_line(&rialto(&["check-config", file.path()]), 78, &parts);
    let file = File::new("open.conf", "videobridge {\n");
    one_line(&rialto(&["check-config", file.path()]), 78, &["open.conf:1: ", "never closed"]);
    one_line(
        &rialto(&["check-config", "/nonexistent.conf"]),
        78,
        &["cannot read /nonexistent.conf"],
    );
}

/// A process that serves until it is told otherwise.
struct Serving {
    child: std::process::Child,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Serving {
    fn start(args: &[&str]) -> Self {
        Self::start_with(args, &[])
    }

    /// The same, with these variables.
    fn start_with(args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rialto"))
            .args(args)
            .env_remove("RUST_LOG")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    /// The first line of its output, without its end.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        if line.is_empty() {
            let mut stderr = String::new();
            self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
            panic!("it ended: {stderr}");
        }
        line.trim_end().to_owned()
    }

    /// The first line on stderr that begins with this, without that.
    fn said(&mut self, start: &str) -> String {
        let stderr = BufReader::new(self.child.stderr.take().unwrap());
        let mut lines = stderr.lines().map_while(Result::ok);
        lines.find_map(|line| line.strip_prefix(start).map(str::to_owned)).unwrap()
    }

    /// Sends a signal; gives the exit code and the rest of both outputs.
    fn end(mut self, signal: &str) -> (Option<i32>, String, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (self.child.wait().unwrap().code(), stdout, stderr)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The body of an answer to `GET`.
fn get(address: &str, path: &str) -> (String, String) {
    ask(address, &format!("GET {path}"), address, "")
}

/// The first line and the body of an answer; `more`: header fields.
fn ask(address: &str, request: &str, host: &str, more: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let more = format!("Connection: close\r\n{more}\r\n");
    write!(stream, "{request} HTTP/1.1\r\nHost: {host}\r\n{more}").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

const DEV: [&str; 7] = ["dev", "--port", "0", "--udp-port", "0", "--shards", "1"];

#[test]
fn dev_prints_the_address_of_its_page_and_ends_by_signals() {
    for (signal, code) in [("TERM", 143), ("INT", 130), ("HUP", 129)] {
        let mut dev = Serving::start(&DEV);
        let line = dev.line();
        let address = line.strip_prefix("http://").unwrap().strip_suffix('/').unwrap();
        assert!(address.starts_with("127.0.0.1:"), "{line}");
        assert_eq!(get(address, "/about/health").0, "HTTP/1.1 200 OK");
        assert!(get(address, "/any-room").1.contains("<html"));
        assert!(get(address, "/").1.contains("id=\"join\""));
        assert!(get(address, "/_rialto/status").1.contains("id=\"shards\""));
        assert!(get(address, "/colibri/stats").1.contains("\"healthy\":true"));
        let (ended, stdout, stderr) = dev.end(signal);
        assert_eq!((ended, stdout.as_str()), (Some(code), ""));
        assert!(!stderr.contains("ERROR"), "{stderr}");
    }
}

/// The addresses of the page and of the control API of a `dev` that has them apart. `said`: what stands
/// before the second.
fn apart(dev: &mut Serving, said: &str) -> (String, String) {
    let page = dev.line();
    let api = dev.said(said);
    let address =
        |url: &str| url.strip_prefix("http://").unwrap().strip_suffix('/').unwrap().to_owned();
    (address(&page), address(&api))
}

#[test]
fn the_network_gets_the_page_and_this_machine_the_control_api() {
    let mut dev =
        Serving::start(&[&DEV[..], &["--bind", "0.0.0.0", "--host", "call.example"]].concat());
    let (page, api) = apart(&mut dev, "control API: ");
    assert!(api.starts_with("127.0.0.1:"), "{api}");
    for path in [
        "/colibri/stats",
        "/colibri/drain",
        "/about/version",
        "/colibri/muc-client/list",
        "/_rialto/status",
        "/_rialto/status.json",
    ] {
        assert_eq!(get(&page, path).0, "HTTP/1.1 404 Not Found", "{path}");
        assert_eq!(get(&api, path).0, "HTTP/1.1 200 OK", "{path}");
    }
    // Rooms may have any name.
    for room in ["/debug", "/metrics", "/stats"] {
        assert!(get(&page, room).1.contains("<html"), "{room}");
        assert!(!get(&api, room).1.contains("<html"), "{room}");
    }
    assert!(get(&page, "/").1.contains("id=\"join\""));
    assert!(get(&api, "/").1.contains("id=\"shards\""));
    assert_eq!(get(&api, "/any-room").0, "HTTP/1.1 404 Not Found");
    let refused = "HTTP/1.1 421 Misdirected Request";
    for host in ["evil.example", "127.0.0.1.evil.example:8080"] {
        assert_eq!(ask(&page, "GET /any-room", host, "").0, refused, "{host}");
        assert_eq!(ask(&page, "GET /_rialto/ws?room=a", host, "").0, refused, "{host}");
        assert_eq!(ask(&api, "GET /debug", host, "").0, refused, "{host}");
        assert_eq!(ask(&api, "POST /colibri/drain/enable", host, "").0, refused, "{host}");
    }
    for host in ["call.example:8080", "localhost", "192.0.2.10:8080"] {
        assert_eq!(ask(&page, "GET /any-room", host, "").0, "HTTP/1.1 200 OK", "{host}");
    }
}

#[test]
fn a_page_of_another_name_does_not_reach_what_is_on_this_machine() {
    let mut dev = Serving::start(&DEV);
    let line = dev.line();
    let address = line.strip_prefix("http://").unwrap().strip_suffix('/').unwrap();
    for path in ["/debug", "/any-room", "/about/health", "/colibri/stats", "/_rialto/status"] {
        let (status, _) = ask(address, &format!("GET {path}"), "evil.example", "");
        assert_eq!(status, "HTTP/1.1 421 Misdirected Request", "{path}");
        let (status, _) = ask(address, &format!("GET {path}"), "localhost:8080", "");
        assert_eq!(status, "HTTP/1.1 200 OK", "{path}");
    }
}

#[test]
fn a_control_api_on_the_network_asks_for_a_token() {
    let args = [&DEV[..], &["--api", "0.0.0.0:0"]].concat();
    one_line(&rialto(&args), 78, &["--api 0.0.0.0:0", "RIALTO_HTTP_TOKEN"]);
    let short = rialto_with(&args, &[("RIALTO_HTTP_TOKEN", "s3cr3t")]);
    one_line(&short, 78, &["--api 0.0.0.0:0", "RIALTO_HTTP_TOKEN", "at least 16 characters"]);
    let overlap = ["dev", "--port", "8765", "--api", "0.0.0.0:8765"];
    one_line(&rialto(&overlap), 78, &["--api 0.0.0.0:8765", "127.0.0.1:8765", "--port"]);
    let mut dev = Serving::start_with(&args, &[("RIALTO_HTTP_TOKEN", "0123456789abcdef")]);
    let (page, api) = apart(&mut dev, "control API on all addresses: ");
    assert!(get(&page, "/any-room").1.contains("<html"));
    let unauthorized = "HTTP/1.1 401 Unauthorized";
    for request in [
        "GET /debug",
        "GET /metrics",
        "GET /_rialto/status.json",
        "GET /colibri/stats",
        "POST /colibri/drain/enable",
        "POST /colibri/v2/conferences",
        "POST /colibri/muc-client/add",
    ] {
        assert_eq!(ask(&api, request, &api, "").0, unauthorized, "{request}");
        let wrong = "Authorization: Bearer guess\r\n";
        assert_eq!(ask(&api, request, &api, wrong).0, unauthorized, "{request}");
    }
    let right = "Authorization: Bearer 0123456789abcdef\r\n";
    assert_eq!(ask(&api, "GET /debug", &api, right).0, "HTTP/1.1 200 OK");
    assert_eq!(get(&api, "/about/health").0, "HTTP/1.1 200 OK");
    assert_eq!(get(&api, "/about/health/").0, "HTTP/1.1 200 OK");
}

#[test]
fn a_token_may_be_in_a_file_and_is_not_shown() {
    let token = File::new("token", "s3cr3t-of-a-file\n");
    let conf = format!("{HERE}rialto.http.token-file = \"{}\"\n", token.path());
    let file = File::new("token.conf", &conf);
    let mut run = Serving::start(&["run", "--config", file.path(), "--apis=rest"]);
    let (address, _) = serves_at(&mut run);
    assert_eq!(get(&address, "/metrics").0, "HTTP/1.1 401 Unauthorized");
    let right = "Authorization: Bearer s3cr3t-of-a-file\r\n";
    assert_eq!(ask(&address, "GET /metrics", &address, right).0, "HTTP/1.1 200 OK");
    let said = text(&rialto(&["check-config", file.path()]).stdout);
    assert!(said.contains("rialto.http.token") && !said.contains("s3cr3t"), "{said}");
    let open = format!("{HERE}videobridge.http-servers.private.host = 0.0.0.0\n");
    let open = File::new("open-api.conf", &open);
    let said = text(&rialto(&["check-config", open.path()]).stderr);
    assert!(said.contains("warning: ") && said.contains("rialto.http.token"), "{said}");
    let gone = File::new("gone.conf", &format!("{HERE}rialto.http.token-file = /nonexistent\n"));
    let refused = rialto(&["check-config", gone.path()]);
    one_line(&refused, 78, &["rialto.http.token-file: cannot read /nonexistent"]);
}

#[test]
fn a_server_listens_on_a_name() {
    let host = "videobridge.http-servers.private.host =";
    let file = File::new("host.conf", &format!("{HERE}{host} localhost\n"));
    let mut run = Serving::start(&["run", "--config", file.path(), "--apis=rest"]);
    let (address, _) = serves_at(&mut run);
    assert!(address.parse::<std::net::SocketAddr>().unwrap().ip().is_loopback(), "{address}");
    assert_eq!(get(&address, "/about/version").0, "HTTP/1.1 200 OK");
    let file = File::new("nowhere.conf", &format!("{HERE}{host} bridge.invalid\n"));
    let run = rialto(&["run", "--config", file.path()]);
    one_line(&run, 78, &["private.host: cannot resolve 'bridge.invalid': "]);
}

#[test]
fn an_api_that_there_is_not_is_named() {
    let file = File::new("apis.conf", HERE);
    let mut run = Serving::start(&["run", "--config", file.path(), "--apis=rest,bogus"]);
    serves_at(&mut run);
    let (code, _, stderr) = run.end("TERM");
    assert_eq!(code, Some(143));
    let lines: Vec<_> = stderr.lines().filter(|line| line.contains("bogus")).collect();
    assert_eq!(lines.len(), 1, "{stderr}");
    assert!(lines[0].contains("WARN") && lines[0].contains("--apis"), "{stderr}");
}

#[test]
fn a_page_without_https_on_the_network_is_said_to_have_no_cameras() {
    let mut dev = Serving::start(&[&DEV[..], &["--bind", "0.0.0.0"]].concat());
    dev.line();
    let (_, stdout, stderr) = dev.end("TERM");
    assert_eq!(stdout, "", "one line is for whoever starts it");
    let lines: Vec<_> = stderr.lines().filter(|line| line.contains("HTTPS")).collect();
    assert!(lines.len() == 1 && lines[0].contains("--tls-cert"), "{stderr}");
    // Nobody needs to hear it of localhost.
    let mut dev = Serving::start(&[&DEV[..], &["--bind", "127.0.0.1"]].concat());
    dev.line();
    assert!(!dev.end("TERM").2.contains("HTTPS"));
}

#[test]
fn a_port_in_use_is_one_line_that_names_the_flag() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port().to_string();
    let output = rialto(&["dev", "--port", &port, "--udp-port", "0"]);
    let in_use = format!("TCP port {port} on 127.0.0.1 is in use");
    one_line(&output, 1, &[&in_use, "--port"]);

    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = udp.local_addr().unwrap().port().to_string();
    let output = rialto(&["dev", "--bind", "127.0.0.1", "--port", "0", "--udp-port", &port]);
    let in_use = format!("UDP port {port} on 127.0.0.1 is in use");
    one_line(&output, 1, &[&in_use, "--udp-port"]);

    let file = File::new(
        "ports.conf",
        &format!("videobridge.http-servers.private.port = 0\nvideobridge.ice.udp.port = {port}\n"),
    );
    let output = rialto(&["run", "--config", file.path()]);
    one_line(&output, 1, &["UDP port ", " is in use", "videobridge.ice.udp.port"]);

    let port = tcp.local_addr().unwrap().port();
    let store = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls/server.pem");
    let servers = "videobridge.http-servers";
    let with_tls = format!("tls-port = {port}, key-store-path = \"{store}\"");
    for (section, key) in [
        (format!("{servers}.public {{ host = 127.0.0.1, port = {port} }}"), "public.port"),
        (format!("{servers}.public {{ host = 127.0.0.1, {with_tls} }}"), "public.tls-port"),
        (format!("{servers}.private {{ {with_tls} }}"), "private.tls-port"),
    ] {
        let conf = format!("{HERE}videobridge.websockets.enabled = true\n{section}\n");
        let file = File::new("tls-ports.conf", &conf);
        let output = rialto(&["run", "--config", file.path()]);
        let in_use = format!("TCP port {port} on 127.0.0.1 is in use");
        one_line(&output, 1, &[&in_use, &format!("{servers}.{key}")]);
    }
}

#[test]
fn check_config_refuses_what_run_refuses() {
    let servers = "videobridge.http-servers";
    for (more, says) in [
        (format!("{servers}.private.host = 192.0.2.1\n"), "192.0.2.1"),
        (
            format!(
                "videobridge.websockets.enabled = true\n{servers}.private.port = 9876\n\
                 {servers}.public {{ host = 127.0.0.1, port = 9876 }}\n"
            ),
            "one port",
        ),
    ] {
        let file = File::new("refused.conf", &format!("{HERE}{more}"));
        let checked = rialto(&["check-config", file.path()]);
        let (stdout, stderr) = (text(&checked.stdout), text(&checked.stderr));
        assert_eq!(checked.status.code(), Some(78), "{stdout}{stderr}");
        let problem = |line: &str| line.starts_with("machine: problem") && line.contains(says);
        assert!(stdout.lines().any(problem), "{stdout}");
        assert_eq!(rialto(&["run", "--config", file.path()]).status.code(), Some(1), "{more}");
    }
}

#[test]
fn two_bridges_do_not_share_a_port() {
    let mut first = Serving::start(&DEV);
    let address = first.line();
    let address = address.strip_prefix("http://").unwrap().trim_end_matches('/');
    let port = address.rsplit(':').next().unwrap();
    one_line(&rialto(&["dev", "--port", port, "--udp-port", "0"]), 1, &["is in use"]);
}

#[test]
fn a_missing_certificate_is_one_line() {
    let missing = ["--tls-cert", "/nonexistent.pem", "--tls-key", "/nonexistent.key"];
    let output = rialto(&[&DEV[..], &missing[..]].concat());
    one_line(&output, 78, &["HTTPS: cannot read /nonexistent.pem"]);
}

#[test]
fn a_key_store_that_cannot_be_used_is_one_line_and_78() {
    let here = |name: &str| format!("{}/tests/data/tls/{name}", env!("CARGO_MANIFEST_DIR"));
    let pem = |name: &str| std::fs::read_to_string(here(name)).unwrap();
    let (certificates, key) = (pem("ca.pem"), pem("client.pem"));
    let mixed = File::new("mixed.pem", &format!("{certificates}{key}"));
    for (store, password, says) in [
        (mixed.path().to_owned(), "changeit", "mixed.pem cannot be used"),
        ("/nonexistent.p12".to_owned(), "changeit", "cannot read /nonexistent.p12"),
        (here("openssl.p12"), "swordfish", "cannot be opened with this key-store-password"),
        (here("no-key.p12"), "changeit", "holds no private key with its certificate"),
        (here("old.jks"), "changeit", "-deststoretype pkcs12"),
        (here("make.sh"), "changeit", "holds no PEM certificate"),
    ] {
        let (key, line) = match password {
            "swordfish" => ("key-store-password", 10),
            _ => ("key-store-path", 9),
        };
        for server in ["private", "public"] {
            let conf = format!(
                "{HERE}videobridge.websockets.enabled = true\n\
                 videobridge.http-servers.{server} {{ tls-port = 0, key-store-path = \"{store}\"\n\
                 key-store-password = {password} }}\n"
            );
            let file = File::new("key-store.conf", &conf);
            for command in [&["check-config"][..], &["run", "--config"]] {
                let output = rialto(&[command, &[file.path()]].concat());
                let place =
                    format!("key-store.conf:{line}: videobridge.http-servers.{server}.{key}: ");
                one_line(&output, 78, &["rialto: HTTPS: ", &place, says]);
                assert!(!text(&output.stderr).contains(password), "{}", text(&output.stderr));
            }
        }
    }
}

#[test]
fn check_config_tells_of_a_key_store_and_hides_its_password() {
    let store = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls/openssl.p12");
    let conf = format!(
        "videobridge.http-servers.private {{ tls-port = 0, key-store-path = \"{store}\"\n\
         key-store-password = changeit, tls-protocols = [ TLSv1.1, \"TLSv1.2\" ]\n\
         tls-cipher-suites = [ TLS_DHE_RSA_WITH_AES_128_GCM_SHA256\n\
         TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 ], port = 1 }}\n\
         videobridge.http-servers.public {{ key-store-password = changeit, need-client-auth = true }}\n"
    );
    let file = File::new("hidden.conf", &conf);
    let output = rialto(&["check-config", file.path()]);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    let servers = "videobridge.http-servers";
    for part in [
        format!("{servers}.private.key-store-path = {store} "),
        format!("{servers}.private.key-store-password = (hidden) "),
        "machine: ok      TCP 127.0.0.1:0 is free".to_owned(),
    ] {
        assert!(stdout.contains(&part), "{part} is not in {stdout}");
    }
    let unset = format!("has no effect: {servers}.public.key-store-path is not set");
    for part in [
        format!("{servers}.private.tls-protocols: the TLS library has no TLSv1.1\n"),
        "the TLS library has no TLS_DHE_RSA_WITH_AES_128_GCM_SHA256\n".to_owned(),
        format!("{servers}.public.key-store-password {unset}\n"),
        format!("{servers}.public.need-client-auth {unset}\n"),
    ] {
        assert!(stderr.contains(&part), "{part} is not in {stderr}");
    }
    assert!(!stdout.contains("changeit") && !stderr.contains("changeit"));
}

#[test]
fn an_address_of_another_machine_is_one_line() {
    let output = rialto(&["dev", "--bind", "192.0.2.1", "--port", "0", "--udp-port", "0"]);
    one_line(&output, 1, &["192.0.2.1 is not an address of this machine", "--bind"]);
}

/// Reads a bridge's log up to the line that says where it serves. The rest can be read on.
fn serves_at(run: &mut Serving) -> (String, String) {
    // Byte by byte: what comes after that line is left for who reads on.
    let stderr = run.child.stderr.as_mut().unwrap();
    let mut bytes = Vec::new();
    while !(bytes.ends_with(b"\n") && String::from_utf8_lossy(&bytes).contains("serving")) {
        let mut byte = [0];
        assert!(stderr.read(&mut byte).unwrap() > 0, "{}", String::from_utf8_lossy(&bytes));
        bytes.push(byte[0]);
    }
    let log = String::from_utf8(bytes).unwrap();
    let (_, rest) = log.split_once("http=Some(").unwrap_or_else(|| panic!("{log}"));
    let address = rest.split(')').next().unwrap().to_owned();
    (address, log)
}

/// What a test changes in a file of a deployment: ports that are free, and nobody who is asked.
const HERE: &str = "\nvideobridge.ice.udp.port = 0\nvideobridge.http-servers.private.port = 0\n\
                    videobridge.http-servers.private.host = 127.0.0.1\nrialto.shards = 1\n\
                    videobridge.http-servers.public.port = -1\n\
                    ice4j.harvest.mapping.stun.addresses = []\n";

#[test]
fn run_takes_a_jvb_conf() {
    for (name, text) in [
        ("docker.conf", include_str!("data/config/docker-jvb.conf")),
        ("docker-2026.conf", include_str!("data/config/docker-2026-jvb.conf")),
        ("debian.conf", include_str!("data/config/debian-jvb.conf")),
        ("debian-2023.conf", include_str!("data/config/debian-2023-jvb.conf")),
    ] {
        let file = File::new(name, &format!("{text}{HERE}"));
        let mut run = Serving::start(&["run", "--config", file.path()]);
        let (address, _) = serves_at(&mut run);
        assert_eq!(get(&address, "/about/health").0, "HTTP/1.1 200 OK", "{name}");
        assert_eq!(get(&address, "/any-room").0, "HTTP/1.1 404 Not Found");
        assert_eq!(get(&address, "/colibri/stats").0, "HTTP/1.1 404 Not Found");
        let (code, stdout, _) = run.end("TERM");
        assert_eq!((code, stdout.as_str()), (Some(143), ""));
    }
}

/// A directory that ends with the test.
struct Directory(std::path::PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rialto-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The container's entry point with this directory as its `/config`.
fn container(directory: &Directory) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rialto"));
    command
        .arg("container")
        .env("CONFIG_DIR", directory.0.join("config"))
        .env("RUN_DIR", directory.0.join("run"))
        .env_remove("RUST_LOG")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[test]
fn the_container_starts_with_custom_files_on_top_and_ends_as_the_bridge_does() {
    let directory = Directory::new("container");
    std::fs::create_dir(directory.0.join("config")).unwrap();
    std::fs::write(directory.0.join("config/custom-jvb.conf"), HERE).unwrap();
    let old = "org.jitsi.videobridge.STATISTICS_INTERVAL=3000\n";
    std::fs::write(directory.0.join("config/custom-sip-communicator.properties"), old).unwrap();
    let mut child = container(&directory)
        .env("JVB_AUTH_PASSWORD", "s3cr3t")
        .env("VIDEOBRIDGE_MAX_MEMORY", "3072m")
        .env("RIALTO_SIGTERM_DRAIN", "90 seconds")
        .env("DOCKER_HOST_ADDRESS", "203.0.113.20")
        .env("LOCAL_ADDRESS", "127.0.0.1")
        .env("XMPP_SERVER", "127.0.0.1")
        .env("XMPP_PORT", "1")
        .env("JVB_LOG_FILE", directory.0.join("jvb.log"))
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut run = Serving { child, stdout };
    let (address, log) = serves_at(&mut run);
    assert!(log.contains("VIDEOBRIDGE_MAX_MEMORY has no effect: there is no JVM"), "{log}");
    assert!(log.contains("DOCKER_HOST_ADDRESS is deprecated"), "{log}");
    assert!(log.contains("stop_grace_period"), "{log}");
    assert_eq!(get(&address, "/about/health").0, "HTTP/1.1 200 OK");
    let healthy = rialto(&["health", &address]);
    assert!(healthy.status.success() && healthy.stderr.is_empty(), "{}", text(&healthy.stderr));
    let rendered = directory.0.join("run/config/jvb.conf");
    let output = rialto(&["check-config", rendered.to_str().unwrap()]);
    let shown = text(&output.stdout);
    assert!(shown.contains("[127.0.0.1 -> 203.0.113.20 (ip-0)]"), "{shown}");
    assert!(shown.contains("rialto.sigterm-drain = 90 s "), "{shown}");
    let interval =
        shown.lines().find(|line| line.starts_with("videobridge.stats.interval")).unwrap();
    assert!(interval.contains("3 s") && interval.contains("sip-communicator.properties:1"));
    // Passwords are in it.
    let mode = std::os::unix::fs::PermissionsExt::mode(&rendered.metadata().unwrap().permissions());
    assert_eq!(mode & 0o077, 0);
    assert_eq!(run.end("TERM").0, Some(143));
    let written = std::fs::read_to_string(directory.0.join("jvb.log")).unwrap();
    assert!(written.contains("serving"), "{written}");
    one_line(&rialto(&["health", &address]), 1, &[&address, "Connection refused"]);
}

#[test]
fn the_container_without_a_password_is_one_line_and_78() {
    let directory = Directory::new("no-password");
    let output = container(&directory).env_remove("JVB_AUTH_PASSWORD").output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("JVB_AUTH_PASSWORD must be set"), "{stderr}");
}

/// The container's configuration, printed.
fn render() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rialto"));
    command.args(["container", "--print"]);
    command
}

#[test]
fn the_container_renders_what_each_variable_says() {
    let all = "JVB_AUTH_PASSWORD=x LOCAL_ADDRESS=172.18.0.5";
    for (variables, lines) in [
        (
            "",
            &[
                "configs.shard0.HOSTNAME = xmpp.meet.jitsi ",
                "http-servers.private.port = 8080 ",
                "stun.addresses = [meet-jit-si-turnrelay.jitsi.net:443]",
                "aws.enabled = false ",
                "websockets.enabled = false ",
                "configs.shard0.DISABLE_CERTIFICATE_VERIFICATION = true ",
            ][..],
        ),
        (
            "JVB_DISABLE_STUN=1 DISABLE_AWS_HARVESTER=false",
            &["stun.addresses = [] ", "aws.enabled = true "],
        ),
        (
            "JVB_PORT=443 JVB_ADVERTISE_PRIVATE_CANDIDATES=0",
            &["udp.port = 443 ", "advertise-private-candidates = false "],
        ),
        (
            "XMPP_SERVER=[::1]:5223,[::2],2001:db8::3,four",
            &[
                "shard0.HOSTNAME = ::1 ",
                "shard0.PORT = 5223 ",
                "shard1.HOSTNAME = ::2 ",
                "shard1.PORT = 5222 ",
                "shard2.HOSTNAME = 2001:db8::3 ",
                "shard2.PORT = 5222 ",
                "shard3.HOSTNAME = four ",
            ],
        ),
        (
            "ENABLE_JVB_XMPP_SERVER=1 JVB_XMPP_SERVER=one,two:7 XMPP_SERVER=no",
            &[
                "shard0.HOSTNAME = one ",
                "shard0.PORT = 6222 ",
                "shard1.HOSTNAME = two ",
                "shard1.PORT = 7 ",
                "shard0.DOMAIN = auth.jvb.meet.jitsi ",
                "shard0.MUC_JIDS = jvbbrewery@muc.jvb.meet.jitsi ",
            ],
        ),
        (
            "JVB_XMPP_SERVER=no JVB_AUTH_USER=me JVB_BREWERY_MUC=pool JVB_MUC_NICKNAME=nick",
            &[
                "shard0.HOSTNAME = xmpp.meet.jitsi ",
                "shard0.USERNAME = me ",
                "shard0.MUC_NICKNAME = nick ",
                "shard0.MUC_JIDS = pool@internal-muc.meet.jitsi ",
            ],
        ),
        ("JVB_INSTANCE_ID=jvb-7", &["shard0.MUC_NICKNAME = jvb-7 "]),
        (
            "SHUTDOWN_REST_ENABLED=true COLIBRI_REST_ENABLED=true JVB_DISABLE_XMPP=1",
            &["rest.shutdown.enabled = true ", "apis.rest.enabled = true "],
        ),
        (
            "JVB_ADVERTISE_IPS=203.0.113.1,203.0.113.2#20000",
            &["[172.18.0.5 -> 203.0.113.1 (ip-0), \
            172.18.0.5 port 10000 -> 203.0.113.2 port 20000 (ip-1)]"],
        ),
        (
            "PUBLIC_URL=https://meet.example.com:8443/",
            &[
                "websockets.domains = [meet.example.com:8443] ",
                "http-servers.public.port = 9090 ",
                "websockets.tls = true ",
                "server-id = 172.18.0.5 ",
            ],
        ),
        ("PUBLIC_URL=https://x/ ENABLE_COLIBRI_WEBSOCKET=0", &["websockets.enabled = false "]),
        (
            "JVB_WS_DOMAIN=ws.example.com JVB_WS_SERVER_ID=one JVB_WS_TLS=0",
            &["domains = [ws.example.com] ", "server-id = one ", "websockets.tls = false "],
        ),
        (
            "ENABLE_OCTO=1 JVB_OCTO_REGION=eu JVB_OCTO_RELAY_ID=r1",
            &["videobridge.relay.region = eu "],
        ),
    ] {
        let pairs =
            all.split(' ').chain(variables.split(' ')).filter_map(|pair| pair.split_once('='));
        let output = render().envs(pairs).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let file = File::new("variables.conf", &text(&output.stdout));
        let output = rialto(&["check-config", file.path()]);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success() && !stderr.contains("unknown"), "{variables}: {stderr}");
        for line in lines {
            assert!(stdout.contains(line), "{variables}: {line} is not in {stdout}");
        }
    }
}

#[test]
fn the_container_renders_the_variables_of_the_image_that_it_replaces() {
    let rendered = render()
        .env("LOCAL_ADDRESS", "172.18.0.5")
        .env("XMPP_SERVER", "xmpp.one,xmpp.two:5223")
        .env("JVB_AUTH_PASSWORD", "a\"b\\c $x")
        .env("JVB_ADVERTISE_IPS", "203.0.113.20,203.0.113.21#4443")
        .env("JVB_STUN_SERVERS", "stun.example.com:443")
        .env("COLIBRI_REST_ENABLED", "1")
        .env("PUBLIC_URL", "https://meet.example.com/")
        .output()
        .unwrap();
    assert!(rendered.status.success(), "{}", text(&rendered.stderr));
    let file = File::new("rendered.conf", &text(&rendered.stdout));
    let output = rialto(&["check-config", file.path()]);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    for line in [
        "static-mappings = [172.18.0.5 -> 203.0.113.20 (ip-0), 172.18.0.5 port 10000 -> 203.0.113.21 port 4443 (ip-1)]",
        "configs.shard0.HOSTNAME = xmpp.one ",
        "configs.shard1.PORT = 5223 ",
        "configs.shard0.PASSWORD = (hidden) ",
        "stun.addresses = [stun.example.com:443]",
        "videobridge.apis.rest.enabled = true ",
    ] {
        assert!(stdout.contains(line), "{line} is not in {stdout}");
    }
    assert!(!stderr.contains("unknown key"), "{stderr}");
}

#[test]
fn run_refuses_a_bad_file() {
    one_line(&rialto(&["run", "--config", "/nonexistent.conf"]), 78, &["/nonexistent.conf"]);
    let file = File::new("bad-run.conf", "videobridge.ice.udp.port = x");
    one_line(&rialto(&["run", "--config", file.path()]), 78, &["bad-run.conf:1"]);
}
