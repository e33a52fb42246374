//! A participant: a window of the browser with the product's page in it.

use std::time::{Duration, Instant};

use fantoccini::{Client, wd::WindowHandle};
use serde_json::{Value, json};

use super::{PATIENCE, chromium::Chromium};

/// What a participant shows and plays.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    /// Its number, in the cells of its picture.
    pub(crate) number: u8,
    /// Red, green, blue.
    pub(crate) colour: [u8; 3],
    /// Hz.
    pub(crate) tone: u32,
    /// Width and height of its picture.
    pub(crate) size: (u32, u32),
    /// There are a camera and a microphone.
    pub(crate) devices: bool,
    /// Its picture is hard to encode.
    pub(crate) busy: bool,
    /// Its browser has network addresses.
    pub(crate) addresses: bool,
    /// Frames of its picture per second.
    pub(crate) fps: u32,
    /// What else runs in its page before the page's own scripts.
    pub(crate) script: String,
}

impl Look {
    pub(crate) fn new(number: u8, colour: [u8; 3], tone: u32) -> Self {
        Self {
            number,
            colour,
            tone,
            size: (320, 180),
            devices: true,
            busy: false,
            addresses: true,
            fps: 20,
            script: String::new(),
        }
    }

    fn name(&self) -> String {
        format!("Person {}", self.number)
    }
}

/// A participant in its window.
pub(crate) struct Participant {
    pub(crate) look: Look,
    pub(crate) client: Client,
    window: WindowHandle,
}

impl Participant {
    /// Opens the page of a room and waits for its connection.
    pub(crate) async fn join(chromium: &Chromium, url: &str, look: Look) -> Self {
        let person = Self::open(chromium, url, look).await;
        person.until("a connection", async |person| person.connected().await.then_some(())).await;
        person
    }

    /// Opens the page of a room.
    pub(crate) async fn open(chromium: &Chromium, url: &str, look: Look) -> Self {
        let parameters = json!({
            "number": look.number, "colour": look.colour, "tone": look.tone,
            "width": look.size.0, "height": look.size.1,
            "devices": look.devices, "busy": look.busy, "addresses": look.addresses, "fps": look.fps,
        });
        let script = format!(
            "const PARTICIPANT = {parameters};\n{}\n{}",
            include_str!("../pages/participant.js"),
            look.script,
        );
        let url = format!("{url}?name=Person+{}", look.number);
        let window = chromium.open(&url, &script).await;
        Self { look, client: chromium.client.clone(), window }
    }

    /// Closes its window.
    pub(crate) async fn close(self) {
        self.focus().await;
        self.client.close_window().await.expect("the window closes");
    }

    /// Makes its window the one that commands are for.
    pub(crate) async fn focus(&self) {
        self.client.switch_to_window(self.window.clone()).await.expect("the window");
    }

    /// Waits until this one sees the other's colour and number and hears the other's tone.
    pub(crate) async fn meets(&self, other: &Self, when: &str) {
        let what = format!("{} to be seen and heard {when}", other.look.name());
        self.until(&what, async |person| {
            let others = person.eval("judge.others()").await;
            let found = &others[other.look.name()];
            (other.look.is_seen(&found["seen"]) && other.look.is_heard(&found["heard"]))
                .then_some(())
        })
        .await;
    }

    /// Waits until every one of these has sent frames that were not there at the call.
    pub(crate) async fn new_frames_arrive(&self, from: &[&Self]) {
        for other in from {
            let source = format!("{}-v0", other.id().await);
            let before = self.frames(&source).await.unwrap_or_default();
            self.until(&format!("new frames of {source}"), async |person| {
                person.frames(&source).await.is_some_and(|now| now >= before + 5).then_some(())
            })
            .await;
        }
    }

    async fn frames(&self, source: &str) -> Option<u64> {
        let script = format!(
            "(async () => {{
                const mid = rialto.state().sources.find(({{ source }}) => source === '{source}')?.mid;
                const all = await rialto.stats();
                return all.find((s) => s.type === 'inbound-rtp' && s.mid === mid)?.framesDecoded;
            }})()"
        );
        self.eval(&script).await.as_u64()
    }

    /// The height at which this one sees the other.
    pub(crate) async fn seen_height(&self, other: &Self) -> Option<u64> {
        let others = self.eval("judge.others()").await;
        others[other.look.name()]["seen"]["height"].as_u64()
    }

    pub(crate) async fn state(&self) -> Value {
        self.eval("rialto.state()").await
    }

    pub(crate) async fn id(&self) -> String {
        self.until("an id", async |person| person.state().await["id"].as_str().map(str::to_owned))
            .await
    }

    /// ICE user name fragment of the bridge.
    pub(crate) async fn ufrag(&self) -> Option<String> {
        self.state().await["ufrag"].as_str().map(str::to_owned)
    }

    pub(crate) async fn connected(&self) -> bool {
        self.state().await["connection"] == "connected"
    }

    /// One of the figures that the page measures.
    pub(crate) async fn figure(&self, name: &str) -> Option<f64> {
        self.state().await["figures"][name].as_f64()
    }

    /// Runs a statement.
    pub(crate) async fn run(&self, script: &str) {
        self.eval(&format!("(({script}), null)")).await;
    }

    /// The value of an expression, awaited if it is a promise; null when it throws.
    pub(crate) async fn eval(&self, expression: &str) -> Value {
        self.focus().await;
        let script = format!(
            "const done = arguments[arguments.length - 1];
            (async () => {expression})().then((v) => done(v ?? null), (e) => done({{ problem: String(e) }}));"
        );
        self.client.execute_async(&script, Vec::new()).await.expect("the script runs")
    }

    /// Polls a condition.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        mut condition: impl AsyncFnMut(&Self) -> Option<T>,
    ) -> T {
        let start = Instant::now();
        loop {
            if let Some(value) = condition(self).await {
                return value;
            }
            if start.elapsed() > PATIENCE {
                let others = self.eval("judge.others()").await;
                let state = self.state().await;
                panic!("{} waited in vain for {what}: {others:#} {state:#}", self.look.name());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Writes a picture of the page once the bridge says who speaks and the plots have some past.
    pub(crate) async fn screenshot_when_speaker_is_known(&self, path: &str) {
        self.until("a speaker and plots", async |person| {
            let ready = "rialto.state().speaker !== null && performance.now() > 20000";
            (person.eval(ready).await == true).then_some(())
        })
        .await;
        let picture = self.client.screenshot().await.expect("a picture");
        std::fs::write(path, picture).expect("the picture is written");
    }
}

impl Look {
    /// Codecs shift colours a little.
    fn is_seen(&self, seen: &Value) -> bool {
        let near = |index: usize| {
            let value = seen["colour"][index].as_i64().unwrap_or(-1000);
            (value - i64::from(self.colour[index])).abs() < 40
        };
        seen["number"] == self.number && (0..3).all(near)
    }

    /// A bin of the spectrum is 12 Hz wide.
    fn is_heard(&self, heard: &Value) -> bool {
        heard["hz"].as_f64().is_some_and(|hz| (hz - f64::from(self.tone)).abs() < 24.0)
    }
}
