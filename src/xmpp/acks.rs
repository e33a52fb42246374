//! Stream management (XEP-0198): counts of stanzas, and resumption over another connection. No I/O.

use std::collections::VecDeque;

use minidom::Element;
use xmpp_parsers::sm::{A, Enable, Enabled, R, Resume, StreamId};

use super::cause::Cause;

/// How many seconds we ask the server to keep a lost session: three attempts to connect fit in, and a focus
/// that waits for an answer has not timed out yet (15 s).
const KEPT_FOR: u32 = 12;
/// Bound of unacknowledged stanzas. A session with more of them is not resumed.
const MAX_UNACKED: usize = 1_000;
/// Bytes of it.
const MAX_UNACKED_BYTES: usize = 4 << 20;

/// The counts of a session.
#[derive(Debug)]
pub(super) struct Acks {
    /// The id for resumption; `None`: the session cannot be resumed.
    id: Option<StreamId>,
    /// Stanzas received.
    received: u32,
    /// Stanzas sent that the server has acknowledged.
    acked: u32,
    /// Those sent since, with their sizes, if the session can be resumed.
    unacked: VecDeque<(Element, usize)>,
    bytes: usize,
    /// An acknowledgement was requested.
    asked: bool,
}

/// The request for a session with resumption.
pub(super) fn enable() -> Enable {
    Enable::new().with_resume().with_max(KEPT_FOR)
}

impl Acks {
    /// The server counts from now on.
    pub(super) fn new(enabled: Enabled) -> Self {
        Self {
            id: enabled.id.filter(|_| enabled.resume),
            received: 0,
            acked: 0,
            unacked: VecDeque::new(),
            bytes: 0,
            asked: false,
        }
    }

    /// Counts a sent stanza of `size` bytes.
    pub(super) fn sent(&mut self, stanza: &Element, size: usize) {
        if self.id.is_none() {
            return;
        }
        self.bytes = self.bytes.saturating_add(size);
        self.unacked.push_back((stanza.clone(), size));
        if self.unacked.len() > MAX_UNACKED || self.bytes > MAX_UNACKED_BYTES {
            self.id = None;
            self.unacked.clear();
        }
    }

    /// Counts a received stanza.
    pub(super) fn received(&mut self) {
        self.received = self.received.wrapping_add(1);
    }

    /// The answer to the server's request for an acknowledgement.
    pub(super) fn answer(&self) -> A {
        A::new(self.received)
    }

    /// The request for an acknowledgement, if some stanzas have none.
    pub(super) fn request(&mut self) -> Option<R> {
        let wanted = !self.asked && !self.unacked.is_empty();
        self.asked |= wanted;
        wanted.then_some(R)
    }

    /// Takes the server's count of received stanzas.
    pub(super) fn acknowledged(&mut self, count: u32) -> Result<(), Cause> {
        self.asked = false;
        if self.id.is_none() {
            return Ok(());
        }
        let new = count.wrapping_sub(self.acked) as usize;
        if new > self.unacked.len() {
            return Err(Cause::Protocol(format!(
                "{count} stanzas are acknowledged, of {} that were sent",
                self.acked.wrapping_add(self.unacked.len() as u32)
            )));
        }
        let freed: usize = self.unacked.drain(..new).map(|(_, size)| size).sum();
        self.bytes = self.bytes.saturating_sub(freed);
        self.acked = count;
        Ok(())
    }

    /// Whether the session can be resumed over another connection.
    pub(super) fn goes_on(&self) -> bool {
        self.id.is_some()
    }

    /// The request to resume, where that is possible.
    pub(super) fn resume(&self) -> Option<Resume> {
        let previd = self.id.clone()?;
        Some(Resume { h: self.received, previd })
    }

    /// Returns the stanzas to send again after a resumption. They are not counted again.
    pub(super) fn resumed(&mut self, count: u32) -> Result<Vec<Element>, Cause> {
        self.acknowledged(count)?;
        Ok(self.unacked.iter().map(|(stanza, _)| stanza.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xmpp::wire::size;

    fn acks(resume: bool, id: Option<&str>) -> Acks {
        let id = id.map(|id| StreamId(id.to_owned()));
        Acks::new(Enabled { id, location: None, max: None, resume })
    }

    fn stanza(n: usize) -> Element {
        let mut stanza = Element::bare("message", "jabber:client");
        stanza.append_text(n.to_string());
        stanza
    }

    fn send(acks: &mut Acks, n: usize) {
        let stanza = stanza(n);
        acks.sent(&stanza, size(&stanza));
    }

    fn texts(stanzas: &[Element]) -> Vec<String> {
        stanzas.iter().map(Element::text).collect()
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again_in_order() {
        let mut acks = acks(true, Some("a"));
        (0..5).for_each(|n| send(&mut acks, n));
        assert_eq!((acks.request(), acks.request()), (Some(R), None), "one question at a time");
        acks.acknowledged(2).unwrap();
        (0..3).for_each(|_| acks.received());
        let resume = acks.resume().unwrap();
        assert_eq!((resume.h, resume.previd.0.as_str()), (3, "a"));
        assert_eq!(texts(&acks.resumed(3).unwrap()), ["3", "4"]);
        assert_eq!(texts(&acks.resumed(3).unwrap()), ["3", "4"], "and once more");
        assert_eq!(acks.request(), Some(R));
        acks.acknowledged(5).unwrap();
        assert_eq!((acks.request(), acks.bytes), (None, 0));
        assert_eq!(acks.answer(), A::new(3));
    }

    #[test]
    fn counts_go_round() {
        let mut acks = acks(true, Some("a"));
        (acks.acked, acks.received) = (u32::MAX - 1, u32::MAX);
        (0..3).for_each(|n| send(&mut acks, n));
        acks.acknowledged(0).unwrap();
        assert_eq!(texts(&acks.resumed(0).unwrap()), ["2"]);
        acks.received();
        assert_eq!(acks.answer(), A::new(0));
    }

    #[test]
    fn a_server_that_counts_what_was_not_sent_is_not_believed() {
        for count in [4, u32::MAX, 1 << 31] {
            let mut acks = acks(true, Some("a"));
            (0..3).for_each(|n| send(&mut acks, n));
            assert!(matches!(acks.acknowledged(count), Err(Cause::Protocol(_))), "{count}");
        }
    }

    #[test]
    fn a_session_that_cannot_go_on_keeps_nothing() {
        for mut acks in [acks(false, Some("a")), acks(true, None)] {
            send(&mut acks, 0);
            assert_eq!((acks.resume(), acks.request()), (None, None));
            acks.acknowledged(1).unwrap();
        }
        let mut acks = acks(true, Some("a"));
        for n in 0..=MAX_UNACKED {
            assert!(acks.resume().is_some());
            send(&mut acks, n);
        }
        assert!(acks.resume().is_none() && acks.unacked.is_empty(), "too much");
    }
}
