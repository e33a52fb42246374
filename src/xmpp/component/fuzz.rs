//! What a server sends, for fuzzing.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{Allowed, ComponentConfig, Link, Place, Publish, Statistics, session::Session};
use crate::{
    config::Secret,
    xmpp::{
        Answers,
        driver::{Driver, SessionState},
        login::Account,
        offline::{Scripted, run},
    },
};

/// Bytes to a component.
pub(crate) fn bytes(data: &[u8], answers: Arc<dyn Answers>, statistics: Arc<dyn Statistics>) {
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
    let (_stop, stop) = watch::channel(false);
    let purpose = Session::new(&config.publish, statistics, Link::default());
    let account = Account::Component(Box::new(config));
    run(async {
        let io = Box::new(Scripted::new(data, 512));
        let Ok(entered) = account.enter_over(io, None).await else { return };
        let mut driver = Driver { account, answers, authorized: None, purpose, stop };
        let end = driver.serve(entered, &mut SessionState::default()).await;
        assert!(end.is_err(), "nobody has told it to leave");
    });
}
