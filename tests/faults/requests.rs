//! Floods of requests and hostile stanzas that a real server hands on.

use std::collections::HashMap;

use crate::{
    daemon::{Daemon, client_section},
    fake::{ROOM, attributes},
    prosody::Prosody,
    wire::Connection,
};

const COLIBRI2: &str = "jitsi:colibri2";
const BRIDGE: &str = "jvbbrewery@internal.auth.jitsi.local/jvb-a";

fn start(more: &str) -> Option<(Prosody, Daemon, Connection)> {
    // What slows floods down is not what is tested.
    let prosody = Prosody::start("c2s_stanza_size_limit = 10485760\n")?;
    let daemon = Daemon::start(&format!("{}{more}", client_section("a", prosody.port(), "")));
    daemon.log().wait(1, &["XMPP: joined the room"]);
    let focus = focus(&prosody, "focus");
    Some((prosody, daemon, focus))
}

fn focus(prosody: &Prosody, name: &str) -> Connection {
    let mut focus = Connection::log_in(prosody.port(), "focus", name);
    focus.enter(ROOM, name);
    focus
}

fn create(id: &str, meeting: &str, create: bool) -> String {
    format!(
        "<iq type='get' id='{id}' to='{BRIDGE}'><conference-modify xmlns='{COLIBRI2}' \
         meeting-id='{meeting}' create='{create}'><endpoint xmlns='{COLIBRI2}' id='{id}' create='true'>\
         <capability name='source-names'/><transport ice-controlling='true'/></endpoint>\
         </conference-modify></iq>"
    )
}

/// The answers to so many requests, by what they are.
fn answers(focus: &mut Connection, count: usize) -> HashMap<String, usize> {
    let mut kinds = HashMap::new();
    let mut ids = HashMap::new();
    for _ in 0..count {
        let answer = focus.next(|element| {
            element.name() == "iq" && matches!(element.attr("type"), Some("result" | "error"))
        });
        let error = answer.children().find(|child| child.name() == "error");
        let kind = error.and_then(|error| error.children().next()).map_or("result", |e| e.name());
        *kinds.entry(kind.to_owned()).or_default() += 1;
        *ids.entry(answer.attr("id").unwrap().to_owned()).or_insert(0) += 1;
    }
    assert!(ids.values().all(|n| *n == 1), "each is answered once");
    kinds
}

fn alive(focus: &mut Connection, id: &str) {
    focus.send(&format!(
        "<iq type='get' id='{id}' to='{BRIDGE}'><query xmlns='jabber:iq:version'/></iq>"
    ));
    let answer = focus.next(|element| element.attr("id") == Some(id));
    assert_eq!(answer.attr("type"), Some("result"), "{}", String::from(&answer));
}

#[test]
fn a_thousand_requests_at_once_are_all_answered() {
    let Some((_prosody, mut daemon, mut focus)) = start("") else { return };
    assert!(focus.jid().starts_with("focus@"));
    let all: String =
        (0..1000).map(|n| create(&format!("{n:08x}"), &format!("m{n}"), true)).collect();
    focus.send(&all);
    assert_eq!(answers(&mut focus, 1000), HashMap::from([("result".to_owned(), 1000)]));
    assert!((daemon.metric("jitsi_jvb_conferences") - 1000.0).abs() < 0.5);
    // A thousand for one conference: those that find no place in its queue are refused, by name.
    let all: String =
        (0..1000).map(|n| create(&format!("{:08x}", n + 5000), "m1", false)).collect();
    focus.send(&all);
    let kinds = answers(&mut focus, 1000);
    let count = |kind| kinds.get(kind).copied().unwrap_or_default();
    assert_eq!(count("result") + count("resource-constraint"), 1000, "{kinds:?}");
    assert!(count("result") >= 256, "{kinds:?}");
    alive(&mut focus, "after");
    daemon.is_well();
}

/// A server keeps the session of a bridge that crashed, and would pass requests on to it: the bridge that is
/// started again takes its place.
#[test]
fn a_bridge_that_crashed_answers_again_as_soon_as_it_is_back() {
    let Some((prosody, daemon, mut focus)) = start("") else { return };
    alive(&mut focus, "before");
    drop(daemon);
    let mut daemon = Daemon::start(&client_section("a", prosody.port(), ""));
    daemon.log().wait(1, &["XMPP: joined the room"]);
    // Of both the room repeats what they say; the one that is gone leaves before the other comes.
    focus.next(|e| e.attr("from") == Some(BRIDGE) && e.attr("type") == Some("unavailable"));
    focus.next(|e| e.attr("from") == Some(BRIDGE) && String::from(e).contains("<stats"));
    alive(&mut focus, "after");
    daemon.is_well();
}

#[test]
fn the_same_id_twice_is_two_requests() {
    let Some((_prosody, daemon, mut focus)) = start("") else { return };
    focus.send(&[create("00000001", "m", true), create("00000001", "m", true)].concat());
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let answer = focus.next(|element| element.attr("id") == Some("00000001"));
        kinds.push(answer.attr("type").unwrap().to_owned());
    }
    kinds.sort();
    assert_eq!(kinds, ["error", "result"]);
    assert!((daemon.metric("jitsi_jvb_conferences") - 1.0).abs() < 0.5);
}

#[test]
fn a_bridge_that_shuts_down_says_so() {
    let Some((_prosody, mut daemon, mut focus)) =
        start("videobridge.rest.shutdown.enabled = true\n")
    else {
        return;
    };
    focus.send(&create("00000001", "m", true));
    assert_eq!(answers(&mut focus, 1)["result"], 1);
    let (status, _) = daemon.post("/colibri/shutdown", r#"{"graceful-shutdown":"true"}"#);
    assert_eq!(status, 200);
    focus.send(&[create("00000002", "other", true), create("00000003", "m", false)].concat());
    let kinds = answers(&mut focus, 2);
    assert_eq!(kinds.get("result"), Some(&1), "the conference that there is goes on: {kinds:?}");
    alive(&mut focus, "while-leaving");
    daemon.is_well();
}

/// What anybody in the room can make a real server say to the bridge.
#[test]
fn what_a_real_server_hands_on_does_not_end_the_connection() {
    let Some((prosody, mut daemon, mut focus)) = start("") else { return };
    let deep = format!("{}{}", "<d>".repeat(10_000), "</d>".repeat(10_000));
    let attributes = attributes(100_000);
    // The server writes each of these quotes as six bytes.
    let quotes = "'".repeat(400_000);
    let hostile = [
        format!("<x xmlns='urn:x'>{deep}</x>"),
        format!("<x xmlns='urn:x'{attributes}/>"),
        format!("<x xmlns='urn:x' a=\"{quotes}\"/>"),
        format!("<x xmlns='urn:x'>{quotes}</x>"),
        format!("<x xmlns='urn:x'>{}</x>", "<y/>".repeat(100_000)),
        "<x xmlns:a='urn:a' xmlns='urn:b' a:c='1' c='2' xml:lang='x' xml:space='y' xml:other='z'/>".to_owned(),
        "<a:x xmlns:a='urn:a' xmlns:b='urn:b' b:x='1' a:x='2'><b:y/></a:x>".to_owned(),
        "<x xmlns='urn:x'><![CDATA[<iq type='set'/>]]>&#x10FFFF;&#xE000;&#x85;&#x7f;</x>".to_owned(),
        "<x xmlns='urn:x' \u{e9}='1'/>".to_owned(),
        "<x xmlns='urn:x' \u{37e}='1'/>".to_owned(),
        "<\u{2c2} xmlns='urn:x'/>".to_owned(),
        "<x xmlns='urn:x'>\u{fffd}\u{200b}\u{202e}\u{1f4a5}&#xFFFD;</x>".to_owned(),
        "<x xmlns=''/>".to_owned(),
        "<x xmlns=' '/>".to_owned(),
        "<x xmlns='urn:\u{e9} &lt;&amp;&apos;&quot;'/>".to_owned(),
        "<iq xmlns='jabber:client' type='set' id='inner'><stream:error xmlns:stream='http://etherx.jabber.org/streams'/></iq>".to_owned(),
        "<error xmlns='http://etherx.jabber.org/streams'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></error>".to_owned(),
        "<r xmlns='urn:xmpp:sm:3'/>".to_owned(),
        "<x xmlns='urn:x'>\t\r\n&#9;&#10;&#13;</x>".to_owned(),
        "<x xmlns='urn:x' a='&#9;&#10;&#13;'/>".to_owned(),
    ];
    for (n, inside) in hostile.iter().enumerate() {
        // Some of it the server refuses itself, and ends that connection.
        let mut guest = guest(&prosody, n);
        guest.send(&format!("<presence to='{ROOM}/guest-{n}'>{inside}</presence>"));
        guest.send(&format!(
            "<message to='{ROOM}' type='groupchat'><body>b</body>{inside}</message>"
        ));
        guest.send(&format!("<message to='{BRIDGE}'>{inside}</message>"));
        guest.send(&format!("<iq to='{BRIDGE}' type='get' id='h'>{inside}</iq>"));
        drop(guest);
        alive(&mut focus, &format!("alive-{n}"));
    }
    daemon.is_well();
    assert_eq!(daemon.log().with(&["XMPP: logged in"]).len(), 1, "{}", daemon.log().text());
}

fn guest(prosody: &Prosody, n: usize) -> Connection {
    let name = format!("guest-{n}");
    let mut guest = Connection::log_in(prosody.port(), "client", &name);
    guest.enter(ROOM, &name);
    guest
}

#[test]
fn a_bridge_has_so_many_conferences_and_endpoints_and_no_more() {
    let daemon = Daemon::start("rialto.max-conferences = 3\nrialto.max-endpoints = 4\n");
    for n in 0..3 {
        daemon.create(&format!("m{n}"), 1);
    }
    let (status, body) = daemon.add("m3", 0);
    assert!(status >= 400 && body.contains("as many conferences as it may have"), "{body}");
    assert_eq!(daemon.add("m0", 1).0, 200);
    let (status, body) = daemon.add("m0", 2);
    assert!(status >= 400 && body.contains("as many endpoints as it may have"), "{body}");
    assert!((daemon.metric("rialto_requests_refused_total") - 2.0).abs() < 0.5);
    // What goes makes room.
    daemon.expire("m1");
    daemon.until("jitsi_jvb_conferences", |n| n < 2.5);
    daemon.create("m3", 1);
}
