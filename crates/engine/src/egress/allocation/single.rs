//! One source: which of its layers a receiver may get, up to which of them it comes before others,
//! and why it gets no more.

use super::{Config, Kind, Layer, LayerId, Reason, Wanted};

/// Of a camera at up to this height all frame rates will do: it is a thumbnail.
const THUMBNAIL: u16 = 180;

/// The lowest encoding's height, pixels, while nothing is known of any; each further one is twice as
/// high. What browsers send of a camera.
const LOWEST: u32 = 180;

/// Frame rates are measured: so much of the full one is full.
const FULL: f32 = 0.8;

/// So much of the full frame rate is enough for an encoding, or a spatial layer of one, with all its
/// temporal layers: encoders leave out frames of single encodings and layers for a while, to keep their
/// rate after a keyframe. To go down for that and up again takes two more keyframes. And so many frames a
/// second are enough in any case; an encoding that sends fewer is starved.
const ENOUGH: f32 = 0.48;
const ENOUGH_FPS: f32 = 12.0;

/// A layer that a receiver may get. Of the layers of a source, each costs more than the ones before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Candidate {
    /// Its place among the source's layers.
    pub layer: usize,
    pub id: LayerId,
    pub bps: u64,
}

/// The candidates of one source, and how many steps up of them are special.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Ladder {
    first: usize,
    count: usize,
    /// On stage it gets these at once.
    pub preferred: usize,
    /// Up to these it may exceed the link.
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
    // A layer that was dropped stands for the better one that costs no more.
    let steps = |layer: Option<usize>| {
        let Some(layer) = layer else { return 0 };
        let below = left.iter().take_while(|candidate| candidate.layer < layer).count();
        below.saturating_add(1).min(left.len())
    };
    (ladder.preferred, ladder.oversend) = (steps(preferred), steps(oversend));
    ladder
}

/// Which layers count: those of which a rate is measured, or else those that arrive; a source that has
/// just begun or is muted has none, and is decided with all that it may send.
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

/// All up to the preferred height; beyond it and up to the bound those of full frame rate; the lowest
/// in any case. In practice 180p at any rate, then 360p and 720p at 30. Returns the preferred layer and
/// the one up to which the link may be exceeded.
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

/// All up to the bound, or the lowest; the best of them is preferred. On stage the link may be exceeded
/// up to the cheapest layer of the full height.
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
    // VP9 has encodings of one height that differ in quality, and tells no frame rate.
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

/// Drops the candidates from `first` on for which a better one costs no more.
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

/// Why a receiver gets no more of a source. `ideal`: the place of the best layer that it may get;
/// `all`: it gets that.
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
        // Or at too low a frame rate to be better.
        Some(_) => Reason::NotSent,
    }
}

/// Layers with their heights; what is not known of one follows from its nearest.
#[derive(Clone, Copy)]
struct Heights<'a>(&'a [Layer]);

impl<'a> Heights<'a> {
    fn all(self) -> impl Iterator<Item = (usize, &'a Layer, u32)> {
        self.0.iter().enumerate().map(move |(place, layer)| (place, layer, self.height(layer)))
    }

    /// Whether it has all temporal layers that its encoding has of its size.
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
