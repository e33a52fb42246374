//! What the pages wrote down (`tests/pages/sampler.js`), and figures of it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// What a page wrote down.
#[derive(Debug, Deserialize)]
pub(crate) struct Record {
    /// When it was connected first, ms since 1970.
    pub(crate) connected: Option<f64>,
    pub(crate) samples: Vec<Sample>,
    /// All of it.
    #[serde(skip)]
    pub(crate) text: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Sample {
    /// ms since 1970.
    pub(crate) time: f64,
    #[serde(rename = "in")]
    pub(crate) received: Vec<Received>,
    #[serde(rename = "out")]
    pub(crate) sent: Vec<Sent>,
    pub(crate) available: f64,
    /// Frames that the camera made.
    pub(crate) camera: f64,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Received {
    pub(crate) mid: String,
    pub(crate) kind: String,
    pub(crate) frames: f64,
    pub(crate) height: u32,
    pub(crate) frozen: f64,
    pub(crate) concealed: f64,
    pub(crate) audio: f64,
    pub(crate) packets: f64,
    pub(crate) again: f64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Sent {
    pub(crate) rid: String,
    pub(crate) frames: f64,
    pub(crate) limit: String,
}

/// A span of time, ms since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) from: f64,
    pub(crate) to: f64,
}

/// What was seen of one video.
#[derive(Clone, Debug, Default)]
pub(crate) struct Picture {
    /// Share of the time at each height; 0 is no new frame.
    pub(crate) heights: BTreeMap<u32, f64>,
    /// Frames decoded per second.
    pub(crate) fps: f64,
    /// How long it stood still, s, also at the end and before the first frame.
    pub(crate) frozen: f64,
}

impl Picture {
    /// The height at which it was for the longest time, and the share of that.
    pub(crate) fn main(&self) -> (u32, f64) {
        let longest = self.heights.iter().max_by(|a, b| a.1.total_cmp(b.1));
        longest.map_or((0, 1.0), |(height, share)| (*height, *share))
    }
}

/// How long nothing moved, s: 0 where it is short, as samples are not at the times of frames.
fn stall(from: f64, to: f64) -> f64 {
    let seconds = (to - from) / 1000.0;
    if seconds > 0.5 { seconds } else { 0.0 }
}

impl Record {
    /// From what `window.record` of a page is.
    pub(crate) fn new(value: Value) -> Self {
        let text = value.to_string();
        Self { text, ..serde_json::from_value(value).expect("what sampler.js writes") }
    }

    fn within(&self, span: Span) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| (span.from..=span.to).contains(&sample.time))
    }

    /// The videos that were ever received, by section.
    fn videos(&self, span: Span) -> Vec<String> {
        let mut mids = Vec::new();
        for received in self.within(span).flat_map(|sample| &sample.received) {
            if received.kind == "video" && received.packets > 0.0 && !mids.contains(&received.mid) {
                mids.push(received.mid.clone());
            }
        }
        mids
    }

    /// Time and state of a video, in a span.
    fn series(&self, mid: &str, span: Span) -> Vec<(f64, Received)> {
        let of = |sample: &Sample| {
            let found = sample.received.iter().find(|received| received.mid == mid).cloned();
            (sample.time, found.unwrap_or_default())
        };
        self.within(span).map(of).collect()
    }

    /// What was seen of each video, the best first. None at all is one that was never seen.
    pub(crate) fn pictures(&self, span: Span) -> Vec<Picture> {
        let mids = self.videos(span);
        let mut pictures: Vec<_> = mids.iter().map(|mid| self.picture(mid, span)).collect();
        if pictures.is_empty() {
            let frozen = (span.to - span.from) / 1000.0;
            pictures.push(Picture { heights: [(0, 1.0)].into(), fps: 0.0, frozen });
        }
        pictures.sort_by(|a, b| b.fps.total_cmp(&a.fps));
        pictures
    }

    fn picture(&self, mid: &str, span: Span) -> Picture {
        let series = self.series(mid, span);
        let mut picture = Picture::default();
        let (Some(first), Some(last)) = (series.first(), series.last()) else { return picture };
        let seconds = (last.0 - first.0).max(1.0) / 1000.0;
        // Since when there was no new frame, and how long that took all in all where it was long.
        let (mut still, mut stood) = (span.from, 0.0);
        let mut first_frame = None;
        for pair in series.windows(2) {
            let [(before, was), (now, is)] = pair else { continue };
            let height = if is.frames > was.frames { is.height } else { 0 };
            *picture.heights.entry(height).or_default() += (now - before) / 1000.0 / seconds;
            if is.frames > was.frames {
                if was.frames == 0.0 {
                    first_frame = Some(*before);
                }
                stood += stall(still, *before);
                still = *now;
            }
        }
        let at_end = stall(still, span.to);
        let at_start = first_frame.map_or(0.0, |first| (first - span.from) / 1000.0);
        picture.fps = (last.1.frames - first.1.frames) / seconds;
        // The browser counts a freeze once it ends, and none before it has seen some frames.
        let counted = at_start + last.1.frozen - first.1.frozen + at_end;
        picture.frozen = counted.max(stood + at_end);
        picture
    }

    /// When the best video first had 20 frames in the following second at this height or more, s after the
    /// beginning of the span.
    pub(crate) fn smooth_from(&self, height: u32, span: Span) -> Option<f64> {
        let first = |mid: &String| {
            let series = self.series(mid, span);
            let start = series.iter().enumerate().find(|(index, (time, was))| {
                let after = series[*index..].iter().find(|(then, _)| *then >= time + 1000.0);
                after.is_some_and(|(then, is)| {
                    let fps = (is.frames - was.frames) / ((then - time) / 1000.0);
                    fps >= 20.0 && is.height >= height
                })
            });
            start.map(|(_, (time, _))| (time - span.from) / 1000.0)
        };
        self.videos(span).iter().filter_map(first).min_by(f64::total_cmp)
    }

    /// Share of the audio that was made up, of all sources.
    pub(crate) fn concealed(&self, span: Span) -> f64 {
        let sum = |part: fn(&Received) -> f64| self.grown(span, "audio", part);
        // A source of which nothing came has no samples: all of it was made up.
        let (concealed, all) = (sum(|r| r.concealed), sum(|r| r.audio));
        if all > 0.0 { concealed / all } else { 1.0 }
    }

    /// Share of the packets of videos that came again, after they were asked for.
    pub(crate) fn again(&self, span: Span) -> f64 {
        let all = self.grown(span, "video", |r| r.packets);
        if all > 0.0 { self.grown(span, "video", |r| r.again) / all } else { 0.0 }
    }

    /// By how much a counter of all streams of a kind grew.
    fn grown(&self, span: Span, kind: &str, part: fn(&Received) -> f64) -> f64 {
        let sum = |sample: &Sample| {
            sample.received.iter().filter(|r| r.kind == kind).map(part).sum::<f64>()
        };
        let mut sums = self.within(span).map(sum);
        let first = sums.next().unwrap_or_default();
        sums.last().unwrap_or(first) - first
    }

    /// Frames that each encoding sent per second, by its name, and what held the encoder back.
    pub(crate) fn encodings(&self, span: Span) -> BTreeMap<String, (f64, String)> {
        let mut all = BTreeMap::new();
        let samples: Vec<_> = self.within(span).collect();
        let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return all };
        let seconds = (last.time - first.time).max(1.0) / 1000.0;
        all.insert(
            "camera".to_owned(),
            ((last.camera - first.camera) / seconds, "none".to_owned()),
        );
        for sent in last.sent.iter().filter(|sent| !sent.rid.is_empty()) {
            let was =
                first.sent.iter().find(|was| was.rid == sent.rid).map_or(0.0, |was| was.frames);
            all.insert(sent.rid.clone(), ((sent.frames - was) / seconds, sent.limit.clone()));
        }
        all
    }

    /// When the sender's estimate was this high first, s after it was connected.
    pub(crate) fn available_from(&self, bps: f64) -> Option<f64> {
        let found = self.samples.iter().find(|sample| sample.available >= bps)?;
        Some((found.time - self.connected?) / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Samples each 250 ms: frames, height, seconds frozen, samples made up of 12,000.
    fn record(states: &[(u32, u32, f64, u32)]) -> Record {
        let sample = |(index, state): (usize, &(u32, u32, f64, u32))| {
            let (frames, height, frozen, concealed) = *state;
            let nothing = json!({
                "mid": "", "kind": "", "frames": 0, "height": 0, "freezes": 0, "frozen": 0,
                "concealed": 0, "audio": 0, "packets": 1, "again": 0,
            });
            let (mut video, mut audio) = (nothing.clone(), nothing);
            (video["mid"], video["kind"]) = (json!("3"), json!("video"));
            (video["frames"], video["height"]) = (json!(frames), json!(height));
            video["frozen"] = json!(frozen);
            (audio["mid"], audio["kind"]) = (json!("4"), json!("audio"));
            (audio["concealed"], audio["audio"]) = (json!(concealed), json!(index * 12_000));
            json!({ "time": index * 250, "available": 0, "camera": 0, "out": [], "in": [video, audio] })
        };
        let samples: Vec<_> = states.iter().enumerate().map(sample).collect();
        Record::new(json!({ "connected": 0, "samples": samples }))
    }

    #[test]
    fn a_smooth_picture() {
        let states: Vec<_> =
            (0..40).map(|n| (n * 6, if n < 20 { 360 } else { 720 }, 0.0, 0)).collect();
        let record = record(&states);
        let span = Span { from: 0.0, to: 10_000.0 };
        let picture = &record.pictures(span)[0];
        assert!((picture.fps - 24.0).abs() < 0.1, "{picture:?}");
        assert_eq!((picture.main().0, picture.frozen), (720, 0.0));
        assert_eq!(record.smooth_from(1, span), Some(0.0));
        assert_eq!(record.smooth_from(720, span), Some(4.0));
        assert!(record.concealed(span) < 1e-9);
    }

    #[test]
    fn a_picture_that_begins_late_and_stops() {
        // Nothing for 2 s, frames for 2 s, nothing for 6 s; a quarter of the sound is made up.
        let states: Vec<_> = (0..40u32)
            .map(|n| (n.clamp(8, 16) * 6 - 48, if n > 8 { 360 } else { 0 }, 0.0, n * 3_000))
            .collect();
        let record = record(&states);
        let span = Span { from: 0.0, to: 10_000.0 };
        let picture = &record.pictures(span)[0];
        assert!((picture.frozen - 7.75).abs() < 0.3, "{picture:?}");
        assert_eq!(record.smooth_from(1, span), Some(2.0));
        assert!((record.concealed(span) - 0.25).abs() < 0.01);
        let never = record.pictures(Span { from: 20_000.0, to: 30_000.0 });
        assert_eq!((never[0].main(), never[0].frozen), ((0, 1.0), 10.0));
    }
}
