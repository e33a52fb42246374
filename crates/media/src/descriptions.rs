//! Media descriptions, compiled once for all endpoints that negotiated the same: in most conferences
//! everybody was offered the same payload types, so that one table and one map serve them all.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use crate::{MediaParams, PtMap, Tables};

/// So many descriptions are remembered. When there are more, all are forgotten: whoever comes then
/// shares nothing with those who came before.
const MAX_REMEMBERED: usize = 256;

/// A media description, by content. Equal numbers mean equal descriptions; equal descriptions mostly
/// have equal numbers. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DescriptionId(u64);

/// One media description as it was negotiated, and compiled.
#[derive(Clone, Debug)]
pub struct Description {
    /// Names it.
    pub id: DescriptionId,
    /// As signalled.
    pub media: Arc<MediaParams>,
    /// Compiled.
    pub tables: Arc<Tables>,
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct Descriptions {
    /// The hash is keyed, as participants choose what they offer.
    known: HashMap<Arc<MediaParams>, Description>,
    /// From a sender's description to a receiver's.
    maps: HashMap<(DescriptionId, DescriptionId), Weak<PtMap>>,
    /// Maps are looked through for dead ones when there are so many.
    sweep_at: usize,
    next: u64,
}

impl Descriptions {
    /// The description with this content, compiled now if nobody else has it.
    pub fn get(&mut self, media: &Arc<MediaParams>) -> Description {
        if let Some(known) = self.known.get(media) {
            return known.clone();
        }
        if self.known.len() >= MAX_REMEMBERED {
            self.known.clear();
        }
        let id = DescriptionId(self.next);
        self.next += 1;
        let tables = Arc::new(Tables::new(media));
        let description = Description { id, media: media.clone(), tables };
        self.known.insert(media.clone(), description.clone());
        description
    }

    /// The map from one description's payload types to another's.
    pub fn map(&mut self, from: &Description, to: &Description) -> Arc<PtMap> {
        let key = (from.id, to.id);
        if let Some(map) = self.maps.get(&key).and_then(Weak::upgrade) {
            return map;
        }
        let map = Arc::new(PtMap::new(&from.media, &to.media));
        if self.maps.len() >= self.sweep_at {
            self.maps.retain(|_, map| map.strong_count() > 0);
            self.sweep_at = (2 * self.maps.len()).max(MAX_REMEMBERED);
        }
        self.maps.insert(key, Arc::downgrade(&map));
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Codec, MediaType, PayloadType};

    fn vp8_as(pt: u8) -> Arc<MediaParams> {
        let payload_type = PayloadType {
            pt,
            codec: Codec::Vp8,
            media: MediaType::Video,
            clock_rate: 90_000,
            profile: String::new(),
            nack: true,
            pli: true,
            fir: true,
            transport_cc: true,
        };
        Arc::new(MediaParams { payload_types: vec![payload_type], ..MediaParams::default() })
    }

    #[test]
    fn equal_descriptions_share_tables_and_maps() {
        let mut all = Descriptions::default();
        let (a, b, c) = (all.get(&vp8_as(96)), all.get(&vp8_as(96)), all.get(&vp8_as(100)));
        assert_eq!(a.id, b.id);
        assert!(Arc::ptr_eq(&a.tables, &b.tables));
        assert_ne!(a.id, c.id);
        let (there, again, back) = (all.map(&a, &c), all.map(&b, &c), all.map(&c, &a));
        assert!(Arc::ptr_eq(&there, &again));
        assert_eq!((there.media(96), back.media(100)), (Some(100), Some(96)));
    }

    #[test]
    fn what_nobody_uses_any_more_is_forgotten() {
        let mut all = Descriptions::default();
        let first = all.get(&vp8_as(96));
        for rate in 0..4 * MAX_REMEMBERED as u32 {
            let mut media = (*vp8_as(100)).clone();
            media.payload_types[0].clock_rate = rate;
            let other = all.get(&Arc::new(media));
            all.map(&first, &other);
        }
        assert!(all.known.len() <= MAX_REMEMBERED && all.maps.len() <= MAX_REMEMBERED);
        let (again, other) = (all.get(&vp8_as(96)), all.get(&vp8_as(100)));
        assert_ne!(again.id, first.id, "a number is never given to another");
        assert_eq!(all.map(&again, &other).media(96), Some(100));
    }
}
