//! Answers requests without a bridge, for fuzzing.

use minidom::Element;

use crate::{
    faces::{colibri1, colibri2, component},
    xmpp::{Answer, Answers, Asked, component::Statistics},
};

/// Reads every request, and answers what needs no bridge.
pub(super) enum Stranger {
    /// COLIBRI2.
    InRooms,
    /// COLIBRI 1.
    ByComponent,
}

impl Answers for Stranger {
    fn answer(&self, asked: Asked<'_>) -> Answer {
        match self {
            Self::InRooms => match colibri2::handle(asked.stanza, &colibri2::About::default()) {
                colibri2::Step::Answer(answer) => Answer::Now(answer),
                _ => Answer::Nothing,
            },
            Self::ByComponent => component::fuzz(asked.stanza, colibri1::fuzz::request),
        }
    }
}

impl Statistics for Stranger {
    fn read(&self) -> Element {
        Element::bare("stats", colibri2::COLIBRI)
    }

    fn foci(&self) -> Vec<String> {
        Vec::new()
    }
}
