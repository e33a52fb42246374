use proptest::prelude::*;
use rialto_media::MediaType;

use super::*;
use crate::colibri::{
    Condition, MediaSource, MucRole, Reason, SctpRole, Source, WebSocket, json, xml::tree::Out,
};

fn read(text: &str) -> Result<ConferenceModify, ColibriError> {
    read_conference_modify(&text.parse().unwrap())
}

/// A request with one endpoint.
fn with(inside: &str) -> Result<ConferenceModify, ColibriError> {
    read(&format!(
        "<conference-modify xmlns='jitsi:colibri2' meeting-id='m'><endpoint id='a'>{inside}</endpoint></conference-modify>"
    ))
}

fn again(request: &ConferenceModify) -> ConferenceModify {
    let written = String::from(&write_conference_modify(request));
    read(&written).unwrap_or_else(|error| panic!("{error}: {written}"))
}

/// A request with every element and attribute.
const EVERYTHING: &str = "<conference-modify xmlns='jitsi:colibri2' meeting-id='m' name='n@c' create='true' expire='TRUE' rtcstats-enabled='false'>
  <traceparent xmlns='jitsi:opentelemetry' trace_id='0' parent_id='1' trace_flags='00'/>
  <endpoint id='a' stats-id='s' muc-role='Visitor' diarize='true' create='true' expire='true'>
    <media type='audio'>
      <payload-type xmlns='urn:xmpp:jingle:apps:rtp:1' id='111' name='opus' clockrate='48000' channels='2' ptime='20' maxptime='60'>
        <parameter name='useinbandfec' value='1'/><parameter value='111/111'/>
        <rtcp-fb xmlns='urn:xmpp:jingle:apps:rtp:rtcp-fb:0' type='nack' subtype='pli'/>
      </payload-type>
      <rtp-hdrext xmlns='urn:xmpp:jingle:apps:rtp:rtp-hdrext:0' id='5' uri='u' senders='both' attributes='x'/>
      <extmap-allow-mixed xmlns='urn:xmpp:jingle:apps:rtp:rtp-hdrext:0'/>
    </media>
    <transport ice-controlling='true' use-unique-port='true' ice-restart='true'>
      <transport xmlns='urn:xmpp:jingle:transports:ice-udp:1' ufrag='u' pwd='p' ice-generation='2'>
        <rtcp-mux/>
        <fingerprint xmlns='urn:xmpp:jingle:apps:dtls:0' hash='sha-256' setup='actpass' cryptex='true'> AA:BB </fingerprint>
        <web-socket xmlns='http://jitsi.org/protocol/colibri' url='wss://x'/>
        <web-socket xmlns='http://jitsi.org/protocol/colibri' active='true'/>
        <candidate component='1' foundation='2' generation='0' id='i' network='1' priority='7' protocol='udp' type='srflx' ip='192.0.2.1' port='9' rel-addr='10.0.0.1' rel-port='8' tcptype='passive'/>
        <remote-candidate component='1' foundation='2' priority='7' protocol='udp' type='host' ip='::1' port='9'/>
      </transport>
      <sctp port='5000' role='SERVER'/>
    </transport>
    <sources>
      <media-source type='video' id='a-v0' synthetic='true'>
        <source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' ssrc='4294967295' name='a-v0' videoType='camera' rid='h'><parameter name='msid' value='m'/></source>
        <source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' ssrc='-2'/>
        <ssrc-group xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' semantics='FID'><source ssrc='4294967295'/><source ssrc='4294967294'/></ssrc-group>
      </media-source>
    </sources>
    <force-mute audio='true'/>
    <initial-last-n value='-1'/>
    <capability name='source-names'/>
  </endpoint>
  <relay id='r' mesh-id='0' create='true'><endpoints><endpoint id='b'><sources/></endpoint></endpoints></relay>
  <connects><connect id='c' create='true' expire='true' url='wss://x' protocol='mediajson' type='recorder' audio='true' video='true'>
    <http-header name='Authorization' value='b'/><ping interval='1' timeout='2'/>
    <exports><export name='e'/></exports><requests><request name='r'/></requests>
  </connect></connects>
</conference-modify>";

#[test]
fn everything_that_a_request_can_say_is_read_and_written() {
    let request = read(EVERYTHING).unwrap();
    assert!(request.create && request.expire && !request.rtcstats_enabled);
    assert_eq!(request.traceparent.as_ref().unwrap().parent_id, "1");
    let endpoint = &request.endpoints[0];
    assert_eq!((endpoint.muc_role, endpoint.diarize), (Some(MucRole::Visitor), Some(true)));
    assert_eq!(endpoint.initial_last_n, Some(-1));
    let opus = &endpoint.media[0].payload_types[0];
    assert_eq!((opus.channels, opus.parameters.len(), opus.rtcp_fbs.len()), (Some(2), 2, 1));
    assert_eq!(opus.parameters[1].name, None);
    assert!(endpoint.media[0].extmap_allow_mixed);
    let transport = endpoint.transport.as_ref().unwrap();
    assert_eq!(transport.sctp.unwrap().role, Some(SctpRole::Server));
    let ice = transport.ice_udp.as_ref().unwrap();
    assert_eq!((ice.ice_generation, ice.rtcp_mux), (Some(2), true));
    assert_eq!(ice.fingerprints[0].fingerprint, "AA:BB");
    assert_eq!(ice.web_sockets[1], WebSocket::Active);
    let source = &endpoint.sources.as_ref().unwrap()[0];
    assert_eq!(source.ssrc_groups[0].ssrcs, [u32::MAX, u32::MAX - 1]);
    assert_eq!(source.sources[1].ssrc, u32::MAX - 1);
    let relay = &request.relays[0];
    assert_eq!(relay.endpoints.as_ref().unwrap()[0].sources, Some(Vec::new()));
    let connect = &request.connects.as_ref().unwrap()[0];
    assert_eq!((connect.exports.len(), connect.ping.unwrap().timeout), (1, 2));
    assert_eq!(again(&request), request);
}

#[test]
fn both_forms_say_the_same() {
    let mut request = read(EVERYTHING).unwrap();
    let json = json::write_conference_modify(&request).to_string();
    // JSON has no place for it but the sources themselves.
    let mut from_json = json::read_conference_modify(json.as_bytes(), None).unwrap();
    for request in [&mut request, &mut from_json] {
        request.endpoints[0].media[0].payload_types[0].parameters.sort_by_key(|p| p.name.clone());
    }
    assert_eq!(from_json, request);
}

#[test]
fn an_answer_reads_as_it_was_written() {
    let answer = ConferenceModified {
        endpoints: read(EVERYTHING).unwrap().endpoints,
        relays: Vec::new(),
        sources: Some(vec![MediaSource {
            r#type: MediaType::Audio,
            id: "jvb-a0".into(),
            synthetic: false,
            sources: vec![Source { ssrc: 7, name: Some("jvb-a0".into()), ..Source::default() }],
            ssrc_groups: Vec::new(),
        }]),
    };
    let written = write_conference_modified(&answer);
    assert_eq!(read_conference_modified(&written), Ok(answer));
    assert_eq!(
        String::from(&write_conference_modified(&ConferenceModified::default())),
        "<conference-modified xmlns='jitsi:colibri2'/>"
    );
}

#[test]
fn what_is_not_known_is_ignored() {
    let request = read(
        "<conference-modify xmlns='jitsi:colibri2' meeting-id='m' colour='red'>
           <x/><endpoint xmlns='urn:other'/><endpoint id='a' weight='1'><media xmlns='x'/><y><sources/></y></endpoint>
         </conference-modify>",
    );
    let request = request.unwrap();
    assert_eq!(request.endpoints, [crate::colibri::Colibri2Endpoint::new("a")]);
    assert!(request.rtcstats_enabled, "as JVB has it when nothing is said");
    assert_eq!(
        with("<force-mute audio='1' video='yes'/>").unwrap().endpoints[0].force_mute,
        Some(crate::colibri::ForceMute::default())
    );
    let media =
        with("<media type='data'/><media type='audio'/>").unwrap().endpoints.remove(0).media;
    assert_eq!(media.len(), 1);
}

/// One participant's nonsense must not cost the others their session.
#[test]
fn what_a_participant_wrote_and_cannot_be_read_is_left_out() {
    let ice = |inside: &str| {
        let request = with(&format!(
            "<transport><transport xmlns='urn:xmpp:jingle:transports:ice-udp:1' ice-generation='-1'>{inside}</transport></transport>"
        ));
        request.unwrap().endpoints.remove(0).transport.unwrap().ice_udp.unwrap()
    };
    let candidate =
        "<candidate component='1' foundation='f' priority='1' protocol='udp' type='host' ip='::1'";
    let read = ice(&format!(
        "{candidate}/>{candidate} port='70000'/>{candidate} port='x'/>{candidate} port='9' network='?'/>
         <web-socket xmlns='http://jitsi.org/protocol/colibri'/>"
    ));
    assert_eq!((read.candidates.len(), read.web_sockets.len(), read.ice_generation), (1, 0, None));
    let media = with(
        "<media type='audio'>
           <payload-type xmlns='urn:xmpp:jingle:apps:rtp:1' id='128' name='x'/>
           <payload-type xmlns='urn:xmpp:jingle:apps:rtp:1' name='x'/>
           <payload-type xmlns='urn:xmpp:jingle:apps:rtp:1' id='0' clockrate='fast'/>
           <rtp-hdrext xmlns='urn:xmpp:jingle:apps:rtp:rtp-hdrext:0' id='0' uri='u'/>
           <rtp-hdrext xmlns='urn:xmpp:jingle:apps:rtp:rtp-hdrext:0' id='256' uri='u'/>
         </media>",
    );
    let media = media.unwrap().endpoints.remove(0).media.remove(0);
    assert_eq!((media.payload_types.len(), media.rtp_hdrexts.len()), (1, 0));
    assert_eq!(media.payload_types[0].clockrate, None);
}

#[test]
fn errors_name_the_place() {
    let refused = |result: Result<ConferenceModify, ColibriError>, text: &str| {
        let error = result.unwrap_err();
        assert_eq!((error.condition, error.text.as_str()), (Condition::BadRequest, text));
    };
    refused(
        read("<conference-modify xmlns='jitsi:colibri2'/>"),
        "conference-modify: meeting-id must be set",
    );
    refused(
        read("<conference-modify xmlns='jitsi:colibri2' meeting-id=' '/>"),
        "conference-modify: meeting-id cannot be \" \"",
    );
    refused(
        read(
            "<conference-modify xmlns='jitsi:colibri2' meeting-id='m'><endpoint/></conference-modify>",
        ),
        "conference-modify/endpoint: id must be set",
    );
    let inside = |inside: &str, text: &str| {
        refused(with(inside), &format!("conference-modify/endpoint/{text}"));
    };
    inside("<media type='smell'/>", "media: type cannot be \"smell\"");
    inside(
        "<transport><sctp port='70000'/></transport>",
        "transport/sctp: port cannot be \"70000\"",
    );
    inside("<transport><sctp role='peer'/></transport>", "transport/sctp: role cannot be \"peer\"");
    inside("<initial-last-n/>", "initial-last-n: value must be set");
    inside(
        "<sources><media-source type='audio'/></sources>",
        "sources/media-source: id must be set",
    );
    let source = |ssrc: &str| {
        format!(
            "<sources><media-source type='audio' id='s'><source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' {ssrc}/></media-source></sources>"
        )
    };
    let place = "sources/media-source/source: ssrc";
    inside(&source(""), &format!("{place} must be set"));
    for bad in ["x", "4294967296", "-3000000000"] {
        inside(&source(&format!("ssrc='{bad}'")), &format!("{place} cannot be {bad:?}"));
    }
    let long = "9".repeat(5000);
    assert!(with(&source(&format!("ssrc='{long}'"))).unwrap_err().text.len() < 200);
}

#[test]
fn an_error_reads_as_it_was_written() {
    let errors = [
        ColibriError::bad_request("no"),
        ColibriError::unknown_endpoint("a"),
        ColibriError::conference_already_exists("m"),
        ColibriError::feature_not_implemented("no"),
        ColibriError::graceful_shutdown(),
        ColibriError::new(Condition::ServiceUnavailable, ""),
    ];
    for error in errors {
        assert_eq!(read_error(&write_error(&error, "jabber:client")), Some(error));
    }
    assert_eq!(
        String::from(&write_error(&ColibriError::unknown_endpoint("a"), "jabber:client")),
        "<error xmlns='jabber:client' type='cancel'>\
         <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
         <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>Endpoint not found for ID: a</text>\
         <error xmlns='jitsi:colibri2' reason='unknown_endpoint'/>\
         <endpoint xmlns='jitsi:colibri2' id='a'/></error>"
    );
    assert_eq!(read_error(&Element::bare("error", "jabber:client")), None);
    assert_eq!(Reason::ALL.len(), 5);
}

/// XML that is often nearly a request: known names in the wrong places.
fn nearly() -> impl Strategy<Value = Element> {
    let names = prop::sample::select(vec![
        ("endpoint", NAMESPACE),
        ("relay", NAMESPACE),
        ("endpoints", NAMESPACE),
        ("media", NAMESPACE),
        ("sources", NAMESPACE),
        ("media-source", NAMESPACE),
        ("transport", NAMESPACE),
        ("sctp", NAMESPACE),
        ("connects", NAMESPACE),
        ("connect", NAMESPACE),
        ("transport", crate::colibri::ICE_UDP_NAMESPACE),
        ("candidate", crate::colibri::ICE_UDP_NAMESPACE),
        ("payload-type", RTP),
        ("rtp-hdrext", HDREXT),
        ("source", SSMA),
        ("ssrc-group", SSMA),
    ]);
    let attributes = prop::collection::vec(
        (
            prop::sample::select(vec![
                "id",
                "type",
                "create",
                "ssrc",
                "name",
                "value",
                "port",
                "role",
                "semantics",
                "uri",
                "ip",
                "component",
                "foundation",
                "priority",
                "protocol",
                "muc-role",
            ]),
            prop::sample::select(vec![
                "",
                "audio",
                "video",
                "true",
                "1",
                "-1",
                "5000",
                "server",
                "\u{e9}<&>'\" ",
            ]),
        ),
        0..6,
    );
    let leaf = (names.clone(), attributes.clone())
        .prop_map(|((name, namespace), attributes)| element(name, namespace, attributes, vec![]));
    leaf.prop_recursive(7, 64, 4, move |inner| {
        (names.clone(), attributes.clone(), prop::collection::vec(inner, 0..4)).prop_map(
            |((name, namespace), attributes, children)| {
                element(name, namespace, attributes, children)
            },
        )
    })
}

fn element(
    name: &str,
    namespace: &str,
    attributes: Vec<(&str, &str)>,
    children: Vec<Element>,
) -> Element {
    let out = attributes.into_iter().fold(Out::new(name, namespace), |out, (n, v)| out.put(n, v));
    let mut element = out.done();
    for child in children {
        element.append_child(child);
    }
    element
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        crate::fuzzing::colibri_xml(&bytes);
    }

    #[test]
    fn near_requests_are_read_or_refused(inside in prop::collection::vec(nearly(), 0..4)) {
        let request = element("conference-modify", NAMESPACE, vec![("meeting-id", "m")], inside);
        crate::fuzzing::colibri_xml(String::from(&request).as_bytes());
    }
}
