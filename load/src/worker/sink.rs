//! A client that only counts what it receives: it decrypts nothing, reports nothing and requests
//! nothing, so that one core of clients is enough for more than one core of a bridge. It measures
//! loss by the sequence numbers, which are not encrypted.

use std::time::Instant;

use rustc_hash::FxHashMap;

use super::{Context, client::SourceReport, receive::ReceptionTotals};
use crate::{plan::Media, shared::Shared, track::Unwrapper};

/// Counts of one source.
struct Counted {
    source: usize,
    media: Media,
    unwrapper: Unwrapper,
    /// The first and the highest sequence number, unwrapped.
    span: Option<(u64, u64)>,
    totals: ReceptionTotals,
}

/// Counts of each source, by the SSRC that it is forwarded under.
pub struct Sink {
    counted: FxHashMap<u32, Counted>,
    /// Packets under other SSRCs.
    pub unknown: u64,
}

impl Sink {
    /// Creates a sink for everything that an endpoint of the plan receives.
    pub fn new(endpoint: usize, shared: &Shared) -> Self {
        let plan = &shared.plan;
        let counted = plan.received_by(endpoint).filter_map(|source| {
            let planned = plan.sources.get(source)?;
            // A bridge forwards all encodings under the SSRC of the first.
            let ssrc = plan.streams.get(planned.streams.start)?.ssrc;
            let counted = Counted {
                source,
                media: planned.media,
                unwrapper: Unwrapper::default(),
                span: None,
                totals: ReceptionTotals::default(),
            };
            Some((ssrc, counted))
        });
        Self { counted: counted.collect(), unknown: 0 }
    }

    /// Counts an encrypted packet.
    pub fn rtp(&mut self, packet: &[u8], at: Instant, context: &mut Context) {
        let Some((seq, ssrc)) = numbers(packet) else { return self.unknown += 1 };
        let Some(counted) = self.counted.get_mut(&ssrc) else { return self.unknown += 1 };
        let number = counted.unwrapper.unwrap(seq);
        let (first, highest) = counted.span.unwrap_or((number, number));
        counted.span = Some((first.min(number), highest.max(number)));
        counted.totals.packets += 1;
        counted.totals.bytes += packet.len() as u64;
        counted.totals.first.get_or_insert_with(|| context.shared.nanos(at));
        context.counts.received += 1;
        context.counts.received_bytes += packet.len() as u64;
    }

    /// The counts of each source so far.
    pub fn report(&self) -> impl Iterator<Item = SourceReport> + '_ {
        self.counted.values().map(|counted| {
            let packets = counted.totals.packets;
            let expected = counted.span.map_or(0, |(first, highest)| highest - first + 1);
            SourceReport {
                source: counted.source,
                media: counted.media,
                totals: counted.totals,
                unique: packets.min(expected),
                expected,
                gaps: expected.saturating_sub(packets),
                duplicates: packets.saturating_sub(expected),
                encodings: Vec::new(),
                screen: None,
            }
        })
    }
}

/// Sequence number and SSRC of an RTP packet (RFC 3550 section 5.1).
fn numbers(packet: &[u8]) -> Option<(u16, u32)> {
    let seq = packet.get(2..)?.first_chunk()?;
    let ssrc = packet.get(8..)?.first_chunk()?;
    Some((u16::from_be_bytes(*seq), u32::from_be_bytes(*ssrc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_number_and_ssrc_stand_in_the_header() {
        let packet = [0x80, 96, 0x12, 0x34, 0, 0, 0, 0, 0xa, 0xb, 0xc, 0xd];
        assert_eq!(numbers(&packet), Some((0x1234, 0x0a0b_0c0d)));
        assert_eq!(numbers(&packet[..11]), None);
    }
}
