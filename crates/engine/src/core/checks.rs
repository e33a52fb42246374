//! What is written down twice in a core says the same: for tests and fuzz targets.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    reason = "it panics when an invariant is broken"
)]

use super::Core;

impl Core {
    /// Panics when something that is written down twice does not say the same.
    pub(crate) fn assert_consistent(&self) {
        let mut subscriptions = 0;
        for (slot, e) in &self.endpoints {
            assert_eq!(self.endpoint_slots.get(&e.id), Some(&slot));
            assert_eq!(e.receiver.by_ssrc.len(), e.subscriptions.len());
            for r in e.subscriptions.iter() {
                let feed = self.feeds.get(r.feed).expect("the feed of a subscription");
                let s = feed.subscriptions.get(r.at.index()).expect("a subscription's place");
                assert_eq!((feed.info.spec.id, s.receiver), (r.source, slot));
                assert_eq!(e.receiver.by_ssrc.get(&s.ssrc), Some(&r));
                subscriptions += 1;
            }
            for source in &e.sender.sources {
                if self.source_homes.get(&source.spec.id) == Some(&slot) {
                    let feed = source.feed.filter(|feed| self.feeds.contains_key(*feed));
                    assert_eq!(feed.as_ref(), self.feed_slots.get(&source.spec.id));
                }
            }
        }
        let mut feeds = 0;
        for (slot, feed) in &self.feeds {
            assert_eq!(self.feed_slots.get(&feed.info.spec.id), Some(&slot));
            assert_eq!(feed.wanted(), feed.told_wanted);
            subscriptions -= feed.subscriptions.len();
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
