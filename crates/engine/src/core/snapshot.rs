//! Snapshots of a shard's counters. All endpoints are measured once a second, in pieces, so that
//! packets do not wait until everything has been copied.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counters of 64 bits, and rates that a float holds"
)]

use super::{Core, Endpoint};
use crate::{
    EndpointSnapshot, ShardSnapshot, SourceSnapshot, SubscriptionSnapshot, slots::EndpointSlot,
};

/// Subscriptions that are copied at a time: about a millisecond's work. With more than twenty times
/// as many, a snapshot takes longer than a second.
const SUBSCRIPTIONS_AT_A_TIME: usize = 4_096;

/// A snapshot in progress.
#[derive(Debug)]
pub(super) struct SnapshotInProgress {
    left: std::vec::IntoIter<EndpointSlot>,
    measured: Vec<EndpointSnapshot>,
}

impl Core {
    /// Begins a snapshot of all endpoints.
    pub(super) fn begin_snapshot(&mut self) {
        let all: Vec<_> = self.endpoints.keys().collect();
        let measured = Vec::with_capacity(all.len());
        self.survey = Some(SnapshotInProgress { left: all.into_iter(), measured });
    }

    /// Measures some endpoints. Returns the snapshot once all were measured.
    pub(super) fn continue_snapshot(&mut self) -> Option<ShardSnapshot> {
        let mut survey = self.survey.take()?;
        let mut done = 0;
        while !survey.left.as_slice().is_empty() {
            if done >= SUBSCRIPTIONS_AT_A_TIME {
                self.survey = Some(survey);
                return None;
            }
            let Some(slot) = survey.left.next() else { break };
            let Some(e) = self.endpoints.get_mut(slot) else { continue };
            let interval = self.now.saturating_duration_since(e.measured_at);
            e.measured_at = self.now;
            let arrived =
                e.sender.streams.values().filter(|s| s.is_video && s.stats.interval_bytes > 0);
            self.totals.video_ms += arrived.count() as u64 * interval.as_millis() as u64;
            self.totals.layering_changes += std::mem::take(&mut e.sender.layering_changes);
            let seconds = interval.as_secs_f64().max(0.001);
            let subscriptions = subscriptions(e, seconds);
            done += 1 + subscriptions.len();
            survey.measured.push(endpoint(e, subscriptions, seconds));
        }
        Some(self.snapshot(survey.measured))
    }

    /// Measures the shard itself, and begins the next interval.
    fn snapshot(&mut self, endpoints: Vec<EndpointSnapshot>) -> ShardSnapshot {
        let interval = self.now.saturating_duration_since(self.last_snapshot);
        self.last_snapshot = self.now;
        let seconds = interval.as_secs_f64().max(0.001);
        let asleep_us = self.totals.asleep_us.saturating_sub(self.last_asleep_us);
        self.last_asleep_us = self.totals.asleep_us;
        let asleep = asleep_us as f64 / 1e6 / seconds;
        ShardSnapshot {
            shard: self.config.shard.0,
            totals: self.totals,
            drops: self.drops.all().collect(),
            delays: self.delays,
            pacing: self.pacing,
            waiting: std::mem::take(&mut self.waiting),
            busy: (1.0 - asleep).clamp(0.0, 1.0) as f32,
            endpoints,
        }
    }
}

fn rate(now: u64, before: u64, seconds: f64) -> u64 {
    (now.saturating_sub(before) as f64 / seconds).round() as u64
}

fn endpoint(
    e: &mut Endpoint,
    subscriptions: Vec<(SubscriptionSnapshot, u8)>,
    seconds: f64,
) -> EndpointSnapshot {
    let (mut expected, mut received) = (0, 0);
    let mut sources: Vec<_> = e
        .sender
        .sources
        .values()
        .map(|s| SourceSnapshot {
            source: s.spec.id,
            encoding_bps: vec![0; s.spec.encodings.len()],
            encoding_height: vec![None; s.spec.encodings.len()],
        })
        .collect();
    for stream in e.sender.streams.values_mut() {
        let (due, came) = stream.stats.take_interval();
        expected += due;
        received += came;
        let bytes = std::mem::take(&mut stream.stats.interval_bytes);
        let id = e.sender.sources.get(stream.source).map(|s| s.spec.id);
        let Some(source) = sources.iter_mut().find(|s| Some(s.source) == id) else { continue };
        let at = usize::from(stream.encoding);
        if let Some(bps) = source.encoding_bps.get_mut(at) {
            *bps = rate(bytes * 8, 0, seconds);
        }
        if let Some(height) = source.encoding_height.get_mut(at) {
            *height = stream.height;
        }
    }
    let (rx, rx_before) = (e.sender.received, e.sender.received_before);
    let (tx, tx_before) = (e.receiver.sent, e.receiver.sent_before);
    e.sender.received_before = rx;
    e.receiver.sent_before = tx;
    let lost: u64 = subscriptions.iter().map(|(_, lost)| u64::from(*lost)).sum();
    let reported = subscriptions.len().max(1) as f32;
    EndpointSnapshot {
        endpoint: e.id,
        last_received: e.last_received,
        receive_bps: rate(rx.1 * 8, rx_before.1 * 8, seconds),
        send_bps: rate(tx.1 * 8, tx_before.1 * 8, seconds),
        receive_pps: rate(rx.0, rx_before.0, seconds),
        send_pps: rate(tx.0, tx_before.0, seconds),
        receive_loss: if expected == 0 {
            0.0
        } else {
            expected.saturating_sub(received) as f32 / expected as f32
        },
        send_loss: lost as f32 / 256.0 / reported,
        rtt: e.receiver.rtt,
        received: rx,
        sent: tx,
        sources,
        subscriptions: subscriptions.into_iter().map(|(s, _)| s).collect(),
    }
}

/// Measures an endpoint's subscriptions, each with the fraction that it reported lost (of 256).
fn subscriptions(e: &mut Endpoint, seconds: f64) -> Vec<(SubscriptionSnapshot, u8)> {
    let mut all = Vec::with_capacity(e.subscriptions.len());
    for (source, stream) in e.subscriptions.iter() {
        let Some(s) = e.receiver.streams.get_mut(stream) else { continue };
        let bytes = std::mem::take(&mut s.interval_bytes);
        let snapshot = SubscriptionSnapshot {
            source,
            current: s.projection.current(),
            target: s.projection.target(),
            bps: rate(bytes * 8, 0, seconds),
            packets: u64::from(s.packets),
            retransmissions: s.retransmissions,
        };
        all.push((snapshot, s.fraction_lost));
    }
    all
}
