//! Consistency checks of redundant state in a core, for tests and fuzz targets.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "it panics when an invariant is broken"
)]

use super::Core;
use crate::egress::source::Subscriber;

impl Core {
    /// Panics if two copies of the same fact differ.
    pub(crate) fn assert_consistent(&self) {
        let mut subscriptions = 0;
        for (slot, e) in &self.endpoints {
            assert_eq!(self.endpoint_slots.get(&e.id), Some(&slot));
            assert_eq!(e.receiver.by_ssrc.len(), e.subscriptions.len());
            assert_eq!(e.receiver.streams.len(), e.subscriptions.len());
            for (source, stream) in e.subscriptions.iter() {
                let s = e.receiver.streams.get(stream).expect("the stream of a subscription");
                let feed = self.feeds.get(s.feed).expect("the source of a stream");
                let subscriber = feed.subscribers.get(s.subscriber).expect("a subscriber");
                assert_eq!((feed.info.spec.id, s.source), (source, source));
                assert_eq!((subscriber.receiver, subscriber.stream), (slot, stream));
                assert_eq!(e.receiver.by_ssrc.get(&s.ssrc), Some(&stream));
                assert_eq!(s.terms.slot.map_or(s.ssrc, |slot| slot.ssrc), s.ssrc);
                assert!(!e.receiver.vacated.contains(s.ssrc), "nothing is in a vacated slot");
                subscriptions += 1;
            }
            for stream in e.sender.streams.values() {
                let source = e.sender.sources.get(stream.source).expect("the source of a stream");
                let encoding = source.spec.encodings.get(usize::from(stream.encoding));
                assert_eq!(encoding.map(|signalled| signalled.ssrc), Some(stream.ssrc));
            }
            for source in e.sender.sources.values() {
                if self.source_homes.get(&source.spec.id) == Some(&slot) {
                    let feed = source.feed.filter(|feed| self.feeds.contains_key(*feed));
                    assert_eq!(feed.as_ref(), self.feed_slots.get(&source.spec.id));
                }
            }
        }
        let mut feeds = 0;
        for (slot, feed) in &self.feeds {
            assert_eq!(self.feed_slots.get(&feed.info.spec.id), Some(&slot));
            let of =
                |s: &Subscriber| self.endpoints[s.receiver].receiver.streams[s.stream].wanted();
            let all = || feed.subscribers.values().map(of);
            assert_eq!(feed.wanted(), all().fold(0, |mask, wanted| mask | wanted.0));
            assert_eq!(feed.wanted(), feed.advertised_wanted);
            assert_eq!(feed.wanted.waiting as usize, all().filter(|wanted| wanted.1).count());
            let listed = self.waiting_feeds.iter().filter(|waiting| **waiting == slot).count();
            assert_eq!(listed, usize::from(feed.waits), "each once");
            assert!(feed.waits || !feed.is_waited_for());
            subscriptions -= feed.subscribers.len();
            feeds += 1;
        }
        assert_eq!((subscriptions, feeds), (0, self.feed_slots.len()));
        for (address, bound) in &self.addresses {
            let Some(slot) = bound.slot else { continue };
            let e = self.endpoints.get(slot).expect("the endpoint of an address");
            assert_eq!(e.id, bound.endpoint);
            assert!(e.addresses.contains(address));
        }
    }
}
