//! Queues between threads: from control to a shard, and from shard to shard. Each is bounded, or
//! lossless where loss is not allowed, and none ever blocks a shard.
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

/// Wakes a shard, with a system call only if it may be asleep.
#[derive(Debug)]
pub struct Waker {
    sleeping: AtomicBool,
    event: EventFd,
}

impl Waker {
    /// Creates a waker for a shard that is awake.
    ///
    /// # Errors
    /// The process is out of file descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self { sleeping: AtomicBool::new(false), event: EventFd::new()? })
    }

    /// The event that the shard polls along with its sockets.
    pub fn event(&self) -> &EventFd {
        &self.event
    }

    /// To be called after something was put into one of the shard's lanes.
    pub fn wake(&self) {
        // Pairs with the fence in `prepare_sleep`: either the shard sees what was put in, or this
        // call sees that the shard goes to sleep.
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::Relaxed) {
            self.event.signal();
        }
    }

    /// Marks the shard as about to sleep. The shard must check its lanes after this call, and must
    /// not sleep if one has content.
    pub fn prepare_sleep(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Marks the shard as awake. `signalled`: its event was ready.
    pub fn woke(&self, signalled: bool) {
        self.sleeping.store(false, Ordering::Relaxed);
        if signalled {
            self.event.reset();
        }
    }
}

/// Creates a lane of commands. Up to `capacity` commands pass without the shard locking a mutex.
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
    /// Commands that did not fit. While this has content, nothing enters the ring, so that order is
    /// kept. Every sender holds this mutex.
    overflow: Mutex<VecDeque<T>>,
    /// Whether `overflow` may have content. The shard reads this instead of locking.
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

/// Control's end of the lane. Dropping it ends the shard.
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

    /// Sends a command that may be lost: when the ring is full, it is dropped and counted.
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

    /// Number of commands dropped.
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

/// The shard's end of the lane.
#[derive(Debug)]
pub struct CommandReceiver<T>(Arc<CommandLane<T>>);

impl<T> CommandReceiver<T> {
    /// Returns the next command. `None` does not prove that the lane is empty, since a sender may
    /// hold the mutex; check [`is_empty`](Self::is_empty) before sleeping.
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
        // A command may have entered the ring before the overflow began.
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

    /// Number of commands in the ring, not counting the overflow.
    pub fn len(&self) -> usize {
        self.0.ring.len()
    }

    /// Returns whether no command waits.
    pub fn is_empty(&self) -> bool {
        self.0.ring.is_empty() && !self.0.overflowed.load(Ordering::Acquire)
    }

    /// Returns whether control has dropped its end.
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }
}

/// A lane from one shard to another: boxes that hold a batch, and empty boxes on their way back.
/// There are as many boxes as either queue holds, so neither is ever full.
#[derive(Debug)]
struct PeerLane<T> {
    full: ArrayQueue<Box<T>>,
    empty: ArrayQueue<Box<T>>,
}

/// A shard's lanes to and from all others.
#[derive(Debug)]
pub struct PeerPort<T> {
    /// To each shard; `None` for itself.
    outgoing: Vec<Option<Arc<PeerLane<T>>>>,
    /// From each shard.
    incoming: Vec<Option<Arc<PeerLane<T>>>>,
    wakers: Vec<Arc<Waker>>,
    /// The lane to read first next time, so that none starves.
    next: usize,
}

/// Creates the lanes between all shards, with `depth` batches for each direction of each pair.
/// `make(from)` makes the batches now; none is allocated later.
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
    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.outgoing.len()
    }

    /// Returns an empty batch for shard `to`, or `None` if that shard still holds all of them or is
    /// this shard.
    pub fn spare(&self, to: usize) -> Option<Box<T>> {
        self.outgoing.get(to)?.as_ref()?.empty.pop()
    }

    /// Returns a [`spare`](Self::spare) batch that was not needed.
    pub fn give_back(&self, to: usize, batch: Box<T>) {
        if let Some(Some(lane)) = self.outgoing.get(to) {
            let _ = lane.empty.push(batch);
        }
    }

    /// Sends a batch obtained from [`spare`](Self::spare), and wakes the other shard.
    pub fn send(&self, to: usize, batch: Box<T>) {
        if let (Some(Some(lane)), Some(waker)) = (self.outgoing.get(to), self.wakers.get(to)) {
            let _ = lane.full.push(batch);
            waker.wake();
        }
    }

    /// Returns the next batch that arrived, and the shard that sent it.
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

    /// Returns a processed and emptied batch to the shard that made it.
    pub fn recycle(&self, from: usize, batch: Box<T>) {
        if let Some(Some(lane)) = self.incoming.get(from) {
            let _ = lane.empty.push(batch);
        }
    }

    /// Number of batches that arrived.
    pub fn len(&self) -> usize {
        self.incoming.iter().flatten().map(|lane| lane.full.len()).sum()
    }

    /// Returns whether no batch arrived.
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
            // Receive one now and then, so that both ring and overflow are in use.
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
                // No time limit: a lost wake-up would hang here.
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
