//! Rooms: the participants of a call and what each sends. A room has one conference on the bridge; its
//! members are notified of changes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Mutex as AsyncMutex, watch};

use super::{
    message::{Peer, Sending},
    offer::RemoteSource,
};

/// Maximum length of a room name, bytes.
pub(super) const MAX_ROOM_NAME: usize = 64;
/// Maximum length of a display name, characters.
pub(super) const MAX_DISPLAY_NAME: usize = 64;

/// Limits on rooms.
#[derive(Clone, Copy, Debug)]
pub struct RoomLimits {
    /// Maximum number of rooms.
    pub rooms: usize,
    /// Maximum participants of a room.
    pub participants: usize,
}

impl Default for RoomLimits {
    fn default() -> Self {
        Self { rooms: 1000, participants: 50 }
    }
}

/// Why a participant cannot join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum JoinError {
    /// The name is not 1 to [`MAX_ROOM_NAME`] letters, digits, `-`, `_` and `.`, or begins with `_` or `.`.
    #[error("a room's name is made of letters, digits, - and _ (at most {MAX_ROOM_NAME})")]
    RoomName,
    /// The limit [`RoomLimits::rooms`] is reached.
    #[error("there are too many rooms on this bridge")]
    TooManyRooms,
    /// The limit [`RoomLimits::participants`] is reached.
    #[error("the room is full")]
    RoomFull,
}

/// All rooms.
#[derive(Debug)]
pub(super) struct Rooms {
    limits: RoomLimits,
    map: Mutex<HashMap<String, Arc<Room>>>,
}

impl Rooms {
    /// Starts without rooms.
    pub(super) fn new(limits: RoomLimits) -> Arc<Self> {
        Arc::new(Self { limits, map: Mutex::default() })
    }

    /// Joins a room; the first member creates it. Names of rooms are case-insensitive.
    pub(super) fn join(
        self: &Arc<Self>,
        room: &str,
        display_name: &str,
    ) -> Result<Membership, JoinError> {
        if !is_room_name(room) {
            return Err(JoinError::RoomName);
        }
        let name = room.to_ascii_lowercase();
        let mut map = lock(&self.map);
        let room = match map.get(&name) {
            Some(room) => room.clone(),
            None if map.len() >= self.limits.rooms => return Err(JoinError::TooManyRooms),
            None => {
                let room = Arc::new(Room::new(name.clone()));
                map.insert(name, room.clone());
                room
            }
        };
        let mut members = lock(&room.members);
        if members.len() >= self.limits.participants {
            return Err(JoinError::RoomFull);
        }
        let mut id = endpoint_id();
        while members.contains_key(&id) {
            id = endpoint_id();
        }
        let member = Member { name: clean_name(display_name), ..Member::default() };
        members.insert(id.clone(), member);
        drop(members);
        room.touch();
        Ok(Membership { rooms: self.clone(), room, id })
    }
}

/// Returns whether a name is 1 to `MAX_ROOM_NAME` letters, digits, `-`, `_` and `.`, and does not begin
/// with `_` or `.`.
pub fn is_room_name(name: &str) -> bool {
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty()
        && name.len() <= MAX_ROOM_NAME
        && !name.starts_with(['_', '.'])
        && name.bytes().all(usual)
}

/// Returns a display name without control characters and of bounded length.
fn clean_name(name: &str) -> String {
    let name: String =
        name.trim().chars().filter(|c| !c.is_control()).take(MAX_DISPLAY_NAME).collect();
    if name.is_empty() { "Guest".to_owned() } else { name }
}

/// Returns an endpoint id of eight hexadecimal digits, as Jicofo's.
fn endpoint_id() -> String {
    format!("{:08x}", rand::random::<u32>())
}

/// A room.
#[derive(Debug)]
pub(super) struct Room {
    /// Its name.
    pub name: String,
    /// The id of its conference on the bridge.
    pub meeting_id: String,
    /// Whether the conference exists. Locked while a member creates it, so that only one does.
    pub conference: AsyncMutex<bool>,
    members: Mutex<BTreeMap<String, Member>>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Member {
    name: String,
    sending: Sending,
    sources: Vec<RemoteSource>,
}

impl Room {
    fn new(name: String) -> Self {
        let meeting_id = format!("{:032x}", rand::random::<u128>());
        Self {
            name,
            meeting_id,
            conference: AsyncMutex::new(false),
            members: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    fn touch(&self) {
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
    }

    /// Returns all members, in order of their ids.
    pub(super) fn peers(&self) -> Vec<Peer> {
        let peer = |(id, member): (&String, &Member)| Peer {
            id: id.clone(),
            name: member.name.clone(),
            sending: member.sending,
        };
        lock(&self.members).iter().map(peer).collect()
    }

    /// Returns the sources of all members except `id`.
    pub(super) fn sources_for(&self, id: &str) -> Vec<RemoteSource> {
        lock(&self.members)
            .iter()
            .filter(|(other, _)| other.as_str() != id)
            .flat_map(|(_, member)| member.sources.iter().cloned())
            .collect()
    }

    /// Returns a receiver that is notified of every change.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// Membership of a room; dropping it leaves the room. A room ends with its last member.
#[derive(Debug)]
pub(super) struct Membership {
    rooms: Arc<Rooms>,
    /// The room.
    pub room: Arc<Room>,
    /// The member's endpoint id.
    pub id: String,
}

impl Membership {
    /// Sets what the member sends.
    pub(super) fn publish(&self, sending: Sending, sources: Vec<RemoteSource>) {
        let mut members = lock(&self.room.members);
        let Some(member) = members.get_mut(&self.id) else { return };
        if member.sending == sending && member.sources == sources {
            return;
        }
        member.sending = sending;
        member.sources = sources;
        drop(members);
        self.room.touch();
    }

    /// Sets the member's name.
    pub(super) fn rename(&self, display_name: &str) {
        let name = clean_name(display_name);
        let mut members = lock(&self.room.members);
        let Some(member) = members.get_mut(&self.id) else { return };
        if member.name != name {
            member.name = name;
            drop(members);
            self.room.touch();
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut map = lock(&self.rooms.map);
        let mut members = lock(&self.room.members);
        members.remove(&self.id);
        if members.is_empty() {
            map.remove(&self.room.name);
        }
        drop(members);
        drop(map);
        self.room.touch();
    }
}

/// The maps stay consistent when a thread panics while it holds the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::focus::{message::SendState, sdp::Kind};

    #[test]
    fn a_room_lasts_as_long_as_its_members() {
        let rooms = Rooms::new(RoomLimits::default());
        let a = rooms.join("Room", " Ann\n").unwrap();
        let b = rooms.join("room", "").unwrap();
        assert_eq!(lock(&rooms.map).len(), 1);
        assert!(Arc::ptr_eq(&a.room, &b.room));
        let names: Vec<_> = a.room.peers().into_iter().map(|peer| peer.name).collect();
        assert!(names.contains(&"Ann".to_owned()) && names.contains(&"Guest".to_owned()));
        let meeting = a.room.meeting_id.clone();
        drop(a);
        assert_eq!(b.room.peers().len(), 1);
        drop(b);
        assert!(lock(&rooms.map).is_empty());
        assert_ne!(rooms.join("room", "").unwrap().room.meeting_id, meeting);
    }

    #[test]
    fn a_members_sources_are_offered_to_the_others() {
        let rooms = Rooms::new(RoomLimits::default());
        let a = rooms.join("r", "a").unwrap();
        let b = rooms.join("r", "b").unwrap();
        let mut watch = b.room.watch();
        let source = RemoteSource {
            endpoint: a.id.clone(),
            name: format!("{}-a0", a.id),
            kind: Kind::Audio,
            desktop: false,
            ssrc: 1,
            rtx: None,
        };
        let sending = Sending { microphone: SendState::On, ..Sending::default() };
        a.publish(sending, vec![source.clone()]);
        assert!(watch.has_changed().unwrap());
        watch.mark_unchanged();
        a.publish(sending, vec![source.clone()]);
        assert!(!watch.has_changed().unwrap(), "nothing is new");
        assert_eq!(b.room.sources_for(&b.id), [source]);
        assert!(a.room.sources_for(&a.id).is_empty());
    }

    #[test]
    fn rooms_and_members_are_bounded() {
        let rooms = Rooms::new(RoomLimits { rooms: 1, participants: 2 });
        let _a = rooms.join("r", "").unwrap();
        let _b = rooms.join("r", "").unwrap();
        assert_eq!(rooms.join("r", "").unwrap_err(), JoinError::RoomFull);
        assert_eq!(rooms.join("s", "").unwrap_err(), JoinError::TooManyRooms);
        for bad in ["", "_rialto", ".x", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert_eq!(rooms.join(bad, "").unwrap_err(), JoinError::RoomName, "{bad}");
        }
    }
}
