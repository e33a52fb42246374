//! What the page itself does: what it asks the bridge for, what it says, and its keys and buttons.

use fantoccini::{Locator, key::Key};
use serde_json::json;

use crate::calls::{
    bridge::Bridge,
    chromium::{Chromium, DevTools, serially},
    participant::{Look, Participant},
};

fn look(number: u8) -> Look {
    Look::new(number, [200, 40, 40], 440)
}

/// The text of an element that is shown; empty when it is not.
fn text(id: &str) -> String {
    format!("((e) => (e.checkVisibility() ? e.innerText : ''))(document.getElementById('{id}'))")
}

async fn says(person: &Participant, id: &str, part: &str) {
    person
        .until(&format!("#{id} to say {part:?}"), async |person| {
            person.eval(&text(id)).await.as_str()?.contains(part).then_some(())
        })
        .await;
}

async fn becomes(person: &Participant, what: &str, condition: &str) {
    person.until(what, async |person| (person.eval(condition).await == true).then_some(())).await;
}

async fn is_hidden(person: &Participant, id: &str) {
    becomes(person, &format!("#{id} to be hidden"), &format!("!{}", text(id))).await;
}

/// Presses a key in an element.
async fn press(person: &Participant, css: &str, keys: &str) {
    person.focus().await;
    let element = person.client.find(Locator::Css(css)).await.expect(css);
    element.send_keys(keys).await.expect("a key");
}

async fn click(person: &Participant, css: &str) {
    person.focus().await;
    let element = person.client.find(Locator::Css(css)).await.expect(css);
    element.click().await.expect("a click");
}

/// The bridge is told how high each tile is, and sends the encoding that fits.
#[tokio::test]
async fn tiles_ask_for_the_height_that_they_have() {
    let _turn = serially().await;
    let Some(chromium) = Chromium::start().await else { return };
    let bridge = Bridge::start(1);
    let url = bridge.url("heights");
    let watcher = Participant::join(&chromium, &url, look(1)).await;
    let sender = Look { size: (1280, 720), ..look(2) };
    let sender = Participant::join(&chromium, &url, sender).await;
    let other = Participant::join(&chromium, &url, look(3)).await;
    let (shown, beside) = (sender.id().await, other.id().await);
    let asked = async |what: &str, heights: [i32; 2], stage: &[&str]| {
        watcher
            .until(what, async |person| {
                let asked = person.state().await["asked"].clone();
                let of = |id: &str| asked["constraints"][format!("{id}-v0")]["maxHeight"].clone();
                let fits = of(&shown) == heights[0] && of(&beside) == heights[1];
                (fits && asked["onStageSources"] == json!(stage)).then_some(())
            })
            .await;
    };
    let sees = async |height: u64| {
        watcher
            .until(&format!("{height} pixels"), async |person| {
                (person.seen_height(&sender).await? == height).then_some(())
            })
            .await;
    };
    asked("three tiles in two rows", [360, 360], &[]).await;
    sees(360).await;

    let pinned = format!("{shown}-v0");
    watcher.run(&format!("rialto.pin('{shown}')")).await;
    asked("one on the stage and one beside it", [720, 180], &[&pinned]).await;
    sees(720).await;

    watcher.run("rialto.pin(null)").await;
    asked("two rows again", [360, 360], &[]).await;
    watcher.focus().await;
    chromium.client.set_window_size(500, 520).await.expect("a smaller window");
    asked("small tiles", [180, 180], &[]).await;
    sees(180).await;
    chromium.stop().await;
}

/// A tile without a picture, or with a lesser one than its viewer might expect, says why.
#[tokio::test]
async fn a_tile_says_why_there_is_no_better_picture() {
    let _turn = serially().await;
    let Some(chromium) = Chromium::start().await else { return };
    let bridge = Bridge::start(1);
    let url = bridge.url("why");
    let watcher = Participant::join(&chromium, &url, look(1)).await;
    let sender = Participant::join(&chromium, &url, look(2)).await;
    watcher
        .until("a picture", async |person| (person.seen_height(&sender).await? > 0).then_some(()))
        .await;
    let why = "[...document.querySelectorAll('.tile .why')].filter((e) => e.checkVisibility())\
               .map((e) => e.innerText).join()";
    assert_eq!(watcher.eval(why).await, "");
    let ask = |last_n: i32| {
        format!("rialto.ask({{ colibriClass: 'ReceiverVideoConstraints', lastN: {last_n} }})")
    };
    watcher.run(&ask(0)).await;
    becomes(&watcher, "the reason", &format!("{why} === 'Others are shown instead'")).await;
    watcher.run(&ask(-1)).await;
    becomes(&watcher, "no reason any more", &format!("{why} === ''")).await;
    chromium.stop().await;
}

/// One in the room is told what to do; a pinned tile has the stage, and a tile the whole screen.
#[tokio::test]
async fn one_is_alone_then_pins_the_other() {
    let _turn = serially().await;
    let Some(chromium) = Chromium::start().await else { return };
    let bridge = Bridge::start(1);
    let url = bridge.url("alone");
    let one = Participant::join(&chromium, &url, look(1)).await;
    says(&one, "alone", "You are alone here").await;
    says(&one, "alone", &url).await;
    let two = Participant::join(&chromium, &url, look(2)).await;
    is_hidden(&one, "alone").await;

    let id = two.id().await;
    let width = |key: &str| format!("rialto.tile('{key}').getBoundingClientRect().width");
    let larger = format!("{} > 2 * {}", width(&id), width("me"));
    let pin = "#stage .tile:nth-child(2) .pin";
    click(&one, pin).await;
    assert_eq!(one.state().await["pinned"], *id);
    becomes(&one, "the stage for who is pinned", &larger).await;
    press(&one, "body", &Key::Escape).await;
    assert!(one.state().await["pinned"].is_null(), "Escape unpins");
    becomes(&one, "tiles of one size", &format!("{} === {}", width(&id), width("me"))).await;

    click(&one, "#stage .tile:nth-child(2) .full").await;
    let full = format!("document.fullscreenElement === rialto.tile('{id}')");
    becomes(&one, "the whole screen for one", &full).await;
    one.run("document.exitFullscreen()").await;
    becomes(&one, "the whole call again", "document.fullscreenElement === null").await;

    click(&one, pin).await;
    two.run("rialto.leave()").await;
    says(&one, "alone", "You are alone here").await;
    assert!(one.state().await["pinned"].is_null(), "who left is not pinned");
    chromium.stop().await;
}

/// Letters are shortcuts outside of texts and nothing else; Escape closes what is open.
#[tokio::test]
async fn keys_open_and_close() {
    let _turn = serially().await;
    let Some(chromium) = Chromium::start().await else { return };
    let bridge = Bridge::start(1);
    let one = Participant::join(&chromium, &bridge.url("keys"), look(1)).await;
    becomes(&one, "a microphone", "!document.getElementById('microphone').matches('.muted')").await;

    press(&one, "body", "c").await;
    let typed = "document.activeElement.id + ':' + document.getElementById('say').value";
    assert_eq!(one.eval(typed).await, "say:", "the chat has the focus, and no letter");
    press(&one, "#say", "mcd").await;
    assert_eq!(one.eval(typed).await, "say:mcd", "in a text a letter is a letter");
    press(&one, "#say", &Key::Escape).await;
    is_hidden(&one, "chat").await;
    press(&one, "body", "m").await;
    becomes(&one, "silence", "document.getElementById('microphone').matches('.muted')").await;

    press(&one, "body", "d").await;
    becomes(&one, "a preview", "document.querySelector('#devices video').videoWidth > 0").await;
    for kind in ["camera", "microphone"] {
        let some = format!("document.querySelector('#choose-{kind} option')?.value > ''");
        becomes(&one, &format!("a {kind} to choose"), &some).await;
    }
    press(&one, "#test-speaker", &Key::Escape).await;
    is_hidden(&one, "devices").await;
    let ended = "document.querySelector('#devices video').srcObject === null";
    becomes(&one, "the end of the preview", ended).await;

    // A name of one word has one initial, also on one's own tile.
    let rename = "#stage .tile .name button";
    click(&one, rename).await;
    one.run("document.activeElement.value = 'Nobody'").await;
    press(&one, "#stage .name input", &Key::Escape).await;
    assert_eq!(one.eval("document.querySelector('.tile .name').innerText").await, "Person 1 (you)");
    click(&one, rename).await;
    one.run("document.activeElement.value = 'Ada'").await;
    press(&one, "#stage .name input", &Key::Enter).await;
    let initials = "document.querySelector('.tile .avatar').textContent";
    assert_eq!(one.eval(initials).await, "A");
    chromium.stop().await;
}

/// Whoever waits for a connection is told why, until it is there.
#[tokio::test]
async fn a_banner_says_what_is_wrong() {
    let _turn = serially().await;
    let Some(chromium) = Chromium::start().await else { return };
    let mut bridge = Bridge::start(1);
    let one = Participant::join(&chromium, &bridge.url("banner"), look(1)).await;
    is_hidden(&one, "trouble").await;
    let before = one.id().await;
    bridge.stop();
    says(&one, "trouble", "not connected").await;
    says(&one, "trouble", &bridge.address()).await;
    bridge.start_again();
    is_hidden(&one, "trouble").await;
    becomes(&one, "a connection", "rialto.state().connection === 'connected'").await;
    assert_ne!(one.id().await, before, "who returns is a new endpoint");

    let unreachable = Look { addresses: false, ..look(2) };
    let two = Participant::open(&chromium, &bridge.url("banner"), unreachable).await;
    says(&two, "trouble", "no network address").await;
    assert_eq!(two.eval(&text("state")).await, "No connection");
    chromium.stop().await;
}

/// Rooms share no names with what else the server has.
#[tokio::test]
async fn rooms_have_the_names_of_other_resources() {
    let _turn = serially().await;
    let Some(chromium) = Chromium::start().await else { return };
    let bridge = Bridge::start(1);
    for name in ["debug", "metrics", "stats"] {
        let person = Participant::join(&chromium, &bridge.url(name), look(1)).await;
        assert_eq!(person.eval(&text("room")).await, name);
    }
    chromium.stop().await;
}

/// Light or dark as the system says, until the button says otherwise.
#[tokio::test]
async fn the_theme_follows_the_system_and_the_button() {
    let _turn = serially().await;
    let Some(chromium) = Chromium::start().await else { return };
    let bridge = Bridge::start(1);
    let one = Participant::join(&chromium, &bridge.url("theme"), look(1)).await;
    let light =
        "getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g)[0] > 128";
    let prefer = async |scheme: &str| {
        one.focus().await;
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        let command = DevTools("Emulation.setEmulatedMedia", json!({ "features": [feature] }));
        chromium.client.issue_cmd(command).await.expect("another preference");
    };
    for scheme in ["light", "dark", "light"] {
        prefer(scheme).await;
        assert_eq!(one.eval(light).await, scheme == "light", "the system's: {scheme}");
    }
    click(&one, "#theme").await;
    assert_eq!(one.eval(light).await, false, "the button's");
    one.client.refresh().await.expect("the page again");
    assert_eq!(one.eval(light).await, false, "remembered");
    click(&one, "#theme").await;
    for scheme in ["light", "dark"] {
        prefer(scheme).await;
        assert_eq!(one.eval(light).await, scheme == "light", "the system's again: {scheme}");
    }
    chromium.stop().await;
}
