//! The bridge as a component of a real server: known by its secret, published to a node, asked for
//! channels.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use minidom::Element;
use rialto::{
    bridge::SelfReport,
    config::Secret,
    faces::{self, colibri1, component::Adapter},
    xmpp::component::{Allowed, Component, ComponentConfig, Link, Place, Publish},
};

use super::{
    focus::Focus,
    here::Here,
    prosody::{COMPONENT, DOMAIN, NODE, PUBSUB, Prosody, SECRET},
};

fn component(here: &Here, port: u16) -> Component {
    let to = Place::Node { service: PUBSUB.to_owned(), node: NODE.to_owned() };
    let config = ComponentConfig {
        host: "127.0.0.1".to_owned(),
        port,
        domain: Some(DOMAIN.to_owned()),
        subdomain: "jitsi-videobridge".to_owned(),
        secret: Secret::new(SECRET),
        allowed: Allowed::default(),
        publish: vec![Publish { interval: Duration::from_millis(100), to }],
    };
    let adapter = Adapter {
        colibri: Arc::new(colibri1::Adapter::new(here.bridge.clone(), 7)),
        report: SelfReport::new(here.bridge.clone(), "1.0"),
        version: "1.0".to_owned(),
        os: "Linux".to_owned(),
        allowed: Allowed::default(),
        began: Instant::now(),
    };
    faces::connect_component(config, adapter, Link::default())
}

/// Asks until the answer is a result: the component, or its node, may not be there yet.
fn ask(focus: &mut Focus, to: &str, kind: &str, inside: &str) -> Element {
    for attempt in 0..600 {
        let id = format!("{to}-{attempt}");
        focus.send(&format!("<iq type='{kind}' id='{id}' to='{to}'>{inside}</iq>"));
        let answer = focus.next(|element| element.attr("id") == Some(id.as_str()));
        if answer.attr("type") == Some("result") {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{to} does not answer {inside}");
}

/// A published number.
fn published(focus: &mut Focus, name: &str, wanted: &str) {
    focus.next(|element| {
        let text = String::from(element);
        element.name() == "message"
            && text.contains(&format!("id=\"{COMPONENT}\""))
                | text.contains(&format!("id='{COMPONENT}'"))
            && stat(element, name).as_deref() == Some(wanted)
    });
}

fn stat(element: &Element, name: &str) -> Option<String> {
    if element.name() == "stat" && element.attr("name") == Some(name) {
        return element.attr("value").map(str::to_owned);
    }
    element.children().find_map(|child| stat(child, name))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_publishes_its_load_and_allocates_channels() {
    let Some((prosody, component_port)) = Prosody::with_component() else { return };
    let here = Here::without_clients();
    let mut component = component(&here, component_port);
    let port = prosody.port();
    let asked = tokio::task::spawn_blocking(move || flow(port));
    asked.await.unwrap();
    component.leave().await;
    assert_eq!(here.bridge.stats().conferences, 0);
}

/// Whatever goes with its server, the component is back, and where a focus looks for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_is_back_after_its_server_and_makes_its_node_again() {
    let Some((mut prosody, component_port)) = Prosody::with_component() else { return };
    let here = Here::without_clients();
    let mut component = component(&here, component_port);
    let port = prosody.port();
    for _ in 0..3 {
        let seen = move || {
            let mut focus = Focus::log_in(port, "focus");
            subscribe(&mut focus);
            published(&mut focus, "conferences", "0");
        };
        tokio::task::spawn_blocking(seen).await.unwrap();
        prosody.kill();
        prosody.forget_nodes();
        prosody.launch();
    }
    component.leave().await;
}

/// Subscribes to the node, as soon as the bridge has made it.
fn subscribe(focus: &mut Focus) {
    let jid = focus.jid().to_owned();
    let subscribe = format!(
        "<pubsub xmlns='http://jabber.org/protocol/pubsub'><subscribe node='{NODE}' jid='{jid}'/></pubsub>"
    );
    ask(focus, PUBSUB, "set", &subscribe);
}

fn flow(port: u16) {
    let mut focus = Focus::log_in(port, "focus");
    let info =
        ask(&mut focus, COMPONENT, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>");
    let features = String::from(&info);
    for feature in ["http://jitsi.org/protocol/colibri", "urn:xmpp:jingle:transports:ice-udp:1"] {
        assert!(features.contains(feature), "{features}");
    }
    let stats =
        ask(&mut focus, COMPONENT, "get", "<stats xmlns='http://jitsi.org/protocol/colibri'/>");
    assert_eq!(stat(&stats, "conferences").as_deref(), Some("0"));
    subscribe(&mut focus);
    published(&mut focus, "conferences", "0");
    let conference = "<conference xmlns='http://jitsi.org/protocol/colibri' name='room'>\
        <content name='audio'><channel endpoint='a' channel-bundle-id='a' initiator='true' expire='60'/></content>\
        <channel-bundle id='a'><transport xmlns='urn:xmpp:jingle:transports:ice-udp:1'/></channel-bundle>\
        </conference>";
    let answer = ask(&mut focus, COMPONENT, "set", conference);
    let conference = answer.children().next().unwrap();
    let id = conference.attr("id").unwrap().to_owned();
    assert!(String::from(conference).contains("ufrag"), "{}", String::from(conference));
    published(&mut focus, "conferences", "1");
    let channel = conference
        .children()
        .find(|child| child.name() == "content")
        .and_then(|content| content.children().find(|child| child.name() == "channel"))
        .and_then(|channel| channel.attr("id"))
        .unwrap()
        .to_owned();
    let expire = format!(
        "<conference xmlns='http://jitsi.org/protocol/colibri' id='{id}'>\
         <content name='audio'><channel id='{channel}' expire='0'/></content></conference>"
    );
    ask(&mut focus, COMPONENT, "set", &expire);
}
