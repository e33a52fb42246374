//! How a bridge comes, says how it is, goes, and comes back.

use super::{
    focus::{Focus, Stats},
    here::{Here, NICK, client},
    prosody::Prosody,
};

/// A focus in the brewery.
fn focus(port: u16) -> Focus {
    let mut focus = Focus::log_in(port, "focus");
    focus.join("focus");
    focus
}

/// Statistics by which a focus chooses, of a bridge that may be chosen.
fn is_usable(stats: &Stats) -> bool {
    let is = |name, value| stats.get(name) == Some(value);
    is("drain", "false") && is("healthy", "true") && is("graceful_shutdown", "false")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_is_back_after_its_server() {
    let Some(mut prosody) = Prosody::start("") else { return };
    let port = prosody.port();
    // First in the room, it makes it and configures it: the focus can come in.
    let here = Here::start(client(port));
    here.joined().await;
    let seen = move || focus(port).stats(NICK, is_usable);
    let stats = tokio::task::spawn_blocking(seen).await.unwrap();
    assert_eq!(stats.get("version"), Some("2.3.SNAPSHOT"));
    prosody.kill();
    here.lost().await;
    prosody.launch();
    tokio::task::spawn_blocking(seen).await.unwrap();
    here.xmpp.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_is_told_at_once_and_a_bridge_leaves_by_its_name() {
    let Some(prosody) = Prosody::start("") else { return };
    let port = prosody.port();
    // Statistics are an hour apart: what comes sooner comes for a reason.
    let here = Here::start(client(port));
    here.joined().await;
    let mut focus = tokio::task::spawn_blocking(move || {
        let mut focus = focus(port);
        focus.stats(NICK, is_usable);
        focus
    })
    .await
    .unwrap();
    here.bridge.set_drain(true);
    let mut focus = tokio::task::spawn_blocking(move || {
        focus.stats(NICK, |stats| stats.get("drain") == Some("true"));
        focus
    })
    .await
    .unwrap();
    here.xmpp.leave().await;
    tokio::task::spawn_blocking(move || focus.sees_leave(NICK)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_bridges_of_one_name_are_one_in_the_room() {
    let Some(prosody) = Prosody::start("") else { return };
    let first = Here::start(client(prosody.port()));
    first.joined().await;
    let mut other = client(prosody.port());
    other.username = "focus".to_owned();
    let second = Here::start(other);
    second.connected().await;
    // Whoever was there stays.
    assert_eq!((first.xmpp.counts().read().joined, second.xmpp.counts().read().joined), (1, 0));
    first.xmpp.leave().await;
    second.joined().await;
    second.xmpp.leave().await;
}
