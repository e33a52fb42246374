//! Real browsers in calls as Jitsi has them, over a real Prosody: what each of three receives.

#[path = "../calls/mod.rs"]
mod calls;
#[path = "../calls/jitsi/mod.rs"]
mod jitsi;

use std::time::Instant;

use calls::{
    chromium::serially,
    participant::{Look, Participant},
};
use jitsi::Jitsi;
use serde_json::{Value, json};

/// How long rates are measured, ms.
const SPAN: u32 = 5000;

const COLOURS: [[u8; 3]; 3] = [[200, 40, 40], [40, 170, 60], [50, 70, 210]];

/// Number, colour and tone of a participant.
fn look(number: u8) -> Look {
    let at = usize::from(number - 1);
    // Two cores do not encode more of 720 lines in two pages.
    Look {
        size: (320, 180),
        fps: 6,
        ..Look::new(number, COLOURS[at], 440 + 220 * u32::from(number))
    }
}

/// The camera of a participant.
fn camera(number: u8) -> String {
    format!("p{number}-v0")
}

/// Opens the pages of three, of whom the first two show this.
async fn three(jitsi: &Jitsi, size: (u32, u32), busy: bool) -> [Participant; 3] {
    let show = |number| Look { size, busy, ..look(number) };
    [jitsi.open(show(1)).await, jitsi.open(show(2)).await, jitsi.open(look(3)).await]
}

/// Tells the bridge which heights somebody wants; `stage` is who gets 720 lines.
async fn wish(person: &Participant, stage: Option<&str>, others: u32) {
    let constraints = stage.map_or(json!({}), |source| json!({ source: { "maxHeight": 720 } }));
    let wish = json!({
        "colibriClass": "ReceiverVideoConstraints",
        "lastN": -1,
        "onStageSources": stage.into_iter().collect::<Vec<_>>(),
        "defaultConstraints": { "maxHeight": others },
        "constraints": constraints,
    });
    person.run(&format!("rialto.ask({wish})")).await;
}

/// Has these enter a room, and waits until all are connected.
async fn enter<'a>(room: &str, people: impl Iterator<Item = (&'a Participant, Value)>) {
    let mut entered = Vec::new();
    for (person, options) in people {
        person.enter(room, options).await;
        entered.push(person);
    }
    for person in entered {
        person.in_call().await;
    }
}

/// What each receives of each source, as rates over [`SPAN`]. Prints what is video.
async fn measure(people: &[Participant]) -> Vec<Value> {
    for person in people {
        person.run(&format!("rialto.measure({SPAN})")).await;
    }
    let mut all = Vec::new();
    for person in people {
        let rates = person.eval("measured").await;
        for (source, row) in rates.as_object().expect("rates") {
            let Some(codec) = row["codec"].as_str().and_then(|mime| mime.strip_prefix("video/"))
            else {
                continue;
            };
            let number = |name: &str| row[name].as_f64().unwrap_or_default();
            println!(
                "| p{} | {source} | {codec} | {} | {:.0} | {:.1} |",
                person.look.number,
                number("height"),
                number("kbps"),
                number("fps"),
            );
        }
        all.push(rates);
    }
    all
}

/// The same, when both stages show 720 lines that move: a machine that is busy elsewhere has an encoder or a
/// decoder fall behind for some seconds, and then others are measured.
async fn measure_steady(people: &[Participant]) -> Vec<Value> {
    const TRIES: usize = 6;
    let mut rates = measure(people).await;
    for _ in 1..TRIES {
        let moves = |receiver: usize, number: u8| {
            let row = &rates[receiver][camera(number)];
            row["height"] == 720 && row["fps"].as_f64().is_some_and(|fps| fps > 0.5)
        };
        if moves(0, 2) && moves(1, 1) {
            break;
        }
        rates = measure(people).await;
    }
    rates
}

/// Waits until a picture has this many lines.
async fn until_height(person: &Participant, source: &str, height: u32) {
    let what = format!("{source} with {height} lines");
    person
        .until(&what, async |person| {
            let inbound = person.eval("rialto.inbound()").await;
            (inbound[source]["height"] == height).then_some(())
        })
        .await;
}

/// Waits until what is shown of a source has the number that its sender draws.
async fn until_seen(person: &Participant, source: &str, number: u8) {
    person
        .until(source, async |person| {
            let seen = person.eval(&format!("judge.see('{source}')")).await;
            (seen["number"] == number).then_some(())
        })
        .await;
}

/// A codec as Jitsi Meet sends it: how, and bit rates in kbit/s.
struct Sent {
    codec: &'static str,
    options: Value,
    /// The most that a thumbnail of it may cost, kbit/s. The goal is 160 where layers come in one SSRC, and the
    /// simulcast encoding of 180 lines has 200; keyframes come on top, which a busy machine needs more of.
    thumbnail: f64,
}

fn sent() -> [Sent; 3] {
    let layers = |codec, mode, high, thumbnail| Sent {
        codec,
        options: json!({ "codec": codec, "mode": mode, "rates": [high] }),
        thumbnail,
    };
    let simulcast = json!({
        "codec": "VP8", "mode": "L1T3", "simulcast": true, "rates": [200, 500, 1500],
    });
    [
        layers("AV1", "L3T3", 1000, 200.0),
        layers("VP9", "L3T3_KEY", 1200, 250.0),
        Sent { codec: "VP8", options: simulcast, thumbnail: 260.0 },
    ]
}

#[tokio::test]
async fn a_stage_and_thumbnails_in_each_codec() {
    let _turn = serially().await;
    let Some(jitsi) = Jitsi::start().await else { return };
    let people = three(&jitsi, (1280, 720), true).await;
    let [one, two, three] = &people;
    println!("| receiver | source | codec | lines | kbit/s | fps |\n|---|---|---|---|---|---|");
    for Sent { codec, options, thumbnail } in sent() {
        let everybody = people.iter().map(|person| (person, options.clone()));
        enter(&codec.to_lowercase(), everybody).await;
        wish(one, Some(&camera(2)), 180).await;
        wish(two, Some(&camera(1)), 180).await;
        wish(three, None, 180).await;
        until_height(one, &camera(2), 720).await;
        until_height(two, &camera(1), 720).await;
        for number in [1, 2] {
            until_height(three, &camera(number), 180).await;
        }
        let rates = measure_steady(&people).await;
        for number in [1, 2] {
            let source = camera(number);
            let thumb = &rates[2][&source];
            let stage = &rates[usize::from(2 - number)][&source];
            assert_eq!((&thumb["height"], &stage["height"]), (&json!(180), &json!(720)), "{codec}");
            let rate = |row: &Value| row["kbps"].as_f64().expect("a rate");
            assert!(rate(thumb) <= thumbnail, "{codec}: {thumb}");
            assert!(rate(stage) > 2.0 * rate(thumb), "{codec}: {stage} beside {thumb}");
            assert!(thumb["fps"].as_f64().expect("frames") > 0.5, "{codec}: {thumb}");
            let mime = format!("video/{codec}");
            assert_eq!((&thumb["codec"], &stage["codec"]), (&json!(mime), &json!(mime)));
        }
        for person in &people {
            person.leave().await;
        }
    }
    jitsi.stop().await;
}

/// Who speaks, and nobody else does.
async fn only_speaks(people: &[&Participant], speaker: &Participant) {
    for person in people {
        let loud = person.look.number == speaker.look.number;
        person.run(&format!("judge.speak({loud})")).await;
    }
}

/// Waits until this is the one video that somebody gets: told so, and it moves.
async fn gets_only(person: &Participant, source: &str) {
    let what = format!("{source} alone");
    person
        .until(&what, async |person| {
            (person.state().await["forwarded"] == json!([source])).then_some(())
        })
        .await;
    let frames = async |source: &str| {
        person.eval("rialto.inbound()").await[source]["frames"].as_f64().unwrap_or_default()
    };
    let before = frames(source).await;
    person.until(&what, async |_| (frames(source).await >= before + 3.0).then_some(())).await;
}

#[tokio::test]
async fn a_last_n_of_one_follows_the_speaker() {
    let _turn = serially().await;
    let Some(jitsi) = Jitsi::start().await else { return };
    let people = three(&jitsi, (320, 180), false).await;
    let [one, two, three] = &people;
    let all: Vec<_> = people.iter().collect();
    // A tone that never stops is no speech, and nobody who comes after it is louder.
    for person in &all {
        person.run("judge.speak(false)").await;
    }
    enter("speakers", people.iter().map(|person| (person, json!({})))).await;
    let last_one = json!({ "colibriClass": "ReceiverVideoConstraints", "lastN": 1,
        "defaultConstraints": { "maxHeight": 720 }, "constraints": {} });
    three.run(&format!("rialto.ask({last_one})")).await;
    for speaker in [one, two, one] {
        only_speaks(&all, speaker).await;
        let start = Instant::now();
        gets_only(three, &camera(speaker.look.number)).await;
        println!("p{} alone after {:.1?}", speaker.look.number, start.elapsed());
        let number = speaker.look.number;
        until_seen(three, &camera(number), number).await;
        assert_eq!(three.state().await["speaker"], format!("p{number}"));
    }
    jitsi.stop().await;
}

#[tokio::test]
async fn a_stage_moves_between_a_camera_and_a_screen() {
    let _turn = serially().await;
    let Some(jitsi) = Jitsi::start().await else { return };
    let people = three(&jitsi, (640, 360), false).await;
    let [one, _, three] = &people;
    let layers = json!({ "codec": "VP9", "mode": "L3T3_KEY", "rates": [1200] });
    enter("screen", people.iter().map(|person| (person, layers.clone()))).await;
    assert_eq!(one.eval("rialto.share()").await, Value::Null);
    let (camera, screen) = (camera(1), "p1-v1".to_owned());
    for (stage, thumbnail) in [(&screen, &camera), (&camera, &screen), (&screen, &camera)] {
        wish(three, Some(stage), 180).await;
        until_height(three, stage, 360).await;
        until_height(three, thumbnail, 180).await;
    }
    for (source, number) in [(&camera, 1), (&screen, 1 + 128)] {
        until_seen(three, source, number).await;
    }
    jitsi.stop().await;
}

/// SSRCs of what somebody receives of each source.
async fn ssrcs(person: &Participant) -> Vec<(String, u64)> {
    let inbound = person.eval("rialto.inbound()").await;
    let rows = inbound.as_object().expect("sources").iter();
    rows.filter_map(|(source, row)| Some((source.clone(), row["ssrc"].as_u64()?))).collect()
}

/// Bytes of payload in each packet that somebody gets of a source.
async fn packet_size(person: &Participant, source: &str) -> f64 {
    let row = person.eval("rialto.inbound()").await[source].clone();
    let number = |name: &str| row[name].as_f64().expect("statistics");
    number("bytes") / number("packets").max(1.0)
}

#[tokio::test]
async fn slots_and_redundancy_are_for_who_has_them() {
    let _turn = serially().await;
    let Some(jitsi) = Jitsi::start().await else { return };
    let people = three(&jitsi, (320, 180), false).await;
    let [one, two, three] = &people;
    // The first one sends its audio with redundancy, the second one cannot read it.
    let senders = [(one, json!({ "red": true })), (two, json!({}))];
    enter("slots", senders.into_iter()).await;
    let mut before = Vec::new();
    for capabilities in
        [json!([]), json!(["ssrc-rewriting"]), json!(["ssrc-rewriting", "rtp-mid-demux"])]
    {
        let rewritten = capabilities != json!([]);
        let by_mid = capabilities.as_array().is_some_and(|all| all.len() > 1);
        let options = json!({ "red": true, "capabilities": capabilities.clone() });
        enter("slots", [(three, options)].into_iter()).await;
        let how = capabilities.to_string();
        for other in [one, two] {
            three.meets(other, &how).await;
            other.meets(three, &how).await;
        }
        // Browsers do not say that a packet had redundancy, but it has the one before in it.
        let [with, without] = [packet_size(three, "p1-a0").await, packet_size(two, "p1-a0").await];
        println!("{how}: audio packets of {with:.0} bytes with redundancy, {without:.0} without");
        assert!(with > 1.4 * without, "{with} bytes with redundancy, {without} without");
        let mapped = three.state().await["mapped"].clone();
        let own = ssrcs(three).await;
        assert_eq!(own.len(), 4, "{own:?}");
        for (source, ssrc) in &own {
            if rewritten {
                assert_eq!(mapped[source]["ssrc"], *ssrc, "{mapped}");
                assert_eq!(mapped[source]["mid"].is_string(), by_mid, "{mapped}");
            } else {
                assert_eq!(mapped, json!({}));
            }
            assert!(!before.contains(&(source.clone(), *ssrc)), "{own:?} after {before:?}");
        }
        before.extend(own);
        three.leave().await;
        let gone = async |person: &Participant| {
            (!person.state().await["sources"].to_string().contains("p3")).then_some(())
        };
        one.until("the third one to be gone", gone).await;
    }
    one.meets(two, "without redundancy").await;
    two.meets(one, "with redundancy taken off").await;
    jitsi.stop().await;
}
