//! Reads audio packets, and decides which of them are decrypted and forwarded.

use std::time::{Duration, Instant};

use rialto_media::{Codec, Drop, Extension, MediaType, PtInfo, SourceId, Tables};
use rialto_rtp::{
    RtpHeader,
    codec::red,
    ext::{self, SILENCE},
};

use super::{PacketMeta, Speakers, twcc::TwccRecorder};
use crate::Loudest;

/// Of a speaker that is not forwarded, one packet in this interval is decrypted: speaker selection
/// uses only authenticated packets.
const LISTEN_INTERVAL: Duration = Duration::from_millis(100);

/// Metadata of audio packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AudioMeta {
    /// Its redundancy.
    pub red: Red,
    /// The sender marked it as voice (RFC 6464).
    pub voice: bool,
    /// Loudness of its source if only the loudest are forwarded: 0 is silence, 127 is loudest.
    pub energy: u8,
    /// It is not among the loudest: it is only for receivers that asked for its source by name.
    pub included_only: bool,
}

/// Decides whose audio is decrypted and forwarded.
#[derive(Debug)]
pub struct Gate<'a> {
    /// Settings of loudest-speaker selection.
    pub rules: Loudest,
    /// The speakers of the conference, if only the loudest are forwarded.
    pub speakers: Option<&'a mut Speakers>,
}

/// An audio packet that is still encrypted, and the state of its stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unopened<'a> {
    pub(super) now: Instant,
    pub(super) tables: &'a Tables,
    pub(super) header: &'a RtpHeader,
    pub(super) packet: &'a [u8],
    pub(super) source: SourceId,
    /// Whether anybody receives it.
    pub(super) wanted: bool,
    /// Whether anybody asked for it by name.
    pub(super) included: bool,
    /// Whether it is from the dominant speaker.
    pub(super) dominant: bool,
    /// Whether enough of its silence was forwarded.
    pub(super) silent: bool,
    /// When a packet of it was last decrypted.
    pub(super) heard: Option<Instant>,
}

/// What to do with an audio packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Decrypt and forward it.
    Forward,
    /// Decrypt it, and forward it to receivers that asked for its source by name.
    ForwardToIncluding,
    /// Decrypt it for its audio level, then drop it.
    Listen(Drop),
    /// Drop it undecrypted.
    Drop(Drop),
}

impl Gate<'_> {
    /// Judges a packet by its header. Nothing of it is stored: it may be forged, and the worst
    /// outcome must be that it is dropped.
    #[inline]
    pub(super) fn judge(&self, packet: &Unopened<'_>) -> Verdict {
        let level = packet.level();
        if packet.silent && level == Some(SILENCE) {
            return Verdict::Drop(Drop::Silence);
        }
        let due = packet.heard.is_none_or(|at| {
            packet.now.saturating_duration_since(at) >= LISTEN_INTERVAL && level != Some(SILENCE)
        });
        let unheard = |reason| if due { Verdict::Listen(reason) } else { Verdict::Drop(reason) };
        if !packet.wanted {
            return unheard(Drop::Unwanted);
        }
        let Some(speakers) = self.speakers.as_deref() else { return Verdict::Forward };
        let ranked = level
            .is_none_or(|level| speakers.admits(&self.rules, packet.source, level, packet.now));
        if ranked || packet.dominant && self.rules.dominant {
            Verdict::Forward
        } else if packet.included {
            Verdict::ForwardToIncluding
        } else if level != Some(SILENCE)
            && speakers.contains(&self.rules, packet.source, packet.now)
        {
            // It keeps its place among the loudest until it is known to have become quieter.
            Verdict::Listen(Drop::NotLoudest)
        } else {
            unheard(Drop::NotLoudest)
        }
    }

    /// Records a decrypted packet that is not among the loudest.
    pub(super) fn record_dropped(&mut self, now: Instant, source: SourceId, level: Option<u8>) {
        let Self { rules, speakers } = self;
        if let Some((speakers, level)) = speakers.as_deref_mut().zip(level) {
            speakers.record_dropped(rules, source, level, now);
        }
    }

    /// Records a decrypted packet that is forwarded to all.
    #[inline]
    pub(super) fn record(&mut self, now: Instant, source: SourceId, level: Option<u8>) -> u8 {
        let Self { rules, speakers } = self;
        let heard = speakers.as_deref_mut().zip(level);
        heard.map_or(0, |(speakers, level)| speakers.record(rules, source, level, now))
    }
}

impl Unopened<'_> {
    /// Records its arrival under the transport sequence number that its header claims.
    pub(super) fn record_arrival(&self, recorder: Option<&mut TwccRecorder>) {
        let id = self.tables.extension_id(Extension::TransportCc);
        let element = self.header.extensions(self.packet).find(|e| Some(e.id) == id);
        let number = element.and_then(|e| ext::transport_seq(e.data));
        if let (Some(recorder), Some(number)) = (recorder, number) {
            recorder.on_unopened(self.now, number);
        }
    }

    /// The audio level that the header claims (RFC 6464). A sender that negotiated the extension
    /// and omits it counts as silent.
    fn level(&self) -> Option<u8> {
        let id = self.tables.extension_id(Extension::AudioLevel)?;
        let element = self.header.extensions(self.packet).find(|e| e.id == id);
        let level = element.and_then(|e| ext::audio_level(e.data));
        Some(level.map_or(SILENCE - 1, |l| l.level))
    }
}

/// Whether a packet is redundant audio (RFC 2198), and where its primary block is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Red {
    /// It is not redundant audio.
    #[default]
    No,
    /// It is, but cannot be read: truncated, or encrypted from end to end together with its
    /// headers.
    Malformed,
    /// The primary block, which is the last one.
    Primary {
        /// Offset of its first byte from the payload's start.
        start: u16,
        /// Its payload type, as the sender numbers it.
        payload_type: u8,
    },
}

impl Red {
    /// Reads the payload of a decrypted packet. Blocks must be of audio that the sender negotiated,
    /// and must not be redundant audio themselves.
    #[inline]
    pub(super) fn read(pt: &PtInfo, packet: &[u8], meta: &PacketMeta, tables: &Tables) -> Self {
        if pt.codec != Codec::Red || pt.media != MediaType::Audio {
            return Self::No;
        }
        let known = |pt| {
            tables
                .payload_type(pt)
                .is_some_and(|pt| pt.media == MediaType::Audio && pt.codec != Codec::Red)
        };
        let from = usize::from(meta.payload_start);
        let to = from.saturating_add(meta.payload_len.into());
        let found = packet.get(from..to).and_then(|payload| red::primary(payload, known));
        let place = found.and_then(|p| Some((u16::try_from(p.start).ok()?, p.payload_type)));
        place.map_or(Self::Malformed, |(start, payload_type)| Self::Primary { start, payload_type })
    }
}
