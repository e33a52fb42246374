//! Publishes statistics to a node of a pubsub service (XEP-0060). No I/O.
//!
//! Creates and configures the node if it does not exist. A refusal is logged once, and the request is
//! repeated until it is accepted.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use minidom::Element;
use xmpp_parsers::{
    data_forms::{DataForm, DataFormType, Field, FieldType},
    pubsub::{
        ItemId, NodeName, Owner,
        owner::Payload,
        pubsub::{Create, Item, PubSub, Publish},
    },
    stanza_error::DefinedCondition,
};

use crate::xmpp::stanza::{iq, named, stanza_error};

const NODE_CONFIG: &str = "http://jabber.org/protocol/pubsub#node_config";
/// How long to wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Upper bound of different refusals that are logged until the next success.
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
    /// Refusals logged since the last success, so that each is logged once.
    troubles: BTreeSet<String>,
}

/// The request whose answer is awaited.
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

    /// When [`Self::poll`] wants to be called.
    pub(super) fn next(&self) -> Instant {
        self.waits.as_ref().map_or(self.due, |(_, _, since)| *since + PATIENCE)
    }

    /// Returns what to send now, if anything: an IQ without `from`. `stats` is `<stats>`.
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
            self.log_refusal(&what);
            self.due = now + self.interval;
            return None;
        }
        if now < self.due {
            return None;
        }
        if !self.usable {
            return Some(self.ask(Wait::Create, now, id(), self.create()));
        }
        // Counted from when it was due, unless that is long ago.
        self.due = (self.due + self.interval).max(now);
        let publish = self.publish(stats());
        Some(self.ask(Wait::Publish, now, id(), publish))
    }

    /// Whether this answers what was asked last.
    pub(super) fn awaits(&self, iq: &Element) -> bool {
        let ours = |id: &str| iq.attr("id") == Some(id) && iq.attr("from") == Some(&self.service);
        self.waits.as_ref().is_some_and(|(_, id, _)| ours(id))
    }

    /// Handles the awaited answer ([`Self::awaits`]), and returns what to send next.
    pub(super) fn on_answer(
        &mut self,
        now: Instant,
        iq: &Element,
        id: impl FnOnce() -> String,
    ) -> Option<Element> {
        let (wait, ..) = self.waits.take()?;
        let error = (iq.attr("type") == Some("error")).then(|| stanza_error(iq));
        match (wait, error) {
            (Wait::Create, None) => {
                self.usable = true;
                Some(self.ask(Wait::Configure, now, id(), self.configure()))
            }
            (Wait::Create, Some(DefinedCondition::Conflict | DefinedCondition::Forbidden)) => {
                // It is there already.
                self.usable = true;
                None
            }
            (Wait::Create, Some(condition)) => {
                self.log_refusal(&format!("the node cannot be made: {}", named(condition)));
                self.due = now + self.interval;
                None
            }
            (Wait::Configure, error) => {
                if let Some(condition) = error {
                    self.log_refusal(&format!(
                        "the node cannot be configured: {}",
                        named(condition)
                    ));
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
                self.usable = condition != DefinedCondition::ItemNotFound;
                self.log_refusal(&format!("refused: {}", named(condition)));
                None
            }
        }
    }

    fn log_refusal(&mut self, trouble: &str) {
        // There are few conditions; those that a service invents beyond the bound are not logged.
        if self.troubles.len() < MAX_TROUBLES && self.troubles.insert(trouble.to_owned()) {
            tracing::warn!(
                service = self.service,
                node = self.node,
                "statistics cannot be published: {trouble}"
            );
        }
    }

    fn ask(
        &mut self,
        wait: Wait,
        now: Instant,
        id: String,
        request: impl Into<Element>,
    ) -> Element {
        let asked = iq("set", &id, Some(&self.service), request);
        self.waits = Some((wait, id, now));
        asked
    }

    fn create(&self) -> PubSub {
        PubSub::Create { create: Create { node: Some(self.name()) }, configure: None }
    }

    /// Anybody may read and publish; nothing is kept.
    fn configure(&self) -> Owner {
        let field = |var, kind, value| Field::new(var, kind).with_value(value);
        let fields = vec![
            field("pubsub#access_model", FieldType::ListSingle, "open"),
            field("pubsub#persist_items", FieldType::Boolean, "false"),
            field("pubsub#publish_model", FieldType::ListSingle, "open"),
        ];
        let form = Some(DataForm::new(DataFormType::Submit, NODE_CONFIG, fields));
        Owner { payload: Payload::Configure { node: Some(self.name()), form } }
    }

    fn publish(&self, stats: Element) -> PubSub {
        let id = Some(ItemId(self.item.clone()));
        let items = vec![Item { id, publisher: None, payload: Some(stats) }];
        PubSub::Publish { publish: Publish { node: self.name(), items }, publish_options: None }
    }

    fn name(&self) -> NodeName {
        NodeName(self.node.clone())
    }
}
