//! Packets and bytes of conferences by size, for `/debug/stats/jvb/conference-packet-stats`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::conference::Tally;

/// Conferences of more endpoints count in the last entry, as in JVB.
const MAX_SIZE: usize = 500;

/// Packets and bytes by the number of endpoints of their conference.
#[derive(Clone, Debug)]
pub(super) struct PacketsBySize {
    packets: Vec<u64>,
    bytes: Vec<u64>,
}

impl Default for PacketsBySize {
    fn default() -> Self {
        Self { packets: vec![0; MAX_SIZE + 1], bytes: vec![0; MAX_SIZE + 1] }
    }
}

impl PacketsBySize {
    /// Adds what a conference carried, both ways, over a duration.
    pub(super) fn add(&mut self, tally: &Tally, time: Duration) {
        let during = |rate: u64| (rate as f64 * time.as_secs_f64()) as u64;
        let at = tally.endpoints.min(MAX_SIZE);
        if let (Some(packets), Some(bytes)) = (self.packets.get_mut(at), self.bytes.get_mut(at)) {
            let pps = tally.receive_pps.saturating_add(tally.send_pps);
            let bps = tally.receive_bps.saturating_add(tally.send_bps);
            *packets = packets.saturating_add(during(pps));
            *bytes = bytes.saturating_add(during(bps / 8));
        }
    }

    /// In JVB's form.
    pub(super) fn json(&self) -> Value {
        let sum = |all: &[u64]| all.iter().fold(0_u64, |sum, n| sum.saturating_add(*n));
        json!({
            "packets": self.packets,
            "bytes": self.bytes,
            "total_packets": sum(&self.packets),
            "total_bytes": sum(&self.bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conference_counts_where_its_size_is() {
        let mut packets = PacketsBySize::default();
        for endpoints in [2, 2, 10_000] {
            let tally = Tally {
                endpoints,
                receive_pps: 30,
                send_pps: 20,
                receive_bps: 8_000,
                ..Tally::default()
            };
            packets.add(&tally, Duration::from_secs(2));
        }
        let json = packets.json();
        assert_eq!((&json["packets"][2], &json["bytes"][2]), (&json!(200), &json!(4_000)));
        assert_eq!((&json["packets"][500], &json["total_packets"]), (&json!(100), &json!(300)));
    }
}
