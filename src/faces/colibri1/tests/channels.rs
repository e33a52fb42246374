//! Parameters of channels, down to the engine's commands.

use rialto_media::SourceId;

use super::*;

const SSMA: &str = "xmlns='urn:xmpp:jingle:apps:rtp:ssma:0'";

/// An update of one channel: its attributes and what is in it.
fn update(made: &Element, content: &str, endpoint: &str, attributes: &str, inside: &str) -> String {
    let (room, id) = (id(made), channel_id(made, content, endpoint));
    format!(
        "id='{room}'><content name='{content}'>\
         <channel id='{id}' {attributes}>{inside}</channel></content>"
    )
}

/// One source.
fn source(ssrc: u32) -> String {
    format!("<source {SSMA} ssrc='{ssrc}'/>")
}

impl World {
    /// The two, and each sends audio and video: 1 and 2 are alice's, 3 and 4 bob's.
    async fn sending(&self) -> Element {
        let made = self.two().await;
        for (ssrc, content, endpoint) in
            [(1, "audio", "alice"), (2, "video", "alice"), (3, "audio", "bob"), (4, "video", "bob")]
        {
            let asked = update(&made, content, endpoint, "", &source(ssrc));
            self.ask(&asked).await.unwrap();
        }
        self.rig.take_controls().await;
        made
    }

    /// Which sources alice begins and ceases to get.
    async fn alice_hears(&self) -> (Vec<SourceId>, Vec<SourceId>) {
        let (mut begins, mut ceases) = (Vec::new(), Vec::new());
        for told in self.rig.take_controls().await {
            match told {
                Control::Subscribe { receiver: EndpointId(1), source, .. } => begins.push(source),
                Control::Unsubscribe { receiver: EndpointId(1), source } => ceases.push(source),
                _ => {}
            }
        }
        (begins, ceases)
    }
}

#[tokio::test(start_paused = true)]
async fn direction_mutes_both_ways() {
    let world = World::new();
    let made = world.sending().await;
    for content in ["audio", "video"] {
        let mut sent = true;
        // From the bridge's side: `sendonly` takes nothing of the endpoint, `recvonly` sends nothing.
        for (direction, muted, sends) in [
            ("sendonly", true, true),
            ("recvonly", false, false),
            ("inactive", true, false),
            ("sendrecv", false, true),
            ("inactive", true, false),
            // Missing means sendrecv.
            ("", false, true),
        ] {
            let attribute = match direction {
                "" => String::new(),
                direction => format!("direction='{direction}'"),
            };
            let asked = update(&made, content, "alice", &attribute, "");
            let answer = world.ask(&asked).await.unwrap();
            let said = channel(&answer, content, "alice").attr("direction");
            assert_eq!(said, Some(direction).filter(|d| !["", "sendrecv"].contains(d)));
            let told = world.rig.take_controls().await;
            let mute = told.iter().find_map(|told| match told {
                Control::SetForceMute { endpoint: EndpointId(1), audio, video } => {
                    Some((*audio, *video))
                }
                _ => None,
            });
            let expected = if content == "audio" { (muted, false) } else { (false, muted) };
            assert_eq!(mute, Some(expected), "{content} {direction}");
            let begins = told
                .iter()
                .filter(|told| matches!(told, Control::Subscribe { receiver: EndpointId(1), .. }));
            let ceases = told.iter().filter(|told| {
                matches!(told, Control::Unsubscribe { receiver: EndpointId(1), .. })
            });
            let changed = (usize::from(sends && !sent), usize::from(!sends && sent));
            assert_eq!((begins.count(), ceases.count()), changed, "{content} {direction}");
            sent = sends;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_muted_channel_that_ends_leaves_no_mute_behind() {
    let world = World::new();
    let made = world.sending().await;
    world.ask(&update(&made, "audio", "alice", "direction='inactive'", "")).await.unwrap();
    world.rig.take_controls().await;
    world.ask(&update(&made, "audio", "alice", "expire='0'", "")).await.unwrap();
    let unmuted = Control::SetForceMute { endpoint: EndpointId(1), audio: false, video: false };
    let told = format!("{:?}", world.rig.take_controls().await);
    assert!(told.contains(&format!("{unmuted:?}")), "{told}");
}

#[tokio::test(start_paused = true)]
async fn last_n_is_obeyed() {
    let world = World::new();
    let made = world.sending().await;
    let carol = world.ask(&format!("id='{}'>{}", id(&made), create(&["carol"]))).await.unwrap();
    let asked = update(&carol, "video", "carol", "", &source(6));
    world.ask(&asked).await.unwrap();
    world.rig.take_controls().await;
    for (last_n, begins, ceases) in [(1, 0, 1), (0, 0, 1), (-1, 2, 0), (1, 0, 1)] {
        let asked = update(&made, "video", "alice", &format!("last-n='{last_n}'"), "");
        let answer = world.ask(&asked).await.unwrap();
        let said = channel(&answer, "video", "alice").attr("last-n").map(str::to_owned);
        assert_eq!(said, Some(last_n.to_string()));
        let (began, ceased) = world.alice_hears().await;
        assert_eq!((began.len(), ceased.len()), (begins, ceases), "{last_n}");
    }
    // Audio is not counted, and another channel's update changes nothing.
    world.ask(&update(&made, "audio", "alice", "", "")).await.unwrap();
    assert_eq!(world.alice_hears().await, (Vec::new(), Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_goes_when_its_longest_channel_has_been_silent() {
    let world = World::new();
    let made = world.two().await;
    world.ask(&update(&made, "audio", "alice", "expire='300'", "")).await.unwrap();
    let hear = || [1, 2].map(|endpoint| world.rig.transports.answer_consent(EndpointId(endpoint)));
    hear();
    tokio::time::sleep(std::time::Duration::from_secs(200)).await;
    let ids = world.rig.bridge.endpoint_ids(&format!("colibri1-{}", id(&made))).await.unwrap();
    assert_eq!(ids.into_iter().collect::<Vec<_>>(), ["alice"]);
    // As long as any other again: `expire` counts anew with every request.
    world.ask(&update(&made, "audio", "alice", "", "")).await.unwrap();
    world.rig.transports.answer_consent(EndpointId(1));
    tokio::time::sleep(std::time::Duration::from_secs(200)).await;
    assert!(!world.rig.bridge.conference_exists(&format!("colibri1-{}", id(&made))));
    assert!(world.face.owners().is_empty(), "nobody is told of what is over");
}

#[tokio::test(start_paused = true)]
async fn formats_are_read_in_any_namespace() {
    let world = World::new();
    let made = world.two().await;
    world.rig.take_controls().await;
    let formats = "<payload-type id='96' name='VP9' clockrate='90000'>\
        <rtcp-fb type='nack' subtype='pli'/><parameter name='x' value='y'/></payload-type>\
        <rtp-hdrext id='5' uri='http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time'/>\
        <rtp-hdrext id='15' uri='urn:ietf:params:rtp-hdrext:toffset'/>";
    world.ask(&update(&made, "video", "alice", "", formats)).await.unwrap();
    let params = world.rig.take_controls().await.into_iter().find_map(|told| match told {
        Control::SetMedia(EndpointId(1), params) => Some(params),
        _ => None,
    });
    let params = params.expect("alice has formats");
    assert!(params.payload_types.iter().any(|known| known.pt == 96));
    assert!(params.extensions.iter().any(|(id, _)| *id == 5));
    assert!(params.extensions.iter().all(|(id, _)| *id != 15));
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_is_not_kept() {
    let world = World::new();
    let made = world.sending().await;
    let taken = update(&made, "audio", "alice", "direction='inactive'", &source(3));
    let (condition, _) = refused(world.ask(&taken).await);
    assert_eq!(condition, "conflict", "bob has that one");
    world.rig.take_controls().await;
    let answer = world.ask(&update(&made, "video", "alice", "", &source(8))).await.unwrap();
    assert_eq!(channel(&answer, "video", "alice").attr("direction"), None);
    let sources = world.rig.take_controls().await.into_iter().find_map(|told| match told {
        Control::SetSources(EndpointId(1), sources) => Some(sources),
        _ => None,
    });
    let names: Vec<String> = sources.unwrap().iter().map(|s| s.name.to_string()).collect();
    assert_eq!(names, ["alice-a-1", "alice-v-8"]);
}

#[tokio::test(start_paused = true)]
async fn transports_have_web_sockets() {
    let base = "wss://meet.example.com/colibri-ws/jvb1";
    let world =
        World::with(BridgeConfig { web_sockets: vec![base.to_owned()], ..BridgeConfig::default() });
    let made = world.two().await;
    let urls: Vec<&str> = made
        .children()
        .filter(|child| child.name() == "channel-bundle")
        .flat_map(Element::children)
        .flat_map(Element::children)
        .filter(|child| child.is("web-socket", NAMESPACE))
        .filter_map(|child| child.attr("url"))
        .collect();
    assert_eq!(urls.len(), 2, "{made:?}");
    assert!(urls[0].starts_with(base) && urls[0].contains("/alice?pwd="), "{urls:?}");
}

const DATA: &str = "<content name='data'>\
    <sctpconnection endpoint='alice' channel-bundle-id='alice' port='5000' expire='60'/></content>";

#[tokio::test(start_paused = true)]
async fn an_association_opens_the_transport_for_it() {
    let world = World::with(BridgeConfig { sctp: true, ..BridgeConfig::default() });
    let made = world.two().await;
    // An association may come later than its endpoint.
    let answer = world.ask(&format!("id='{}'>{DATA}", id(&made))).await.unwrap();
    let made_one = channel(&answer, "data", "alice");
    assert_eq!((made_one.name(), made_one.attr("port")), ("sctpconnection", Some("5000")));
    assert!(made_one.attr("last-n").is_none() && made_one.children().next().is_none());
    assert!(world.rig.transports.calls(1).contains(&"offer sctp".to_owned()));
    let nothing = format!("id='{}'><content name='data'><sctpconnection/></content>", id(&made));
    let answer = world.ask(&nothing).await.unwrap();
    assert!(answer.children().next().unwrap().children().next().is_none(), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn associations_are_refused_while_there_is_no_sctp() {
    let world = World::new();
    let expected =
        ("feature-not-implemented".to_owned(), "SCTP support is not configured".to_owned());
    assert_eq!(refused(world.ask(&format!(">{DATA}")).await), expected);
    let made = world.two().await;
    assert_eq!(refused(world.ask(&format!("id='{}'>{DATA}", id(&made))).await), expected);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_has_so_many_channels_and_no_more() {
    let world = World::new();
    let one = "<channel endpoint='alice' channel-bundle-id='alice'/>".repeat(33);
    let (condition, _) =
        refused(world.ask(&format!("><content name='audio'>{one}</content>")).await);
    assert_eq!(condition, "resource-constraint");
}

#[tokio::test(start_paused = true)]
async fn a_room_by_its_full_name_is_known_to_the_bridge() {
    let world = World::new();
    let room = "name='room1@conference.example.com' gid='ff0a12'";
    let answer = world.ask(&format!("{room}>{}", create(&["alice"]))).await.unwrap();
    assert_eq!(answer.attr("name"), Some("room1@conference.example.com"));
    assert_eq!(answer.attr("gid"), None, "never in answers");
    let debug = world.rig.bridge.debug(false).await.to_string();
    assert!(debug.contains("room1@conference.example.com"), "{debug}");
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_asker_is_gone_leaves_nothing_that_is_known_to_one_side_only() {
    let world = World::new();
    let made = world.two().await;
    let join = format!("id='{}'>{}", id(&made), create(&["carol"]));
    tokio::select! {
        biased;
        answer = world.ask(&join) => panic!("{answer:?}"),
        () = std::future::ready(()) => {}
    }
    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    let answer = world.ask(&join).await.unwrap();
    assert_eq!(answer.children().filter(|child| child.name() == "endpoint").count(), 3);
}
