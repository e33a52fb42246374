use super::*;
use crate::xmpp::{Limits, parse};

const LONG_ID: &str = "anZiQGF1dGguaml0c2kubG9jYWwvVmVHNDNKUzdWbE5iADM2TFNILTkAvkxAjkPW1Ig=";

fn about() -> About {
    About { name: "Rialto".into(), version: "0.1.0".into(), os: "Linux".into() }
}

fn step(text: &str) -> Step {
    handle(&parse(text.as_bytes(), "jabber:client", Limits::default()).unwrap(), &about())
}

fn request(kind: &str, inside: &str) -> Step {
    step(&format!("<iq id='{LONG_ID}' type='{kind}' from='r@c/focus' to='jvb@a/x'>{inside}</iq>"))
}

fn answered(kind: &str, inside: &str) -> String {
    match request(kind, inside) {
        Step::Answer(answer) => {
            assert_eq!((answer.attr("id"), answer.attr("to")), (Some(LONG_ID), Some("r@c/focus")));
            assert_eq!(answer.attr("from"), None);
            let kind = answer.attr("type").unwrap().to_owned();
            let inside: Vec<String> = answer.children().map(String::from).collect();
            format!("{kind} {}", inside.concat())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_needs_no_bridge_is_answered_at_once() {
    assert_eq!(answered("get", "<ping xmlns='urn:xmpp:ping'/>"), "result ");
    assert_eq!(
        answered("get", "<query xmlns='jabber:iq:version'/>"),
        "result <query xmlns='jabber:iq:version'><name>Rialto</name><version>0.1.0</version><os>Linux</os></query>"
    );
    let info = answered("get", "<query xmlns='http://jabber.org/protocol/disco#info'/>");
    for feature in [
        "http://jitsi.org/protocol/healthcheck",
        "urn:xmpp:jingle:apps:dtls:0",
        "urn:xmpp:jingle:transports:ice-udp:1",
        "jabber:iq:version",
    ] {
        assert!(info.contains(&format!("<feature var='{feature}'/>")), "{info}");
    }
    let items = "<query xmlns='http://jabber.org/protocol/disco#items'/>";
    assert_eq!(answered("get", items), format!("result {items}"));
}

#[test]
fn what_is_not_known_is_refused_as_rfc_6120_says() {
    let unavailable = answered("set", "<foo xmlns='urn:foo' a='b'><secret/></foo>");
    assert_eq!(
        unavailable,
        "error <error xmlns='jabber:client' type='cancel'>\
         <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
         <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>Unsupported IQ request foo</text>\
         </error><foo xmlns='urn:foo' a='b'/>"
    );
    let shutdown = "<graceful-shutdown xmlns='http://jitsi.org/protocol/colibri'/>";
    assert!(answered("set", shutdown).contains("<service-unavailable"));
    let node = "<query xmlns='http://jabber.org/protocol/disco#info' node='n'/>";
    assert!(answered("get", node).contains("<item-not-found"));
    assert!(answered("set", "<ping xmlns='urn:xmpp:ping'/>").contains("<service-unavailable"));
    assert!(answered("get", "").contains("<bad-request"));
    assert!(answered("get", "<a/><b/>").contains("<bad-request"));
    let modify = "<conference-modify xmlns='jitsi:colibri2' create='true'/>";
    assert!(answered("get", modify).contains("meeting-id must be set"));
}

#[test]
fn what_is_too_large_is_refused_and_named() {
    let deep = format!("<q xmlns='x'>{}{}</q>", "<d>".repeat(1000), "</d>".repeat(1000));
    let refused = answered("get", &deep);
    assert!(refused.contains("<policy-violation"), "{refused}");
    assert!(refused.ends_with("<q xmlns='x'/>"), "{refused}");
}

#[test]
fn what_is_no_request_is_not_answered() {
    for text in [
        "<iq id='a' type='result'/>",
        "<iq id='a' type='error'><error/></iq>",
        "<iq id='a' type='loud'><q/></iq>",
        "<iq type='get'><q/></iq>",
        "<iq id='a'><q/></iq>",
        "<message id='a' type='get'><q/></message>",
        "<presence/>",
    ] {
        assert!(matches!(step(text), Step::Ignore), "{text}");
    }
}

#[test]
fn health_is_an_empty_result_or_an_error_with_the_reason() {
    for kind in ["get", "set"] {
        let check = || match request(
            kind,
            "<healthcheck xmlns='http://jitsi.org/protocol/healthcheck'/>",
        ) {
            Step::Health(reply) => reply,
            other => panic!("{other:?}"),
        };
        let well = check().health(Ok(()));
        assert_eq!((well.attr("type"), well.children().count()), (Some("result"), 0));
        let ill = check().health(Err(HealthError { hard: true, message: "why".into() }));
        let ill = String::from(&ill);
        assert!(ill.contains("<internal-server-error") && ill.contains(">why</text>"), "{ill}");
    }
}

#[test]
fn whoever_asks_is_answered_by_the_name_that_came() {
    let ping = "<ping xmlns='urn:xmpp:ping'/>";
    let to = |text: &str| match step(text) {
        Step::Answer(answer) => answer.attr("to").map(str::to_owned),
        other => panic!("{other:?}"),
    };
    // A server's own request to its client has no sender.
    assert_eq!(to(&format!("<iq id='a' type='get'>{ping}</iq>")), None);
    for (written, read) in [
        ("r@c/A &lt;b&gt; &amp; &apos;c&apos;", "r@c/A <b> & 'c'"),
        ("stranger@elsewhere.example", "stranger@elsewhere.example"),
        ("", ""),
        ("@/", "@/"),
        ("r@c/\u{e9}", "r@c/\u{e9}"),
    ] {
        let asked =
            format!("<iq id='a' type='get' from='{written}' to='not us/at all'>{ping}</iq>");
        assert_eq!(to(&asked).as_deref(), Some(read));
    }
}

/// Everybody in a room may write to its bridges.
#[tokio::test]
async fn unauthorized_senders_are_refused() {
    let (bridge, _media) = crate::faces::tests::bridge(crate::bridge::BridgeConfig::default());
    let adapter = Adapter::new(bridge, about());
    let ask = async |text: &str, authorized: Option<&SourcePattern>| {
        let stanza = parse(text.as_bytes(), "jabber:client", Limits::default()).unwrap();
        match adapter.answer(Asked { stanza: &stanza, authorized, busy: false }) {
            Answer::Now(answer) => String::from(&answer),
            Answer::Later(answer) => String::from(&answer.await),
            Answer::Nothing => String::new(),
        }
    };
    let colibri = "<conference-modify xmlns='jitsi:colibri2' meeting-id='m' create='true'/>";
    let broken = "<conference-modify xmlns='jitsi:colibri2'/>";
    let health = "<healthcheck xmlns='http://jitsi.org/protocol/healthcheck'/>";
    let ping = "<ping xmlns='urn:xmpp:ping'/>";
    for (pattern, may) in [
        (None, true),
        (Some("brewery@example\\.com/focus"), true),
        (Some("brewery@.*/jicofo"), false),
    ] {
        let authorized = pattern.and_then(SourcePattern::new);
        for inside in [colibri, broken, health, &format!("<a/>{colibri}")] {
            let iq =
                format!("<iq id='1' type='get' from='brewery@example.com/focus'>{inside}</iq>");
            let said = ask(&iq, authorized.as_ref()).await;
            assert!(!said.is_empty());
            assert_eq!(said.contains("<not-authorized"), !may, "{pattern:?} {inside}: {said}");
        }
        let ping = format!("<iq id='1' type='get' from='somebody@else'>{ping}</iq>");
        let said = ask(&ping, authorized.as_ref()).await;
        assert!(said.contains("type='result'") || said.contains("type=\"result\""), "{said}");
    }
}

#[tokio::test]
async fn what_has_to_wait_is_refused_when_too_much_waits() {
    let (bridge, _media) = crate::faces::tests::bridge(crate::bridge::BridgeConfig::default());
    let adapter = Adapter::new(bridge.clone(), about());
    let modify = "<conference-modify xmlns='jitsi:colibri2' meeting-id='m' create='true'/>";
    for (inside, refused) in [(modify, true), ("<ping xmlns='urn:xmpp:ping'/>", false)] {
        let text = format!("<iq id='1' type='get' from='a@b/c'>{inside}</iq>");
        let stanza = parse(text.as_bytes(), "jabber:client", Limits::default()).unwrap();
        let answer = adapter.answer(Asked { stanza: &stanza, authorized: None, busy: true });
        let Answer::Now(answer) = answer else { panic!("it waits") };
        assert_eq!(String::from(&answer).contains("<resource-constraint"), refused);
    }
    assert_eq!(bridge.stats().conferences, 0);
}
