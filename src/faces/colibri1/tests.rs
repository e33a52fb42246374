use std::time::Duration;

use minidom::Element;
use rialto_engine::Control;
use rialto_media::EndpointId;

use super::{Adapter, Refusal, adapter::FILL_TIME};
use crate::{
    bridge::{
        BridgeConfig,
        tests::rig::{Rig, rig},
    },
    colibri::{Condition, v1::*, xml::STANZA_ERRORS},
};

mod channels;

const FOCUS: &str = "focus@auth.example.com/focus1";

struct World {
    rig: Rig,
    face: Adapter,
}

impl World {
    fn new() -> Self {
        Self::with(BridgeConfig::default())
    }

    fn with(config: BridgeConfig) -> Self {
        let rig = rig(config);
        let face = Adapter::new(rig.bridge.clone(), 7);
        Self { rig, face }
    }

    async fn ask(&self, inside: &str) -> Result<Element, Refusal> {
        self.face.ask(FOCUS, &request(inside)).await
    }

    /// The room of two, and the answer.
    async fn two(&self) -> Element {
        self.ask(&format!("name='room1'>{}", create(&["alice", "bob"]))).await.unwrap()
    }
}

/// `<conference` and what follows.
fn request(inside: &str) -> Element {
    format!("<conference xmlns='{NAMESPACE}' {inside}</conference>").parse().unwrap()
}

/// Contents and bundles that create endpoints.
fn create(endpoints: &[&str]) -> String {
    let channels = |payload: &str, last_n: &str| -> String {
        let made = endpoints
            .iter()
            .map(|e| {
                format!(
                    "<channel endpoint='{e}' initiator='true' channel-bundle-id='{e}'{last_n}>\
                     {payload}</channel>"
                )
            })
            .collect::<Vec<_>>();
        made.concat()
    };
    let rtp = "xmlns='urn:xmpp:jingle:apps:rtp:1'";
    let opus = format!(
        "<payload-type {rtp} id='111' name='opus' clockrate='48000' channels='2'/>\
         <rtp-hdrext xmlns='urn:xmpp:jingle:apps:rtp:rtp-hdrext:0' id='1' \
         uri='urn:ietf:params:rtp-hdrext:ssrc-audio-level'/>"
    );
    let vp8 = format!("<payload-type {rtp} id='100' name='VP8' clockrate='90000'/>");
    let bundles = endpoints
        .iter()
        .map(|e| {
            format!(
                "<channel-bundle id='{e}'><transport xmlns='urn:xmpp:jingle:transports:ice-udp:1'>\
                 <fingerprint xmlns='urn:xmpp:jingle:apps:dtls:0' required='false'/></transport>\
                 </channel-bundle><endpoint id='{e}' stats-id='{e}-1'/>"
            )
        })
        .collect::<Vec<_>>()
        .concat();
    format!(
        "<content name='audio'>{}</content><content name='video'>{}</content>{bundles}",
        channels(&opus, ""),
        channels(&vp8, " last-n='5'"),
    )
}

fn id(answer: &Element) -> &str {
    answer.attr("id").unwrap()
}

/// The channel of an endpoint in a content of an answer.
fn channel<'a>(answer: &'a Element, content: &str, endpoint: &str) -> &'a Element {
    let contents = answer.children().filter(|c| c.attr("name") == Some(content));
    contents
        .flat_map(Element::children)
        .find(|c| c.attr("endpoint") == Some(endpoint))
        .unwrap_or_else(|| panic!("{content} of {endpoint} in {answer:?}"))
}

fn channel_id(answer: &Element, content: &str, endpoint: &str) -> String {
    channel(answer, content, endpoint).attr("id").unwrap().to_owned()
}

fn names(answer: &Element) -> Vec<&str> {
    answer.children().map(Element::name).collect()
}

/// Condition and text of a refusal.
fn refused(answer: Result<Element, Refusal>) -> (String, String) {
    let error = answer.unwrap_err().element("jabber:component:accept");
    let text = error.get_child("text", STANZA_ERRORS).map(Element::text).unwrap_or_default();
    (error.children().next().unwrap().name().to_owned(), text)
}

#[tokio::test(start_paused = true)]
async fn channels_are_created_and_their_transports_are_described_once() {
    let world = World::new();
    let answer = world.two().await;
    assert_eq!(answer.attr("name"), Some("room1"));
    let bundle = "channel-bundle";
    assert_eq!(names(&answer), ["content", "content", bundle, bundle, "endpoint", "endpoint"]);
    let (alice, bob) = (channel(&answer, "audio", "alice"), channel(&answer, "audio", "bob"));
    assert_eq!(alice.attr("rtp-level-relay-type"), Some("translator"));
    assert_eq!((alice.attr("initiator"), alice.attr("direction")), (Some("true"), None));
    assert_eq!(alice.attr("channel-bundle-id"), Some("alice"));
    assert_eq!(alice.attr("last-n"), Some("5"), "of the endpoint, whichever channel said it");
    let own =
        |channel: &Element| channel.children().next().unwrap().attr("ssrc").unwrap().to_owned();
    assert_eq!(own(alice), own(bob), "the bridge's SSRC is one for a content");
    assert_ne!(own(alice), own(channel(&answer, "video", "alice")));
    let transport = answer.children().find(|c| c.name() == bundle).unwrap().children().next();
    assert!(transport.unwrap().attr("ufrag").is_some());
    assert_eq!(world.rig.transports.calls(1)[0], "create alice true true");
    let endpoint = answer.children().last().unwrap();
    assert_eq!((endpoint.attr("id"), endpoint.attr("stats-id")), (Some("bob"), Some("bob-1")));
}

#[tokio::test(start_paused = true)]
async fn an_update_brings_sources_and_transport() {
    let world = World::new();
    let made = world.two().await;
    world.rig.take_controls().await;
    let ssma = "xmlns='urn:xmpp:jingle:apps:rtp:ssma:0'";
    let (room, audio, video) =
        (id(&made), channel_id(&made, "audio", "alice"), channel_id(&made, "video", "alice"));
    let answer = world
        .ask(&format!(
            "id='{room}'>
             <content name='audio'><channel id='{audio}'><source {ssma} ssrc='1111'/></channel></content>
             <content name='video'><channel id='{video}'>
               <source {ssma} ssrc='2222'/><source {ssma} ssrc='-2'/>
               <ssrc-group {ssma} semantics='FID'><source ssrc='2222'/><source ssrc='-2'/></ssrc-group>
             </channel></content>
             <channel-bundle id='alice'><transport xmlns='urn:xmpp:jingle:transports:ice-udp:1'
               ufrag='Xy1Z' pwd='secret'><fingerprint xmlns='urn:xmpp:jingle:apps:dtls:0' hash='sha-256'
               setup='active'>AB:CD</fingerprint></transport></channel-bundle>"
        ))
        .await
        .unwrap();
    let sources = world.rig.take_controls().await.into_iter().find_map(|told| match told {
        Control::SetSources(EndpointId(1), sources) => Some(sources),
        _ => None,
    });
    let sources = sources.expect("alice has sources");
    let named: Vec<&str> = sources.iter().map(|s| &*s.name).collect();
    assert_eq!(named, ["alice-a-1111", "alice-v-2222"]);
    assert_eq!(
        sources[1].encodings[0].rtx,
        Some(u32::MAX - 1),
        "negative numbers are the upper half"
    );
    let ssrcs = |content| -> Vec<String> {
        let listed = channel(&answer, content, "alice").children().filter(|c| c.name() == "ssrc");
        listed.map(Element::text).collect()
    };
    assert_eq!(ssrcs("audio"), ["1111"]);
    assert_eq!(ssrcs("video"), ["2222", &(u32::MAX - 1).to_string()]);
    assert!(world.rig.transports.calls(1).contains(&"remote Xy1Z".to_owned()));

    let none = format!(
        "id='{room}'><content name='video'><channel id='{video}'><source {ssma}/>\
                        <ssrc-group {ssma} semantics='SIM'/></channel></content>"
    );
    let answer = world.ask(&none).await.unwrap();
    assert!(channel(&answer, "video", "alice").children().all(|c| c.name() != "ssrc"));
    let only_audio = world.rig.take_controls().await.into_iter().any(
        |told| matches!(told, Control::SetSources(EndpointId(1), sources) if sources.len() == 1),
    );
    assert!(only_audio);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_goes_with_its_last_channel_and_may_return() {
    let world = World::new();
    let made = world.two().await;
    let room = id(&made);
    let leave = |content: &str| {
        let id = channel_id(&made, content, "alice");
        format!("<content name='{content}'><channel id='{id}' expire='0'/></content>")
    };
    let answer = world.ask(&format!("id='{room}'>{}", leave("audio"))).await.unwrap();
    assert_eq!(names(&answer), ["content", "endpoint", "endpoint"], "video is still there");
    let both = format!("id='{room}'>{}{}", leave("audio"), leave("video"));
    let answer = world.ask(&both).await.unwrap();
    assert_eq!(names(&answer), ["content", "content", "endpoint"]);
    assert!(answer.children().take(2).all(|content| content.children().count() == 0));
    assert_eq!(world.rig.transports.calls(1).last().unwrap(), "remove");
    let again = world.ask(&format!("id='{room}'>{}", create(&["alice"]))).await.unwrap();
    assert_ne!(channel_id(&again, "audio", "alice"), channel_id(&made, "audio", "alice"));
    assert_eq!(again.children().filter(|c| c.name() == "endpoint").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_conference_without_anybody_is_forgotten_after_a_while() {
    let world = World::new();
    let made = world.two().await;
    let room = id(&made);
    let mut leave = format!("id='{room}'>");
    for content in ["audio", "video"] {
        for endpoint in ["alice", "bob"] {
            let id = channel_id(&made, content, endpoint);
            let end =
                format!("<content name='{content}'><channel id='{id}' expire='0'/></content>");
            leave.push_str(&end);
        }
    }
    world.ask(&leave).await.unwrap();
    let answer = world.ask(&format!("id='{room}'>{}", create(&["carol"]))).await.unwrap();
    assert_eq!(id(&answer), room, "it is still known");
    let carol = ["audio", "video"].map(|content| {
        let id = channel_id(&answer, content, "carol");
        format!("<content name='{content}'><channel id='{id}' expire='0'/></content>")
    });
    world.ask(&format!("id='{room}'>{}", carol.concat())).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(21)).await;
    let (condition, text) = refused(world.ask(&format!("id='{room}'>")).await);
    assert_eq!(
        (condition.as_str(), text),
        ("bad-request", format!("Conference not found for ID: {room}"))
    );
}

#[tokio::test(start_paused = true)]
async fn what_ended_in_the_bridge_is_gone_here() {
    let world = World::new();
    let made = world.two().await;
    let room = id(&made);
    let failed = rialto_transport::TransportUpdate::Failed {
        endpoint: EndpointId(1),
        reason: rialto_transport::FailReason::IceTimeout,
    };
    world.rig.updates.send(failed).unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(61)).await;
    let audio = channel_id(&made, "audio", "alice");
    let update = format!("id='{room}'><content name='audio'><channel id='{audio}'/></content>");
    let (condition, _) = refused(world.ask(&update).await);
    assert_eq!(condition, "internal-server-error");
}

#[tokio::test(start_paused = true)]
async fn refusals_are_those_of_jvb() {
    let world = World::new();
    let made = world.two().await;
    let room = id(&made).to_owned();
    let content = |inside: &str| format!("id='{room}'><content name='audio'>{inside}</content>");
    for (request, condition, text) in [
        ("id='nobody'>".to_owned(), "bad-request", "Conference not found for ID: nobody"),
        (content("<channel expire='0'/>"), "bad-request", "Channel expire request for empty ID"),
        (content("<channel/>"), "bad-request", "Channel creation requested without endpoint ID"),
        (
            content("<channel endpoint='a' channel-bundle-id='b'/>"),
            "bad-request",
            "Endpoint ID does not match channel bundle ID",
        ),
        (content("<channel id='77'/>"), "internal-server-error", "Error finding channel 77"),
        (
            content("<sctpconnection id='77'/>"),
            "bad-request",
            "No SCTP connection found for ID: 77",
        ),
        (
            content(
                "<channel endpoint='a' channel-bundle-id='a'>\
                     <transport xmlns='urn:xmpp:jingle:transports:ice-udp:1'/></channel>",
            ),
            "bad-request",
            "Received a COLIBRI request with 'transport' inside 'channel'. \
             This legacy mode is no longer supported",
        ),
        (content("<channel type='octo'/>"), "feature-not-implemented", "Octo not supported."),
        (content("<channel direction='up'/>"), "internal-server-error", ""),
        (content("<channel expire='-3'/>"), "internal-server-error", ""),
        (
            format!("id='{room}'><content name='smell'/>"),
            "internal-server-error",
            "smell is not a currently supported MediaType",
        ),
    ] {
        let (said, why) = refused(world.ask(&request).await);
        assert_eq!((said.as_str(), why.as_str()), (condition, text), "{request}");
    }
    // Gone already is as good as ended now.
    let answer = world.ask(&content("<channel id='77' expire='0'/>")).await.unwrap();
    assert_eq!(names(&answer)[0], "content");
    let other =
        world.face.ask("other@auth.example.com/x", &request(&format!("id='{room}'>"))).await;
    assert_eq!(refused(other).0, "bad-request", "a conference is its maker's");
}

#[tokio::test(start_paused = true)]
async fn an_error_leaves_what_came_before_it() {
    let world = World::new();
    let made = world.two().await;
    let room = id(&made);
    let half = format!(
        "id='{room}'><content name='audio'><channel endpoint='carol' \
                        channel-bundle-id='carol'/></content><content name='video'><channel/></content>"
    );
    refused(world.ask(&half).await);
    let answer = world.ask(&format!("id='{room}'>")).await.unwrap();
    assert_eq!(answer.children().filter(|c| c.attr("id") == Some("carol")).count(), 1);
    assert_eq!(world.rig.transports.calls(3)[0], "create carol false true");
}

#[tokio::test(start_paused = true)]
async fn no_new_conferences_while_shutting_down() {
    let world = World::new();
    let made = world.two().await;
    world.rig.bridge.graceful_shutdown();
    let error = world.ask(&format!(">{}", create(&["carol"]))).await.unwrap_err();
    let error = error.element("jabber:component:accept");
    let inside: Vec<&str> = error.children().map(Element::name).collect();
    assert_eq!(inside, ["service-unavailable", "graceful-shutdown"]);
    refused(world.ask("name='empty'>").await);
    let answer = world.ask(&format!("id='{}'>", id(&made))).await.unwrap();
    assert_eq!(names(&answer).last(), Some(&"graceful-shutdown"));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_empty_conferences_takes_no_places_of_others() {
    let world = World::new();
    let flood = |from: String| {
        let face = &world.face;
        async move { face.ask(&from, &request(">")).await }
    };
    for n in 0..64 {
        flood(format!("mallory@example.com/{n}")).await.unwrap();
    }
    for n in 64..1000 {
        let refused = flood(format!("mallory@example.com/{n}")).await.unwrap_err();
        assert_eq!(refused.0.condition, Condition::ResourceConstraint);
    }
    // Those of a focus that are in use do not count.
    for _ in 0..100 {
        world.two().await;
    }
    world.ask(">").await.unwrap();
    tokio::time::advance(FILL_TIME + Duration::from_millis(1)).await;
    flood("mallory@example.com/late".to_owned()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn when_all_places_are_taken_those_that_are_over_are_given_away() {
    let mut world = World::new();
    world.face.max_rooms = 256;
    for n in 0..256 {
        world.face.ask(&format!("u{}@example.com/a", n / 64), &request(">")).await.unwrap();
    }
    let refused = world.ask(">").await.unwrap_err();
    assert_eq!(refused.0.condition, Condition::ResourceConstraint);
    tokio::time::advance(FILL_TIME + Duration::from_millis(1)).await;
    world.ask(">").await.unwrap();
}
