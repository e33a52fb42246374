//! Descriptors as a sender writes them, and how they are read.

use super::super::model::{self, Coded, InterLayer, Svc};
use super::*;
use proptest::prelude::*;

#[test]
fn dependency_descriptor() {
    let key = DependencyDescriptor::parse(&[0x80, 0x01, 0x02, 0xc0, 0x00]).unwrap();
    assert!(key.start && !key.end && key.has_structure && key.has_active_targets);
    assert_eq!((key.template_id, key.frame_number), (0, 0x102));
    let inter = DependencyDescriptor::parse(&[0x45, 0xff, 0xff]).unwrap();
    assert!(!inter.start && inter.end && !inter.has_structure);
    assert_eq!((inter.template_id, inter.frame_number), (5, 0xffff));
    assert_eq!(DependencyDescriptor::parse(&[0, 1]), None);
}

/// Writes bits, the most significant first.
#[derive(Default, Clone)]
struct Writer(Vec<bool>);

impl Writer {
    fn put(&mut self, value: usize, count: usize) {
        self.0.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
    }

    /// ns(n) of AV1 section 4.10.7.
    fn put_non_symmetric(&mut self, value: usize, n: usize) {
        let width = n.ilog2() as usize + 1;
        let short = (1 << width) - n;
        if value < short {
            self.put(value, width - 1);
        } else {
            self.put(value + short, width);
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let byte = |bits: &[bool]| {
            bits.iter().enumerate().fold(0, |byte, (n, bit)| byte | u8::from(*bit) << (7 - n))
        };
        self.0.chunks(8).map(byte).collect()
    }
}

/// A template, or the fields of a frame. Indications are written as in the specification: `-`, `D`,
/// `S`, `R`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Template {
    spatial: u8,
    temporal: u8,
    dtis: String,
    fdiffs: Vec<usize>,
}

fn template(spatial: u8, temporal: u8, dtis: &str, fdiffs: &[usize]) -> Template {
    Template { spatial, temporal, dtis: dtis.into(), fdiffs: fdiffs.into() }
}

fn put_dtis(out: &mut Writer, dtis: &str) {
    for indication in dtis.chars() {
        out.put("-DSR".find(indication).unwrap(), 2);
    }
}

#[derive(Clone)]
struct Layout {
    first_id: usize,
    templates: Vec<Template>,
    chains: usize,
    sizes: Vec<(usize, usize)>,
}

impl Layout {
    fn decode_targets(&self) -> usize {
        self.templates[0].dtis.len()
    }

    fn put(&self, out: &mut Writer) {
        out.put(self.first_id, 6);
        out.put(self.decode_targets() - 1, 5);
        for pair in self.templates.windows(2) {
            let next = match pair {
                [a, b] if b.spatial > a.spatial => NEXT_SPATIAL,
                [a, b] if b.temporal > a.temporal => NEXT_TEMPORAL,
                _ => SAME_LAYER,
            };
            out.put(next as usize, 2);
        }
        out.put(3, 2);
        for template in &self.templates {
            put_dtis(out, &template.dtis);
        }
        for template in &self.templates {
            for fdiff in &template.fdiffs {
                out.put(1, 1);
                out.put(fdiff - 1, 4);
            }
            out.put(0, 1);
        }
        out.put_non_symmetric(self.chains, self.decode_targets() + 1);
        if self.chains > 0 {
            for target in 0..self.decode_targets() {
                out.put_non_symmetric(target % self.chains, self.chains);
            }
            for n in 0..self.templates.len() * self.chains {
                out.put(n % 16, 4);
            }
        }
        out.put(usize::from(!self.sizes.is_empty()), 1);
        for (width, height) in &self.sizes {
            out.put(width - 1, 16);
            out.put(height - 1, 16);
        }
    }

    /// The descriptor of a whole frame in one packet. If no template has its fields, it names the
    /// first template of the frame's layer and how the frame differs.
    fn frame(
        &self,
        number: usize,
        frame: &Template,
        structure: bool,
        active: Option<usize>,
    ) -> Vec<u8> {
        let exact = self.templates.iter().position(|template| template == frame);
        let of_layer = |t: &Template| (t.spatial, t.temporal) == (frame.spatial, frame.temporal);
        let index = exact.or_else(|| self.templates.iter().position(of_layer)).unwrap();
        let template = &self.templates[index];
        let (dtis, fdiffs) = (template.dtis != frame.dtis, template.fdiffs != frame.fdiffs);
        let mut out = Writer::default();
        out.put(3, 2);
        out.put((self.first_id + index) % 64, 6);
        out.put(number % 0x1_0000, 16);
        if !structure && active.is_none() && !dtis && !fdiffs {
            return out.bytes();
        }
        for flag in [structure, active.is_some(), dtis, fdiffs, fdiffs && self.chains > 0] {
            out.put(flag.into(), 1);
        }
        if structure {
            self.put(&mut out);
        }
        if let Some(active) = active {
            out.put(active, self.decode_targets());
        }
        if dtis {
            put_dtis(&mut out, &frame.dtis);
        }
        if fdiffs {
            for fdiff in &frame.fdiffs {
                let nibbles = [16, 256, 4096].iter().position(|end| fdiff <= end).unwrap() + 1;
                out.put(nibbles, 2);
                out.put(fdiff - 1, 4 * nibbles);
            }
            out.put(0, 2);
            for _ in 0..self.chains {
                out.put(1, 8);
            }
        }
        out.bytes()
    }
}

/// One spatial and two temporal layers (L1T2).
fn two_temporal() -> Layout {
    Layout {
        first_id: 62,
        templates: vec![
            template(0, 0, "SS", &[]),
            template(0, 0, "SS", &[2]),
            template(0, 1, "-D", &[1]),
        ],
        chains: 1,
        sizes: vec![(360, 640)],
    }
}

/// Two spatial layers, predicted in keyframes only (L2T1_KEY).
fn two_spatial() -> Layout {
    Layout {
        first_id: 1,
        templates: vec![
            template(0, 0, "S-", &[2]),
            template(0, 0, "SS", &[]),
            template(1, 0, "-S", &[2]),
            template(1, 0, "-S", &[1]),
        ],
        chains: 2,
        sizes: vec![(640, 360), (1280, 720)],
    }
}

#[test]
fn fields_in_the_order_of_the_specification() {
    // Section A.8.2, by hand: L1T2 with one chain and one size.
    let bits = [
        "1",
        "1",
        "111110",
        "0000000000000111", // start, end, template id, frame number
        "1",
        "0",
        "0",
        "0",
        "0", // structure; no active targets, no custom fields
        "111110",
        "00001", // the first template's id, two decode targets
        "00",
        "01",
        "11", // template layers: T0, T0, T1
        "1010",
        "1010",
        "0001", // indications: SS, SS, -D
        "0",
        "1",
        "0001",
        "0",
        "1",
        "0000",
        "0",  // distances: none, 2, 1
        "10", // ns(3): one chain, which needs no bits in ns(1)
        "0000",
        "0010",
        "0001", // distances in the chain
        "1",
        "0000000101100111",
        "0000001001111111", // 360 by 640
    ];
    let written = Writer(bits.concat().chars().map(|bit| bit == '1').collect());
    let layout = two_temporal();
    let mut reader = DependencyReader::default();
    let frame = reader.read(&written.bytes()).unwrap();
    assert!(frame.start && frame.end && frame.keyframe);
    assert_eq!((frame.frame_number, frame.heights), (7, Some([360, 0, 0, 0])));
    let layers = frame.layers.unwrap();
    assert!(layers.independent);
    assert_eq!((layers.present, layers.switch), (Targets::ALL, Targets::ALL));
    let upper = reader.read(&layout.frame(8, &layout.templates[2], false, None)).unwrap();
    assert!(!upper.keyframe && upper.heights.is_none() && upper.active.is_none());
    let upper = upper.layers.unwrap();
    assert_eq!((upper.spatial, upper.temporal, upper.independent), (0, 1, false));
    assert_eq!(upper.present, Targets::from(0, 1), "targets above the highest are the same");
    assert_eq!((upper.needs, upper.switch), (upper.present, Targets::NONE));
}

#[test]
fn nothing_is_known_without_the_structure() {
    let layout = two_temporal();
    let delta = layout.frame(9, &layout.templates[1], false, None);
    let custom = layout.frame(9, &template(0, 1, "-S", &[3]), false, Some(1));
    let mut reader = DependencyReader::default();
    for data in [&delta, &custom] {
        let frame = reader.read(data).unwrap();
        assert_eq!((frame.frame_number, frame.layers, frame.active), (9, None, None));
    }
    // A template that the structure does not have.
    reader.read(&layout.frame(1, &layout.templates[0], true, None)).unwrap();
    assert!(reader.read(&delta).unwrap().layers.is_some());
    assert_eq!(reader.read(&[0xc0 | 5, 0, 9]).unwrap().layers, None);
}

#[test]
fn custom_fields_replace_those_of_the_template() {
    let layout = two_temporal();
    let mut reader = DependencyReader::default();
    reader.read(&layout.frame(0, &layout.templates[0], true, None)).unwrap();
    let mut read =
        |frame: Template, active| reader.read(&layout.frame(1, &frame, false, active)).unwrap();
    let switch = read(template(0, 1, "-S", &[1]), None).layers.unwrap();
    assert_eq!((switch.present, switch.switch), (Targets::from(0, 1), Targets::from(0, 1)));
    let far = read(template(0, 1, "-D", &[3000, 17]), None).layers.unwrap();
    assert_eq!((far.present, far.independent), (Targets::from(0, 1), false));
    let alone = read(template(0, 1, "-D", &[]), Some(0b01));
    assert!(alone.layers.unwrap().independent);
    assert_eq!(alone.active, Some(Targets::of_temporal(0)));
}

#[test]
fn spatial_layers_of_their_own() {
    let layout = two_spatial();
    let mut reader = DependencyReader::default();
    let key = reader.read(&layout.frame(0, &layout.templates[1], true, Some(0b11))).unwrap();
    assert_eq!(key.heights, Some([360, 720, 0, 0]));
    assert_eq!(key.active, Some(Targets::ALL));
    let mut layers = |n: usize| {
        reader.read(&layout.frame(n, &layout.templates[n], false, None)).unwrap().layers.unwrap()
    };
    let upper = layers(3);
    assert!(!upper.independent);
    assert_eq!((upper.spatial, upper.present), (1, Targets::from(1, 0)));
    let lower = layers(0);
    assert_eq!((lower.present, lower.switch), (Targets::of_spatial(0, 0), lower.present));
}

#[test]
fn decode_targets_that_include_nothing_count_for_nothing() {
    let mut layout = two_temporal();
    for (template, more) in layout.templates.iter_mut().zip(["S-R", "S-R", "--S"]) {
        template.dtis.push_str(more);
    }
    // The five decode targets are T0, T1, T0 again, none, T1 again.
    let mut reader = DependencyReader::default();
    let key = layout.frame(0, &layout.templates[0], true, Some(0b00100));
    let active = reader.read(&key).unwrap().active;
    assert_eq!(active, Some(Targets::of_temporal(0)), "of two alike the last stands for both");
    let upper = reader.read(&layout.frame(1, &layout.templates[2], false, None)).unwrap();
    let upper = upper.layers.unwrap();
    assert_eq!((upper.present, upper.switch), (Targets::from(0, 1), Targets::from(0, 1)));
}

#[test]
fn late_packets_are_read_with_the_structure_before() {
    let (old, mut new) = (two_temporal(), two_spatial());
    new.first_id = 62;
    let mut reader = DependencyReader::default();
    let temporal = |frame: Option<DependencyFrame>| frame.unwrap().layers.unwrap().temporal;
    let late = old.frame(99, &old.templates[2], false, None);
    reader.read(&old.frame(10, &old.templates[0], true, None)).unwrap();
    assert_eq!(temporal(reader.read(&late)), 1);
    let key = new.frame(100, &new.templates[1], true, None);
    reader.read(&key).unwrap();
    // The earlier keyframe arrives again, then one of its frames.
    reader.read(&old.frame(10, &old.templates[0], true, None)).unwrap();
    assert_eq!(temporal(reader.read(&late)), 1);
    let next = reader.read(&new.frame(101, &new.templates[2], false, None)).unwrap();
    assert_eq!(next.layers.unwrap().spatial, 1);
    // Again with the same structure: both are still known.
    reader.read(&new.frame(120, &new.templates[1], true, None)).unwrap();
    assert_eq!(temporal(reader.read(&late)), 1);
}

#[test]
fn what_comes_before_its_structure_is_early_and_what_is_older_is_not() {
    let (old, mut new) = (two_temporal(), two_spatial());
    new.first_id = 20;
    let mut reader = DependencyReader::default();
    let next = new.frame(101, &new.templates[2], false, None);
    let custom = new.frame(102, &template(1, 0, "-S", &[3]), false, Some(1));
    assert!(reader.read(&next).unwrap().early, "the first of all");
    let key = reader.read(&old.frame(10, &old.templates[0], true, None)).unwrap();
    assert!(key.structure && !key.early);
    for data in [&next, &custom] {
        let frame = reader.read(data).unwrap();
        assert!(frame.early && frame.layers.is_none() && frame.active.is_none());
    }
    let late = old.frame(99, &old.templates[2], false, None);
    assert!(!reader.read(&late).unwrap().early);
    reader.read(&new.frame(100, &new.templates[1], true, None)).unwrap();
    assert!(!reader.read(&next).unwrap().early && !reader.read(&custom).unwrap().early);
    assert!(!reader.read(&late).unwrap().early, "it has the structure before");
    let unknown = reader.read(&[0xf2, 0, 98]).unwrap();
    assert!(!unknown.early && unknown.layers.is_none(), "nothing comes that describes it");
    assert!(reader.read(&[0xf2, 0, 110]).unwrap().early);
}

#[test]
fn structures_that_change_with_each_frame_hold_for_theirs() {
    let mut reader = DependencyReader::default();
    for number in 0..500 {
        let mut layout = if number % 2 == 0 { two_temporal() } else { two_spatial() };
        layout.first_id = number % 64;
        let upper = layout.templates.last().unwrap();
        let frame = reader.read(&layout.frame(number, upper, true, None)).unwrap();
        let layers = frame.layers.unwrap();
        assert_eq!((layers.spatial, layers.temporal), (upper.spatial, upper.temporal));
    }
}

#[test]
fn frame_numbers_wrap_without_a_keyframe() {
    let layout = two_temporal();
    let mut reader = DependencyReader::default();
    reader.read(&layout.frame(60_000, &layout.templates[0], true, None)).unwrap();
    for number in 60_001..200_000 {
        let data = layout.frame(number, &layout.templates[1 + number % 2], false, None);
        assert!(reader.read(&data).unwrap().layers.is_some(), "{number}");
    }
}

#[test]
fn malformed_structures_teach_nothing() {
    let good = two_temporal();
    let mut reader = DependencyReader::default();
    reader.read(&good.frame(0, &good.templates[0], true, None)).unwrap();
    let before = format!("{reader:?}");
    let templates = |count: usize, next: fn(usize) -> (u8, u8)| {
        let of = |(spatial, temporal)| template(spatial, temporal, "S", &[]);
        let sizes = vec![(16, 9); 4];
        Layout { templates: (0..count).map(next).map(of).collect(), sizes, ..good.clone() }
    };
    let largest = templates(64, |n| (n as u8 / 16, n as u8 % 16 / 2));
    let data = largest.frame(1, &largest.templates[63], true, None);
    assert_eq!(DependencyReader::default().read(&data).unwrap().layers.unwrap().temporal, 3);
    for bad in
        [templates(65, |_| (0, 0)), templates(5, |n| (n as u8, 0)), templates(9, |n| (0, n as u8))]
    {
        assert_eq!(reader.read(&bad.frame(1, &bad.templates[0], true, None)), None);
    }
    let layout = two_spatial();
    let whole = layout.frame(2, &template(1, 0, "-S", &[400]), true, Some(3));
    for len in 0..whole.len() {
        let cut = reader.read(&whole[..len]);
        assert_eq!(cut.is_some(), len == 3, "{len}");
    }
    assert_eq!(format!("{reader:?}"), before);
    assert!(reader.read(&whole).is_some());
}

/// The indications of a frame as libwebrtc's encoders set them.
fn dtis(frame: &Coded, mode: InterLayer, layers: (u8, u8)) -> String {
    let indication = |spatial: u8, temporal: u8| {
        let all_above = mode == InterLayer::On || mode == InterLayer::OnKey && frame.key;
        let own = spatial == frame.spatial;
        if temporal < frame.temporal || spatial < frame.spatial || !own && !all_above {
            '-'
        } else if !own && !frame.key {
            'R'
        } else if temporal == 0 || frame.up && temporal > frame.temporal {
            'S'
        } else if temporal == frame.temporal && temporal == 2 {
            'D'
        } else {
            'R'
        }
    };
    (0..layers.0)
        .flat_map(|spatial| (0..layers.1).map(move |temporal| indication(spatial, temporal)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_forwarded_frame_lacks_a_reference(
        seed: u64, spatial in 1u8..=3, temporal in 1u8..=3, mode in 0u8..3, chained: bool,
    ) {
        let (svc, mode, random) = Svc::drawn(seed, (spatial, temporal), mode, chained);
        let fields = |(n, frame): (usize, &Coded)| Template {
            dtis: dtis(frame, mode, (spatial, temporal)),
            fdiffs: frame.refs.iter().map(|reference| n - reference).collect(),
            ..template(frame.spatial, frame.temporal, "", &[])
        };
        let fields: Vec<_> = svc.frames.iter().enumerate().map(fields).collect();
        // One template for each layer, and those of the first frames.
        let only = |at: (u8, u8)| -> String {
            let layers = (0..spatial).flat_map(|s| (0..temporal).map(move |t| (s, t)));
            layers.map(|layer| if layer == at { 'S' } else { '-' }).collect()
        };
        let layers = (0..spatial).flat_map(|s| (0..temporal).map(move |t| (s, t)));
        let first = fields.iter().take(20).filter(|t| t.fdiffs.iter().all(|d| *d <= 16)).cloned();
        let templates = layers.map(|(s, t)| template(s, t, &only((s, t)), &[])).chain(first);
        let templates: std::collections::BTreeSet<_> = templates.collect();
        let layout = Layout {
            first_id: 40,
            templates: templates.into_iter().collect(),
            chains: usize::from(seed as u8 % (spatial * temporal + 1)),
            sizes: vec![(64, 36); spatial.into()],
        };
        let mut reader = DependencyReader::default();
        let read = |(n, (frame, fields)): (usize, (&Coded, &Template))| {
            let structure = frame.refs.is_empty();
            let data = layout.frame(n, fields, structure, None);
            let read = reader.read(&data).unwrap();
            assert_eq!(reader.read(&data), Some(read));
            assert_eq!(read.keyframe, structure);
            let layers = read.layers.unwrap();
            assert_eq!((layers.spatial, layers.temporal), (frame.spatial, frame.temporal));
            (frame.clone(), layers)
        };
        let frames: Vec<_> =
            svc.frames.iter().zip(&fields).enumerate().map(read).collect();
        let within = (!chained && spatial == 1).then_some(8);
        model::run(&frames, (spatial, temporal), random, within);
    }
}

#[test]
fn a_sender_may_come_back_with_lower_frame_numbers() {
    let numbers =
        [(two_spatial(), 0, 10_000), (two_temporal(), 0, 10_000), (two_temporal(), 1, 513)];
    for (old, template, before) in numbers {
        let mut reader = DependencyReader::default();
        let new = two_temporal();
        reader.read(&old.frame(before, &old.templates[template], true, None)).unwrap();
        for n in 0..30_000usize {
            let key = n % 3_000 == 0;
            let template = &new.templates[if key { 0 } else { 1 + n % 2 }];
            let frame = reader.read(&new.frame(n, template, key, None)).unwrap();
            let layers = frame.layers.map(|layers| (layers.spatial, layers.temporal));
            assert_eq!(layers, Some((0, template.temporal)), "{n} after {before}");
        }
    }
}
