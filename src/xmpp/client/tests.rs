//! Logins and sessions without a server: what comes in, what goes out, when.

mod captured;

use std::time::{Duration, Instant};

use minidom::Element;
use rialto_engine::{Engine, MediaEvent};
use rialto_transport::{TransportConfig, Transports};
use tokio::sync::mpsc;

use super::{
    Account, Cause,
    login::{Bound, CLIENT, Login, Next},
    room::{Absence, Room},
    session::{Out, Session},
};
use crate::{
    bridge::{Bridge, BridgeConfig, EngineCommands},
    config::{Secret, SourcePattern, XmppClient, XmppSecurity},
    xmpp::{Limits, STREAMS, StreamEvent, iq::About, parse},
};

const ROOM: &str = "brewery@internal.example.com";
const ME: &str = "brewery@internal.example.com/jvb1";

/// A bridge, whose engine ends when what is given last is dropped.
pub(super) fn bridge(config: BridgeConfig) -> (Bridge, mpsc::Sender<MediaEvent>) {
    let (engine, _) = Engine::detached(vec!["127.0.0.1:10000".parse().unwrap()]);
    let (transports, updates) =
        Transports::new(TransportConfig::default(), EngineCommands::sink(engine.clone()), [7; 32])
            .unwrap();
    let (media, events) = mpsc::channel(1);
    (Bridge::new(config, engine, transports, events, updates), media)
}

/// A client of a configuration.
pub(super) fn client() -> XmppClient {
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

fn stanza(text: &str) -> StreamEvent {
    StreamEvent::Stanza(parse(text.as_bytes(), CLIENT, Limits::default()).unwrap())
}

fn open() -> StreamEvent {
    StreamEvent::Open(Element::bare("stream", STREAMS))
}

fn features(inside: &str) -> StreamEvent {
    stanza(&format!("<stream:features xmlns:stream='{STREAMS}'>{inside}</stream:features>"))
}

const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const PLAIN: &str = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
                     <mechanism>PLAIN</mechanism></mechanisms>";
const BIND: &str = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>";

fn login(security: XmppSecurity) -> Login {
    let account = Account {
        domain: "example.com".into(),
        username: "jvb".into(),
        password: Secret::new("secret"),
        security,
        resource: Some("bridge".into()),
    };
    Login::new(account, [1; 18])
}

/// What a login says, as text.
fn said(next: &Next) -> String {
    match next {
        Next::Send(bytes) | Next::Restart(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_login_over_tls() {
    let mut login = login(XmppSecurity::Required);
    assert!(String::from_utf8(login.open()).unwrap().contains("to='example.com'"));
    assert_eq!(login.on_event(open()), Ok(Next::Wait));
    let next = login.on_event(features(&format!("{STARTTLS}{PLAIN}"))).unwrap();
    assert!(said(&next).contains("starttls"));
    let proceed = stanza("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    assert_eq!(login.on_event(proceed), Ok(Next::Encrypt));
    login.encrypted();
    assert_eq!(login.on_event(open()), Ok(Next::Wait));
    let next = login.on_event(features(PLAIN)).unwrap();
    assert!(said(&next).contains("AGp2YgBzZWNyZXQ="), "{}", said(&next));
    let success = stanza("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
    assert!(matches!(login.on_event(success), Ok(Next::Restart(_))));
    login.on_event(open()).unwrap();
    let next = login.on_event(features(&format!("{BIND}<sm xmlns='urn:xmpp:sm:3'/>"))).unwrap();
    assert!(said(&next).contains("<resource>bridge</resource>"));
    // A server that does not let it replace itself chooses.
    let next = login
        .on_event(stanza(
            "<iq type='error' id='bind'><error type='cancel'>\
             <conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>",
        ))
        .unwrap();
    assert!(said(&next).contains("bind") && !said(&next).contains("resource"));
    let next = login
        .on_event(stanza(
            "<iq type='result' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <jid>jvb@example.com/x</jid></bind></iq>",
        ))
        .unwrap();
    assert!(said(&next).contains("enable"));
    let enabled = stanza("<enabled xmlns='urn:xmpp:sm:3'/>");
    let bound = Bound { jid: "jvb@example.com/x".into(), acks: true };
    assert_eq!(login.on_event(enabled), Ok(Next::Done(bound)));
}

#[test]
fn no_password_goes_out_where_it_could_be_read() {
    let begin = |security, offered: &str| {
        let mut login = login(security);
        login.on_event(open()).unwrap();
        login.on_event(features(offered))
    };
    assert_eq!(begin(XmppSecurity::Required, PLAIN), Err(Cause::NoTls));
    assert!(matches!(begin(XmppSecurity::IfPossible, PLAIN), Err(Cause::NoMechanism(_))));
    assert!(said(&begin(XmppSecurity::Disabled, PLAIN).unwrap()).contains("PLAIN"));
    let both = format!("{STARTTLS}{PLAIN}");
    assert!(said(&begin(XmppSecurity::IfPossible, &both).unwrap()).contains("starttls"));
    assert!(said(&begin(XmppSecurity::Disabled, &both).unwrap()).contains("PLAIN"));
}

#[test]
fn a_refusal_is_named() {
    let refused = |event| {
        let mut login = login(XmppSecurity::Disabled);
        login.on_event(open()).unwrap();
        login.on_event(features(PLAIN)).unwrap();
        login.on_event(event).unwrap_err()
    };
    let failure = |condition: &str| {
        stanza(&format!(
            "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><{condition}/></failure>"
        ))
    };
    assert_eq!(refused(failure("not-authorized")), Cause::Credentials);
    assert!(matches!(
        refused(failure("temporary-auth-failure")),
        Cause::Refused { condition, .. } if condition == "temporary-auth-failure"
    ));
    let error = format!(
        "<stream:error xmlns:stream='{STREAMS}'>\
         <host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
    );
    assert_eq!(refused(stanza(&error)), Cause::HostUnknown);
    assert_eq!(refused(StreamEvent::Close), Cause::Closed);
    let early = refused(stanza("<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>"));
    assert!(matches!(early, Cause::Protocol(_)));
    let mut login = login(XmppSecurity::Disabled);
    let other = StreamEvent::Open(Element::bare("html", "http://www.w3.org/1999/xhtml"));
    assert!(matches!(login.on_event(other), Err(Cause::Protocol(_))));
}

/// A session with one room, and its clock.
struct Test {
    session: Session,
    now: Instant,
}

impl Test {
    fn new() -> Self {
        let now = Instant::now();
        let bound = Bound { jid: "jvb@example.com/x".into(), acks: true };
        let about =
            About { name: "Rialto".into(), version: "1".into(), os: "Linux".into(), sign: false };
        let room = Room::new(ROOM, "jvb1", now, || 0.5);
        Self { session: Session::new(&bound, vec![room], about, stats("1"), now), now }
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
        self.session.on_event(stanza(text), self.now).unwrap();
        self.outs()
    }

    /// Time passes, and it does what is due.
    fn after(&mut self, time: Duration) -> Result<Vec<String>, Cause> {
        let until = self.now + time;
        let mut outs = Vec::new();
        while self.session.deadline() <= until {
            self.now = self.session.deadline();
            self.session.on_time(self.now)?;
            outs.extend(self.outs());
        }
        self.now = until;
        Ok(outs)
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

/// Until a new room is configured nobody else is let in, focuses included.
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
            outs.extend(test.after(Duration::from_secs(9)).unwrap());
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
fn a_nickname_in_use_is_told_once_and_tried_for_ever() {
    let mut test = Test::new();
    test.outs();
    let conflict = format!(
        "<presence from='{ME}' type='error'><error type='cancel'>\
         <conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>"
    );
    let outs = test.on(&conflict);
    assert!(outs[0].contains(&format!("{:?}", Absence::NicknameInUse)), "{outs:?}");
    let again = test.after(Duration::from_secs(5)).unwrap();
    assert_eq!(again.iter().filter(|out| out.contains("protocol/muc")).count(), 1, "{again:?}");
    assert_eq!(test.on(&conflict).len(), 0);
    test.after(Duration::from_secs(5)).unwrap();
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
    let again = test.after(Duration::from_secs(6)).unwrap();
    assert!(again.iter().any(|out| out.contains("protocol/muc")), "{again:?}");
}

#[test]
fn a_room_that_forgot_us_is_joined_again() {
    let mut test = Test::new();
    test.join();
    // The server answers pings, the room repeats nothing.
    for _ in 0..10 {
        test.session.publish(stats("2"), test.now);
        test.session.on_life(test.now);
        test.after(Duration::from_secs(5)).unwrap();
    }
    assert_eq!(test.session.joined(), 0);
}

#[test]
fn a_silent_server_is_given_up() {
    let mut test = Test::new();
    test.join();
    let pings = test.after(Duration::from_secs(15)).unwrap();
    assert!(pings.iter().any(|out| out.contains("urn:xmpp:ping")), "{pings:?}");
    assert_eq!(test.after(Duration::from_secs(15)), Err(Cause::Silent));
}

#[test]
fn stanzas_are_counted_where_that_is_agreed() {
    let mut test = Test::new();
    test.join();
    test.on("<message from='a@example.com'/>");
    let ack = test.on("<r xmlns='urn:xmpp:sm:3'/>");
    assert!(ack[0].contains("h=\"2\"") || ack[0].contains("h='2'"), "{ack:?}");
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
        assert_eq!(joins(test.after(second).unwrap()), 1, "soon after the first time");
        assert_eq!(test.on(&locked).len(), 0);
        assert_eq!(joins(test.after(second).unwrap()), 0, "calmly after the second");
        assert_eq!(joins(test.after(4 * second).unwrap()), 1);
        test.on(&own(""));
        assert_eq!(test.session.joined(), 1);
    }
}

/// Everybody in a room may write to its bridges.
#[test]
fn who_may_not_ask_is_told_so() {
    let colibri = "<conference-modify xmlns='jitsi:colibri2' meeting-id='m' create='true'/>";
    let broken = "<conference-modify xmlns='jitsi:colibri2'/>";
    let health = "<healthcheck xmlns='http://jitsi.org/protocol/healthcheck'/>";
    let ping = "<ping xmlns='urn:xmpp:ping'/>";
    for (pattern, may) in [
        (None, true),
        (Some("brewery@example\\.com/focus"), true),
        (Some("brewery@.*/jicofo"), false),
    ] {
        let mut test = Test::new();
        test.session = test.session.only(pattern.and_then(SourcePattern::new));
        test.join();
        for inside in [colibri, broken, health, &format!("<a/>{colibri}")] {
            let iq =
                format!("<iq id='1' type='get' from='brewery@example.com/focus'>{inside}</iq>");
            let outs = test.on(&iq);
            assert_eq!(outs.len(), 1, "{outs:?}");
            assert_eq!(outs[0].contains("<not-authorized"), !may, "{pattern:?} {inside}: {outs:?}");
        }
        let said = test.on(&format!("<iq id='1' type='get' from='somebody@else'>{ping}</iq>"));
        assert!(
            said[0].contains("type='result'") || said[0].contains("type=\"result\""),
            "{said:?}"
        );
    }
}
