//! The header extension with which a sender announces its layers and their bitrates:
//! <http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00>.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "fields of a few bits, and shifts by less than the width"
)]

use crate::leb128;

/// Most streams of a source, spatial layers of a stream and temporal layers of a spatial layer.
const MAX: usize = 4;
/// Longest encoding of a rate, bytes: 35 bits, of which 32 are kept.
const MAX_LEB128: usize = 5;
/// Bytes of a resolution and a frame rate.
const SIZE: usize = 5;

/// A sender's announcement of the layers of a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VideoLayersAllocation {
    /// The stream that the packet belongs to, in the sender's numbering.
    pub stream: u8,
    /// Number of streams; 0: nothing is sent.
    pub streams: u8,
    layers: [[SpatialLayer; MAX]; MAX],
}

/// A spatial layer of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct SpatialLayer {
    /// Number of its temporal layers; 0: it is not sent.
    temporals: u8,
    /// Bitrate of each with everything that it depends on, kbit/s.
    kbps: [u32; MAX],
    /// Width and height, pixels; 0: not announced.
    size: (u32, u32),
}

impl VideoLayersAllocation {
    /// Parses the value of the extension. `None` if it is malformed.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let (first, mut rest) = data.split_first()?;
        if data == [0] {
            return Some(Self::default());
        }
        let streams = (first >> 4 & 0b11) + 1;
        let mut all = Self { stream: first >> 6, streams, ..Self::default() };
        let masks = read_masks(first & 0b1111, streams, &mut rest)?;
        let count = masks.iter().map(|mask| mask.count_ones() as usize).sum::<usize>();
        // Two bits for each layer, from the first byte's highest on.
        let temporals = take(&mut rest, count.div_ceil(4))?;
        for (at, layer) in all.sent_mut(&masks).enumerate() {
            let shift = 6_usize.checked_sub(at % 4 * 2)?;
            layer.temporals = (temporals.get(at / 4)? >> shift & 0b11) + 1;
        }
        for layer in all.sent_mut(&masks) {
            for kbps in layer.kbps.iter_mut().take(layer.temporals.into()) {
                *kbps = u32::try_from(leb128(&mut rest, MAX_LEB128)?).unwrap_or(u32::MAX);
            }
        }
        // Unchanged sizes are left out.
        if rest.len() >= count.checked_mul(SIZE)? {
            for layer in all.sent_mut(&masks) {
                let [w1, w0, h1, h0, _fps] = *take(&mut rest, SIZE)?.first_chunk::<SIZE>()?;
                let pixels = |high, low| u32::from(u16::from_be_bytes([high, low])) + 1;
                layer.size = (pixels(w1, w0), pixels(h1, h0));
            }
        }
        Some(all)
    }

    /// The layers that are sent according to `masks`, by stream and spatial layer.
    fn sent_mut<'a>(
        &'a mut self,
        masks: &'a [u8; MAX],
    ) -> impl Iterator<Item = &'a mut SpatialLayer> + 'a {
        self.layers.iter_mut().zip(masks).flat_map(|(layers, mask)| {
            layers.iter_mut().enumerate().filter(move |(at, _)| mask >> at & 1 == 1).map(|l| l.1)
        })
    }

    fn layer(&self, stream: u8, spatial: u8) -> Option<&SpatialLayer> {
        let layer = self.layers.get(usize::from(stream))?.get(usize::from(spatial))?;
        (layer.temporals > 0).then_some(layer)
    }

    /// Announced bitrate of a layer with everything that it depends on, bit/s. `None` if it is not
    /// sent.
    pub fn bps(&self, stream: u8, spatial: u8, temporal: u8) -> Option<u64> {
        let layer = self.layer(stream, spatial)?;
        let kbps = layer.kbps.get(usize::from(temporal))?;
        (temporal < layer.temporals).then_some(u64::from(*kbps) * 1_000)
    }

    /// The highest spatial and temporal layer of a stream. `None` if nothing of it is sent.
    pub fn top(&self, stream: u8) -> Option<(u8, u8)> {
        let spatial =
            (0..MAX as u8).rev().find(|spatial| self.layer(stream, *spatial).is_some())?;
        let temporals = self.layer(stream, spatial)?.temporals;
        Some((spatial, temporals.saturating_sub(1)))
    }

    /// The width and the height of a spatial layer, pixels. `None` if it is not sent, or they are
    /// not announced.
    pub fn size(&self, stream: u8, spatial: u8) -> Option<(u32, u32)> {
        self.layer(stream, spatial).map(|layer| layer.size).filter(|size| size.0 > 0)
    }
}

/// The spatial layers that are sent of each stream: `shared`, or if that is 0, four bits per
/// stream.
fn read_masks(shared: u8, streams: u8, rest: &mut &[u8]) -> Option<[u8; MAX]> {
    let streams = usize::from(streams);
    let mut masks = [0; MAX];
    if shared != 0 {
        masks.iter_mut().take(streams).for_each(|mask| *mask = shared);
        return Some(masks);
    }
    let packed = take(rest, streams.div_ceil(2))?;
    for (at, mask) in masks.iter_mut().take(streams).enumerate() {
        let byte = packed.get(at / 2)?;
        *mask = if at % 2 == 0 { byte >> 4 } else { byte & 0b1111 };
    }
    Some(masks)
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(len)?;
    *rest = left;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sent() {
        assert_eq!(VideoLayersAllocation::parse(&[0]), Some(VideoLayersAllocation::default()));
        assert_eq!(VideoLayersAllocation::parse(&[]), None);
    }

    #[test]
    fn simulcast_of_three_streams_with_three_temporal_layers_each() {
        // The packet is of the second of three streams, each of which has one spatial layer.
        let mut data = vec![0b0110_0001, 0b1010_1000];
        for kbps in [60u32, 90, 150, 200, 300, 500] {
            data.extend(if kbps < 128 {
                vec![kbps as u8]
            } else {
                vec![kbps as u8 | 0x80, (kbps >> 7) as u8]
            });
        }
        data.extend([0xc4, 0x07, 0xdc, 0x0b, 0xc4, 0x13]);
        let all = VideoLayersAllocation::parse(&data).unwrap();
        assert_eq!((all.stream, all.streams), (1, 3));
        assert_eq!(all.bps(0, 0, 0), Some(60_000));
        assert_eq!(all.bps(1, 0, 2), Some(500_000));
        assert_eq!(all.bps(2, 0, 2), Some(2_500_000));
        assert_eq!((all.top(2), all.top(3)), (Some((0, 2)), None));
        assert_eq!((all.bps(2, 1, 0), all.bps(2, 0, 3), all.size(2, 0)), (None, None, None));
    }

    #[test]
    fn streams_of_different_layers_with_sizes() {
        // Two streams: one spatial layer, and the first and the third of another.
        let data = [
            0b0001_0000,
            0b0001_0101,
            0b0001_0000,
            50,
            100,
            110,
            0x80 | 0x2c,
            0x02,
            0,
            159,
            0,
            89,
            30,
            1,
            63,
            0,
            179,
            30,
            4,
            255,
            2,
            207,
            30,
        ];
        let all = VideoLayersAllocation::parse(&data).unwrap();
        assert_eq!(all.bps(0, 0, 0), Some(50_000));
        assert_eq!((all.bps(1, 0, 0), all.bps(1, 0, 1)), (Some(100_000), Some(110_000)));
        assert_eq!((all.bps(1, 1, 0), all.bps(1, 2, 0)), (None, Some(300_000)));
        assert_eq!((all.size(0, 0), all.size(1, 0)), (Some((160, 90)), Some((320, 180))));
        assert_eq!((all.size(1, 2), all.top(1)), (Some((1_280, 720)), Some((2, 0))));
        // It may end before the sizes, and nowhere else.
        for len in 1..data.len() {
            let part = VideoLayersAllocation::parse(&data[..len]);
            assert_eq!(part.is_some(), len >= 8, "{len}");
            assert!(part.is_none_or(|part| part.size(0, 0).is_none()), "{len}");
        }
    }

    #[test]
    fn rates_are_bounded() {
        let parse = |rate: &[u8]| {
            let data = [&[0b0000_0001, 0], rate].concat();
            VideoLayersAllocation::parse(&data)?.bps(0, 0, 0)
        };
        assert_eq!(parse(&[0xff, 0xff, 0xff, 0xff, 0x7f]), Some(u64::from(u32::MAX) * 1_000));
        assert_eq!(parse(&[0xff, 0xff, 0xff, 0xff, 0xff, 0]), None);
        assert_eq!(parse(&[0x80]), None);
    }
}
