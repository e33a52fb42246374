//! The dependency descriptor (AV1 RTP section A.8), written and read bit by bit.

use crate::{
    Mode,
    bits::{BitReader, BitWriter},
    pattern::{LayerFrame, Pattern},
};

/// The relation of a frame to a decode target (A.8.3, `frame_dti`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dti {
    NotPresent,
    Discardable,
    Switch,
    Required,
}

const DTIS: [Dti; 4] = [Dti::NotPresent, Dti::Discardable, Dti::Switch, Dti::Required];

/// A template, or the fields of one frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Template {
    pub(crate) spatial: u8,
    pub(crate) temporal: u8,
    pub(crate) dtis: Vec<Dti>,
    pub(crate) fdiffs: Vec<u32>,
    pub(crate) chains: Vec<u32>,
}

impl Template {
    /// The descriptor's fields for a frame.
    pub(crate) fn of(frame: &LayerFrame) -> Self {
        Self {
            spatial: frame.spatial,
            temporal: frame.temporal,
            dtis: frame.dtis.clone(),
            fdiffs: frame.fdiffs.clone(),
            chains: frame.chain_diffs.clone(),
        }
    }
}

/// A template dependency structure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Structure {
    pub(crate) id: u8,
    pub(crate) targets: usize,
    pub(crate) chains: usize,
    /// The chain of each target.
    pub(crate) protected: Vec<u32>,
    pub(crate) templates: Vec<Template>,
    pub(crate) sizes: Vec<(u16, u16)>,
}

/// What a packet's descriptor contains besides the frame.
pub(crate) struct Extras {
    pub(crate) start: bool,
    pub(crate) end: bool,
    pub(crate) attach: bool,
    pub(crate) active: Option<u32>,
}

impl Structure {
    /// The templates for the frames of a mode, if none is dropped.
    pub(crate) fn of(mode: &Mode, encoding: u8, id: u8) -> Self {
        let mut pattern = Pattern::new(*mode, 1, 0);
        let mut templates: Vec<Template> = Vec::new();
        for _ in 0..=2 * mode.cycle().len() {
            for frame in pattern.next_picture(false, None) {
                let template = Template::of(&frame);
                if !templates.contains(&template) {
                    templates.push(template);
                }
            }
        }
        templates.sort_by_key(|t| (t.spatial, t.temporal));
        let (s, t) = (u32::from(mode.spatial), usize::from(mode.temporal));
        let protected = (0..s).flat_map(|chain| std::iter::repeat_n(chain, t)).collect();
        let size = |spatial| {
            let height = mode.height(encoding, spatial);
            (height / 9 * 16, height)
        };
        Self {
            id,
            targets: usize::from(mode.spatial) * t,
            chains: mode.chains(),
            protected,
            templates,
            sizes: (0..mode.spatial).map(size).collect(),
        }
    }

    /// The id of a structure that follows this one.
    pub(crate) fn next_id(&self) -> u8 {
        (self.id + self.templates.len() as u8) % 64
    }

    /// The template with the fewest differences.
    fn best(&self, frame: &Template) -> usize {
        let same = |t: &&Template| (t.spatial, t.temporal) == (frame.spatial, frame.temporal);
        let cost = |t: &Template| {
            let fdiffs = if t.fdiffs == frame.fdiffs { 0 } else { 2 + 8 * frame.fdiffs.len() };
            let dtis = if t.dtis == frame.dtis { 0 } else { 2 * self.targets };
            let chains = if t.chains == frame.chains { 0 } else { 8 * self.chains };
            fdiffs + dtis + chains
        };
        let all = self.templates.iter().enumerate().filter(|(_, t)| same(t));
        all.min_by_key(|(_, t)| cost(t)).expect("a template of the layer").0
    }

    /// The descriptor of a packet.
    pub(crate) fn write(&self, frame: &Template, number: u16, extras: &Extras) -> Vec<u8> {
        let at = self.best(frame);
        let template = &self.templates[at];
        let custom = [
            template.dtis != frame.dtis,
            template.fdiffs != frame.fdiffs,
            template.chains != frame.chains,
        ];
        let mut w = BitWriter::default();
        w.put(extras.start.into(), 1);
        w.put(extras.end.into(), 1);
        w.put((u32::from(self.id) + at as u32) % 64, 6);
        w.put(number.into(), 16);
        let all = (1u32 << self.targets) - 1;
        let active = extras.active.filter(|active| !(extras.attach && *active == all));
        if !extras.attach && active.is_none() && custom == [false; 3] {
            return w.finish();
        }
        w.put(extras.attach.into(), 1);
        w.put(active.is_some().into(), 1);
        for custom in custom {
            w.put(custom.into(), 1);
        }
        if extras.attach {
            self.write_structure(&mut w);
        }
        if let Some(active) = active {
            w.put(active, self.targets);
        }
        if custom[0] {
            frame.dtis.iter().for_each(|dti| w.put(*dti as u32, 2));
        }
        if custom[1] {
            for fdiff in &frame.fdiffs {
                let nibbles = (fdiff - 1).checked_ilog2().map_or(1, |log| log as usize / 4 + 1);
                w.put(nibbles as u32, 2);
                w.put(fdiff - 1, 4 * nibbles);
            }
            w.put(0, 2);
        }
        if custom[2] {
            frame.chains.iter().for_each(|diff| w.put(*diff, 8));
        }
        w.finish()
    }

    fn write_structure(&self, w: &mut BitWriter) {
        w.put(self.id.into(), 6);
        w.put(self.targets as u32 - 1, 5);
        for pair in self.templates.windows(2) {
            let next =
                match (pair[1].spatial - pair[0].spatial, pair[1].temporal == pair[0].temporal) {
                    (0, true) => 0,
                    (0, false) => 1,
                    _ => 2,
                };
            w.put(next, 2);
        }
        w.put(3, 2);
        for dti in self.templates.iter().flat_map(|t| &t.dtis) {
            w.put(*dti as u32, 2);
        }
        for template in &self.templates {
            for fdiff in &template.fdiffs {
                w.put(1, 1);
                w.put(fdiff - 1, 4);
            }
            w.put(0, 1);
        }
        w.put_one_of(self.chains as u32, self.targets as u32 + 1);
        if self.chains > 0 {
            for chain in &self.protected {
                w.put_one_of(*chain, self.chains as u32);
            }
            for diff in self.templates.iter().flat_map(|t| &t.chains) {
                w.put(*diff, 4);
            }
        }
        w.put(1, 1);
        for (width, height) in &self.sizes {
            w.put(u32::from(*width) - 1, 16);
            w.put(u32::from(*height) - 1, 16);
        }
    }

    fn read(r: &mut BitReader<'_>) -> Option<Self> {
        let id = r.take(6)? as u8;
        let targets = r.take(5)? as usize + 1;
        let mut layers = vec![(0, 0)];
        loop {
            let (spatial, temporal) = *layers.last()?;
            match r.take(2)? {
                0 => layers.push((spatial, temporal)),
                1 => layers.push((spatial, temporal + 1)),
                2 => layers.push((spatial + 1, 0)),
                _ => break,
            }
        }
        let dtis = layers.iter().map(|_| read_dtis(r, targets)).collect::<Option<Vec<_>>>()?;
        let mut fdiffs = Vec::new();
        for _ in &layers {
            let mut all = Vec::new();
            while r.flag()? {
                all.push(r.take(4)? + 1);
            }
            fdiffs.push(all);
        }
        let chains = r.take_one_of(targets as u32 + 1)? as usize;
        let protected = (0..if chains > 0 { targets } else { 0 })
            .map(|_| r.take_one_of(chains as u32))
            .collect::<Option<Vec<_>>>()?;
        let mut templates = Vec::new();
        for (((spatial, temporal), dtis), fdiffs) in layers.iter().copied().zip(dtis).zip(fdiffs) {
            let chains = (0..chains).map(|_| r.take(4)).collect::<Option<_>>()?;
            templates.push(Template { spatial, temporal, dtis, fdiffs, chains });
        }
        let mut sizes = Vec::new();
        if r.flag()? {
            for _ in 0..=layers.last()?.0 {
                sizes.push((r.take(16)? as u16 + 1, r.take(16)? as u16 + 1));
            }
        }
        Some(Self { id, targets, chains, protected, templates, sizes })
    }
}

fn read_dtis(r: &mut BitReader<'_>, targets: usize) -> Option<Vec<Dti>> {
    (0..targets).map(|_| Some(DTIS[r.take(2)? as usize])).collect()
}

/// The contents of a descriptor.
pub(crate) struct Read {
    pub(crate) start: bool,
    pub(crate) end: bool,
    pub(crate) number: u16,
    pub(crate) structure: Option<Structure>,
    /// The frame; `None` if there is no structure, or none with such a template.
    pub(crate) frame: Option<Template>,
    /// Targets that are active from here on.
    pub(crate) active: Option<u32>,
}

/// Reads a descriptor with the structure that was last received.
pub(crate) fn read(data: &[u8], current: Option<&Structure>) -> Option<Read> {
    let mut r = BitReader::new(data);
    let (start, end) = (r.flag()?, r.flag()?);
    let id = r.take(6)?;
    let number = r.take(16)? as u16;
    let mut read = Read { start, end, number, structure: None, frame: None, active: None };
    let flags = if data.len() > 3 { r.take(5)? } else { 0 };
    let has = |bit: u32| flags >> bit & 1 == 1;
    if has(4) {
        read.structure = Some(Structure::read(&mut r)?);
    }
    let Some(structure) = read.structure.as_ref().or(current) else { return Some(read) };
    if has(3) {
        read.active = Some(r.take(structure.targets)?);
    }
    let at = (64 + id as usize - usize::from(structure.id)) % 64;
    let Some(mut frame) = structure.templates.get(at).cloned() else { return Some(read) };
    if has(2) {
        frame.dtis = read_dtis(&mut r, structure.targets)?;
    }
    if has(1) {
        frame.fdiffs.clear();
        loop {
            match r.take(2)? as usize {
                0 => break,
                nibbles => frame.fdiffs.push(r.take(4 * nibbles)? + 1),
            }
        }
    }
    if has(0) {
        frame.chains = (0..structure.chains).map(|_| r.take(8)).collect::<Option<_>>()?;
    }
    read.frame = Some(frame);
    Some(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(template: &Template) -> String {
        let dtis = template.dtis.iter().map(|d| ['-', 'D', 'S', 'R'][*d as usize]);
        let dtis: String = dtis.collect();
        format!(
            "S{}T{} {dtis} {:?} {:?}",
            template.spatial, template.temporal, template.fdiffs, template.chains
        )
    }

    /// The structures are those that Chromium sends.
    #[test]
    fn templates_are_those_of_browsers() {
        let all = |mode: &Mode| -> Vec<String> {
            Structure::of(mode, 0, 0).templates.iter().map(text).collect()
        };
        let l1t3 = all(&Mode::AV1_L1T3);
        assert_eq!(l1t3.len(), 5);
        for expected in [
            "S0T0 SSS [] [0]",
            "S0T0 SSS [4] [4]",
            "S0T1 -DS [2] [2]",
            "S0T2 --D [1] [1]",
            "S0T2 --D [1] [3]",
        ] {
            assert!(l1t3.contains(&expected.to_owned()), "{expected}: {l1t3:#?}");
        }
        let l3t3 = all(&Mode::AV1_L3T3);
        assert_eq!(l3t3.len(), 15);
        for expected in [
            "S2T0 ------SSS [1] [2, 1, 1]",
            "S1T1 ----DS-RR [6, 1] [7, 6, 5]",
            "S0T2 --D--R--R [3] [9, 8, 7]",
            "S1T0 ---SSSRRR [12, 1] [1, 1, 1]",
        ] {
            assert!(l3t3.contains(&expected.to_owned()), "{expected}: {l3t3:#?}");
        }
        let key = all(&Mode::AV1_L3T3_KEY);
        assert_eq!(key.len(), 15);
        for expected in ["S1T0 ---SSS--- [12] [1, 12, 11]", "S2T2 --------D [3] [5, 4, 3]"] {
            assert!(key.contains(&expected.to_owned()), "{expected}: {key:#?}");
        }
        let l2t1 = all(&Mode::AV1_L2T1);
        assert_eq!(l2t1.len(), 4);
        assert!(l2t1.contains(&"S1T0 -S [2, 1] [1, 1]".to_owned()), "{l2t1:#?}");
        let s3t3 = all(&Mode::AV1_S3T3);
        assert_eq!(s3t3.len(), 15);
        for expected in ["S2T0 ------SSS [] [2, 1, 0]", "S0T2 --D------ [3] [9, 8, 7]"] {
            assert!(s3t3.contains(&expected.to_owned()), "{expected}: {s3t3:#?}");
        }
        let vp8 = all(&Mode::VP8_DD);
        assert_eq!(vp8.len(), 7, "{vp8:#?}");
        for expected in ["S0T0 SRR [4] []", "S0T1 -DR [4, 2] []", "S0T2 --D [3, 1] []"] {
            let sorted = expected.replace("[4, 2]", "[2, 4]").replace("[3, 1]", "[1, 3]");
            assert!(vp8.contains(&sorted), "{expected}: {vp8:#?}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for mode in Mode::ALL.iter().filter(|mode| mode.descriptor) {
            let structure = Structure::of(mode, 0, 60);
            let mut frame = structure.templates[structure.templates.len() / 2].clone();
            for (attach, active, fdiffs) in [
                (true, None, vec![]),
                (false, Some(1), vec![1, 16, 17, 256, 257, 4_096]),
                (true, Some(1), vec![7]),
                (false, None, vec![300]),
            ] {
                frame.fdiffs = fdiffs;
                let extras = Extras { start: true, end: false, attach, active };
                let bytes = structure.write(&frame, 0xfffe, &extras);
                let read = read(&bytes, Some(&structure).filter(|_| !attach)).unwrap();
                assert_eq!(read.frame.as_ref(), Some(&frame), "{}", mode.name);
                assert_eq!((read.start, read.end, read.number), (true, false, 0xfffe));
                assert_eq!(read.structure.is_some(), attach);
                if structure.chains > 0 && attach {
                    assert_eq!(read.structure.as_ref(), Some(&structure));
                }
                assert_eq!(read.active, active, "{}", mode.name);
            }
        }
    }
}
