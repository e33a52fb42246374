//! An engine that is played: it knows who receives what, and tells of it as shards do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rialto_engine::{
    Allocation, Control, EndpointSnapshot, MediaEvent, Reason, ShardSnapshot, SourceAllocation,
    SourceSnapshot, SubscriptionSnapshot,
};
use rialto_media::{EndpointId, MediaType, SourceId};
use tokio::sync::mpsc;

const SHARDS: u16 = 2;
/// Between two tellings of audio levels.
const LEVELS: Duration = Duration::from_millis(100);
/// Ticks of levels until the next snapshot, and until a receiver of many videos is decided for anew.
const SNAPSHOT: u64 = 10;
const ALLOCATION: u64 = 10;
/// Of so many endpoints one speaks.
const SPEAKS: u32 = 3;

/// What was told.
#[derive(Default)]
struct Played {
    endpoints: BTreeMap<EndpointId, Endpoint>,
}

#[derive(Default)]
struct Endpoint {
    audio: Option<SourceId>,
    videos: Vec<SourceId>,
    receives: BTreeSet<SourceId>,
    wishes: Vec<SourceId>,
}

impl Played {
    fn told(&mut self, control: Control) {
        let endpoints = &mut self.endpoints;
        match control {
            Control::AddEndpoint(id, _) => drop(endpoints.insert(id, Endpoint::default())),
            Control::RemoveEndpoint(id) => drop(endpoints.remove(&id)),
            Control::SetSources(id, specs) => {
                let Some(endpoint) = endpoints.get_mut(&id) else { return };
                let of = |media| specs.iter().filter(move |s| s.media == media).map(|s| s.id);
                endpoint.audio = of(MediaType::Audio).next();
                endpoint.videos = of(MediaType::Video).collect();
            }
            Control::Subscribe { receiver, source, .. } => {
                endpoints.entry(receiver).or_default().receives.insert(source);
            }
            Control::Unsubscribe { receiver, source } => {
                endpoints.entry(receiver).or_default().receives.remove(&source);
            }
            Control::SetAllocation { receiver, wishes } => {
                let wanted = wishes.sources.iter().map(|wish| wish.source);
                endpoints.entry(receiver).or_default().wishes = wanted.collect();
            }
            _ => {}
        }
    }

    /// Levels of who speaks.
    fn levels(&self, tick: u64) -> Vec<MediaEvent> {
        let endpoints = &self.endpoints;
        let speakers = endpoints.iter().filter(|(id, _)| id.0 % SPEAKS == 0);
        let level = |(id, endpoint): (&EndpointId, &Endpoint)| {
            let level = if (u64::from(id.0) + tick).is_multiple_of(7) { 90 } else { 30 };
            Some(MediaEvent::AudioLevel { endpoint: *id, source: endpoint.audio?, level })
        };
        speakers.filter_map(level).collect()
    }

    /// What is decided for receivers, of whom a tenth is due.
    fn allocations(&self, tick: u64) -> Vec<MediaEvent> {
        let endpoints = &self.endpoints;
        let due = endpoints.iter().filter(|(id, endpoint)| {
            u64::from(id.0) % ALLOCATION == tick % ALLOCATION && endpoint.wishes.len() > 2
        });
        let now = Instant::now();
        let decided = |source: &SourceId| SourceAllocation {
            source: *source,
            wanted: None,
            wanted_height: Some(720),
            target: None,
            target_height: Some(180),
            sent: None,
            reason: Reason::Link,
            since: now,
        };
        let allocation = |(id, endpoint): (&EndpointId, &Endpoint)| {
            MediaEvent::Allocated(Box::new(Allocation {
                receiver: *id,
                estimate_bps: Some(2_000_000 + 1_000 * (tick % 100)),
                target_bps: 1_900_000,
                ideal_bps: 5_000_000,
                oversend_bps: 0,
                suspended: 0,
                sources: endpoint.wishes.iter().map(decided).collect(),
            }))
        };
        due.map(allocation).collect()
    }

    fn snapshot(&self, shard: u16) -> MediaEvent {
        let endpoints = &self.endpoints;
        let here = endpoints.iter().filter(|(id, _)| id.0 % u32::from(SHARDS) == u32::from(shard));
        let now = Instant::now();
        let measured = |(id, endpoint): (&EndpointId, &Endpoint)| EndpointSnapshot {
            endpoint: *id,
            last_received: Some(now),
            receive_bps: 1_500_000,
            send_bps: 2_000_000,
            receive_pps: 200,
            send_pps: 300,
            receive_loss: 0.0,
            send_loss: 0.0,
            rtt: Some(Duration::from_millis(40)),
            received: (1, 1),
            sent: (1, 1),
            sources: endpoint.videos.iter().chain(&endpoint.audio).copied().map(source).collect(),
            subscriptions: endpoint.receives.iter().copied().map(subscription).collect(),
        };
        MediaEvent::Snapshot(Box::new(ShardSnapshot {
            shard,
            endpoints: here.map(measured).collect(),
            ..ShardSnapshot::default()
        }))
    }
}

fn source(source: SourceId) -> SourceSnapshot {
    SourceSnapshot { source, encoding_bps: vec![1; 3], encoding_height: vec![Some(180); 3] }
}

fn subscription(source: SourceId) -> SubscriptionSnapshot {
    SubscriptionSnapshot {
        source,
        current: Some(0),
        target: Some(0),
        bps: 100_000,
        packets: 1,
        retransmissions: 0,
    }
}

/// A thread that tells the bridge what happens, as time goes on.
pub(super) struct Clock {
    thread: JoinHandle<(u64, u64)>,
    begun: Arc<AtomicBool>,
    end: Arc<AtomicBool>,
}

impl Clock {
    /// `told`: commands for the engine. Nothing is told by it before [`Clock::begin`].
    pub(super) fn start(told: Receiver<Control>, media: mpsc::Sender<MediaEvent>) -> Self {
        let (begun, end) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (begins, ends) = (begun.clone(), end.clone());
        Self { thread: thread::spawn(move || play(&told, &media, &begins, &ends)), begun, end }
    }

    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// How many events there were, and how many of them found no room.
    pub(super) fn stop(self) -> (u64, u64) {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic")
    }
}

fn play(
    told: &Receiver<Control>,
    media: &mpsc::Sender<MediaEvent>,
    begun: &AtomicBool,
    ended: &AtomicBool,
) -> (u64, u64) {
    let mut played = Played::default();
    let (mut sent, mut dropped) = (0, 0);
    let mut next = Instant::now();
    for tick in 0.. {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        next += LEVELS;
        if ended.load(Ordering::Relaxed) {
            break;
        }
        for control in told.try_iter() {
            played.told(control);
        }
        if !begun.load(Ordering::Relaxed) {
            continue;
        }
        let mut events = played.levels(tick);
        events.extend(played.allocations(tick));
        let due =
            (0..SHARDS).filter(|shard| (tick + 5 * u64::from(*shard)).is_multiple_of(SNAPSHOT));
        events.extend(due.map(|shard| played.snapshot(shard)));
        for event in events {
            sent += 1;
            dropped += u64::from(media.try_send(event).is_err());
        }
    }
    (sent, dropped)
}
