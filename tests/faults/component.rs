//! The same on its connection as a component.

use crate::{
    daemon::{Daemon, component_section},
    fake::{Peer, Server, attributes},
};

fn start() -> (Daemon, Server, Peer) {
    let server = Server::new();
    let daemon = Daemon::start(&component_section(server.port(), ""));
    let peer = server.component();
    daemon.log().wait(1, &["XMPP component: connected"]);
    (daemon, server, peer)
}

#[test]
fn what_is_too_much_is_refused_and_the_connection_goes_on() {
    let (mut daemon, _server, mut peer) = start();
    let attributes = attributes(1_000_000);
    let colibri = "http://jitsi.org/protocol/colibri";
    for (id, inside) in [
        (
            "deep",
            format!(
                "<conference xmlns='{colibri}'>{}{}</conference>",
                "<d>".repeat(10_000),
                "</d>".repeat(10_000)
            ),
        ),
        ("attributes", format!("<conference xmlns='{colibri}'{attributes}/>")),
        ("text", format!("<conference xmlns='{colibri}'>{}</conference>", "x".repeat(5_000_000))),
    ] {
        peer.send(&peer.iq(id, "set", &inside));
        assert_eq!(peer.condition(id), "policy-violation", "{id}");
    }
    for (id, inside, expected) in [
        ("none", "", "bad-request"),
        ("unknown", "<a xmlns='urn:nobody:knows'/>", "bad-request"),
        (
            "no-such",
            "<conference xmlns='http://jitsi.org/protocol/colibri' id='0123456789abcdef'/>",
            "bad-request",
        ),
    ] {
        peer.send(&peer.iq(id, "set", inside));
        assert_eq!(peer.condition(id), expected, "{id}");
    }
    for silent in [
        "<iq type='result' id='rialto-1' from='a'/>",
        "<iq type='error' id='x' from='a'/>",
        "<iq type='get' id='nobody'><a xmlns='a'/></iq>",
        "<message from='a@b'><body>hello</body></message>",
        "<presence from='a@b' type='subscribe'/>",
        "<unheard-of xmlns='urn:nobody:knows'/>",
    ] {
        peer.send(silent);
    }
    peer.is_served("last");
    daemon.is_well();
    assert_eq!(daemon.log().with(&["XMPP component: connected"]).len(), 1);
}

#[test]
fn what_is_no_xml_ends_the_stream_and_another_begins() {
    let server = Server::new();
    let mut daemon = Daemon::start(&component_section(server.port(), ""));
    for fault in ["<!DOCTYPE a>", "<a>&b;</a>", "\0garbage"] {
        let mut peer = server.component();
        peer.is_served("before");
        peer.send(fault);
        peer.until_closed();
    }
    server.component().is_served("after");
    daemon.is_well();
    assert_eq!(daemon.log().with(&["not connected", "not understood"]).len(), 3);
}
