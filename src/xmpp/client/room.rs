//! One room (XEP-0045): joins it, and joins again when the bridge is no longer in it. No I/O.

use std::time::{Duration, Instant};

use minidom::Element;
use xmpp_parsers::{
    data_forms::{DataForm, DataFormType, Field},
    muc::{Muc, user::Status},
    ns,
    stanza_error::DefinedCondition,
};

use crate::xmpp::{
    connect::{FIRST_RETRY, jittered},
    stanza::{CLIENT, iq, named, put, shown, stanza_error},
};

const MUC_OWNER: &str = "http://jabber.org/protocol/muc#owner";
const ROOM_CONFIG: &str = "http://jabber.org/protocol/muc#roomconfig";

/// A room that has not answered a join by then is asked again.
const JOIN_TIMEOUT: Duration = Duration::from_secs(15);
/// After a refused join, the next follows after this long, give or take a fifth.
const RETRY: Duration = Duration::from_secs(5);
/// A room of ours that cannot be configured is tried again after this long, give or take a fifth: until it
/// is, nobody else is let in (XEP-0045 section 10.1.2).
const CONFIGURE_RETRY: Duration = Duration::from_secs(30);
/// A room repeats our presence to us. One that has not done so for this long has lost us.
const ECHO_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the bridge is not in a room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Absence {
    #[error("the nickname is in use")]
    NicknameInUse,
    #[error("the room refused: {0}")]
    Refused(String),
    /// Another occupant may just have created the room and not configured it yet: until then it is locked
    /// (XEP-0045 section 10.1.2). Servers say this with either of two conditions.
    #[error("the room refused: {0}")]
    Locked(String),
    #[error("removed from the room ({0})")]
    Removed(String),
    #[error("the room does not answer")]
    Silent,
}

impl Absence {
    fn of(condition: DefinedCondition) -> Self {
        match condition {
            DefinedCondition::Conflict => Self::NicknameInUse,
            locked @ (DefinedCondition::ItemNotFound | DefinedCondition::NotAllowed) => {
                Self::Locked(named(locked))
            }
            other => Self::Refused(named(other)),
        }
    }

    fn may_be_locked(&self) -> bool {
        matches!(self, Self::Locked(_))
    }
}

/// An action or event of the room.
#[derive(Debug, PartialEq)]
pub(super) enum RoomOut {
    Send(Element),
    /// In the room; `created` when it did not exist.
    Joined {
        created: bool,
    },
    /// Not in the room, and trying to join. Returned once for each reason.
    Absent(Absence),
    /// The room is ours: ask for its form ([`Room::configure`]).
    Configure,
    /// The room is ours and cannot be configured; tried again. Returned once for each reason.
    NotConfigured(String),
}

#[derive(Debug)]
enum State {
    /// Until then.
    Waiting(Instant),
    /// Asked to be let in; how long that may take.
    Joining(Instant),
    /// In; since when a presence of ours waits to be repeated.
    Joined(Option<Instant>),
}

/// A room to be in.
#[derive(Debug)]
pub(super) struct Room {
    jid: String,
    nickname: String,
    state: State,
    told: Option<Absence>,
    /// The id of the request that reads or sets the room's configuration.
    configuring: Option<String>,
    /// When the room is to be configured again, unless it has been by then.
    configure_at: Option<Instant>,
    /// The last reported reason for which it could not be configured.
    refused: Option<String>,
    jitter: fn() -> f64,
}

impl Room {
    /// `jid` is bare and in lower case, as servers answer. `jitter` is between 0 and 1.
    pub(super) fn new(jid: &str, nickname: &str, now: Instant, jitter: fn() -> f64) -> Self {
        Self {
            jid: jid.to_owned(),
            nickname: nickname.to_owned(),
            state: State::Waiting(now),
            told: None,
            configuring: None,
            configure_at: None,
            refused: None,
            jitter,
        }
    }

    pub(super) fn jid(&self) -> &str {
        &self.jid
    }

    pub(super) fn joined(&self) -> bool {
        matches!(self.state, State::Joined(_))
    }

    /// When to call [`Room::on_time`] at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Waiting(at) | State::Joining(at) => Some(at),
            State::Joined(since) => echo_due(since).into_iter().chain(self.configure_at).min(),
        }
    }

    /// Handles timers that are due.
    pub(super) fn on_time(&mut self, now: Instant, out: &mut Vec<RoomOut>) {
        if self.deadline().is_none_or(|at| at > now) {
            return;
        }
        match self.state {
            State::Waiting(_) => {
                let mut join = self.presence();
                join.append_child(Muc::new().into());
                out.push(RoomOut::Send(join));
                self.state = State::Joining(now + JOIN_TIMEOUT);
            }
            State::Joined(since) if echo_due(since).is_none_or(|at| at > now) => {
                self.configure_at = Some(self.later(now, CONFIGURE_RETRY));
                out.push(RoomOut::Configure);
            }
            State::Joined(_) | State::Joining(_) => self.lose(Absence::Silent, now, out),
        }
    }

    /// Publishes statistics in presence, if the bridge is in the room.
    pub(super) fn publish(&mut self, stats: &Element, now: Instant, out: &mut Vec<RoomOut>) {
        if let State::Joined(since) = &mut self.state {
            since.get_or_insert(now);
            let mut presence = self.presence();
            presence.append_child(stats.clone());
            out.push(RoomOut::Send(presence));
        }
    }

    /// Leaves, and does not come back.
    pub(super) fn leave(&self, out: &mut Vec<RoomOut>) {
        if !matches!(self.state, State::Waiting(_)) {
            let mut presence = self.presence();
            put(presence.attrs_mut(), "type", "unavailable");
            out.push(RoomOut::Send(presence));
        }
    }

    /// Handles a presence from this room. Those of other occupants are ignored.
    pub(super) fn on_presence(&mut self, presence: &Element, now: Instant, out: &mut Vec<RoomOut>) {
        let from = presence.attr("from").unwrap_or_default();
        let nickname = from.split_once('/').map(|(_, nickname)| nickname);
        let user = presence.get_child("x", ns::MUC_USER);
        let codes = user.map(statuses).unwrap_or_default();
        let ours =
            codes.contains(&Status::SelfPresence) || nickname == Some(self.nickname.as_str());
        match presence.attr("type") {
            Some("error") if ours || nickname.is_none() => {
                self.lose(Absence::of(stanza_error(presence)), now, out);
            }
            Some("unavailable") if ours && self.joined() => {
                let why = user.map_or(String::new(), |x| removal(x, &codes));
                self.lose(Absence::Removed(why), now, out);
            }
            None if ours => {
                self.on_own(codes.contains(&Status::RoomHasBeenCreated), now, out);
            }
            _ => {}
        }
    }

    /// Handles an answer from this room. `id` is used for the next request.
    pub(super) fn on_answer(&mut self, iq: &Element, id: String, out: &mut Vec<RoomOut>) {
        if self.configuring.is_none() || self.configuring.as_deref() != iq.attr("id") {
            return;
        }
        self.configuring = None;
        if iq.attr("type") != Some("result") {
            let condition = named(stanza_error(iq));
            if self.refused.as_ref() != Some(&condition) {
                self.refused = Some(condition.clone());
                out.push(RoomOut::NotConfigured(condition));
            }
            return;
        }
        let form =
            iq.get_child("query", MUC_OWNER).and_then(|query| query.get_child("x", ns::DATA_FORMS));
        // Without a form, it was the answer to ours.
        if let Some(form) = form {
            let asks = |field: &Element| field.attr("var") == Some("muc#roomconfig_whois");
            let whois = form.children().any(asks);
            out.push(RoomOut::Send(self.configuration(&id, whois)));
            self.configuring = Some(id);
        } else {
            self.configure_at = None;
        }
    }

    /// Asks for the form of a room that is new: it is locked until its owner has answered it.
    pub(super) fn configure(&mut self, id: String) -> Element {
        let query = Element::bare("query", MUC_OWNER);
        let asked = iq("get", &id, Some(&self.jid), query);
        self.configuring = Some(id);
        asked
    }

    /// Restarts timers after a resumption: what was awaited comes now.
    pub(super) fn resumed(&mut self, now: Instant) {
        match &mut self.state {
            State::Joining(until) => *until = now + JOIN_TIMEOUT,
            State::Joined(Some(since)) => *since = now,
            State::Joined(None) | State::Waiting(_) => {}
        }
    }

    /// Everybody in the room may see real addresses, as JVB sets it.
    fn configuration(&self, id: &str, whois: bool) -> Element {
        let whois = whois.then(|| Field::text_single("muc#roomconfig_whois", "anyone"));
        let form_type = Field::text_single("FORM_TYPE", ROOM_CONFIG);
        let form = DataForm {
            type_: DataFormType::Submit,
            title: None,
            instructions: None,
            fields: [form_type].into_iter().chain(whois).collect(),
        };
        let mut query = Element::bare("query", MUC_OWNER);
        query.append_child(form.into());
        iq("set", id, Some(&self.jid), query)
    }

    fn on_own(&mut self, created: bool, now: Instant, out: &mut Vec<RoomOut>) {
        match &mut self.state {
            State::Joined(since) => *since = None,
            State::Waiting(_) | State::Joining(_) => {
                self.state = State::Joined(None);
                self.told = None;
                self.configure_at = created.then(|| self.later(now, CONFIGURE_RETRY));
                out.push(RoomOut::Joined { created });
            }
        }
    }

    fn lose(&mut self, absence: Absence, now: Instant, out: &mut Vec<RoomOut>) {
        let soon =
            absence.may_be_locked() && !self.told.as_ref().is_some_and(Absence::may_be_locked);
        self.state = State::Waiting(if soon {
            now + jittered(FIRST_RETRY, (self.jitter)())
        } else {
            self.later(now, RETRY)
        });
        (self.configuring, self.configure_at, self.refused) = (None, None, None);
        if self.told.as_ref() != Some(&absence) {
            self.told = Some(absence.clone());
            out.push(RoomOut::Absent(absence));
        }
    }

    /// The time after this long, give or take a fifth.
    fn later(&self, now: Instant, pause: Duration) -> Instant {
        now + pause.mul_f64(0.8 + 0.4 * (self.jitter)())
    }

    fn presence(&self) -> Element {
        let mut presence = Element::bare("presence", CLIENT);
        put(presence.attrs_mut(), "to", &format!("{}/{}", self.jid, self.nickname));
        presence
    }
}

/// When a presence that waits to be repeated has waited too long.
fn echo_due(since: Option<Instant>) -> Option<Instant> {
    since.and_then(|since| since.checked_add(ECHO_TIMEOUT))
}

/// The status codes that are known. Parsed here, because the library's type refuses unknown codes, and
/// servers send their own.
fn statuses(user: &Element) -> Vec<Status> {
    user.children().filter_map(|child| Status::try_from(child.clone()).ok()).collect()
}

/// Why an occupant is no longer there (XEP-0045 section 15.6.2).
fn removal(user: &Element, codes: &[Status]) -> String {
    let why = |status: &Status| match status {
        Status::Banned => Some("banned"),
        Status::Kicked => Some("kicked"),
        Status::RemovalFromRoom | Status::ConfigMembersOnly => Some("members only"),
        Status::ServiceShutdown => Some("the service shuts down"),
        _ => None,
    };
    let why = if user.has_child("destroy", ns::MUC_USER) {
        "the room was destroyed"
    } else {
        codes.iter().find_map(why).unwrap_or("no reason given")
    };
    let reason = user
        .children()
        .find_map(|child| child.get_child("reason", ns::MUC_USER))
        .map(|reason| shown(&reason.text()));
    reason.map_or_else(|| why.to_owned(), |reason| format!("{why}: {reason}"))
}
