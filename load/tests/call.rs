//! Calls through the bridge over real sockets, by clients of another stack (webrtc-ice, dtls,
//! webrtc-srtp): everybody gets everything, whatever is lost on the way and whoever leaves.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use rialto::{
    config::{self, Override},
    daemon::{Daemon, Options},
};
use rialto_codec_model::Mode;
use rialto_hocon::System;
use rialto_load::{
    call::{Call, CallOptions},
    plan::{Media, Shape},
    report::Report,
    run::{self, RunOptions},
    shared::MediaOptions,
    srtp::Stack,
    worker::{
        client::{ClientReport, SourceReport},
        screen::Watched,
    },
};

/// Nothing here is timed; this only ends a test that would hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// A bridge of its own, with its engine, on ports of the system's choice.
async fn bridge(shards: u16) -> (Daemon, String) {
    bridge_with(shards, &[]).await
}

async fn bridge_with(shards: u16, more: &[(&'static str, &str)]) -> (Daemon, String) {
    let setting = |key, value: &str| Override::text(key, value.to_owned(), "test");
    let mut overrides = vec![
        setting("videobridge.apis.rest.enabled", "true"),
        setting("videobridge.http-servers.private.port", "0"),
        setting("videobridge.http-servers.private.host", "127.0.0.1"),
        setting("videobridge.ice.udp.port", "0"),
        setting("rialto.shards", &shards.to_string()),
    ];
    overrides.extend(more.iter().map(|(key, value)| setting(key, value)));
    let mut config = config::load(None, &overrides, &System).unwrap().config;
    config.harvest.loopback = true;
    let loopback = "127.0.0.1".parse().unwrap();
    let options = Options { media_address: Some(loopback), ..Options::default() };
    let daemon = Daemon::start(&config, &options).await.unwrap();
    let url = format!("http://{}", daemon.http_addr().unwrap());
    (daemon, url)
}

fn shape(senders: usize, receivers: usize) -> Shape {
    Shape { senders, receivers, video: Some(300_000), ..Shape::default() }
}

fn options(bridge: String, shape: Shape, media: &MediaOptions) -> CallOptions {
    let media = MediaOptions { stack: Stack::Webrtc, ..media.clone() };
    CallOptions { bridge, shape, media, patience: PATIENCE, ..CallOptions::default() }
}

async fn run(shards: u16, shape: Shape, media: MediaOptions) -> Report {
    let (daemon, url) = bridge(shards).await;
    let options = RunOptions {
        call: options(url, shape, &media),
        duration: Duration::from_secs(2),
        wait: Duration::ZERO,
        bridge_pid: None,
        progress: false,
    };
    let report = run::run(options).await.unwrap();
    drop(daemon.stop());
    assert!(report.is_ok(), "{:?} {:?}", report.complaint(), report.ended_early);
    assert_eq!(report.media.not_opened, 0);
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_gets_everything_on_one_shard_and_on_four() {
    for shards in [1, 4] {
        let report = run(shards, shape(2, 3), MediaOptions::default()).await;
        assert_eq!(report.joins.connected, 5);
        for kind in [report.media.audio, report.media.video] {
            assert!(kind.expected > 0, "{shards} shards");
            // What comes twice is sent again only to find out what a link carries.
            assert_eq!(kind.lost, 0, "{shards} shards: {kind:?}");
            assert!(kind.duplicates <= kind.retransmissions, "{shards} shards: {kind:?}");
        }
        assert_eq!(report.media.replays, 0, "{shards} shards");
    }
}

/// Receivers that tell nothing get what others get, however much more that is than an estimate without
/// feedback would carry, and what comes is counted by its numbers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sinks_count_what_they_get() {
    let shape = Shape { sinks: true, video: Some(4_000_000), ..shape(2, 3) };
    let report = run(1, shape, MediaOptions::default()).await;
    assert_eq!(report.joins.connected, 5);
    for kind in [report.media.audio, report.media.video] {
        assert!(kind.expected > 0, "{kind:?}");
        assert_eq!((kind.lost, kind.duplicates), (0, 0), "{kind:?}");
    }
    // Each of the two senders has four receivers.
    let (video, audio, sent) = (report.media.video, report.media.audio, report.media.window.sent);
    assert!(video.received + audio.received > 3 * sent, "{video:?} {audio:?} of {sent}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_receivers_lose_is_retransmitted() {
    for shards in [1, 4] {
        let media = MediaOptions { drop_received: 0.05, ..MediaOptions::default() };
        let report = run(shards, Shape { audio: false, ..shape(2, 3) }, media).await;
        let video = report.media.video;
        assert!(video.recovered > 0 && video.retransmissions > 0, "{video:?}");
        assert_eq!(video.lost, 0, "{shards} shards: {video:?}");
    }
}

/// Each packet says in its payload whose it is; SSRCs are those of slots.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_slots_gets_and_is_sent_again_what_others_are() {
    for shards in [1, 4] {
        let media = MediaOptions { drop_received: 0.05, ..MediaOptions::default() };
        let shape = Shape { rewriting: true, audio: false, ..shape(2, 3) };
        let video = run(shards, shape, media).await.media.video;
        assert!(video.recovered > 0 && video.retransmissions > 0, "{video:?}");
        assert_eq!(video.lost, 0, "{shards} shards: {video:?}");
    }
}

/// Whoever speaks meanwhile, and so comes into a slot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_two_slots_gets_two_videos_of_four() {
    let limits = [("videobridge.ssrc-limit.video", "2"), ("videobridge.ssrc-limit.audio", "3")];
    let (daemon, url) = bridge_with(2, &limits).await;
    let shape = Shape { rewriting: true, ..shape(4, 1) };
    let mut call = Call::new(options(url, shape, &MediaOptions::default())).unwrap();
    call.join_all().await;
    assert!(call.failures.is_empty(), "{:?}", call.failures);
    let flows = |client: &ClientReport, media, least: usize| {
        let sources = client.sources.iter().filter(|source| source.media == media);
        sources.filter(|source| source.unique > 100).count() >= least
    };
    until(&call, |clients| {
        clients.iter().all(|one| flows(one, Media::Video, 2) && flows(one, Media::Audio, 3))
    })
    .await;
    let plan = &call.shared.plan;
    for endpoint in &plan.endpoints {
        let view = daemon.bridge().endpoint_view(&plan.conferences[0], &endpoint.id).await.unwrap();
        let gets = |end| view.sources.iter().filter(|source| source.name.ends_with(end)).count();
        assert_eq!((gets("-v0"), gets("-a0")), (2, 3), "{view:?}");
    }
    call.end().await.unwrap();
    drop(daemon.stop());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_rtx_the_same_packet_is_sent_again() {
    let media = MediaOptions { drop_received: 0.05, drop_sent: 0.05, ..MediaOptions::default() };
    let report = run(1, Shape { audio: false, rtx: false, ..shape(1, 2) }, media).await;
    let video = report.media.video;
    assert!(video.recovered > 0 && video.retransmissions == 0, "{video:?}");
    assert_eq!(video.lost, 0, "{video:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_senders_lose_is_asked_for_again() {
    let media = MediaOptions { drop_sent: 0.05, ..MediaOptions::default() };
    let report = run(4, Shape { audio: false, ..shape(2, 3) }, media).await;
    assert!(report.media.nacked_by_bridge > 0);
    assert_eq!(report.media.video.lost, 0, "{:?}", report.media.video);
    assert!(report.media.transport_feedbacks > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_highest_encoding_is_forwarded() {
    let (daemon, url) = bridge(1).await;
    let simulcast = Shape { simulcast: true, audio: false, ..shape(1, 2) };
    let mut call = joined(url, simulcast).await;
    until(&call, |clients| clients[1..].iter().all(|client| client.sources[0].encodings[2] > 50))
        .await;
    call.vanish(0).await;
    drop(daemon.stop());
}

/// One asks for 180 lines and one for 720: each sees what it asked for, the first gets less, and both get what
/// goes on as one encoder's packets do.
async fn each_gets_the_layers_that_it_asks_for(mode: Mode) {
    let (daemon, url) = bridge(2).await;
    // The endpoints take turns: it is the second and the third that receive.
    let wishes = vec![90, 180, 720];
    let shape = Shape { layers: Some(mode), wishes, audio: false, ..shape(1, 2) };
    let call = joined(url, shape).await;
    call.shared.measuring.store(true, Ordering::Relaxed);
    let of = |client: &ClientReport, wish: usize| {
        let screen = client.sources[0].screen.clone().unwrap();
        assert_eq!((screen.breaks, &screen.examples), (0, &Vec::new()), "{}", mode.name);
        screen.watched[wish].clone()
    };
    until(&call, |clients| {
        let (low, high) = (of(&clients[1], 1), of(&clients[2], 2));
        let seen = |watched: &Watched, height| watched.heights.get(&height).copied().unwrap_or(0);
        seen(&low, 180) > 100 && seen(&high, 720) > 100
    })
    .await;
    let clients = call.clients().await;
    let (low, high) = (of(&clients[1], 1), of(&clients[2], 2));
    assert!(low.heights.keys().all(|height| *height == 180), "{}: {low:?}", mode.name);
    let bps = |watched: &Watched| watched.bytes as f64 / watched.time.as_secs_f64();
    assert!(bps(&low) * 2.0 < bps(&high), "{}: {low:?} {high:?}", mode.name);
    assert!(
        clients[1..].iter().all(|client| client.sources[0].screen.as_ref().unwrap().judged > 0)
    );
    call.end().await.unwrap();
    drop(daemon.stop());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_gets_its_layers_of_vp9() {
    each_gets_the_layers_that_it_asks_for(Mode::VP9_L3T3_KEY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_gets_its_layers_of_av1_by_descriptor() {
    each_gets_the_layers_that_it_asks_for(Mode::AV1_L3T3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_gets_its_encoding_of_simulcast_by_descriptor() {
    for mode in [Mode::AV1_SIMULCAST, Mode::VP8_DD, Mode::H264_DD] {
        each_gets_the_layers_that_it_asks_for(mode).await;
    }
}

/// Wishes change, and packets get lost on both ways.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wishes_change_while_packets_are_lost() {
    let media = MediaOptions { drop_received: 0.02, drop_sent: 0.01, ..MediaOptions::default() };
    let shape = Shape {
        layers: Some(Mode::AV1_L3T3_KEY),
        wishes: vec![180, 720],
        wish_interval: Some(Duration::from_secs(1)),
        audio: false,
        ..shape(1, 2)
    };
    let report = run(2, shape, media).await;
    let layers = report.layers.as_ref().unwrap();
    assert!(layers.judged > 0 && layers.wishes.iter().all(|wish| wish.pictures > 0), "{layers:?}");
    assert!(report.to_string().contains("0 breaks"), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_vanishes_disturbs_nobody() {
    let (daemon, url) = bridge(4).await;
    let mut call = joined(url, shape(3, 2)).await;
    call.vanish(1).await; // a sender
    call.vanish(4).await; // a receiver
    let before: u64 = received(&call.clients().await);
    until(&call, |clients| received(clients) > before + 500).await;
    until(&call, |clients| {
        let present = clients.iter().filter(|client| client.present);
        let mut living = present.flat_map(|client| &client.sources).filter(|s| of_the_living(s));
        living.all(|source| (source.gaps, source.duplicates) == (0, 0))
    })
    .await;
    call.end().await.unwrap();
    drop(daemon.stop());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_endpoint_says_goodbye() {
    for shards in [1, 4] {
        let (daemon, url) = bridge(shards).await;
        let mut call = joined(url, shape(2, 2)).await;
        call.expire(0).await.unwrap();
        // Sources 0 and 1 are those of the first endpoint.
        until(&call, |clients| {
            let others = clients.iter().filter(|client| client.present);
            let mut sources = others.flat_map(|client| &client.sources);
            sources.all(|source| source.totals.goodbye == (source.source < 2))
        })
        .await;
        call.end().await.unwrap();
        drop(daemon.stop());
    }
}

/// A call in which everybody receives all others.
async fn joined(url: String, shape: Shape) -> Call {
    let mut call = Call::new(options(url, shape, &MediaOptions::default())).unwrap();
    call.join_all().await;
    assert!(call.failures.is_empty(), "{:?}", call.failures);
    assert!(call.media_everywhere(PATIENCE).await, "{:?}", call.clients().await);
    call
}

/// Waits for something to come true of the clients.
async fn until(call: &Call, mut condition: impl FnMut(&[ClientReport]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let clients = call.clients().await;
        if condition(&clients) {
            return;
        }
        assert!(Instant::now() < deadline, "it never came true: {clients:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Packets of the sources of those who stayed, at those who stayed; the least at any one.
fn received(clients: &[ClientReport]) -> u64 {
    let present = clients.iter().filter(|client| client.present);
    let per_client = present
        .map(|client| client.sources.iter().filter(|s| of_the_living(s)).map(|s| s.unique).sum());
    per_client.min().unwrap_or(0)
}

/// Sources 2 and 3 are those of the sender that vanishes.
fn of_the_living(source: &SourceReport) -> bool {
    !(2..4).contains(&source.source)
}
