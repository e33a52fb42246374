//! How values cross between threads: control to shard, shard to shard. Everything is bounded or
//! lossless by need, and nothing ever makes a shard wait.
//!
//! | lane | what | when full |
//! | --- | --- | --- |
//! | control → shard | commands | kept in order behind a mutex that only control waits for |
//! | control → shard | datagrams of control | dropped, counted |
//! | shard → shard | batches, recycled | the batch stays with its sender and grows until its own bound |
#![expect(clippy::disallowed_types, reason = "what shards and control share")]
#![expect(clippy::arithmetic_side_effects, reason = "numbers of shards")]

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, AtomicU64, Ordering, fence},
    },
};

use crossbeam_queue::ArrayQueue;
use rialto_sys::EventFd;

/// Wakes a shard, with a system call only when it may be asleep.
#[derive(Debug)]
pub struct Waker {
    sleeping: AtomicBool,
    event: EventFd,
}

impl Waker {
    /// A waker of a shard that is awake.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self { sleeping: AtomicBool::new(false), event: EventFd::new()? })
    }

    /// What the shard polls beside its sockets.
    pub fn event(&self) -> &EventFd {
        &self.event
    }

    /// Called after something was put into one of the shard's lanes.
    pub fn wake(&self) {
        // Pairs with the fence of `prepare_sleep`: either the shard sees what was put in, or this
        // sees that it goes to sleep.
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::Relaxed) {
            self.event.signal();
        }
    }

    /// The shard is about to sleep. It must look into its lanes after this, and must not sleep if
    /// there is something.
    pub fn prepare_sleep(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The shard is awake; `signalled`: its event was ready.
    pub fn woke(&self, signalled: bool) {
        self.sleeping.store(false, Ordering::Relaxed);
        if signalled {
            self.event.reset();
        }
    }
}

/// A lane of commands. `capacity` of them pass without the shard touching a mutex.
pub fn command_lane<T>(
    capacity: usize,
    waker: Arc<Waker>,
) -> (CommandSender<T>, CommandReceiver<T>) {
    let lane = Arc::new(CommandLane {
        ring: ArrayQueue::new(capacity.max(1)),
        overflow: Mutex::new(VecDeque::new()),
        overflowed: AtomicBool::new(false),
        dropped: AtomicU64::new(0),
        closed: AtomicBool::new(false),
        waker,
    });
    (CommandSender(lane.clone()), CommandReceiver(lane))
}

#[derive(Debug)]
struct CommandLane<T> {
    ring: ArrayQueue<T>,
    /// What did not fit. While there is anything here, nothing is put into the ring, so that order is
    /// kept. Every sender holds this mutex.
    overflow: Mutex<VecDeque<T>>,
    /// Whether `overflow` may hold something: what the shard looks at.
    overflowed: AtomicBool,
    dropped: AtomicU64,
    closed: AtomicBool,
    waker: Arc<Waker>,
}

impl<T> CommandLane<T> {
    fn overflow(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.overflow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Control's end. Dropping it ends the shard.
#[derive(Debug)]
pub struct CommandSender<T>(Arc<CommandLane<T>>);

impl<T> CommandSender<T> {
    /// Sends a command that must not be lost.
    pub fn send(&self, command: T) {
        let mut overflow = self.0.overflow();
        let rest =
            if overflow.is_empty() { self.0.ring.push(command).err() } else { Some(command) };
        if let Some(command) = rest {
            overflow.push_back(command);
            self.0.overflowed.store(true, Ordering::Release);
        }
        drop(overflow);
        self.0.waker.wake();
    }

    /// Sends something that may be lost: when the ring is full, it is dropped and counted.
    pub fn send_or_drop(&self, command: T) {
        let overflow = self.0.overflow();
        let sent = overflow.is_empty() && self.0.ring.push(command).is_ok();
        drop(overflow);
        if sent {
            self.0.waker.wake();
        } else {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many were dropped.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

impl<T> Drop for CommandSender<T> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.waker.wake();
    }
}

/// The shard's end.
#[derive(Debug)]
pub struct CommandReceiver<T>(Arc<CommandLane<T>>);

impl<T> CommandReceiver<T> {
    /// The next command. `None` does not mean that there is none: a sender may hold the mutex. Ask
    /// [`is_empty`](Self::is_empty) before sleeping.
    pub fn recv(&self) -> Option<T> {
        let lane = &*self.0;
        let next = lane.ring.pop();
        if next.is_some() || !lane.overflowed.load(Ordering::Acquire) {
            return next;
        }
        let mut overflow = match lane.overflow.try_lock() {
            Ok(overflow) => overflow,
            Err(TryLockError::Poisoned(overflow)) => overflow.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        // Something may have come into the ring before the overflow began.
        let next = lane.ring.pop().or_else(|| overflow.pop_front());
        while !lane.ring.is_full()
            && let Some(command) = overflow.pop_front()
        {
            // Cannot fail: only holders of the mutex push.
            let _ = lane.ring.push(command);
        }
        lane.overflowed.store(!overflow.is_empty(), Ordering::Release);
        next
    }

    /// How many wait, without those that did not fit the ring.
    pub fn len(&self) -> usize {
        self.0.ring.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.ring.is_empty() && !self.0.overflowed.load(Ordering::Acquire)
    }

    /// Whether control has let go of the lane.
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }
}

/// A lane from one shard to another: boxes that hold a batch, and empty ones on their way back. There
/// are as many boxes as either queue has room for, so that neither is ever full.
#[derive(Debug)]
struct PeerLane<T> {
    full: ArrayQueue<Box<T>>,
    empty: ArrayQueue<Box<T>>,
}

/// A shard's lanes from and to all others.
#[derive(Debug)]
pub struct PeerPort<T> {
    /// To each shard; `None` to itself.
    outgoing: Vec<Option<Arc<PeerLane<T>>>>,
    /// From each shard.
    incoming: Vec<Option<Arc<PeerLane<T>>>>,
    wakers: Vec<Arc<Waker>>,
    /// Which lane is looked at first next time, so that none starves.
    next: usize,
}

/// The lanes between all shards: `depth` batches in each direction of each pair, made by `make(from)`
/// now and never again.
pub fn peer_ports<T>(
    wakers: &[Arc<Waker>],
    depth: usize,
    mut make: impl FnMut(usize) -> T,
) -> Vec<PeerPort<T>> {
    let shards = wakers.len();
    let mut lane = |from: usize, to: usize| {
        (from != to).then(|| {
            let lane = PeerLane {
                full: ArrayQueue::new(depth.max(1)),
                empty: ArrayQueue::new(depth.max(1)),
            };
            while lane.empty.push(Box::new(make(from))).is_ok() {}
            Arc::new(lane)
        })
    };
    let lanes: Vec<Vec<_>> =
        (0..shards).map(|from| (0..shards).map(|to| lane(from, to)).collect()).collect();
    let incoming = |to: usize| lanes.iter().map(|row| row.get(to).cloned().flatten()).collect();
    lanes
        .iter()
        .enumerate()
        .map(|(shard, outgoing)| PeerPort {
            outgoing: outgoing.clone(),
            incoming: incoming(shard),
            wakers: wakers.to_vec(),
            next: 0,
        })
        .collect()
}

impl<T> PeerPort<T> {
    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.outgoing.len()
    }

    /// An empty batch for shard `to`; `None` when the other side is behind by all of them, or `to` is
    /// this shard.
    pub fn spare(&self, to: usize) -> Option<Box<T>> {
        self.outgoing.get(to)?.as_ref()?.empty.pop()
    }

    /// Gives back a [`spare`](Self::spare) that was not needed.
    pub fn give_back(&self, to: usize, batch: Box<T>) {
        if let Some(Some(lane)) = self.outgoing.get(to) {
            let _ = lane.empty.push(batch);
        }
    }

    /// Sends a batch from [`spare`](Self::spare), and wakes the other shard.
    pub fn send(&self, to: usize, batch: Box<T>) {
        if let (Some(Some(lane)), Some(waker)) = (self.outgoing.get(to), self.wakers.get(to)) {
            let _ = lane.full.push(batch);
            waker.wake();
        }
    }

    /// The next batch that came, and from which shard.
    pub fn recv(&mut self) -> Option<(usize, Box<T>)> {
        let shards = self.incoming.len();
        for step in 0..shards {
            let from = (self.next + step) % shards;
            if let Some(Some(lane)) = self.incoming.get(from)
                && let Some(batch) = lane.full.pop()
            {
                self.next = from + 1;
                return Some((from, batch));
            }
        }
        None
    }

    /// Sends a batch that was dealt with (and emptied) back to its maker.
    pub fn recycle(&self, from: usize, batch: Box<T>) {
        if let Some(Some(lane)) = self.incoming.get(from) {
            let _ = lane.empty.push(batch);
        }
    }

    /// How many batches have come.
    pub fn len(&self) -> usize {
        self.incoming.iter().flatten().map(|lane| lane.full.len()).sum()
    }

    /// Whether nothing has come.
    pub fn is_empty(&self) -> bool {
        self.incoming.iter().flatten().all(|lane| lane.full.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, thread};

    use rialto_sys::{PollFd, poll};

    use super::*;

    fn waker() -> Arc<Waker> {
        Arc::new(Waker::new().unwrap())
    }

    fn is_signalled(waker: &Waker) -> bool {
        poll(&mut [PollFd::new(waker.event())], Some(std::time::Duration::ZERO)).unwrap() == 1
    }

    #[test]
    fn commands_keep_their_order_through_an_overflow() {
        let (sender, receiver) = command_lane(4, waker());
        let mut expected = 0;
        for n in 0..100 {
            sender.send(n);
            // Take one now and then, so that ring and overflow are both in use.
            if n % 3 == 0 {
                assert_eq!(receiver.recv(), Some(expected));
                expected += 1;
            }
        }
        while let Some(command) = receiver.recv() {
            assert_eq!(command, expected);
            expected += 1;
        }
        assert_eq!(expected, 100);
        assert!(receiver.is_empty());
    }

    #[test]
    fn what_may_be_dropped_is_dropped_when_full_and_counted() {
        let (sender, receiver) = command_lane(2, waker());
        for n in 0..5 {
            sender.send_or_drop(n);
        }
        assert_eq!(sender.dropped(), 3);
        sender.send(9);
        sender.send_or_drop(10);
        assert_eq!(sender.dropped(), 4);
        assert_eq!([(); 4].map(|()| receiver.recv()), [Some(0), Some(1), Some(9), None]);
    }

    #[test]
    fn a_closed_lane_is_told_and_wakes() {
        let waker = waker();
        let (sender, receiver) = command_lane::<()>(2, waker.clone());
        waker.prepare_sleep();
        assert!(!receiver.is_closed() && !is_signalled(&waker));
        drop(sender);
        assert!(receiver.is_closed() && is_signalled(&waker));
    }

    #[test]
    fn only_a_sleeper_is_signalled_and_once() {
        let waker = waker();
        waker.wake();
        assert!(!is_signalled(&waker), "awake");
        waker.prepare_sleep();
        waker.wake();
        assert!(is_signalled(&waker));
        waker.woke(true);
        waker.wake();
        assert!(!is_signalled(&waker));
    }

    #[test]
    fn commands_of_a_busy_sender_reach_a_sleeping_shard() {
        const COMMANDS: u32 = 100_000;
        let waker = waker();
        let (sender, receiver) = command_lane(16, waker.clone());
        let control = thread::spawn(move || {
            for n in 0..COMMANDS {
                sender.send(n);
                if n % 1000 == 0 {
                    thread::yield_now();
                }
            }
        });
        let mut expected = 0;
        let mut fds = [PollFd::new(waker.event())];
        while !(receiver.is_closed() && receiver.is_empty()) {
            while let Some(command) = receiver.recv() {
                assert_eq!(command, expected);
                expected += 1;
            }
            waker.prepare_sleep();
            if receiver.is_empty() && !receiver.is_closed() {
                // No limit: a lost wake-up would hang here.
                poll(&mut fds, None).unwrap();
                waker.woke(fds[0].is_ready());
            }
        }
        control.join().unwrap();
        assert_eq!(expected, COMMANDS);
    }

    #[test]
    fn batches_go_round_and_are_never_more_than_made() {
        let wakers: Vec<_> = (0..3).map(|_| waker()).collect();
        let mut ports = peer_ports(&wakers, 2, |from| vec![from]);
        assert!(ports[0].spare(0).is_none(), "none to itself");
        assert!(ports[0].spare(3).is_none(), "no such shard");
        wakers[1].prepare_sleep();
        let mut addresses = Vec::new();
        for _ in 0..10 {
            let [a, b] = [(); 2].map(|()| ports[0].spare(1).unwrap());
            assert!(ports[0].spare(1).is_none(), "both are under way");
            addresses.extend([&raw const *a, &raw const *b]);
            ports[0].send(1, a);
            ports[0].give_back(1, b);
            let c = ports[2].spare(1).unwrap();
            ports[2].send(1, c);
            let mut came = BTreeMap::new();
            while let Some((from, batch)) = ports[1].recv() {
                came.insert(from, batch[0]);
                ports[1].recycle(from, batch);
            }
            assert_eq!(came, BTreeMap::from([(0, 0), (2, 2)]));
            assert!(ports[1].is_empty());
        }
        assert!(is_signalled(&wakers[1]));
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), 2, "the same two boxes all the time");
    }

    #[test]
    fn no_incoming_lane_starves() {
        let wakers: Vec<_> = (0..3).map(|_| waker()).collect();
        let mut ports = peer_ports(&wakers, 4, |from| from);
        for from in [0, 2] {
            for _ in 0..3 {
                let batch = ports[from].spare(1).unwrap();
                ports[from].send(1, batch);
            }
        }
        let order: Vec<_> = std::iter::from_fn(|| ports[1].recv()).map(|(from, _)| from).collect();
        assert_eq!(order, [0, 2, 0, 2, 0, 2]);
    }
}
