//! Numbers of endpoints and sources, for all conferences.

use std::sync::atomic::{AtomicU32, Ordering};

use rialto_media::{EndpointId, SourceId};

use crate::conference::Ids;

/// [`Ids`] that count up from one, shared by all conferences.
#[derive(Debug, Default)]
pub(super) struct SharedIds {
    endpoints: AtomicU32,
    sources: AtomicU32,
}

/// The next number; `None` when there are no more.
fn next(last: &AtomicU32) -> Option<u32> {
    let next = |last: u32| last.checked_add(1);
    let before = last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?;
    before.checked_add(1)
}

impl Ids for &SharedIds {
    fn endpoint(&mut self) -> Option<EndpointId> {
        next(&self.endpoints).map(EndpointId)
    }

    fn source(&mut self) -> Option<SourceId> {
        next(&self.sources).map(SourceId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_given_twice() {
        let ids = SharedIds { endpoints: AtomicU32::new(u32::MAX - 2), ..SharedIds::default() };
        let mut ids = &ids;
        assert_eq!(ids.endpoint(), Some(EndpointId(u32::MAX - 1)));
        assert_eq!(ids.endpoint(), Some(EndpointId(u32::MAX)));
        assert_eq!((ids.endpoint(), ids.endpoint()), (None, None));
        assert_eq!((ids.source(), ids.source()), (Some(SourceId(1)), Some(SourceId(2))));
    }
}
