//! Forwards packets from the rings to the receivers. Sources offer new packets to receivers, and
//! each receiver with an offer is polled once per tick, so that all its packets lie side by side in
//! the send buffer.

use std::{cmp::Reverse, time::Instant};

use super::{Core, Outbox};
use crate::{
    egress::{
        SourceFeed,
        receiver::poll::{Clock, Poll},
    },
    slots::{EndpointSlot, FeedSlot},
};

impl Core {
    /// Sends everything that is due: packets that sources offer, retransmissions, and packets that
    /// a pacer delayed until now.
    pub(super) fn flush_due(&mut self, out: &mut impl Outbox) {
        self.allocate_due();
        self.offer_due();
        while let Some(Reverse((at, slot))) = self.paced.peek().copied()
            && at <= self.now
        {
            self.paced.pop();
            self.wake_receiver(slot, at);
        }
        let clock = Clock::new(self.now, self.now.saturating_duration_since(self.epoch));
        while let Some(slot) = self.ready.pop() {
            self.poll_receiver(slot, clock, out);
        }
    }

    /// Lets every source whose packets must leave now offer them. When delayed audio leaves, audio
    /// of other speakers in the conference leaves with it.
    fn offer_due(&mut self) {
        let now = self.now;
        let is_due = |feed: &SourceFeed| feed.due.is_some_and(|due| due <= now);
        let audio_leaves = !self.config.audio.hold.is_zero() && {
            let mut waiting = self.dirty.iter().filter_map(|slot| self.feeds.get(*slot));
            waiting.any(|feed| feed.is_audio() && is_due(feed))
        };
        let mut i = 0;
        while let Some(slot) = self.dirty.get(i).copied() {
            let feed = self.feeds.get(slot);
            let due = feed.and_then(|f| f.due);
            let leaves = |feed: &SourceFeed| is_due(feed) || audio_leaves && feed.is_audio();
            if due.is_some() && !feed.is_some_and(leaves) {
                i = i.saturating_add(1);
                continue;
            }
            self.dirty.swap_remove(i);
            if due.is_some() {
                self.offer(slot);
            }
        }
    }

    fn offer(&mut self, slot: FeedSlot) {
        let Some(feed) = self.feeds.get_mut(slot) else { return };
        let came = feed.since.take();
        self.leaving = self.leaving.into_iter().chain(came).min();
        for subscriber in feed.subscribers.values() {
            let Some(e) = self.endpoints.get_mut(subscriber.receiver) else { continue };
            if e.receiver.offer(subscriber.stream) {
                self.ready.push(subscriber.receiver);
            }
        }
        feed.offered();
    }

    /// Handles the wake-up time of a receiver.
    fn wake_receiver(&mut self, slot: EndpointSlot, at: Instant) {
        let Some(e) = self.endpoints.get_mut(slot) else { return };
        if e.receiver.queue.wake != Some(at) {
            // It was polled meanwhile, and waits for another time.
            return;
        }
        e.receiver.queue.wake = None;
        self.list_receiver(slot);
    }

    /// Schedules a poll of a receiver at the end of this tick.
    pub(super) fn list_receiver(&mut self, slot: EndpointSlot) {
        if let Some(e) = self.endpoints.get_mut(slot)
            && !std::mem::replace(&mut e.receiver.queue.listed, true)
        {
            self.ready.push(slot);
        }
    }

    fn poll_receiver(&mut self, slot: EndpointSlot, clock: Clock, out: &mut impl Outbox) {
        let Some(e) = self.endpoints.get_mut(slot) else { return };
        let mut poll = Poll {
            feeds: &mut self.feeds,
            drops: &mut self.drops,
            totals: &mut self.totals,
            paced: &mut self.pacing,
            redundancy: self.config.audio.redundancy,
            scratch: &mut self.scratch,
            clock,
            out,
        };
        let wake = poll.receiver(e);
        if let Some(at) = wake
            && e.receiver.queue.wake.is_none_or(|known| known <= self.now || at < known)
        {
            e.receiver.queue.wake = Some(at);
            self.paced.push(Reverse((at, slot)));
        }
        self.estimate_changed(slot);
        if !self.scratch.switched.is_empty() {
            self.want_allocation(slot);
        }
        while let Some(stream) = self.scratch.cut.pop() {
            self.retarget_stream(slot, stream);
        }
        while let Some(source) = self.scratch.switched.pop() {
            self.send_wanted(source, false);
        }
    }
}
