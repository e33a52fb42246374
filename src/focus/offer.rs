//! The offers to one browser: three sections for the media it sends (microphone, camera, screen), one for
//! its data channel if there is SCTP, then a section for each source of the other participants. The section
//! of a source that ended stays, inactive, and is reused for a later source of its kind, so that an offer
//! never grows beyond the most sources that were offered at one time.

use super::{
    formats,
    sdp::{Description, Direction, Kind, Rid, Section, Ssrc, SsrcGroup, Transport},
};

/// MID of the section in which the browser sends its microphone.
pub(super) const MICROPHONE: &str = "0";
/// MID of the section in which the browser sends its camera.
pub(super) const CAMERA: &str = "1";
/// MID of the section in which the browser sends its screen.
pub(super) const SCREEN: &str = "2";
/// MID of the section of the data channel.
pub(super) const DATA: &str = "data";

/// Simulcast streams asked of the camera, lowest first (RFC 8853 has no order; browsers scale down
/// by 4, 2 and 1 in this one).
const RIDS: [&str; 3] = ["l", "m", "h"];

/// A source of another participant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RemoteSource {
    /// The participant who sends it.
    pub endpoint: String,
    /// Its name, such as `abcd1234-v0`.
    pub name: String,
    /// Audio or video.
    pub kind: Kind,
    /// What it shows: `camera`, `desktop`, or nothing for audio.
    pub desktop: bool,
    /// The SSRC that receivers see.
    pub ssrc: u32,
    /// The SSRC of its retransmissions.
    pub rtx: Option<u32>,
}

/// A section for a remote source.
#[derive(Clone, Debug)]
struct Slot {
    mid: String,
    kind: Kind,
    source: Option<RemoteSource>,
}

/// The offers to one browser.
#[derive(Debug)]
pub(super) struct Offers {
    session: u64,
    version: u64,
    transport: Transport,
    data: bool,
    slots: Vec<Slot>,
}

impl Offers {
    /// Creates offers with the bridge's side of the transport. `session` identifies them (RFC 8866 section
    /// 5.2); any number below 2^63 is valid.
    pub(super) fn new(session: u64, transport: Transport) -> Self {
        Self { session, version: 0, transport, data: false, slots: Vec::new() }
    }

    /// Adds a data channel, from the first offer on.
    pub(super) fn offer_data(&mut self) {
        self.data = true;
    }

    /// Replaces the bridge's side of the transport (ICE restart).
    pub(super) fn set_transport(&mut self, transport: Transport) {
        self.transport = transport;
    }

    /// Sets the sources to offer. Returns true when a new offer is due.
    pub(super) fn set_sources(&mut self, wanted: &[RemoteSource]) -> bool {
        let mut changed = false;
        for slot in &mut self.slots {
            if slot.source.as_ref().is_some_and(|source| !wanted.contains(source)) {
                slot.source = None;
                changed = true;
            }
        }
        for source in wanted {
            if self.slots.iter().any(|slot| slot.source.as_ref() == Some(source)) {
                continue;
            }
            changed = true;
            let free = self
                .slots
                .iter_mut()
                .find(|slot| slot.source.is_none() && slot.kind == source.kind);
            if let Some(slot) = free {
                slot.source = Some(source.clone());
            } else {
                let mid = (self.slots.len() + 3).to_string();
                self.slots.push(Slot { mid, kind: source.kind, source: Some(source.clone()) });
            }
        }
        changed
    }

    /// Returns the source of each MID, in the order of the sections.
    pub(super) fn mids(&self) -> impl Iterator<Item = (&str, &RemoteSource)> {
        self.slots.iter().filter_map(|slot| Some((slot.mid.as_str(), slot.source.as_ref()?)))
    }

    /// Returns the next offer. Its version is one more than the last one's.
    pub(super) fn next(&mut self) -> Description {
        self.version += 1;
        let mut sections = vec![
            Section::new(Kind::Audio, MICROPHONE, Direction::RecvOnly),
            Section::new(Kind::Video, CAMERA, Direction::RecvOnly),
            Section::new(Kind::Video, SCREEN, Direction::RecvOnly),
        ];
        if let Some(camera) = sections.get_mut(1) {
            camera.rids = RIDS.iter().map(|id| Rid { id: (*id).to_owned(), send: false }).collect();
        }
        if self.data {
            sections.push(Section::new(Kind::Application, DATA, Direction::SendRecv));
        }
        sections.extend(self.slots.iter().map(Slot::section));
        for section in &mut sections {
            section.codecs = formats::codecs(section.kind);
            section.extensions = formats::extensions(section.kind);
            section.transport = self.transport.clone();
            // All sections share one transport: the candidates are in the first section of the BUNDLE
            // group.
            if section.mid != MICROPHONE {
                section.transport.candidates.clear();
            }
        }
        Description {
            session: self.session,
            version: self.version,
            extmap_allow_mixed: true,
            bundle: sections.iter().map(|section| section.mid.clone()).collect(),
            transport: Transport::default(),
            sections,
        }
    }

    /// Returns the version of the last offer.
    pub(super) fn version(&self) -> u64 {
        self.version
    }
}

impl Slot {
    fn section(&self) -> Section {
        let Some(source) = &self.source else {
            return Section::new(self.kind, self.mid.as_str(), Direction::Inactive);
        };
        let mut section = Section::new(self.kind, self.mid.as_str(), Direction::SendOnly);
        // A camera and a microphone of one stream are played in sync, a screen alone.
        let suffix = if source.desktop { "-desktop" } else { "" };
        let stream = format!("{}{suffix}", source.endpoint);
        let msid = (stream, source.name.clone());
        let ssrc = |id| Ssrc { id, cname: source.endpoint.clone(), msid: Some(msid.clone()) };
        section.ssrcs.push(ssrc(source.ssrc));
        if let Some(rtx) = source.rtx {
            section.ssrcs.push(ssrc(rtx));
            section
                .groups
                .push(SsrcGroup { semantics: "FID".to_owned(), ssrcs: vec![source.ssrc, rtx] });
        }
        section.msid = Some(msid);
        section
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(endpoint: &str, kind: Kind, ssrc: u32) -> RemoteSource {
        RemoteSource {
            endpoint: endpoint.to_owned(),
            name: format!("{endpoint}-{ssrc}"),
            kind,
            desktop: false,
            ssrc,
            rtx: (kind == Kind::Video).then_some(ssrc + 1000),
        }
    }

    fn offers() -> Offers {
        Offers::new(7, Transport { ufrag: "u".to_owned(), ..Transport::default() })
    }

    #[test]
    fn the_first_offer_asks_for_microphone_camera_and_screen() {
        let offer = offers().next();
        assert_eq!(offer.bundle, ["0", "1", "2"]);
        assert!(offer.sections.iter().all(|s| s.direction == Direction::RecvOnly));
        assert!(offer.sections.iter().all(|s| s.transport.ufrag == "u"));
        assert_eq!(Description::parse(&offer.to_string()), Ok(offer));
    }

    #[test]
    fn a_data_channel_is_offered_before_what_others_send() {
        let mut offers = offers();
        offers.offer_data();
        offers.set_sources(&[source("a", Kind::Video, 1)]);
        let offer = offers.next();
        assert_eq!(offer.bundle, ["0", "1", "2", "data", "3"]);
        assert!(offer.to_string().contains("a=sctp-port:5000\r\na=max-message-size:65536\r\n"));
        assert_eq!(Description::parse(&offer.to_string()), Ok(offer));
    }

    #[test]
    fn a_section_is_kept_and_used_again() {
        let mut offers = offers();
        let (a, b) = (source("a", Kind::Video, 1), source("b", Kind::Video, 2));
        assert!(offers.set_sources(&[a.clone(), b.clone()]));
        assert!(!offers.set_sources(&[b.clone(), a.clone()]), "the order means nothing");
        assert!(offers.set_sources(std::slice::from_ref(&b)));
        let offer = offers.next();
        assert_eq!(offer.sections[3].direction, Direction::Inactive);
        assert_eq!(offer.sections[4].ssrcs[0].id, 2);
        let c = source("c", Kind::Audio, 3);
        let d = source("d", Kind::Video, 4);
        assert!(offers.set_sources(&[b, c, d]));
        let offer = offers.next();
        assert_eq!(offer.version, 2);
        assert_eq!(offer.sections.len(), 6, "d is where a was, c has a section of its own");
        let mids: Vec<_> = offers.mids().map(|(mid, s)| (mid, s.endpoint.as_str())).collect();
        assert_eq!(mids, [("3", "d"), ("4", "b"), ("5", "c")]);
    }

    #[test]
    fn a_source_with_new_ssrcs_is_another_source() {
        let mut offers = offers();
        assert!(offers.set_sources(&[source("a", Kind::Video, 1)]));
        assert!(offers.set_sources(&[source("a", Kind::Video, 9)]));
        assert_eq!(offers.next().sections[3].ssrcs[0].id, 9);
        assert!(offers.set_sources(&[]));
        assert_eq!(offers.mids().count(), 0);
    }
}
