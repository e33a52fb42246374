//! What a server sends, for fuzzing.

use std::time::{Duration, Instant};

use super::{
    ComponentConfig, Place, Publish,
    requests::{Step, handle},
    session::{Event, Session},
};
use crate::{colibri::v1, config::Secret};

/// Bytes to a component.
pub(crate) fn bytes(data: &[u8]) {
    let to = Place::Node { service: "pubsub.example.com".to_owned(), node: "node".to_owned() };
    let config = ComponentConfig {
        host: "localhost".to_owned(),
        port: 5347,
        domain: Some("example.com".to_owned()),
        subdomain: "jvb".to_owned(),
        secret: Secret::new("secret"),
        publish: vec![Publish { interval: Duration::from_secs(1), to }],
    };
    let mut now = Instant::now();
    let mut session = Session::new(&config, now);
    for chunk in data.chunks(512) {
        now += Duration::from_secs(1);
        let Ok(events) = session.receive(now, chunk) else { return };
        for event in events {
            let Event::Stanza(stanza) = event else { continue };
            match handle(stanza, "1", Duration::ZERO) {
                Step::Answer(answer) => session.send(answer),
                Step::Conference { request, .. } => v1::fuzz::request(&request),
                Step::Stats(_) | Step::Ignore => {}
            }
        }
        if session.tick(now, Vec::new, Vec::new).is_err() {
            return;
        }
        session.take_output();
    }
}
