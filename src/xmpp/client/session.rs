//! A connection after its login: rooms, requests, acknowledgements, signs of life. No I/O: stanzas and
//! time in, what to do out.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use minidom::Element;

use super::{
    Cause,
    login::{ACKS, Bound, CLIENT, stream_error},
    room::{Absence, Room, RoomOut},
};
use crate::{
    colibri::ConferenceModify,
    config::SourcePattern,
    xmpp::{
        Stanza, StreamEvent,
        iq::{self, About, PING, Reply, Step, put},
    },
};

/// A server that has said nothing for so long is asked whether it is there.
const PING_AFTER: Duration = Duration::from_secs(10);
/// And has so long to say anything.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// What to do.
#[derive(Debug)]
pub(super) enum Out {
    /// Send this.
    Send(Element),
    /// Ask the bridge, and send what the reply makes of the answer.
    Modify(Box<ConferenceModify>, Reply),
    /// Send what the reply makes of the bridge's health.
    Health(Reply),
    /// Tell: in a room.
    Joined { room: String, created: bool },
    /// Tell: not in a room.
    Absent { room: String, absence: Absence },
    /// Tell: a room that could not be configured.
    NotConfigured { room: String, condition: String },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    about: About,
    rooms: Vec<Room>,
    /// The latest that there is to publish.
    stats: Element,
    /// Stanzas received, where the server counts them (XEP-0198 section 4).
    received: Option<u32>,
    heard: Instant,
    pinged: Option<Instant>,
    ids: u64,
    out: VecDeque<Out>,
    /// Who may ask for conferences and health; everybody if there is none.
    authorized: Option<SourcePattern>,
}

impl Session {
    /// `rooms`: bare JIDs and nicknames.
    pub(super) fn new(
        bound: &Bound,
        rooms: Vec<Room>,
        about: About,
        stats: Element,
        now: Instant,
    ) -> Self {
        let mut session = Self {
            about,
            rooms,
            stats,
            received: bound.acks.then_some(0),
            heard: now,
            pinged: None,
            ids: 0,
            out: VecDeque::new(),
            authorized: None,
        };
        session.each_room(|room, out| room.on_time(now, out));
        session
    }

    /// Only whom this pattern means may ask for conferences and health.
    pub(super) fn only(mut self, authorized: Option<SourcePattern>) -> Self {
        self.authorized = authorized;
        self
    }

    /// The next thing to do. Ask after every other call until there is nothing.
    pub(super) fn next(&mut self) -> Option<Out> {
        self.out.pop_front()
    }

    /// Rooms that the bridge is in.
    pub(super) fn joined(&self) -> usize {
        self.rooms.iter().filter(|room| room.joined()).count()
    }

    /// When to call [`Session::on_time`] at the latest.
    pub(super) fn deadline(&self) -> Instant {
        let life = match self.pinged {
            Some(at) => at + PING_TIMEOUT,
            None => self.heard + PING_AFTER,
        };
        self.rooms.iter().filter_map(Room::deadline).fold(life, Instant::min)
    }

    /// Does what is due.
    pub(super) fn on_time(&mut self, now: Instant) -> Result<(), Cause> {
        match self.pinged {
            Some(at) if now >= at + PING_TIMEOUT => return Err(Cause::Silent),
            None if now >= self.heard + PING_AFTER => {
                let mut ping = Element::bare("iq", CLIENT);
                put(ping.attrs_mut(), "type", "get");
                put(ping.attrs_mut(), "id", &self.id());
                ping.append_child(Element::bare("ping", PING));
                self.out.push_back(Out::Send(ping));
                self.pinged = Some(now);
            }
            _ => {}
        }
        self.each_room(|room, out| room.on_time(now, out));
        Ok(())
    }

    /// Bytes came, if not a stanza yet.
    pub(super) fn on_life(&mut self, now: Instant) {
        self.heard = now;
        self.pinged = None;
    }

    /// Takes what came.
    pub(super) fn on_event(&mut self, event: StreamEvent, now: Instant) -> Result<(), Cause> {
        self.on_life(now);
        let stanza = match event {
            StreamEvent::Stanza(stanza) => stanza,
            StreamEvent::Close => return Err(Cause::Closed),
            StreamEvent::Open(_) => return Ok(()),
        };
        let (Stanza::Whole(head) | Stanza::GivenUp { head, .. }) = &stanza;
        if let Some(cause) = stream_error(head) {
            return Err(cause);
        }
        if head.is("r", ACKS) {
            return self.acknowledge();
        }
        if !head.has_ns(CLIENT) {
            return Ok(());
        }
        if let Some(received) = &mut self.received {
            *received = received.wrapping_add(1);
        }
        match (head.name(), &stanza) {
            ("iq", _) if matches!(head.attr("type"), Some("get" | "set")) => self.answer(&stanza),
            ("iq", Stanza::Whole(iq)) => {
                let id = self.id();
                self.room_of(iq, |room, out| room.on_answer(iq, id, out));
            }
            ("presence", Stanza::Whole(presence)) => {
                self.room_of(presence, |room, out| room.on_presence(presence, now, out));
                self.publish_where_new(now);
            }
            _ => {}
        }
        Ok(())
    }

    /// There is something new to say of the bridge.
    pub(super) fn publish(&mut self, stats: Element, now: Instant) {
        self.stats = stats;
        let stats = self.stats.clone();
        self.each_room(|room, out| room.publish(&stats, now, out));
    }

    /// Leaves every room, and the server.
    pub(super) fn leave(&mut self) {
        self.each_room(|room, out| room.leave(out));
        let mut presence = Element::bare("presence", CLIENT);
        put(presence.attrs_mut(), "type", "unavailable");
        self.out.push_back(Out::Send(presence));
    }

    fn answer(&mut self, stanza: &Stanza) {
        let authorized = self.authorized.as_ref();
        if let Some(refusal) = iq::refuse_stranger(stanza, &self.about, authorized) {
            self.out.push_back(Out::Send(refusal));
            return;
        }
        match iq::handle(stanza, &self.about) {
            Step::Answer(answer) => self.out.push_back(Out::Send(answer)),
            Step::Modify(request, reply) => self.out.push_back(Out::Modify(request, reply)),
            Step::Health(reply) => self.out.push_back(Out::Health(reply)),
            Step::Ignore => {}
        }
    }

    fn acknowledge(&mut self) -> Result<(), Cause> {
        let Some(received) = self.received else {
            return Err(Cause::Protocol("acknowledgement without agreement".to_owned()));
        };
        let mut ack = Element::bare("a", ACKS);
        put(ack.attrs_mut(), "h", &received.to_string());
        self.out.push_back(Out::Send(ack));
        Ok(())
    }

    /// The room that a stanza comes from, if it is one of ours.
    fn room_of(&mut self, stanza: &Element, act: impl FnOnce(&mut Room, &mut Vec<RoomOut>)) {
        let from = stanza.attr("from").unwrap_or_default();
        let bare = from.split_once('/').map_or(from, |(bare, _)| bare);
        let mut outs = Vec::new();
        let Some(room) = self.rooms.iter_mut().find(|room| room.jid() == bare) else { return };
        act(room, &mut outs);
        let jid = room.jid().to_owned();
        self.take(&jid, outs);
    }

    fn each_room(&mut self, mut act: impl FnMut(&mut Room, &mut Vec<RoomOut>)) {
        let mut all = Vec::new();
        for room in &mut self.rooms {
            let mut outs = Vec::new();
            act(room, &mut outs);
            if !outs.is_empty() {
                all.push((room.jid().to_owned(), outs));
            }
        }
        for (jid, outs) in all {
            self.take(&jid, outs);
        }
    }

    fn take(&mut self, jid: &str, outs: Vec<RoomOut>) {
        for out in outs {
            let room = jid.to_owned();
            let out = match out {
                RoomOut::Send(element) => Out::Send(element),
                RoomOut::Configure => {
                    let id = self.id();
                    let Some(room) = self.rooms.iter_mut().find(|room| room.jid() == jid) else {
                        continue;
                    };
                    Out::Send(room.configure(id))
                }
                RoomOut::Joined { created } => Out::Joined { room, created },
                RoomOut::Absent(absence) => Out::Absent { room, absence },
                RoomOut::NotConfigured(condition) => Out::NotConfigured { room, condition },
            };
            self.out.push_back(out);
        }
    }

    /// Where the bridge has just come in, it says how it is, and configures what it has created.
    fn publish_where_new(&mut self, now: Instant) {
        let Some(Out::Joined { room: jid, created }) = self.out.back() else { return };
        let (jid, created) = (jid.clone(), *created);
        let stats = self.stats.clone();
        let mut outs = Vec::new();
        if let Some(room) = self.rooms.iter_mut().find(|room| room.jid() == jid) {
            if created {
                outs.push(RoomOut::Configure);
            }
            room.publish(&stats, now, &mut outs);
        }
        self.take(&jid, outs);
    }

    fn id(&mut self) -> String {
        self.ids = self.ids.wrapping_add(1);
        format!("b{}", self.ids)
    }
}
