//! Where things are on a shard: keys that say what they lead to, and that lead nowhere once it is gone,
//! whatever has taken its place.

slotmap::new_key_type! {
    /// An endpoint on its home shard.
    pub struct EndpointSlot;
    /// A source with receivers on this shard.
    pub struct FeedSlot;
    /// A stream among those of a receiver.
    pub struct OutStreamSlot;
    /// A receiver among those of a source on this shard.
    pub struct SubscriberSlot;
    /// A source of a sender, at its home.
    pub struct SourceSlot;
    /// One encoding of it.
    pub struct StreamSlot;
}
