//! `rialto top` against bridges that run, and against none.

use std::{
    ffi::OsStr,
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::ffi::OsStrExt as _,
    process::{Child, ChildStdout, Command, Output, Stdio},
    thread,
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use serde_json::{Value, json};

const TOKEN: &str = "a-token-of-this-test";

/// A process that ends with this value.
struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    fn start(args: &[&str], token: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rialto"))
            .args(args)
            .env("RIALTO_HTTP_TOKEN", token)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.lines.read_line(&mut line).unwrap() > 0, "it ended");
        line
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `rialto dev`, and its address.
fn dev(token: &str) -> (Running, String) {
    let mut dev =
        Running::start(&["dev", "--port", "0", "--udp-port", "0", "--shards", "2"], token);
    let url = dev.line().trim_end().trim_end_matches('/').to_owned();
    (dev, url)
}

fn top(args: &[&str], token: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rialto"))
        .arg("top")
        .args(args)
        .env("RIALTO_HTTP_TOKEN", token)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// One line on stderr with these parts, nothing on stdout, exit code 1.
fn fails(output: &Output, parts: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("rialto: http://") && said.lines().count() == 1, "{said}");
    for part in parts {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(output.stdout.is_empty());
}

/// Creates a conference of `alice`, who has a video, and `bob`, over COLIBRI2.
fn create(url: &str, meeting: &str, name: &str) {
    let video = json!([{ "type": "video", "id": "alice-v0", "sources": [7] }]);
    for (id, sources) in [("alice", video), ("bob", json!([]))] {
        let first = id == "alice";
        let body = json!({
            "meeting-id": meeting, "name": name, "create": first,
            "endpoints": [{
                "id": id,
                "create": true,
                "medias": [{ "type": "video", "payload-types": [{ "id": 100, "name": "VP8" }] }],
                "transport": { "ice-controlling": true },
                "capabilities": ["source-names"],
                "sources": sources,
                // Of the first one's video it gets nothing.
                "initial-last-n": { "value": 0 },
            }],
        });
        let (method, path) =
            if first { ("POST", String::new()) } else { ("PATCH", format!("/{meeting}")) };
        ask(url, &format!("{method} /colibri/v2/conferences{path}"), &body);
    }
}

fn ask(url: &str, request: &str, body: &Value) {
    let (address, body) = (url.trim_start_matches("http://"), body.to_string());
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn one_table_says_how_the_bridge_is() {
    let (_dev, url) = dev("");
    let empty = top(&["--once", "--url", &url], "");
    let said = text(&empty.stdout);
    assert!(empty.status.success(), "{}", text(&empty.stderr));
    for part in
        [concat!("rialto ", env!("CARGO_PKG_VERSION"), "  healthy"), "SHARD", "no conferences"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains('\x1b'), "no terminal, no escapes: {said:?}");

    create(&url, "m1", "standup@conference.example.com");
    create(&url, "m2", "retro@conference.example.com");
    for wanted in ["m2", "retro@conference.example.com"] {
        let one = top(&["--once", "--url", &url, "--conference", wanted], "");
        let said = text(&one.stdout);
        for part in ["> retro@conference.example.com", "  standup@", "alice", "bob"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        // What bob could get, what it is sent of it, and why that is no more.
        let (_, bobs) = said.split_once("\nbob").unwrap();
        let video = bobs.lines().find(|line| line.starts_with("  alice-v0")).unwrap();
        assert!(video.contains("nothing") && video.contains("last-N"), "{said}");
    }
    fails(&top(&["--once", "--url", &url, "--conference", "m3"], ""), &["no conference 'm3'"]);
}

#[test]
fn a_bridge_with_a_token_is_asked_with_it() {
    let (_dev, url) = dev(TOKEN);
    assert!(text(&top(&["--once", "--url", &url], TOKEN).stdout).contains("healthy"));
    fails(&top(&["--once", "--url", &url], ""), &["asks for a token", "RIALTO_HTTP_TOKEN"]);
    fails(&top(&["--once", "--url", &url], "guess"), &["does not take the token"]);
    fails(&top(&["--once", "--url", &url], "two\nlines"), &["RIALTO_HTTP_TOKEN has characters"]);
}

#[test]
fn it_goes_on_until_the_bridge_ends() {
    let (dev, url) = dev("");
    let mut top = Running::start(&["top", "--url", &url], "");
    let mut tables = 0;
    while tables < 2 {
        tables += usize::from(top.line().starts_with("rialto "));
    }
    drop(dev);
    let mut rest = String::new();
    top.lines.read_to_string(&mut rest).unwrap();
    let mut said = String::new();
    top.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(top.child.wait().unwrap().code(), Some(1), "{said}");
    assert!(said.contains("cannot be reached") && said.lines().count() == 1, "{said}");
}

#[test]
fn no_bridge_is_one_line() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    for args in [&["--once", "--url", &url][..], &["--url", &url]] {
        fails(&top(args, ""), &[&url, "cannot be reached", "refused"]);
    }
    let wrong = top(&["--once", "--url", "127.0.0.1:8080"], "");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("http://127.0.0.1:8080"), "{}", text(&wrong.stderr));
}

/// The reading end of a terminal of this size, and a place to write for who runs in it.
fn terminal(columns: u16, rows: u16) -> (File, File) {
    let reads = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&reads).unwrap();
    unlockpt(&reads).unwrap();
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&reads, size).unwrap();
    let path = ptsname(&reads, Vec::new()).unwrap();
    let writes = File::options().write(true).open(OsStr::from_bytes(path.to_bytes())).unwrap();
    (reads.into(), writes)
}

/// Each table is drawn over the one before, and what is left of that is erased.
const END: &str = "\x1b[K\x1b[J";

#[test]
fn a_terminal_shows_as_much_as_it_has_room_for() {
    let (_dev, url) = dev("");
    create(&url, "m1", "standup@conference.example.com");
    let (columns, rows) = (30, 6);
    let (mut reads, writes) = terminal(columns, rows);
    let mut top = Command::new(env!("CARGO_BIN_EXE_rialto"))
        .args(["top", "--url", &url])
        .stdout(writes)
        .spawn()
        .unwrap();
    let mut said = String::new();
    while said.matches(END).count() < 2 {
        let mut bytes = [0; 4096];
        let len = reads.read(&mut bytes).unwrap();
        said.push_str(&String::from_utf8_lossy(&bytes[..len]));
    }
    top.kill().unwrap();
    top.wait().unwrap();
    let tables: Vec<&str> = said.split(END).collect();
    assert!(tables[0].starts_with("\x1b[2J\x1b[Hrialto "), "{said:?}");
    let second = tables[1].strip_prefix("\x1b[H").unwrap_or_else(|| panic!("{said:?}"));
    let lines: Vec<&str> = second.split("\r\n").collect();
    assert_eq!(lines.len(), usize::from(rows), "{said:?}");
    for line in lines {
        let line = line.trim_end_matches("\x1b[K");
        assert!(line.chars().count() <= usize::from(columns), "{line:?}");
    }
}

/// Answers one request with this, whatever it asks.
fn somebody(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(answer.as_bytes());
    });
    url
}

#[test]
fn somebody_else_is_told_from_a_bridge() {
    for (answer, part) in [
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "no status page"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "is not understood"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n{}", "cannot be reached"),
        (
            "HTTP/1.1 503 Busy\r\ncontent-length: 8\r\n\r\n\x1b[2Jgone",
            "503 Service Unavailable: \u{fffd}[2Jgone",
        ),
        ("SSH-2.0-OpenSSH_9.2\r\n", "cannot be reached"),
        ("", "cannot be reached"),
    ] {
        fails(&top(&["--once", "--url", &somebody(answer)], ""), &[part]);
    }
}
