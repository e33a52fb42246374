//! The rooms of a connection. No I/O: stanzas and time in, actions out.

use std::{collections::VecDeque, time::Instant};

use minidom::Element;

use super::room::{Absence, Room, RoomOut};
use crate::xmpp::{
    Stanza,
    stanza::{CLIENT, put},
};

/// An action or event.
#[derive(Debug)]
pub(super) enum Out {
    /// Send this.
    Send(Element),
    /// Report: in a room.
    Joined { room: String, created: bool },
    /// Report: not in a room.
    Absent { room: String, absence: Absence },
    /// Report: a room could not be configured.
    NotConfigured { room: String, condition: String },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    rooms: Vec<Room>,
    /// The latest that there is to publish.
    stats: Element,
    ids: u64,
    out: VecDeque<Out>,
}

impl Default for Session {
    /// Without rooms, before there is a connection.
    fn default() -> Self {
        Self {
            rooms: Vec::new(),
            stats: Element::bare("stats", CLIENT),
            ids: 0,
            out: VecDeque::new(),
        }
    }
}

impl Session {
    pub(super) fn new(rooms: Vec<Room>, stats: Element, now: Instant) -> Self {
        let mut session = Self { rooms, stats, ..Self::default() };
        session.on_time(now);
        session
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
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.rooms.iter().filter_map(Room::deadline).min()
    }

    /// Handles timers that are due.
    pub(super) fn on_time(&mut self, now: Instant) {
        self.each_room(|room, out| room.on_time(now, out));
    }

    /// Handles the resumption of the session: nothing was lost.
    pub(super) fn resumed(&mut self, now: Instant) {
        self.each_room(|room, _| room.resumed(now));
    }

    /// Handles a stanza that is no request.
    pub(super) fn on_stanza(&mut self, stanza: &Stanza, now: Instant) {
        let Stanza::Whole(stanza) = stanza else { return };
        match stanza.name() {
            "iq" => {
                let id = self.id();
                self.room_of(stanza, |room, out| room.on_answer(stanza, id, out));
            }
            "presence" => {
                self.room_of(stanza, |room, out| room.on_presence(stanza, now, out));
                self.publish_where_new(now);
            }
            _ => {}
        }
    }

    /// Publishes new statistics.
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

    /// After a join: publishes statistics, and configures the room if the bridge has created it.
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
