//! What a real focus asked of a real Jitsi Videobridge over XMPP, asked of this bridge, stanza by
//! stanza and as pipelined as it was: the answers must be the same but for what every bridge chooses
//! for itself (`tests/data/xmpp`).

#[path = "../../tests/xmpp/compare.rs"]
mod compare;

use std::{collections::HashMap, fs, path::PathBuf, pin::Pin};

use compare::comparable;
use minidom::Element;
use proptest::{prelude::*, sample::Index};
use rialto_engine::{Engine, MediaEvent};
use rialto_transport::{TransportConfig, Transports};
use tokio::sync::mpsc;

use super::colibri2::{About, Adapter};
use crate::{
    bridge::{Bridge, BridgeConfig, EngineCommands},
    colibri::xml,
    xmpp::{Answer, Answers as _, Asked, Limits, Stanza, parse, put},
};

const CLIENT: &str = "jabber:client";

/// Captured stanzas by file name, in order.
fn captures(directory: &str) -> Vec<(String, Stanza)> {
    let directory =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/xmpp").join(directory);
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
        .into_iter()
        .map(|file| {
            let name = file.file_stem().unwrap().to_string_lossy().into_owned();
            let text = fs::read_to_string(&file).unwrap();
            let stanza = parse(text.trim().as_bytes(), CLIENT, Limits::default());
            (name, stanza.unwrap_or_else(|error| panic!("{}: {error}", file.display())))
        })
        .collect()
}

fn whole(stanza: &Stanza) -> &Element {
    match stanza {
        Stanza::Whole(element) => element,
        Stanza::Refused { fault, .. } => panic!("{fault}"),
    }
}

/// A bridge, whose engine ends when the last value returned is dropped.
pub(crate) fn bridge(config: BridgeConfig) -> (Bridge, mpsc::Sender<MediaEvent>) {
    let (engine, _) = Engine::detached(vec!["127.0.0.1:10000".parse().unwrap()]);
    let (transports, updates) =
        Transports::new(TransportConfig::default(), EngineCommands::sink(engine.clone()), [7; 32])
            .unwrap();
    let (media, events) = mpsc::channel(1);
    (Bridge::new(config, engine, transports, events, updates), media)
}

/// A bridge with real transports on one loopback address, and SCTP announced: what is compared is
/// what is signalled.
struct Here {
    bridge: Bridge,
    adapter: Adapter,
    _media: mpsc::Sender<MediaEvent>,
}

impl Here {
    fn new() -> Self {
        let (bridge, media) = bridge(BridgeConfig {
            sctp: true,
            web_sockets: vec!["wss://x/colibri-ws/jvb".to_owned()],
            ..BridgeConfig::default()
        });
        let about =
            About { name: "JVB".into(), version: "2.3.SNAPSHOT".into(), os: "Linux".into() };
        Self { adapter: Adapter::new(bridge.clone(), about), bridge, _media: media }
    }

    /// The answer to come; `None` for what is not answered.
    fn ask(&self, stanza: &Stanza) -> Option<Pin<Box<dyn Future<Output = Element>>>> {
        match self.adapter.answer(Asked { stanza, authorized: None, busy: false }) {
            Answer::Nothing => None,
            Answer::Now(answer) => Some(Box::pin(async move { answer })),
            Answer::Later(answer) => Some(answer),
        }
    }
}

#[tokio::test]
async fn every_request_of_a_focus_is_answered_as_by_a_jvb() {
    let here = Here::new();
    let mut waiting = HashMap::new();
    let mut compared = 0;
    for (name, stanza) in captures("") {
        let element = whole(&stanza);
        let id = element.attr("id").unwrap_or_default().to_owned();
        if name.contains("-jicofo-to-jvb-") && element.name() == "iq" {
            let answer = here.ask(&stanza).unwrap_or_else(|| panic!("{name} is not answered"));
            waiting.insert(id, answer);
        } else if name.contains("-jvb-to-jicofo-") {
            let ours =
                waiting.remove(&id).unwrap_or_else(|| panic!("{name} answers nothing")).await;
            assert_eq!(comparable(&ours), comparable(element), "{name}");
            compared += 1;
        }
    }
    assert!(waiting.is_empty(), "a JVB answered everything");
    assert_eq!(compared, 49);
    assert_eq!(here.bridge.stats().conferences, 0);
}

#[tokio::test]
async fn odd_requests_are_answered_as_by_a_jvb() {
    /// These a JVB does not answer at all. RFC 6120 section 8.2.3 wants an answer to every request.
    const UNANSWERED: [&str; 3] = ["08", "11", "37"];
    let here = Here::new();
    let captures = captures("direct");
    for pair in captures.chunks(2) {
        let [(name, request), (_, answer)] = pair else { panic!("an answer is missing") };
        let number = name.get(..2).unwrap();
        here.bridge.set_drain(number == "61");
        // The driver did not see what the server added.
        let Stanza::Whole(mut request) = request.clone() else { panic!("{name}") };
        put(request.attrs_mut(), "from", "driver@auth.jitsi.local/driver");
        let theirs = whole(answer);
        let ours = here.ask(&Stanza::Whole(request.clone())).unwrap().await;
        assert_eq!(ours.attr("id"), request.attr("id"), "{name}");
        if UNANSWERED.contains(&number) {
            assert_eq!(theirs.attr("type"), Some("get"), "{name} was not answered");
            let error = xml::read_error(ours.get_child("error", CLIENT).unwrap()).unwrap();
            let expected = if number == "08" { "service-unavailable" } else { "bad-request" };
            assert_eq!(error.condition.as_str(), expected, "{name}");
            continue;
        }
        match number {
            // The identity and the features are ours; JVB's own are among them.
            "01" => {
                let features = |iq: &Element| -> Vec<String> {
                    let query = iq.children().next().unwrap();
                    query.children().filter_map(|f| f.attr("var")).map(str::to_owned).collect()
                };
                let known = features(theirs);
                assert!(features(&ours).iter().all(|feature| known.contains(feature)), "{name}");
            }
            // JVB repeats an element of another name inside.
            "07" => {
                let error = |iq: &Element| comparable(iq.get_child("error", CLIENT).unwrap());
                assert_eq!(error(&ours), error(theirs), "{name}");
            }
            _ => assert_eq!(comparable(&ours), comparable(theirs), "{name}"),
        }
    }
}

#[tokio::test]
async fn whatever_else_comes_is_within_the_limits_and_no_request_stays_without_answer() {
    let here = Here::new();
    for directory in ["", "direct", "participant"] {
        for (name, stanza) in captures(directory) {
            let element = whole(&stanza);
            let wants_answer = element.name() == "iq"
                && element.attr("id").is_some()
                && matches!(element.attr("type"), Some("get" | "set"));
            match here.ask(&stanza) {
                Some(answer) => {
                    let answer = answer.await;
                    assert!(wants_answer, "{name}");
                    assert!(matches!(answer.attr("type"), Some("result" | "error")), "{name}");
                }
                None => assert!(!wants_answer, "{name}"),
            }
        }
    }
}

/// Captured stanzas in which some bytes are replaced by those of others.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/colibri_xml");
    let files: Vec<Vec<u8>> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    let piece = (any::<Index>(), any::<Index>(), 0..24_usize, any::<Index>(), 0..24_usize);
    (any::<Index>(), prop::collection::vec(piece, 0..6)).prop_map(move |(file, pieces)| {
        let mut bytes = files[file.index(files.len())].clone();
        for (other, from, take, at, drop) in pieces {
            let other = &files[other.index(files.len())];
            let from = from.index(other.len());
            let piece = &other[from..other.len().min(from + take)];
            let at = at.index(bytes.len().max(1)).min(bytes.len());
            let end = bytes.len().min(at + drop);
            bytes.splice(at..end, piece.iter().copied());
        }
        bytes
    })
}

proptest! {
    #[test]
    fn damaged_stanzas_are_answered_or_refused(bytes in damaged()) {
        crate::fuzzing::colibri_xml(&bytes);
    }
}
