//! What the system limits, and clients that take without giving.

use std::{
    ffi::OsStr,
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    process::{Command, Stdio},
};

use crate::{daemon::Daemon, prosody::PATIENCE};

fn connect(daemon: &Daemon) -> TcpStream {
    let stream = TcpStream::connect(daemon.http()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Asks over a connection that stays; the status.
fn ask(stream: &mut TcpStream, path: &str) -> u16 {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn without_files_left_the_bridge_waits_for_some() {
    let mut daemon = Daemon::start("");
    let mut before = connect(&daemon);
    assert_eq!(ask(&mut before, "/about/health"), 200);
    let (_, files, _) = daemon.system();
    let (pid, limit) = (daemon.child().id().to_string(), format!("--nofile={}", files + 4));
    assert!(Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success());
    let crowd: Vec<TcpStream> = (0..64).map(|_| connect(&daemon)).collect();
    daemon.log().wait(1, &["cannot accept an HTTP connection", "Too many open files"]);
    // Who is in is served: nothing that the bridge is for needs a file.
    for _ in 0..100 {
        assert_eq!(ask(&mut before, "/about/health"), 200);
    }
    drop(crowd);
    daemon.is_well();
    assert_eq!(daemon.log().with(&["cannot accept"]).len(), 1, "not once for each attempt");
}

/// The status of the health of a bridge whose places are all taken by clients who did this.
fn health_beside(daemon: &Daemon, count: usize, begin: &[u8]) -> (u16, usize) {
    let mut crowd = Vec::new();
    for _ in 0..count {
        let mut stream = connect(daemon);
        let _ = stream.write_all(begin);
        crowd.push(stream);
    }
    let status = daemon.get("/about/health").0;
    // Who gave way was closed without an answer: nobody waited until it was too late for one.
    let gave_way = crowd.iter_mut().filter_map(|stream| {
        stream.set_nonblocking(true).unwrap();
        let mut sink = vec![0; 1 << 16];
        loop {
            match stream.read(&mut sink) {
                Ok(1..) => {}
                Ok(0) => return Some(()),
                Err(error) => return (error.kind() != ErrorKind::WouldBlock).then_some(()),
            }
        }
    });
    (status, gave_way.count())
}

const SLOW_BODY: &[u8] = b"POST /colibri/v2/conferences HTTP/1.1\r\nHost: localhost\r\n\
    Content-Length: 1000\r\n\r\n{";

#[test]
fn slow_bodies_hide_nothing() {
    let daemon = Daemon::start("");
    let (status, gave_way) = health_beside(&daemon, 1100, SLOW_BODY);
    assert_eq!(status, 200);
    assert!(gave_way > 0, "they have requests that are not whole");
}

#[test]
fn clients_that_take_no_answer_hide_nothing() {
    let daemon = limited("ulimit -n 256");
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
    let (status, gave_way) = health_beside(&daemon, 60, &request);
    assert_eq!(status, 200);
    assert!(gave_way > 0, "their answers are in the way of nobody");
}

/// A bridge that a shell has limited.
fn limited(limit: &str) -> Daemon {
    Daemon::start_with("", |command| {
        let rialto = command.get_program().to_owned();
        let args: Vec<_> = command.get_args().map(OsStr::to_owned).collect();
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{limit} && exec \"$0\" \"$@\"")]).arg(rialto).args(args);
        shell.env("RUST_LOG", "info").stdin(Stdio::null());
        shell.stdout(Stdio::piped()).stderr(Stdio::piped());
        *command = shell;
    })
}

/// A shell's default, hard: the limit cannot be raised.
#[test]
fn few_files_are_shared_so_that_health_has_some() {
    let daemon = limited("ulimit -n 256");
    daemon.log().wait(1, &["few files and sockets may be open", "256"]);
    for begin in [b"".as_slice(), b"GET / HTTP/1.1\r\n", SLOW_BODY] {
        let (status, gave_way) = health_beside(&daemon, 300, begin);
        assert_eq!(status, 200);
        assert!(gave_way > 0);
    }
    assert!(daemon.log().with(&["cannot accept"]).is_empty(), "there was always a file left");
}

#[test]
fn the_limit_of_files_is_raised_and_told() {
    let daemon = limited("ulimit -Sn 200");
    daemon.log().wait(1, &["limit of open files raised", "before=200"]);
}

#[test]
fn slow_requests_cost_little_and_end() {
    let mut daemon = Daemon::start("");
    let (_, files, resident) = daemon.system();
    // More than there are places for: who has waited longest may be closed already.
    let mut crowd: Vec<TcpStream> = (0..1100).map(|_| connect(&daemon)).collect();
    for stream in &mut crowd {
        let _ = stream.write_all(b"GET /about/health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
    }
    // Others are served meanwhile, and a head that does not end is closed.
    assert_eq!(daemon.get("/about/health").0, 200);
    let (_, _, with_crowd) = daemon.system();
    assert!(with_crowd.saturating_sub(resident) < 64 << 10, "{with_crowd} kB");
    let mut endless = connect(&daemon);
    endless.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let line = format!("X-A: {}\r\n", "a".repeat(1000));
    let mut sent = 0;
    while sent < 10_000 && endless.write_all(line.as_bytes()).is_ok() {
        sent += 1;
    }
    assert!(sent < 10_000, "a head without end is taken");
    let mut body = connect(&daemon);
    body.write_all(
        b"POST /colibri/v2/conferences HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n{",
    )
    .unwrap();
    let mut refused = [0; 12];
    body.read_exact(&mut refused).unwrap();
    assert_eq!(&refused, b"HTTP/1.1 503", "what does not come in time is not waited for");
    // All of them end by themselves.
    for stream in &mut crowd {
        let _ = stream.read(&mut [0; 512]);
    }
    drop((crowd, endless, body));
    let start = std::time::Instant::now();
    while daemon.system().1 > files {
        assert!(start.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    daemon.is_well();
}

#[test]
fn refused_requests_neither_forge_nor_flood_the_log() {
    let mut daemon = Daemon::start("");
    let refused = |meeting: &str| {
        let body = format!(r#"{{"meeting-id":"{meeting}","create":true}}"#);
        assert_eq!(daemon.post("/colibri/v2/conferences", &body).0, 400);
    };
    refused(r"m\n2026 ERROR forged\u001b[2J");
    refused(&"long".repeat(100_000));
    let line = daemon.log().wait(2, &["request refused"]);
    assert!(line.len() < 10_000 && line.ends_with('…'), "{}", line.len());
    let line = daemon.log().wait(1, &["request refused"]);
    assert!(line.contains(r"meeting=m\n2026 ERROR forged\x1b[2J "), "{line}");
    for n in 0..500 {
        refused(&format!(r"m\n{n}"));
    }
    daemon.is_well();
    let lines = daemon.log().with(&["request refused"]).len();
    assert!(lines < 400, "{lines} lines of 502 refusals");
}
