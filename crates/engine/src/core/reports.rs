//! Sender reports on their way to receivers (RFC 3550 section 6.4.1).
//!
//! The bridge keeps the clocks of a sender's last report and sends reports to receivers on its own
//! schedule, so that nobody can cause reports to others. Both clocks of a report are advanced by
//! the time that has passed since, so that their relation, which keeps audio and video in sync,
//! stays as the sender reported it.
#![expect(clippy::arithmetic_side_effects, reason = "times of this process")]

use std::time::{Duration, Instant};

use rialto_media::{Drop, SourceId};

use super::{Core, Outbox, PeerItem, feedback};
use crate::{
    egress::{SourceFeed, Stream, report::ClockReport},
    slots::EndpointSlot,
};

/// Shortest interval at which a sender's reports about one stream are accepted.
const MIN_TAKEN: Duration = Duration::from_millis(200);
/// Interval between two reports to one receiver about one stream, if the sender has sent a new one.
const INTERVAL: Duration = Duration::from_secs(1);
/// Interval if the sender has not sent a new one.
const REPEAT: Duration = Duration::from_secs(5);

impl Core {
    /// Handles a sender's report about one of its streams.
    pub(super) fn on_sender_report(
        &mut self,
        slot: EndpointSlot,
        ssrc: u32,
        ntp: u64,
        timestamp: u32,
    ) {
        let now = self.now;
        let Some(e) = self.endpoints.get_mut(slot) else { return };
        let Some(stream) = e.sender.stream_by_ssrc(ssrc) else { return };
        stream.stats.on_sender_report(now, ntp);
        if stream.reported.is_some_and(|at| now.saturating_duration_since(at) < MIN_TAKEN) {
            return self.drops.count(Drop::RepeatedReport);
        }
        stream.reported = Some(now);
        let (encoding, source) = (stream.encoding, stream.source);
        let Some(source) = e.sender.sources.get(source) else { return };
        let id = source.spec.id;
        let item = PeerItem::SenderReport { source: id, encoding, ntp, timestamp };
        let cname = e.sender.cname.as_deref().unwrap_or_default();
        for (shard, wanted) in &source.routes {
            if wanted & (1 << encoding) == 0 || *shard == self.config.shard {
                continue;
            }
            if !self.peers.push(*shard, item, cname.as_bytes()) {
                self.drops.count(Drop::PeerQueueFull);
            }
        }
        let feed = self.feed_slots.get(&id).and_then(|f| self.feeds.get_mut(*f));
        if let Some(feed) = feed {
            feed.on_report(encoding, ClockReport { ntp, timestamp, at: now }, cname);
        }
    }

    /// Handles a report about a source whose home is another shard.
    pub(super) fn on_peer_report(
        &mut self,
        source: SourceId,
        encoding: u8,
        (ntp, timestamp): (u64, u32),
        cname: &[u8],
    ) {
        let report = ClockReport { ntp, timestamp, at: self.now };
        let feed = self.feed_slots.get(&source).and_then(|f| self.feeds.get_mut(*f));
        if let Some(feed) = feed {
            feed.on_report(encoding, report, std::str::from_utf8(cname).unwrap_or_default());
        }
    }

    /// Sends each receiver the reports that are due.
    pub(super) fn send_reports(&mut self, out: &mut impl Outbox) {
        let now = self.now;
        for feed in self.feeds.values_mut() {
            if feed.next_report.is_some_and(|at| at > now) || !feed.has_reports() {
                continue;
            }
            let SourceFeed { info, encodings, subscribers, cname, .. } = feed;
            let cname = cname.as_deref().unwrap_or(&info.cname);
            let mut next = now + REPEAT;
            for subscriber in subscribers.values() {
                let Some(e) = self.endpoints.get_mut(subscriber.receiver) else { continue };
                let Some(s) = e.receiver.streams.get_mut(subscriber.stream) else { continue };
                let current = s.projection.current().filter(|_| s.packets > 0);
                let encoding = current.and_then(|at| encodings.get(usize::from(at)));
                let Some(report) = encoding.and_then(|e| e.report) else {
                    // Nothing was sent to it yet, so the report waits.
                    next = now;
                    continue;
                };
                let due = due_at(s, &report, now);
                if due > now {
                    next = next.min(due);
                    continue;
                }
                let clocks = report.at(now, s.projection.clock_rate());
                let Some((ntp, timestamp)) = clocks else { continue };
                let timestamp = timestamp.wrapping_add(s.projection.timestamp_delta());
                s.last_sr = Some((rialto_rtp::rtcp::ntp::middle(ntp), now));
                let (ssrc, (packets, octets)) = (s.ssrc, s.sent());
                feedback::send_rtcp(e, out, &mut self.totals, |w| {
                    let _ = w.sender_report(ssrc, ntp, timestamp, packets, octets, &[]);
                    let _ = w.sdes_cname(ssrc, cname);
                });
            }
            feed.next_report = Some(next);
        }
    }
}

/// Returns when a receiver should get the report.
fn due_at(s: &Stream, report: &ClockReport, now: Instant) -> Instant {
    s.last_sr.map_or(now, |(_, sent)| sent + if report.at > sent { INTERVAL } else { REPEAT })
}

#[cfg(test)]
mod tests {
    use rialto_media::MediaType;
    use rialto_rtp::rtcp::{ReportBlock, ntp};

    use super::*;
    use crate::sim::{World, WorldConfig};

    /// The wall clock of every client when a world starts.
    const WALL_CLOCK: Duration = Duration::from_secs(1_700_000_000);

    /// The SSRC of the audio that one client sends the other, when its last report left, and the
    /// wall clock in it.
    fn last_report(world: &World) -> (u32, u64, Duration) {
        let incoming = world.clients[1].incoming.values().next().unwrap();
        let reported_ntp = incoming.reports.last().unwrap().0;
        (
            incoming.spec.encodings[0].ssrc,
            reported_ntp,
            ntp::to_unix(reported_ntp).checked_sub(WALL_CLOCK).unwrap(),
        )
    }

    /// Delivers a receiver report, and returns the round-trip time that the bridge then uses.
    fn report(world: &mut World, ssrc: u32, last_sr: u32, delay: Duration) -> Duration {
        let block = ReportBlock {
            ssrc,
            last_sr,
            delay_since_last_sr: ntp::compact(delay),
            ..ReportBlock::default()
        };
        let client = &mut world.clients[1];
        let bytes = client.rtcp(|w| w.receiver_report(1, &[block]).unwrap());
        let (from, id) = (client.addr, client.id);
        world.deliver(0, from, &mut bytes.unwrap());
        world.cores[0].endpoint_mut(id).unwrap().receiver.rtt.unwrap()
    }

    fn a_call() -> World {
        let mut world = World::new(WorldConfig::default());
        world.join();
        world.join();
        world.publish(0, MediaType::Audio, 1);
        world.run(Duration::from_millis(3_500));
        world
    }

    #[test]
    fn a_round_trip_follows_only_from_reports_about_what_was_sent() {
        let mut world = a_call();
        let (ssrc, reported_ntp, _) = last_report(&world);
        let ice = 2 * WorldConfig::default().weather.delay;
        // Round trips that would be long if believed: the reports claim that nothing was held back.
        world.run(Duration::from_millis(300));
        assert_eq!(last_report(&world).1, reported_ntp, "no newer one");
        for (ssrc, last_sr) in [
            (ssrc + 1, ntp::middle(reported_ntp)),
            (ssrc, ntp::middle(reported_ntp) ^ 1),
            (ssrc, 0),
        ] {
            let believed = report(&mut world, ssrc, last_sr, Duration::ZERO);
            assert!(believed < ice * 2, "{believed:?}");
        }
        let believed = report(&mut world, ssrc, ntp::middle(reported_ntp), Duration::ZERO);
        assert!(believed >= Duration::from_millis(300), "a worse way is believed: {believed:?}");
    }

    #[test]
    fn who_claims_to_have_held_a_report_back_has_no_shorter_way() {
        let mut world = a_call();
        let (ssrc, reported_ntp, left) = last_report(&world);
        let ice = 2 * WorldConfig::default().weather.delay;
        // The report carries the sender's time, and arrived the one-way delay later.
        let since = world.elapsed().checked_sub(left + ice / 2).unwrap();
        let claimed = since.checked_sub(Duration::from_millis(1)).unwrap();
        assert_eq!(report(&mut world, ssrc, ntp::middle(reported_ntp), claimed), ice);
    }
}
