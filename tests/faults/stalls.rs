//! Servers that stop in the middle of something: each is noticed, named in one line, and tried again.

use std::time::Duration;

use crate::{
    daemon::{Daemon, client_section, component_section},
    fake::{Peer, Server},
    prosody::Prosody,
};

/// The client's name, and what its server does before it stops.
type Stage = (&'static str, fn(&mut Peer));

/// Where a server stops.
const STAGES: [Stage; 6] = [
    ("connected", |_| {}),
    ("opened", |peer| peer.open()),
    ("offered", |peer| {
        peer.open();
        peer.send(
            "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
             <mechanism>SCRAM-SHA-1</mechanism></mechanisms></stream:features>",
        );
        peer.next(|element| element.name() == "auth");
    }),
    ("authenticated", |peer| peer.log_in()),
    ("binding", |peer| {
        peer.log_in();
        peer.open();
        peer.send(
            "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>",
        );
        peer.next(|element| element.name() == "iq");
    }),
    ("trickling", |peer| {
        peer.open();
        let mut socket = peer.socket.try_clone().unwrap();
        // Never silent, and never done: white space is no answer.
        std::thread::spawn(move || {
            use std::io::Write as _;
            while socket.write_all(b" ").is_ok() {
                std::thread::sleep(Duration::from_millis(100));
            }
        });
    }),
];

#[test]
fn a_login_that_stops_anywhere_is_tried_again() {
    let servers: Vec<Server> = STAGES.iter().map(|_| Server::new()).collect();
    let sections: String = STAGES
        .iter()
        .zip(&servers)
        .map(|((id, _), server)| client_section(id, server.port(), "SECURITY_MODE = disabled"))
        .collect();
    let mute = Server::new();
    let daemon = &Daemon::start(&format!("{sections}{}", component_section(mute.port(), "")));
    std::thread::scope(|scope| {
        for ((id, stage), server) in STAGES.iter().zip(&servers) {
            scope.spawn(move || {
                let mut stuck = server.accept();
                stage(&mut stuck);
                let id = format!("client=\"{id}\"");
                daemon.log().wait(1, &["not connected", &id, "the server did not answer in time"]);
                stuck.until_closed();
                server.client().is_served("after");
                daemon.log().wait(1, &["XMPP: joined the room", &id]);
                // One line until then; that this server has gone since, and does not answer, is another.
                let said = daemon.log().with(&[&id]);
                let before = said.iter().take_while(|line| !line.contains("XMPP: logged in"));
                assert_eq!(before.count(), 1, "{said:?}");
            });
        }
        scope.spawn(|| {
            let mut stuck = mute.accept();
            daemon.log().wait(1, &["XMPP component: not connected", "did not answer in time"]);
            stuck.until_closed();
            mute.component().is_served("after");
        });
    });
}

#[test]
fn a_server_that_falls_silent_is_left_and_one_that_does_not_read_as_well() {
    let (silent, deaf) = (Server::new(), Server::new());
    let (component, deaf_component) = (Server::new(), Server::new());
    let more = "SECURITY_MODE = disabled";
    let first = &Daemon::start(&format!(
        "{}{}{}",
        client_section("silent", silent.port(), more),
        client_section("deaf", deaf.port(), more),
        component_section(component.port(), "")
    ));
    let second = &Daemon::start(&component_section(deaf_component.port(), ""));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _held = silent.client();
            first.log().wait(1, &["not connected", "client=\"silent\"", "the server is silent"]);
            silent.client().is_served("after");
        });
        scope.spawn(|| {
            let _held = component.component();
            first.log().wait(1, &["XMPP component: not connected", "the server is silent"]);
            component.component().is_served("after");
        });
        scope.spawn(|| {
            floods_and_does_not_read(&mut deaf.client());
            first.log().wait(1, &["not connected", "client=\"deaf\"", "the server does not read"]);
            deaf.client().is_served("after");
        });
        scope.spawn(|| {
            floods_and_does_not_read(&mut deaf_component.component());
            second.log().wait(1, &["XMPP component: not connected", "the server does not read"]);
            deaf_component.component().is_served("after");
        });
    });
    for daemon in [first, second] {
        // 4 MiB wait for each, and no more.
        assert!(daemon.system().2 < 128 << 10, "{} kB", daemon.system().2);
    }
}

/// Asks until the bridge gives up.
fn floods_and_does_not_read(peer: &mut Peer) {
    use std::io::Write as _;
    let ask = peer.iq(&"i".repeat(1000), "get", "<ping xmlns='urn:xmpp:ping'/>").repeat(100);
    while peer.socket.write_all(ask.as_bytes()).is_ok() {}
}

/// Half open: the other end is there, and never says anything again.
#[test]
fn a_prosody_that_hangs_is_left_and_found_again() {
    let Some((prosody, component_port)) = Prosody::with_component() else { return };
    let mut daemon = Daemon::start(&format!(
        "{}{}",
        client_section("a", prosody.port(), ""),
        component_section(component_port, "")
    ));
    daemon.log().wait(1, &["XMPP: joined the room"]);
    daemon.log().wait(1, &["XMPP component: connected"]);
    prosody.signal("STOP");
    daemon.log().wait(1, &["XMPP: not connected", "the server is silent"]);
    daemon.log().wait(1, &["XMPP component: not connected", "the server is silent"]);
    daemon.is_well();
    prosody.signal("CONT");
    daemon.log().wait(2, &["XMPP: joined the room"]);
    daemon.log().wait(2, &["XMPP component: connected"]);
    assert_eq!(daemon.get("/about/health").0, 200);
}
