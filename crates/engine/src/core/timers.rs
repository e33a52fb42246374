//! The periodic work of a shard.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "counters of 64 bits, and times of this process"
)]

use std::time::Duration;

use rialto_media::Drop;

use super::{ControlEvent, Core, Outbox, PeerItem, feedback, inbound};
use crate::{MediaEvent, slots::EndpointSlot};

/// Interval of receiver reports to a sender.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_millis(500);
/// How often audio levels are reported to control and inactive encodings are expired.
const AUDIO_LEVEL_INTERVAL: Duration = Duration::from_millis(100);
/// Interval of snapshots for control, and of repeated messages to other shards.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(1);
/// Most compound packets to one sender at a time. What does not fit leaves with the next urgent
/// tick.
const MAX_COMPOUNDS: usize = 4;

impl Core {
    pub(super) fn tick(&mut self, out: &mut impl Outbox) {
        self.sender_feedback(out);
        if self.now >= self.next_levels {
            self.next_levels = self.now + AUDIO_LEVEL_INTERVAL;
            self.report_levels();
            self.check_encodings();
            self.settle_allocations();
            self.retry_keyframes();
            self.send_reports(out);
        }
        if self.survey.is_none() && self.now >= self.next_snapshot {
            self.next_snapshot = self.now + SNAPSHOT_INTERVAL;
            self.repeat_to_peers();
            let (rules, now) = (self.config.audio.loudest, self.now);
            self.speakers.retain(|_, speakers| speakers.expire(&rules, now));
            self.speech_pace.retain(|_, talk| !talk.is_over(now));
            self.begin_snapshot();
        }
        if let Some(snapshot) = self.continue_snapshot() {
            self.event(ControlEvent::Media(MediaEvent::Snapshot(Box::new(snapshot))));
        }
    }

    /// Sends reports, NACKs, keyframe requests and transport-wide feedback, one compound packet for
    /// each sender that needs one.
    pub(super) fn sender_feedback(&mut self, out: &mut impl Outbox) {
        self.urgent.clear();
        self.urgent_at = None;
        self.for_each_endpoint(|core, slot| core.feedback_to(slot, out));
    }

    /// Sends urgent feedback to the senders that need it.
    pub(super) fn urgent_feedback(&mut self, out: &mut impl Outbox) {
        self.urgent_at = None;
        let due = self.urgent.len();
        for at in 0..due {
            if let Some(slot) = self.urgent.get(at).copied() {
                self.feedback_to(slot, out);
            }
        }
        // Senders that need more feedback were appended behind these.
        self.urgent.drain(..due);
    }

    fn feedback_to(&mut self, slot: EndpointSlot, out: &mut impl Outbox) {
        let now = self.now;
        let Some(e) = self.endpoints.get_mut(slot) else { return };
        e.urgent = false;
        let idle = e.sender.streams.is_empty() && e.reference.is_none();
        if e.sender.rx.is_none() || idle {
            return;
        }
        let Some(dest) = e.receiver.dest else { return };
        if e.receiver.tx.is_none() {
            return;
        }
        let limit = self.config.keyframes.source;
        let mut left = true;
        for _ in 0..MAX_COMPOUNDS {
            let mut buf = [0u8; feedback::MAX_RTCP];
            let mut writer = rialto_rtp::rtcp::RtcpWriter::new(&mut buf);
            let sent = &mut self.totals.keyframe_requests_sent;
            left = feedback::write_sender_feedback(e, now, &limit, &mut writer, sent);
            let len = writer.len();
            if len > 0
                && let Some(tx) = e.receiver.tx.as_mut()
                && let Some(room) = out.reserve(&dest, super::MAX_DATAGRAM)
                && let (Some(to), Some(from)) = (room.get_mut(..len), buf.get(..len))
            {
                to.copy_from_slice(from);
                if let Some(tap) = &e.tap {
                    tap.copy(true, from);
                }
                let sealed = tx.seal_rtcp(room, len).ok();
                out.commit(sealed.unwrap_or(0));
                self.totals.rtcp_sent += u64::from(sealed.is_some());
            }
            if !left {
                break;
            }
        }
        if let Some(twcc) = &mut e.sender.twcc {
            self.drops.add(Drop::FeedbackFull, twcc.take_overflowed());
        }
        let rtt = e.receiver.round_trip();
        if left || e.sender.is_urgent(now, rtt) {
            self.set_urgent(slot);
        }
    }

    fn report_levels(&mut self) {
        for e in self.endpoints.values_mut() {
            let endpoint = e.id;
            for s in e.sender.sources.values_mut() {
                let source = s.spec.id;
                if let Some(level) = s.level.take() {
                    let event = MediaEvent::AudioLevel { endpoint, source, level };
                    inbound::push(&mut self.events, &mut self.totals, ControlEvent::Media(event));
                }
            }
        }
    }

    /// Expires inactive encodings, and tells other shards the bitrates of the others when these
    /// changed.
    fn check_encodings(&mut self) {
        let (now, steps) = (self.now, self.rate_clock.take(self.now));
        let mut changed = std::mem::take(&mut self.source_list);
        self.for_each_endpoint(|core, slot| {
            let Some(e) = core.endpoints.get_mut(slot) else { return };
            e.sender.expire_encodings(now, |source| changed.push(source));
            e.sender.step_rates(steps, |source| {
                if !changed.contains(&source) {
                    changed.push(source);
                }
            });
            for source in changed.drain(..) {
                core.send_active_to_all(slot, source);
            }
        });
        self.source_list = changed;
    }

    /// Retries keyframe requests, since a request or a keyframe may have been lost. The sender's
    /// home decides when asking again can help. Visits only sources with waiting receivers.
    fn retry_keyframes(&mut self) {
        let now = self.now;
        let mut waiting = std::mem::take(&mut self.waiting_feeds);
        waiting.retain(|slot| {
            let Some(feed) = self.feeds.get_mut(*slot) else { return false };
            feed.waits = feed.is_waited_for();
            let waits = feed.waits;
            if waits {
                let source = feed.info.spec.id;
                let ask = feed.subscribers.values().fold(0, |ask, subscriber| {
                    let e = self.endpoints.get_mut(subscriber.receiver);
                    let stream = e.and_then(|e| e.receiver.streams.get_mut(subscriber.stream));
                    ask | stream.map_or(0, |s| s.keyframe_for(feed, now))
                });
                self.want_keyframes(source, ask);
            }
            waits
        });
        self.waiting_feeds = waiting;
    }

    /// Repeats state to other shards: a message may be lost, and their view must not stay wrong.
    fn repeat_to_peers(&mut self) {
        if self.config.shards < 2 {
            return;
        }
        for feed in self.feeds.values() {
            let (source, home, wanted) = (feed.info.spec.id, feed.info.home, feed.wanted());
            let item = PeerItem::Wanted { source, wanted };
            if home != self.config.shard && !self.peers.push(home, item, &[]) {
                self.drops.count(Drop::PeerQueueFull);
            }
        }
        let mut sources = std::mem::take(&mut self.source_list);
        self.for_each_endpoint(|core, slot| {
            let Some(e) = core.endpoints.get(slot) else { return };
            sources.extend(e.sender.sources.keys());
            for source in sources.drain(..) {
                core.send_active_to_all(slot, source);
            }
        });
        self.source_list = sources;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{
        super::{Collected, TICK, URGENT_TICK},
        *,
    };
    use rialto_media::{MediaType, SourceId};

    use crate::sim::{World, WorldConfig};

    const SECOND: Duration = Duration::from_secs(1);

    /// A call of two in which one sent video and has just stopped. The periodic work was just done,
    /// and is not due again before [`URGENT_TICK`] is long over.
    fn after_a_tick() -> (World, SourceId) {
        let mut world = World::new(WorldConfig::default());
        world.join();
        world.join();
        let video = world.publish(0, MediaType::Video, 1);
        world.run(2 * SECOND);
        world.clients[0].fall_silent();
        // By then every packet has arrived.
        world.run(SECOND / 10);
        while world.cores[0].next_timeout() < world.now + TICK * 9 / 10 {
            world.run(Duration::from_millis(1));
        }
        (world, video)
    }

    /// Delivers the sender's next packets at once, except those in `lost`.
    fn arrive(world: &mut World, packets: usize, lost: &[usize], transport: &mut u16) {
        let (since, sender) = (world.elapsed(), &mut world.clients[0]);
        let track = sender.tracks.first_mut().unwrap();
        let frames = std::iter::repeat_with(|| track.make_frame(since, transport));
        let plain: Vec<_> = frames.flatten().take(packets).collect();
        let from = sender.addr;
        let sealed: Vec<_> = plain.iter().map(|p| sender.seal(p)).collect();
        for (at, mut bytes) in sealed.into_iter().enumerate() {
            if !lost.contains(&at) {
                world.deliver(0, from, &mut bytes);
            }
        }
    }

    /// Runs long enough for urgent feedback to arrive.
    fn soon(world: &mut World) {
        world.run(URGENT_TICK + Duration::from_millis(10));
    }

    #[test]
    fn who_only_is_there_wakes_a_shard_twenty_times_a_second() {
        let mut world = World::new(WorldConfig::default());
        world.join();
        let (core, mut wakes) = (&mut world.cores[0], 0);
        let end = core.next_timeout() + SECOND;
        while core.next_timeout() < end {
            let now: Instant = core.next_timeout();
            core.on_timeout(now, &mut Collected::default());
            wakes += 1;
        }
        assert_eq!(wakes, 20);
    }

    #[test]
    fn a_gap_is_asked_for_soon_and_again_after_a_round_trip() {
        let (mut world, _) = after_a_tick();
        let before = world.clients[0].heard.nacks;
        world.lose_next(0, u32::MAX);
        arrive(&mut world, 3, &[1], &mut 0);
        soon(&mut world);
        assert_eq!(world.clients[0].heard.nacks, before + 1);
        world.run(SECOND);
        assert!(world.clients[0].heard.nacks > before + 5, "as long as it is not given up");
        let asleep = world.cores[0].next_timeout();
        assert!(asleep > world.now && world.cores[0].urgent_at.is_none(), "then it is forgotten");
    }

    #[test]
    fn a_keyframe_is_asked_for_soon() {
        let (mut world, video) = after_a_tick();
        let before = world.clients[0].heard.keyframe_requests;
        let mut request = world.clients[1].ask_for_keyframe(video).unwrap();
        let from = world.clients[1].addr;
        world.deliver(0, from, &mut request);
        soon(&mut world);
        assert_eq!(world.clients[0].heard.keyframe_requests, before + 1);
    }

    #[test]
    fn keyframes_are_asked_for_again_only_of_feeds_that_somebody_waits_for() {
        let (mut world, _) = after_a_tick();
        let other = world.publish(1, MediaType::Video, 1);
        world.run(SECOND);
        let core = &mut world.cores[0];
        core.assert_consistent();
        assert_eq!((core.feeds.len(), core.waiting_feeds.len()), (2, 0), "all get what they want");
        // Nobody can be sent anything, so the packets sent meanwhile are missing.
        let mut remotes = Vec::new();
        for e in core.endpoints.values_mut() {
            remotes.push(e.receiver.dest.take());
        }
        world.run(SECOND);
        let core = &mut world.cores[0];
        core.assert_consistent();
        assert_eq!(core.waiting_feeds, [core.feed_slots[&other]], "the one with packets");
        for (e, dest) in core.endpoints.values_mut().zip(remotes) {
            e.receiver.dest = dest;
        }
        world.run(SECOND);
        let core = &mut world.cores[0];
        core.assert_consistent();
        assert!(core.waiting_feeds.is_empty(), "a keyframe was asked for, and came");
    }

    #[test]
    fn transport_feedback_leaves_early_when_there_is_much_of_it() {
        let (mut world, _) = after_a_tick();
        let before = world.clients[0].heard.transport_feedback;
        let mut transport = 30_000;
        arrive(&mut world, 100, &[], &mut transport);
        soon(&mut world);
        assert_eq!(world.clients[0].heard.transport_feedback, before, "it can wait");
        arrive(&mut world, 200, &[], &mut transport);
        soon(&mut world);
        assert!(world.clients[0].heard.transport_feedback > before);
    }

    #[test]
    fn a_video_is_measured_while_it_comes_and_its_way_through_the_shard_too() {
        let (mut world, _) = after_a_tick();
        let (core, now) = (&mut world.cores[0], world.now);
        // Two seconds of one stream, until the next snapshot.
        assert!((1_900..=3_100).contains(&core.totals.video_ms), "{}", core.totals.video_ms);
        assert_eq!(core.totals.layering_changes, 0);
        assert!(core.is_leaving());
        core.on_sent(now);
        core.on_sent(now);
        assert!(!core.is_leaving());
        assert_eq!(core.delays.count(), 1, "one for all that left together");
    }

    #[test]
    fn a_tap_has_what_is_received_and_what_is_sent_in_the_clear() {
        use std::sync::Arc;

        use crate::{Tap, core::ShardCommand};

        let (mut world, _) = after_a_tick();
        let mut copies = Vec::new();
        for at in [0, 1] {
            let (tap, copied) = Tap::new(Arc::default());
            let (id, now) = (world.clients[at].id, world.now);
            let command = ShardCommand::Tap(id, Some(tap));
            world.cores[0].on_command(now, command, &mut Collected::default());
            copies.push(copied);
        }
        arrive(&mut world, 8, &[], &mut 0);
        soon(&mut world);
        let rtp = |copies: &mut tokio::sync::mpsc::Receiver<crate::Tapped>, outgoing| {
            let all = std::iter::from_fn(|| copies.try_recv().ok());
            let of_kind = all.filter(|t| t.outgoing == outgoing && !rialto_rtp::is_rtcp(&t.bytes));
            of_kind.map(|tapped| tapped.bytes).collect::<Vec<_>>()
        };
        let received = rtp(&mut copies[0], false);
        let sent = rtp(&mut copies[1], true);
        assert_eq!((received.len(), sent.len()), (8, 8));
        let payload = |packet: &[u8]| {
            let header = rialto_rtp::RtpHeader::parse(packet).unwrap();
            packet[header.payload_range(packet).unwrap()].to_vec()
        };
        let payloads =
            |packets: &[Vec<u8>]| packets.iter().map(|p| payload(p).len()).collect::<Vec<_>>();
        assert_eq!(payloads(&received), payloads(&sent), "not sealed: what came is what goes");
    }

    #[test]
    fn what_shards_told_each_other_is_told_again_when_it_was_lost() {
        let mut world = World::new(WorldConfig { shards: 2, ..WorldConfig::default() });
        world.join();
        world.join();
        let video = world.publish(0, MediaType::Video, 2);
        world.run(2 * SECOND);
        let before = world.cores[0].home_source(video).unwrap().wanted();
        assert_ne!(before, 0);
        // As if the receiver's shard had never reported what it needs.
        for (_, wanted) in &mut world.cores[0].home_source(video).unwrap().routes {
            *wanted = 0;
        }
        world.run(2 * SECOND);
        assert_eq!(world.cores[0].home_source(video).unwrap().wanted(), before);
        // And as if the sender's shard had never reported what is active.
        for feed in world.cores[1].feeds.values_mut() {
            feed.active = 0;
        }
        world.run(2 * SECOND);
        assert!(world.cores[1].feeds.values().all(|feed| feed.active == 0b11));
    }

    #[test]
    fn keys_outlast_a_time_without_an_address() {
        let (mut world, _) = after_a_tick();
        let e = world.cores[0].endpoints.values_mut().next().unwrap();
        let dest = e.receiver.dest.take();
        world.run(SECOND);
        let e = world.cores[0].endpoints.values_mut().next().unwrap();
        assert!(e.receiver.tx.is_some());
        e.receiver.dest = dest;
    }
}
