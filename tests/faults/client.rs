//! Hostile bytes on the bridge's connection as a client: what is XML does not end it.

use crate::{
    daemon::{Daemon, client_section},
    fake::{FOCUS, Peer, ROOM, Server, attributes},
};

const COLIBRI2: &str = "jitsi:colibri2";

/// A bridge in its room, at a server that is the test.
fn start() -> (Daemon, Server, Peer) {
    let server = Server::new();
    let section = client_section("a", server.port(), "SECURITY_MODE = disabled");
    let daemon = Daemon::start(&section);
    let peer = server.client();
    daemon.log().wait(1, &["XMPP: joined the room"]);
    (daemon, server, peer)
}

/// Nothing was lost on the way here.
fn still_the_first_connection(daemon: &mut Daemon) {
    daemon.is_well();
    assert_eq!(daemon.log().with(&["XMPP: logged in"]).len(), 1, "{}", daemon.log().text());
    assert!(daemon.log().with(&["not connected"]).is_empty());
}

/// Requests that are too much of something, by what is too much.
fn excessive(peer: &Peer) -> Vec<(&'static str, String)> {
    let deep = |n| format!("{}{}", "<d>".repeat(n), "</d>".repeat(n));
    let attributes = attributes(1_000_000);
    let modify = |inside: &str| {
        format!(
            "<conference-modify xmlns='{COLIBRI2}' meeting-id='m' create='true'>{inside}</conference-modify>"
        )
    };
    let requests = [
        ("deep", modify(&deep(10_000))),
        ("attributes", format!("<conference-modify xmlns='{COLIBRI2}'{attributes}/>")),
        ("inner", modify(&format!("<a{attributes}><b/></a>"))),
        ("value", modify(&format!("<a b='{}'/>", "&apos;".repeat(2_000_000)))),
        ("text", modify(&"x&lt;".repeat(2_000_000))),
        ("elements", modify(&"<a/>".repeat(100_000))),
        ("cdata", modify(&format!("<![CDATA[{}]]>", "<a>".repeat(2_000_000)))),
    ];
    requests.into_iter().map(|(id, inside)| (id, peer.iq(id, "set", &inside))).collect()
}

#[test]
fn what_is_too_much_is_refused_and_the_connection_goes_on() {
    let (mut daemon, _server, mut peer) = start();
    let resident = daemon.system().2;
    for (id, request) in excessive(&peer) {
        peer.send(&request);
        assert_eq!(peer.condition(id), "policy-violation", "{id}");
        peer.is_served(&format!("after-{id}"));
    }
    // Nobody who is not asked is told that others say too much.
    for (n, (_, request)) in excessive(&peer).into_iter().enumerate() {
        let inside = request.split_once('>').unwrap().1.trim_end_matches("</iq>");
        // By turns, as a daemon of a debug build reads a megabyte a second.
        let kind = if n % 2 == 0 { "presence" } else { "message" };
        peer.send(&format!("<{kind} from='{ROOM}/x'>{inside}</{kind}>"));
    }
    peer.is_served("after-all");
    let grown = daemon.system().2.saturating_sub(resident);
    // A hundred megabytes went through; a million attributes are 13 MB of them each.
    assert!(grown < 64 << 10, "{grown} kB more");
    still_the_first_connection(&mut daemon);
}

#[test]
fn what_makes_no_sense_is_refused_or_met_with_silence() {
    let (mut daemon, _server, mut peer) = start();
    let long = "x".repeat(7_900);
    for (id, kind, inside, expected) in [
        ("none", "get", "", "bad-request"),
        ("two", "get", "<a xmlns='a'/><b xmlns='b'/>", "bad-request"),
        ("unknown", "get", "<a xmlns='urn:nobody:knows'/>", "service-unavailable"),
        ("bare", "set", "<conference-modify/>", "service-unavailable"),
        ("prefixed", "set", "<p:conference-modify xmlns:p='urn:x'/>", "service-unavailable"),
        ("empty", "set", "<conference-modify xmlns='jitsi:colibri2'/>", "bad-request"),
        ("&lt;&amp;&quot;&apos;", "get", "<ping xmlns='urn:xmpp:ping'/>", "result"),
        ("\u{1f4a5}", "get", "<ping xmlns='urn:xmpp:ping'/>", "result"),
    ] {
        peer.send(&peer.iq(id, kind, inside));
        let id = if id.starts_with('&') { "<&\"'" } else { id };
        assert_eq!(peer.condition(id), expected, "{id}");
    }
    // Ids that are longer than any address come back as they are; the same one twice is two requests.
    for _ in 0..2 {
        peer.send(&peer.iq(&long, "get", "<ping xmlns='urn:xmpp:ping'/>"));
    }
    for _ in 0..2 {
        assert_eq!(peer.condition(&long), "result");
    }
    let from = format!("{ROOM}/{long}");
    peer.send(&format!("<iq type='get' id='f' from='{from}'><ping xmlns='urn:xmpp:ping'/></iq>"));
    assert_eq!(peer.answer("f").attr("to"), Some(&*from));
    // Beyond that a request is refused by what there is of it.
    let longer = "y".repeat(100_000);
    peer.send(&peer.iq(&longer, "get", "<ping xmlns='urn:xmpp:ping'/>"));
    assert_eq!(peer.condition(&longer[..8_000]), "policy-violation");
    // No answer to what asks for none; a ping afterwards would come after it.
    for silent in [
        "<iq type='result' id='nobody-asked' from='a@b/c'/>".to_owned(),
        "<iq type='error' id='nobody-asked' from='a@b/c'><error type='cancel'/></iq>".to_owned(),
        "<iq type='result' id='b1'/>".to_owned(),
        format!("<iq type='get' from='{FOCUS}'><ping xmlns='urn:xmpp:ping'/></iq>"),
        format!("<iq id='no-type' from='{FOCUS}'><ping xmlns='urn:xmpp:ping'/></iq>"),
        format!(
            "<iq type='other' id='other-type' from='{FOCUS}'><ping xmlns='urn:xmpp:ping'/></iq>"
        ),
        format!("<message from='{FOCUS}' type='groupchat'><body>hello</body></message>"),
        format!("<message from='{FOCUS}' type='error'/>"),
        "<unheard-of xmlns='urn:nobody:knows'><a/></unheard-of>".to_owned(),
        format!("<presence from='{FOCUS}' type='subscribe'/>"),
        "<presence/>".to_owned(),
    ] {
        peer.send(&silent);
    }
    peer.send(&peer.iq("last", "get", "<ping xmlns='urn:xmpp:ping'/>"));
    let first = peer.next(|element| element.name() != "presence");
    assert_eq!(first.attr("id"), Some("last"), "{}", String::from(&first));
    still_the_first_connection(&mut daemon);
}

#[test]
fn thousands_of_occupants_are_nothing_to_remember() {
    let (mut daemon, _server, mut peer) = start();
    let mut crowd = |round: usize| {
        for n in 0..20_000 {
            peer.send(&format!(
                "<presence from='{ROOM}/{round}-{n}'><x xmlns='http://jabber.org/protocol/muc#user'>\
                 <item affiliation='none' role='participant' jid='u{n}@auth.jitsi.local/1'/></x></presence>"
            ));
        }
        peer.is_served(&format!("crowd-{round}"));
    };
    crowd(0);
    let resident = daemon.system().2;
    crowd(1);
    let grown = daemon.system().2.saturating_sub(resident);
    assert!(grown < 4 << 10, "{grown} kB more");
    still_the_first_connection(&mut daemon);
}

#[test]
fn bytes_may_come_one_by_one() {
    let (mut daemon, _server, mut peer) = start();
    let request = peer.iq("slow", "get", "<query xmlns='jabber:iq:version'/>");
    for byte in request.as_bytes() {
        peer.send_bytes(&[*byte]);
    }
    assert_eq!(peer.condition("slow"), "result");
    still_the_first_connection(&mut daemon);
}

#[test]
fn what_is_no_xml_ends_the_stream_and_another_begins() {
    let server = Server::new();
    let section = client_section("a", server.port(), "SECURITY_MODE = disabled");
    let mut daemon = Daemon::start(&section);
    let faults: [&[u8]; 10] = [
        b"<!DOCTYPE a [<!ENTITY b 'bomb'>]>",
        b"<a>&undeclared;</a>",
        b"<?php 1 ?>",
        b"<!-- hello -->",
        b"<a></b>",
        b"<undeclared:a/>",
        b"<a b='1' b='2'/>",
        b"<a b='\xff\xfe'/>",
        b"<a>\xc3\x28</a>",
        b"\0\x01\x02 is this TLS?",
    ];
    for (n, fault) in faults.iter().enumerate() {
        let mut peer = server.client();
        peer.is_served("before");
        peer.send_bytes(fault);
        peer.until_closed();
        daemon.log().wait(n + 1, &["not connected", "not understood"]);
    }
    let mut peer = server.client();
    peer.send("<stream:error><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
               <text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>so &lt;there&gt;\n2</text></stream:error>");
    let line = daemon.log().wait(1, &["the server ended the stream: policy-violation"]);
    assert!(line.contains("so <there>\\n2"), "foreign text is escaped: {line}");
    let mut peer = server.client();
    peer.send("</stream:stream>");
    daemon.log().wait(1, &["the server closed the connection"]);
    let peer = server.client();
    drop(peer);
    server.client().is_served("at the end");
    daemon.is_well();
}
