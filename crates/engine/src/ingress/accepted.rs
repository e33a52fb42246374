//! Reads a decrypted packet once for all receivers: what it says about its frame and its encoding.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "counters of 64 bits; of milliseconds only differences count"
)]

use rialto_media::{Drop, PtInfo, SourceId};
use rialto_rtp::RtpHeader;

use super::{
    Red,
    inspect::{self, ExtensionInfo},
    meta::PacketMeta,
    parked::{Parked, Unparked},
    sender::{Context, Sender},
};
use crate::slots::{SourceSlot, StreamSlot};

/// A packet that is to be routed.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    /// The key of its source in [`Sender::sources`].
    pub source: SourceSlot,
    /// The source.
    pub id: SourceId,
    /// Its encoding.
    pub encoding: u8,
    /// Its parsed metadata.
    pub meta: PacketMeta,
    /// The encoding was not active before this packet, or had another height.
    pub changed: bool,
    /// There is a gap that only a keyframe can repair.
    pub broken: bool,
    /// Why it is not forwarded, if it is not.
    pub ends: Option<Drop>,
    /// The sender needs feedback soon: see [`Sender::is_urgent`].
    pub urgent: bool,
}

/// A decrypted packet and the state of its stream.
pub(super) struct Opened<'a> {
    pub(super) pt: &'a PtInfo,
    pub(super) packet: &'a [u8],
    pub(super) info: &'a ExtensionInfo<'a>,
    pub(super) wire_len: usize,
    /// Its SRTP index, and how many packets before it are newly missing.
    pub(super) arrived: (u64, u64),
    pub(super) broken: bool,
    pub(super) ends: Option<Drop>,
}

impl Sender {
    /// Reads the codec of a decrypted packet that was given its number.
    #[inline]
    pub(super) fn accept(
        &mut self,
        cx: &Context<'_>,
        at: StreamSlot,
        opened: &Opened<'_>,
        mut meta: PacketMeta,
    ) -> Result<Accepted, Drop> {
        let stream = self.streams.get_mut(at).ok_or(Drop::UnknownSsrc)?;
        let source = self.sources.get_mut(stream.source).ok_or(Drop::UnknownSsrc)?;
        let Opened { pt, packet, info, wire_len, arrived, broken, ends } = *opened;
        let wanted = source.is_wanted(stream.encoding);
        meta.audio.red = Red::read(pt, packet, &meta, cx.tables);
        let shown = inspect::read(pt, packet, info, &mut meta);
        stream.mark_passed(wanted, &mut meta);
        let (resolution, relayered_within) = stream.see(cx.now, &shown, wire_len, &mut meta);
        if stream.is_video {
            stream.follow_losses(arrived, &mut meta);
        }
        stream.last_packet = Some(cx.now);
        stream.frames.on_packet(cx.now, meta.timestamp, &mut source.frames);
        stream.meter.on_packet(wire_len, meta.timestamp, meta.keyframe, meta.marker);
        let bit = 1u8 << stream.encoding;
        let mut changed = source.active & bit == 0;
        // The first encoding of all starts the video, which is no change of layers.
        let mut relayered = changed && source.active != 0;
        if relayered_within {
            changed |= source.measure_layers(stream);
        }
        source.active |= bit;
        if let Some(before) = resolution.and_then(|r| source.resize(stream.encoding, r)) {
            changed = true;
            relayered |= before != 0;
        }
        self.layering_changes += u64::from(relayered);
        let incomplete = broken || meta.resumes && wanted;
        if incomplete && meta.keyframes_known && !meta.keyframe {
            let _ = stream.keyframes.want(cx.now);
        }
        let urgent =
            stream.is_urgent(cx.now, cx.rtt) || self.twcc.as_ref().is_some_and(|t| t.is_full());
        Ok(Accepted {
            source: stream.source,
            id: source.spec.id,
            encoding: stream.encoding,
            meta,
            changed,
            broken,
            ends,
            urgent,
        })
    }

    /// Returns packets that waited for a template structure and can go on, and their stream.
    #[inline]
    pub fn take_unparked(&mut self) -> Option<(StreamSlot, Box<Parked>)> {
        self.unparked.take()
    }

    /// Handles a packet of a stream that waited for a structure. `None`: it keeps waiting.
    ///
    /// # Errors
    /// The reason why it is dropped.
    pub fn on_unparked(
        &mut self,
        cx: &Context<'_>,
        at: StreamSlot,
        unparked: &Unparked<'_>,
    ) -> Result<Option<Accepted>, Drop> {
        let Unparked { mut meta, packet, wire_len, .. } = *unparked;
        let stream = self.streams.get_mut(at).ok_or(Drop::UnknownSsrc)?;
        let source = self.sources.get_mut(stream.source).ok_or(Drop::UnknownSsrc)?;
        let header = RtpHeader::parse(packet).map_err(|_| Drop::MalformedRtp)?;
        let pt = cx.tables.payload_type(meta.payload_type).ok_or(Drop::UnknownPayloadType)?;
        let extensions = inspect::Extensions { tables: cx.tables, header: &header, packet };
        let info = extensions.read(&mut stream.dependencies, &mut source.level, &mut meta);
        if info.early().is_some_and(|frame| frame.structured) && source.is_wanted(stream.encoding) {
            let stays = stream.park_again(cx.now, unparked);
            return if stays { Ok(None) } else { Err(Drop::StructureMissing) };
        }
        let index = meta.index;
        // Waiting for a receiver is counted from now on.
        meta.arrival_ms = cx.since_epoch.as_millis() as u32;
        if !stream.number(&mut meta, None, cx.silence) {
            return Err(Drop::Replayed);
        }
        let arrived = (index, 0);
        let opened =
            Opened { pt, packet, info: &info, wire_len, arrived, broken: false, ends: None };
        self.accept(cx, at, &opened, meta).map(Some)
    }
}
