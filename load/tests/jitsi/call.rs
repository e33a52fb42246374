//! Clients of the load generator, whose signalling goes over XMPP.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use rialto_load::{
    client::{Conference, Joined, Joining, dtls::Identity},
    http::Bridge,
    plan::{Media, Plan, Shape},
    shared::{MediaOptions, Shared},
    worker::{Command, Worker, client::ClientReport},
};
use rialto_srtp::Profile;
use serde_json::json;

use crate::{channel::Channel, prosody::PATIENCE};

/// A call of up to three.
pub(crate) struct Call {
    /// What a client needs to join.
    pub(crate) joining: Arc<Joining>,
    worker: Arc<Worker>,
    joined: Vec<Option<Joined>>,
}

impl Call {
    /// `signalling`: where requests are taken.
    pub(crate) fn new(signalling: &str) -> Self {
        let shape = Shape { senders: 3, receivers: 0, video: Some(300_000), ..Shape::default() };
        let shared = Arc::new(Shared::new(Plan::new(shape), MediaOptions::default()));
        let worker = Arc::new(Worker::start(shared.clone(), 0).unwrap());
        let joining = Joining {
            shared,
            bridge: Bridge::new(signalling, None).unwrap(),
            identity: Identity::generate().unwrap(),
            profiles: vec![Profile::AeadAes128Gcm, Profile::Aes128CmSha1_80],
            patience: PATIENCE,
        };
        Self { joining: Arc::new(joining), worker, joined: vec![None, None, None] }
    }

    /// These join at the same time.
    pub(crate) async fn join(&mut self, endpoints: &[usize]) {
        let mut joins = Vec::new();
        for &endpoint in endpoints {
            let (joining, worker) = (self.joining.clone(), self.worker.clone());
            // Nobody waits for the first one's answer: that is the focus's to do.
            let conference = Conference::new(endpoint);
            joins.push(tokio::spawn(async move {
                joining.join(endpoint, &conference, &worker).await.unwrap()
            }));
        }
        for (&endpoint, join) in endpoints.iter().zip(joins) {
            self.joined[endpoint] = Some(join.await.unwrap());
        }
    }

    /// The id of an endpoint.
    pub(crate) fn id(&self, endpoint: usize) -> String {
        self.joining.shared.plan.endpoints[endpoint].id.clone()
    }

    /// Its transport ends without a word.
    pub(crate) async fn vanish(&mut self, endpoint: usize) {
        self.worker.send(Command::Vanish(endpoint));
        self.joined[endpoint].take().unwrap().vanish().await;
    }

    /// Two of them tell each other something over their bridge channels.
    pub(crate) async fn talk(&self, from: usize, to: usize) {
        let open = |endpoint: usize| Channel::open(self.joined[endpoint].as_ref().unwrap().data());
        let (one, other) = (open(from).await, open(to).await);
        for channel in [&one, &other] {
            channel.say(&json!({ "colibriClass": "ClientHello" })).await;
            channel.hear("ServerHello").await;
        }
        let message =
            json!({ "colibriClass": "EndpointMessage", "to": self.id(to), "text": "good day" });
        one.say(&message).await;
        let heard = other.hear("EndpointMessage").await;
        assert_eq!((&heard["text"], &heard["from"]), (&json!("good day"), &json!(self.id(from))));
    }

    /// Opens an endpoint's bridge channel. What it hears of who is in its slots: source, owner and MID of
    /// each, and how many SSRCs there are.
    pub(crate) async fn slots(&self, endpoint: usize) -> (Vec<[String; 3]>, usize) {
        let channel = Channel::open(self.joined[endpoint].as_ref().unwrap().data()).await;
        let (mut slots, mut ssrcs) = (Vec::new(), BTreeSet::new());
        for class in ["AudioSourcesMap", "VideoSourcesMap"] {
            for mapped in channel.hear(class).await["mappedSources"].as_array().unwrap() {
                let text = |field: &str| mapped[field].as_str().unwrap().to_owned();
                slots.push(["source", "owner", "mid"].map(text));
                ssrcs.extend(mapped["ssrc"].as_u64());
                ssrcs.extend(mapped["rtx"].as_u64());
            }
        }
        (slots, ssrcs.len())
    }

    /// Waits until more video has come from one to the other; how much audio came after the first of
    /// it, by which time nothing of before is on its way any more.
    pub(crate) async fn audio_beside_video(&self, from: usize, to: usize) -> u64 {
        let count = async |media: Media| -> u64 {
            let clients = self.clients().await;
            let client = clients.into_iter().find(|client| client.endpoint == to).unwrap();
            let plan = &self.joining.shared.plan;
            let own = client.sources.iter().filter(|source| {
                plan.sources[source.source].endpoint == from && source.media == media
            });
            own.map(|source| source.unique).sum()
        };
        let more_video = async || {
            let (old, start) = (count(Media::Video).await, Instant::now());
            while count(Media::Video).await < old + 40 {
                assert!(start.elapsed() < PATIENCE, "no video");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        more_video().await;
        let before = count(Media::Audio).await;
        more_video().await;
        count(Media::Audio).await - before
    }

    /// Waits until everybody here gets audio and video of everybody else here: packets beyond what they
    /// had before. Each packet says in its payload whose it is.
    pub(crate) async fn media(&self) {
        let before = self.clients().await;
        let count = |clients: &[ClientReport], to: usize, from: usize, media: Media| -> u64 {
            let client = clients.iter().find(|client| client.endpoint == to);
            let sources = client.into_iter().flat_map(|client| &client.sources);
            let plan = &self.joining.shared.plan;
            let own = sources.filter(|source| {
                plan.sources[source.source].endpoint == from && source.media == media
            });
            own.map(|source| source.unique).sum()
        };
        let here: Vec<usize> = (0..3).filter(|at| self.joined[*at].is_some()).collect();
        assert!(here.len() > 1, "nobody to hear");
        let start = Instant::now();
        loop {
            let now = self.clients().await;
            let ways = here.iter().flat_map(|to| here.iter().map(move |from| (*to, *from)));
            let flows = ways.filter(|(to, from)| to != from).all(|(to, from)| {
                [Media::Audio, Media::Video].into_iter().all(|media| {
                    count(&now, to, from, media) > count(&before, to, from, media) + 20
                })
            });
            if flows {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{now:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What each has received.
    pub(crate) async fn clients(&self) -> Vec<ClientReport> {
        self.worker.report().await.unwrap().clients
    }
}
