use std::time::Instant;

use minidom::Element;

use super::{
    requests::{Known, Step, handle},
    session::{Event, Lost, Session},
    *,
};
use crate::{
    bridge::HealthError,
    xmpp::{Limits, Stanza, iq::DISCO_INFO, parse},
};

const STREAM: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' \
                      xmlns:stream='http://etherx.jabber.org/streams' from='jvb.example.com' id='3BF96D32'>";
const PUBSUB: &str = "http://jabber.org/protocol/pubsub";

fn config(publish: Vec<Publish>) -> ComponentConfig {
    ComponentConfig {
        host: "localhost".into(),
        port: 5347,
        domain: Some("example.com".into()),
        subdomain: "jvb".into(),
        secret: Secret::new("test"),
        allowed: Allowed::default(),
        publish,
    }
}

struct World {
    session: Session,
    now: Instant,
}

impl World {
    /// A session after its handshake.
    fn up(publish: Vec<Publish>) -> Self {
        let now = Instant::now();
        let mut world = Self { session: Session::new(&config(publish), now), now };
        world.receive(STREAM).unwrap();
        let events = world.receive("<handshake/>").unwrap();
        assert!(matches!(events[..], [Event::Up]));
        world.session.take_output();
        world
    }

    fn receive(&mut self, text: &str) -> Result<Vec<Event>, Lost> {
        self.session.receive(self.now, text.as_bytes())
    }

    /// Lets time pass up to the next thing that is due; what is sent then.
    fn pass(&mut self) -> Result<Vec<Element>, Lost> {
        self.now = self.now.max(self.session.next());
        let stats = || vec![("conferences", 2usize.into())];
        self.session.tick(self.now, stats, || vec!["focus@example.com/1".into()])?;
        Ok(self.sent())
    }

    fn sent(&mut self) -> Vec<Element> {
        let out = String::from_utf8(self.session.take_output()).unwrap();
        let all: Element = format!("<all xmlns='{NAMESPACE}'>{out}</all>").parse().unwrap();
        all.children().cloned().collect()
    }

    /// The next stanza to somebody.
    fn next_to(&mut self, to: &str) -> Element {
        for _ in 0..100 {
            for stanza in self.pass().unwrap() {
                if stanza.attr("to") == Some(to) {
                    return stanza;
                }
                self.answer(&stanza, "result", "").unwrap();
            }
        }
        panic!("nothing to {to}");
    }

    fn answer(&mut self, asked: &Element, kind: &str, inside: &str) -> Result<(), Lost> {
        let (id, to) = (asked.attr("id").unwrap(), asked.attr("to").unwrap());
        let answer = format!("<iq type='{kind}' id='{id}' from='{to}'>{inside}</iq>");
        assert!(self.receive(&answer)?.is_empty(), "answers are no requests");
        Ok(())
    }
}

fn error(condition: &str) -> String {
    format!("<error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>")
}

/// What is done to the node: `create`, `configure`, `publish`.
fn action(iq: &Element) -> &str {
    iq.children().next().unwrap().children().next().unwrap().name()
}

#[test]
fn the_handshake_is_that_of_the_specification() {
    let now = Instant::now();
    let mut session = Session::new(&config(Vec::new()), now);
    let open = String::from_utf8(session.take_output()).unwrap();
    assert!(open.ends_with("to='jvb.example.com'>"), "{open}");
    for byte in STREAM.bytes() {
        session.receive(now, &[byte]).unwrap();
    }
    let expected = b"<handshake>aaee83c26aeeafcbabeabfcbcd50df997e0a2a1e</handshake>";
    assert_eq!(session.take_output(), expected);
}

#[test]
fn each_loss_has_its_cause() {
    let start = || {
        let now = Instant::now();
        World { session: Session::new(&config(Vec::new()), now), now }
    };
    let refusal = "<stream:error><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
                   <text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>Given token does not match</text>\
                   </stream:error>";
    let mut refused = start();
    refused.receive(STREAM).unwrap();
    let lost = refused.receive(refusal).unwrap_err().to_string();
    assert!(lost.contains("refused the secret") && lost.contains("does not match"), "{lost}");
    assert!(matches!(World::up(Vec::new()).receive(refusal), Err(Lost::Stream(_))));
    assert!(matches!(World::up(Vec::new()).receive("</stream:stream>"), Err(Lost::Closed)));
    assert!(matches!(World::up(Vec::new()).receive("<iq></message>"), Err(Lost::Malformed(_))));
    assert!(matches!(start().pass(), Err(Lost::Handshake)));
}

#[test]
fn a_server_that_answers_no_pings_is_dead() {
    let mut world = World::up(Vec::new());
    let ping = world.next_to("example.com");
    assert!(
        ping.has_child("ping", "urn:xmpp:ping") && ping.attr("from") == Some("jvb.example.com")
    );
    world.answer(&ping, "error", &error("service-unavailable")).unwrap();
    // An error is an answer: three silences in a row are too many, two are not.
    for _ in 0..2 {
        world.next_to("example.com");
    }
    let ping = world.next_to("example.com");
    world.answer(&ping, "result", "").unwrap();
    let start = world.now;
    let lost = loop {
        if let Err(lost) = world.pass() {
            break lost;
        }
    };
    assert!(matches!(lost, Lost::Silent));
    assert!(world.now - start < Duration::from_secs(60));
}

fn node(interval: u64) -> Vec<Publish> {
    let to = Place::Node { service: "pubsub.example.com".into(), node: "sharedStatsNode".into() };
    vec![Publish { interval: Duration::from_secs(interval), to }]
}

#[test]
fn a_node_is_made_configured_and_published_to() {
    let mut world = World::up(node(5));
    let create = world.next_to("pubsub.example.com");
    assert_eq!((action(&create), create.attr("type")), ("create", Some("set")));
    world.answer(&create, "result", "").unwrap();
    let configure = world.sent().pop().unwrap();
    assert_eq!(action(&configure), "configure");
    assert!(configure.has_child("pubsub", "http://jabber.org/protocol/pubsub#owner"));
    world.answer(&configure, "error", &error("feature-not-implemented")).unwrap();
    let publish = world.next_to("pubsub.example.com");
    let item = publish.get_child("pubsub", PUBSUB).and_then(|p| p.get_child("publish", PUBSUB));
    let item = item.unwrap().get_child("item", PUBSUB).unwrap();
    assert_eq!(item.attr("id"), Some("jvb.example.com"));
    let stat = item.children().next().unwrap().children().next().unwrap();
    assert_eq!((stat.attr("name"), stat.attr("value")), (Some("conferences"), Some("2")));
    world.answer(&publish, "result", "").unwrap();
    let before = world.now;
    world.next_to("pubsub.example.com");
    assert!(world.now - before <= Duration::from_secs(5));
}

#[test]
fn a_node_that_is_there_is_used_and_one_that_goes_is_made_again() {
    let mut world = World::up(node(5));
    let create = world.next_to("pubsub.example.com");
    world.answer(&create, "error", &error("conflict")).unwrap();
    assert!(world.sent().is_empty(), "somebody else's node is not configured");
    let publish = world.next_to("pubsub.example.com");
    assert_eq!(action(&publish), "publish");
    world.answer(&publish, "error", &error("item-not-found")).unwrap();
    let again = world.next_to("pubsub.example.com");
    assert_eq!(action(&again), "create");
}

#[test]
fn a_refused_publish_is_tried_again() {
    let mut world = World::up(node(5));
    let create = world.next_to("pubsub.example.com");
    world.answer(&create, "error", &error("internal-server-error")).unwrap();
    let create = world.next_to("pubsub.example.com");
    assert_eq!(action(&create), "create");
    world.answer(&create, "error", &error("forbidden")).unwrap();
    for _ in 0..3 {
        let publish = world.next_to("pubsub.example.com");
        assert_eq!(action(&publish), "publish");
        world.answer(&publish, "error", &error("forbidden")).unwrap();
    }
    // No answer at all, and one of somebody else, are no end either.
    let publish = world.next_to("pubsub.example.com");
    let id = publish.attr("id").unwrap();
    world.receive(&format!("<iq type='result' id='{id}' from='mallory@example.com'/>")).unwrap();
    let next = world.next_to("pubsub.example.com");
    assert_eq!(action(&next), "publish");
}

/// What is logged meanwhile.
fn logged(act: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Sink(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, act);
    let bytes = sink.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn each_refusal_is_logged_once_until_it_works_again() {
    let mut world = World::up(node(5));
    let mut refuse = |how: &[&str]| {
        for condition in how {
            let asked = world.next_to("pubsub.example.com");
            match *condition {
                "" => world.answer(&asked, "result", "").unwrap(),
                condition => world.answer(&asked, "error", &error(condition)).unwrap(),
            }
        }
    };
    let lines = |text: &str, what: &str| text.lines().filter(|line| line.contains(what)).count();
    // The node is there; nobody may publish to it, for two reasons in turns.
    let log = logged(|| {
        refuse(&["conflict", "forbidden", "forbidden", "resource-constraint", "forbidden"]);
    });
    assert_eq!(lines(&log, "statistics cannot be published: refused: forbidden"), 1, "{log}");
    assert_eq!(lines(&log, "refused: resource-constraint"), 1, "{log}");
    let log = logged(|| refuse(&["", ""]));
    assert_eq!((lines(&log, "publishing again"), log.lines().count()), (1, 1), "{log}");
    let log = logged(|| refuse(&["forbidden", "forbidden"]));
    assert_eq!((lines(&log, "refused: forbidden"), log.lines().count()), (1, 1), "{log}");
}

#[test]
fn focuses_are_told_unasked() {
    let publish = vec![Publish { interval: Duration::from_secs(5), to: Place::Focus }];
    let mut world = World::up(publish);
    let told = world.next_to("focus@example.com/1");
    assert_eq!(told.attr("type"), Some("result"));
    let stats = told.children().next().unwrap().children().next().unwrap();
    assert_eq!((stats.name(), stats.children().count()), ("stats", 1));
}

fn step(stanza: Stanza, allowed: &Allowed) -> Step {
    let up = Duration::from_secs(7);
    handle(stanza, &Known { version: "2.1", os: "Linux", up, allowed })
}

fn asks(kind: &str, inside: &str, allowed: &Allowed) -> Step {
    let iq = format!(
        "<iq type='{kind}' id='x\u{e9}1' from='focus@example.com/1' to='jvb.example.com'>{inside}</iq>"
    );
    step(parse(iq.as_bytes(), NAMESPACE, Limits::default()).unwrap(), allowed)
}

fn asked(kind: &str, inside: &str) -> Element {
    match asks(kind, inside, &Allowed::default()) {
        Step::Answer(answer) => answer,
        other => panic!("{other:?}"),
    }
}

/// The condition of a refusal, or `result`.
fn outcome(answer: &Element) -> &str {
    let error = answer.get_child("error", NAMESPACE);
    error.map_or("result", |error| error.children().next().unwrap().name())
}

#[test]
fn requests_are_answered_as_jvbs_component_did() {
    let disco = asked("get", &format!("<query xmlns='{DISCO_INFO}'/>"));
    assert_eq!(disco.attr("from"), Some("jvb.example.com"));
    assert_eq!(
        (disco.attr("id"), disco.attr("to")),
        (Some("x\u{e9}1"), Some("focus@example.com/1"))
    );
    let query = disco.children().next().unwrap();
    let identity = query.children().next().unwrap();
    assert_eq!(identity.attr("name"), Some("JitsiVideobridge"));
    let features: Vec<&str> = query.children().filter_map(|c| c.attr("var")).collect();
    assert_eq!(features.len(), 9);
    assert_eq!(features[4], "http://jitsi.org/protocol/colibri");
    for (kind, inside, expected) in [
        ("get", "<ping xmlns='urn:xmpp:ping'/>", "result"),
        ("set", "<query xmlns='jabber:iq:version'/>", "result"),
        ("get", "<query xmlns='jabber:iq:last'/>", "result"),
        ("get", "<time xmlns='urn:xmpp:time'/>", "result"),
        (
            "get",
            "<query xmlns='http://jabber.org/protocol/disco#items'/>",
            "feature-not-implemented",
        ),
        ("set", "<stats xmlns='http://jitsi.org/protocol/colibri'/>", "service-unavailable"),
        (
            "set",
            "<force-shutdown xmlns='http://jitsi.org/protocol/colibri'/>",
            "service-unavailable",
        ),
        ("set", "<ping xmlns='urn:xmpp:ping'/>", "bad-request"),
        ("get", "<x xmlns='y'/>", "bad-request"),
        ("get", "", "bad-request"),
        ("get", "<x xmlns=''/>", "bad-request"),
    ] {
        let answer = asked(kind, inside);
        let error = answer.get_child("error", NAMESPACE);
        assert_eq!(outcome(&answer), expected, "{kind} {inside}");
        assert!(error.is_none() || answer.children().count() == 1, "nothing is repeated");
    }
}

#[test]
fn what_is_no_request_is_not_answered() {
    for text in [
        "<message from='a' id='1'><body>hello</body></message>",
        "<presence from='a'/>",
        "<iq type='result' id='1' from='a'/>",
        "<iq type='get' from='a'><ping xmlns='urn:xmpp:ping'/></iq>",
    ] {
        let stanza = parse(text.as_bytes(), NAMESPACE, Limits::default()).unwrap();
        assert!(matches!(step(stanza, &Allowed::default()), Step::Ignore), "{text}");
    }
}

#[test]
fn a_stanza_that_is_too_deep_is_refused_and_the_rest_is_read() {
    let mut world = World::up(Vec::new());
    let deep = format!(
        "<iq type='get' id='1' from='a'>{}{}</iq><iq type='get' id='2' from='a'/>",
        "<x xmlns='y'>".repeat(200),
        "</x>".repeat(200)
    );
    let events = world.receive(&deep).unwrap();
    assert_eq!(events.len(), 2);
    assert!(matches!(&events[0], Event::Stanza(Stanza::GivenUp { .. })));
}

#[test]
fn the_secret_is_not_shown() {
    let shown =
        format!("{:?}", ComponentConfig { secret: Secret::new("s3cr3t"), ..config(Vec::new()) });
    assert!(!shown.contains("s3cr3t"), "{shown}");
}

const CONFERENCE: &str = "<conference xmlns='http://jitsi.org/protocol/colibri'/>";
const HEALTH: &str = "<healthcheck xmlns='http://jitsi.org/protocol/healthcheck'/>";
const GRACEFUL: &str = "<graceful-shutdown xmlns='http://jitsi.org/protocol/colibri'/>";
const FORCE: &str = "<force-shutdown xmlns='http://jitsi.org/protocol/colibri'/>";

#[test]
fn health_is_told_truly() {
    let Step::Health(reply) = asks("get", HEALTH, &Allowed::default()) else { panic!() };
    assert_eq!(outcome(&reply.clone().health(Ok(()))), "result");
    let ill = HealthError { hard: false, message: "Engine thread 1 is silent".to_owned() };
    let answer = reply.health(Err(ill));
    assert_eq!(outcome(&answer), "internal-server-error");
    assert!(String::from(&answer).contains("Engine thread 1 is silent"));
}

#[test]
fn who_may_not_ask_is_told_so() {
    let ours = SourcePattern::new("focus@example\\.com/.*");
    let others = SourcePattern::new("admin@example\\.com/.*");
    let only = |ask: &Option<SourcePattern>, shutdown: &Option<SourcePattern>| Allowed {
        ask: ask.clone(),
        shutdown: shutdown.clone(),
    };
    let said = |inside: &str, allowed: &Allowed| match asks("set", inside, allowed) {
        Step::Answer(answer) => {
            let text = String::from(&answer);
            assert!(!text.contains("<text"), "{text}");
            assert!(!text.contains("not-authorized") || text.contains("type='auth'"), "{text}");
            outcome(&answer).to_owned()
        }
        Step::Conference { .. } => "conference".to_owned(),
        Step::Health(_) => "health".to_owned(),
        Step::Shutdown { graceful: true, .. } => "graceful".to_owned(),
        Step::Shutdown { .. } => "force".to_owned(),
        other => panic!("{other:?}"),
    };
    for (allowed, conference, health, graceful, force) in [
        (only(&None, &None), "conference", "health", "service-unavailable", "service-unavailable"),
        (only(&ours, &None), "conference", "health", "graceful", "force"),
        (
            only(&others, &None),
            "not-authorized",
            "not-authorized",
            "not-authorized",
            "not-authorized",
        ),
        (only(&others, &ours), "not-authorized", "not-authorized", "graceful", "force"),
        (only(&ours, &others), "conference", "health", "not-authorized", "not-authorized"),
    ] {
        let answers = [CONFERENCE, HEALTH, GRACEFUL, FORCE].map(|inside| said(inside, &allowed));
        assert_eq!(answers, [conference, health, graceful, force], "{allowed:?}");
    }
}

#[test]
fn the_server_says_what_the_component_is_called() {
    let now = Instant::now();
    let alone = ComponentConfig { domain: None, ..config(node(5)) };
    let mut world = World { session: Session::new(&alone, now), now };
    world.receive(&STREAM.replace("jvb.example.com", "jvb.other.net")).unwrap();
    world.receive("<handshake/>").unwrap();
    world.session.take_output();
    let create = world.next_to("pubsub.example.com");
    assert_eq!(create.attr("from"), Some("jvb.other.net"));
    world.answer(&create, "error", &error("conflict")).unwrap();
    let publish = world.next_to("pubsub.example.com");
    assert!(String::from(&publish).contains("<item id='jvb.other.net'"), "{publish:?}");
}

#[test]
fn two_nodes_are_published_to_each_in_its_time() {
    let mut places = node(5);
    places.push(Publish {
        interval: Duration::from_secs(2),
        to: Place::Node { service: "other.example.com".into(), node: "mine".into() },
    });
    let mut world = World::up(places);
    let start = world.now;
    let mut published = [0, 0];
    while world.now < start + Duration::from_secs(60) {
        for stanza in world.pass().unwrap() {
            let to = stanza.attr("to").unwrap().to_owned();
            for (count, service) in
                published.iter_mut().zip(["pubsub.example.com", "other.example.com"])
            {
                *count += u32::from(to == service && action(&stanza) == "publish");
            }
            world.answer(&stanza, "result", "").unwrap();
        }
        // Nodes are configured as soon as they are made.
        for stanza in world.sent() {
            world.answer(&stanza, "result", "").unwrap();
        }
    }
    let [slow, fast] = published;
    assert!((11..=13).contains(&slow) && (29..=31).contains(&fast), "{published:?}");
}

#[test]
fn a_service_that_comes_later_is_published_to() {
    let mut world = World::up(node(5));
    for condition in ["service-unavailable", "remote-server-not-found", "service-unavailable"] {
        let create = world.next_to("pubsub.example.com");
        assert_eq!(action(&create), "create");
        world.answer(&create, "error", &error(condition)).unwrap();
    }
    let create = world.next_to("pubsub.example.com");
    world.answer(&create, "result", "").unwrap();
    let form = String::from(&world.sent().pop().unwrap());
    for field in [
        "<field type='hidden' var='FORM_TYPE'><value>http://jabber.org/protocol/pubsub#node_config</value>",
        "<field type='list-single' var='pubsub#access_model'><value>open</value>",
        "<field type='boolean' var='pubsub#persist_items'><value>false</value>",
        "<field type='list-single' var='pubsub#publish_model'><value>open</value>",
    ] {
        assert!(form.contains(field), "{form}");
    }
}

/// And so does the bridge's health, after a while.
#[tokio::test(start_paused = true)]
async fn a_link_that_is_down_tells_for_how_long() {
    let link = Link::default();
    tokio::time::sleep(Duration::from_secs(91)).await;
    assert_eq!(link.absent_for().map(|time| time.as_secs()), Some(91));
    link.up();
    assert_eq!(link.absent_for(), None);
    link.down();
    tokio::time::sleep(Duration::from_secs(3)).await;
    link.down();
    assert_eq!(link.absent_for().map(|time| time.as_secs()), Some(3));

    let rig = crate::bridge::tests::rig::rig(crate::bridge::BridgeConfig::default());
    let shown = link.clone();
    let report = crate::bridge::SelfReport::new(rig.bridge.clone(), "1")
        .as_component(move || shown.absent_for());
    let stats = report.read_for_v1();
    assert!(stats.iter().any(|(name, _)| *name == "videostreams"));
    tokio::time::sleep(Duration::from_secs(90)).await;
    let ill = report.health().unwrap_err();
    assert!(!ill.hard && ill.message.contains("the component is not connected"), "{ill}");
    link.up();
    report.health().unwrap();
}
