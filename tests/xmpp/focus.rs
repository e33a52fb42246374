//! A focus that does what it is told: it joins the brewery, and sees bridges come and go.

use std::ops::{Deref, DerefMut};

use minidom::Element;

use super::wire::Connection;

/// The brewery.
pub(crate) const ROOM: &str = "jvbbrewery@internal.auth.jitsi.local";
const COLIBRI: &str = "http://jitsi.org/protocol/colibri";

/// A connection of a focus.
pub(crate) struct Focus(Connection);

impl Deref for Focus {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for Focus {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

impl Focus {
    /// Logs in as `user`, without TLS.
    pub(crate) fn log_in(port: u16, user: &str) -> Self {
        Self(Connection::log_in(port, user, "focus"))
    }

    /// Joins the brewery as `nickname`.
    pub(crate) fn join(&mut self, nickname: &str) {
        self.enter(ROOM, nickname);
    }

    /// Sends an element.
    pub(crate) fn send_element(&mut self, element: &Element) {
        let mut bytes = Vec::new();
        element.write_to(&mut bytes).unwrap();
        self.send(std::str::from_utf8(&bytes).unwrap());
    }

    /// The next statistics of the bridge that `wanted` wants, which may have been said before.
    pub(crate) fn stats(&mut self, nickname: &str, wanted: impl Fn(&Stats) -> bool) -> Stats {
        let from = format!("{ROOM}/{nickname}");
        let presence = self.next(|element| {
            element.attr("from") == Some(from.as_str())
                && Stats::of(element).is_some_and(|stats| wanted(&stats))
        });
        Stats::of(&presence).unwrap()
    }

    /// Waits until an occupant leaves.
    pub(crate) fn sees_leave(&mut self, nickname: &str) {
        let from = format!("{ROOM}/{nickname}");
        self.next(|element| {
            element.attr("from") == Some(from.as_str())
                && element.attr("type") == Some("unavailable")
        });
    }
}

/// `<stats>` of a presence.
#[derive(Debug)]
pub(crate) struct Stats(pub Vec<(String, String)>);

impl Stats {
    /// Of a presence that has some.
    pub(crate) fn of(element: &Element) -> Option<Self> {
        let stats = element.get_child("stats", COLIBRI).filter(|_| element.name() == "presence")?;
        let attr = |stat: &Element, name| stat.attr(name).unwrap_or_default().to_owned();
        Some(Self(stats.children().map(|s| (attr(s, "name"), attr(s, "value"))).collect()))
    }

    /// A value.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}
