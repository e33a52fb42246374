//! What a component publishes, and when.

use std::time::Instant;

use minidom::Element;

use super::*;
use crate::xmpp::{Limits, driver::Purpose as _, parse};

const PUBSUB: &str = "http://jabber.org/protocol/pubsub";
const CLIENT: &str = "jabber:client";

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

/// Statistics of two conferences of one focus.
struct Two;

impl Statistics for Two {
    fn read(&self) -> Element {
        "<stats xmlns='http://jitsi.org/protocol/colibri'><stat name='conferences' value='2'/></stats>"
            .parse()
            .unwrap()
    }

    fn foci(&self) -> Vec<String> {
        vec!["focus@example.com/1".to_owned()]
    }
}

struct World {
    session: Session,
    now: Instant,
}

impl World {
    /// A session that has just begun.
    fn up(publish: &[Publish]) -> Self {
        Self::under("jvb.example.com", publish)
    }

    fn under(jid: &str, publish: &[Publish]) -> Self {
        let now = Instant::now();
        let mut session = Session::new(publish, Arc::new(Two), Link::default());
        session.begin(jid, now);
        Self { session, now }
    }

    fn receive(&mut self, text: &str) {
        let stanza = parse(text.as_bytes(), CLIENT, Limits::default()).unwrap();
        self.session.on_stanza(&stanza, self.now);
    }

    /// Lets time pass up to the next thing that is due; what is sent then.
    fn pass(&mut self) -> Vec<Element> {
        self.now = self.session.deadline().map_or(self.now, |due| self.now.max(due));
        self.session.on_time(self.now);
        self.sent()
    }

    fn sent(&mut self) -> Vec<Element> {
        std::iter::from_fn(|| self.session.next()).collect()
    }

    /// The next stanza to somebody.
    fn next_to(&mut self, to: &str) -> Element {
        for _ in 0..100 {
            for stanza in self.pass() {
                if stanza.attr("to") == Some(to) {
                    return stanza;
                }
                self.answer(&stanza, "result", "");
            }
        }
        panic!("nothing to {to}");
    }

    fn answer(&mut self, asked: &Element, kind: &str, inside: &str) {
        let (id, to) = (asked.attr("id").unwrap(), asked.attr("to").unwrap());
        self.receive(&format!("<iq type='{kind}' id='{id}' from='{to}'>{inside}</iq>"));
    }
}

fn error(condition: &str) -> String {
    format!("<error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>")
}

/// What is done to the node: `create`, `configure`, `publish`.
fn action(iq: &Element) -> &str {
    iq.children().next().unwrap().children().next().unwrap().name()
}

fn node(interval: u64) -> Vec<Publish> {
    let to = Place::Node { service: "pubsub.example.com".into(), node: "sharedStatsNode".into() };
    vec![Publish { interval: Duration::from_secs(interval), to }]
}

#[test]
fn a_node_is_made_configured_and_published_to() {
    let mut world = World::up(&node(5));
    let create = world.next_to("pubsub.example.com");
    assert_eq!((action(&create), create.attr("type")), ("create", Some("set")));
    world.answer(&create, "result", "");
    let configure = world.sent().pop().unwrap();
    assert_eq!(action(&configure), "configure");
    assert!(configure.has_child("pubsub", "http://jabber.org/protocol/pubsub#owner"));
    world.answer(&configure, "error", &error("feature-not-implemented"));
    let publish = world.next_to("pubsub.example.com");
    let item = publish.get_child("pubsub", PUBSUB).and_then(|p| p.get_child("publish", PUBSUB));
    let item = item.unwrap().get_child("item", PUBSUB).unwrap();
    assert_eq!(item.attr("id"), Some("jvb.example.com"));
    let stat = item.children().next().unwrap().children().next().unwrap();
    assert_eq!((stat.attr("name"), stat.attr("value")), (Some("conferences"), Some("2")));
    world.answer(&publish, "result", "");
    let before = world.now;
    world.next_to("pubsub.example.com");
    assert!(world.now - before <= Duration::from_secs(5));
}

#[test]
fn a_node_that_is_there_is_used_and_one_that_goes_is_made_again() {
    let mut world = World::up(&node(5));
    let create = world.next_to("pubsub.example.com");
    world.answer(&create, "error", &error("conflict"));
    assert!(world.sent().is_empty(), "somebody else's node is not configured");
    let publish = world.next_to("pubsub.example.com");
    assert_eq!(action(&publish), "publish");
    world.answer(&publish, "error", &error("item-not-found"));
    let again = world.next_to("pubsub.example.com");
    assert_eq!(action(&again), "create");
}

#[test]
fn a_refused_publish_is_tried_again() {
    let mut world = World::up(&node(5));
    let create = world.next_to("pubsub.example.com");
    world.answer(&create, "error", &error("internal-server-error"));
    let create = world.next_to("pubsub.example.com");
    assert_eq!(action(&create), "create");
    world.answer(&create, "error", &error("forbidden"));
    for _ in 0..3 {
        let publish = world.next_to("pubsub.example.com");
        assert_eq!(action(&publish), "publish");
        world.answer(&publish, "error", &error("forbidden"));
    }
    // No answer at all, and one of somebody else, are no end either.
    let publish = world.next_to("pubsub.example.com");
    let id = publish.attr("id").unwrap();
    world.receive(&format!("<iq type='result' id='{id}' from='mallory@example.com'/>"));
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
    let mut world = World::up(&node(5));
    let mut refuse = |how: &[&str]| {
        for condition in how {
            let asked = world.next_to("pubsub.example.com");
            match *condition {
                "" => world.answer(&asked, "result", ""),
                condition => world.answer(&asked, "error", &error(condition)),
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
fn statistics_are_pushed_to_focuses() {
    let publish = vec![Publish { interval: Duration::from_secs(5), to: Place::Focus }];
    let mut world = World::up(&publish);
    let told = world.next_to("focus@example.com/1");
    assert_eq!(told.attr("type"), Some("result"));
    let stats = told.children().next().unwrap().children().next().unwrap();
    assert_eq!((stats.name(), stats.children().count()), ("stats", 1));
}

#[test]
fn the_secret_is_not_shown() {
    let shown =
        format!("{:?}", ComponentConfig { secret: Secret::new("s3cr3t"), ..config(Vec::new()) });
    assert!(!shown.contains("s3cr3t"), "{shown}");
}

#[test]
fn the_name_that_the_server_gave_is_published() {
    let mut world = World::under("jvb.other.net", &node(5));
    let create = world.next_to("pubsub.example.com");
    world.answer(&create, "error", &error("conflict"));
    let publish = world.next_to("pubsub.example.com");
    assert!(String::from(&publish).contains("<item id='jvb.other.net'"), "{publish:?}");
}

/// A node that was there before the server was restarted may have gone with it.
#[test]
fn a_new_session_begins_from_the_beginning() {
    let mut world = World::up(&node(5));
    let create = world.next_to("pubsub.example.com");
    world.answer(&create, "error", &error("conflict"));
    assert_eq!(action(&world.next_to("pubsub.example.com")), "publish");
    world.session.begin("jvb.example.com", world.now);
    assert_eq!(action(&world.next_to("pubsub.example.com")), "create");
}

#[test]
fn two_nodes_are_published_to_each_in_its_time() {
    let mut places = node(5);
    places.push(Publish {
        interval: Duration::from_secs(2),
        to: Place::Node { service: "other.example.com".into(), node: "mine".into() },
    });
    let mut world = World::up(&places);
    let start = world.now;
    let mut published = [0, 0];
    while world.now < start + Duration::from_secs(60) {
        for stanza in world.pass() {
            let to = stanza.attr("to").unwrap().to_owned();
            for (count, service) in
                published.iter_mut().zip(["pubsub.example.com", "other.example.com"])
            {
                *count += u32::from(to == service && action(&stanza) == "publish");
            }
            world.answer(&stanza, "result", "");
        }
        // Nodes are configured as soon as they are made.
        for stanza in world.sent() {
            world.answer(&stanza, "result", "");
        }
    }
    let [slow, fast] = published;
    assert!((11..=13).contains(&slow) && (29..=31).contains(&fast), "{published:?}");
}

#[test]
fn a_service_that_comes_later_is_published_to() {
    let mut world = World::up(&node(5));
    for condition in ["service-unavailable", "remote-server-not-found", "service-unavailable"] {
        let create = world.next_to("pubsub.example.com");
        assert_eq!(action(&create), "create");
        world.answer(&create, "error", &error(condition));
    }
    let create = world.next_to("pubsub.example.com");
    world.answer(&create, "result", "");
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
