//! Results about layers: what receivers got for each height that they requested, and would have
//! seen of it; and whether it continues as one encoder's packets do.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    time::Duration,
};

use serde::Serialize;

use crate::{plan::Plan, worker::client::ClientReport, worker::screen::Watched};

/// A video whose packets have arrived for this long should have been seen.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most breaks that are reported in words.
const EXAMPLES: usize = 5;

/// What receivers got while they requested a height, in the measured window.
#[derive(Clone, Default, Serialize, Debug)]
pub struct WishFigures {
    /// The height; `None` if none was requested.
    pub height: Option<u16>,
    /// Number of videos at receivers.
    pub videos: usize,
    /// Of these, the ones of which no picture could have been decoded.
    pub undecoded: usize,
    /// Bitrate of one video at one receiver, bit/s above UDP.
    pub bps: f64,
    /// Packets.
    pub packets: u64,
    /// Pictures that would have been decoded.
    pub pictures: u64,
    /// Of one video at one receiver.
    pub pictures_per_second: f64,
    /// Pictures by height, without those of the second after a change of the request.
    pub heights: BTreeMap<u16, u64>,
    /// The longest time without a picture.
    pub longest_freeze_ms: f64,
}

/// All results about layers.
#[derive(Clone, Default, Serialize, Debug)]
pub struct LayerFigures {
    /// The senders' mode.
    pub mode: &'static str,
    /// In the order of the requested heights.
    pub wishes: Vec<WishFigures>,
    /// Number of packets judged.
    pub judged: u64,
    /// Packets that arrived before a first keyframe.
    pub headless: u64,
    /// Violations: numbers that do not continue, frames that miss a reference, markers in the wrong
    /// place.
    pub breaks: u64,
    /// Some of them.
    pub examples: Vec<String>,
}

impl LayerFigures {
    /// Computes the results over all clients; `None` if the senders' videos have no layers.
    pub fn of(plan: &Plan, clients: &[ClientReport]) -> Option<Self> {
        let mode = plan.shape.layers?.name;
        let heights = plan.shape.wishes.iter().copied().map(Some);
        let heights: Vec<_> =
            if plan.shape.wishes.is_empty() { vec![None] } else { heights.collect() };
        let mut all = Self { mode, ..Self::default() };
        let screens = || clients.iter().flat_map(|c| &c.sources).filter_map(|s| s.screen.as_ref());
        for (at, height) in heights.into_iter().enumerate() {
            all.wishes.push(wish(height, screens().filter_map(|screen| screen.watched.get(at))));
        }
        for client in clients {
            let id = plan.endpoints.get(client.endpoint).map_or("", |endpoint| &endpoint.id);
            for screen in client.sources.iter().filter_map(|source| source.screen.as_ref()) {
                all.judged += screen.judged;
                all.headless += screen.headless;
                all.breaks += screen.breaks;
                let room = EXAMPLES.saturating_sub(all.examples.len());
                let examples = screen.examples.iter().take(room);
                all.examples.extend(examples.map(|what| format!("{id}: {what}")));
            }
        }
        Some(all)
    }

    /// Describes what is wrong, if anything is.
    pub fn complaint(&self) -> Option<String> {
        if self.breaks > 0 {
            let first = self.examples.first().map_or("", String::as_str);
            return Some(format!("{} breaks of continuity (first: {first})", self.breaks));
        }
        let undecoded: usize = self.wishes.iter().map(|wish| wish.undecoded).sum();
        (undecoded > 0).then(|| format!("{undecoded} videos came and could not be decoded"))
    }

    /// Rows of the table.
    pub fn rows(&self, out: &mut String) -> fmt::Result {
        for wish in self.wishes.iter().filter(|wish| wish.videos > 0) {
            let height = wish.height.map_or("any height".to_owned(), |h| format!("{h} lines"));
            let heights = wish.heights.iter().map(|(h, n)| format!("{h}: {n}")).collect::<Vec<_>>();
            writeln!(
                out,
                "layers       {}, {height}: {} videos of {:.0} kbit/s, {:.1} pictures per second ({}), longest \
                 freeze {:.0} ms",
                self.mode,
                wish.videos,
                wish.bps / 1e3,
                wish.pictures_per_second,
                heights.join(", "),
                wish.longest_freeze_ms
            )?;
        }
        writeln!(
            out,
            "continuity   {} packets judged, {} breaks, {} before a keyframe",
            self.judged, self.breaks, self.headless
        )?;
        for example in &self.examples {
            writeln!(out, "  broken     {example}")?;
        }
        Ok(())
    }
}

fn wish<'a>(height: Option<u16>, watched: impl Iterator<Item = &'a Watched>) -> WishFigures {
    let mut figures = WishFigures { height, ..WishFigures::default() };
    let (mut time, mut bytes, mut freeze) = (0.0, 0, Duration::ZERO);
    for watched in watched.filter(|watched| watched.packets > 0) {
        figures.videos += 1;
        figures.undecoded += usize::from(watched.pictures == 0 && watched.time > PATIENCE);
        figures.packets += watched.packets;
        figures.pictures += watched.pictures;
        for (height, count) in &watched.heights {
            *figures.heights.entry(*height).or_default() += count;
        }
        freeze = freeze.max(watched.longest_freeze);
        time += watched.time.as_secs_f64();
        bytes += watched.bytes;
    }
    let time = time.max(f64::EPSILON);
    figures.longest_freeze_ms = freeze.as_secs_f64() * 1e3;
    if figures.videos > 0 {
        figures.bps = bytes as f64 * 8.0 / time;
        figures.pictures_per_second = figures.pictures as f64 / time;
    }
    figures
}
