//! The generator against a toy bridge made of its own crates: everything that it measures and says
//! must be right before it judges the product.

mod toy;

use std::time::Duration;

use rialto_codec_model::Mode;
use rialto_load::{
    call::{CallError, CallOptions},
    client::Step,
    http::HttpError,
    plan::Shape,
    run::{self, RunError, RunOptions},
    shared::MediaOptions,
    srtp::Stack,
};

fn options(bridge: String, shape: Shape, media: MediaOptions) -> RunOptions {
    let patience = Duration::from_secs(60);
    RunOptions {
        call: CallOptions { bridge, shape, media, patience, ..CallOptions::default() },
        duration: Duration::from_secs(2),
        wait: Duration::ZERO,
        bridge_pid: Some(std::process::id()),
        progress: false,
    }
}

fn meeting(senders: usize, receivers: usize) -> Shape {
    Shape { senders, receivers, video: Some(300_000), ..Shape::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_arrives() {
    for stack in [Stack::Webrtc, Stack::Rialto] {
        let bridge = toy::start(toy::Flaw::None).await;
        let media = MediaOptions { stack, ..MediaOptions::default() };
        let report = run::run(options(bridge, meeting(2, 1), media)).await.unwrap();
        assert!(report.is_ok(), "{:?}", report.complaint());
        assert_eq!(report.joins.connected, 3);
        for kind in [report.media.audio, report.media.video] {
            assert!(kind.expected > 0 && kind.received == kind.expected, "{kind:?}");
            assert_eq!((kind.lost, kind.duplicates), (0, 0));
        }
        assert!(report.latency_us.count > 0);
        assert!(report.media.not_opened == 0);
        assert!(report.bridge_process.as_ref().unwrap().resident_load_kib > 0);
        assert!(report.to_string().contains("latency"));
        assert!(serde_json::to_string(&report).unwrap().contains("\"latency_us\""));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_is_recovered() {
    let bridge = toy::start(toy::Flaw::None).await;
    let media =
        MediaOptions { stack: Stack::Webrtc, drop_received: 0.05, ..MediaOptions::default() };
    let shape = Shape { audio: false, ..meeting(1, 2) };
    let report = run::run(options(bridge, shape, media)).await.unwrap();
    assert!(report.is_ok(), "{:?}", report.complaint());
    assert!(report.media.video.recovered > 0, "{:?}", report.media);
    assert_eq!(report.media.video.lost, 0, "{:?}", report.media);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn losses_are_seen() {
    let bridge = toy::start(toy::Flaw::None).await;
    let media = MediaOptions { drop_received: 0.2, ..MediaOptions::default() };
    let shape = Shape { video: None, ..meeting(1, 1) };
    let report = run::run(options(bridge, shape, media)).await.unwrap();
    assert!(report.is_ok(), "audio is not asked for again, and lost packets are no failure");
    assert!(report.media.audio.lost > 0, "{:?}", report.media);
    assert_eq!(report.media.audio.received + report.media.audio.lost, report.media.audio.expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simulcast_is_three_streams() {
    let bridge = toy::start(toy::Flaw::None).await;
    let shape = Shape { simulcast: true, ..meeting(1, 1) };
    let report = run::run(options(bridge, shape, MediaOptions::default())).await.unwrap();
    assert!(report.is_ok(), "{:?}", report.complaint());
    assert_eq!(report.media.video.lost, 0);
}

/// The toy forwards all layers as they come, and so all of them go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn layers_are_judged() {
    for mode in ["AV1/L3T3", "VP9/L3T3_KEY", "VP8/L1T3/DD", "H264/L1T3/DD"] {
        let mode = Mode::find(mode).unwrap();
        let bridge = toy::start(toy::Flaw::None).await;
        let shape = Shape { layers: Some(mode), ..meeting(1, 1) };
        let report = run::run(options(bridge, shape, MediaOptions::default())).await.unwrap();
        assert!(report.is_ok(), "{}: {:?}", mode.name, report.complaint());
        let layers = report.layers.as_ref().unwrap();
        assert!(layers.judged > 0 && layers.wishes[0].pictures > 0, "{}: {layers:?}", mode.name);
        assert_eq!(report.media.video.lost, 0, "{}", mode.name);
        assert!(report.to_string().contains("0 breaks"), "{report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_that_forgets_a_packet_breaks_continuity() {
    let bridge = toy::start(toy::Flaw::Forgets).await;
    let layers = Some(Mode::AV1_L3T3);
    let shape = Shape { layers, rtx: false, ..meeting(1, 1) };
    let report = run::run(options(bridge, shape, MediaOptions::default())).await.unwrap();
    assert!(!report.is_ok());
    let complaint = report.complaint().unwrap();
    assert!(complaint.contains("breaks of continuity"), "{complaint}");
}

#[tokio::test]
async fn a_refusal_is_quoted() {
    let bridge = toy::start(toy::Flaw::Refuses).await;
    let result = run::run(options(bridge, meeting(1, 2), MediaOptions::default())).await;
    let error = result.map(|_| ()).unwrap_err();
    assert!(matches!(error, RunError::Nobody { signalling: true, .. }));
    assert!(error.to_string().contains("503") && error.to_string().contains("no room at the inn"));
}

#[tokio::test]
async fn nobody_there() {
    let options = options("http://127.0.0.1:9".into(), meeting(1, 1), MediaOptions::default());
    let error = run::run(options).await.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("cannot be reached"), "{error}");
    let options = self::options("nonsense".into(), meeting(1, 1), MediaOptions::default());
    let error = run::run(options).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, RunError::Call(CallError::Http(HttpError::Address(_)))));
}

#[tokio::test]
async fn no_candidate_is_an_error_of_ice() {
    let bridge = toy::start(toy::Flaw::NoCandidate).await;
    let result = run::run(options(bridge, meeting(1, 0), MediaOptions::default())).await;
    let error = result.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("ICE: the bridge offered no UDP candidate"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_certificate_is_an_error_of_dtls() {
    let bridge = toy::start(toy::Flaw::WrongFingerprint).await;
    let result = run::run(options(bridge, meeting(1, 0), MediaOptions::default())).await;
    let error = result.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("DTLS") && error.contains("not the one it signalled"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_named() {
    let bridge = toy::start(toy::Flaw::Silent).await;
    let report = run::run(options(bridge, meeting(1, 2), MediaOptions::default())).await.unwrap();
    assert!(!report.is_ok());
    assert_eq!(report.failures.len(), 2);
    assert!(report.failures.iter().all(|failure| failure.step == Step::Media));
    assert!(report.complaint().unwrap().contains("2 of 3 endpoints"), "{:?}", report.complaint());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_that_stops_ends_the_run() {
    let bridge = toy::start(toy::Flaw::Stops).await;
    let mut options = options(bridge, meeting(1, 1), MediaOptions::default());
    options.duration = Duration::from_secs(600);
    let report = run::run(options).await.unwrap();
    let reason = report.ended_early.unwrap();
    assert!(reason.contains("media stopped") && reason.contains("still answers"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_that_dies_ends_the_run() {
    let bridge = toy::start(toy::Flaw::None).await;
    let mut process = std::process::Command::new("sleep").arg("4").spawn().unwrap();
    let mut options = options(bridge, meeting(1, 1), MediaOptions::default());
    options.bridge_pid = Some(process.id());
    options.duration = Duration::from_secs(600);
    let report = run::run(options).await;
    process.wait().unwrap();
    assert!(report.unwrap().ended_early.unwrap().contains("the bridge died"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spread_frame_arrives_whole() {
    let bridge = toy::start(toy::Flaw::None).await;
    let shape = Shape { audio: false, video: Some(1_500_000), ..meeting(1, 1) };
    let media = MediaOptions { pace: 2.0, ..MediaOptions::default() };
    let report = run::run(options(bridge, shape, media)).await.unwrap();
    assert!(report.is_ok(), "{:?}", report.complaint());
    // More than one packet of each of 30 frames a second.
    let video = report.media.video;
    assert!(video.received == video.expected && video.expected > 2 * 60 * 2, "{video:?}");
}
