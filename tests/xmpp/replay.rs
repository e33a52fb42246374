//! What a real focus asked of a real Jitsi Videobridge, asked of this bridge over a real server.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::PathBuf,
};

use minidom::{
    Element,
    rxml::{Namespace, NcName},
};
use rialto::{
    bridge::{Bridge, SelfReport},
    xmpp::{Limits, Stanza, parse},
};

use super::{
    compare::comparable,
    focus::{Focus, ROOM, Stats},
    here::{Here, NICK, client, set},
    prosody::Prosody,
    wire::CLIENT,
};

/// Captured stanzas by file name, in order.
fn captures(directory: &str) -> Vec<(String, Element)> {
    let directory =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/xmpp").join(directory);
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.is_file()).collect();
    files.sort();
    let read = |file: PathBuf| {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        match parse(text.trim().as_bytes(), CLIENT, Limits::default()) {
            Ok(Stanza::Whole(element)) => (name, element),
            other => panic!("{}: {other:?}", file.display()),
        }
    };
    files.into_iter().map(read).collect()
}

/// A focus in the brewery that sees these bridges.
fn focus(port: u16, bridges: &[&str]) -> Focus {
    let mut focus = Focus::log_in(port, "focus");
    focus.join("focus");
    for bridge in bridges {
        focus.stats(bridge, |_| true);
    }
    focus
}

/// Sends a captured request to a bridge as ours.
fn send(focus: &mut Focus, bridge: &str, mut request: Element, id: &str) {
    set(&mut request, "id", id);
    set(&mut request, "to", &format!("{ROOM}/{bridge}"));
    request.attrs_mut().remove(&Namespace::NONE, "from");
    focus.send_element(&request);
}

/// The answer to ours, addressed as the one that was captured.
fn answer(focus: &mut Focus, id: &str, captured: &Element) -> Element {
    let mut answer = focus.next(|e| {
        let is_answer = e.name() == "iq" && matches!(e.attr("type"), Some("result" | "error"));
        is_answer && e.attr("id") == Some(id)
    });
    for attribute in ["id", "to", "from"] {
        let theirs = captured.attr(attribute).unwrap_or_default().to_owned();
        set(&mut answer, attribute, &theirs);
    }
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_of_a_focus_is_answered_as_by_a_jvb() {
    let Some(prosody) = Prosody::start("") else { return };
    let here = Here::start(client(prosody.port()));
    let port = prosody.port();
    let bridge = here.bridge.clone();
    let asked = tokio::task::spawn_blocking(move || replay(&mut focus(port, &[NICK]), bridge));
    assert_eq!(asked.await.unwrap(), (49, 16));
    assert_eq!(here.bridge.stats().conferences, 0);
}

/// Sends the requests as pipelined as they were. Gives the numbers of answers and of statistics that
/// were compared.
fn replay(focus: &mut Focus, bridge: Bridge) -> (usize, usize) {
    let mut counts = Counts { report: SelfReport::new(bridge, "1"), before: BTreeMap::new() };
    let mut ours = HashMap::new();
    let (mut compared, mut counted) = (0, 0);
    for (name, stanza) in captures("") {
        let id = stanza.attr("id").unwrap_or_default().to_owned();
        if name.contains("-jicofo-to-jvb-") && stanza.name() == "iq" {
            let sent = format!("ask-{}", ours.len());
            send(focus, NICK, stanza, &sent);
            ours.insert(id, sent);
        } else if name.contains("-jvb-to-jicofo-") {
            let sent = ours.get(&id).unwrap_or_else(|| panic!("{name} answers nothing"));
            let answer = answer(focus, sent, &stanza);
            assert_eq!(comparable(&answer), comparable(&stanza), "{name}");
            compared += 1;
        } else if name.contains("-jvb-to-") && ours.len() == compared {
            counted += usize::from(counts.compare(&name, &stanza));
        }
    }
    (compared, counted)
}

/// How many of what there were, by JVB's statistics and by ours.
struct Counts {
    report: SelfReport,
    /// What was counted before the JVB was started anew, as ours was not.
    before: BTreeMap<String, u64>,
}

impl Counts {
    const NAMES: [&str; 12] = [
        "conferences",
        "local_endpoints",
        "endpoints",
        "inactive_endpoints",
        "visitors",
        "largest_conference",
        "inactive_conferences",
        "p2p_conferences",
        "total_conferences_created",
        "total_conferences_completed",
        "total_participants",
        "total_visitors",
    ];

    /// Whether there was something to compare: statistics, said while nothing was under way.
    fn compare(&mut self, name: &str, presence: &Element) -> bool {
        // Time had passed: who had never connected was gone.
        let Some(stats) = Stats::of(presence).filter(|_| !name.starts_with("068")) else {
            return false;
        };
        let read = self.report.read();
        let ours = |wanted| {
            let (_, value) = read.iter().find(|(name, _)| *name == wanted).unwrap();
            value.to_string().parse::<u64>().unwrap()
        };
        if name.starts_with("120") {
            self.before = Self::NAMES.map(|name| (name.to_owned(), ours(name))).into();
        }
        for wanted in Self::NAMES {
            let theirs: u64 = stats.get(wanted).unwrap().parse().unwrap();
            let before = self.before.get(wanted).copied().unwrap_or_default();
            assert_eq!(ours(wanted) - before, theirs, "{wanted} at {name}");
        }
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_requests_are_answered_as_by_a_jvb() {
    let Some(prosody) = Prosody::start("") else { return };
    let here = Here::start(client(prosody.port()));
    let (port, bridge) = (prosody.port(), here.bridge.clone());
    let asked = tokio::task::spawn_blocking(move || {
        let mut focus = focus(port, &[NICK]);
        let exchanges = captures("direct");
        for exchange in exchanges.chunks(2) {
            let [(name, request), (_, captured)] = exchange else { panic!("a request alone") };
            bridge.set_drain(name.contains("while-draining"));
            send(&mut focus, NICK, request.clone(), name);
            let answer = answer(&mut focus, name, captured);
            compare_single(name, &answer, captured);
        }
        refused_in_shutdown(&mut focus, &bridge, exchanges);
    });
    asked.await.unwrap();
}

fn compare_single(name: &str, answer: &Element, captured: &Element) {
    // What JVB left without an answer was recorded as the request itself. RFC 6120 section 8.2.3 wants
    // one.
    if matches!(captured.attr("type"), Some("get" | "set")) {
        let text = String::from(answer);
        let condition =
            if name.contains("unknown") { "service-unavailable" } else { "bad-request" };
        assert!(text.contains(&format!("<{condition} ")), "{name}: {text}");
        return;
    }
    let mut captured = captured.clone();
    if name.contains("disco-info") {
        return compare_features(answer, &captured);
    }
    if name.contains("colibri-stats") {
        // The driver that recorded it wrote the request's name twice.
        let stats = captured.children_mut().find(|child| child.name() == "stats").unwrap();
        *stats = Element::bare("stats", stats.ns());
    }
    assert_eq!(comparable(answer), comparable(&captured), "{name}");
}

/// Of what JVB says that it can do, the half is its library's. These are the bridge's.
fn compare_features(answer: &Element, captured: &Element) {
    let features = |iq: &Element| -> Vec<String> {
        let query = iq.children().next().unwrap();
        query.children().filter_map(|child| child.attr("var")).map(str::to_owned).collect()
    };
    let (ours, theirs) = (features(answer), features(captured));
    for feature in &ours {
        assert!(theirs.contains(feature), "{feature} is not JVB's");
    }
    for feature in [
        "http://jitsi.org/protocol/healthcheck",
        "urn:xmpp:jingle:apps:dtls:0",
        "urn:xmpp:jingle:transports:ice-udp:1",
        "jabber:iq:version",
        "urn:xmpp:ping",
    ] {
        assert!(ours.iter().any(|have| have == feature), "{feature} is missing");
    }
}

/// A bridge that is about to go sends a focus elsewhere.
fn refused_in_shutdown(focus: &mut Focus, bridge: &Bridge, exchanges: Vec<(String, Element)>) {
    bridge.graceful_shutdown();
    let mut exchanges = exchanges.into_iter();
    let (_, request) = exchanges.find(|(name, _)| name.contains("while-draining")).unwrap();
    send(focus, NICK, request.clone(), "late");
    let answer = answer(focus, "late", &request);
    // That it exists already counts more.
    assert!(String::from(&answer).contains("conference_already_exists"));
    let mut other = request;
    set_meeting(&mut other, "another");
    send(focus, NICK, other.clone(), "later");
    let answer = self::answer(focus, "later", &other);
    let error = answer.children().find(|child| child.name() == "error").unwrap();
    let error = rialto::colibri::xml::read_error(error).unwrap();
    assert_eq!(error, rialto::colibri::ColibriError::graceful_shutdown());
}

fn set_meeting(iq: &mut Element, meeting: &str) {
    let name = NcName::try_from("meeting-id").unwrap();
    let modify = iq.children_mut().next().unwrap();
    modify.attrs_mut().insert(Namespace::NONE, name, meeting.to_owned());
}

/// Two bridges in a brewery, whose focus wants them to relay to each other: everything else is
/// answered as by JVBs with relays, and relays as by one without.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_are_refused_as_by_a_jvb_without_them() {
    let Some(prosody) = Prosody::start("") else { return };
    let port = prosody.port();
    let bridges = ["jvb-lab-1", "jvb-lab-2"];
    let here = bridges.map(|nickname| {
        let mut client = client(port);
        nickname.clone_into(&mut client.nickname);
        Here::start(client)
    });
    let asked = tokio::task::spawn_blocking(move || replay_two(&mut focus(port, &bridges)));
    let (compared, refused) = asked.await.unwrap();
    assert_eq!((compared, refused), (10, 10));
    for here in here {
        assert_eq!(here.bridge.stats().conferences, 0);
    }
}

/// Gives how many answers were JVB's, and how many refused a relay.
fn replay_two(focus: &mut Focus) -> (usize, usize) {
    let refusal = captures("direct")
        .into_iter()
        .find(|(name, _)| name.contains("answer-relay-create-octo-disabled"))
        .unwrap()
        .1;
    let error_of =
        |iq: &Element| comparable(iq.children().find(|child| child.name() == "error").unwrap());
    let mut ours = HashMap::new();
    let (mut compared, mut refused) = (0, 0);
    for (name, stanza) in captures("octo") {
        let id = stanza.attr("id").unwrap_or_default().to_owned();
        let bridge = if name.contains("jvb-lab-1") { "jvb-lab-1" } else { "jvb-lab-2" };
        let key = format!("{bridge} {id}");
        if name.contains("-jicofo-to-jvb-") {
            let sent = format!("ask-{}", ours.len());
            send(focus, bridge, stanza, &sent);
            ours.insert(key, sent);
            continue;
        }
        let answer = answer(focus, &ours[&key], &stanza);
        if name.contains("-relay-") {
            assert_eq!(error_of(&answer), error_of(&refusal), "{name}");
            refused += 1;
        } else {
            assert_eq!(comparable(&answer), comparable(&stanza), "{name}");
            compared += 1;
        }
    }
    (compared, refused)
}
