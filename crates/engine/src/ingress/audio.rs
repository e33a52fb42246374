//! What is read of a packet of audio.

use std::time::{Duration, Instant};

use rialto_media::{Codec, Drop, Extension, MediaType, PtInfo, SourceId, Tables};
use rialto_rtp::{
    RtpHeader,
    codec::red,
    ext::{self, SILENCE},
};

use super::{PacketMeta, Voices, twcc::TwccRecorder};
use crate::Loudest;

/// Of a voice that nobody hears one packet is opened in so long: who speaks is decided by what was
/// authenticated.
const LISTEN_INTERVAL: Duration = Duration::from_millis(100);

/// What is particular to audio in a packet's description.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AudioMeta {
    /// The redundant audio that it is.
    pub red: Red,
    /// Its sender hears a voice in it (RFC 6464).
    pub voice: bool,
    /// How loud its source is, where only the loudest are forwarded: 0 is silence, 127 is loudest.
    pub energy: u8,
    /// It is not among the loudest: it is for those who asked for its source by name.
    pub included_only: bool,
}

/// What decides whose audio is opened and forwarded.
#[derive(Debug)]
pub struct Gate<'a> {
    /// How many voices are.
    pub rules: Loudest,
    /// Those of the conference, where not all are.
    pub voices: Option<&'a mut Voices>,
}

/// A packet of audio that was not opened yet, and what is known of its stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unopened<'a> {
    pub(super) now: Instant,
    pub(super) tables: &'a Tables,
    pub(super) header: &'a RtpHeader,
    pub(super) packet: &'a [u8],
    pub(super) source: SourceId,
    /// Somebody receives it.
    pub(super) wanted: bool,
    /// Somebody asked for it by name.
    pub(super) included: bool,
    /// It is the dominant speaker's.
    pub(super) dominant: bool,
    /// Enough silence of it was forwarded.
    pub(super) silent: bool,
    /// When a packet of it was last opened.
    pub(super) heard: Option<Instant>,
}

/// What is to become of a packet of audio.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It is opened and forwarded.
    Forward,
    /// It is opened, and forwarded to those who asked for its source by name.
    ForwardToIncluding,
    /// It is opened for what it tells, and ends here.
    Listen(Drop),
    /// It ends here unopened.
    Drop(Drop),
}

impl Gate<'_> {
    /// Judges a packet by what its header says. Nothing is remembered of it: it may be forged, and to
    /// drop it is all that may follow from that.
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
        let Some(voices) = self.voices.as_deref() else { return Verdict::Forward };
        let ranked =
            level.is_none_or(|level| voices.admits(&self.rules, packet.source, level, packet.now));
        if ranked || packet.dominant && self.rules.dominant {
            Verdict::Forward
        } else if packet.included {
            Verdict::ForwardToIncluding
        } else if level != Some(SILENCE) && voices.knows(&self.rules, packet.source, packet.now) {
            // It holds a place until it is known that it has grown quieter.
            Verdict::Listen(Drop::NotLoudest)
        } else {
            unheard(Drop::NotLoudest)
        }
    }

    /// A packet was opened that is not among the loudest.
    pub(super) fn overhear(&mut self, now: Instant, source: SourceId, level: Option<u8>) {
        let Self { rules, voices } = self;
        if let Some((voices, level)) = voices.as_deref_mut().zip(level) {
            voices.overhear(rules, source, level, now);
        }
    }

    /// A packet was opened that is forwarded to all.
    #[inline]
    pub(super) fn hear(&mut self, now: Instant, source: SourceId, level: Option<u8>) -> u8 {
        let Self { rules, voices } = self;
        let heard = voices.as_deref_mut().zip(level);
        heard.map_or(0, |(voices, level)| voices.hear(rules, source, level, now))
    }
}

impl Unopened<'_> {
    /// Records that it came, under the transport-wide number that its header claims.
    pub(super) fn record_arrival(&self, recorder: Option<&mut TwccRecorder>) {
        let id = self.tables.extension_id(Extension::TransportCc);
        let told = self.header.extensions(self.packet).find(|e| Some(e.id) == id);
        let number = told.and_then(|e| ext::transport_seq(e.data));
        if let (Some(recorder), Some(number)) = (recorder, number) {
            recorder.on_unopened(self.now, number);
        }
    }

    /// The level that the header claims (RFC 6464). Who negotiated to tell it and does not is as quiet as
    /// can be.
    fn level(&self) -> Option<u8> {
        let id = self.tables.extension_id(Extension::AudioLevel)?;
        let told = self.header.extensions(self.packet).find(|e| e.id == id);
        let level = told.and_then(|e| ext::audio_level(e.data));
        Some(level.map_or(SILENCE - 1, |l| l.level))
    }
}

/// Whether a packet is redundant audio (RFC 2198), and where its primary block is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Red {
    /// It is none.
    #[default]
    No,
    /// It is, and cannot be read: cut, or encrypted from end to end together with its headers.
    Malformed,
    /// The block of its own time is the last one.
    Primary {
        /// Offset of its first byte from the payload's start.
        start: u16,
        /// Its payload type, as the sender numbers it.
        payload_type: u8,
    },
}

impl Red {
    /// Reads the payload of an opened packet. Blocks are of audio that the sender negotiated, and hold no
    /// redundant audio themselves.
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
