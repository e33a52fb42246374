//! Elements of a stream: parsed by `xmpp-parsers` where possible, and helpers for elements.

use minidom::{
    Element,
    rxml::{self, AttrMap, Event, Namespace, NcName, QName},
};
use xmpp_parsers::{
    component::Handshake, ns, sasl, sm, stanza_error::DefinedCondition, starttls,
    stream_error::StreamError,
};
use xso::{
    AsXml, Context, FromEventsBuilder, FromXml, Item,
    error::{Error, FromElementError, FromEventsError},
    minidom_compat::{ElementAsXml, ElementFromEvents},
};

use super::bounds::Fault;

/// The namespace of stanzas, also of a component's: only the stream maps it to the one on the wire.
pub(crate) const CLIENT: &str = ns::JABBER_CLIENT;

/// A complete stanza.
#[derive(Clone, Debug, PartialEq)]
pub enum Stanza {
    /// All of it.
    Whole(Element),
    /// A stanza that broke a limit: its first tag, as far as that is within limits, and its first child
    /// without content, by whose name an IQ can be refused.
    Refused {
        /// What is left of it.
        head: Element,
        /// The limit.
        fault: Fault,
    },
}

impl Stanza {
    pub(super) fn new(element: Element, fault: Option<Fault>) -> Self {
        match fault {
            None => Self::Whole(element),
            Some(fault) => Self::Refused { head: head(&element), fault },
        }
    }

    /// The stanza, or what is left of it.
    pub fn element(&self) -> &Element {
        let (Self::Whole(element) | Self::Refused { head: element, .. }) = self;
        element
    }

    /// Whether it is an IQ that needs an answer.
    pub(super) fn is_request(&self) -> bool {
        let element = self.element();
        element.is("iq", CLIENT) && matches!(element.attr("type"), Some("get" | "set"))
    }
}

/// The first tag and the name of the first child.
fn head(stanza: &Element) -> Element {
    let mut head = Element::bare(stanza.name(), stanza.ns());
    if let Some(child) = stanza.children().next() {
        head.append_child(Element::bare(child.name(), child.ns()));
    }
    *head.attrs_mut() = stanza.attrs().clone();
    head
}

/// An element from the server. What fits no type stays an [`Element`]: a request that nobody understands must
/// be answered all the same.
#[derive(Clone, Debug)]
pub(super) enum Inbound {
    /// XEP-0198.
    Acks(sm::Nonza),
    Sasl(sasl::Nonza),
    Tls(starttls::Nonza),
    Handshake,
    Error(StreamError),
    /// Everything else.
    Element(Element),
}

impl Inbound {
    /// For a log line.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Acks(_) => "an acknowledgement",
            Self::Sasl(_) => "a password's exchange",
            Self::Tls(_) => "TLS",
            Self::Handshake => "a handshake",
            Self::Error(_) => "an error",
            Self::Element(_) => "an element",
        }
    }
}

impl From<Element> for Inbound {
    fn from(element: Element) -> Self {
        let copy = || element.clone();
        let typed = match (element.ns().as_str(), element.name()) {
            (ns::SM, _) => sm::Nonza::try_from(copy()).ok().map(Self::Acks),
            (ns::SASL, _) => sasl::Nonza::try_from(copy()).ok().map(Self::Sasl),
            (ns::TLS, _) => starttls::Nonza::try_from(copy()).ok().map(Self::Tls),
            (ns::COMPONENT, _) => Handshake::try_from(copy()).ok().map(|_| Self::Handshake),
            (ns::STREAM, "error") => Some(Self::Error(stream_error(copy()))),
            _ => None,
        };
        typed.unwrap_or(Self::Element(element))
    }
}

/// An error without a condition, or with an unknown one, ends the stream too.
fn stream_error(element: Element) -> StreamError {
    StreamError::try_from(element).unwrap_or_else(|_: FromElementError| StreamError {
        condition: xmpp_parsers::stream_error::DefinedCondition::UndefinedCondition,
        texts: std::collections::BTreeMap::default(),
        application_specific: Vec::new(),
    })
}

/// Builds an [`Inbound`] from events.
pub(super) struct InboundBuilder(ElementFromEvents);

impl FromXml for Inbound {
    type Builder = InboundBuilder;

    fn from_events(
        (namespace, name): QName,
        attributes: AttrMap,
        _: &Context<'_>,
    ) -> Result<InboundBuilder, FromEventsError> {
        // The answer to a component's handshake has its own type.
        let namespace = if name == "handshake" { namespace } else { read_as(namespace) };
        Ok(InboundBuilder(ElementFromEvents::new((namespace, name), attributes)))
    }
}

impl FromEventsBuilder for InboundBuilder {
    type Output = Inbound;

    fn feed(&mut self, event: Event, context: &Context<'_>) -> Result<Option<Inbound>, Error> {
        let event = match event {
            Event::StartElement(metrics, (namespace, name), attributes) => {
                Event::StartElement(metrics, (read_as(namespace), name), attributes)
            }
            event => event,
        };
        Ok(self.0.feed(event, context)?.map(Inbound::from))
    }
}

/// Maps a component's stanzas to the namespace of a client's.
fn read_as(namespace: Namespace<'static>) -> Namespace<'static> {
    if namespace == ns::COMPONENT { Namespace::from(CLIENT) } else { namespace }
}

/// An element on its way out.
pub(super) struct Outbound {
    pub element: Element,
    /// Whether the stream is a component's, on which stanzas have the component's namespace.
    pub component: bool,
}

/// The XML items of an [`Outbound`].
pub(super) struct OutboundParts<'a> {
    items: ElementAsXml<'a>,
    component: bool,
}

impl AsXml for Outbound {
    type ItemIter<'a> = OutboundParts<'a>;

    fn as_xml_iter(&self) -> Result<OutboundParts<'_>, Error> {
        Ok(OutboundParts { items: self.element.as_xml_iter()?, component: self.component })
    }
}

impl<'a> Iterator for OutboundParts<'a> {
    type Item = Result<Item<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.items.next()?.map(|item| match item {
            Item::ElementHeadStart(namespace, name) if self.component && namespace == CLIENT => {
                Item::ElementHeadStart(rxml::Namespace::from(ns::COMPONENT), name)
            }
            item => item,
        }))
    }
}

/// Sets an attribute.
pub(crate) fn put(attributes: &mut AttrMap, name: &str, value: &str) {
    match NcName::try_from(name) {
        Ok(name) => {
            attributes.insert(Namespace::NONE, name, value.to_owned());
        }
        Err(_) => debug_assert!(false, "{name} is no name"),
    }
}

/// An IQ of ours. Addresses go out as they were configured.
pub(super) fn iq(kind: &str, id: &str, to: Option<&str>, payload: impl Into<Element>) -> Element {
    let mut iq = Element::bare("iq", CLIENT);
    put(iq.attrs_mut(), "type", kind);
    put(iq.attrs_mut(), "id", id);
    if let Some(to) = to {
        put(iq.attrs_mut(), "to", to);
    }
    iq.append_child(payload.into());
    iq
}

/// The condition of a stanza's error (RFC 6120 section 8.3), without which it has none that is defined.
pub(super) fn stanza_error(stanza: &Element) -> DefinedCondition {
    let error = stanza.children().find(|child| child.name() == "error");
    let conditions = error.into_iter().flat_map(Element::children);
    conditions
        .filter(|child| child.has_ns(ns::XMPP_STANZAS))
        .find_map(|child| DefinedCondition::try_from(child.clone()).ok())
        .unwrap_or(DefinedCondition::UndefinedCondition)
}

/// The name of a condition, for a log line.
pub(super) fn named(condition: impl Into<Element>) -> String {
    condition.into().name().to_owned()
}

/// Foreign text for a log line.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(120).flat_map(char::escape_debug).collect()
}
