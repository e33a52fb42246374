//! What a server sends, for fuzzing.

use std::time::{Duration, Instant};

use super::{
    Allowed, ComponentConfig, Place, Publish,
    requests::{Known, Step, handle},
    session::{Event, Session},
};
use crate::config::Secret;

/// Bytes to a component.
pub(crate) fn bytes(data: &[u8]) {
    let to = Place::Node { service: "pubsub.example.com".to_owned(), node: "node".to_owned() };
    let config = ComponentConfig {
        host: "localhost".to_owned(),
        port: 5347,
        domain: Some("example.com".to_owned()),
        subdomain: "jvb".to_owned(),
        secret: Secret::new("secret"),
        allowed: Allowed::default(),
        publish: vec![Publish { interval: Duration::from_secs(1), to }],
    };
    let mut now = Instant::now();
    let mut session = Session::new(&config, now);
    for chunk in data.chunks(512) {
        now += Duration::from_secs(1);
        let Ok(events) = session.receive(now, chunk) else { return };
        for event in events {
            let Event::Stanza(stanza) = event else { continue };
            let known =
                Known { version: "1", os: "", up: Duration::ZERO, allowed: &config.allowed };
            match handle(stanza, &known) {
                Step::Answer(answer) | Step::Shutdown { answer, .. } => session.send(answer),
                Step::Conference { request, .. } => crate::faces::colibri1::fuzz::request(&request),
                Step::Stats(_) | Step::Health(_) | Step::Ignore => {}
            }
        }
        if session.tick(now, Vec::new, Vec::new).is_err() {
            return;
        }
        session.take_output();
    }
}
