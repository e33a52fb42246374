//! Writes one packet to one receiver into the send buffer, seals it there, and counts it.
#![expect(clippy::arithmetic_side_effects, reason = "counters of 64 bits")]

use rialto_media::{Drop, DropCounters, Mid, Tables};
use rialto_srtp::TxContext;

use super::{
    Receiver, Stream, allocation_state::AllocationState, budget::ResendBudget, link::Link,
};
use crate::{
    ShardTotals, Tap,
    core::{Endpoint, MAX_DATAGRAM, Outbox},
    dest::Dest,
    egress::wire::{Outgoing, write_plain, write_rtp},
    ingress::PacketMeta,
    slots::OutStreamSlot,
};

/// Destination and keys for packets to one receiver.
pub(super) struct Target<'a> {
    dest: &'a Dest,
    tx: &'a TxContext,
    tables: &'a Tables,
    /// The MID of the stream.
    mid: Option<Mid>,
    tap: Option<&'a Tap>,
    sent: &'a mut (u64, u64),
    pub(super) resend: &'a mut ResendBudget,
    pub(super) allocation: &'a mut AllocationState,
}

impl<'a> Target<'a> {
    #[inline]
    pub(super) fn new(
        e: &'a mut Endpoint,
        stream: OutStreamSlot,
    ) -> Option<(Self, &'a mut Stream, Option<&'a mut Link>)> {
        let Endpoint { receiver, media, tap, .. } = e;
        let Receiver { streams, link, tx, dest, sent, resend, allocation, .. } = receiver;
        let (tx, dest, tap) = (tx.as_ref()?, dest.as_ref()?, tap.as_ref());
        let (tables, stream) = (&*media.tables, streams.get_mut(stream)?);
        let mid = stream.terms.mid;
        let target = Self { dest, tx, tables, mid, tap, sent, resend, allocation };
        Some((target, stream, link.as_deref_mut()))
    }
}

/// Writes, seals and counts one packet. Returns its length, or `None` if it could not be sent.
#[inline]
pub(super) fn emit(
    out: &mut impl Outbox,
    drops: &mut DropCounters,
    totals: &mut ShardTotals,
    to: &mut Target<'_>,
    outgoing: &Outgoing,
    meta: &PacketMeta,
    packet: &[u8],
) -> Option<usize> {
    let mid = to.mid.as_ref();
    if let Some(tap) = to.tap {
        tap_sent(tap, to.tables, outgoing, meta, packet, mid);
    }
    let Some(buf) = out.reserve(to.dest, MAX_DATAGRAM) else {
        drops.count(Drop::SendQueueFull);
        return None;
    };
    let written = write_rtp(buf, outgoing, meta, packet, to.tables, mid, to.tx);
    out.commit(written.unwrap_or(0));
    let Some(len) = written else {
        drops.count(Drop::TooLarge);
        return None;
    };
    totals.rtp_sent += 1;
    totals.rtp_bytes_sent += len as u64;
    to.sent.0 += 1;
    to.sent.1 += len as u64;
    Some(len)
}

/// Copies a packet to the endpoint's tap as it is inside SRTP, since in the send buffer it is
/// sealed while it is written.
#[cold]
fn tap_sent(
    tap: &Tap,
    tables: &Tables,
    outgoing: &Outgoing,
    meta: &PacketMeta,
    packet: &[u8],
    mid: Option<&Mid>,
) {
    let mut plain = [0; MAX_DATAGRAM];
    let written = write_plain(&mut plain, outgoing, meta, packet, tables, mid);
    if let Some((_, len)) = written {
        tap.copy(true, plain.get(..len).unwrap_or_default());
    }
}
