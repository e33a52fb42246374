//! Chromium under chromedriver.

use std::{
    fs,
    net::TcpListener,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use axum::http::Method;
use fantoccini::{
    Client, ClientBuilder,
    wd::{WebDriverCompatibleCommand, WindowHandle},
};
use hyper_util::client::legacy::connect::HttpConnector;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};
use url::{ParseError, Url};

use super::PATIENCE;

/// One browser at a time: these tests measure nothing, but they take a core each.
pub(crate) async fn serially() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

/// A browser with one window for each participant.
pub(crate) struct Chromium {
    pub(crate) client: Client,
    driver: Driver,
}

struct Driver(Child);

impl Drop for Driver {
    fn drop(&mut self) {
        // Asked, it ends its browser too, unless it is pressed for time; killed, it leaves that behind.
        let browsers = children(self.0.id());
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        for _ in 0..30 {
            if let Ok(Some(_)) = self.0.try_wait() {
                break;
            }
            thread::sleep(Duration::from_millis(100));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
        for browser in browsers {
            let _ = kill_process(browser, Signal::KILL);
        }
    }
}

/// What a process has started.
fn children(pid: u32) -> Vec<Pid> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let texts: Vec<String> = lists.collect();
    let pids = texts.iter().flat_map(|list| list.split_whitespace());
    pids.filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

const FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--allow-loopback-in-peer-connection",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-networking",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--mute-audio",
    "--window-size=1280,800",
];

/// Where a browser runs, and what it is told besides.
#[derive(Default)]
pub(crate) struct Setup<'a> {
    /// The network namespace that it runs in, and the port of loopback on which connections to
    /// port 9515 of loopback in there are taken.
    pub(crate) namespace: Option<(&'a str, u16)>,
    /// The origin that counts as secure, although it is neither loopback nor HTTPS.
    pub(crate) secure: Option<&'a str>,
}

/// Where chromedriver listens in a namespace of its own.
pub(crate) const NAMESPACE_PORT: u16 = 9515;

impl Chromium {
    /// A browser, or `None` where there is none to be had. In CI (`CI=true`) that is a failure.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_with(Setup::default()).await
    }

    /// A browser that is set up so.
    pub(crate) async fn start_with(setup: Setup<'_>) -> Option<Self> {
        match Self::try_start(setup).await {
            Ok(chromium) => Some(chromium),
            Err(problem) => {
                let ci = std::env::var("CI").is_ok_and(|ci| ci == "true" || ci == "1");
                assert!(!ci, "no browser: {problem}");
                eprintln!(
                    "SKIPPED, no browser: {problem} (apt-get install chromium chromium-driver)"
                );
                None
            }
        }
    }

    async fn try_start(setup: Setup<'_>) -> Result<Self, String> {
        let (mut command, listens, port) = if let Some((name, relay)) = setup.namespace {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", name, "chromedriver"]);
            (command, NAMESPACE_PORT, relay)
        } else {
            let port = TcpListener::bind("127.0.0.1:0")
                .and_then(|listener| listener.local_addr())
                .map_err(|error| error.to_string())?
                .port();
            (Command::new("chromedriver"), port, port)
        };
        let driver = command
            .arg(format!("--port={listens}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("chromedriver: {error}"))?;
        let driver = Driver(driver);
        let mut flags: Vec<String> = FLAGS.iter().map(|&flag| flag.to_owned()).collect();
        let secure = setup.secure;
        flags.extend(secure.map(|at| format!("--unsafely-treat-insecure-origin-as-secure={at}")));
        let capabilities = json!({
            "goog:chromeOptions": { "args": flags },
            "goog:loggingPrefs": { "browser": "ALL" },
            "timeouts": { "script": 30_000 },
        });
        let Value::Object(capabilities) = capabilities else { return Err("no object".into()) };
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities);
        let start = Instant::now();
        loop {
            match builder.connect(&format!("http://127.0.0.1:{port}")).await {
                Ok(client) => return Ok(Self { client, driver }),
                Err(error) if start.elapsed() > PATIENCE => return Err(error.to_string()),
                // chromedriver is not listening yet.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Opens a window in which `script` runs before any page's own.
    pub(crate) async fn open(&self, url: &str, script: &str) -> WindowHandle {
        let window = self.client.new_window(false).await.expect("a window").handle;
        self.client.switch_to_window(window.clone()).await.expect("the window");
        let preload =
            DevTools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script }));
        self.client.issue_cmd(preload).await.expect("a script before the page's");
        self.client.goto(url).await.expect("the page");
        window
    }

    /// Ends the browser.
    pub(crate) async fn stop(self) {
        let _ = self.client.close().await;
        drop(self.driver);
    }
}

/// A command of the DevTools protocol, as chromedriver takes it.
#[derive(Debug)]
pub(crate) struct DevTools(pub &'static str, pub Value);

impl WebDriverCompatibleCommand for DevTools {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/goog/cdp/execute", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(json!({ "cmd": self.0, "params": self.1 }).to_string()))
    }
}
