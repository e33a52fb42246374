use proptest::prelude::*;

use super::*;

fn ok(text: &str) -> ToBridge {
    ToBridge::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> MessageError {
    match ToBridge::parse(text) {
        Err(error) => error,
        Ok(message) => panic!("{text}: {message:?}"),
    }
}

/// What browsers sent to a bridge, and one message more of each kind.
#[test]
fn messages_of_clients_are_read() {
    assert_eq!(ok(r#"{"colibriClass": "ClientHello"}"#), ToBridge::Hello);
    assert_eq!(ok(r#"{"colibriClass": "LastNChangedEvent", "lastN": 2}"#), ToBridge::LastN(2));
    let constraints = ok(r#"{"colibriClass": "ReceiverVideoConstraints", "lastN": -1,
        "defaultConstraints": {"maxHeight": 180}, "onStageSources": ["bbbb2222-v0"],
        "constraints": {"bbbb2222-v0": {"maxHeight": 720, "maxFrameRate": 15.5, "ideal": 1}}}"#);
    let expected = VideoConstraints {
        last_n: Some(-1),
        selected: None,
        on_stage: Some(vec!["bbbb2222-v0".into()]),
        default: Some(Constraint { max_height: 180, max_frame_rate: -1.0 }),
        constraints: Some(BTreeMap::from([(
            "bbbb2222-v0".into(),
            Constraint { max_height: 720, max_frame_rate: 15.5 },
        )])),
        assumed_bandwidth_bps: None,
    };
    assert_eq!(constraints, ToBridge::VideoConstraints(expected));
    assert_eq!(
        ok(r#"{"colibriClass":"ReceiverVideoConstraints","assumedBandwidthBps":3e6,"lastN":null}"#),
        ToBridge::VideoConstraints(VideoConstraints {
            assumed_bandwidth_bps: Some(3_000_000),
            ..VideoConstraints::default()
        })
    );
    let video_type = |source: Option<&str>, video_type| ToBridge::VideoType {
        source: source.map(str::to_owned),
        video_type,
    };
    assert_eq!(
        ok(r#"{"colibriClass":"SourceVideoTypeMessage","videoType":"CAMERA","sourceName":"a-v0"}"#),
        video_type(Some("a-v0"), VideoType::Camera)
    );
    assert_eq!(
        ok(
            r#"{"colibriClass":"VideoTypeMessage","videoType":"desktop_high_fps","endpointId":"b"}"#
        ),
        video_type(None, VideoType::DesktopHighFps)
    );
}

#[test]
fn audio_is_subscribed_in_two_ways() {
    let subscription = |all, include: &[&str], exclude: &[&str]| {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let (include, exclude) = (names(include), names(exclude));
        ToBridge::AudioSubscription(AudioSubscription { all, include, exclude })
    };
    let read =
        |fields: &str| ok(&format!(r#"{{"colibriClass":"ReceiverAudioSubscription",{fields}}}"#));
    assert_eq!(read(r#""mode":"All""#), subscription(true, &[], &[]));
    assert_eq!(read(r#""mode":"none","list":["x"]"#), subscription(false, &[], &[]));
    assert_eq!(read(r#""mode":"Include","list":["x"]"#), subscription(false, &["x"], &[]));
    assert_eq!(read(r#""mode":"Exclude","list":["x"]"#), subscription(true, &[], &["x"]));
    assert_eq!(
        read(r#""all":true,"include":["a"],"exclude":["b"]"#),
        subscription(true, &["a"], &["b"])
    );
    assert_eq!(read(r#""include":["a"]"#), subscription(false, &["a"], &[]));
}

#[test]
fn the_names_of_an_audio_subscription_are_bounded() {
    let message = |field: &str, names: usize| {
        let names: Vec<String> = (0..names).map(|name| format!("n{name}")).collect();
        json!({ "colibriClass": "ReceiverAudioSubscription", "mode": null, field: names })
            .to_string()
    };
    for field in ["include", "exclude", "list"] {
        ok(&message(field, MAX_AUDIO_NAMES));
        assert_eq!(refused(&message(field, MAX_AUDIO_NAMES + 1)), MessageError::Field(field));
    }
}

#[test]
fn fields_of_clients_are_kept_but_for_from() {
    let text = r#"{"colibriClass":"EndpointMessage","to":"bbbb2222","from":"mallory",
        "msgPayload":{"type":"hi","n":1},"z":[1,{"a":null}],"b":1.5}"#;
    let ToBridge::Endpoint { to, fields } = ok(text) else { panic!() };
    let written = ToClient::Endpoint { to: &to, from: "aaaa1111", fields: &fields }.text();
    assert_eq!(
        &*written,
        r#"{"colibriClass":"EndpointMessage","to":"bbbb2222","from":"aaaa1111","msgPayload":{"type":"hi","n":1},"z":[1,{"a":null}],"b":1.5}"#
    );
    let text = r#"{"bitrate":{"upload":10},"from":["x"],"colibriClass":"EndpointStats","to":"c"}"#;
    let ToBridge::Stats { fields } = ok(text) else { panic!() };
    assert_eq!(
        &*ToClient::Stats { from: "aaaa1111", fields: &fields }.text(),
        r#"{"colibriClass":"EndpointStats","from":"aaaa1111","bitrate":{"upload":10},"to":"c"}"#
    );
}

/// As a JVB was seen to write them.
#[test]
fn messages_to_clients_are_written() {
    for (message, text) in [
        (ToClient::Hello { version: None }, r#"{"colibriClass":"ServerHello"}"#),
        (
            ToClient::Hello { version: Some("2.3") },
            r#"{"colibriClass":"ServerHello","version":"2.3"}"#,
        ),
        (
            ToClient::Connectivity { endpoint: "aaaa1111", active: false },
            r#"{"colibriClass":"EndpointConnectivityStatusChangeEvent","endpoint":"aaaa1111","active":"false"}"#,
        ),
        (
            ToClient::ForwardedSources(&["bbbb2222-v0".to_owned()]),
            r#"{"colibriClass":"ForwardedSources","forwardedSources":["bbbb2222-v0"]}"#,
        ),
        (
            ToClient::ConnectionStats(1_500_000),
            r#"{"colibriClass":"ConnectionStats","estimatedDownlinkBandwidth":1500000}"#,
        ),
        (
            ToClient::SenderConstraints { source: "bbbb2222-v0", max_height: 720 },
            r#"{"colibriClass":"SenderSourceConstraints","sourceName":"bbbb2222-v0","maxHeight":720}"#,
        ),
        (
            ToClient::DominantSpeaker {
                endpoint: "a",
                previous: &["b".into(), "c".into()],
                silence: false,
            },
            r#"{"colibriClass":"DominantSpeakerEndpointChangeEvent","dominantSpeakerEndpoint":"a","previousSpeakers":["b","c"],"silence":false}"#,
        ),
        (
            ToClient::DominantSpeaker { endpoint: "a", previous: &[], silence: true },
            r#"{"colibriClass":"DominantSpeakerEndpointChangeEvent","dominantSpeakerEndpoint":"a","previousSpeakers":[],"silence":true}"#,
        ),
        (
            ToClient::SourcesMap {
                video: true,
                sources: &[MappedSource {
                    source: "bbbb2222-v0",
                    owner: "bbbb2222",
                    ssrc: 1_250_111_413,
                    rtx: Some(526_890_669),
                    video_type: None,
                    mid: Some("v0"),
                }],
            },
            r#"{"colibriClass":"VideoSourcesMap","mappedSources":[{"source":"bbbb2222-v0","owner":"bbbb2222","ssrc":1250111413,"rtx":526890669,"videoType":"CAMERA","mid":"v0"}]}"#,
        ),
        (
            ToClient::SourcesMap {
                video: false,
                sources: &[MappedSource {
                    source: "b-a0",
                    owner: "b",
                    ssrc: 4_294_967_295,
                    rtx: None,
                    video_type: None,
                    mid: None,
                }],
            },
            r#"{"colibriClass":"AudioSourcesMap","mappedSources":[{"source":"b-a0","owner":"b","ssrc":4294967295}]}"#,
        ),
    ] {
        assert_eq!(&*message.text(), text);
    }
}

#[test]
fn what_is_wrong_is_refused() {
    use MessageError::{Class, Field, Json, TooLong, UnknownField};
    for (text, error) in [
        ("", Json),
        ("not json", Json),
        ("[]", Json),
        (r#"{"colibriClass":"ClientHello"} x"#, Json),
        (r#"{"colibriClass":"ClientHello","colibriClass":"ClientHello"}"#, Json),
        (r#"{"colibriClass":"EndpointMessage","to":"","p":{"a":1,"a":2}}"#, Json),
        (r#"{"colibriClass":"EndpointMessage","to":"","from":"a","from":"b"}"#, Json),
        ("{}", Class),
        (r#"{"colibriClass":"NoSuchClass"}"#, Class),
        (r#"{"colibriClass":"clienthello"}"#, Class),
        (r#"{"colibriClass":"ServerHello"}"#, Class),
        (r#"{"colibriClass":"AddReceiver","bridgeId":"b","sourceName":"s"}"#, Class),
        (r#"{"colibriClass":7}"#, Field("colibriClass")),
        (r#"{"colibriClass":"ClientHello","x":1}"#, UnknownField),
        (r#"{"colibriClass":"EndpointMessage"}"#, Field("to")),
        (r#"{"colibriClass":"EndpointMessage","to":7}"#, Field("to")),
        (r#"{"colibriClass":"LastNChangedEvent"}"#, Field("lastN")),
        (r#"{"colibriClass":"LastNChangedEvent","lastN":"two"}"#, Field("lastN")),
        (r#"{"colibriClass":"LastNChangedEvent","lastN":1e300}"#, Field("lastN")),
        (r#"{"colibriClass":"LastNChangedEvent","lastN":1,"y":2}"#, UnknownField),
        (r#"{"colibriClass":"ReceiverVideoConstraints","selectedEndpoints":[]}"#, UnknownField),
        (
            r#"{"colibriClass":"ReceiverVideoConstraints","selectedSources":[1]}"#,
            Field("selectedSources"),
        ),
        (
            r#"{"colibriClass":"ReceiverVideoConstraints","constraints":{"a":{}}}"#,
            Field("constraints"),
        ),
        (
            r#"{"colibriClass":"ReceiverVideoConstraints","constraints":{"a":{"maxHeight":-2}}}"#,
            Field("constraints"),
        ),
        (
            r#"{"colibriClass":"ReceiverVideoConstraints","defaultConstraints":{"maxHeight":1,"maxFrameRate":-2}}"#,
            Field("defaultConstraints"),
        ),
        (
            r#"{"colibriClass":"ReceiverVideoConstraints","defaultConstraints":180}"#,
            Field("defaultConstraints"),
        ),
        (r#"{"colibriClass":"ReceiverAudioSubscription","mode":"Some"}"#, Field("mode")),
        (r#"{"colibriClass":"ReceiverAudioSubscription","all":"true"}"#, Field("all")),
        (
            r#"{"colibriClass":"SourceVideoTypeMessage","videoType":"film","sourceName":"a"}"#,
            Field("videoType"),
        ),
        (r#"{"colibriClass":"SourceVideoTypeMessage","videoType":"camera"}"#, Field("sourceName")),
    ] {
        assert_eq!(refused(text), error, "{text}");
    }
    let long = format!(r#"{{"colibriClass":"EndpointStats","x":"{}"}}"#, "x".repeat(MAX_BYTES));
    assert_eq!(refused(&long), TooLong);
}

/// A JSON value of any shape, without repeated names.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,3}", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}") {
        let _ = ToBridge::parse(&text);
    }

    #[test]
    fn a_message_for_others_comes_out_as_it_came_in(
        to in ".{0,12}",
        fields in prop::collection::btree_map("[a-z]{1,6}", value(), 0..6),
    ) {
        let mut message = json!({ CLASS: "EndpointMessage", "to": to });
        for (name, value) in &fields {
            if name != "to" && name != "from" {
                message[name] = value.clone();
            }
        }
        let ToBridge::Endpoint { to: read, fields } = ok(&message.to_string()) else { panic!() };
        prop_assert_eq!(&read, &to);
        let written = ToClient::Endpoint { to: &to, from: "me", fields: &fields }.text();
        let written: Value = serde_json::from_str(&written).unwrap();
        prop_assert_eq!(&written["from"], "me");
        message["from"] = "me".into();
        prop_assert_eq!(written, message);
    }

    #[test]
    fn any_value_of_any_field_is_read_or_refused(
        class in prop::sample::select(vec![
            "ClientHello", "EndpointMessage", "EndpointStats", "LastNChangedEvent",
            "ReceiverVideoConstraints", "ReceiverAudioSubscription", "SourceVideoTypeMessage",
            "VideoTypeMessage",
        ]),
        name in prop::sample::select(vec![
            "to", "from", "lastN", "selectedSources", "onStageSources", "defaultConstraints",
            "constraints", "assumedBandwidthBps", "all", "include", "exclude", "mode", "list",
            "videoType", "sourceName", "endpointId",
        ]),
        value in value(),
    ) {
        let _ = ToBridge::parse(&json!({ CLASS: class, name: value }).to_string());
    }
}
