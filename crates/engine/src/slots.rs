//! Keys of the slot maps of a shard. Each kind of entry has its own key type, and a key is invalid
//! once its entry is gone, even if another entry took its place.

slotmap::new_key_type! {
    /// An endpoint on its home shard.
    pub struct EndpointSlot;
    /// A source that has receivers on this shard.
    pub struct FeedSlot;
    /// An outgoing stream of a receiver.
    pub struct OutStreamSlot;
    /// A receiver of a source on this shard.
    pub struct SubscriberSlot;
    /// A source of a sender, on the sender's home.
    pub struct SourceSlot;
    /// An encoding of a source, on the sender's home.
    pub struct StreamSlot;
}
