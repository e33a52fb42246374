//! What a hostile or failing world does to the daemon's control plane: servers that stall, lie or die,
//! stanzas that nobody should send, disks and tables that are full.

mod client;
mod component;
mod daemon;
mod fake;
mod leaks;
mod limits;
mod logs;
#[path = "../xmpp/prosody.rs"]
mod prosody;
mod requests;
mod secrets;
mod stalls;
#[path = "../xmpp/wire.rs"]
mod wire;
