//! Fuzz target: requests of a focus.

use minidom::Element;

use super::channel::Room;
use crate::colibri::v1::read;

/// A request is refused or leads to what the bridge is asked; asked twice, the second changes what the
/// first made.
pub(crate) fn request(element: &Element) {
    let Ok(request) = read::conference(element) else { return };
    let mut room = Room::new("1".to_owned(), None, true);
    let mut ids = 0;
    let mut new_id = || {
        ids += 1;
        ids
    };
    for _ in 0..2 {
        let outcome = room.apply(&request, &mut new_id);
        for ask in outcome.asks {
            assert!(ask.endpoints.iter().all(|endpoint| !endpoint.id.is_empty()));
        }
        room.refused(&request.endpoints.iter().map(|named| named.id.clone()).collect());
        room.sync(Some(&std::collections::BTreeSet::new()));
    }
}
