//! The engine's send arena, emptied where a socket would send.

use rialto_engine::{arena::SendArena, core::Outbox, dest::Dest};

/// As large as the engine's.
const BYTES: usize = 256 << 10;
const MESSAGES: usize = 512;

/// See the module's description.
pub(crate) struct Drained {
    arena: SendArena,
    /// Datagrams that have left.
    pub(crate) datagrams: u64,
    /// In so many messages.
    pub(crate) messages: u64,
}

impl Drained {
    pub(crate) fn new() -> Self {
        Self { arena: SendArena::new(BYTES, MESSAGES, 1), datagrams: 0, messages: 0 }
    }

    /// Sends everything to nowhere.
    pub(crate) fn empty(&mut self) {
        self.datagrams += self.arena.datagrams() as u64;
        self.messages += self.arena.messages(0).len() as u64;
        self.arena.clear();
    }
}

impl Outbox for Drained {
    fn reserve(&mut self, dest: &Dest, max_len: usize) -> Option<&mut [u8]> {
        if self.arena.is_full(max_len) {
            self.empty();
        }
        self.arena.reserve(*dest, max_len)
    }

    fn commit(&mut self, len: usize) {
        self.arena.commit(len);
    }
}
