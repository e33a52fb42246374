//! Statistics to a node of a pubsub service (XEP-0060). No I/O.
//!
//! The node is made and configured when it is not there. What is refused is logged once and tried
//! again until it is accepted.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use minidom::Element;

use crate::{colibri::xml::STANZA_ERRORS, xmpp::iq::put};

const PUBSUB: &str = "http://jabber.org/protocol/pubsub";
const OWNER: &str = "http://jabber.org/protocol/pubsub#owner";
const DATA_FORMS: &str = "jabber:x:data";
/// An answer that takes longer does not come.
const PATIENCE: Duration = Duration::from_secs(5);

/// Upper bound of different complaints until the next success.
const MAX_TROUBLES: usize = 16;

/// The node that statistics go to.
#[derive(Debug)]
pub(super) struct Publisher {
    service: String,
    node: String,
    /// The item's id: the component's JID, by which a focus finds the bridge.
    item: String,
    interval: Duration,
    due: Instant,
    usable: bool,
    waits: Option<(Wait, String, Instant)>,
    /// What was logged since it worked, so that it is logged once.
    troubles: BTreeSet<String>,
}

/// What an answer is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wait {
    Create,
    Configure,
    Publish,
}

impl Publisher {
    pub(super) fn new(
        service: &str,
        node: &str,
        item: String,
        interval: Duration,
        now: Instant,
    ) -> Self {
        Self {
            service: service.to_owned(),
            node: node.to_owned(),
            item,
            interval,
            due: now,
            usable: false,
            waits: None,
            troubles: BTreeSet::new(),
        }
    }

    /// The component has another JID than was thought.
    pub(super) fn rename(&mut self, item: &str) {
        item.clone_into(&mut self.item);
    }

    /// When [`Self::poll`] wants to be called.
    pub(super) fn next(&self) -> Instant {
        self.waits.as_ref().map_or(self.due, |(_, _, since)| *since + PATIENCE)
    }

    /// What is sent now, if anything: an IQ without `from`. `stats`: `<stats>`.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        id: impl FnOnce() -> String,
        stats: impl FnOnce() -> Element,
    ) -> Option<Element> {
        if let Some((wait, _, since)) = &self.waits {
            if now < *since + PATIENCE {
                return None;
            }
            let what = format!("no answer to {wait:?}");
            self.waits = None;
            self.complain(&what);
            self.due = now + self.interval;
            return None;
        }
        if now < self.due {
            return None;
        }
        if !self.usable {
            return Some(self.ask(Wait::Create, now, id(), self.create()));
        }
        // From when it was due, unless that is long ago.
        self.due = (self.due + self.interval).max(now);
        let publish = self.publish(stats());
        Some(self.ask(Wait::Publish, now, id(), publish))
    }

    /// Whether this answers what was asked last.
    pub(super) fn awaits(&self, iq: &Element) -> bool {
        let ours = |id: &str| iq.attr("id") == Some(id) && iq.attr("from") == Some(&self.service);
        self.waits.as_ref().is_some_and(|(_, id, _)| ours(id))
    }

    /// Takes what was awaited ([`Self::awaits`]); what is sent next.
    pub(super) fn on_answer(
        &mut self,
        now: Instant,
        iq: &Element,
        id: impl FnOnce() -> String,
    ) -> Option<Element> {
        let (wait, ..) = self.waits.take()?;
        let error = (iq.attr("type") == Some("error")).then(|| condition(iq));
        match (wait, error) {
            (Wait::Create, None) => {
                self.usable = true;
                Some(self.ask(Wait::Configure, now, id(), self.configure()))
            }
            (Wait::Create, Some(condition))
                if condition == "conflict" || condition == "forbidden" =>
            {
                // It is there already.
                self.usable = true;
                None
            }
            (Wait::Create, Some(condition)) => {
                self.complain(&format!("the node cannot be made: {condition}"));
                self.due = now + self.interval;
                None
            }
            (Wait::Configure, error) => {
                if let Some(condition) = error {
                    self.complain(&format!("the node cannot be configured: {condition}"));
                }
                None
            }
            (Wait::Publish, None) => {
                if !std::mem::take(&mut self.troubles).is_empty() {
                    tracing::info!(service = self.service, node = self.node, "publishing again");
                }
                None
            }
            (Wait::Publish, Some(condition)) => {
                self.usable = condition != "item-not-found";
                self.complain(&format!("refused: {condition}"));
                None
            }
        }
    }

    fn complain(&mut self, trouble: &str) {
        // There are few conditions; a service that invents more is not heard.
        if self.troubles.len() < MAX_TROUBLES && self.troubles.insert(trouble.to_owned()) {
            tracing::warn!(
                service = self.service,
                node = self.node,
                "statistics cannot be published: {trouble}"
            );
        }
    }

    fn ask(&mut self, wait: Wait, now: Instant, id: String, inside: Element) -> Element {
        let mut iq = Element::bare("iq", super::NAMESPACE);
        for (name, value) in [("type", "set"), ("id", id.as_str()), ("to", &self.service)] {
            put(iq.attrs_mut(), name, value);
        }
        iq.append_child(inside);
        self.waits = Some((wait, id, now));
        iq
    }

    fn create(&self) -> Element {
        self.inside(PUBSUB, "create", None)
    }

    /// Anybody may read and publish; nothing is kept.
    fn configure(&self) -> Element {
        let mut form = Element::bare("x", DATA_FORMS);
        put(form.attrs_mut(), "type", "submit");
        for (var, kind, value) in [
            ("FORM_TYPE", "hidden", "http://jabber.org/protocol/pubsub#node_config"),
            ("pubsub#access_model", "list-single", "open"),
            ("pubsub#persist_items", "boolean", "false"),
            ("pubsub#publish_model", "list-single", "open"),
        ] {
            let mut text = Element::bare("value", DATA_FORMS);
            text.append_text(value);
            let mut field = Element::bare("field", DATA_FORMS);
            put(field.attrs_mut(), "var", var);
            put(field.attrs_mut(), "type", kind);
            field.append_child(text);
            form.append_child(field);
        }
        self.inside(OWNER, "configure", Some(form))
    }

    fn publish(&self, stats: Element) -> Element {
        let mut item = Element::bare("item", PUBSUB);
        put(item.attrs_mut(), "id", &self.item);
        item.append_child(stats);
        self.inside(PUBSUB, "publish", Some(item))
    }

    fn inside(&self, namespace: &str, name: &str, child: Option<Element>) -> Element {
        let mut action = Element::bare(name, namespace);
        put(action.attrs_mut(), "node", &self.node);
        if let Some(child) = child {
            action.append_child(child);
        }
        let mut pubsub = Element::bare("pubsub", namespace);
        pubsub.append_child(action);
        pubsub
    }
}

/// The condition of an error (RFC 6120 section 8.3.3).
fn condition(iq: &Element) -> String {
    let error = iq.children().find(|child| child.name() == "error");
    let condition = error.and_then(|e| e.children().find(|c| c.ns() == STANZA_ERRORS));
    condition.map_or_else(|| "undefined-condition".to_owned(), |c| c.name().to_owned())
}
