//! In the steady state an estimator does not allocate for a packet, feedback or probe.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::{Duration, Instant},
};

use rialto_bwe::{Config, Estimator, Kind, Pacer, Report};

thread_local! {
    static CALLS: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Counts what the thread that asked for it allocates.
struct Counting;

fn count() {
    // The thread's storage may be gone already; nobody counts then.
    let _ = CALLS.try_with(|calls| calls.set(calls.get().map(|n| n + 1)));
}

// SAFETY: every call goes to the system's allocator with the caller's own arguments, and what it gives is
// passed on; counting touches a cell of this thread that is never allocated.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promised us.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised us.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn packets_feedback_and_probes_allocate_nothing() {
    let start = Instant::now();
    let mut estimator = Estimator::new(Config::default(), start);
    let mut pacer = Pacer::new(start);
    let mut reported = 0_u16;
    for tick in 0..20_000_u64 {
        let now = start + Duration::from_millis(tick);
        if tick == 5_000 {
            // Everything that grows has grown.
            CALLS.with(|calls| calls.set(Some(0)));
        }
        pacer.set_rate(estimator.target_bps() * 5 / 2);
        estimator.set_useful(now, 8_000_000, Some(4_000_000));
        if pacer.allows(now) {
            estimator.on_sent(now, 300, Kind::Video, pacer.running_probe());
            pacer.on_sent(300);
        }
        if estimator.next_timeout().is_some_and(|due| due <= now) {
            estimator.on_timeout(now);
        }
        while let Some(probe) = estimator.take_probe(now) {
            pacer.start_probe(now, probe);
        }
        while let Some((cluster, _)) = pacer.probe_due(now) {
            estimator.on_sent(now, 1_000, Kind::Probe, Some(cluster));
            pacer.on_probe_sent(now, 1_000);
        }
        if tick % 50 == 0 {
            let next = estimator.next_number();
            let received = i64::try_from(tick * 1_000).unwrap();
            let reports = (0..next.wrapping_sub(reported)).map(|n| Report {
                number: reported.wrapping_add(n),
                received: (n % 40 != 7).then_some(received + i64::from(n) * 100),
            });
            estimator.on_feedback(now, reports);
            reported = next;
        }
    }
    let calls = CALLS.with(|calls| calls.replace(None));
    assert_eq!(calls, Some(0));
}
