//! Whoever reads the log fails: the bridge does not.

use std::{
    fs::OpenOptions,
    io::pipe,
    process::{Command, Stdio},
};

use crate::{
    daemon::{Daemon, client_section},
    fake::{Peer, Server},
    prosody::free_port,
};

/// A bridge at a server that is the test; its log goes where `change` says.
fn start(change: impl FnOnce(&mut Command)) -> (Daemon, Server, Peer) {
    let (server, http) = (Server::new(), free_port());
    let conf = format!(
        "{}videobridge.http-servers.private.port = {http}\n",
        client_section("a", server.port(), "SECURITY_MODE = disabled")
    );
    let mut daemon = Daemon::launch(&conf, |command| {
        command.env("RUST_LOG", "debug,hyper=trace");
        change(command);
    });
    daemon.set_http(http);
    daemon.until_it_serves();
    let peer = server.client();
    (daemon, server, peer)
}

/// Everything that writes to the log goes on: HTTP, conferences, their tasks, XMPP and its reconnection.
fn works(daemon: &mut Daemon, server: &Server, mut peer: Peer) {
    for n in 0..100 {
        daemon.create(&format!("m{n}"), 2);
        peer.is_served(&n.to_string());
    }
    assert_eq!(daemon.get("/about/health").0, 200);
    drop(peer);
    let mut peer = server.client();
    peer.is_served("again");
    for n in 0..100 {
        daemon.expire(&format!("m{n}"));
    }
    daemon.until("jitsi_jvb_conferences", |n| n == 0.0);
    daemon.is_well();
    daemon.signal("TERM");
    assert_eq!(daemon.child().wait().unwrap().code(), Some(143));
}

#[test]
fn a_full_disk() {
    let full = || Stdio::from(OpenOptions::new().write(true).open("/dev/full").unwrap());
    let (mut daemon, server, peer) = start(|command| {
        command.stdout(full()).stderr(full());
    });
    works(&mut daemon, &server, peer);
}

#[test]
fn a_reader_that_is_gone() {
    let (mut daemon, server, peer) = start(|command| {
        let (_, out) = pipe().unwrap();
        let (_, err) = pipe().unwrap();
        command.stdout(out).stderr(err);
    });
    works(&mut daemon, &server, peer);
}

#[test]
fn a_reader_that_is_stuck() {
    let (reader, writer) = pipe().unwrap();
    let (mut daemon, server, peer) = start(|command| {
        command.stdout(Stdio::null()).stderr(writer);
    });
    // More than the pipe takes is logged in the first of these.
    works(&mut daemon, &server, peer);
    drop(reader);
}

/// A line that nobody reads does not change what the exit code says.
#[test]
fn what_nobody_reads_fails_with_its_own_code() {
    let full = || Stdio::from(OpenOptions::new().write(true).open("/dev/full").unwrap());
    let code = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rialto"));
        command.args(args).stdout(full()).stderr(full()).status().unwrap().code()
    };
    assert_eq!(code(&["run", "--config", "/nonexistent.conf"]), Some(78));
    assert_eq!(code(&["check-config", "/nonexistent.conf"]), Some(78));
    assert_eq!(code(&["check-config", "config/jvb.conf"]), Some(0));
    assert_eq!(code(&["version"]), Some(0));
}
