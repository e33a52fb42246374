//! Receivers whose SSRCs are rewritten: the slots stay few, whatever the size of the call and the
//! constraints.

use std::time::{Duration, Instant};

use rialto_media::{SlotSsrcs, SubscriptionParams};

use super::*;
use crate::{channel::ToBridge, conference::fuzz::client::ClientSlots};

const LIMITS: SsrcLimits = SsrcLimits { audio: 3, video: 4 };

/// A room with a receiver that has slots, and a model of its client.
struct SlotRoom {
    room: Room,
    client: ClientSlots,
    receiver: EndpointId,
    /// Messages about slots.
    told: usize,
}

impl SlotRoom {
    fn new(more: &[&str]) -> Self {
        let mut room = Room::new();
        room.conference.rules.ssrc_limits = LIMITS;
        let mut request = joins("r", &BOTH);
        request.capabilities.push(capability::SSRC_REWRITING.into());
        request.capabilities.extend(more.iter().map(|has| (*has).to_owned()));
        assert!(room.ask(request));
        let receiver = room.engine_id("r");
        Self { room, client: ClientSlots::default(), receiver, told: 0 }
    }

    /// Applies a change to the conference: first its messages, then its commands to the engine.
    fn act(&mut self, act: impl FnOnce(&mut Conference, &mut SequentialIds, &mut Effects)) {
        let mut effects = Effects::default();
        let Room { conference, ids, .. } = &mut self.room;
        act(conference, ids, &mut effects);
        conference.send_slots(&mut effects);
        for (to, text) in &effects.messages {
            if *to == self.receiver {
                self.told += usize::from(self.client.receive(text));
            } else {
                assert!(!ClientSlots::default().receive(text), "only who has slots hears of them");
            }
        }
        self.room.apply(&effects);
        let receiver = self.room.conference.by_engine_id(self.receiver).unwrap();
        self.client.check(&self.room.conference, receiver);
        assert!(self.client.audio() <= LIMITS.audio && self.client.video() <= LIMITS.video);
        assert!(receiver.subscriptions.len() <= LIMITS.audio + LIMITS.video);
    }

    fn ask(&mut self, endpoint: Colibri2Endpoint) {
        let endpoints = vec![endpoint];
        let request =
            ConferenceModify { meeting_id: "m".into(), endpoints, ..ConferenceModify::default() };
        let now = self.room.now;
        self.act(|conference, ids, effects| {
            conference.modify(&request, ids, now, effects).unwrap();
        });
    }

    /// Somebody comes with a microphone and a camera.
    fn come(&mut self, id: &str, ssrc: u32) {
        self.ask(joins(id, &BOTH));
        let (audio, video) = (format!("{id}-a0"), format!("{id}-v0"));
        let sources = [(MediaType::Audio, &*audio, ssrc), (MediaType::Video, &*video, ssrc + 1)];
        self.ask(sends(id, &sources));
    }

    fn come_many(&mut self, count: u32) {
        for n in 0..count {
            self.come(&format!("p{n}"), 100 + 10 * n);
        }
    }

    fn leave(&mut self, id: &str) {
        let mut gone = Colibri2Endpoint::new(id);
        gone.expire = true;
        self.ask(gone);
    }

    /// The receiver sends a message over its channel.
    fn channel_message(&mut self, text: &str) {
        let (from, message) = (self.receiver, ToBridge::parse(text).unwrap());
        self.act(|conference, _, effects| {
            conference.channel_message(from, message, effects).unwrap();
        });
    }

    fn select(&mut self, names: &[String]) {
        let selected = serde_json::json!({
            "colibriClass": "ReceiverVideoConstraints",
            "defaultConstraints": { "maxHeight": 180 },
            "selectedSources": names,
        });
        self.channel_message(&selected.to_string());
    }

    fn pass(&mut self, time: Duration) {
        self.room.now += time;
        let now = self.room.now;
        self.act(|conference, _, effects| {
            conference.tick(now, &|_| Some(now), effects);
        });
    }

    /// Somebody makes a sound.
    fn speak(&mut self, id: &str, level: u8) {
        let endpoint = self.room.conference.endpoint(id).unwrap();
        let (id, source) = (endpoint.engine_id, endpoint.sources[0].spec.id);
        let now = self.room.now;
        self.act(|conference, _, effects| {
            conference.audio_level(id, level, now, effects);
            conference.level_received(id, source, level, effects);
        });
    }

    fn gets(&self, name: &str) -> bool {
        self.room.gets("r").contains(name)
    }

    fn terms(&self, name: &str) -> SubscriptionParams {
        let source = self.room.conference.endpoints().flat_map(|e| &e.sources);
        let id = { source }.find(|source| &*source.spec.name == name).unwrap().spec.id;
        self.room.model.subscriptions[&(self.receiver, id)]
    }

    fn slot(&self, name: &str) -> SlotSsrcs {
        self.terms(name).slot.unwrap()
    }
}

#[test]
fn a_large_call_is_described_like_a_small_one() {
    let mut call = SlotRoom::new(&[]);
    call.room.ask(joins("plain", &BOTH));
    call.come_many(4);
    let small = (call.client.audio(), call.client.video());
    assert_eq!(small, (LIMITS.audio, LIMITS.video), "whatever fits");
    for n in 4..60 {
        call.come(&format!("p{n}"), 1_000 + 10 * n);
    }
    assert_eq!((call.client.audio(), call.client.video()), small);
    assert_eq!(call.room.gets("plain").len(), 120, "who has not the capability gets all");
    let plain = call.room.engine_id("plain");
    let of_plain = call.room.model.subscriptions.iter().filter(|((to, _), _)| *to == plain);
    assert!({ of_plain }.all(|(_, terms)| terms.slot.is_none()), "under the sources' own SSRCs");
}

#[test]
fn each_slot_has_a_mid_for_who_goes_by_it() {
    let mut call = SlotRoom::new(&[capability::RTP_MID_DEMUX]);
    call.come_many(3);
    let mid = |call: &SlotRoom, name: &str| call.terms(name).mid;
    let named = |text: &str| Mid::new(text);
    assert_eq!([mid(&call, "p0-a0"), mid(&call, "p2-a0")], [named("a0"), named("a2")]);
    assert_eq!([mid(&call, "p0-v0"), mid(&call, "p2-v0")], [named("v0"), named("v2")]);
    let mut effects = Effects::default();
    let given = vec![("p0-v0".to_owned(), Mid::new("7").unwrap())];
    call.room.conference.assign_mids("r", given, &mut effects);
    assert!(effects.controls.is_empty(), "slots keep theirs");
    let mut plain = SlotRoom::new(&[]);
    plain.come_many(1);
    assert_eq!(mid(&plain, "p0-a0"), None);
}

#[test]
fn what_is_selected_takes_the_slot_that_was_given_up_longest_ago() {
    let mut call = SlotRoom::new(&[]);
    call.come_many(8);
    assert!(call.gets("p3-v0") && !call.gets("p7-v0"), "those who came first");
    let first = call.slot("p3-v0");
    call.pass(Duration::from_secs(10));
    call.select(&["p7-v0".into()]);
    assert!(call.gets("p7-v0") && !call.gets("p3-v0"));
    assert_eq!(call.slot("p7-v0"), first, "the slot of who came last");
    let told = call.told;
    // With fewer videos no new message is needed, and a source that comes back has the slot it had.
    call.channel_message(r#"{"colibriClass":"LastNChangedEvent","lastN":2}"#);
    call.pass(Duration::from_secs(1));
    assert_eq!(call.room.gets("r").iter().filter(|name| name.ends_with("v0")).count(), 2);
    call.channel_message(r#"{"colibriClass":"LastNChangedEvent","lastN":4}"#);
    assert_eq!((call.slot("p7-v0"), call.told), (first, told));
    // p2 is dropped before p0 and p1, so its slot is the next.
    let next = call.slot("p2-v0");
    for last_n in [3, 2] {
        call.channel_message(&format!(
            r#"{{"colibriClass":"LastNChangedEvent","lastN":{last_n}}}"#
        ));
        call.pass(Duration::from_secs(1));
    }
    call.select(&["p7-v0".into(), "p5-v0".into()]);
    assert_eq!((call.slot("p7-v0"), call.slot("p5-v0")), (first, next));
}

#[test]
fn an_active_source_takes_the_slot_of_the_one_silent_for_longest() {
    let mut call = SlotRoom::new(&[]);
    call.come_many(6);
    let (quiet, loud) = (90, 20);
    for (id, ms) in [("p0", 0), ("p2", 400), ("p1", 400)] {
        call.pass(Duration::from_millis(ms));
        call.speak(id, quiet);
    }
    assert!(["p0-a0", "p1-a0", "p2-a0"].iter().all(|name| call.gets(name)));
    let slot = call.slot("p0-a0");
    call.speak("p4", quiet);
    assert!(!call.gets("p4-a0"), "all were heard a moment ago");
    call.pass(Duration::from_millis(200));
    call.speak("p5", 127);
    assert!(!call.gets("p5-a0"), "silence is no voice");
    call.speak("p4", quiet);
    assert!(call.gets("p4-a0") && !call.gets("p0-a0"));
    assert_eq!(call.slot("p4-a0"), slot);
    // Whoever speaks for good comes in, whatever noise the others make.
    for n in 0..60 {
        for id in ["p4", "p1", "p2"] {
            call.speak(id, quiet);
        }
        call.speak("p3", if n % 5 == 4 { quiet } else { loud });
        call.pass(Duration::from_millis(100));
    }
    assert!(call.gets("p3-a0"), "the dominant speaker is heard");
}

#[test]
fn a_voice_that_found_no_slot_looks_again_a_little_later() {
    let mut call = SlotRoom::new(&[]);
    call.come_many(4);
    for id in ["p0", "p1", "p2"] {
        call.pass(Duration::from_millis(1));
        call.speak(id, 90);
    }
    call.pass(Duration::from_millis(900));
    call.speak("p3", 90);
    assert!(!call.gets("p3-a0"), "all were heard within a second");
    call.pass(Duration::from_millis(150));
    call.speak("p3", 90);
    assert!(!call.gets("p3-a0"), "it has just looked");
    call.pass(Duration::from_millis(50));
    call.speak("p3", 90);
    assert!(call.gets("p3-a0") && !call.gets("p0-a0"));
}

#[test]
fn people_who_come_and_go_leave_no_slots_behind() {
    let mut call = SlotRoom::new(&[]);
    call.come_many(2);
    for n in 0..200 {
        let id = format!("guest{n}");
        call.come(&id, 10_000 + 10 * n);
        assert!(call.gets(&format!("{id}-a0")) && call.gets(&format!("{id}-v0")));
        call.leave(&id);
    }
    assert_eq!((call.client.audio(), call.client.video()), (3, 3), "one more of each");
    let slot = call.slot("p1-v0");
    call.leave("p1");
    call.come("p1", 500);
    assert_eq!(call.slot("p1-v0"), slot, "who comes back finds its slot");
    let told = call.told;
    call.ask(sends("p1", &[(MediaType::Video, "p1-v0", 777)]));
    assert_eq!((call.slot("p1-v0"), call.told), (slot, told), "with another SSRC it is the same");
}

#[test]
fn what_shows_nothing_has_no_slot_and_is_wanted_all_the_same() {
    let mut call = SlotRoom::new(&[]);
    call.come_many(6);
    let says = |call: &mut SlotRoom, id: &str, kind: &str| {
        let from = call.room.engine_id(id);
        let name = format!("{id}-v0");
        let text = format!(
            r#"{{"colibriClass":"SourceVideoTypeMessage","sourceName":"{name}","videoType":"{kind}"}}"#
        );
        let message = ToBridge::parse(&text).unwrap();
        call.act(|conference, _, effects| {
            conference.channel_message(from, message, effects).unwrap();
        });
    };
    assert!(!call.gets("p4-v0"));
    says(&mut call, "p1", "none");
    assert!(!call.gets("p1-v0") && call.gets("p4-v0"), "the next one has its place");
    let demand = &call.room.conference.endpoint("p1").unwrap().demand;
    assert!(demand.iter().all(|(_, height)| *height > 0), "{demand:?}");
    says(&mut call, "p1", "camera");
    assert!(call.gets("p1-v0") && !call.gets("p4-v0"), "and comes before it again");
}

/// A client passes over news of a slot of which it has not made a track yet.
#[test]
fn changes_of_a_young_slot_are_sent_again() {
    let mut call = SlotRoom::new(&[]);
    call.come_many(4);
    call.pass(Duration::from_secs(1));
    let told = call.told;
    call.leave("p0");
    call.come("late", 900);
    assert_eq!(call.told, told + 2, "another voice, and the video");
    call.pass(Duration::from_secs(3));
    assert_eq!(call.told, told + 2);
    call.pass(Duration::from_secs(2));
    assert_eq!(call.told, told + 4);
    call.pass(Duration::from_secs(9));
    assert_eq!(call.told, told + 4, "once");
    call.leave("late");
    call.come("later", 950);
    call.pass(Duration::from_secs(9));
    assert_eq!(call.told, told + 5, "of a video; a track is there by now");
}

#[test]
fn a_new_channel_hears_of_all_slots() {
    let mut call = SlotRoom::new(&[]);
    call.come_many(6);
    let known = std::mem::take(&mut call.client);
    let receiver = call.receiver;
    call.act(|conference, _, effects| conference.channel_opened(receiver, effects));
    assert_eq!(call.client, known);
}

/// However a client asks for videos: it gets as many SSRCs as there are slots, one message for each of its
/// own, and everybody else what they got.
#[test]
fn slots_asked_for_by_the_million_are_few() {
    let mut call = SlotRoom::new(&[]);
    call.room.ask(joins("plain", &BOTH));
    call.come_many(40);
    let others = call.room.gets("plain");
    let all: Vec<String> = (0..1_500).map(|n| format!("p{n}-v0")).collect();
    for round in 0..300usize {
        let told = call.told;
        call.select(&all[round * 7 % 40..]);
        call.channel_message(&format!(
            r#"{{"colibriClass":"LastNChangedEvent","lastN":{}}}"#,
            i32::MAX
        ));
        assert!(call.told <= told + 1, "{round}");
    }
    assert_eq!(call.room.gets("plain"), others);
    let receiver = call.room.conference.by_engine_id(call.receiver).unwrap();
    let held = receiver.slots.as_ref().unwrap().debug();
    assert_eq!(held["video"]["sent"], LIMITS.video);
    assert!(held["video"]["remappings"].as_u64().unwrap() > 300, "{held}");
    assert!(receiver.ceased.len() <= 80, "{}", receiver.ceased.len());
}

/// An event of a call.
#[derive(Clone, Debug)]
enum Step {
    Comes(u8),
    Leaves(u8),
    Speaks(u8, u8),
    Selects(Vec<u8>),
    LastN(i8),
    Shows(u8, bool),
    Declines(u8),
    Passes(u16),
    Reconnects,
}

fn steps() -> impl Strategy<Value = Step> {
    let who = || 0..12u8;
    prop_oneof![
        4 => who().prop_map(Step::Comes),
        2 => who().prop_map(Step::Leaves),
        4 => (who(), 0..128u8).prop_map(|(who, level)| Step::Speaks(who, level)),
        3 => prop::collection::vec(who(), 0..6).prop_map(Step::Selects),
        1 => (-1..7i8).prop_map(Step::LastN),
        2 => (who(), any::<bool>()).prop_map(|(who, shows)| Step::Shows(who, shows)),
        1 => who().prop_map(Step::Declines),
        2 => (0..3_000u16).prop_map(Step::Passes),
        1 => Just(Step::Reconnects),
    ]
}

impl SlotRoom {
    fn happen(&mut self, what: &Step) {
        let id = |who: &u8| format!("p{who}");
        let there = |call: &Self, who: &u8| call.room.conference.endpoint(&id(who)).is_some();
        match what {
            Step::Comes(who) if !there(self, who) => {
                self.come(&id(who), 100 + 10 * u32::from(*who));
            }
            Step::Leaves(who) if there(self, who) => self.leave(&id(who)),
            Step::Speaks(who, level) if there(self, who) => self.speak(&id(who), *level),
            Step::Selects(named) => {
                let named: Vec<_> = named.iter().map(|who| format!("p{who}-v0")).collect();
                self.select(&named);
            }
            Step::LastN(n) => {
                self.channel_message(&format!(r#"{{"colibriClass":"LastNChangedEvent","lastN":{n}}}"#));
            }
            Step::Shows(who, shows) if there(self, who) => {
                let (from, kind) = (id(who), if *shows { "camera" } else { "none" });
                let from = self.room.engine_id(&from);
                let text = format!(
                    r#"{{"colibriClass":"SourceVideoTypeMessage","sourceName":"p{who}-v0","videoType":"{kind}"}}"#
                );
                let message = ToBridge::parse(&text).unwrap();
                self.act(|conference, _, effects| {
                    conference.channel_message(from, message, effects).unwrap();
                });
            }
            Step::Declines(who) => self.channel_message(&format!(
                r#"{{"colibriClass":"ReceiverAudioSubscription","mode":"Exclude","list":["p{who}-a0"]}}"#
            )),
            Step::Passes(ms) => self.pass(Duration::from_millis((*ms).into())),
            Step::Reconnects => {
                let receiver = self.receiver;
                self.act(|conference, _, effects| conference.channel_opened(receiver, effects));
            }
            _ => {}
        }
        self.check_full();
    }

    /// No slot stays empty that something wants.
    fn check_full(&self) {
        let conference = &self.room.conference;
        let receiver = conference.by_engine_id(self.receiver).unwrap();
        let others = conference.endpoints().filter(|e| e.engine_id != self.receiver);
        let wanted = others.flat_map(|e| &e.sources).filter(|source| {
            source.shows() && receiver.wants(source.spec.media, &source.spec.name)
        });
        let (audio, video): (Vec<_>, Vec<_>) =
            wanted.partition(|source| source.spec.media == MediaType::Audio);
        let got = |sources: &[&EndpointSource]| {
            sources.iter().filter(|s| receiver.subscriptions.contains_key(&s.spec.id)).count()
        };
        assert_eq!(got(&audio), audio.len().min(LIMITS.audio));
        let most = receiver.last_n(conference.caps).unwrap();
        assert_eq!(got(&video), video.len().min(most));
        assert_eq!(got(&audio) + got(&video), receiver.subscriptions.len());
        // Videos are those that come first.
        let ranking = conference.ranking();
        let chosen = receiver.choose(&ranking, receiver.last_n(conference.caps));
        for source in receiver.subscriptions.keys() {
            assert!(chosen.contains(source), "{source:?}");
        }
    }
}

proptest! {
    /// Whatever happens in a call, a client with slots knows the owner of everything that it gets, no more
    /// SSRCs are ever used than there are slots, and no slot is left empty.
    #[test]
    fn slots_hold_whatever_happens(steps in prop::collection::vec(steps(), 1..120)) {
        let mut call = SlotRoom::new(&[capability::RTP_MID_DEMUX]);
        for step in &steps {
            call.happen(step);
        }
    }
}

#[test]
fn ssrcs_are_nobody_elses_and_the_same_in_each_run() {
    let slots = |own: u32| {
        let mut slots = crate::conference::slots::Slots::new(
            SsrcLimits { audio: 0, video: 500 },
            EndpointId(7),
            [1, 2],
            false,
        );
        let name: std::sync::Arc<str> = "n".into();
        let mut used = BTreeSet::new();
        for id in 0..500 {
            let source = crate::conference::slots::Entrant {
                id: SourceId(id),
                owner: EndpointId(1),
                owner_id: &name,
                name: &name,
            };
            let now = Instant::now();
            let place = slots.hold(MediaType::Video, source, now, &|ssrc| ssrc == own).unwrap();
            let ssrcs = slots.bank(MediaType::Video).slot(place.at).unwrap().ssrcs;
            assert!(used.insert(ssrcs.ssrc) && used.insert(ssrcs.rtx.unwrap()));
        }
        used
    };
    let first = slots(0);
    assert_eq!(first, slots(0));
    let own = *first.first().unwrap();
    assert!(!slots(own).contains(&own), "what the receiver sends under is left out");
}
