//! The status page: what it shows of a call, at a desk and on a phone, to whom, and that a name is a name.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Instant,
};

use fantoccini::Locator;
use serde_json::{Value, json};

use crate::calls::{
    PATIENCE,
    bridge::{Bridge, Run},
    chromium::{Chromium, DevTools, serially},
    participant::{Look, Participant},
};

/// The value of an expression in the window that commands are for.
async fn eval(chromium: &Chromium, expression: &str) -> Value {
    let script = format!("return ({expression})");
    chromium.client.execute(&script, Vec::new()).await.expect("the script runs")
}

async fn until(chromium: &Chromium, what: &str, condition: &str) {
    let start = Instant::now();
    while eval(chromium, condition).await != true {
        let text = eval(chromium, "document.body.innerText").await;
        assert!(start.elapsed() < PATIENCE, "in vain for {what}: {text}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// The text of the first element of a kind that is shown contains this.
fn says(css: &str, part: &str) -> String {
    let (css, part) = (json!(css), json!(part));
    format!(
        "[...document.querySelectorAll({css})].some((e) => e.checkVisibility() && e.innerText.includes({part}))"
    )
}

async fn set_size(chromium: &Chromium, width: u32, height: u32, theme: &str) {
    let mobile = width < 500;
    let metrics = json!({
        "width": width, "height": height, "deviceScaleFactor": if mobile { 2 } else { 1 }, "mobile": mobile,
    });
    let set = DevTools("Emulation.setDeviceMetricsOverride", metrics);
    chromium.client.issue_cmd(set).await.expect("a size");
    let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": theme }] });
    let set = DevTools("Emulation.setEmulatedMedia", features);
    chromium.client.issue_cmd(set).await.expect("a theme");
}

/// Writes a picture into the directory that `RIALTO_STATUS_PICTURES` names, if it does.
async fn picture(chromium: &Chromium, name: &str) {
    let directory = std::env::var("RIALTO_STATUS_PICTURES").unwrap_or_default();
    if !directory.is_empty() {
        let picture = chromium.client.screenshot().await.expect("a picture");
        let path = std::path::Path::new(&directory).join(name);
        std::fs::write(path, picture).expect("the picture is written");
    }
}

/// Nothing is wider than the window, and nothing that is shown reaches beyond its right.
const FITS: &str = "document.documentElement.scrollWidth <= innerWidth
    && [...document.querySelectorAll('body *')].filter((e) => e.checkVisibility() && !e.closest('svg'))
        .every((e) => e.getBoundingClientRect().right <= innerWidth + 1)";

/// A call is seen with what each receives and why it is not more, live, at a desk and on a phone.
#[tokio::test]
async fn a_call_is_shown_at_a_desk_and_on_a_phone() {
    let _turn = serially().await;
    let Some(chromium) = Chromium::start().await else { return };
    let bridge = Bridge::start(2);
    let url = bridge.url("standup");
    let sender = Look { size: (1280, 720), busy: true, ..Look::new(1, [200, 40, 40], 440) };
    let sender = Participant::join(&chromium, &url, sender).await;
    let receiver = Participant::join(&chromium, &url, Look::new(2, [40, 170, 60], 660)).await;
    receiver.meets(&sender, "before anybody looks").await;
    let (one, two) = (sender.id().await, receiver.id().await);

    chromium.open(&bridge.url("_rialto/status"), "").await;
    set_size(&chromium, 1280, 800, "light").await;
    until(&chromium, "health", &says("#health", "Healthy")).await;
    until(&chromium, "both shards", "document.querySelectorAll('#shards .card').length === 2")
        .await;
    until(&chromium, "the conference", &says("#conferences .conference", "standup")).await;
    for id in [&one, &two] {
        until(&chromium, "an endpoint", &says(".endpoint h3", id)).await;
    }
    // What the second receives of the first: a height, a rate, an estimate and a reason.
    let video = format!("{one}-v0");
    until(&chromium, "the video", &says(".videos li", &video)).await;
    let row = format!(
        "(() => {{ const row = [...document.querySelectorAll('.videos li')]
            .find((e) => e.innerText.includes('{video}'))?.innerText ?? '';
            return /\\d+p/.test(row) && /[1-9]\\d*\\s[kM]bit/.test(row)
                && /gets all there is|asked for no more|carries no more|sends no more|keyframe/.test(row) }})()"
    );
    until(&chromium, "what is sent and why it is not more", &row).await;
    until(&chromium, "an estimate", &says(".endpoint dd", "carries ")).await;
    until(&chromium, "a delay", &says("#shards .facts", "99 % ≤")).await;
    // Plots grow by themselves.
    let points = "(document.querySelector('.endpoint .plot .line').getAttribute('d') ?? '').split('L').length";
    let before = eval(&chromium, points).await.as_u64().unwrap_or_default();
    until(&chromium, "plots that go on", &format!("{points} > {}", before + 2)).await;
    picture_in_all(&chromium, 1280, 800).await;

    // At phone width everything has its place.
    set_size(&chromium, 390, 844, "light").await;
    until(&chromium, "the width of a phone", "innerWidth === 390").await;
    until(&chromium, "a page that fits a phone", FITS).await;
    picture_in_all(&chromium, 390, 844).await;

    // Somebody leaves.
    receiver.close().await;
    let windows = chromium.client.windows().await.expect("windows");
    chromium.client.switch_to_window(windows.last().expect("one").clone()).await.expect("the page");
    let gone = format!("!({})", says(".endpoint h3", &two));
    until(&chromium, "one who left to be gone", &gone).await;
    chromium.stop().await;
}

async fn picture_in_all(chromium: &Chromium, width: u32, height: u32) {
    if std::env::var_os("RIALTO_STATUS_PICTURES").is_some() {
        let full = "(document.querySelector('.plot .line').getAttribute('d') ?? '').split('L').length >= 60";
        until(chromium, "plots with some past", full).await;
    }
    for theme in ["light", "dark"] {
        set_size(chromium, width, height, theme).await;
        picture(chromium, &format!("status-{width}-{theme}.png")).await;
        if width < 500 {
            eval(chromium, "document.getElementById('shown').scrollIntoView()").await;
            picture(chromium, &format!("status-{width}-{theme}-call.png")).await;
            eval(chromium, "scrollTo(0, 0)").await;
        }
    }
}

/// Asks for something over COLIBRI2.
fn ask(bridge: &Bridge, request: &str, body: &Value) {
    let (address, body) = (bridge.address(), body.to_string());
    let mut stream = TcpStream::connect(&address).expect("HTTP");
    let length = body.len();
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// Ids and names come from peers: they are shown as they are, and nothing in them is markup.
#[tokio::test]
async fn a_name_is_shown_and_not_run() {
    let _turn = serially().await;
    let Some(chromium) = Chromium::start().await else { return };
    let bridge = Bridge::start(1);
    let evil = "<img id=pwned src=x onerror='window.pwned=1'><script>window.pwned=1</script>";
    let endpoint = json!({
        "id": format!("{evil}e"),
        "stats-id": format!("{evil}s"),
        "create": true,
        "medias": [{ "type": "video", "payload-types": [{ "id": 100, "name": "VP8" }] }],
        "transport": { "ice-controlling": true },
        "capabilities": ["source-names"],
        "sources": [{ "type": "video", "id": format!("{evil}v"), "sources": [7] }],
    });
    let create = json!({ "meeting-id": evil, "create": true, "endpoints": [endpoint] });
    ask(&bridge, "POST /colibri/v2/conferences", &create);
    // Of the first one's video it is told that it wants none.
    let other = json!({
        "id": "other",
        "create": true,
        "initial-last-n": { "value": 0 },
        "medias": [{ "type": "video", "payload-types": [{ "id": 100, "name": "VP8" }] }],
        "transport": { "ice-controlling": true },
        "capabilities": ["source-names"],
    });
    let path = "PATCH /colibri/v2/conferences/%3Cimg%20id%3Dpwned%20src%3Dx%20onerror%3D'window.pwned%3D1'%3E%3C\
                script%3Ewindow.pwned%3D1%3C%2Fscript%3E";
    ask(&bridge, path, &json!({ "endpoints": [other] }));
    chromium.open(&bridge.url("_rialto/status"), "").await;
    until(&chromium, "the conference", &says(".conference", evil)).await;
    until(&chromium, "its title", &says("#shown-title", evil)).await;
    until(&chromium, "the endpoint", &says(".endpoint h3", &format!("{evil}e"))).await;
    until(&chromium, "its name for statistics", &says(".endpoint h3", &format!("{evil}s"))).await;
    until(&chromium, "its video", &says(".videos .name", &format!("{evil}v"))).await;
    let harmless = "window.pwned === undefined && document.getElementById('pwned') === null
        && document.querySelectorAll('script').length === 1";
    assert_eq!(eval(&chromium, harmless).await, true);
    set_size(&chromium, 390, 844, "dark").await;
    until(&chromium, "long names that fit a phone", FITS).await;
    chromium.stop().await;
}

/// With a token the page says nothing before it has it; it keeps it for as long as its window.
#[tokio::test]
async fn a_bridge_with_a_token_shows_nothing_without() {
    let _turn = serially().await;
    let Some(chromium) = Chromium::start().await else { return };
    let token = "a-token-of-this-test";
    let bridge = Run::start_with_token(token);
    chromium.open(&bridge.url("/"), "").await;
    until(&chromium, "a question for the token", &says("#login", "asks for a token")).await;
    assert_eq!(eval(&chromium, "document.getElementById('status').checkVisibility()").await, false);
    picture(&chromium, "status-token.png").await;
    for (given, css, part) in [
        ("guéss", "#refused", "does not take"),
        ("guess", "#refused", "does not take"),
        (token, "#health", "Healthy"),
    ] {
        let input = chromium.client.find(Locator::Id("token")).await.expect("a field");
        input.send_keys(given).await.expect("a token");
        let button = chromium.client.find(Locator::Css("#login button")).await.expect("a button");
        button.click().await.expect("a click");
        until(&chromium, part, &says(css, part)).await;
    }
    until(&chromium, "its shard", &says("#shards .card", "Shard 0")).await;
    chromium.client.refresh().await.expect("the page again");
    until(&chromium, "the same without a question", &says("#health", "Healthy")).await;
    let quiet =
        "!document.getElementById('login').checkVisibility() && !location.href.includes('token')";
    assert_eq!(eval(&chromium, quiet).await, true);
    chromium.stop().await;
}
