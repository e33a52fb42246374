//! Headless Chromium against `rialto dev`: people who see and hear each other; and against `rialto run`.
//!
//! Each participant shows a colour of its own with its number in it and plays a tone of its own, so
//! that what arrives proves whose it is. Conditions are polled; nothing waits for a fixed time.

#[path = "../calls/mod.rs"]
mod calls;
mod listener;
mod page;
mod status;

use calls::{
    bridge::{Bridge, Run},
    chromium::{Chromium, serially},
    participant::{Look, Participant},
};
use serde_json::{Value, json};

/// Everyone sees and hears everyone else, through an ICE restart and a leave and return.
async fn three_people(shards: u16) {
    let Some(chromium) = Chromium::start().await else { return };
    let bridge = Bridge::start(shards);
    let looks = [
        Look::new(1, [200, 40, 40], 440),
        Look::new(2, [40, 170, 60], 660),
        Look::new(3, [50, 70, 210], 880),
    ];
    let mut people = Vec::new();
    for look in looks {
        people.push(Participant::join(&chromium, &bridge.url("three"), look).await);
    }
    everyone_meets(&people, "at first").await;
    if let Some(path) = std::env::var("RIALTO_SCREENSHOT").ok().filter(|path| !path.is_empty()) {
        people[0].screenshot_when_speaker_is_known(&path).await;
    }

    let before = people[0].ufrag().await;
    people[0].run("rialto.restart()").await;
    people[0]
        .until("new ICE credentials and a connection", async |person| {
            let now = person.ufrag().await;
            (now != before && person.connected().await).then_some(())
        })
        .await;
    people[0].new_frames_arrive(&[&people[1], &people[2]]).await;
    people[1].new_frames_arrive(&[&people[0]]).await;
    everyone_meets(&people, "after the ICE restart").await;

    let gone = people[2].id().await;
    people[2].run("rialto.leave()").await;
    for person in &people[..2] {
        person
            .until("the one who left to be gone", async |person| {
                let state = person.state().await.to_string();
                (!state.contains(&gone)).then_some(())
            })
            .await;
    }
    everyone_meets(&people[..2], "while one is away").await;
    people[2].run("rialto.rejoin()").await;
    everyone_meets(&people, "after the return").await;
    assert_ne!(people[2].id().await, gone, "who returns is a new endpoint");
    chromium.stop().await;
}

async fn everyone_meets(people: &[Participant], when: &str) {
    for person in people {
        for other in people.iter().filter(|other| other.look.number != person.look.number) {
            person.meets(other, when).await;
        }
    }
}

#[tokio::test]
async fn three_people_on_one_shard() {
    let _turn = serially().await;
    three_people(1).await;
}

#[tokio::test]
async fn three_people_on_four_shards() {
    let _turn = serially().await;
    three_people(4).await;
}

/// Transport-wide feedback arrives at a sender, which finds that there is room for more than it
/// began with.
#[tokio::test]
async fn a_sender_hears_how_much_it_may_send() {
    let _turn = serially().await;
    let Some(chromium) = Chromium::start().await else { return };
    let bridge = Bridge::start(1);
    let sender = Look { size: (1280, 720), busy: true, ..Look::new(1, [200, 40, 40], 440) };
    let sender = Participant::join(&chromium, &bridge.url("ramp"), sender).await;
    let receiver = Look::new(2, [40, 170, 60], 660);
    let receiver = Participant::join(&chromium, &bridge.url("ramp"), receiver).await;
    receiver.meets(&sender, "at 720p").await;
    // Chromium begins with an estimate of 300 kbit/s.
    let room = sender
        .until("the estimate to grow", async |person| {
            let room = person.figure("available").await?;
            (room > 1_000_000.0).then_some(room)
        })
        .await;
    let sent = sender
        .until("the best encoding to arrive", async |person| {
            let height = receiver.seen_height(person).await?;
            let sent = person.eval("rialto.state().figures?.out['1']?.bps").await.as_f64()?;
            (height == 720).then_some(sent)
        })
        .await;
    // Another encoding of the same camera is shown to who asks for less, and the best again.
    let want = |height: i32| {
        format!(
            "rialto.ask({{ colibriClass: 'ReceiverVideoConstraints', \
             defaultConstraints: {{ maxHeight: {height} }} }})"
        )
    };
    for (asked, seen) in [(180, 180), (400, 360), (-1, 720)] {
        receiver.run(&want(asked)).await;
        receiver
            .until(&format!("{seen} pixels"), async |person| {
                (person.seen_height(&sender).await? == seen).then_some(())
            })
            .await;
    }
    println!("720p: room for {:.0} kbit/s, sends {:.0} kbit/s", room / 1e3, sent / 1e3);
    chromium.stop().await;
}

/// A page that gets no camera and no microphone is in the call, says so, and sees and hears the
/// others, whose screens are sources of their own.
#[tokio::test]
async fn one_watches_a_screen() {
    let _turn = serially().await;
    let Some(chromium) = Chromium::start().await else { return };
    let bridge = Bridge::start(2);
    let url = bridge.url("screen");
    let watcher = Look { devices: false, ..Look::new(1, [200, 40, 40], 440) };
    let watcher = Participant::join(&chromium, &url, watcher).await;
    let notice = "document.getElementById('notice').innerText";
    watcher
        .until("a word about the missing camera", async |person| {
            let said = person.eval(notice).await;
            said.as_str().is_some_and(|said| said.contains("without camera")).then_some(())
        })
        .await;
    let sharer = Participant::join(&chromium, &url, Look::new(2, [40, 170, 60], 660)).await;
    watcher.meets(&sharer, "without a camera").await;

    sharer.run("document.getElementById('screen').click()").await;
    let screen = format!("{}-v1", sharer.id().await);
    let see = format!("judge.see('{screen}')");
    watcher
        .until("the screen", async |person| {
            (person.eval(&see).await["number"] == 2 + 128).then_some(())
        })
        .await;
    watcher.meets(&sharer, "beside its screen").await;
    sharer.run("document.getElementById('screen').click()").await;
    watcher
        .until("the screen to be gone", async |person| {
            person.eval(&see).await["number"].is_null().then_some(())
        })
        .await;

    sharer.run("document.getElementById('microphone').click()").await;
    watcher
        .until("silence, and a sign of it", async |person| {
            let silent = "document.querySelectorAll('.tile.silent').length";
            let heard = format!("judge.hear('{}-a0')", sharer.id().await);
            let quiet = person.eval(&heard).await["hz"].is_null();
            (quiet && person.eval(silent).await == 2).then_some(())
        })
        .await;
    chromium.stop().await;
}

/// Chat goes from page to page over the bridge channel, which the browser opens over SCTP.
#[tokio::test]
async fn two_people_chat() {
    let _turn = serially().await;
    let Some(chromium) = Chromium::start().await else { return };
    let bridge = Bridge::start(2);
    let url = bridge.url("chat");
    let one = Participant::join(&chromium, &url, Look::new(1, [200, 40, 40], 440)).await;
    let two = Participant::join(&chromium, &url, Look::new(2, [40, 170, 60], 660)).await;
    for person in [&one, &two] {
        person
            .until("an open data channel", async |person| {
                (person.state().await["channel"] == "open").then_some(())
            })
            .await;
    }
    let long = "x".repeat(20_000);
    for (from, to, text) in [(&one, &two, "Grüße"), (&two, &one, "hello"), (&one, &two, &long)] {
        let keys = "document.getElementById('say').value";
        let script =
            format!("{keys} = '{text}', document.querySelector('#chat form').requestSubmit()");
        from.run(&script).await;
        let name = format!("Person {}", from.look.number);
        to.until("what was said", async |person| {
            let chat = person.state().await["chat"].clone();
            let last = chat.as_array()?.last()?.clone();
            (last["name"] == name.as_str() && last["text"] == text).then_some(())
        })
        .await;
    }
    chromium.stop().await;
}

/// A page opens the channel of an endpoint of `rialto run` over a WebSocket, as it was signalled to its
/// focus; two of them talk to each other.
#[tokio::test]
async fn pages_open_web_sockets() {
    let _turn = serially().await;
    let Some(chromium) = Chromium::start().await else { return };
    let run = Run::start();
    let urls = ["alice", "bob"].map(|endpoint| run.create(endpoint, endpoint == "alice"));
    // A page of this machine: others may not connect to it without a question to the user.
    let window = chromium.open(&run.url("/about/version"), "").await;
    chromium.client.switch_to_window(window).await.expect("the window");
    let script = r"
        const done = arguments[arguments.length - 1];
        const open = (url) => new Promise((opened, failed) => {
            const socket = new WebSocket(url);
            const heard = [];
            const waiting = [];
            socket.onmessage = ({ data }) => {
                heard.push(JSON.parse(data));
                waiting.splice(0).forEach((look) => look());
            };
            const hears = (colibriClass) => new Promise((found) => {
                const look = () => {
                    const at = heard.findIndex((message) => message.colibriClass === colibriClass);
                    if (at < 0) waiting.push(look);
                    else found(heard.splice(at, 1)[0]);
                };
                look();
            });
            socket.onopen = () => opened({ socket, hears });
            socket.onerror = () => failed(new Error(url));
        });
        (async () => {
            const [alice, bob] = await Promise.all([open(arguments[0]), open(arguments[1])]);
            await alice.hears('ServerHello');
            alice.socket.send(JSON.stringify({ colibriClass: 'ClientHello' }));
            await alice.hears('ServerHello');
            alice.socket.send(JSON.stringify(
                { colibriClass: 'EndpointMessage', to: 'bob', msgPayload: 'ü'.repeat(20000) },
            ));
            const { from, msgPayload } = await bob.hears('EndpointMessage');
            const again = await open(arguments[0]);
            const { code, reason } = await new Promise((closed) => { alice.socket.onclose = closed; });
            await again.hears('ServerHello');
            return { from, length: msgPayload.length, code, reason, extensions: again.socket.extensions };
        })().then(done, (problem) => done(String(problem)));
    ";
    let arguments = urls.map(Value::from).to_vec();
    let seen = chromium.client.execute_async(script, arguments).await.expect("the script runs");
    let expected = json!({
        "from": "alice", "length": 20_000, "code": 1000, "reason": "replaced", "extensions": "",
    });
    assert_eq!(seen, expected);
    chromium.stop().await;
}
