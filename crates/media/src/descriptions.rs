//! Media descriptions, compiled once for all endpoints that negotiated the same. In most
//! conferences everybody was offered the same payload types, so one table and one map serve all of
//! them.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use crate::{MediaParams, PtMap, Tables};

/// Most descriptions that are remembered. When there are more, all are forgotten, and later
/// endpoints share nothing with earlier ones.
const MAX_REMEMBERED: usize = 256;

/// Identifies a media description by content. Equal ids mean equal descriptions; equal descriptions
/// mostly have equal ids. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DescriptionId(u64);

/// A negotiated media description, compiled.
#[derive(Clone, Debug)]
pub struct Description {
    /// Its id.
    pub id: DescriptionId,
    /// The description as signalled.
    pub media: Arc<MediaParams>,
    /// Its tables for look-up.
    pub tables: Arc<Tables>,
}

/// Compiles media descriptions, and shares the results.
#[derive(Debug, Default)]
pub struct Descriptions {
    /// The hash is keyed, since participants choose what they offer.
    known: HashMap<Arc<MediaParams>, Description>,
    /// Maps from a sender's payload types to a receiver's.
    maps: HashMap<(DescriptionId, DescriptionId), Weak<PtMap>>,
    /// The number of maps at which unused ones are removed.
    sweep_at: usize,
    next: u64,
}

impl Descriptions {
    /// Returns the description with this content, and compiles it if nobody else has it.
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

    /// Returns the map from one description's payload types to another's.
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
