//! What a JVB sent on its way into a brewery and out of it, and what this bridge sends where a server
//! says the same.

use std::{fs, path::Path, time::Instant};

use minidom::{Element, rxml::Namespace};

use crate::xmpp::{
    Limits, Stanza,
    client::{
        room::Room,
        session::{Out, Session},
    },
    parse, put,
    stanza::CLIENT,
};

const STATS: &str =
    "<stats xmlns='http://jitsi.org/protocol/colibri'><stat name='a' value='1'/></stats>";

/// The captured stanza of a number.
fn captured(number: &str) -> Element {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/xmpp");
    let mut files = fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
    let is = |path: &Path| path.file_name().unwrap().to_str().unwrap().starts_with(number);
    let text = fs::read_to_string(files.find(|path| is(path)).unwrap()).unwrap();
    match parse(text.trim().as_bytes(), CLIENT, Limits::default()).unwrap() {
        Stanza::Whole(element) => element,
        refused_stanza @ Stanza::Refused { .. } => panic!("{refused_stanza:?}"),
    }
}

/// An element in an order of its own, without ids and languages, without a priority of 0, which is
/// what there is without one (RFC 6121 section 4.7.2.3), and without the hash of what a library can do.
fn plain(element: &Element) -> String {
    let mut attributes: Vec<String> = element
        .attrs()
        .iter()
        .filter(|((namespace, name), _)| **namespace == Namespace::NONE && name.as_str() != "id")
        .map(|((_, name), value)| format!(" {name}={value:?}"))
        .collect();
    attributes.sort();
    let wanted = |child: &&Element| !matches!(child.name(), "priority" | "c");
    let mut children: Vec<String> = element.children().filter(wanted).map(plain).collect();
    children.sort();
    let (name, namespace, text) = (element.name(), element.ns(), element.text());
    format!("<{{{namespace}}}{name}{}>{text}{}</>", attributes.concat(), children.concat())
}

fn session(room: &str, nickname: &str) -> (Session, Instant) {
    let now = Instant::now();
    let room = Room::new(room, nickname, now, || 0.5);
    (Session::new(vec![room], STATS.parse().unwrap(), now), now)
}

/// What it sends next, and the events in between.
fn sent(session: &mut Session) -> Vec<Element> {
    let element = |out| match out {
        Out::Send(element) => Some(element),
        _ => None,
    };
    std::iter::from_fn(|| session.next()).filter_map(element).collect()
}

/// A captured presence whose statistics are ours.
fn with_our_stats(mut presence: Element) -> Element {
    let stats = presence.children_mut().find(|child| child.name() == "stats").unwrap();
    *stats = STATS.parse().unwrap();
    presence
}

#[test]
fn the_first_in_a_brewery_does_what_jvb_does() {
    let (mut session, now) = session("peersbrewery@internal.auth.jitsi.local", "jvb-peers-1");
    let join = sent(&mut session);
    assert_eq!(join.iter().map(plain).collect::<Vec<_>>(), [plain(&captured("113"))]);

    let hear = |session: &mut Session, stanza: Element| {
        session.on_stanza(&Stanza::Whole(stanza), now);
        sent(session)
    };
    let entered = hear(&mut session, captured("114"));
    let expected = [captured("116"), with_our_stats(captured("120"))];
    assert_eq!(
        entered.iter().map(plain).collect::<Vec<_>>(),
        expected.iter().map(plain).collect::<Vec<_>>()
    );
    assert!(hear(&mut session, captured("115")).is_empty(), "the subject is nothing to us");

    let answer = |number, request: &Element| {
        let mut answer = captured(number);
        let id = request.attr("id").unwrap().to_owned();
        put(answer.attrs_mut(), "id", &id);
        answer
    };
    let form = hear(&mut session, answer("117", &entered[0]));
    assert_eq!(form.iter().map(plain).collect::<Vec<_>>(), [plain(&captured("118"))]);
    assert!(hear(&mut session, answer("119", &form[0])).is_empty());
    assert!(hear(&mut session, captured("121")).is_empty(), "our own, repeated");
    assert_eq!(session.joined(), 1);
}

#[test]
fn whoever_comes_second_configures_nothing_and_leaves_as_jvb_does() {
    let (mut session, now) = session("jvbbrewery@internal.auth.jitsi.local", "jvb-lab-1");
    let join = sent(&mut session);
    assert_eq!(join.iter().map(plain).collect::<Vec<_>>(), [plain(&captured("011"))]);
    for number in ["012", "013", "014", "016"] {
        let stanza = Stanza::Whole(captured(number));
        session.on_stanza(&stanza, now);
    }
    let entered: Vec<String> = sent(&mut session).iter().map(plain).collect();
    assert_eq!(entered, [plain(&with_our_stats(captured("015")))]);
    session.leave();
    let left: Vec<String> = sent(&mut session).iter().map(plain).collect();
    assert_eq!(left, [plain(&captured("099")), plain(&captured("101"))]);
}
