//! After any number of reconnections and conferences the process has what it had before.

use std::time::Instant;

use crate::{
    daemon::{Daemon, client_section, component_section},
    prosody::{NODE, PATIENCE, PUBSUB, Prosody},
};

/// Waits until the process has as many threads and files as this again.
fn until(daemon: &Daemon, threads: usize, files: usize) {
    let start = Instant::now();
    loop {
        let (t, f, _) = daemon.system();
        if t <= threads && f <= files {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{t} threads, not {threads}; {f} files, not {files}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn reconnections_leave_nothing_behind() {
    let Some((mut prosody, component_port)) = Prosody::with_component() else { return };
    let mut daemon = Daemon::start(&format!(
        "{}{}",
        client_section("a", prosody.port(), ""),
        component_section(
            component_port,
            &format!(
                "videobridge.stats.transports = [{{ type = pubsub, service = {PUBSUB}, node = {NODE} }}]"
            )
        )
    ));
    let mut baseline = None;
    for n in 1..=6 {
        daemon.log().wait(n, &["XMPP: joined the room"]);
        daemon.log().wait(n, &["XMPP component: connected"]);
        // The first two cycles load what is loaded once.
        match baseline {
            None if n < 3 => {}
            None => baseline = Some(daemon.system()),
            Some((threads, files, resident)) => {
                until(&daemon, threads, files);
                let grown = daemon.system().2.saturating_sub(resident);
                assert!(grown < 4 << 10, "{grown} kB more");
            }
        }
        if n < 6 {
            prosody.kill();
            daemon.log().wait(n, &["XMPP: not connected"]);
            prosody.launch();
        }
    }
    daemon.is_well();
}

#[test]
fn conferences_leave_nothing_behind() {
    let mut daemon = Daemon::start_with("", |command| {
        command.env("RUST_LOG", "warn,rialto::daemon=info");
    });
    let mut baseline = None;
    for round in 0..4 {
        for n in 0..100 {
            daemon.create(&format!("m{round}-{n}"), 3);
        }
        assert!((daemon.metric("jitsi_jvb_conferences") - 100.0).abs() < 0.5);
        for n in 0..100 {
            daemon.expire(&format!("m{round}-{n}"));
        }
        for gauge in
            ["jitsi_jvb_conferences", "jitsi_jvb_current_endpoints", "jitsi_jvb_local_endpoints"]
        {
            daemon.until(gauge, |n| n == 0.0);
        }
        let (_, debug) = daemon.get("/debug?full=true");
        assert!(debug.contains(r#""conferences":{}"#), "{debug}");
        let (threads, files, resident) = *baseline.get_or_insert_with(|| daemon.system());
        until(&daemon, threads, files);
        let grown = daemon.system().2.saturating_sub(resident);
        assert!(grown < 8 << 10, "{grown} kB more after {round} rounds");
    }
    daemon.is_well();
}
