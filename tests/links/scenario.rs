//! What is measured, and what has to come of it.

/// A call over a link.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// The link at the beginning, as `rialto-link` takes it.
    pub(crate) link: &'static str,
    /// What changes: seconds after the join, in the long and in the short form.
    pub(crate) steps: &'static [Step],
    /// How long it is measured, seconds, in the long and in the short form.
    pub(crate) seconds: [u32; 2],
    /// How many send 720p25.
    pub(crate) senders: u8,
    pub(crate) behind: Behind,
    pub(crate) bounds: Bounds,
}

pub(crate) struct Step {
    pub(crate) at: [u32; 2],
    pub(crate) changes: &'static str,
}

/// Who is behind the link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Behind {
    Receiver,
    Sender,
}

/// The worst that may come of it. Infinite, or 0 for what has to be reached: anything.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// The height of the best picture for the longest time, at least.
    pub(crate) height: u32,
    /// Its frames per second from 2 s on, at least.
    pub(crate) fps: f64,
    /// Seconds until it has 20 frames per second, at most.
    pub(crate) smooth_from: f64,
    /// Seconds that it stood still, at most.
    pub(crate) frozen: f64,
    /// Share of audio that was made up, at most.
    pub(crate) concealed: f64,
    /// Share of packets that the queue dropped, at most.
    pub(crate) dropped: f64,
    /// How long packets waited in the queue, ms, at most.
    pub(crate) queue_p50: f64,
    pub(crate) queue_p95: f64,
    /// What is offered in any second from 2 s after a change on, in parts of the link's rate, at most.
    pub(crate) offered: f64,
    /// Seconds after each change until packets wait for less than 100 ms, at most.
    pub(crate) queue_after: f64,
    /// Seconds after each change until 20 frames per second, at most.
    pub(crate) smooth_after: f64,
    /// Retransmissions in parts of the video's packets, at most.
    pub(crate) again: f64,
}

const ANY: Bounds = Bounds {
    height: 0,
    fps: 0.0,
    smooth_from: f64::INFINITY,
    frozen: f64::INFINITY,
    concealed: f64::INFINITY,
    dropped: f64::INFINITY,
    queue_p50: f64::INFINITY,
    queue_p95: f64::INFINITY,
    offered: f64::INFINITY,
    queue_after: f64::INFINITY,
    smooth_after: f64::INFINITY,
    again: f64::INFINITY,
};

/// What fails the short form of any scenario, on whatever machine: a link is filled with what it does not
/// carry. Before, 26 to 80 % was dropped on narrow links. The bounds of a scenario are its goals; the
/// short form only prints those that are not kept, as two cores may be too slow for the browsers.
pub(crate) const STORM: Bounds = Bounds { dropped: 0.2, concealed: 0.2, ..ANY };

/// The goals of all.
const ALL: Bounds = Bounds { offered: 1.2, again: 0.25, ..ANY };

/// The scenario of this name.
pub(crate) fn named(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

/// Delays are of each way: a round trip takes twice as long. The queue is 300 ms, the default.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "steady",
        title: "steady 5 Mbit/s, 50 ms",
        link: "down.rate=5M delay=25ms",
        steps: &[],
        seconds: [60, 15],
        senders: 1,
        behind: Behind::Receiver,
        bounds: Bounds {
            height: 720,
            fps: 23.0,
            smooth_from: 1.0,
            frozen: 0.2,
            concealed: 0.005,
            dropped: 0.0,
            queue_p95: 28.0,
            ..ALL
        },
    },
    Scenario {
        name: "join-1M",
        title: "join on 1 Mbit/s, 50 ms",
        link: "down.rate=1M delay=25ms",
        steps: &[],
        seconds: [60, 15],
        senders: 1,
        behind: Behind::Receiver,
        bounds: Bounds {
            height: 360,
            fps: 23.0,
            smooth_from: 2.0,
            concealed: 0.005,
            dropped: 0.02,
            queue_p50: 20.0,
            queue_p95: 100.0,
            ..ALL
        },
    },
    Scenario {
        name: "step",
        title: "5 → 1 → 5 Mbit/s, 50 ms",
        link: "down.rate=5M delay=25ms",
        steps: &[
            Step { at: [20, 5], changes: "down.rate=1M" },
            Step { at: [40, 12], changes: "down.rate=5M" },
        ],
        seconds: [60, 20],
        senders: 1,
        behind: Behind::Receiver,
        bounds: Bounds { frozen: 0.5, queue_after: 1.5, smooth_after: 5.0, ..ALL },
    },
    Scenario {
        name: "loss",
        title: "2 % random loss, 3 Mbit/s, 100 ms",
        link: "down.rate=3M delay=50ms down.loss=2%",
        steps: &[],
        seconds: [60, 15],
        senders: 1,
        behind: Behind::Receiver,
        bounds: Bounds { height: 720, fps: 23.0, frozen: 0.2, concealed: 0.02, ..ALL },
    },
    Scenario {
        name: "bursts",
        title: "10 % loss in bursts for 5 s, 5 Mbit/s, 50 ms",
        link: "down.rate=5M delay=25ms",
        steps: &[
            Step { at: [20, 5], changes: "down.loss=10% down.burst=8" },
            Step { at: [25, 10], changes: "down.loss=0" },
        ],
        seconds: [60, 15],
        senders: 1,
        behind: Behind::Receiver,
        bounds: Bounds { height: 720, frozen: 0.0, concealed: 0.006, ..ALL },
    },
    Scenario {
        name: "jitter",
        title: "jitter 30 ms, 5 % overtaking, 3 Mbit/s, 100 ms",
        link: "down.rate=3M delay=50ms down.jitter=30ms down.overtake=5%",
        steps: &[],
        seconds: [60, 15],
        senders: 1,
        behind: Behind::Receiver,
        bounds: Bounds { height: 720, fps: 23.0, frozen: 0.2, concealed: 0.005, ..ALL },
    },
    Scenario {
        name: "three-400k",
        title: "400 kbit/s, three senders, 50 ms",
        link: "down.rate=400k delay=25ms",
        steps: &[],
        seconds: [60, 20],
        senders: 3,
        behind: Behind::Receiver,
        bounds: Bounds { fps: 23.0, concealed: 0.01, ..ALL },
    },
    Scenario {
        name: "up-500k",
        title: "sender with 500 kbit/s up, 50 ms",
        link: "up.rate=500k delay=25ms",
        steps: &[],
        seconds: [60, 20],
        senders: 1,
        behind: Behind::Sender,
        bounds: Bounds { height: 180, fps: 20.0, ..ANY },
    },
];
