//! What came of a scenario, as a row of the table, and against its bounds.

use std::fmt::Write as _;

use rialto_load::link::counts::{Counts, Report};

use super::{
    record::{Picture, Record, Span},
    scenario::{Behind, Bounds, Scenario},
};

/// From when on after the join most figures are taken: everything needs a moment, ms.
const SETTLED: f64 = 2000.0;

/// How long packets may wait after a change before the queue counts as empty, ms.
const SHORT_QUEUE: f64 = 100.0;

/// What was written down in a scenario.
pub(crate) struct Measured {
    /// From the join to the end.
    pub(crate) span: Span,
    /// When the link changed, ms since 1970.
    pub(crate) changes: Vec<f64>,
    /// Of the link's narrow direction.
    pub(crate) reports: Vec<Report>,
    /// Who receives over the link; with a sender behind it, the clean receiver.
    pub(crate) receiver: Record,
    /// The clean receiver beside it.
    pub(crate) clean: Option<Record>,
    pub(crate) sender: Record,
}

/// What came of a scenario.
pub(crate) struct Figures {
    pub(crate) pictures: Vec<Picture>,
    pub(crate) smooth_from: Option<f64>,
    pub(crate) frozen: f64,
    pub(crate) concealed: f64,
    /// Shares of what was offered.
    pub(crate) dropped: f64,
    pub(crate) lost: f64,
    pub(crate) queue: [f64; 2],
    /// The most of any second, in parts of the rate.
    pub(crate) offered: f64,
    /// Share of the link's rate that was delivered.
    pub(crate) used: f64,
    pub(crate) again: f64,
    pub(crate) after: Vec<After>,
    pub(crate) clean: Option<Picture>,
    /// Frames per second of the encodings of the first sender, and what held it back.
    pub(crate) encodings: String,
}

/// What came of a change of the link: seconds until it was so.
pub(crate) struct After {
    /// The queue was short for good.
    pub(crate) queue: Option<f64>,
    pub(crate) smooth: Option<f64>,
    pub(crate) smooth_720: Option<f64>,
}

impl Measured {
    pub(crate) fn figures(&self, scenario: &Scenario) -> Figures {
        let settled = Span { from: self.span.from + SETTLED, ..self.span };
        let pictures = self.receiver.pictures(settled);
        let mut counts = Counts::default();
        for report in self.within(settled) {
            counts.merge(&report.counts);
        }
        let share = |part: u64| part as f64 / counts.offered.packets.max(1) as f64;
        let queue = counts.queue();
        let frozen = self.receiver.pictures(self.span);
        let frozen = frozen.iter().map(|picture| picture.frozen).fold(f64::INFINITY, f64::min);
        let clean = self.clean.as_ref().map(|clean| clean.pictures(settled).remove(0));
        let mut encodings = String::new();
        for (rid, (fps, limit)) in self.sender.encodings(settled) {
            let _ = write!(encodings, "{rid} {fps:.0} ");
            if scenario.behind == Behind::Receiver && limit != "none" {
                let _ = write!(encodings, "({limit}) ");
            }
        }
        Figures {
            pictures,
            smooth_from: self.receiver.smooth_from(1, self.span),
            frozen,
            concealed: self.receiver.concealed(settled),
            dropped: share(counts.queue_dropped.packets),
            lost: share(counts.lost.packets),
            queue: [queue.p50, queue.p95],
            offered: self.most_offered(),
            used: self.used(settled),
            again: self.receiver.again(settled),
            after: self.after(),
            clean,
            encodings: encodings.trim_end().to_owned(),
        }
    }

    fn within(&self, span: Span) -> impl Iterator<Item = &Report> {
        let inside = move |time: f64| time > span.from && time <= span.to;
        self.reports.iter().filter(move |report| inside(report.time * 1000.0))
    }

    /// The time after the join and each change, up to the next one.
    fn phases(&self) -> Vec<Span> {
        let starts: Vec<_> = [self.span.from].iter().chain(&self.changes).copied().collect();
        let ends = starts.iter().skip(1).copied().chain([self.span.to]);
        starts.iter().zip(ends).map(|(from, to)| Span { from: *from, to }).collect()
    }

    /// What was offered in the second in which most was, in parts of the rate.
    fn most_offered(&self) -> f64 {
        let mut most: f64 = 0.0;
        for phase in self.phases() {
            let reports: Vec<_> =
                self.within(Span { from: phase.from + SETTLED, ..phase }).collect();
            for second in reports.windows(4) {
                let bytes: u64 = second.iter().map(|report| report.counts.offered.bytes).sum();
                if let Some(rate) = second[0].settings.rate.filter(|rate| *rate > 0) {
                    most = most.max(bytes as f64 * 8.0 / rate as f64);
                }
            }
        }
        most
    }

    fn used(&self, span: Span) -> f64 {
        let (mut carried, mut possible, mut last) = (0.0, 0.0, span.from);
        for report in self.within(span) {
            let time = report.time * 1000.0;
            carried += report.counts.delivered.bytes as f64 * 8.0;
            possible += report.settings.rate.unwrap_or(0) as f64 * (time - last) / 1000.0;
            last = time;
        }
        if possible > 0.0 { carried / possible } else { 0.0 }
    }

    fn after(&self) -> Vec<After> {
        let phases = self.phases();
        let of = |phase: &Span| {
            let reports: Vec<_> = self.within(*phase).collect();
            let long = |report: &&Report| report.counts.queue().p95 >= SHORT_QUEUE;
            let queue = match reports.iter().rposition(long) {
                None => Some(0.0),
                Some(last) if last + 1 == reports.len() => None,
                Some(last) => Some(reports[last].time - phase.from / 1000.0),
            };
            After {
                queue,
                smooth: self.receiver.smooth_from(1, *phase),
                smooth_720: self.receiver.smooth_from(720, *phase),
            }
        };
        phases.iter().skip(1).map(of).collect()
    }
}

impl Figures {
    /// A row of the table.
    pub(crate) fn row(&self, name: &str) -> String {
        let pictures: Vec<_> = self.pictures.iter().map(described).collect();
        let clean = self.clean.as_ref().map_or("-".to_owned(), |clean| {
            format!("{}, frozen {:.1} s", described(clean), clean.frozen)
        });
        let after: Vec<_> = self.after.iter().map(After::described).collect();
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let cells = [
            pictures.join(" + "),
            seconds(self.smooth_from),
            format!("{:.1} s", self.frozen),
            percent(self.concealed),
            percent(self.dropped),
            percent(self.lost),
            format!("{:.0} / {:.0} ms", self.queue[0], self.queue[1]),
            format!("{:.2}", self.offered),
            percent(self.used),
            percent(self.again),
            if after.is_empty() { "-".to_owned() } else { after.join("; ") },
            self.encodings.clone(),
            clean,
        ];
        format!("| {name} | {} |", cells.join(" | "))
    }

    /// What is worse than it may be.
    pub(crate) fn broken(&self, bounds: &Bounds) -> Vec<String> {
        let best = &self.pictures[0];
        let mut broken = Vec::new();
        let mut least = |what: &str, value: f64, bound: f64| {
            if value < bound {
                broken.push(format!("{what}: {value:.3}, at least {bound}"));
            }
        };
        least("height", best.main().0.into(), bounds.height.into());
        least("frames per second", best.fps, bounds.fps);
        let mut most = |what: &str, value: f64, bound: f64| {
            if value > bound {
                broken.push(format!("{what}: {value:.3}, at most {bound}"));
            }
        };
        let never = f64::INFINITY;
        most("20 fps from, s", self.smooth_from.unwrap_or(never), bounds.smooth_from);
        most("frozen, s", self.frozen, bounds.frozen);
        most("concealed", self.concealed, bounds.concealed);
        most("dropped by the queue", self.dropped, bounds.dropped);
        most("queue p50, ms", self.queue[0], bounds.queue_p50);
        most("queue p95, ms", self.queue[1], bounds.queue_p95);
        most("offered in a second", self.offered, bounds.offered);
        most("retransmitted", self.again, bounds.again);
        for (number, after) in self.after.iter().enumerate() {
            let of = |what: &str| format!("{what} after change {}, s", number + 1);
            most(&of("short queue"), after.queue.unwrap_or(never), bounds.queue_after);
            most(&of("20 fps"), after.smooth.unwrap_or(never), bounds.smooth_after);
        }
        broken
    }
}

impl After {
    fn described(&self) -> String {
        let [queue, smooth, best] = [self.queue, self.smooth, self.smooth_720].map(seconds);
        format!("queue < 100 ms {queue}, 20 fps {smooth}, at 720p {best}")
    }
}

/// The names of the columns of [`Figures::row`].
pub(crate) fn head() -> String {
    let names = [
        "scenario",
        "picture",
        "20 fps from",
        "frozen",
        "concealed",
        "dropped",
        "lost",
        "queue p50 / p95",
        "most offered",
        "link used",
        "sent again",
        "after each change",
        "encodings, fps",
        "clean receiver",
    ];
    format!("| {} |\n|{}", names.join(" | "), "---|".repeat(names.len()))
}

fn described(picture: &Picture) -> String {
    match picture.main() {
        (0, share) => format!("none {:.0} %, {:.0} fps", share * 100.0, picture.fps),
        (height, share) => format!("{height}p {:.0} %, {:.0} fps", share * 100.0, picture.fps),
    }
}

fn seconds(time: Option<f64>) -> String {
    time.map_or("never".to_owned(), |time| format!("{time:.1} s"))
}
