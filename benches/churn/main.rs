//! The cost of changes on a shard, without media: a receiver that joins and leaves, a new source,
//! and a second of periodic work in a large meeting.
//!
//! Each join and leave should cost the same beside 50 others and beside 1,000. The longest single
//! piece of periodic work limits how long a packet waits for it.

#[expect(dead_code, reason = "the bench of the core measures packets, this one does not")]
#[path = "../core/call.rs"]
mod call;
#[path = "../rig.rs"]
mod rig;

use std::{sync::Arc, time::Duration};

use call::Call;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rialto_engine::{core::ShardCommand, egress::SourceInfo};
use rialto_media::{EndpointId, MediaParams, SourceId};
use rialto_sys::thread_cpu_time;
use rig::Sink as _;

const SENDERS: u32 = 10;

fn churn(c: &mut Criterion) {
    for receivers in [50, 200, 1_000] {
        let mut rig = Rig::new(receivers);
        let mut group = c.benchmark_group("churn/a receiver of 10 sources");
        group.bench_function(BenchmarkId::new("joins beside", receivers), |b| {
            b.iter_custom(|rounds| (0..rounds).map(|_| rig.join_and_leave().0).sum::<Duration>());
        });
        group.bench_function(BenchmarkId::new("leaves", receivers), |b| {
            b.iter_custom(|rounds| (0..rounds).map(|_| rig.join_and_leave().1).sum::<Duration>());
        });
        group.finish();
        let mut group = c.benchmark_group("churn/a source");
        group.throughput(Throughput::Elements(receivers.into()));
        group.bench_function(BenchmarkId::new("begins and ends for each of", receivers), |b| {
            b.iter_custom(|rounds| (0..rounds).map(|_| rig.begin_and_end()).sum::<Duration>());
        });
        group.finish();
    }
}

fn second(c: &mut Criterion) {
    const PEOPLE: u32 = 200;
    let mut call = Call::meeting(PEOPLE);
    let mut group = c.benchmark_group(format!("churn/{PEOPLE} all-to-all, no packets"));
    group.bench_function("a second", |b| {
        b.iter_custom(|rounds| (0..rounds).map(|_| a_second(&mut call).0).sum::<Duration>());
    });
    group.bench_function("its longest piece of work", |b| {
        b.iter_custom(|rounds| (0..rounds).map(|_| a_second(&mut call).1).sum::<Duration>());
    });
    group.finish();
}

/// The duration of a second's periodic work, and of its longest piece.
fn a_second(call: &mut Call) -> (Duration, Duration) {
    let end = call.now + Duration::from_secs(1);
    let (mut all, mut longest) = (Duration::ZERO, Duration::ZERO);
    while call.core.next_timeout() < end {
        call.now = call.core.next_timeout();
        let start = thread_cpu_time();
        call.core.on_timeout(call.now, &mut call.out);
        let time = thread_cpu_time().saturating_sub(start);
        (all, longest) = (all + time, longest.max(time));
        call.out.empty();
        call.core.events().for_each(drop);
    }
    call.now = end;
    (all, longest)
}

/// Senders, receivers that stay, and what is needed for one that comes and goes.
struct Rig {
    call: Call,
    media: Arc<MediaParams>,
    sources: Vec<Arc<SourceInfo>>,
    receivers: u32,
}

impl Rig {
    fn new(receivers: u32) -> Self {
        let media = Arc::new(call::media());
        let sources = (0..SENDERS).map(|id| call::source(id, &media)).collect();
        Self { call: Call::webinar(SENDERS, receivers), media, sources, receivers }
    }

    /// Durations of the join and of the leave.
    fn join_and_leave(&mut self) -> (Duration, Duration) {
        let newcomer = SENDERS + self.receivers;
        let start = thread_cpu_time();
        self.call.add_endpoint(newcomer, &self.media);
        for source in &self.sources {
            self.call.subscribe(newcomer, source);
        }
        let joined = thread_cpu_time();
        let (remote, endpoint) = (rig::remote(newcomer), EndpointId(newcomer));
        self.call.command(ShardCommand::Unbind { remote, endpoint });
        self.call.command(ShardCommand::RemoveEndpoint(endpoint));
        let left = thread_cpu_time();
        self.call.out.empty();
        (joined.saturating_sub(start), left.saturating_sub(joined))
    }

    /// Duration of giving a new source to everybody and taking it away.
    fn begin_and_end(&mut self) -> Duration {
        let id = SENDERS + self.receivers + 1;
        let source = call::source(id, &self.media);
        let start = thread_cpu_time();
        for receiver in SENDERS..SENDERS + self.receivers {
            self.call.subscribe(receiver, &source);
        }
        for receiver in SENDERS..SENDERS + self.receivers {
            let (receiver, source) = (EndpointId(receiver), SourceId(id));
            self.call.command(ShardCommand::Unsubscribe { receiver, source });
        }
        let time = thread_cpu_time().saturating_sub(start);
        self.call.out.empty();
        time
    }
}

criterion_group!(benches, churn, second);
criterion_main!(benches);
