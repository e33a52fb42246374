//! The process under a service manager: what it tells it, and how it ends.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::net::UnixDatagram,
    process::{Child, ChildStderr, Command, Stdio},
    time::Duration,
};

/// Longer than any machine takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A bridge with a manager, which ends with the test.
struct Service {
    child: Child,
    manager: UnixDatagram,
    log: BufReader<ChildStderr>,
    files: [std::path::PathBuf; 2],
}

impl Service {
    fn start(name: &str, more: &str) -> Self {
        let file = |kind| {
            std::env::temp_dir().join(format!("rialto-{name}-{}.{kind}", std::process::id()))
        };
        let files = [file("conf"), file("socket")];
        let text = format!(
            "videobridge.ice.udp.port = 0\nvideobridge.http-servers.private.port = 0\n\
             videobridge.apis.rest.enabled = true\nrialto.shards = 1\n{more}\n"
        );
        std::fs::write(&files[0], text).unwrap();
        let manager = UnixDatagram::bind(&files[1]).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_rialto"))
            .args(["run", "--config", files[0].to_str().unwrap()])
            .env_remove("RUST_LOG")
            .env("NOTIFY_SOCKET", &files[1])
            .env("WATCHDOG_USEC", "20000")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, manager, log, files }
    }

    /// The next thing that the manager is told, but for signs of life.
    fn told(&self) -> String {
        loop {
            let mut buf = [0; 256];
            let len = self.manager.recv(&mut buf).expect("something in time");
            let state = String::from_utf8_lossy(&buf[..len]).into_owned();
            if state != "WATCHDOG=1" {
                return state;
            }
        }
    }

    /// Reads the log up to a line with `part`, and gives that line.
    fn logs(&mut self, part: &str) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            assert!(self.log.read_line(&mut line).unwrap() > 0, "no {part} in {all}");
            if line.contains(part) {
                return line;
            }
            all.push_str(&line);
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.files.iter().for_each(|file| drop(std::fs::remove_file(file)));
    }
}

#[test]
fn the_manager_hears_of_the_start_of_life_and_of_the_end() {
    let mut service = Service::start("life", "");
    assert_eq!(service.told(), "READY=1");
    // It lives on: signs of life come without being asked for.
    for _ in 0..3 {
        let mut buf = [0; 64];
        let len = service.manager.recv(&mut buf).unwrap();
        assert_eq!(&buf[..len], b"WATCHDOG=1");
    }
    service.signal("TERM");
    assert_eq!(service.told(), "STOPPING=1\nSTATUS=SIGTERM");
    assert_eq!(service.child.wait().unwrap().code(), Some(143));
}

#[test]
fn sigterm_may_wait_for_conferences_and_the_next_signal_does_not() {
    let mut service = Service::start("drain", "rialto.sigterm-drain = 1 hour");
    let serving = service.logs("serving");
    let (_, rest) = serving.split_once("http=Some(").unwrap_or_else(|| panic!("{serving}"));
    let address = rest.split(')').next().unwrap().to_owned();
    let created = post(&address, &create("one"));
    assert!(created.starts_with("HTTP/1.1 200 "), "{created}");
    assert_eq!(service.told(), "READY=1");
    service.signal("TERM");
    service.logs("waiting for conferences to end");
    // Or the manager would end it after its own time.
    assert_eq!(service.told(), "STOPPING=1\nSTATUS=SIGTERM");
    assert_eq!(service.told(), "EXTEND_TIMEOUT_USEC=30000000");
    // Existing conferences go on, and new ones are refused.
    let refused = post(&address, &create("another"));
    assert!(refused.contains("graceful shutdown"), "{refused}");
    service.signal("INT");
    service.logs("stopping at once");
    assert_eq!(service.child.wait().unwrap().code(), Some(143));
}

#[test]
fn sigterm_does_not_wait_for_nobody() {
    let mut service = Service::start("empty", "rialto.sigterm-drain = 1 hour");
    assert_eq!(service.told(), "READY=1");
    service.signal("TERM");
    service.logs("stopping: there are no conferences");
    assert_eq!(service.child.wait().unwrap().code(), Some(143));
}

#[test]
fn a_drain_that_is_over_tells_how_many_are_left() {
    let mut service = Service::start("over", "rialto.sigterm-drain = 10 ms");
    let serving = service.logs("serving");
    let (_, rest) = serving.split_once("http=Some(").unwrap_or_else(|| panic!("{serving}"));
    let address = rest.split(')').next().unwrap().to_owned();
    assert!(post(&address, &create("one")).starts_with("HTTP/1.1 200 "));
    assert_eq!(service.told(), "READY=1");
    service.signal("TERM");
    let over = service.logs("the time of rialto.sigterm-drain is over");
    assert!(over.contains("conferences=1"), "{over}");
    assert_eq!(service.child.wait().unwrap().code(), Some(143));
}

#[test]
fn a_graceful_shutdown_waits_for_the_conference_and_ends_the_process() {
    let more = "videobridge.rest.shutdown.enabled = true\n\
        videobridge.shutdown.shutting-down-delay = 10 ms";
    let mut service = Service::start("shutdown", more);
    let serving = service.logs("serving");
    let (_, rest) = serving.split_once("http=Some(").unwrap_or_else(|| panic!("{serving}"));
    let address = rest.split(')').next().unwrap().to_owned();
    assert!(post(&address, &create("one")).starts_with("HTTP/1.1 200 "));
    assert_eq!(service.told(), "READY=1");

    let stats = || ask(&address, "GET", "/colibri/stats", "");
    assert!(ask(&address, "POST", "/colibri/drain/enable", "").starts_with("HTTP/1.1 200 "));
    assert!(ask(&address, "GET", "/colibri/drain", "").contains("{\"drain\":true}"));
    assert!(stats().contains("\"drain\":true"), "{}", stats());

    // Who does not say how, does not end it.
    assert!(ask(&address, "POST", "/colibri/shutdown", "{}").starts_with("HTTP/1.1 400 "));
    let graceful = r#"{"graceful-shutdown":"true"}"#;
    assert!(ask(&address, "POST", "/colibri/shutdown", graceful).starts_with("HTTP/1.1 200 "));
    let waits = stats();
    assert!(waits.contains("\"graceful_shutdown\":true"), "{waits}");
    assert!(waits.contains("\"shutting_down\":false"), "{waits}");
    assert!(post(&address, &create("another")).contains("graceful shutdown"));
    assert!(service.child.try_wait().unwrap().is_none(), "somebody is still there");

    let gone = ask(&address, "PATCH", "/colibri/v2/conferences/one", r#"{"expire":true}"#);
    assert!(gone.starts_with("HTTP/1.1 200 "), "{gone}");
    assert_eq!(service.told(), "STOPPING=1\nSTATUS=shut down");
    assert_eq!(service.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_capture_is_a_file_that_only_its_owner_reads() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = std::env::temp_dir().join(format!("rialto-captures-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let more = format!("jmt.debug.pcap {{ enabled = true, directory = \"{}\" }}", folder.display());
    let mut service = Service::start("capture", &more);
    let serving = service.logs("serving");
    let (_, rest) = serving.split_once("http=Some(").unwrap_or_else(|| panic!("{serving}"));
    let address = rest.split(')').next().unwrap().to_owned();
    assert!(post(&address, &create("one")).starts_with("HTTP/1.1 200 "));
    let debug = ask(&address, "GET", "/debug", "");
    let (_, rest) = debug.split_once("\"conferences\":{\"").unwrap();
    let path = format!("/debug/features/endpoint/{}/abcd0001/pcap-dump", &rest[..16]);
    let post = |enabled| ask(&address, "POST", &format!("{path}/{enabled}"), "");
    let is_on = || ask(&address, "GET", &path, "").ends_with("true");
    assert!(!is_on());
    for _ in 0..2 {
        assert!(post("true").starts_with("HTTP/1.1 200 "));
        assert!(is_on());
    }
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(Result::unwrap).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(files[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(&std::fs::read(files[0].path()).unwrap()[..4], [0xd4, 0xc3, 0xb2, 0xa1]);
    assert!(post("false").starts_with("HTTP/1.1 200 "));
    assert!(!is_on());
    std::fs::remove_dir_all(folder).unwrap();
}

/// A conference with somebody in it.
fn create(meeting: &str) -> String {
    format!(
        r#"{{"meeting-id":"{meeting}","name":"{meeting}@conference.example.org","create":true,"endpoints":[
            {{"id":"abcd0001","create":true,"capabilities":["source-names"],"transport":{{}},"medias":[]}}]}}"#
    )
}

/// The whole answer to a request for a conference.
fn post(address: &str, body: &str) -> String {
    ask(address, "POST", "/colibri/v2/conferences", body)
}

/// The whole answer.
fn ask(address: &str, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
