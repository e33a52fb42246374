//! `examples/listen.rs` against `rialto dev`, with Chromium to listen to.

use crate::calls::{
    PATIENCE,
    bridge::Bridge,
    chromium::{Chromium, serially},
    participant::{Look, Participant},
};

#[path = "../../examples/listen.rs"]
#[allow(dead_code, reason = "its main function is for the command line")]
mod listen;

/// It prints who is there, and codec, packets and rate of each source.
#[tokio::test]
async fn the_example_hears_who_is_in_the_room() {
    let _turn = serially().await;
    let Some(chromium) = Chromium::start().await else { return };
    let bridge = Bridge::start(2);
    let url = bridge.url("example");
    let person = Participant::join(&chromium, &url, Look::new(1, [200, 40, 40], 440)).await;
    let id = person.id().await;
    let (lines, mut told) = tokio::sync::mpsc::unbounded_channel();
    let base = bridge.origin().to_owned();
    let listener = tokio::spawn(async move {
        listen::listen(&base, "example", |line| drop(lines.send(line))).await
    });
    let mut missing = vec![
        vec!["participants: ", &id, "\"Person 1\""],
        vec!["connected"],
        vec!["-a0", "opus", " packets/s", " kbit/s"],
        vec!["-v0", "vp8", " packets/s", " kbit/s"],
    ];
    let mut all = Vec::new();
    while !missing.is_empty() {
        let line = tokio::time::timeout(PATIENCE, told.recv()).await;
        let Ok(Some(line)) = line else {
            let ended = listener.is_finished();
            panic!("it did not print {missing:?} (ended: {ended}): {all:#?}")
        };
        let is_said = |parts: &Vec<&str>| {
            let line = line.to_lowercase();
            parts.iter().all(|part| line.contains(&part.to_lowercase()))
        };
        missing.retain(|parts| !is_said(parts));
        all.push(line);
    }
    listener.abort();
    chromium.stop().await;
}
