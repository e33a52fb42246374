//! What a shard does periodically.

use std::time::Duration;

use super::{Core, Event, Outbox, PeerItem, feedback};
use crate::engine::MediaEvent;

/// Between two receiver reports to a sender.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_millis(500);
/// Between two tellings of loudness to control, and two looks at what has fallen silent.
const LEVELS_INTERVAL: Duration = Duration::from_millis(100);
/// Between two snapshots for control, and two repetitions of what other shards were told.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(1);
/// A receiver that waits for a keyframe asks for it again after this.
const KEYFRAME_RETRY: Duration = Duration::from_millis(500);

impl Core {
    pub(super) fn tick(&mut self, out: &mut impl Outbox) {
        self.sender_feedback(out);
        if self.now >= self.next_levels {
            self.next_levels = self.now + LEVELS_INTERVAL;
            self.tell_levels();
            self.expire_encodings();
            self.retry_keyframes();
        }
        if self.now >= self.next_snapshot {
            self.next_snapshot = self.now + SNAPSHOT_INTERVAL;
            self.repeat_to_peers();
            let snapshot = self.snapshot();
            self.event(Event::Media(MediaEvent::Snapshot(Box::new(snapshot))));
        }
    }

    /// Reports, NACKs, keyframe requests and transport-wide feedback, one compound packet for each
    /// sender that needs one.
    pub(super) fn sender_feedback(&mut self, out: &mut impl Outbox) {
        let now = self.now;
        self.urgent = None;
        for slot in 0..self.endpoints.bound() {
            let Some(e) = self.endpoints.get_mut(slot) else { continue };
            if e.sender.rx.is_none() || e.sender.streams.is_empty() {
                continue;
            }
            // Taken apart so that the endpoint can be read while its packet is being written.
            let (Some(tx), Some(dest)) = (e.receiver.tx.take(), e.receiver.dest) else { continue };
            let mut tx = tx;
            let mut buf = [0u8; feedback::MAX_RTCP];
            let mut writer = crate::rtp::rtcp::RtcpWriter::new(&mut buf);
            let sent = &mut self.totals.keyframe_requests_sent;
            feedback::write_sender_feedback(e, now, &mut writer, sent);
            let len = writer.len();
            if len > 0
                && let Some(room) = out.reserve(&dest, super::MAX_DATAGRAM)
                && let (Some(to), Some(from)) = (room.get_mut(..len), buf.get(..len))
            {
                to.copy_from_slice(from);
                let sealed = tx.seal_rtcp(room, len).ok();
                out.commit(sealed.unwrap_or(0));
                self.totals.rtcp_sent += u64::from(sealed.is_some());
            }
            if e.sender.is_urgent() {
                self.urgent = Some(now + super::URGENT_TICK);
            }
            e.receiver.tx = Some(tx);
        }
    }

    fn tell_levels(&mut self) {
        for slot in 0..self.endpoints.bound() {
            let Some(e) = self.endpoints.get_mut(slot) else { continue };
            let endpoint = e.id;
            for at in 0..e.sender.sources.len() {
                let Some(e) = self.endpoints.get_mut(slot) else { break };
                let Some(s) = e.sender.sources.get_mut(at) else { break };
                let source = s.spec.id;
                if let Some(level) = s.level.take() {
                    self.event(Event::Media(MediaEvent::AudioLevel { endpoint, source, level }));
                }
            }
        }
    }

    /// Encodings that have fallen silent are no longer offered to receivers.
    fn expire_encodings(&mut self) {
        let now = self.now;
        for slot in 0..self.endpoints.bound() {
            let Some(e) = self.endpoints.get_mut(slot) else { continue };
            let mut changed = 0u64;
            e.sender
                .expire_encodings(now, |at| changed |= 1u64.checked_shl(at as u32).unwrap_or(0));
            for at in 0..u64::BITS {
                if changed & (1 << at) != 0 {
                    self.tell_active_to_all(slot, at as usize);
                }
            }
        }
    }

    /// A keyframe that was asked for may have been lost, or the request was.
    fn retry_keyframes(&mut self) {
        let now = self.now;
        for slot in 0..self.feeds.bound() {
            let Some(feed) = self.feeds.get_mut(slot) else { continue };
            let source = feed.info.spec.id;
            let mut ask = None;
            for s in &mut feed.subscriptions {
                let retry =
                    s.asked_at.is_none_or(|at| now.saturating_duration_since(at) >= KEYFRAME_RETRY);
                if s.projection.waits() && retry {
                    s.asked_at = Some(now);
                    ask = s.projection.target();
                }
            }
            if let Some(encoding) = ask {
                self.want_keyframe(source, encoding);
            }
        }
    }

    /// Media may be lost between shards; what they know of each other must not stay wrong.
    fn repeat_to_peers(&mut self) {
        if self.config.shards < 2 {
            return;
        }
        for slot in 0..self.feeds.bound() {
            let Some(feed) = self.feeds.get(slot) else { continue };
            let (source, home, wanted) = (feed.info.spec.id, feed.info.home, feed.wanted());
            if home != self.config.shard {
                self.send_peer(home, PeerItem::Wanted { source, wanted }, &[]);
            }
        }
        for slot in 0..self.endpoints.bound() {
            for source in 0..self.endpoints.get(slot).map_or(0, |e| e.sender.sources.len()) {
                self.tell_active_to_all(slot, source);
            }
        }
    }
}
