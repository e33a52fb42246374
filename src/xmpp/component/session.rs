//! Publishes a component's statistics. No I/O: answers and the time in, stanzas out.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use minidom::Element;

use super::{Link, Place, Publish, pubsub::Publisher};
use crate::xmpp::{
    Stanza,
    driver::Purpose,
    stanza::{CLIENT, put},
};

/// What is published.
pub trait Statistics: Send + Sync {
    /// `<stats>`, as they are now.
    fn read(&self) -> Element;

    /// The addresses of those who have conferences.
    fn foci(&self) -> Vec<String>;
}

/// See the module.
pub(super) struct Session {
    places: Vec<Publish>,
    statistics: Arc<dyn Statistics>,
    link: Link,
    ids: u64,
    publishers: Vec<Publisher>,
    /// Statistics for every focus: how often, and when next.
    foci: Option<(Duration, Instant)>,
    out: VecDeque<Element>,
}

impl Session {
    pub(super) fn new(places: &[Publish], statistics: Arc<dyn Statistics>, link: Link) -> Self {
        Self {
            places: places.to_vec(),
            statistics,
            link,
            ids: 0,
            publishers: Vec::new(),
            foci: None,
            out: VecDeque::new(),
        }
    }
}

impl Purpose for Session {
    fn begin(&mut self, jid: &str, now: Instant) {
        self.link.up();
        (self.foci, self.publishers) = (None, Vec::new());
        for publish in &self.places {
            match &publish.to {
                Place::Focus => self.foci = Some((publish.interval, now)),
                Place::Node { service, node } => {
                    let item = jid.to_owned();
                    let publisher = Publisher::new(service, node, item, publish.interval, now);
                    self.publishers.push(publisher);
                }
            }
        }
    }

    fn resumed(&mut self, _: Instant) {}

    fn lost(&mut self, _unwanted: bool) {
        self.link.down();
    }

    fn on_stanza(&mut self, stanza: &Stanza, now: Instant) {
        let (iq, ids) = (stanza.element(), &mut self.ids);
        let publisher = self.publishers.iter_mut().find(|publisher| publisher.awaits(iq));
        let next = publisher.and_then(|p| p.on_answer(now, iq, || new_id(ids)));
        self.out.extend(next);
    }

    fn deadline(&self) -> Option<Instant> {
        let foci = self.foci.map(|(_, at)| at);
        self.publishers.iter().map(Publisher::next).chain(foci).min()
    }

    fn on_time(&mut self, now: Instant) {
        let Self { ids, statistics, .. } = self;
        let due = self
            .publishers
            .iter_mut()
            .filter_map(|publisher| publisher.poll(now, || new_id(ids), || statistics.read()));
        self.out.extend(due);
        if let Some((interval, at)) = self.foci.as_mut().filter(|(_, at)| now >= *at) {
            *at = now + *interval;
            let told = self.statistics.foci().into_iter();
            let stats = self.statistics.read();
            self.out.extend(told.map(|focus| unasked(&focus, &new_id(&mut self.ids), &stats)));
        }
    }

    async fn changed(&mut self) {
        // Each destination has its own timer.
        std::future::pending::<()>().await;
    }

    fn publish(&mut self, _: Instant) {}

    fn leave(&mut self) {}

    fn next(&mut self) -> Option<Element> {
        self.out.pop_front()
    }
}

fn new_id(ids: &mut u64) -> String {
    *ids = ids.wrapping_add(1);
    format!("rialto-{ids}")
}

/// The statistics that JVB pushed to each focus: an unrequested result, nested twice.
fn unasked(focus: &str, id: &str, stats: &Element) -> Element {
    let mut outer = Element::bare(stats.name(), stats.ns());
    outer.append_child(stats.clone());
    let mut iq = Element::bare("iq", CLIENT);
    for (name, value) in [("type", "result"), ("id", id), ("to", focus)] {
        put(iq.attrs_mut(), name, value);
    }
    iq.append_child(outer);
    iq
}
