//! What the pages wrote down (`tests/pages/layers.js`), and what came of each height that was asked for.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use crate::modes::Mode;

/// The share of frames that are of the size that was asked for.
const RIGHT: f64 = 0.9;
/// How soon the size is the one asked for, ms; what a height costs is measured from then on.
pub(crate) const SETTLED: f64 = 1000.0;
/// The longest time without a new frame, ms.
pub(crate) const STILL: f64 = 500.0;

/// What a page wrote down. Times are ms since 1970.
#[derive(Debug, Deserialize)]
pub(crate) struct Record {
    #[serde(default)]
    pub(crate) over: f64,
    asked: Vec<Asked>,
    frames: Vec<Frame>,
    stats: Vec<Stats>,
    pub(crate) problems: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Asked {
    time: f64,
    height: u32,
}

/// A frame that came out of the decoder.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Frame {
    time: f64,
    height: u32,
}

#[derive(Debug, Deserialize)]
struct Stats {
    time: f64,
    #[serde(default)]
    codec: Option<String>,
    streams: Vec<Stream>,
}

/// A stream that is received or sent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Stream {
    rid: String,
    height: u32,
    frames: f64,
    bytes: f64,
    freezes: f64,
    frozen: f64,
    keyframes: f64,
    plis: f64,
    again: f64,
    limit: String,
    mode: String,
}

/// A span of time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    from: f64,
    to: f64,
}

impl Span {
    fn has(self, time: f64) -> bool {
        time > self.from && time <= self.to
    }
}

/// What came of a height that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Period {
    pub(crate) asked: u32,
    /// What is to be shown.
    expected: u32,
    /// How many frames were shown of each size once settled. Encoders leave out single layers of a picture to
    /// keep their rate, and then it is a smaller one.
    sizes: BTreeMap<u32, usize>,
    pub(crate) kbps: f64,
    fps: f64,
    /// The longest time without a new frame, ms.
    still: f64,
    /// ms from the question until three frames in a row were of the expected size.
    to_size: f64,
}

impl Record {
    pub(crate) fn new(value: &Value) -> Self {
        Self::deserialize(value).expect("what layers.js writes")
    }

    /// The time in which heights were asked for, after the first one.
    pub(crate) fn span(&self) -> Span {
        Span { from: self.asked.first().map_or(0.0, |asked| asked.time), to: self.over }
    }

    /// What came of each height that was asked for in the span.
    pub(crate) fn periods(&self, mode: &Mode, span: Span) -> Vec<Period> {
        let asked = || self.asked.iter().filter(|asked| asked.time >= span.from);
        let ends = asked().skip(1).map(|next| next.time).chain([span.to]);
        asked().zip(ends).map(|(asked, to)| self.period(mode, *asked, to)).collect()
    }

    /// What came of the best, which was asked for all the time.
    pub(crate) fn whole(&self, mode: &Mode, span: Span) -> Period {
        self.period(mode, Asked { time: span.from, height: mode.top() }, span.to)
    }

    fn period(&self, mode: &Mode, asked: Asked, to: f64) -> Period {
        let all = Span { from: asked.time, to };
        let settled = Span { from: asked.time + SETTLED, to };
        let expected = mode.height_for(asked.height);
        let frames = |span: Span| self.frames.iter().filter(move |frame| span.has(frame.time));
        let shown: Vec<_> = frames(all).collect();
        let first = shown.windows(3).find(|row| row.iter().all(|frame| frame.height == expected));
        let mut sizes = BTreeMap::new();
        for frame in frames(settled) {
            *sizes.entry(frame.height).or_default() += 1;
        }
        Period {
            asked: asked.height,
            expected,
            sizes,
            kbps: self.kbps(settled),
            fps: frames(settled).count() as f64 * 1000.0 / (settled.to - settled.from).max(1.0),
            still: self.still(all),
            to_size: first.map_or(f64::INFINITY, |row| row[0].time - asked.time),
        }
    }

    /// The longest time without a frame, of which a part is in the span.
    fn still(&self, span: Span) -> f64 {
        let before = self.frames.iter().rfind(|frame| frame.time <= span.from);
        let start = before.map_or(span.from, |frame| frame.time);
        let times = self.frames.iter().map(|frame| frame.time).filter(|time| span.has(*time));
        let (last, longest) = times.fold((start, 0.0), |(last, longest): (f64, f64), time| {
            (time, longest.max(time - last))
        });
        longest.max(span.to - last)
    }

    /// Statistics of a stream in a span, by time.
    fn series(&self, rid: &str, span: Span) -> Vec<(f64, &Stream)> {
        let of = |stats: &'_ Stats| stats.streams.iter().position(|stream| stream.rid == rid);
        let within = self.stats.iter().filter(|stats| span.has(stats.time));
        within.filter_map(|stats| Some((stats.time, &stats.streams[of(stats)?]))).collect()
    }

    fn kbps(&self, span: Span) -> f64 {
        let series = self.series("", span);
        let (Some(first), Some(last)) = (series.first(), series.last()) else { return 0.0 };
        (last.1.bytes - first.1.bytes) * 8.0 / (last.0 - first.0).max(1.0)
    }

    /// Frames that were decoded by the browser's own count, in the span.
    pub(crate) fn decoded(&self, span: Span) -> f64 {
        let series = self.series("", span);
        let (Some(first), Some(last)) = (series.first(), series.last()) else { return 0.0 };
        last.1.frames - first.1.frames
    }

    /// What a receiver saw over the whole span, in words.
    pub(crate) fn received(&self, span: Span) -> String {
        let series = self.series("", span);
        let (Some((_, first)), Some((_, last))) = (series.first(), series.last()) else {
            return "nothing".to_owned();
        };
        format!(
            "{:.0} frames, {:.0} keyframes, {:.0} PLI, {:.0} packets again, {:.0} freezes of {:.1} s by its own \
             count, longest {:.0} ms",
            last.frames - first.frames,
            last.keyframes - first.keyframes,
            last.plis - first.plis,
            last.again - first.again,
            last.freezes - first.freezes,
            last.frozen - first.frozen,
            self.still(span),
        )
    }

    /// What a sender sent over the whole span, in words.
    pub(crate) fn sent(&self, span: Span) -> String {
        let codec = self.stats.iter().rev().find_map(|stats| stats.codec.clone());
        let mut words = vec![codec.unwrap_or_default()];
        let streams = self.stats.iter().flat_map(|stats| &stats.streams);
        let rids: BTreeSet<&str> = streams.map(|stream| stream.rid.as_str()).collect();
        for rid in rids {
            let series = self.series(rid, span);
            let (Some(first), Some(last)) = (series.first(), series.last()) else { continue };
            let ms = (last.0 - first.0).max(1.0);
            let heights: BTreeSet<u32> = series.iter().map(|(_, stream)| stream.height).collect();
            let limits: BTreeSet<&str> =
                series.iter().map(|(_, stream)| stream.limit.as_str()).collect();
            let mut longest = (first.0, 0.0, first.1.frames);
            for (time, stream) in &series {
                if stream.frames > longest.2 {
                    longest = (*time, f64::max(longest.1, time - longest.0), stream.frames);
                }
            }
            words.push(format!(
                "{rid} {} {heights:?} {:.0} fps {:.0} kbit/s, {:.0} keyframes, {:.0} PLI, longest pause \
                 {:.0} ms, limited by {limits:?}",
                last.1.mode,
                (last.1.frames - first.1.frames) * 1000.0 / ms,
                (last.1.bytes - first.1.bytes) * 8.0 / ms,
                last.1.keyframes - first.1.keyframes,
                last.1.plis - first.1.plis,
                longest.1,
            ));
        }
        words.join("; ")
    }
}

impl Period {
    /// The share of the frames, once settled, that were of the expected size.
    fn right(&self) -> f64 {
        let all: usize = self.sizes.values().sum();
        self.sizes.get(&self.expected).copied().unwrap_or(0) as f64 / all.max(1) as f64
    }

    /// The expected size came in the end.
    pub(crate) fn came(&self) -> bool {
        self.to_size.is_finite() && self.right() >= RIGHT
    }

    /// What is worse than it may be.
    pub(crate) fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let asked = self.asked;
        if self.still > STILL {
            broken.push(format!("{asked}: no new frame for {:.0} ms", self.still));
        }
        if self.to_size > SETTLED {
            let (expected, sizes) = (self.expected, &self.sizes);
            let after = self.to_size;
            broken.push(format!("{asked}: {expected} lines after {after:.0} ms, seen {sizes:?}"));
        }
        if self.right() < RIGHT {
            broken.push(format!("{asked}: seen {:?}", self.sizes));
        }
        broken
    }

    /// One period for all in which the same was asked: the worst of each, and the mean of the rates.
    pub(crate) fn merged(periods: &[Self], asked: u32) -> Option<Self> {
        let of: Vec<_> = periods.iter().filter(|period| period.asked == asked).collect();
        let mean =
            |part: fn(&Self) -> f64| of.iter().map(|p| part(p)).sum::<f64>() / of.len() as f64;
        let worst = |part: fn(&Self) -> f64| of.iter().map(|p| part(p)).fold(0.0, f64::max);
        Some(Self {
            asked,
            expected: of.first()?.expected,
            sizes: of.iter().flat_map(|period| &period.sizes).fold(
                BTreeMap::new(),
                |mut all, (size, count)| {
                    *all.entry(*size).or_default() += count;
                    all
                },
            ),
            kbps: mean(|p| p.kbps),
            fps: mean(|p| p.fps),
            still: worst(|p| p.still),
            to_size: worst(|p| p.to_size),
        })
    }

    /// A row of the table.
    pub(crate) fn row(&self, mode: &str) -> String {
        let all: usize = self.sizes.values().sum();
        let share = |count: usize| 100.0 * count as f64 / all.max(1) as f64;
        let by_share = |(size, count): (&u32, &usize)| format!("{size} {:.0} %", share(*count));
        let sizes: Vec<_> = self.sizes.iter().rev().map(by_share).collect();
        let time = if self.to_size.is_finite() {
            format!("{:.0} ms", self.to_size)
        } else {
            "never".to_owned()
        };
        format!(
            "| {mode} | {} | {} | {:.0} | {:.0} | {:.0} ms | {time} |",
            self.asked,
            sizes.join(", "),
            self.kbps,
            self.fps,
            self.still,
        )
    }
}

/// The names of the columns of [`Period::row`].
pub(crate) const HEAD: &str = "| mode | asked | size | kbit/s | fps | longest freeze | time to the size |\n\
    |---|---|---|---|---|---|---|";
