//! The send buffer of a shard. Datagrams are sealed into it in place, and a list of messages
//! describes them for the send call. Consecutive datagrams of equal size for one destination become
//! one message with segmentation offload (`UDP_SEGMENT`).
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "lengths of one buffer, each checked against it"
)]

pub use rialto_sys::Message;

use crate::dest::Dest;

/// The kernel refuses more segments than this in one message (`UDP_MAX_SEGMENTS` of Linux 4.18; newer
/// kernels take 128).
pub const MAX_SEGMENTS: usize = 64;

/// Most bytes in one message: 65,535 less the IP and UDP headers, rounded down.
pub const MAX_MESSAGE: usize = 65_000;

/// A send buffer of fixed size and its messages. Never allocates after creation.
///
/// [`reserve`](Self::reserve) returns room for one datagram, [`commit`](Self::commit) sets how much
/// of it was used. Order is kept within each socket.
#[derive(Debug)]
pub struct SendArena {
    buffer: Box<[u8]>,
    used: usize,
    /// Messages of each socket, in order.
    lanes: Box<[Vec<Message>]>,
    max_messages: usize,
    datagrams: usize,
    coalesce: bool,
    pending: Option<Pending>,
    run: Option<Run>,
}

/// A reservation that was not committed yet.
#[derive(Debug)]
struct Pending {
    dest: Dest,
    max_len: usize,
}

/// The message that the next datagram may join: the last one of `dest.socket`'s lane.
#[derive(Debug)]
struct Run {
    dest: Dest,
    segments: usize,
    /// Length of all segments so far.
    segment_len: usize,
}

impl SendArena {
    /// Creates an arena with `capacity` bytes, `max_messages` messages per socket, and a list of
    /// messages for each of `sockets` sockets (at least one).
    pub fn new(capacity: usize, max_messages: usize, sockets: usize) -> Self {
        Self {
            buffer: vec![0; capacity].into_boxed_slice(),
            used: 0,
            lanes: (0..sockets.max(1)).map(|_| Vec::with_capacity(max_messages)).collect(),
            max_messages,
            datagrams: 0,
            coalesce: true,
            pending: None,
            run: None,
        }
    }

    /// Sets whether datagrams of equal size are joined (the default). To be switched off where the
    /// kernel refuses GSO.
    pub fn set_coalesce(&mut self, coalesce: bool) {
        self.coalesce = coalesce;
        self.run = None;
    }

    /// Returns room for a datagram of up to `max_len` bytes, or `None` when the arena is full or
    /// `dest.socket` does not exist. Discards an earlier reservation that was not committed.
    ///
    /// The bytes are not cleared.
    pub fn reserve(&mut self, dest: Dest, max_len: usize) -> Option<&mut [u8]> {
        self.pending = None;
        let lane = self.lanes.get(usize::from(dest.socket))?;
        if lane.len() >= self.max_messages || max_len > MAX_MESSAGE {
            return None;
        }
        let end = self.used.checked_add(max_len)?;
        let room = self.buffer.get_mut(self.used..end)?;
        self.pending = Some(Pending { dest, max_len });
        Some(room)
    }

    /// Makes the first `len` bytes of the reservation a datagram. A `len` of 0 discards the
    /// reservation; a `len` beyond the reservation is cut to it. Does nothing without a
    /// reservation.
    pub fn commit(&mut self, len: usize) {
        let Some(Pending { dest, max_len }) = self.pending.take() else { return };
        let len = len.min(max_len);
        let Some(lane) = self.lanes.get_mut(usize::from(dest.socket)) else { return };
        if len == 0 {
            return;
        }
        let start = self.used;
        self.used += len;
        self.datagrams += 1;
        if let Some(run) = &mut self.run
            && run.takes(&dest, len)
            && let Some(last) = lane.last_mut()
        {
            last.len += len;
            last.segment_size = run.segment_len as u16;
            run.segments += 1;
            if len < run.segment_len {
                self.run = None;
            }
            return;
        }
        lane.push(Message {
            remote: dest.remote,
            local_ip: dest.local_ip,
            start,
            len,
            segment_size: 0,
        });
        self.run = self.coalesce.then_some(Run { dest, segments: 1, segment_len: len });
    }

    /// Returns whether a datagram of `max_len` bytes would be refused, whatever its destination.
    pub fn is_full(&self, max_len: usize) -> bool {
        self.buffer.len() - self.used < max_len
            || self.lanes.iter().any(|lane| lane.len() >= self.max_messages)
    }

    /// Returns whether nothing waits to be sent.
    pub fn is_empty(&self) -> bool {
        self.datagrams == 0
    }

    /// Datagrams committed since the last [`clear`](Self::clear).
    pub fn datagrams(&self) -> usize {
        self.datagrams
    }

    /// Committed bytes since the last [`clear`](Self::clear).
    pub fn bytes_used(&self) -> usize {
        self.used
    }

    /// The committed bytes, which [`Message::start`] and [`Message::len`] refer to.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.used).unwrap_or_default()
    }

    /// Number of sockets.
    pub fn sockets(&self) -> usize {
        self.lanes.len()
    }

    /// The messages to be sent on one socket, in order.
    pub fn messages(&self, socket: usize) -> &[Message] {
        self.lanes.get(socket).map_or(&[], Vec::as_slice)
    }

    /// Every datagram with its destination, socket by socket. A simulated network sends these.
    pub fn iter(&self) -> impl Iterator<Item = (Dest, &[u8])> {
        self.lanes.iter().enumerate().flat_map(move |(socket, lane)| {
            lane.iter().flat_map(move |message| {
                let dest = Dest {
                    remote: message.remote,
                    local_ip: message.local_ip,
                    socket: socket as u8,
                };
                message.segments(&self.buffer).map(move |bytes| (dest, bytes))
            })
        })
    }

    /// Discards all datagrams and messages.
    pub fn clear(&mut self) {
        self.used = 0;
        self.datagrams = 0;
        self.pending = None;
        self.run = None;
        for lane in &mut self.lanes {
            lane.clear();
        }
    }
}

impl Run {
    /// Returns whether a datagram of `len` bytes to `dest` may become the next segment.
    fn takes(&self, dest: &Dest, len: usize) -> bool {
        len <= self.segment_len
            && self.segments < MAX_SEGMENTS
            && self.segments * self.segment_len + len <= MAX_MESSAGE
            && self.dest == *dest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dest(port: u16, socket: u8) -> Dest {
        Dest { remote: ([127, 0, 0, 1], port).into(), local_ip: None, socket }
    }

    fn put(arena: &mut SendArena, dest: Dest, bytes: &[u8]) -> bool {
        let Some(room) = arena.reserve(dest, bytes.len() + 10) else { return false };
        room[..bytes.len()].copy_from_slice(bytes);
        arena.commit(bytes.len());
        true
    }

    fn shape(arena: &SendArena) -> Vec<(u16, usize, u16)> {
        arena.messages(0).iter().map(|m| (m.remote.port(), m.len, m.segment_size)).collect()
    }

    #[test]
    fn equal_neighbours_share_a_message_and_a_short_one_closes_it() {
        let mut arena = SendArena::new(10_000, 100, 1);
        for (port, len) in [(1, 100), (1, 100), (1, 60), (1, 100), (1, 101), (2, 101), (1, 50)] {
            assert!(put(&mut arena, dest(port, 0), &vec![7; len]));
        }
        assert_eq!(
            shape(&arena),
            [(1, 260, 100), (1, 100, 0), (1, 101, 0), (2, 101, 0), (1, 50, 0)]
        );
        assert_eq!(arena.datagrams(), 7);
    }

    #[test]
    fn a_message_has_at_most_64_segments_and_65000_bytes() {
        let mut arena = SendArena::new(400_000, 100, 1);
        for _ in 0..65 {
            put(&mut arena, dest(1, 0), &[1; 20]);
        }
        for _ in 0..60 {
            put(&mut arena, dest(2, 0), &[1; 1200]);
        }
        assert_eq!(shape(&arena), [(1, 1280, 20), (1, 20, 0), (2, 64_800, 1200), (2, 7200, 1200)]);
    }

    #[test]
    fn without_coalescing_each_datagram_is_a_message() {
        let mut arena = SendArena::new(10_000, 100, 1);
        arena.set_coalesce(false);
        put(&mut arena, dest(1, 0), &[1; 20]);
        put(&mut arena, dest(1, 0), &[1; 20]);
        assert_eq!(shape(&arena), [(1, 20, 0), (1, 20, 0)]);
    }

    #[test]
    fn full_in_bytes_or_messages_is_told() {
        let mut arena = SendArena::new(100, 2, 2);
        assert!(arena.reserve(dest(1, 0), 101).is_none());
        assert!(arena.reserve(dest(1, 2), 10).is_none(), "no such socket");
        assert!(arena.reserve(dest(1, 0), 100).is_some());
        arena.commit(0);
        assert!(arena.is_empty() && !arena.is_full(100));
        put(&mut arena, dest(1, 0), &[0; 10]);
        put(&mut arena, dest(2, 0), &[0; 10]);
        assert!(arena.is_full(1));
        assert!(arena.reserve(dest(1, 0), 1).is_none());
        assert!(arena.reserve(dest(1, 1), 1).is_some(), "the other socket has room");
        arena.clear();
        assert!(!arena.is_full(100));
    }

    #[test]
    fn a_commit_beyond_the_reservation_is_cut() {
        let mut arena = SendArena::new(100, 2, 1);
        arena.commit(5);
        assert!(arena.is_empty());
        arena.reserve(dest(1, 0), 10);
        arena.commit(11);
        arena.commit(5);
        assert_eq!(shape(&arena), [(1, 10, 0)]);
    }

    proptest! {
        /// The messages describe exactly the committed datagrams, in order per socket; they obey
        /// the kernel's limits; nothing reallocates.
        #[test]
        fn messages_describe_what_was_committed(
            puts in prop::collection::vec((1u16..4, 0u8..3, prop_oneof![0usize..1300, Just(1000), Just(20)]), 0..400),
            coalesce: bool,
        ) {
            let mut arena = SendArena::new(128 << 10, 150, 3);
            arena.set_coalesce(coalesce);
            let base = arena.buffer.as_ptr();
            let mut expected = vec![Vec::new(); 3];
            for (i, (port, socket, len)) in puts.into_iter().enumerate() {
                let bytes: Vec<u8> = (0..len).map(|at| (at ^ i) as u8).collect();
                if put(&mut arena, dest(port, socket), &bytes) && len > 0 {
                    expected[usize::from(socket)].push((dest(port, socket), bytes));
                }
            }
            for (socket, messages) in (0..3).map(|s| (s, arena.messages(s))) {
                prop_assert!(messages.len() <= 150);
                for m in messages {
                    let segment = usize::from(m.segment_size);
                    prop_assert!(m.len <= MAX_MESSAGE);
                    prop_assert!(segment == 0 || (coalesce && m.len.div_ceil(segment) <= MAX_SEGMENTS));
                    prop_assert!(m.len > segment, "a run of one needs no segmentation, socket {}", socket);
                }
            }
            let committed: Vec<_> = arena.iter().map(|(d, b)| (d, b.to_vec())).collect();
            prop_assert_eq!(committed.len(), arena.datagrams());
            prop_assert_eq!(committed, expected.concat());
            prop_assert_eq!(base, arena.buffer.as_ptr());
            arena.clear();
            prop_assert_eq!(arena.iter().count(), 0);
        }
    }
}
