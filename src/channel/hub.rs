//! The open channels of endpoints: rate limits of incoming messages, and the queues of outgoing ones.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use dashmap::DashMap;
use rand::{Rng as _, distr::Alphanumeric};
use rialto_media::{EndpointId, Rate, TokenBucket};

use super::outbox::{Close, Outbox};

/// Characters of a password: 142 bits.
const PASSWORD_LENGTH: usize = 24;

/// Messages that an endpoint may send: 100 a second, and 500 at once (at a meeting's start, one to each of the
/// others).
const MESSAGES: Rate = Rate::per_second(100, 500);
/// Bytes that it may send.
const BYTES: Rate = Rate::per_second(256 << 10, 1 << 20);
/// Bytes that it may send to everybody: each receiver costs as much.
const BYTES_TO_ALL: Rate = Rate::per_second(32 << 10, 1 << 20);

/// How a channel is carried.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ChannelKind {
    /// A data channel (RFC 8831).
    Sctp,
    /// A WebSocket (RFC 6455).
    WebSocket,
}

impl ChannelKind {
    /// The name for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sctp => "sctp",
            Self::WebSocket => "websocket",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Sctp => Self::WebSocket,
            Self::WebSocket => Self::Sctp,
        }
    }
}

/// Why a message was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(usize)]
pub enum Dropped {
    /// Not a message, or not one that clients send.
    Malformed,
    /// More than an endpoint may send.
    RateLimited,
    /// Visitors may not send messages to others.
    Visitor,
    /// Its receiver is not in the conference.
    UnknownReceiver,
    /// Its receiver has no channel.
    NoChannel,
    /// Its receiver does not read.
    QueueFull,
}

impl Dropped {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Malformed,
        Self::RateLimited,
        Self::Visitor,
        Self::UnknownReceiver,
        Self::NoChannel,
        Self::QueueFull,
    ];

    /// The name in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::RateLimited => "rate_limited",
            Self::Visitor => "visitor",
            Self::UnknownReceiver => "unknown_receiver",
            Self::NoChannel => "no_channel",
            Self::QueueFull => "queue_full",
        }
    }
}

/// What was counted since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ChannelCounters {
    /// Messages received over SCTP.
    pub sctp_received: u64,
    /// Messages queued for SCTP.
    pub sctp_sent: u64,
    /// Messages received over WebSockets.
    pub web_socket_received: u64,
    /// Messages queued for WebSockets.
    pub web_socket_sent: u64,
    /// WebSockets that their client closed as usual.
    pub web_sockets_closed: u64,
    /// WebSockets that ended in another way.
    pub web_sockets_lost: u64,
    /// Of these, with an error.
    pub web_socket_errors: u64,
    /// Messages dropped, in the order of [`Dropped::ALL`].
    pub dropped: [u64; Dropped::ALL.len()],
}

/// How a WebSocket ended, unless the bridge ended it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketEnd {
    /// Its client closed it, with this code or with none.
    Closed(Option<u16>),
    /// Nothing came from it, or it took nothing, for too long.
    Silent,
    /// What came was no WebSocket's, or the connection broke.
    Failed,
}

impl SocketEnd {
    /// Closed on purpose: by the page or the browser (RFC 6455 section 7.4.1). Most browsers give no code.
    fn is_normal(self) -> bool {
        matches!(self, Self::Closed(None | Some(1000 | 1001 | 1005)))
    }
}

/// A channel that was opened.
#[derive(Debug)]
pub struct Opened {
    /// Distinguishes it from other channels of the same endpoint.
    pub serial: u64,
    /// What goes out over it.
    pub outbox: Arc<Outbox>,
}

/// The channels of all endpoints.
#[derive(Debug, Default)]
pub struct Hub {
    endpoints: DashMap<EndpointId, EndpointChannels>,
    serial: AtomicU64,
    received: [AtomicU64; 2],
    sent: [AtomicU64; 2],
    dropped: [AtomicU64; Dropped::ALL.len()],
    /// WebSockets: closed, lost, failed.
    ends: [AtomicU64; 3],
}

/// An endpoint's channels, at most one of a kind.
#[derive(Debug)]
struct EndpointChannels {
    password: String,
    sctp: Option<Opened>,
    web_socket: Option<Opened>,
    /// The kind over which a message last came.
    active: ChannelKind,
    budget: Budget,
    /// For messages to all.
    budget_to_all: Budget,
}

impl EndpointChannels {
    fn slot(&mut self, kind: ChannelKind) -> &mut Option<Opened> {
        match kind {
            ChannelKind::Sctp => &mut self.sctp,
            ChannelKind::WebSocket => &mut self.web_socket,
        }
    }
}

impl Hub {
    /// Adds an endpoint, with a new password for its WebSocket.
    pub fn add(&self, endpoint: EndpointId) {
        let password =
            rand::rng().sample_iter(Alphanumeric).take(PASSWORD_LENGTH).map(char::from).collect();
        let channels = EndpointChannels {
            password,
            sctp: None,
            web_socket: None,
            active: ChannelKind::Sctp,
            budget: Budget::new(BYTES),
            budget_to_all: Budget::new(BYTES_TO_ALL),
        };
        self.endpoints.insert(endpoint, channels);
    }

    /// Forgets an endpoint; its channels end.
    pub fn remove(&self, endpoint: EndpointId) {
        let Some((_, channels)) = self.endpoints.remove(&endpoint) else { return };
        for opened in channels.sctp.iter().chain(&channels.web_socket) {
            opened.outbox.close(Close::Expired);
        }
    }

    /// The password of an endpoint's WebSocket.
    pub fn password(&self, endpoint: EndpointId) -> Option<String> {
        Some(self.endpoints.get(&endpoint)?.password.clone())
    }

    /// Whether this is the password. How long that takes does not depend on where they differ.
    pub fn is_password(&self, endpoint: EndpointId, candidate: &str) -> bool {
        self.endpoints.get(&endpoint).is_some_and(|channels| same(&channels.password, candidate))
    }

    /// Opens a channel; it replaces another of its kind. `None` when there is no such endpoint.
    pub fn open(&self, endpoint: EndpointId, kind: ChannelKind) -> Option<Opened> {
        let mut channels = self.endpoints.get_mut(&endpoint)?;
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let outbox = Arc::new(Outbox::default());
        let opened = Opened { serial, outbox: outbox.clone() };
        if let Some(old) = channels.slot(kind).replace(opened) {
            old.outbox.close(Close::Replaced);
        }
        channels.active = kind;
        Some(Opened { serial, outbox })
    }

    /// A channel ended. Does nothing when it was replaced before.
    pub fn closed(&self, endpoint: EndpointId, kind: ChannelKind, serial: u64) {
        let Some(mut channels) = self.endpoints.get_mut(&endpoint) else { return };
        let slot = channels.slot(kind);
        if slot.as_ref().is_some_and(|opened| opened.serial == serial) {
            *slot = None;
        }
    }

    /// Counts a message of `length` bytes that came over a channel. Returns `false` when the caller must
    /// ignore it: the endpoint is over its rate limit, or the channel has ended.
    pub fn admit(
        &self,
        endpoint: EndpointId,
        kind: ChannelKind,
        serial: u64,
        length: usize,
        now: Instant,
    ) -> bool {
        let Some(mut channels) = self.endpoints.get_mut(&endpoint) else { return false };
        if channels.slot(kind).as_ref().is_none_or(|opened| opened.serial != serial) {
            return false;
        }
        add(self.received.get(kind as usize));
        channels.active = kind;
        let taken = channels.budget.take(length, now);
        drop(channels);
        if !taken {
            self.dropped(Dropped::RateLimited);
        }
        taken
    }

    /// Charges a message of `length` bytes to all. Returns `false` when the endpoint is over its limit.
    pub fn to_all(&self, endpoint: EndpointId, length: usize, now: Instant) -> bool {
        let channels = self.endpoints.get_mut(&endpoint);
        let taken = channels.is_some_and(|mut channels| channels.budget_to_all.take(length, now));
        if !taken {
            self.dropped(Dropped::RateLimited);
        }
        taken
    }

    /// Queues a message for an endpoint, on the channel over which its last message came.
    pub fn send(&self, endpoint: EndpointId, text: Arc<str>) {
        let Some(mut channels) = self.endpoints.get_mut(&endpoint) else { return };
        let active = channels.active;
        let kind = if channels.slot(active).is_some() { active } else { active.other() };
        let queued = channels.slot(kind).as_ref().map(|opened| opened.outbox.push(text));
        drop(channels);
        match queued {
            Some(true) => add(self.sent.get(kind as usize)),
            Some(false) => self.dropped(Dropped::QueueFull),
            None => self.dropped(Dropped::NoChannel),
        }
    }

    /// Counts the end of a WebSocket.
    pub fn web_socket_ended(&self, end: SocketEnd) {
        add(self.ends.get(usize::from(!end.is_normal())));
        if end == SocketEnd::Failed {
            add(self.ends.get(2));
        }
    }

    /// Counts a dropped message.
    pub fn dropped(&self, why: Dropped) {
        add(self.dropped.get(why as usize));
    }

    /// The kinds of channels that an endpoint has open, the one that is used first.
    pub fn kinds(&self, endpoint: EndpointId) -> Vec<ChannelKind> {
        let Some(mut channels) = self.endpoints.get_mut(&endpoint) else { return Vec::new() };
        let active = channels.active;
        [active, active.other()].into_iter().filter(|kind| channels.slot(*kind).is_some()).collect()
    }

    /// Totals.
    pub fn counters(&self) -> ChannelCounters {
        let [sctp_received, web_socket_received] =
            self.received.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        let [sctp_sent, web_socket_sent] =
            self.sent.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        let dropped = self.dropped.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        let [web_sockets_closed, web_sockets_lost, web_socket_errors] =
            self.ends.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        ChannelCounters {
            sctp_received,
            sctp_sent,
            web_socket_received,
            web_socket_sent,
            web_sockets_closed,
            web_sockets_lost,
            web_socket_errors,
            dropped,
        }
    }
}

fn add(counter: Option<&AtomicU64>) {
    if let Some(counter) = counter {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Compares in a time that does not depend on where the first difference is. Lengths are no secret.
fn same(ours: &str, candidate: &str) -> bool {
    if ours.len() != candidate.len() {
        return false;
    }
    let differences =
        ours.bytes().zip(candidate.bytes()).fold(0, |all, (a, b)| black_box(all | (a ^ b)));
    black_box(differences) == 0
}

/// What an endpoint may still send at once.
#[derive(Debug)]
struct Budget {
    messages: TokenBucket,
    bytes: TokenBucket,
    byte_rate: Rate,
}

impl Budget {
    fn new(byte_rate: Rate) -> Self {
        Self { messages: TokenBucket::default(), bytes: TokenBucket::default(), byte_rate }
    }

    fn take(&mut self, length: usize, now: Instant) -> bool {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let fits =
            self.messages.has(&MESSAGES, 1, now) && self.bytes.has(&self.byte_rate, length, now);
        if fits {
            self.messages.charge(&MESSAGES, 1, now);
            self.bytes.charge(&self.byte_rate, length, now);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::channel::Outgoing;

    const ALICE: EndpointId = EndpointId(1);

    fn hub() -> (Hub, Instant) {
        let (hub, now) = (Hub::default(), Instant::now());
        hub.add(ALICE);
        (hub, now)
    }

    fn next(opened: &Opened) -> Option<String> {
        match opened.outbox.try_next()? {
            Outgoing::Text(text) => Some(text.to_string()),
            Outgoing::Close(why) => Some(why.reason().to_owned()),
        }
    }

    #[test]
    fn the_channel_of_the_last_message_is_used() {
        let (hub, now) = hub();
        let socket = hub.open(ALICE, ChannelKind::WebSocket).unwrap();
        let sctp = hub.open(ALICE, ChannelKind::Sctp).unwrap();
        hub.send(ALICE, "one".into());
        assert_eq!(next(&sctp).as_deref(), Some("one"));
        assert!(hub.admit(ALICE, ChannelKind::WebSocket, socket.serial, 2, now));
        hub.send(ALICE, "two".into());
        assert_eq!(next(&socket).as_deref(), Some("two"));
        assert_eq!(hub.kinds(ALICE), [ChannelKind::WebSocket, ChannelKind::Sctp]);
        hub.closed(ALICE, ChannelKind::WebSocket, socket.serial);
        hub.send(ALICE, "three".into());
        assert_eq!(next(&sctp).as_deref(), Some("three"));
        hub.closed(ALICE, ChannelKind::Sctp, sctp.serial);
        hub.send(ALICE, "four".into());
        let counters = hub.counters();
        assert_eq!((counters.sctp_sent, counters.web_socket_sent), (2, 1));
        assert_eq!((counters.sctp_received, counters.web_socket_received), (0, 1));
        assert_eq!(counters.dropped.get(Dropped::NoChannel as usize), Some(&1));
    }

    #[test]
    fn a_second_channel_replaces_the_first() {
        let (hub, now) = hub();
        let first = hub.open(ALICE, ChannelKind::WebSocket).unwrap();
        let second = hub.open(ALICE, ChannelKind::WebSocket).unwrap();
        assert_eq!(next(&first).as_deref(), Some("replaced"));
        assert!(!hub.admit(ALICE, ChannelKind::WebSocket, first.serial, 2, now));
        hub.closed(ALICE, ChannelKind::WebSocket, first.serial);
        hub.send(ALICE, "to the second".into());
        assert_eq!(next(&second).as_deref(), Some("to the second"));
        hub.remove(ALICE);
        assert_eq!(next(&second).as_deref(), Some("endpoint closed"));
        assert!(hub.open(ALICE, ChannelKind::WebSocket).is_none());
        assert!(hub.password(ALICE).is_none());
    }

    #[test]
    fn passwords_are_new_and_only_the_right_one_is_taken() {
        let (hub, _) = hub();
        hub.add(EndpointId(2));
        let password = hub.password(ALICE).unwrap();
        assert_eq!(password.len(), PASSWORD_LENGTH);
        assert!(hub.is_password(ALICE, &password));
        assert!(!hub.is_password(EndpointId(2), &password));
        assert!(!hub.is_password(EndpointId(3), &password));
        for wrong in ["", "x", &password[1..], &format!("{password}x"), &"x".repeat(24)] {
            assert!(!hub.is_password(ALICE, wrong), "{wrong}");
        }
    }

    #[test]
    fn an_endpoint_cannot_flood() {
        let (hub, now) = hub();
        let socket = hub.open(ALICE, ChannelKind::WebSocket).unwrap();
        let heard = |now, length| {
            let taken = || hub.admit(ALICE, ChannelKind::WebSocket, socket.serial, length, now);
            (0..2000).filter(|_| taken()).count()
        };
        assert_eq!(heard(now, 10), 500);
        assert_eq!(heard(now + Duration::from_secs(1), 10), 100);
        let later = now + Duration::from_secs(3600);
        assert_eq!(heard(later, 64 << 10), 16);
        assert_eq!(heard(later + Duration::from_secs(1), 64 << 10), 4);
        assert!(hub.counters().dropped[Dropped::RateLimited as usize] > 0);
    }

    #[test]
    fn what_goes_to_everybody_has_a_smaller_budget() {
        let (hub, now) = hub();
        let taken = |now, length| (0..2000).filter(|_| hub.to_all(ALICE, length, now)).count();
        assert_eq!(taken(now, 64 << 10), 16);
        assert_eq!(taken(now + Duration::from_secs(10), 64 << 10), 5);
        assert!(!hub.to_all(EndpointId(2), 1, now), "there is no such endpoint");
    }
}
