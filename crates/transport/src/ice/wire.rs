//! Translation between the wire and the crate: the crate never reads what a peer wrote, and nobody
//! reads what the crate wrote.
//!
//! An incoming message was parsed and authenticated; the crate gets a message with the same meaning
//! that this file wrote. An outgoing message is written anew with the real ufrags and the real
//! password. So
//! - ufrags and passwords may have any length: the crate panics when the two ufrags and the colon have
//!   more than 128 bytes, and RFC 8839 section 5.4 allows each 256;
//! - transaction ids on the wire cannot be guessed: the crate takes them from a generator whose
//!   next value can be predicted from a few others. An answer proves that the peer has the address;
//! - the crate has no secrets that it could write into a log.

use bytes::Bytes;
use is::IceCreds;

use super::super::stun::{Class, Message, TransactionId, Writer};

/// Our ufrag in the crate.
const US: &str = "us";
/// The peer's ufrag in the crate.
const PEER: &str = "peer";
/// The password of both in the crate.
const PASSWORD: &str = "between the wire and the crate";

/// Reason phrase of a role conflict (RFC 8445 section 7.3.1.1).
const ROLE_CONFLICT: &str = "Role Conflict";

/// The real ufrags and passwords of both sides.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) ufrag: &'a str,
    pub(super) pwd: &'a str,
    pub(super) remote_ufrag: &'a str,
    pub(super) remote_pwd: &'a str,
}

/// Our credentials in the crate.
pub(super) fn our_creds() -> IceCreds {
    IceCreds { ufrag: US.to_owned(), pass: PASSWORD.to_owned() }
}

/// The peer's credentials in the crate.
pub(super) fn peer_creds() -> IceCreds {
    IceCreds { ufrag: PEER.to_owned(), pass: PASSWORD.to_owned() }
}

/// Translates an authenticated message of the peer for the crate, under the transaction id by which
/// the crate knows it. `None` if it means nothing there.
pub(super) fn inward(message: &Message<'_>, transaction: TransactionId) -> Option<Bytes> {
    let writer = Writer::new(message.class, transaction);
    let writer = match message.class {
        Class::Request => {
            // RFC 8445 section 7.1.1 requires PRIORITY; the crate accepts no request without.
            let writer = writer.username(US, PEER).priority(message.priority?);
            let writer = message.role.into_iter().fold(writer, Writer::role);
            if message.use_candidate { writer.use_candidate() } else { writer }
        }
        Class::Success => writer.mapped(message.mapped?),
        Class::Error => writer.error(message.error?, ""),
        Class::Indication => return None,
    };
    Some(writer.finish(PASSWORD.as_bytes()))
}

/// Translates a message of the crate for the wire. A request gets the transaction id that `fresh`
/// makes; then both ids are returned as well, the one on the wire first.
pub(super) fn outward(
    bytes: &[u8],
    names: Names<'_>,
    fresh: impl FnOnce() -> TransactionId,
) -> Option<(Bytes, Option<(TransactionId, TransactionId)>)> {
    let message = Message::parse(bytes).ok()?;
    if message.class == Class::Request {
        let transaction = fresh();
        let bytes = check(names, transaction, |writer| {
            let writer = message.priority.into_iter().fold(writer, Writer::priority);
            let writer = message.role.into_iter().fold(writer, Writer::role);
            if message.use_candidate { writer.use_candidate() } else { writer }
        });
        return Some((bytes, Some((transaction, message.transaction))));
    }
    let writer = Writer::new(message.class, message.transaction);
    let writer = match (message.mapped, message.error) {
        (Some(mapped), _) => writer.mapped(mapped),
        (None, Some(code)) => writer.error(code, ROLE_CONFLICT),
        (None, None) => return None,
    };
    Some((writer.finish(names.pwd.as_bytes()), None))
}

/// Writes a check to the peer, with what `more` adds.
pub(super) fn check(
    names: Names<'_>,
    transaction: TransactionId,
    more: impl FnOnce(Writer) -> Writer,
) -> Bytes {
    let writer = Writer::new(Class::Request, transaction);
    more(writer.username(names.remote_ufrag, names.ufrag)).finish(names.remote_pwd.as_bytes())
}

#[cfg(test)]
mod tests {
    use is::stun::StunMessage;
    use proptest::prelude::*;

    use super::{super::super::stun::Role, *};

    const WIRE: TransactionId = [1; 12];
    const INNER: TransactionId = [2; 12];

    fn names<'a>(ufrag: &'a str, remote_ufrag: &'a str) -> Names<'a> {
        Names { ufrag, pwd: "our password", remote_ufrag, remote_pwd: "their password" }
    }

    proptest! {
        /// Whatever the names, a check and its answer mean the same on both sides.
        #[test]
        fn checks_keep_their_meaning(
            ours in "[a-z0-9+/]{4,256}",
            theirs in "[a-z0-9+/]{4,256}",
            priority in 1u32..,
            controlling: bool,
            tie_breaker: u64,
            use_candidate: bool,
            address: std::net::SocketAddr,
        ) {
            let role = Role { controlling, tie_breaker };
            let sent = check(names(&theirs, &ours), WIRE, |writer| {
                let writer = writer.priority(priority).role(role);
                if use_candidate { writer.use_candidate() } else { writer }
            });
            let message = Message::parse(&sent).unwrap();
            prop_assert!(message.is_authentic(b"their password"));
            let inner = inward(&message, INNER).unwrap();
            let seen = StunMessage::parse(&inner).unwrap();
            prop_assert_eq!(seen.prio(), Some(priority));
            prop_assert_eq!(seen.use_candidate(), use_candidate);
            prop_assert_eq!(seen.ice_controlling(), controlling.then_some(tie_breaker));
            prop_assert_eq!(seen.ice_controlled(), (!controlling).then_some(tie_breaker));

            let (again, ids) = outward(&inner, names(&ours, &theirs), || WIRE).unwrap();
            prop_assert_eq!(ids, Some((WIRE, INNER)));
            let again = Message::parse(&again).unwrap();
            prop_assert!(again.is_authentic(b"their password"));
            prop_assert_eq!(again.ufrags(), Some((theirs.as_bytes(), ours.as_bytes())));
            prop_assert_eq!((again.role, again.priority), (Some(role), Some(priority)));

            let answer = Writer::new(Class::Success, WIRE).mapped(address).finish(b"x");
            let inner = inward(&Message::parse(&answer).unwrap(), INNER).unwrap();
            let (answer, ids) = outward(&inner, names(&ours, &theirs), || WIRE).unwrap();
            let answer = Message::parse(&answer).unwrap();
            prop_assert!(ids.is_none() && answer.is_authentic(b"our password"));
            let plain = std::net::SocketAddr::new(address.ip(), address.port());
            prop_assert_eq!((answer.mapped, answer.transaction), (Some(plain), INNER));
        }
    }
}
