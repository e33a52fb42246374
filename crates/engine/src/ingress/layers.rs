//! Measures the layers within an encoding where it is received: which there are, their heights and
//! their bitrates.

use rialto_rtp::codec::{MAX_SPATIAL, MAX_TEMPORAL, Targets};

use super::{
    meta::PacketMeta,
    rate::{Rate, RateMeter},
};

/// Number of targets.
const TARGETS: usize = MAX_SPATIAL as usize * MAX_TEMPORAL as usize;

/// The index of a target among [`TARGETS`].
fn place(spatial: u8, temporal: u8) -> usize {
    let row = usize::from(spatial).saturating_mul(MAX_TEMPORAL.into());
    row.saturating_add(temporal.into())
}

/// A spatial layer has ended after this many pictures without it, and this many steps of the
/// meters: encoders leave one out when they lack bandwidth or time.
const PICTURES_WITHOUT: u32 = 8;
const STEPS_WITHOUT: u32 = 10;

/// The layers of an encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodingLayers {
    /// The targets that a receiver can get; none if the encoding has no layers.
    pub targets: Targets,
    /// Frame heights of the spatial layers (the shorter sides), pixels; 0: not known.
    pub heights: [u16; MAX_SPATIAL as usize],
    /// The bitrate of each target.
    rates: [Rate; TARGETS],
}

impl EncodingLayers {
    /// Of an encoding without layers.
    pub const NONE: &Self = &Self {
        targets: Targets::NONE,
        heights: [0; MAX_SPATIAL as usize],
        rates: [Rate { bps: 0, fps: 0 }; TARGETS],
    };

    /// The bitrate of a target.
    pub fn rate(&self, spatial: u8, temporal: u8) -> Rate {
        self.rates.get(place(spatial, temporal)).copied().unwrap_or_default()
    }

    /// The highest spatial layer, and the highest temporal layer of any.
    pub fn top(&self) -> (u8, u8) {
        self.targets.iter().fold((0, 0), |top, layer| (top.0.max(layer.0), top.1.max(layer.1)))
    }

    /// Returns whether `now` differs enough to be reported to receivers' shards.
    fn differs(&self, now: &Self) -> bool {
        self.targets != now.targets
            || self.heights != now.heights
            || self.rates.iter().zip(&now.rates).any(|(reported, now)| reported.differs(*now))
    }
}

/// The frames of one spatial and temporal layer.
#[derive(Clone, Debug)]
struct Own {
    spatial: u8,
    temporal: u8,
    /// Targets that include the last of them.
    present: Targets,
    meter: RateMeter,
}

/// Measures the layers of an encoding that has some.
#[derive(Clone, Debug, Default)]
pub struct LayerMeters {
    own: Vec<Own>,
    /// For each spatial layer, the pictures and steps since its last frame.
    without: [(u32, u32); MAX_SPATIAL as usize],
    picture: Option<u32>,
    heights: [u16; MAX_SPATIAL as usize],
}

impl LayerMeters {
    /// Handles a packet of `len` bytes. Returns whether it is of a new layer.
    pub fn on_packet(&mut self, len: usize, meta: &PacketMeta) -> bool {
        let layers = &meta.layers;
        let (spatial, temporal) =
            (layers.spatial.min(MAX_SPATIAL - 1), layers.temporal.min(MAX_TEMPORAL - 1));
        if self.picture != Some(meta.timestamp) {
            self.picture = Some(meta.timestamp);
            for (pictures, _) in &mut self.without {
                *pictures = pictures.saturating_add(1);
            }
        }
        if let Some(without) = self.without.get_mut(usize::from(spatial)) {
            *without = (0, 0);
        }
        let place = self.own.iter().position(|o| (o.spatial, o.temporal) == (spatial, temporal));
        let new = place.is_none();
        let place = place.unwrap_or(self.own.len());
        if new {
            let meter = RateMeter::default();
            self.own.push(Own { spatial, temporal, present: layers.present, meter });
        }
        if let Some(own) = self.own.get_mut(place) {
            own.present = layers.present;
            own.meter.on_packet(len, meta.timestamp, meta.keyframe, meta.end);
        }
        new
    }

    /// Handles the heights of all spatial layers from a descriptor. Returns whether they changed.
    pub fn on_heights(&mut self, heights: [u16; MAX_SPATIAL as usize]) -> bool {
        let changed = self.heights != heights;
        self.heights = heights;
        let there = |spatial: u8| heights.get(usize::from(spatial)).is_some_and(|h| *h > 0);
        self.own.retain(|own| there(own.spatial));
        changed
    }

    /// Ends a step of the meters.
    pub fn step(&mut self) {
        for own in &mut self.own {
            own.meter.step();
        }
        for (_, steps) in &mut self.without {
            *steps = steps.saturating_add(1);
        }
        let without = self.without;
        self.own.retain(|own| {
            let ended = |(pictures, steps): &(u32, u32)| {
                *pictures >= PICTURES_WITHOUT && *steps >= STEPS_WITHOUT
            };
            own.spatial == 0 || !without.get(usize::from(own.spatial)).is_some_and(ended)
        });
    }

    /// Returns what to report to receivers' shards, given what they were `told` before; `None` if
    /// that is still good enough. `announced` is the bitrate that the sender announces for a
    /// target, bit/s, which replaces the measured one.
    pub fn news(
        &self,
        reported: &EncodingLayers,
        announced: impl Fn(u8, u8) -> Option<u64>,
    ) -> Option<EncodingLayers> {
        let mut now = self.measure();
        for (spatial, temporal) in now.targets.iter() {
            let bps = announced(spatial, temporal).and_then(|bps| u32::try_from(bps).ok());
            if let Some((rate, bps)) = now.rates.get_mut(place(spatial, temporal)).zip(bps) {
                rate.bps = bps;
            }
        }
        Some(now).filter(|now| reported.differs(now))
    }

    fn measure(&self) -> EncodingLayers {
        let mut layers = EncodingLayers { heights: self.heights, ..EncodingLayers::default() };
        if self.own.len() < 2 {
            return layers;
        }
        for own in &self.own {
            layers.targets |= Targets::one(own.spatial, own.temporal);
        }
        for (spatial, temporal) in layers.targets.iter() {
            let parts = self.own.iter().filter(|own| own.present.has(spatial, temporal));
            // Pictures of which the encoder left out the highest layer count as well.
            let mut fps = [0u8; MAX_SPATIAL as usize];
            let mut bps = 0u32;
            for own in parts {
                let rate = own.meter.rate();
                bps = bps.saturating_add(rate.bps);
                if let Some(fps) = fps.get_mut(usize::from(own.spatial)) {
                    *fps = fps.saturating_add(rate.fps);
                }
            }
            let rate = Rate { bps, fps: fps.into_iter().max().unwrap_or_default() };
            if let Some(place) = layers.rates.get_mut(place(spatial, temporal)) {
                *place = rate;
            }
        }
        layers
    }
}

#[cfg(test)]
mod tests {
    use rialto_rtp::codec::FrameLayers;

    use super::*;

    fn frame(picture: u32, spatial: u8, temporal: u8) -> PacketMeta {
        let present = Targets::from(spatial, temporal);
        PacketMeta {
            timestamp: picture * 3_000,
            end: true,
            layers: FrameLayers {
                spatial,
                temporal,
                present,
                needs: present,
                ..FrameLayers::WHOLE
            },
            ..PacketMeta::default()
        }
    }

    /// Applies and returns what is to be reported.
    fn news(meters: &LayerMeters, reported: &mut EncodingLayers) -> Option<EncodingLayers> {
        let news = meters.news(reported, |_, _| None)?;
        *reported = news;
        Some(news)
    }

    /// Two seconds of 30 pictures each, with two spatial and two temporal layers, up to the spatial
    /// layer `upto`.
    fn run(meters: &mut LayerMeters, pictures: std::ops::Range<u32>, upto: u8) {
        for picture in pictures {
            for spatial in 0..=upto {
                let len = [500, 1_500][usize::from(spatial)];
                meters.on_packet(len, &frame(picture, spatial, (picture % 2) as u8));
            }
            if picture % 3 == 2 {
                meters.step();
            }
        }
    }

    #[test]
    fn measures_each_target_with_what_it_depends_on() {
        let (mut meters, mut reported) = (LayerMeters::default(), EncodingLayers::default());
        assert!(meters.on_packet(500, &frame(0, 0, 0)));
        assert!(!meters.on_packet(500, &frame(2, 0, 0)));
        assert!(meters.on_packet(500, &frame(2, 1, 0)));
        run(&mut meters, 3..63, 1);
        let layers = news(&meters, &mut reported).unwrap();
        assert_eq!(layers.targets.iter().collect::<Vec<_>>(), [(0, 0), (0, 1), (1, 0), (1, 1)]);
        let (half, all) = (layers.rate(0, 0), layers.rate(0, 1));
        // The window is an odd number of pictures long.
        let near = |is: u32, expected: u32| is.abs_diff(expected) <= expected / 10;
        assert!(near(half.fps.into(), 15) && near(all.fps.into(), 30), "{half:?} {all:?}");
        assert!(near(half.bps, 60_000) && near(all.bps, 120_000), "{half:?} {all:?}");
        let (half, all) = (layers.rate(1, 0), layers.rate(1, 1));
        assert!(near(half.fps.into(), 15) && near(all.fps.into(), 30), "{half:?} {all:?}");
        assert!(near(half.bps, 240_000) && near(all.bps, 480_000), "{half:?} {all:?}");
        assert_eq!(layers.top(), (1, 1));
        assert_eq!(news(&meters, &mut reported), None, "nothing has changed");
    }

    #[test]
    fn what_the_sender_says_is_taken_where_it_says_something() {
        let mut meters = LayerMeters::default();
        run(&mut meters, 0..63, 1);
        let announced = |spatial, _| (spatial == 1).then_some(400_000);
        let layers = meters.news(&EncodingLayers::default(), announced).unwrap();
        assert_eq!((layers.rate(1, 0).bps, layers.rate(1, 1).bps), (400_000, 400_000));
        assert!(layers.rate(0, 0).bps < 70_000 && layers.rate(1, 1).fps > 27, "{layers:?}");
    }

    #[test]
    fn pictures_without_the_highest_layer_are_seen_too() {
        let (mut meters, mut reported) = (LayerMeters::default(), EncodingLayers::default());
        for picture in 0..63 {
            for spatial in 0..=u8::from(picture % 2 == 0) {
                meters.on_packet(500, &frame(picture, spatial, 0));
            }
            if picture % 3 == 2 {
                meters.step();
            }
        }
        let layers = news(&meters, &mut reported).unwrap();
        let near = |fps: u8| fps.abs_diff(30) <= 2;
        assert!(near(layers.rate(0, 0).fps) && near(layers.rate(1, 0).fps), "{layers:?}");
    }

    #[test]
    fn a_spatial_layer_that_no_longer_comes_has_ended_and_a_slow_one_has_not() {
        let (mut meters, mut reported) = (LayerMeters::default(), EncodingLayers::default());
        run(&mut meters, 0..60, 1);
        run(&mut meters, 60..120, 0);
        assert_eq!(news(&meters, &mut reported).map(|layers| layers.top()), Some((0, 1)));
        run(&mut meters, 120..150, 1);
        for _ in 0..100 {
            meters.step();
        }
        assert_eq!(
            news(&meters, &mut reported).map(|layers| layers.top()),
            Some((1, 1)),
            "nothing came at all"
        );
        meters.on_heights([180, 0, 0, 0]);
        assert_eq!(
            news(&meters, &mut reported).map(|layers| layers.top()),
            Some((0, 1)),
            "it is not there"
        );
    }

    #[test]
    fn an_encoding_of_one_layer_has_none() {
        let (mut meters, mut reported) = (LayerMeters::default(), EncodingLayers::default());
        for picture in 0..60 {
            meters.on_packet(500, &frame(picture, 0, 0));
            meters.step();
        }
        assert_eq!(news(&meters, &mut reported), None);
    }
}
