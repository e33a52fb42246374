//! A reader of elements that keeps its path for error messages, and a writer of elements.

use std::str::FromStr;

use minidom::{Element, Node as DomNode, rxml::NcName};

use crate::colibri::ColibriError;

/// Longest part of a value that is quoted in an error, characters.
const MAX_QUOTED: usize = 64;

/// An element to read, and the way to it.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    element: &'a Element,
    parent: Option<&'a Node<'a>>,
}

impl<'a> Node<'a> {
    /// The element at the top.
    pub(crate) fn root(element: &'a Element) -> Self {
        Self { element, parent: None }
    }

    /// An optional attribute.
    pub(crate) fn attr(&self, name: &str) -> Option<String> {
        self.element.attr(name).map(str::to_owned)
    }

    /// An attribute that must be there.
    pub(crate) fn required(&self, name: &str) -> Result<String, ColibriError> {
        self.attr(name).ok_or_else(|| self.missing(name))
    }

    /// `true`, in any case, is true; everything else is not.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.element.attr(name).is_some_and(is_true)
    }

    /// An optional flag.
    pub(crate) fn maybe_flag(&self, name: &str) -> Option<bool> {
        self.element.attr(name).map(is_true)
    }

    /// A number that may be missing but not wrong.
    pub(crate) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, ColibriError> {
        let Some(value) = self.element.attr(name) else { return Ok(None) };
        value.trim().parse().map(Some).map_err(|_| self.wrong(name, value))
    }

    /// A number that counts as missing when it is wrong.
    pub(crate) fn number_if_any<T: FromStr>(&self, name: &str) -> Option<T> {
        self.element.attr(name)?.trim().parse().ok()
    }

    /// All text inside, without white space around it.
    pub(crate) fn text(&self) -> String {
        self.element.text().trim().to_owned()
    }

    /// Whether there is such a child.
    pub(crate) fn has(&self, name: &str, namespace: &str) -> bool {
        self.element.has_child(name, namespace)
    }

    /// The first such child.
    pub(crate) fn first<T>(
        &self,
        name: &str,
        namespace: &str,
        read: impl FnOnce(&Node<'_>) -> Result<T, ColibriError>,
    ) -> Result<Option<T>, ColibriError> {
        self.element.get_child(name, namespace).map(|child| read(&self.inner(child))).transpose()
    }

    /// All such children.
    pub(crate) fn all<T>(
        &self,
        name: &str,
        namespace: &str,
        read: impl Fn(&Node<'_>) -> Result<T, ColibriError>,
    ) -> Result<Vec<T>, ColibriError> {
        self.children(name, namespace).map(|child| read(&self.inner(child))).collect()
    }

    /// All such children that can be read.
    pub(crate) fn readable<T>(
        &self,
        name: &str,
        namespace: &str,
        read: impl Fn(&Node<'_>) -> Option<T>,
    ) -> Vec<T> {
        self.children(name, namespace).filter_map(|child| read(&self.inner(child))).collect()
    }

    /// All such children that can be read, of whatever namespace.
    pub(crate) fn readable_of_any<T>(
        &self,
        name: &str,
        read: impl Fn(&Node<'_>) -> Option<T>,
    ) -> Vec<T> {
        let children = self.element.children().filter(|child| child.name() == name);
        children.filter_map(|child| read(&self.inner(child))).collect()
    }

    /// An error about this element.
    pub(crate) fn error(&self, problem: &str) -> ColibriError {
        ColibriError::bad_request(format!("{}: {problem}", self.path()))
    }

    /// An attribute has a value that it cannot have.
    pub(crate) fn wrong(&self, name: &str, value: &str) -> ColibriError {
        let quoted: String = value.chars().take(MAX_QUOTED).collect();
        self.error(&format!("{name} cannot be {quoted:?}"))
    }

    fn missing(&self, name: &str) -> ColibriError {
        self.error(&format!("{name} must be set"))
    }

    fn children<'b>(
        &self,
        name: &'b str,
        namespace: &'b str,
    ) -> impl Iterator<Item = &'a Element> + use<'a, 'b> {
        self.element.children().filter(move |child| child.is(name, namespace))
    }

    fn inner<'b>(&'b self, element: &'b Element) -> Node<'b> {
        Node { element, parent: Some(self) }
    }

    fn path(&self) -> String {
        match self.parent {
            Some(parent) => format!("{}/{}", parent.path(), self.element.name()),
            None => self.element.name().to_owned(),
        }
    }
}

fn is_true(value: &str) -> bool {
    value.eq_ignore_ascii_case("true")
}

/// An element under construction.
pub(crate) struct Out(Element);

impl Out {
    pub(crate) fn new(name: &str, namespace: &str) -> Self {
        Self(Element::bare(name, namespace))
    }

    /// An attribute. `name` is one of this program, and a name.
    #[expect(clippy::needless_pass_by_value, reason = "numbers and references read better so")]
    pub(crate) fn put(mut self, name: &str, value: impl ToString) -> Self {
        match NcName::try_from(name) {
            Ok(name) => {
                self.0.attrs_mut().insert(minidom::rxml::Namespace::NONE, name, value.to_string());
            }
            Err(_) => debug_assert!(false, "{name} is no name"),
        }
        self
    }

    /// An attribute that may be missing.
    pub(crate) fn some(self, name: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.put(name, value),
            None => self,
        }
    }

    /// A flag, which is missing when it is not set.
    pub(crate) fn flag(self, name: &str, value: bool) -> Self {
        if value { self.put(name, true) } else { self }
    }

    /// A child.
    pub(crate) fn child(mut self, child: Out) -> Self {
        self.0.append_child(child.0);
        self
    }

    /// A child that may be missing.
    pub(crate) fn maybe<T>(self, value: Option<T>, write: impl FnOnce(T) -> Out) -> Self {
        match value {
            Some(value) => self.child(write(value)),
            None => self,
        }
    }

    /// An empty child that is there or not.
    pub(crate) fn present(self, name: &str, namespace: &str, there: bool) -> Self {
        if there { self.child(Out::new(name, namespace)) } else { self }
    }

    /// A child for each.
    pub(crate) fn all<T>(mut self, values: &[T], write: impl Fn(&T) -> Out) -> Self {
        for value in values {
            self.0.append_child(write(value).0);
        }
        self
    }

    /// Text inside.
    pub(crate) fn text(mut self, text: &str) -> Self {
        self.0.append_node(DomNode::Text(text.to_owned()));
        self
    }

    /// The element.
    pub(crate) fn done(self) -> Element {
        self.0
    }
}
