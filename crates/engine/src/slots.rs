//! Where things are on a shard: keys that say what they lead to, and that lead nowhere once it is gone,
//! whatever has taken its place.

slotmap::new_key_type! {
    /// An endpoint on its home shard.
    pub struct EndpointSlot;
    /// A source with receivers on this shard.
    pub struct FeedSlot;
    /// A source of a sender, at its home.
    pub struct SourceSlot;
    /// One encoding of it.
    pub struct StreamSlot;
}

/// A receiver's place among those of a feed. It changes when another leaves; the list of the receiving
/// endpoint follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place(u32);

impl Place {
    /// The place at an index.
    pub fn new(index: usize) -> Self {
        Self(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// The index.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
