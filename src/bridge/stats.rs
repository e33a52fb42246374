//! The statistics that `/colibri/stats`, `/metrics` and presence publish.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rialto_engine::{DelayHistogram, Reason, ShardTotals, Waiting};
use rialto_transport::TransportCounters;

use super::{Inner, ShutdownState};
use crate::{
    channel::ChannelCounters,
    conference::{KeyframesAhead, Tally},
};

/// One consistent reading. Fields are named as in `/colibri/stats`, with its units, but for rates of bits.
/// What this bridge does not have (relays) is not here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BridgeStats {
    /// Fraction of packets lost on the way to us, 0..=1.
    pub incoming_loss: f64,
    /// Fraction of packets lost on the way from us.
    pub outgoing_loss: f64,
    /// Both.
    pub overall_loss: f64,
    /// Endpoints that lose more than 10 % of what we send.
    pub endpoints_with_high_outgoing_loss: usize,
    /// Endpoints of conferences in which somebody sends.
    pub local_active_endpoints: usize,
    /// RTP received, bit/s.
    pub receive_bps: u64,
    /// RTP sent, bit/s.
    pub send_bps: u64,
    /// RTP packets received per second.
    pub packet_rate_download: u64,
    /// RTP packets sent per second.
    pub packet_rate_upload: u64,
    /// Mean round trip, ms.
    pub rtt_aggregate: f64,
    /// Conferences in which nobody sends.
    pub inactive_conferences: usize,
    /// Of these, with two endpoints.
    pub p2p_conferences: usize,
    /// Endpoints now.
    pub endpoints: usize,
    /// Endpoints that send nothing, in conferences where somebody does.
    pub receive_only_endpoints: usize,
    /// Endpoints of inactive conferences.
    pub inactive_endpoints: usize,
    /// Endpoints that send audio.
    pub endpoints_sending_audio: usize,
    /// Endpoints that send video.
    pub endpoints_sending_video: usize,
    /// Endpoints of the largest conference.
    pub largest_conference: usize,
    /// Conferences created in all.
    pub total_conferences_created: u64,
    /// Conferences expired in all.
    pub total_conferences_completed: u64,
    /// Seconds that expired conferences lasted in all.
    pub total_conference_seconds: u64,
    /// Endpoints created in all.
    pub total_participants: u64,
    /// Of these, visitors.
    pub total_visitors: u64,
    /// Conferences now.
    pub conferences: usize,
    /// Visitors now.
    pub visitors: usize,
    /// Endpoints whose ICE failed, in all.
    pub endpoints_ice_failed: u64,
    /// Endpoints whose DTLS failed, in all.
    pub dtls_failed_endpoints: u64,
    /// Changes of the dominant speaker in all.
    pub total_dominant_speaker_changes: u64,
    /// Keyframes requested from new speakers before a receiver asked, in all.
    pub keyframes_ahead: KeyframesAhead,
    /// Endpoints that went silent, in all.
    pub endpoints_disconnected: u64,
    /// Endpoints that came back, in all.
    pub endpoints_reconnected: u64,
    /// A graceful shutdown was started, and may be complete.
    pub graceful_shutdown: bool,
    /// The end is announced.
    pub shutting_down: bool,
    /// No new conferences are wanted.
    pub drain: bool,
    /// The bridge can serve.
    pub healthy: bool,
    /// Load, as a fraction of the configured threshold.
    pub stress_level: f64,
    /// What a focus adds for a participant whose load is not measured yet.
    pub average_participant_stress: f64,
    /// Requests refused because too many waited, in all.
    pub requests_refused: u64,
    /// Videos that endpoints send and may get, each as often as it is carried.
    pub video_streams: usize,
    /// Number of endpoints of each conference.
    pub conference_sizes: Vec<usize>,
    /// Endpoints that send audio, of each conference, in the same order.
    pub conference_audio_senders: Vec<usize>,
    /// Endpoints that send video, of each conference, in the same order.
    pub conference_video_senders: Vec<usize>,
    /// Totals of all shards together.
    pub engine: ShardTotals,
    /// Packets dropped by all shards, by reason, sorted by reason.
    pub drops: Vec<(&'static str, u64)>,
    /// Videos that endpoints could get, by the reason why they get no more of them.
    pub video_reasons: Vec<(&'static str, u64)>,
    /// Endpoints that are sent more than their link is estimated to carry.
    pub num_eps_oversending: usize,
    /// Endpoints with a suspended source: the allocation gives it no bandwidth.
    pub endpoints_with_suspended_sources: usize,
    /// The bound of videos for each receiver at the present load, if there is one.
    pub last_n_by_load: Option<usize>,
    /// Shards that report.
    pub shards: usize,
    /// Messages of bridge channels.
    pub channels: ChannelCounters,
    /// Totals of transports.
    pub transports: TransportCounters,
    /// Endpoints that had no bridge channel half a minute after they came, in all.
    pub num_eps_no_msg_transport_after_delay: u64,
    /// The part of the processors' time that the hypervisor gave to others, 0..=1.
    pub cpu_steal: f64,
    /// How long packets took from the socket back into it, over all shards.
    pub delays: DelayHistogram,
    /// How long packets were held back for their receivers' links, since the start.
    pub pacing: DelayHistogram,
    /// Each shard's load.
    pub shard_loads: Vec<ShardLoad>,
    /// The lengths of control's queues.
    pub queues: Queues,
    /// Packets that a capture lacks, in all.
    pub captures_dropped: u64,
    /// Captures that there was no room for.
    pub captures_refused: u64,
    /// Connectivity checks of clients that authenticated, by the address that they came to.
    pub ice_checks: Vec<(SocketAddr, u64)>,
}

/// How busy a shard was in the second that it reported last.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ShardLoad {
    /// Which one.
    pub shard: u16,
    /// The part of the time in which it did not sleep, 0..=1.
    pub busy: f64,
    /// Endpoints whose home it is.
    pub endpoints: usize,
    /// The most that waited in its lanes.
    pub waiting: Waiting,
}

/// The lengths of control's queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// Events of the engine for conferences, when a shard last reported.
    pub media_events: usize,
    /// Events of transports, likewise.
    pub transport_updates: usize,
    /// Requests of all conferences, now.
    pub requests: usize,
}

/// Counters that are updated with each event.
#[derive(Debug, Default)]
pub(super) struct Totals {
    conferences_created: AtomicU64,
    conferences_completed: AtomicU64,
    conference_seconds: AtomicU64,
    endpoints: AtomicU64,
    visitors: AtomicU64,
    speaker_changes: AtomicU64,
    keyframes_ahead: AtomicU64,
    keyframes_suppressed: AtomicU64,
    disconnected: AtomicU64,
    reconnected: AtomicU64,
    requests_refused: AtomicU64,
    ice_failed: AtomicU64,
    without_channel: AtomicU64,
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl Totals {
    pub(super) fn conference_created(&self) {
        add(&self.conferences_created, 1);
    }

    pub(super) fn conference_ended(&self, lasted: Duration) {
        add(&self.conferences_completed, 1);
        add(&self.conference_seconds, lasted.as_secs_f64().round() as u64);
    }

    /// Adds changes of the dominant speaker, and keyframes that were requested ahead or suppressed.
    pub(super) fn speakers_changed(&self, changes: u64, asked: u64, suppressed: u64) {
        add(&self.speaker_changes, changes);
        add(&self.keyframes_ahead, asked);
        add(&self.keyframes_suppressed, suppressed);
    }

    pub(super) fn endpoint_created(&self, visitor: bool) {
        add(&self.endpoints, 1);
        add(&self.visitors, visitor.into());
    }

    pub(super) fn activity_changed(&self, (disconnected, reconnected): (u64, u64)) {
        add(&self.disconnected, disconnected);
        add(&self.reconnected, reconnected);
    }

    pub(super) fn ice_failed(&self) {
        add(&self.ice_failed, 1);
    }

    pub(super) fn without_channel(&self, endpoints: usize) {
        add(&self.without_channel, endpoints as u64);
    }

    pub(super) fn request_refused(&self) {
        add(&self.requests_refused, 1);
    }
}

impl Inner {
    pub(super) fn stats(&self) -> BridgeStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (shutdown, graceful) = {
            let shutdown = self.shutdown.borrow();
            (shutdown.state, shutdown.graceful)
        };
        let transports = self.transports.counters();
        let mut stats = BridgeStats {
            conferences: self.registry.len(),
            total_conferences_created: count(&self.totals.conferences_created),
            total_conferences_completed: count(&self.totals.conferences_completed),
            total_conference_seconds: count(&self.totals.conference_seconds),
            total_participants: count(&self.totals.endpoints),
            total_visitors: count(&self.totals.visitors),
            total_dominant_speaker_changes: count(&self.totals.speaker_changes),
            keyframes_ahead: KeyframesAhead {
                asked: count(&self.totals.keyframes_ahead),
                suppressed: count(&self.totals.keyframes_suppressed),
            },
            endpoints_disconnected: count(&self.totals.disconnected),
            endpoints_reconnected: count(&self.totals.reconnected),
            requests_refused: count(&self.totals.requests_refused),
            endpoints_ice_failed: count(&self.totals.ice_failed),
            num_eps_no_msg_transport_after_delay: count(&self.totals.without_channel),
            dtls_failed_endpoints: transports.dtls_failed,
            graceful_shutdown: graceful,
            shutting_down: shutdown == ShutdownState::ShuttingDown,
            drain: self.drain.load(Ordering::Relaxed),
            healthy: self.health().is_ok(),
            average_participant_stress: self.config.load.average_participant_stress,
            channels: self.channels.counters(),
            captures_dropped: self.captures.dropped(),
            captures_refused: self.captures.refused(),
            ice_checks: self.transports.checks(),
            transports,
            ..BridgeStats::default()
        };
        let mut sums = Sums::default();
        for handle in self.registry.all() {
            stats.queues.requests += handle.mailbox.waiting.requests();
            stats.add(&handle.published.load().tally, &mut sums);
        }
        stats.finish(&sums);
        let reasons = Reason::ALL.into_iter().map(Reason::as_str).zip(sums.reasons);
        stats.video_reasons = reasons.collect();
        self.add_readings(&mut stats);
        stats
    }

    fn add_readings(&self, stats: &mut BridgeStats) {
        let readings = self.readings.load();
        stats.last_n_by_load = readings.last_n_by_load;
        stats.stress_level = readings.stress;
        stats.cpu_steal = readings.cpu_steal;
        let mut drops: BTreeMap<&'static str, u64> = BTreeMap::new();
        stats.shards = readings.shards.len();
        stats.queues.media_events = readings.queues.media_events;
        stats.queues.transport_updates = readings.queues.transport_updates;
        for report in readings.shards.values() {
            stats.engine = sum(stats.engine, report.totals);
            stats.delays.add(&report.delays);
            stats.pacing.add(&report.pacing);
            stats.shard_loads.push(report.load);
            for (reason, count) in &report.drops {
                let total = drops.entry(reason).or_default();
                *total = total.saturating_add(*count);
            }
        }
        stats.drops = drops.into_iter().collect();
    }
}

/// The sums from which fractions and means are computed.
#[derive(Debug, Default)]
struct Sums {
    receive_bps: u64,
    send_bps: u64,
    receive_lost: f64,
    send_lost: f64,
    rtt_ms: f64,
    rtt_count: usize,
    reasons: [u64; Reason::ALL.len()],
}

impl BridgeStats {
    fn add(&mut self, tally: &Tally, sums: &mut Sums) {
        let inactive = tally.is_inactive();
        self.endpoints += tally.endpoints;
        self.visitors += tally.visitors;
        self.endpoints_sending_audio += tally.audio_senders;
        self.endpoints_sending_video += tally.video_senders;
        self.largest_conference = self.largest_conference.max(tally.endpoints);
        if inactive {
            self.inactive_conferences += 1;
            self.p2p_conferences += usize::from(tally.endpoints == 2);
            self.inactive_endpoints += tally.endpoints;
        } else {
            self.local_active_endpoints += tally.endpoints;
            self.receive_only_endpoints += tally.silent;
            self.endpoints_with_high_outgoing_loss += tally.high_outgoing_loss;
        }
        self.packet_rate_download = self.packet_rate_download.saturating_add(tally.receive_pps);
        self.packet_rate_upload = self.packet_rate_upload.saturating_add(tally.send_pps);
        self.video_streams += tally.video_streams;
        self.conference_sizes.push(tally.endpoints);
        self.conference_audio_senders.push(tally.audio_senders);
        self.conference_video_senders.push(tally.video_senders);
        sums.receive_bps = sums.receive_bps.saturating_add(tally.receive_bps);
        sums.send_bps = sums.send_bps.saturating_add(tally.send_bps);
        sums.receive_lost += tally.receive_lost_pps;
        sums.send_lost += tally.send_lost_pps;
        sums.rtt_ms += tally.rtt_sum_ms;
        sums.rtt_count += tally.rtt_count;
        self.num_eps_oversending += tally.oversending;
        self.endpoints_with_suspended_sources += tally.with_suspended;
        for (sum, reason) in sums.reasons.iter_mut().zip(tally.reasons) {
            *sum = sum.saturating_add(reason);
        }
    }

    fn finish(&mut self, sums: &Sums) {
        let fraction = |lost: f64, all: f64| if all > 0.0 { lost / all } else { 0.0 };
        let received = self.packet_rate_download as f64 + sums.receive_lost;
        let sent = self.packet_rate_upload as f64;
        self.incoming_loss = fraction(sums.receive_lost, received);
        self.outgoing_loss = fraction(sums.send_lost, sent);
        self.overall_loss = fraction(sums.receive_lost + sums.send_lost, received + sent);
        self.receive_bps = sums.receive_bps;
        self.send_bps = sums.send_bps;
        self.rtt_aggregate = fraction(sums.rtt_ms, sums.rtt_count as f64);
    }
}

fn sum(a: ShardTotals, b: ShardTotals) -> ShardTotals {
    ShardTotals {
        datagrams_received: a.datagrams_received.saturating_add(b.datagrams_received),
        rtp_received: a.rtp_received.saturating_add(b.rtp_received),
        rtp_bytes_received: a.rtp_bytes_received.saturating_add(b.rtp_bytes_received),
        rtp_sent: a.rtp_sent.saturating_add(b.rtp_sent),
        rtp_bytes_sent: a.rtp_bytes_sent.saturating_add(b.rtp_bytes_sent),
        retransmissions_sent: a.retransmissions_sent.saturating_add(b.retransmissions_sent),
        probes_sent: a.probes_sent.saturating_add(b.probes_sent),
        retransmissions_missed: a.retransmissions_missed.saturating_add(b.retransmissions_missed),
        rtcp_received: a.rtcp_received.saturating_add(b.rtcp_received),
        rtcp_sent: a.rtcp_sent.saturating_add(b.rtcp_sent),
        handed_over: a.handed_over.saturating_add(b.handed_over),
        keyframes_received: a.keyframes_received.saturating_add(b.keyframes_received),
        keyframe_requests_sent: a.keyframe_requests_sent.saturating_add(b.keyframe_requests_sent),
        send_calls: a.send_calls.saturating_add(b.send_calls),
        datagrams_sent: a.datagrams_sent.saturating_add(b.datagrams_sent),
        send_errors: a.send_errors.saturating_add(b.send_errors),
        events_dropped: a.events_dropped.saturating_add(b.events_dropped),
        asleep_us: a.asleep_us.saturating_add(b.asleep_us),
        budgets_hit: a.budgets_hit.saturating_add(b.budgets_hit),
        receive_errors: a.receive_errors.saturating_add(b.receive_errors),
        video_ms: a.video_ms.saturating_add(b.video_ms),
        layering_changes: a.layering_changes.saturating_add(b.layering_changes),
        feedback_unmatched: a.feedback_unmatched.saturating_add(b.feedback_unmatched),
        spurious_rembs: a.spurious_rembs.saturating_add(b.spurious_rembs),
    }
}
