//! Rules for one source: which of its layers a receiver may get, up to which of them it takes
//! precedence over other sources, and why it does not get more.

use super::{Config, Kind, Layer, LayerId, Reason, Wanted};

/// A camera of up to this height may have any frame rate: it is a thumbnail.
const THUMBNAIL: u16 = 180;

/// Supposed height of the lowest encoding, pixels, while no height is known; each further encoding
/// is twice as high. Browsers send this for a camera.
const LOWEST: u32 = 180;

/// Frame rates are measured, so this fraction of the full frame rate counts as full.
const FULL: f32 = 0.8;

/// This fraction of the full frame rate is enough for an encoding, or a spatial layer of one, with
/// all its temporal layers: encoders leave out frames of single encodings and layers for a while,
/// to keep their bitrate after a keyframe. Switching down for that and up again would take two more
/// keyframes. `ENOUGH_FPS` is enough in any case; an encoding that sends fewer frames is starved.
const ENOUGH: f32 = 0.48;
const ENOUGH_FPS: f32 = 12.0;

/// A layer that a receiver may get. Each candidate of a source has a higher bitrate than the ones
/// before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Candidate {
    /// Its index among the source's layers.
    pub layer: usize,
    pub id: LayerId,
    pub bps: u64,
}

/// The candidates of one source, and how many of them have special rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Ladder {
    first: usize,
    count: usize,
    /// On stage, the candidates up to this one are given at once.
    pub preferred: usize,
    /// Up to this candidate the source may oversend.
    pub oversend: usize,
}

impl Ladder {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn of<'a>(&self, all: &'a [Candidate]) -> &'a [Candidate] {
        all.get(self.first..self.first.saturating_add(self.count)).unwrap_or_default()
    }
}

/// Appends the layers of a source that a receiver may get to `out`.
pub(super) fn select(
    config: &Config,
    wanted: &Wanted,
    layers: &[Layer],
    out: &mut Vec<Candidate>,
) -> Ladder {
    let first = out.len();
    let mut ladder = Ladder { first, ..Ladder::default() };
    if wanted.is_disabled() || layers.is_empty() {
        return ladder;
    }
    let heights = Heights(layers);
    let considered = considered(layers);
    let (preferred, oversend) = match wanted.kind {
        Kind::Camera => camera(config, wanted, heights, considered, out),
        Kind::Desktop => desktop(config, wanted, heights, considered, out),
    };
    drop_dominated(out, first);
    let left = out.get(first..).unwrap_or_default();
    ladder.count = left.len();
    // A dominated layer counts as the better layer that costs no more.
    let steps = |layer: Option<usize>| {
        let Some(layer) = layer else { return 0 };
        let below = left.iter().take_while(|candidate| candidate.layer < layer).count();
        below.saturating_add(1).min(left.len())
    };
    (ladder.preferred, ladder.oversend) = (steps(preferred), steps(oversend));
    ladder
}

/// Returns the filter for layers that count: those with a measured bitrate, or else those that are
/// being received. A source that has just begun or is muted has neither, and is decided with all
/// layers that it may send.
fn considered(layers: &[Layer]) -> fn(&Layer) -> bool {
    let arrives: fn(&Layer) -> bool = |layer| layer.active;
    let measured: fn(&Layer) -> bool = |layer| layer.active && layer.bps > 0;
    if layers.iter().any(measured) {
        measured
    } else if layers.iter().any(arrives) {
        arrives
    } else {
        |_| true
    }
}

/// All layers up to the preferred height; above it, up to the maximum, those of full frame rate;
/// the lowest in any case. In practice 180p at any rate, then 360p and 720p at 30. Returns the
/// preferred layer and the highest one that may oversend.
fn camera(
    config: &Config,
    wanted: &Wanted,
    heights: Heights<'_>,
    considered: fn(&Layer) -> bool,
    out: &mut Vec<Candidate>,
) -> (Option<usize>, Option<usize>) {
    let counted = || heights.all().filter(|(_, layer, _)| considered(layer));
    let Some(lowest) = counted().map(|(_, _, height)| height).min() else { return (None, None) };
    let thumbnail = wanted.max_height.is_some_and(|height| height <= THUMBNAIL);
    let preferred_height = if thumbnail { 0 } else { u32::from(config.onstage_preferred_height) };
    let best = counted().filter_map(|(_, layer, _)| layer.fps).fold(0.0, f32::max);
    let full = match config.onstage_preferred_framerate {
        _ if thumbnail => 0.0,
        rate if best > 0.0 => rate.min(best),
        rate => rate,
    };
    let mut preferred = None;
    for (place, layer, height) in counted() {
        let within = wanted.max_height.is_none_or(|bound| height <= u32::from(bound));
        let whole = (full * ENOUGH).min(ENOUGH_FPS);
        let enough = if heights.is_whole(layer.id) { whole } else { full * FULL };
        let smooth = layer.fps.is_none_or(|fps| fps >= enough);
        if height < preferred_height || within && smooth || height == lowest {
            out.push(Candidate { layer: place, id: layer.id, bps: layer.bps });
            if height <= preferred_height.max(lowest) {
                preferred = Some(place);
            }
        }
    }
    (preferred, None)
}

/// All layers up to the maximum height, or the lowest; the best of them is preferred. On stage, the
/// cheapest layer of the full height may oversend.
fn desktop(
    config: &Config,
    wanted: &Wanted,
    heights: Heights<'_>,
    considered: fn(&Layer) -> bool,
    out: &mut Vec<Candidate>,
) -> (Option<usize>, Option<usize>) {
    let counted = || heights.all().filter(|(_, layer, _)| considered(layer));
    let within = |height: u32| wanted.max_height.is_none_or(|bound| height <= u32::from(bound));
    let lowest = counted().map(|(_, _, height)| height).min();
    let any_within = lowest.is_some_and(within);
    let chosen = |height: u32| if any_within { within(height) } else { Some(height) == lowest };
    // VP9 has encodings of equal height that differ in quality, and does not say their frame rates.
    let unlike = |layer: &Layer| layer.fps.is_none();
    let (mut preferred, mut cheapest) = (None, None::<(u32, u64, usize)>);
    for (place, layer, height) in counted().filter(|(_, _, height)| chosen(*height)) {
        out.push(Candidate { layer: place, id: layer.id, bps: layer.bps });
        preferred = Some(place);
        let better = cheapest
            .is_none_or(|(most, bps, _)| height > most || height == most && layer.bps < bps);
        if better {
            cheapest = Some((height, layer.bps, place));
        }
        if !any_within && !wanted.on_stage && unlike(layer) {
            break;
        }
    }
    let may = wanted.on_stage && config.allow_oversend_onstage;
    (preferred, cheapest.map(|(_, _, place)| place).filter(|_| may))
}

/// Removes the candidates from `first` on for which a better one costs no more.
fn drop_dominated(out: &mut Vec<Candidate>, first: usize) {
    let mut kept = out.len();
    let mut least = None::<u64>;
    for place in (first..out.len()).rev() {
        let Some(candidate) = out.get(place).copied() else { continue };
        if least.is_none_or(|least| candidate.bps < least) {
            least = Some(candidate.bps);
            kept = kept.saturating_sub(1);
            if let Some(slot) = out.get_mut(kept) {
                *slot = candidate;
            }
        }
    }
    out.drain(first..kept);
}

/// Returns why a receiver does not get more of a source. `ideal` is the index of the best layer
/// that it may get; `all` says that it gets that.
pub(super) fn reason(wanted: &Wanted, layers: &[Layer], ideal: Option<usize>, all: bool) -> Reason {
    match wanted.cut {
        Some(super::Cut::LastN) => return Reason::LastN,
        Some(super::Cut::Load) => return Reason::SuspendedByLoad,
        None => {}
    }
    if wanted.max_height == Some(0) {
        return Reason::NotWanted;
    }
    if wanted.muted {
        return Reason::Muted;
    }
    let Some(ideal) = ideal.filter(|_| layers.iter().any(|layer| layer.active)) else {
        return Reason::NotSent;
    };
    if !all {
        return Reason::Link;
    }
    let above = Heights(layers).all().find(|(place, _, _)| *place > ideal);
    match above {
        None => Reason::Nothing,
        Some((_, _, height)) if wanted.max_height.is_some_and(|bound| height > bound.into()) => {
            Reason::Constraint
        }
        // Or its frame rate is too low to be better.
        Some(_) => Reason::NotSent,
    }
}

/// Layers with their heights. An unknown height is derived from the nearest known one.
#[derive(Clone, Copy)]
struct Heights<'a>(&'a [Layer]);

impl<'a> Heights<'a> {
    fn all(self) -> impl Iterator<Item = (usize, &'a Layer, u32)> {
        self.0.iter().enumerate().map(move |(place, layer)| (place, layer, self.height(layer)))
    }

    /// Returns whether the layer has all temporal layers of its encoding and size.
    fn is_whole(self, id: LayerId) -> bool {
        let above =
            |other: &Layer| LayerId { temporal: id.temporal, ..other.id } == id && other.id > id;
        !self.0.iter().any(above)
    }

    fn height(self, layer: &Layer) -> u32 {
        if let Some(height) = layer.height {
            return height.into();
        }
        let size = |id: LayerId| u32::from(id.encoding).saturating_add(id.spatial.into());
        let own = size(layer.id);
        let known = self.0.iter().filter_map(|other| Some((size(other.id), other.height?)));
        let shift = |height: u32, by: u32| height.checked_shl(by).unwrap_or(u32::MAX);
        match known.min_by_key(|(other, _)| other.abs_diff(own)) {
            Some((other, height)) if other <= own => {
                shift(height.into(), own.saturating_sub(other))
            }
            Some((other, height)) => {
                u32::from(height).checked_shr(other.saturating_sub(own)).unwrap_or(0)
            }
            None => shift(LOWEST, own),
        }
    }
}
