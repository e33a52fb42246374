//! Requests to a component, and its answers.

use super::*;
use crate::xmpp::{Limits, parse};

const NAMESPACE: &str = "jabber:client";

fn step(stanza: &Stanza, allowed: &Allowed) -> Step {
    let up = Duration::from_secs(7);
    handle(stanza, &Known { version: "2.1", os: "Linux", up, allowed })
}

fn asks(kind: &str, inside: &str, allowed: &Allowed) -> Step {
    let iq = format!(
        "<iq type='{kind}' id='x\u{e9}1' from='focus@example.com/1' to='jvb.example.com'>{inside}</iq>"
    );
    step(&parse(iq.as_bytes(), NAMESPACE, Limits::default()).unwrap(), allowed)
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
    let disco = asked("get", &format!("<query xmlns='{}'/>", ns::DISCO_INFO));
    assert_eq!(disco.attr("from"), Some("jvb.example.com"));
    assert_eq!(
        (disco.attr("id"), disco.attr("to")),
        (Some("x\u{e9}1"), Some("focus@example.com/1"))
    );
    let query = disco.children().next().unwrap();
    let identity = query.children().next().unwrap();
    assert_eq!(identity.attr("name"), Some("JitsiVideobridge"));
    let features: Vec<&str> = query.children().filter_map(|c| c.attr("var")).collect();
    let mut jvbs = FEATURES;
    jvbs.sort_unstable();
    assert_eq!(features, jvbs);
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
        assert!(matches!(step(&stanza, &Allowed::default()), Step::Ignore), "{text}");
    }
}

const CONFERENCE: &str = "<conference xmlns='http://jitsi.org/protocol/colibri'/>";
const HEALTH: &str = "<healthcheck xmlns='http://jitsi.org/protocol/healthcheck'/>";
const GRACEFUL: &str = "<graceful-shutdown xmlns='http://jitsi.org/protocol/colibri'/>";
const FORCE: &str = "<force-shutdown xmlns='http://jitsi.org/protocol/colibri'/>";

#[test]
fn health_is_reported() {
    let Step::Health(reply) = asks("get", HEALTH, &Allowed::default()) else { panic!() };
    assert_eq!(outcome(&reply.clone().health(Ok(()))), "result");
    let ill = HealthError { hard: false, message: "Engine thread 1 is silent".to_owned() };
    let answer = reply.health(Err(ill));
    assert_eq!(outcome(&answer), "internal-server-error");
    assert!(String::from(&answer).contains("Engine thread 1 is silent"));
}

#[test]
fn unauthorized_senders_are_refused() {
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
