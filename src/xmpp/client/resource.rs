//! The resource that a client uses for all its logins.
//!
//! Where a server has not noticed that a connection is dead, the next login replaces it if it has the same
//! resource. Otherwise the dead one would go on receiving what is sent to the nickname, for minutes, since a
//! server keeps a session that can be resumed (XEP-0198), also that of a bridge that crashed. So a restarted
//! bridge uses the same resource again.

use std::fs;

use rand::Rng as _;
use sha2::{Digest as _, Sha256};

use crate::config::XmppClient;

/// A secret of this machine (machine-id(5)), which must not be published as it is.
const MACHINE: &str = "/etc/machine-id";

/// A resource that nobody outside our rooms can guess: derived from the machine's id and the client's
/// configuration, or random on a machine without an id.
pub(super) fn of(client: &XmppClient) -> String {
    let machine = fs::read_to_string(MACHINE).unwrap_or_default();
    let host = rustix::system::uname();
    derived(machine.trim(), &host.nodename().to_string_lossy(), client)
        .unwrap_or_else(|| format!("{:032x}", rand::rng().random::<u128>()))
}

fn derived(machine: &str, host: &str, client: &XmppClient) -> Option<String> {
    if machine.is_empty() {
        return None;
    }
    let mut digest = Sha256::new();
    let rooms = client.rooms.join(",");
    for part in ["rialto resource", machine, host, &client.id, &client.nickname, &rooms] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let half = *digest.finalize().first_chunk::<16>()?;
    Some(format!("{:032x}", u128::from_be_bytes(half)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xmpp::client::tests::client;

    #[test]
    fn a_bridge_that_is_started_again_has_the_same_one_and_no_other_has_it() {
        let ours = derived("0123", "a", &client()).unwrap();
        assert_eq!(ours.len(), 32);
        assert_eq!(derived("0123", "a", &client()).as_deref(), Some(&*ours));
        let mut other = client();
        other.nickname = "jvb2".to_owned();
        for different in [
            derived("0124", "a", &client()),
            derived("0123", "b", &client()),
            derived("0123", "a", &other),
        ] {
            assert_ne!(different.as_deref(), Some(&*ours));
        }
        assert!(!ours.contains("0123"));
        assert_eq!(derived("", "a", &client()), None);
        assert_eq!(of(&client()).len(), 32);
    }
}
