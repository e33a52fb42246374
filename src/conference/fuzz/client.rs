//! A model of a client whose SSRCs are rewritten: it follows the messages about its slots.

use std::collections::BTreeMap;

use rialto_media::MediaType;
use serde_json::Value;

use crate::conference::{Conference, Endpoint};

/// The source in each slot as announced, by SSRC: a client never forgets one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::conference) struct ClientSlots(BTreeMap<u64, KnownSlot>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct KnownSlot {
    video: bool,
    source: String,
    owner: String,
    rtx: Option<u64>,
    mid: Option<String>,
}

impl ClientSlots {
    /// Handles a message about slots. Returns whether it is one.
    pub(in crate::conference) fn receive(&mut self, text: &str) -> bool {
        let message: Value = serde_json::from_str(text).expect("the bridge tells JSON");
        let video = match message["colibriClass"].as_str() {
            Some("VideoSourcesMap") => true,
            Some("AudioSourcesMap") => false,
            _ => return false,
        };
        let mapped = message["mappedSources"].as_array().expect("a list");
        assert!(!mapped.is_empty() && mapped.len() <= 50);
        for one in mapped {
            let text = |field: &str| one[field].as_str().map(str::to_owned);
            let told = KnownSlot {
                video,
                source: text("source").expect("a name"),
                owner: text("owner").expect("an endpoint"),
                rtx: one["rtx"].as_u64(),
                mid: text("mid"),
            };
            let before = self.0.insert(one["ssrc"].as_u64().expect("an SSRC"), told.clone());
            let slot = |told: &KnownSlot| (told.video, told.rtx, told.mid.clone());
            assert!(before.is_none_or(|before| slot(&before) == slot(&told)), "a slot stays one");
        }
        true
    }

    /// SSRCs of audio.
    pub(in crate::conference) fn audio(&self) -> usize {
        self.0.values().filter(|told| !told.video).count()
    }

    /// SSRCs of video, without those of retransmissions.
    pub(in crate::conference) fn video(&self) -> usize {
        self.0.values().filter(|told| told.video).count()
    }

    /// Panics unless the client knows the owner of everything that it gets.
    pub(in crate::conference) fn check(&self, conference: &Conference, receiver: &Endpoint) {
        let mut used = Vec::new();
        for (id, terms) in &receiver.subscriptions {
            let all = conference.endpoints().flat_map(|e| e.sources.iter().map(move |s| (e, s)));
            let (owner, source) = { all }.find(|(_, s)| s.spec.id == *id).expect("it is sent");
            let slot = terms.slot.expect("all is in slots");
            let told = self.0.get(&slot.ssrc.into()).expect("the client heard of the slot");
            let video = source.spec.media == MediaType::Video;
            assert_eq!((told.video, &*told.owner), (video, owner.id.as_str()));
            assert_eq!(told.source, *source.spec.name);
            assert_eq!(told.rtx, slot.rtx.map(u64::from));
            assert_eq!(told.rtx.is_some(), video);
            let stamped = terms.mid.map(|mid| String::from_utf8_lossy(mid.as_bytes()).into_owned());
            if receiver.mid_demux {
                assert!(stamped.is_some() && told.mid == stamped);
            }
            let same = |other: &&KnownSlot| {
                (other.video, &other.owner, &other.source) == (video, &told.owner, &told.source)
            };
            assert_eq!(self.0.values().filter(same).count(), 1, "nobody is seen twice");
            used.push(slot.ssrc);
            used.extend(slot.rtx);
        }
        let count = used.len();
        used.sort_unstable();
        used.dedup();
        assert_eq!(used.len(), count, "a slot for each");
    }
}
