//! Carries packets from one end of the link to the other, in real time.

use std::{
    io,
    sync::{Arc, mpsc},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rialto_sys::{EventFd, PollFd, Tun, poll, set_timer_slack};

use super::{
    counts::Report,
    host::Ends,
    model::Link,
    settings::{Changes, Schedule, Settings},
};

/// Most packets read from one end before the other end is served.
const BATCH: usize = 64;

/// The longest IP packet.
const LONGEST: usize = 65_535;

/// An order to the carrying thread.
#[derive(Debug)]
pub enum Order {
    /// Changes the link's settings.
    Change(Box<Changes>),
    /// Stops it.
    Stop,
}

/// Sends orders to the carrying thread.
#[derive(Clone, Debug)]
pub struct Orders {
    sender: mpsc::Sender<Order>,
    wake: Arc<EventFd>,
}

impl Orders {
    /// Sends an order, unless the thread has ended.
    pub fn tell(&self, order: Order) {
        let _ = self.sender.send(order);
        self.wake.signal();
    }
}

/// Receives the counts of each direction for each interval.
pub type Watch = Box<dyn FnMut(Report) + Send>;

/// Carries packets in a thread of its own.
pub struct Carrier {
    ends: Ends,
    down: Link<Box<[u8]>>,
    up: Link<Box<[u8]>>,
    schedule: Schedule,
    orders: mpsc::Receiver<Order>,
    wake: Arc<EventFd>,
    watch: Watch,
    interval: Duration,
    start: Instant,
    next_report: Duration,
    buffer: Vec<u8>,
}

impl Carrier {
    /// Creates an empty link, whose schedule begins now.
    ///
    /// # Errors
    /// The process is out of file descriptors.
    pub fn new(
        ends: Ends,
        (down, up): (Settings, Settings),
        schedule: Schedule,
        seed: u64,
        interval: Duration,
        watch: Watch,
    ) -> io::Result<(Self, Orders)> {
        let wake = Arc::new(EventFd::new()?);
        let (sender, orders) = mpsc::channel();
        let carrier = Self {
            ends,
            down: Link::new(down, seed),
            // Another seed, or both directions would lose the same packets.
            up: Link::new(up, seed.wrapping_mul(31).wrapping_add(1)),
            schedule,
            orders,
            wake: wake.clone(),
            watch,
            interval,
            start: Instant::now(),
            next_report: interval,
            buffer: vec![0; LONGEST],
        };
        Ok((carrier, Orders { sender, wake }))
    }

    /// Carries packets until an order to stop.
    ///
    /// # Errors
    /// A device is gone.
    pub fn run(mut self) -> io::Result<()> {
        // 50 µs, the kernel's default, are three packets at 100 Mbit/s.
        set_timer_slack(Duration::from_nanos(1))?;
        loop {
            if self.take_orders() {
                self.report();
                return Ok(());
            }
            self.follow_schedule();
            let now = self.start.elapsed();
            let more = take_in(&self.ends.host, &mut self.down, now, &mut self.buffer)?
                | take_in(&self.ends.inside, &mut self.up, now, &mut self.buffer)?;
            let now = self.start.elapsed();
            hand_out(&mut self.down, &self.ends.inside, now);
            hand_out(&mut self.up, &self.ends.host, now);
            if now >= self.next_report {
                self.report();
                self.next_report += self.interval;
            }
            if !more {
                self.wait()?;
            }
        }
    }

    /// Executes the orders. Returns whether to stop.
    fn take_orders(&mut self) -> bool {
        self.wake.reset();
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Change(changes) => self.change(self.start.elapsed(), &changes),
                Order::Stop => return true,
            }
        }
        false
    }

    fn follow_schedule(&mut self) {
        while self.schedule.0.first().is_some_and(|(at, _)| *at <= self.start.elapsed()) {
            let (at, changes) = self.schedule.0.remove(0);
            self.change(at, &changes);
        }
    }

    fn change(&mut self, at: Duration, changes: &Changes) {
        for (link, change) in [(&mut self.down, &changes.down), (&mut self.up, &changes.up)] {
            let mut settings = link.settings().clone();
            change.apply(&mut settings);
            link.set(at, settings);
        }
    }

    /// Reports the counts of both directions since the last time.
    fn report(&mut self) {
        let at = self.start.elapsed();
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        for (link, direction) in [(&mut self.down, "down"), (&mut self.up, "up")] {
            let counts = link.take_counts(at);
            let settings = link.settings().clone();
            (self.watch)(Report { time, at, direction, settings, counts });
        }
    }

    /// Waits for a packet, an order, or the next due time.
    fn wait(&self) -> io::Result<()> {
        let scheduled = self.schedule.0.first().map(|(at, _)| *at);
        let times = [self.down.next_time(), self.up.next_time(), scheduled];
        let next = times.into_iter().flatten().fold(self.next_report, Duration::min);
        let timeout = next.saturating_sub(self.start.elapsed());
        let mut fds = [
            PollFd::new(&self.ends.host),
            PollFd::new(&self.ends.inside),
            PollFd::new(&*self.wake),
        ];
        poll(&mut fds, Some(timeout)).map(drop)
    }
}

/// Reads packets from one end. Returns whether there may be more.
fn take_in(
    tun: &Tun,
    link: &mut Link<Box<[u8]>>,
    now: Duration,
    buffer: &mut [u8],
) -> io::Result<bool> {
    for _ in 0..BATCH {
        match tun.recv(buffer) {
            Ok(length) => {
                let packet = buffer.get(..length).unwrap_or_default();
                link.push(now, length, packet.into());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Delivers packets that have arrived at the other end. What the kernel does not accept is lost.
fn hand_out(link: &mut Link<Box<[u8]>>, tun: &Tun, now: Duration) {
    while let Some(packet) = link.pop(now) {
        let _ = tun.send(&packet);
    }
}
