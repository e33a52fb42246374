//! A client's rooms as the purpose of its connection: logs and counts their changes.

use std::{sync::Arc, time::Instant};

use minidom::Element;
use rand::Rng as _;
use tokio::sync::watch;

use super::{
    MucCounts,
    counts::ClientState,
    room::Room,
    session::{Out, Session},
};
use crate::{
    config::XmppClient,
    xmpp::{Stanza, driver::Purpose},
};

/// See the module.
pub(super) struct Rooms {
    id: String,
    nickname: String,
    jids: Vec<String>,
    stats: watch::Receiver<Element>,
    counts: MucCounts,
    state: Arc<ClientState>,
    session: Session,
}

impl Rooms {
    /// `stats`: what to publish.
    pub(super) fn new(
        client: &XmppClient,
        stats: watch::Receiver<Element>,
        counts: MucCounts,
    ) -> Self {
        Self {
            id: client.id.clone(),
            nickname: client.nickname.clone(),
            jids: client.rooms.clone(),
            stats,
            state: counts.add(client),
            counts,
            session: Session::default(),
        }
    }

    fn count(&self) {
        self.counts.set(&self.state, true, self.session.joined());
    }
}

impl Purpose for Rooms {
    fn begin(&mut self, _: &str, now: Instant) {
        let jitter = || rand::rng().random();
        let room = |jid: &String| Room::new(jid, &self.nickname, now, jitter);
        let rooms = self.jids.iter().map(room).collect();
        let stats = self.stats.borrow_and_update().clone();
        self.session = Session::new(rooms, stats, now);
        self.count();
    }

    fn resumed(&mut self, now: Instant) {
        self.session.resumed(now);
        self.count();
    }

    fn lost(&mut self, unwanted: bool) {
        self.counts.set(&self.state, false, 0);
        if unwanted {
            self.counts.lost();
        }
    }

    fn on_stanza(&mut self, stanza: &Stanza, now: Instant) {
        self.session.on_stanza(stanza, now);
    }

    fn deadline(&self) -> Option<Instant> {
        self.session.deadline()
    }

    fn on_time(&mut self, now: Instant) {
        self.session.on_time(now);
    }

    async fn changed(&mut self) {
        if self.stats.changed().await.is_err() {
            // Nothing new will come.
            std::future::pending::<()>().await;
        }
    }

    fn publish(&mut self, now: Instant) {
        let stats = self.stats.borrow_and_update().clone();
        self.session.publish(stats, now);
    }

    fn leave(&mut self) {
        self.session.leave();
    }

    fn next(&mut self) -> Option<Element> {
        let (client, nick) = (&self.id, &self.nickname);
        loop {
            match self.session.next()? {
                Out::Send(element) => return Some(element),
                Out::Joined { room, created } => {
                    tracing::info!(client, room, nick, created, "XMPP: joined the room");
                    self.count();
                }
                Out::Absent { room, absence } => {
                    tracing::warn!(client, room, nick, cause = %absence, "XMPP: not in the room, trying for ever");
                    self.count();
                }
                Out::NotConfigured { room, condition } => {
                    tracing::warn!(
                        client,
                        room,
                        condition,
                        "XMPP: cannot configure the room, trying for ever"
                    );
                }
            }
        }
    }
}
