//! The newer way: the bridge is an occupant of the focus's brewery, chosen by what it says there, and
//! asked in COLIBRI2. Real clients, real media, over a real XMPP server that may go away.

mod focus;

use std::{collections::HashSet, time::Instant};

use rialto::{
    colibri::{Colibri2Endpoint, ConferenceModify, ForceMute, Transport},
    config::{self, Override, Secret, XmppClient, XmppSecurity},
    daemon::{Daemon, Options},
};
use rialto_hocon::System;
use rialto_load::plan::Media;
use tokio::task::block_in_place;

use crate::{
    Call,
    prosody::{DOMAIN, PASSWORD, PATIENCE, Prosody},
    wire::Connection,
};
use focus::{BREWERY, Focus};

/// The bridge's nickname.
const NICK: &str = "jvb-1";

/// A bridge that is an occupant of the brewery, and nothing else.
async fn bridge(port: u16) -> Daemon {
    let setting = |key, value: &str| Override::text(key, value.to_owned(), "test");
    let overrides = [
        setting("videobridge.http-servers.private.port", "-1"),
        setting("videobridge.health.require-valid-address", "false"),
        setting("videobridge.ice.udp.port", "0"),
        // How busy the machine of the test is must not decide.
        setting("videobridge.load-management.load-measurements.load-measurement", "packet-rate"),
        setting("rialto.shards", "2"),
    ];
    let mut config = config::load(None, &overrides, &System).unwrap().config;
    config.harvest.loopback = true;
    config.xmpp.clients = vec![XmppClient {
        authorized: None,
        id: "shard".to_owned(),
        host: "127.0.0.1".to_owned(),
        port,
        domain: DOMAIN.to_owned(),
        username: "jvb".to_owned(),
        password: Secret::new(PASSWORD),
        rooms: vec![BREWERY.to_owned()],
        nickname: NICK.to_owned(),
        verify_certificate: false,
        security: XmppSecurity::Required,
    }];
    let loopback = "127.0.0.1".parse().unwrap();
    let options = Options { media_address: Some(loopback), ..Options::default() };
    Daemon::start(&config, &options).await.unwrap()
}

/// An occupant that says this of itself, and answers nothing.
fn pretender(port: u16, nickname: &str, stats: &[(&str, &str)]) -> Connection {
    let mut connection = Connection::log_in(port, "client", nickname);
    connection.enter(BREWERY, nickname);
    let stats: Vec<String> = stats
        .iter()
        .map(|(name, value)| format!("<stat name='{name}' value='{value}'/>"))
        .collect();
    connection.send(&format!(
        "<presence to='{BREWERY}/{nickname}'><stats xmlns='http://jitsi.org/protocol/colibri'>\
         {}</stats></presence>",
        stats.concat()
    ));
    connection
}

/// A request about one endpoint.
fn about(
    call: &Call,
    endpoint: usize,
    change: impl FnOnce(&mut Colibri2Endpoint),
) -> ConferenceModify {
    let plan = &call.joining.shared.plan;
    let mut changed = Colibri2Endpoint::new(&plan.endpoints[endpoint].id);
    change(&mut changed);
    ConferenceModify {
        meeting_id: plan.conferences[0].clone(),
        endpoints: vec![changed],
        ..ConferenceModify::default()
    }
}

impl Call {
    /// Packets that `receiver` has got of what `sender` sends of a kind.
    async fn got(&self, receiver: usize, sender: usize, media: Media) -> u64 {
        let clients = self.clients().await;
        let client = clients.iter().find(|client| client.endpoint == receiver).unwrap();
        let of_sender = client.sources.iter().filter(|source| {
            let planned = &self.joining.shared.plan.sources[source.source];
            planned.endpoint == sender && planned.media == media
        });
        of_sender.map(|source| source.unique).sum()
    }

    /// Waits until `receiver` has got `more` packets of a source beyond what it had.
    async fn gets(&self, receiver: usize, sender: usize, media: Media, more: u64) {
        let old = self.got(receiver, sender, media).await;
        let start = Instant::now();
        while self.got(receiver, sender, media).await < old + more {
            assert!(start.elapsed() < PATIENCE);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Waits until everybody has everything of everybody, from the first packet on.
    async fn nothing_is_missing(&self) {
        let start = Instant::now();
        loop {
            let clients = self.clients().await;
            let sources = clients.iter().filter(|c| c.present).flat_map(|c| &c.sources);
            let there: Vec<_> = sources.filter(|source| source.totals.first.is_some()).collect();
            assert!(!there.is_empty());
            if there.iter().all(|source| source.lost() == 0) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{clients:#?}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conference_of_a_focus_that_chooses_in_a_brewery() {
    let Some(prosody) = block_in_place(|| Prosody::start("")) else { return };
    let port = prosody.port();
    let mut daemon = bridge(port).await;
    let focus = Focus::start(port);
    focus.sees(NICK).await;
    // Jicofo takes one that says nothing of drain for drained.
    let well = [("healthy", "true"), ("graceful_shutdown", "false"), ("stress_level", "0.0")];
    let busy = [("healthy", "true"), ("drain", "false"), ("stress_level", "0.9")];
    let _others =
        block_in_place(|| [pretender(port, "silent", &well), pretender(port, "busy", &busy)]);
    focus.sees("silent").await;
    focus.sees("busy").await;
    let mut call = Call::new(&focus.serve().await);
    // Nothing is allocated for the first alone; then both at once, without waiting for an answer.
    call.join(&[0, 1]).await;
    assert_eq!(focus.chosen().as_deref(), Some(NICK));
    call.media().await;
    call.join(&[2]).await;
    call.media().await;

    // A restart of what is connected: new credentials, and media goes on over the old path.
    let restart = about(&call, 0, |endpoint| {
        endpoint.transport = Some(Transport { ice_restart: true, ..Transport::default() });
    });
    let mut generations = HashSet::new();
    for _ in 0..2 {
        let answer = focus.ask(NICK, &restart).await.unwrap();
        let transport = answer.endpoints[0].transport.clone().unwrap();
        let ice = transport.ice_udp.unwrap();
        assert!(ice.ice_generation.is_some_and(|generation| generation >= 1), "{ice:?}");
        assert!(!ice.candidates.is_empty() && !ice.fingerprints.is_empty(), "{ice:?}");
        assert!(generations.insert((ice.ice_generation, ice.ufrag, ice.pwd)));
    }
    call.media().await;

    let mute = |audio| {
        about(&call, 0, |endpoint| endpoint.force_mute = Some(ForceMute { audio, video: false }))
    };
    focus.ask(NICK, &mute(true)).await.unwrap();
    // What was on its way has arrived when video that was sent later has.
    call.gets(1, 0, Media::Video, 20).await;
    let muted = call.got(1, 0, Media::Audio).await;
    call.gets(1, 0, Media::Video, 20).await;
    assert_eq!(call.got(1, 0, Media::Audio).await, muted);
    focus.ask(NICK, &mute(false)).await.unwrap();
    call.media().await;

    let gone = about(&call, 1, |endpoint| endpoint.expire = true);
    let answer = focus.ask(NICK, &gone).await.unwrap();
    assert!(answer.endpoints[0].expire);
    call.vanish(1).await;
    call.media().await;
    let end = ConferenceModify { endpoints: Vec::new(), expire: true, ..gone };
    focus.ask(NICK, &end).await.unwrap();
    let again = focus.ask(NICK, &end).await.unwrap_err();
    assert_eq!(again.reason, Some(rialto::colibri::Reason::ConferenceNotFound));
    assert_eq!(daemon.bridge().stats().conferences, 0);
    daemon.leave().await;
    focus.misses(NICK).await;
    focus.stop();
    drop(daemon.stop());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_does_not_notice_that_its_xmpp_server_restarts() {
    let Some(mut prosody) = block_in_place(|| Prosody::start("")) else { return };
    let mut daemon = bridge(prosody.port()).await;
    let focus = Focus::start(prosody.port());
    focus.sees(NICK).await;
    let mut call = Call::new(&focus.serve().await);
    call.join(&[0, 1]).await;
    call.media().await;
    for restart in 1..=5 {
        block_in_place(|| prosody.kill());
        focus.misses(NICK).await;
        call.media().await;
        block_in_place(|| prosody.launch());
        // Whoever is first, the bridge or the focus, makes the room for both.
        focus.sees(NICK).await;
        assert_eq!(focus.choose(), NICK, "after restart {restart}");
        let nothing = about(&call, 0, |_| {});
        focus.ask(NICK, &nothing).await.unwrap();
        call.media().await;
    }
    call.nothing_is_missing().await;
    call.join(&[2]).await;
    call.media().await;
    call.nothing_is_missing().await;
    focus.stop();
    daemon.leave().await;
    drop(daemon.stop());
}
