//! Transport-wide feedback of a receiver (draft-holmer-rmcat-transport-wide-cc-extensions-01):
//! which of the bridge's packets arrived, and when.

use std::collections::BTreeMap;

use rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, RecvDelta, StatusChunkTypeTcc, StatusVectorChunk, SymbolSizeTypeTcc,
    SymbolTypeTcc, TransportLayerCc,
};

use crate::{colibri, media::packet::Parsed, track::Unwrapper};

/// Most packets in one feedback packet.
const MAX_PACKETS: u64 = 1000;
/// Unit of arrival differences, nanoseconds.
const TICK: u64 = 250_000;
/// Unit of the reference time, nanoseconds.
const REFERENCE: u64 = 64_000_000;

/// Arrivals since the last feedback.
#[derive(Default)]
pub struct Arrivals {
    unwrapper: Unwrapper,
    came: BTreeMap<u64, u64>,
    /// The first number of the next feedback.
    next: Option<u64>,
    count: u8,
    ssrc: u32,
}

impl Arrivals {
    /// Records a packet, if it has a transport sequence number. `at`: nanoseconds of the run's
    /// clock.
    pub fn take(&mut self, header: &Parsed, packet: &[u8], at: u64) {
        let extension = header.extension(packet, colibri::TRANSPORT_CC);
        let Some(&[high, low]) = extension else { return };
        let number = self.unwrapper.unwrap(u16::from_be_bytes([high, low]));
        if self.next.is_none_or(|next| number >= next) {
            self.came.insert(number, at);
            self.ssrc = header.ssrc;
        }
    }

    /// Returns the feedback about what arrived since the last one.
    pub fn feedback(&mut self, sender_ssrc: u32) -> Option<TransportLayerCc> {
        let first = *self.came.first_key_value()?.0;
        let last = *self.came.last_key_value()?.0;
        let base = self.next.unwrap_or(first);
        let base = base.max((last + 1).saturating_sub(MAX_PACKETS));
        self.next = Some(last + 1);
        let came = std::mem::take(&mut self.came);
        let mut previous = came.range(base..).next()?.1 / REFERENCE * REFERENCE;
        let reference_time = (previous / REFERENCE) as u32 & 0x00ff_ffff;
        let mut symbols = Vec::new();
        let mut recv_deltas = Vec::new();
        for number in base..=last {
            let Some(&at) = came.get(&number) else {
                symbols.push(SymbolTypeTcc::PacketNotReceived);
                continue;
            };
            let ticks = ((at as i64 - previous as i64) / TICK as i64).clamp(-32_768, 32_767);
            previous = previous.wrapping_add_signed(ticks * TICK as i64);
            let symbol = if (0..=255).contains(&ticks) {
                SymbolTypeTcc::PacketReceivedSmallDelta
            } else {
                SymbolTypeTcc::PacketReceivedLargeDelta
            };
            symbols.push(symbol);
            recv_deltas.push(RecvDelta { type_tcc_packet: symbol, delta: ticks * 250 });
        }
        let fb_pkt_count = self.count;
        self.count = self.count.wrapping_add(1);
        Some(TransportLayerCc {
            sender_ssrc,
            media_ssrc: self.ssrc,
            base_sequence_number: base as u16,
            packet_status_count: symbols.len() as u16,
            reference_time,
            fb_pkt_count,
            packet_chunks: symbols.chunks(7).map(chunk).collect(),
            recv_deltas,
        })
    }
}

/// Seven symbols of two bits each.
fn chunk(symbols: &[SymbolTypeTcc]) -> PacketStatusChunk {
    let mut symbol_list = symbols.to_vec();
    symbol_list.resize(7, SymbolTypeTcc::PacketNotReceived);
    PacketStatusChunk::StatusVectorChunk(StatusVectorChunk {
        type_tcc: StatusChunkTypeTcc::StatusVectorChunk,
        symbol_size: SymbolSizeTypeTcc::TwoBit,
        symbol_list,
    })
}

#[cfg(test)]
mod tests {
    use webrtc_util::marshal::{Marshal, Unmarshal};

    use super::*;
    use crate::media::packet::Header;

    fn take(arrivals: &mut Arrivals, seq: u16, at: u64) {
        let header = Header { pt: 100, marker: false, seq: 0, timestamp: 0, ssrc: 9 };
        let mut packet = Vec::new();
        header.write(&[(colibri::TRANSPORT_CC, &seq.to_be_bytes())], &mut packet);
        arrivals.take(&Parsed::read(&packet).unwrap(), &packet, at);
    }

    #[test]
    fn gaps_and_times_are_told() {
        let mut arrivals = Arrivals::default();
        assert!(arrivals.feedback(1).is_none());
        let start = 10 * REFERENCE;
        take(&mut arrivals, 65_535, start + 4 * TICK);
        take(&mut arrivals, 2, start + 10 * TICK);
        take(&mut arrivals, 1, start + 600 * TICK);
        let wire = arrivals.feedback(1).unwrap().marshal().unwrap();
        let read = TransportLayerCc::unmarshal(&mut wire.clone()).unwrap();
        assert_eq!((read.base_sequence_number, read.packet_status_count), (65_535, 4));
        assert_eq!(read.reference_time, 10);
        let deltas: Vec<_> = read.recv_deltas.iter().map(|d| d.delta).collect();
        assert_eq!(deltas, [4 * 250, 596 * 250, -590 * 250]);

        take(&mut arrivals, 5, start + 700 * TICK);
        let next = arrivals.feedback(1).unwrap();
        assert_eq!((next.base_sequence_number, next.packet_status_count), (3, 3));
        assert_eq!(next.fb_pkt_count, 1);
    }
}
