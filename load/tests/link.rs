//! `rialto-link` itself, in a namespace of its own. It needs root; without, the tests say that they are
//! skipped, and why.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use rialto_load::link::host::HostError;
use rustix::{
    process::{Pid, Signal, geteuid, kill_process},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use serde_json::Value;

/// How long a condition may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether the tests can run here. CI is root: there, nothing is skipped.
fn possible() -> bool {
    let possible = geteuid().is_root() && Path::new("/dev/net/tun").exists();
    if !possible {
        println!("SKIPPED: a network namespace with TUN devices needs root and /dev/net/tun");
    }
    possible
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rialto-link"));
    command.stdin(Stdio::null());
    command
}

/// A link without a command.
struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
    name: String,
    inside: Ipv4Addr,
    host: Ipv4Addr,
}

impl Running {
    fn start(words: &[&str]) -> Self {
        let mut command = program();
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("rialto-link starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let ready = next(&mut lines);
        let address = |key: &str| ready[key].as_str().expect(key).parse().expect("an address");
        let (host, inside) = (address("host"), address("inside"));
        let name = ready["namespace"].as_str().expect("a name").to_owned();
        Self { child, lines, name, inside, host }
    }

    /// The next line of a direction.
    fn line(&mut self, direction: &str) -> Value {
        loop {
            let line = next(&mut self.lines);
            if line["direction"] == direction {
                return line;
            }
        }
    }

    /// A socket in the namespace. A socket stays where it was made.
    fn socket(&self) -> UdpSocket {
        let path = namespace(&self.name);
        let made = thread::spawn(move || {
            let file = File::open(path).expect("the namespace");
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(file.as_fd(), kind).expect("into the namespace");
            UdpSocket::bind("0.0.0.0:0").expect("a socket in it")
        });
        let socket = made.join().expect("the thread");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket
    }

    fn signal(&mut self, signal: Signal) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), signal).expect("a signal");
        self.child.wait().expect("an end").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::TERM);
        }
    }
}

fn next(lines: &mut impl std::io::BufRead) -> Value {
    let mut line = String::new();
    lines.read_line(&mut line).expect("a line");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
}

fn namespace(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

fn packets(line: &Value, key: &str) -> u64 {
    line[key]["packets"].as_u64().expect(key)
}

/// What a namespace says of itself.
fn run(words: &[&str]) -> Output {
    program().args(words).output().expect("rialto-link runs")
}

/// Every packet that was sent is delivered, dropped or lost, and the delivered ones arrive.
#[test]
fn datagrams_pass_and_are_counted() {
    if !possible() {
        return;
    }
    // 20 datagrams wait at the most: 128 bytes with headers at 102,400 bit/s are 10 ms each.
    let link = "down.rate=102400 down.queue=200ms delay=20ms up.loss=100%";
    let mut running = Running::start(&["--link", link]);
    let inside = running.socket();
    let outside = UdpSocket::bind((running.host, 0)).expect("a socket");
    let to = (running.inside, inside.local_addr().expect("an address").port());
    let sent = 200u64;
    for number in 0..sent {
        let mut datagram = [0; 100];
        datagram[..8].copy_from_slice(&number.to_be_bytes());
        outside.send_to(&datagram, to).expect("a datagram");
    }
    inside.send_to(&[0; 100], outside.local_addr().expect("an address")).expect("a datagram");
    let (mut offered, mut delivered, mut dropped, mut lost) = (0, 0, 0, 0);
    let start = Instant::now();
    while offered < sent || offered > delivered + dropped + lost {
        let line = running.line("down");
        assert_eq!(line["rate"], 102_400);
        offered += packets(&line, "offered");
        delivered += packets(&line, "delivered");
        dropped += packets(&line, "queue_dropped");
        lost += packets(&line, "lost");
        assert!(start.elapsed() < PATIENCE, "{offered} {delivered} {dropped} {lost}");
    }
    assert_eq!((offered, lost), (sent, 0));
    assert!(delivered >= 21 && dropped > 0, "{delivered} delivered, {dropped} dropped");
    let mut last = None;
    for _ in 0..delivered {
        let mut datagram = [0; 100];
        let (length, _) = inside.recv_from(&mut datagram).expect("a datagram");
        assert_eq!(length, 100);
        let number = Some(u64::from_be_bytes(datagram[..8].try_into().expect("8 bytes")));
        assert!(number > last, "{number:?} after {last:?}");
        last = number;
    }
    outside.set_nonblocking(true).expect("no blocking");
    assert!(outside.recv(&mut [0; 100]).is_err(), "the way out loses everything");
    assert_eq!(running.signal(Signal::TERM), Some(0));
    assert!(!namespace(&running.name).exists(), "nothing is left");
}

/// What standard input and the schedule say changes the link while it runs.
#[test]
fn the_link_changes_while_it_runs() {
    if !possible() {
        return;
    }
    let words = ["--control", "--link", "rate=1M", "--schedule", "100ms rate=2M", "--interval"];
    let mut running = Running::start(&[&words[..], &["50ms"]].concat());
    let until = |running: &mut Running, direction: &str, rate: Value| {
        let start = Instant::now();
        while running.line(direction)["rate"] != rate {
            assert!(start.elapsed() < PATIENCE, "never {rate}");
        }
    };
    until(&mut running, "up", 2_000_000.into());
    let mut stdin = running.child.stdin.take().expect("a pipe");
    writeln!(stdin, "up.rate=3M\nnonsense\ndown.rate=max").expect("a line");
    until(&mut running, "up", 3_000_000.into());
    until(&mut running, "down", Value::Null);
    assert_eq!(running.signal(Signal::INT), Some(0));
    assert!(!namespace(&running.name).exists(), "nothing is left");
}

/// A command runs behind the link, its status is the program's, and it and what it started are gone.
#[test]
fn a_command_runs_inside() {
    if !possible() {
        return;
    }
    let name = format!("rialto-test-{}", std::process::id());
    let inside = "ip -4 -o addr show scope global && ip route && \
                  (setsid sleep 1000 & exit 7)";
    let output = run(&[
        "--name",
        &name,
        "--network",
        "198.19.255.248",
        "--json",
        "/dev/null",
        "--",
        "sh",
        "-c",
        inside,
    ]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert!(said.contains("198.19.255.250/30"), "{said}");
    assert!(said.contains("default via 198.19.255.249"), "{said}");
    assert!(!namespace(&name).exists(), "nothing is left");
    let devices = Command::new("ip").args(["-4", "-o", "addr"]).output().expect("ip");
    let devices = String::from_utf8_lossy(&devices.stdout).into_owned();
    assert!(!devices.contains("198.19.255.249"), "{devices}");
}

/// SIGTERM reaches the command, and nothing stays.
#[test]
fn a_signal_ends_the_command_too() {
    if !possible() {
        return;
    }
    let name = format!("rialto-test-signal-{}", std::process::id());
    let script = "trap 'exit 3' TERM; echo running; while :; do sleep 0.1; done";
    let mut command = program();
    command.args(["--name", &name, "--json", "/dev/null", "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("rialto-link starts");
    let mut line = String::new();
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
    lines.read_line(&mut line).expect("a line");
    assert_eq!(line, "running\n");
    kill_process(Pid::from_child(&child), Signal::TERM).expect("a signal");
    assert_eq!(child.wait().expect("an end").code(), Some(3));
    assert!(!namespace(&name).exists(), "nothing is left");
}

/// Who killed a link before it could clean up finds nothing of it the next time.
#[test]
fn what_a_killed_link_left_is_removed() {
    if !possible() {
        return;
    }
    let mut killed = Running::start(&[]);
    killed.signal(Signal::KILL);
    assert!(namespace(&killed.name).exists());
    assert!(run(&["--json", "/dev/null", "--", "true"]).status.success());
    assert!(!namespace(&killed.name).exists());
}

/// What is wrong is one line.
#[test]
fn problems_are_one_line() {
    let usage = run(&["--name", "a/b"]);
    assert_eq!(usage.status.code(), Some(2));
    let said = String::from_utf8_lossy(&usage.stderr).into_owned();
    assert!(said.starts_with("rialto-link: --name") && said.lines().count() == 1, "{said}");
    for error in [HostError::NoTun, HostError::NoPermission, HostError::NoAddress] {
        assert_eq!(error.to_string().lines().count(), 1);
    }
    if !possible() {
        let output = run(&["--", "true"]);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.starts_with("rialto-link: ") && said.lines().count() == 1, "{said}");
        return;
    }
    let output = run(&["--json", "/dev/null", "--", "/no/such/program"]);
    assert_ne!(output.status.code(), Some(0));
    let output = run(&["--json", "/no/such/directory/file"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("/no/such/directory/file") && said.lines().count() == 1, "{said}");
}
