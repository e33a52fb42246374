//! A connection that is served, without an address.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::{io::DuplexStream, sync::Notify, time::Instant as Moment};
use xmpp_parsers::sm::{Enabled, StreamId};

use super::*;
use crate::xmpp::{
    client::tests::client,
    component::{Allowed, ComponentConfig},
    tests::{FakeServer, ends},
    wire::{Kind, open},
};

/// Sends what a test queues, and records the calls to it.
#[derive(Default)]
struct Recorder {
    out: VecDeque<Element>,
    told: Vec<String>,
}

impl Purpose for Recorder {
    fn begin(&mut self, jid: &str, _: Instant) {
        self.told.push(format!("begins as {jid}"));
    }

    fn resumed(&mut self, _: Instant) {
        self.told.push("goes on".to_owned());
    }

    fn lost(&mut self, _unwanted: bool) {}

    fn on_stanza(&mut self, stanza: &Stanza, _: Instant) {
        self.told.push(stanza.element().name().to_owned());
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn on_time(&mut self, _: Instant) {}

    async fn changed(&mut self) {
        std::future::pending::<()>().await;
    }

    fn publish(&mut self, _: Instant) {}

    fn leave(&mut self) {
        self.out.push_back(Element::bare("presence", CLIENT));
    }

    fn next(&mut self) -> Option<Element> {
        self.out.pop_front()
    }
}

/// Answers requests of the id `later` when the test lets it, and others at once.
#[derive(Default)]
struct DelayedAnswers {
    go: Arc<Notify>,
}

impl Answers for DelayedAnswers {
    fn answer(&self, asked: Asked<'_>) -> Answer {
        let mut answer = asked.stanza.element().clone();
        put(answer.attrs_mut(), "type", "result");
        if answer.attr("id") != Some("later") {
            return Answer::Now(answer);
        }
        let go = self.go.clone();
        Answer::Later(Box::pin(async move {
            go.notified().await;
            answer
        }))
    }
}

struct Rig {
    driver: Driver<Recorder>,
    kept: SessionState,
    go: Arc<Notify>,
    stop: watch::Sender<bool>,
}

impl Rig {
    fn new() -> Self {
        Self::of(Account::Client(Box::new(client()), None))
    }

    fn of(account: Account) -> Self {
        let (stop, stopped) = watch::channel(false);
        let clerk = DelayedAnswers::default();
        let go = clerk.go.clone();
        let answers = Arc::new(clerk);
        let purpose = Recorder::default();
        let driver = Driver { account, answers, authorized: None, purpose, stop: stopped };
        Self { driver, kept: SessionState::default(), go, stop }
    }

    /// Serves a connection whose far end does as `far` does.
    async fn serve<F: Future>(
        &mut self,
        session: Session,
        takes: usize,
        far: impl FnOnce(FakeServer<DuplexStream>) -> F,
    ) -> (Result<(), Cause>, F::Output) {
        let (ours, mut theirs) = ends(takes);
        let kind = if self.driver.account.is_component() { Kind::Component } else { Kind::Client };
        if kind == Kind::Component {
            theirs = theirs.of_component();
        }
        let (opened, _) = tokio::join!(open(ours, "example.com", kind), theirs.open());
        let entered = LoggedIn { wire: opened.unwrap().without_features(), session };
        tokio::join!(self.driver.serve(entered, &mut self.kept), far(theirs))
    }
}

fn begins(resume: bool) -> Session {
    let id = Some(StreamId("s1".to_owned()));
    let counted = Some(Enabled { id, location: None, max: None, resume });
    Session::New { jid: "jvb@example.com/x".to_owned(), counted }
}

fn message(text: &str) -> Element {
    let mut message = Element::bare("message", CLIENT);
    message.append_text(text);
    message
}

/// Two streams of large stanzas on two threads held up health and joins for seconds.
#[tokio::test]
async fn a_server_that_sends_without_end_lets_others_have_their_turn() {
    let stanza = format!("<presence>{}</presence>", "<d>x</d>".repeat(1000));
    let stream = stanza.repeat(300);
    let turns = Arc::new(AtomicUsize::new(0));
    let others = turns.clone();
    let others = tokio::spawn(async move {
        loop {
            others.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    let far = async |mut far: FakeServer<DuplexStream>| {
        far.say(&format!("{stream}</stream:stream>")).await;
    };
    let (end, ()) = Rig::new().serve(begins(true), 8 << 20, far).await;
    others.abort();
    assert_eq!(end, Err(Cause::Closed));
    let turns = turns.load(Ordering::Relaxed);
    assert!(turns >= stream.len() / (16 << 10) / 2, "{turns} turns in {} bytes", stream.len());
}

/// A half-open connection sends nothing, and may or may not accept what is sent.
#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_given_up() {
    for takes in [256, 1 << 20] {
        let start = Moment::now();
        let mut rig = Rig::new();
        rig.driver.purpose.out.extend((0..100).map(|n| message(&n.to_string())));
        let (end, _) = rig
            .serve(begins(true), takes, async |far| {
                sleep(Duration::from_secs(60)).await;
                far
            })
            .await;
        assert_eq!(end, Err(Cause::Silent), "it takes {takes} bytes");
        assert!(start.elapsed() >= Duration::from_secs(20));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_anything_is_there() {
    let far = async |mut far: FakeServer<DuplexStream>| {
        let mut pings = 0;
        for _ in 0..10 {
            // White space, as servers send it.
            sleep(Duration::from_secs(19)).await;
            far.say(" ").await;
            pings += usize::from(far.next_named("iq").await.has_child("ping", "urn:xmpp:ping"));
        }
        pings
    };
    let (end, pings) = Rig::new().serve(begins(false), 1 << 16, far).await;
    assert_eq!((end, pings), (Err(Cause::Closed), 10));
}

#[tokio::test]
async fn stanzas_are_counted_where_that_is_agreed() {
    let far = async |mut far: FakeServer<DuplexStream>| {
        far.say("<message from='a@example.com'/><iq type='get' id='1'><a xmlns='a'/></iq>").await;
        far.say("<unheard-of xmlns='urn:nobody:knows'/><r xmlns='urn:xmpp:sm:3'/>").await;
        far.next_named("a").await
    };
    let (end, ack) = Rig::new().serve(begins(true), 1 << 16, far).await;
    assert_eq!((end, ack.attr("h")), (Err(Cause::Closed), Some("2")));
    let far = async |mut far: FakeServer<DuplexStream>| {
        far.say("<r xmlns='urn:xmpp:sm:3'/>").await;
        far
    };
    let session = Session::New { jid: "a@b/c".to_owned(), counted: None };
    let (end, _) = Rig::new().serve(session, 1 << 16, far).await;
    assert!(matches!(end, Err(Cause::Protocol(_))), "nothing is agreed");
}

/// The focus waits for each answer, and no request is repeated.
#[tokio::test(start_paused = true)]
async fn a_session_that_goes_on_loses_no_request_and_no_answer() {
    let mut rig = Rig::new();
    rig.driver.purpose.out.extend(["1", "2", "3"].map(message));
    let far = async |mut far: FakeServer<DuplexStream>| {
        for _ in 0..3 {
            far.next_named("message").await;
        }
        far.say("<a xmlns='urn:xmpp:sm:3' h='1'/>").await;
        far.say("<iq type='get' id='at-once'><a xmlns='a'/></iq>").await;
        far.next_named("iq").await;
        far.say("<iq type='get' id='later'><a xmlns='a'/></iq><iq type='get' id='then'><a xmlns='a'/></iq>").await;
        assert_eq!(far.next_named("iq").await.attr("id"), Some("then"));
    };
    let (end, ()) = rig.serve(begins(true), 1 << 16, far).await;
    assert_eq!(end, Err(Cause::Closed));
    // The bridge answers while there is no connection.
    rig.go.notify_one();
    rig.kept.meanwhile(sleep(Duration::from_secs(1))).await;
    let resume = rig.kept.acks.as_ref().and_then(Acks::resume).unwrap();
    assert_eq!((resume.h, resume.previd.0.as_str()), (3, "s1"));
    // The server has got all but one message and the last answer.
    let far = async |mut far: FakeServer<DuplexStream>| {
        let mut said = Vec::new();
        while said.len() < 3 {
            let element = far.next().await.unwrap();
            if element.has_ns(CLIENT) {
                let id = element.attr("id").map(str::to_owned);
                said.push(id.unwrap_or_else(|| element.text()));
            }
        }
        far.say("<r xmlns='urn:xmpp:sm:3'/>").await;
        (said, far.next_named("a").await.attr("h").map(str::to_owned))
    };
    let (end, (said, count)) = rig.serve(Session::Resumed(2), 1 << 16, far).await;
    assert_eq!(end, Err(Cause::Closed));
    assert_eq!(said, ["3", "at-once", "then"], "in order");
    assert_eq!(count.as_deref(), Some("3"), "counts go on");
    assert_eq!(rig.driver.purpose.told, ["begins as jvb@example.com/x", "goes on"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_came_meanwhile_is_sent_in_the_same_session_only() {
    for resumes in [true, false] {
        let mut rig = Rig::new();
        let far = async |mut far: FakeServer<DuplexStream>| {
            far.say("<iq type='get' id='later'><a xmlns='a'/></iq><iq type='get' id='1'/>").await;
            far.next_named("iq").await;
        };
        rig.serve(begins(true), 1 << 16, far).await.0.unwrap_err();
        rig.go.notify_one();
        rig.kept.meanwhile(sleep(Duration::from_secs(1))).await;
        let session = if resumes { Session::Resumed(1) } else { begins(true) };
        let far = async |mut far: FakeServer<DuplexStream>| {
            far.say("<iq type='get' id='new'><a xmlns='a'/></iq>").await;
            far.next_named("iq").await.attr("id").map(str::to_owned)
        };
        let (_, first) = rig.serve(session, 1 << 16, far).await;
        assert_eq!(first.as_deref(), Some(if resumes { "later" } else { "new" }));
    }
}

#[tokio::test]
async fn a_server_that_counts_wrongly_is_left_for_a_new_session() {
    let mut rig = Rig::new();
    let far = async |mut far: FakeServer<DuplexStream>| {
        far.say("<a xmlns='urn:xmpp:sm:3' h='5'/>").await;
        far
    };
    let (end, _) = rig.serve(begins(true), 1 << 16, far).await;
    assert!(!end.unwrap_err().leaves_session());
    let mut rig = Rig::new();
    rig.kept.acks = Some(Acks::new(Enabled { id: None, location: None, max: None, resume: true }));
    let (end, ()) = rig.serve(Session::Resumed(0), 1 << 16, async |far| drop(far)).await;
    assert_eq!(end, Err(Cause::Closed));
}

#[tokio::test]
async fn a_server_that_does_not_read_is_left() {
    let mut rig = Rig::new();
    rig.driver.purpose.out.extend((0..5).map(|_| message(&"x".repeat(1 << 20))));
    let (end, _) = rig.serve(begins(true), 256, async |far| far).await;
    assert_eq!(end, Err(Cause::Slow));
}

#[tokio::test]
async fn it_leaves_on_request() {
    let mut rig = Rig::new();
    rig.stop.send(true).unwrap();
    let far = async |mut far: FakeServer<DuplexStream>| {
        let mut said = Vec::new();
        while let Some(element) = far.next().await {
            said.push(element.name().to_owned());
        }
        said
    };
    let (end, said) = rig.serve(begins(true), 1 << 16, far).await;
    assert_eq!((end, said), (Ok(()), vec!["presence".to_owned()]));
}

/// On its stream a component's stanzas have their own namespace and a `from`.
#[tokio::test(start_paused = true)]
async fn a_component_speaks_as_one() {
    let mut rig = Rig::of(Account::Component(Box::new(ComponentConfig {
        host: "localhost".into(),
        port: 5347,
        domain: Some("example.com".into()),
        subdomain: "jvb".into(),
        secret: crate::config::Secret::new("test"),
        allowed: Allowed::default(),
        publish: Vec::new(),
    })));
    let component = "jabber:component:accept";
    let far = async |mut far: FakeServer<DuplexStream>| {
        far.say("<iq type='get' id='1' from='a@b/c' to='jvb.example.com'><a xmlns='a'><error/></a><error/></iq>").await;
        let answer = far.next_named("iq").await;
        assert!(answer.is("iq", component) && answer.has_child("a", "a"), "{answer:?}");
        assert!(answer.has_child("error", component), "{answer:?}");
        far.say("<message/>").await;
        far.next_named("iq").await
    };
    let session = Session::New { jid: "jvb.example.com".to_owned(), counted: None };
    let (end, ping) = rig.serve(session, 1 << 16, far).await;
    assert_eq!(end, Err(Cause::Closed));
    assert!(ping.is("iq", component) && ping.has_child("ping", "urn:xmpp:ping"));
    assert_eq!(
        (ping.attr("from"), ping.attr("to")),
        (Some("jvb.example.com"), Some("example.com"))
    );
    assert_eq!(rig.driver.purpose.told, ["begins as jvb.example.com", "message"]);
}

#[test]
fn a_loss_is_made_good_soon_and_a_habit_is_waited_out() {
    for (up, expected) in [
        (Duration::from_secs(3_600), FIRST_RETRY),
        (RETRY + Duration::from_millis(1), FIRST_RETRY),
        (RETRY, RETRY),
        (Duration::ZERO, RETRY),
    ] {
        assert_eq!(longest_pause(up), expected, "{up:?}");
    }
}
