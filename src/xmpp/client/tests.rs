//! Rooms without a server: what comes in, what goes out, when.

mod captured;

use std::time::{Duration, Instant};

use minidom::Element;

use super::{
    room::{Absence, Room},
    session::{Out, Session},
};
use crate::{
    config::{Secret, XmppClient, XmppSecurity},
    xmpp::{Limits, Stanza, parse, stanza::CLIENT},
};

const ROOM: &str = "brewery@internal.example.com";
const ME: &str = "brewery@internal.example.com/jvb1";

/// A client of a configuration.
pub(crate) fn client() -> XmppClient {
    XmppClient {
        id: "a".into(),
        host: "localhost".into(),
        port: 5222,
        domain: "example.com".into(),
        username: "jvb".into(),
        password: Secret::new("secret"),
        rooms: vec![ROOM.into()],
        nickname: "jvb1".into(),
        verify_certificate: true,
        security: XmppSecurity::Required,
        authorized: None,
    }
}

fn stanza(text: &str) -> Stanza {
    parse(text.as_bytes(), CLIENT, Limits::default()).unwrap()
}

/// A session with one room, and its clock.
struct Test {
    session: Session,
    now: Instant,
}

impl Test {
    fn new() -> Self {
        let now = Instant::now();
        let room = Room::new(ROOM, "jvb1", now, || 0.5);
        Self { session: Session::new(vec![room], stats("1"), now), now }
    }

    /// What it wants to do.
    fn outs(&mut self) -> Vec<String> {
        let show = |out| match out {
            Out::Send(element) => String::from(&element),
            other => format!("{other:?}"),
        };
        std::iter::from_fn(|| self.session.next()).map(show).collect()
    }

    /// What it wants to do after `text` came.
    fn on(&mut self, text: &str) -> Vec<String> {
        self.session.on_stanza(&stanza(text), self.now);
        self.outs()
    }

    /// Time passes, and it does what is due.
    fn after(&mut self, time: Duration) -> Vec<String> {
        let until = self.now + time;
        let mut outs = Vec::new();
        while let Some(due) = self.session.deadline().filter(|due| *due <= until) {
            self.now = due;
            self.session.on_time(self.now);
            outs.extend(self.outs());
        }
        self.now = until;
        outs
    }

    fn join(&mut self) {
        self.outs();
        self.on(&own(""));
    }
}

fn stats(value: &str) -> Element {
    let text = format!("<stats xmlns='http://jitsi.org/protocol/colibri'>{value}</stats>");
    text.parse().unwrap()
}

/// Our own presence, as the room repeats it.
fn own(status: &str) -> String {
    format!(
        "<presence from='{ME}'><x xmlns='http://jabber.org/protocol/muc#user'>\
         <status code='110'/>{status}</x></presence>"
    )
}

#[test]
fn it_joins_and_says_how_it_is() {
    let mut test = Test::new();
    let join = test.outs();
    assert_eq!(join.len(), 1);
    assert!(join[0].contains(ME) && join[0].contains("http://jabber.org/protocol/muc"), "{join:?}");
    let outs = test.on(&own(""));
    assert!(outs[0].contains("Joined") && outs[1].contains("<stats"), "{outs:?}");
    assert_eq!((outs.len(), test.session.joined()), (2, 1));
    test.session.publish(stats("2"), test.now);
    let outs = test.outs();
    assert!(outs.len() == 1 && outs[0].contains('2'), "{outs:?}");
}

#[test]
fn a_room_that_did_not_exist_is_configured() {
    let mut test = Test::new();
    test.outs();
    let outs = test.on(&own("<status code='201'/>"));
    let asked = outs.iter().find(|out| out.contains("muc#owner")).unwrap();
    let id = |text: &str| text.parse::<Element>().unwrap().attr("id").unwrap().to_owned();
    let form = format!(
        "<iq from='{ROOM}' type='result' id='{}'><query xmlns='http://jabber.org/protocol/muc#owner'>\
         <x xmlns='jabber:x:data' type='form'><field var='muc#roomconfig_whois'/></x></query></iq>",
        id(asked)
    );
    let outs = test.on(&form);
    assert!(outs[0].contains("submit") && outs[0].contains("anyone"), "{outs:?}");
    let refused = format!(
        "<iq from='{ROOM}' type='error' id='{}'><error type='auth'>\
         <forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>",
        id(&outs[0])
    );
    assert!(test.on(&refused)[0].contains("NotConfigured"));
}

/// Until a new room is configured no other occupant can join, focuses included.
#[test]
fn a_room_that_cannot_be_configured_is_tried_again_calmly() {
    let mut test = Test::new();
    test.outs();
    let id = |text: &str| text.parse::<Element>().unwrap().attr("id").unwrap().to_owned();
    let asks = |outs: &[String]| outs.iter().find(|out| out.contains("muc#owner")).map(|o| id(o));
    let refused = |id: &str, condition: &str| {
        format!(
            "<iq from='{ROOM}' type='error' id='{id}'><error type='wait'>\
             <{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
        )
    };
    let mut asked = asks(&test.on(&own("<status code='201'/>"))).unwrap();
    test.on(&own(""));
    // What is asked in 36 s, while the room is alive.
    let calm = |test: &mut Test| -> Vec<String> {
        let mut outs = Vec::new();
        for _ in 0..4 {
            outs.extend(test.after(Duration::from_secs(9)));
            test.on(&own(""));
        }
        outs.iter().filter_map(|out| asks(std::slice::from_ref(out))).collect()
    };
    for (condition, told) in
        [("internal-server-error", 1), ("internal-server-error", 0), ("not-allowed", 1)]
    {
        let outs = test.on(&refused(&asked, condition));
        assert_eq!(outs.iter().filter(|out| out.contains("NotConfigured")).count(), told);
        let again = calm(&mut test);
        assert_eq!(again.len(), 1, "{again:?}");
        asked = again[0].clone();
    }
    // No answer at all is no end either.
    asked = calm(&mut test).pop().expect("again");
    let form = format!(
        "<iq from='{ROOM}' type='result' id='{asked}'><query xmlns='http://jabber.org/protocol/muc#owner'>\
         <x xmlns='jabber:x:data' type='form'/></query></iq>"
    );
    asked = asks(&test.on(&form)).unwrap();
    test.on(&format!("<iq from='{ROOM}' type='result' id='{asked}'/>"));
    assert_eq!(calm(&mut test), [""; 0], "it is done");
}

#[test]
fn a_nickname_in_use_is_reported_once_and_tried_for_ever() {
    let mut test = Test::new();
    test.outs();
    let conflict = format!(
        "<presence from='{ME}' type='error'><error type='cancel'>\
         <conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>"
    );
    let outs = test.on(&conflict);
    assert!(outs[0].contains(&format!("{:?}", Absence::NicknameInUse)), "{outs:?}");
    let again = test.after(Duration::from_secs(5));
    assert_eq!(again.iter().filter(|out| out.contains("protocol/muc")).count(), 1, "{again:?}");
    assert_eq!(test.on(&conflict).len(), 0);
    test.after(Duration::from_secs(5));
    assert!(test.on(&own(""))[0].contains("Joined"));
}

#[test]
fn who_is_removed_comes_back() {
    let mut test = Test::new();
    test.join();
    let kicked = format!(
        "<presence from='{ME}' type='unavailable'><x xmlns='http://jabber.org/protocol/muc#user'>\
         <status code='110'/><status code='307'/></x></presence>"
    );
    let outs = test.on(&kicked);
    assert!(outs[0].contains("kicked"), "{outs:?}");
    assert_eq!(test.session.joined(), 0);
    let again = test.after(Duration::from_secs(6));
    assert!(again.iter().any(|out| out.contains("protocol/muc")), "{again:?}");
}

#[test]
fn a_room_that_forgot_us_is_joined_again() {
    let mut test = Test::new();
    test.join();
    // The room repeats nothing.
    for _ in 0..10 {
        test.session.publish(stats("2"), test.now);
        test.after(Duration::from_secs(5));
    }
    assert_eq!(test.session.joined(), 0);
}

/// While there is no connection a room cannot repeat anything.
#[test]
fn a_session_that_goes_on_waits_for_its_rooms_anew() {
    let mut test = Test::new();
    test.join();
    test.session.publish(stats("2"), test.now);
    test.outs();
    test.now += Duration::from_secs(600);
    test.session.resumed(test.now);
    test.session.on_time(test.now);
    assert_eq!((test.outs().len(), test.session.joined()), (0, 1), "nothing is said again");
    test.after(Duration::from_secs(29));
    assert_eq!(test.session.joined(), 1);
    test.after(Duration::from_secs(1));
    assert_eq!(test.session.joined(), 0);
}

/// Servers send codes of their own, and some leave out specified ones.
#[test]
fn what_is_not_known_of_a_presence_does_not_matter() {
    for presence in [
        own("<status code='999'/><item affiliation='odd' role='none' jid='a'/>"),
        format!("<presence from='{ME}'/>"),
        format!("<presence from='{ME}'><x xmlns='urn:other'><status code='110'/></x></presence>"),
    ] {
        let mut test = Test::new();
        test.outs();
        assert!(test.on(&presence)[0].contains("Joined"), "{presence}");
    }
}

#[tokio::test(start_paused = true)]
async fn absence_counts_from_when_the_last_room_was_left() {
    let client = client();
    let counts = super::MucCounts::default();
    assert_eq!(counts.read().absent_for, None);
    let state = counts.add(&client);
    let absent = || counts.read().absent_for.map(|time| time.as_secs());
    tokio::time::advance(Duration::from_secs(100)).await;
    assert_eq!(absent(), Some(100));
    counts.set(&state, true, 1);
    assert_eq!(absent(), None);
    counts.set(&state, false, 0);
    tokio::time::advance(Duration::from_secs(5)).await;
    counts.set(&state, true, 0);
    assert_eq!(absent(), Some(5));
    counts.remove("a");
    assert_eq!(absent(), None);
}

#[test]
fn it_leaves_politely() {
    let mut test = Test::new();
    test.join();
    test.session.leave();
    let outs = test.outs();
    assert!(outs[0].contains(ME) && outs[0].contains("unavailable"), "{outs:?}");
    assert_eq!(outs.len(), 2);
}

/// A focus that has made the room configures it at once, and looks for bridges then.
#[test]
fn a_locked_room_is_tried_again_soon_and_then_calmly() {
    let second = Duration::from_secs(1);
    for condition in ["item-not-found", "not-allowed"] {
        let mut test = Test::new();
        test.outs();
        let locked = format!(
            "<presence from='{ME}' type='error'><error type='cancel'>\
             <{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>"
        );
        let joins = |outs: Vec<String>| outs.iter().filter(|o| o.contains("protocol/muc")).count();
        assert!(test.on(&locked)[0].contains(condition));
        assert_eq!(joins(test.after(second)), 1, "soon after the first time");
        assert_eq!(test.on(&locked).len(), 0);
        assert_eq!(joins(test.after(second)), 0, "calmly after the second");
        assert_eq!(joins(test.after(4 * second)), 1);
        test.on(&own(""));
        assert_eq!(test.session.joined(), 1);
    }
}
