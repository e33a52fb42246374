//! `rialto run` with a configuration of the test's own, watched from outside.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use crate::prosody::PATIENCE;

/// The process. It ends with the test.
pub(crate) struct Daemon {
    child: Child,
    file: PathBuf,
    log: Log,
    http: Option<String>,
}

/// What the process wrote so far.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Log {
    fn follow(&self, from: impl std::io::Read + Send + 'static) {
        let log = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                log.lines().push(line);
                log.0.1.notify_all();
            }
        });
    }

    /// A test that has failed still wants to see it.
    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All lines with all of these parts.
    pub(crate) fn with(&self, parts: &[&str]) -> Vec<String> {
        let all = self.lines();
        all.iter().filter(|line| parts.iter().all(|part| line.contains(part))).cloned().collect()
    }

    /// Everything.
    pub(crate) fn text(&self) -> String {
        self.lines().join("\n")
    }

    /// Waits for the `n`th line with all of these parts.
    pub(crate) fn wait(&self, n: usize, parts: &[&str]) -> String {
        let start = Instant::now();
        let mut all = self.lines();
        loop {
            let found = all.iter().filter(|line| parts.iter().all(|part| line.contains(part)));
            if let Some(line) = found.clone().nth(n - 1) {
                return line.clone();
            }
            let left = PATIENCE.saturating_sub(start.elapsed());
            assert!(!left.is_zero(), "no {parts:?} in\n{}", all.join("\n"));
            all = self.0.1.wait_timeout(all, left).unwrap().0;
        }
    }
}

/// What nearly every test wants.
pub(crate) const BASE: &str = "videobridge.ice.udp.port = 0\nvideobridge.http-servers.private.port = 0\n\
    videobridge.apis.rest.enabled = true\nice4j.harvest.allowed-addresses = [\"127.0.0.1\"]\n\
    ice4j.harvest.use-ipv6 = false\nrialto.shards = 1\n\
    videobridge.health.require-valid-address = false\n";

impl Daemon {
    /// Starts it and waits until it serves.
    pub(crate) fn start(conf: &str) -> Self {
        Self::start_with(conf, |command| {
            command.env("RUST_LOG", "info");
        })
    }

    /// The same, with a command that the test has changed, which still writes its log where it did.
    pub(crate) fn start_with(conf: &str, change: impl FnOnce(&mut Command)) -> Self {
        let mut daemon = Self::launch(conf, |command| {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            change(command);
        });
        daemon.log.follow(daemon.child.stderr.take().unwrap());
        daemon.log.follow(daemon.child.stdout.take().unwrap());
        let line = daemon.log.wait(1, &["serving"]);
        let (_, rest) = line.split_once("http=Some(").unwrap_or_else(|| panic!("{line}"));
        daemon.http = rest.split(')').next().map(str::to_owned);
        daemon
    }

    /// Starts it, and nothing more.
    pub(crate) fn launch(conf: &str, change: impl FnOnce(&mut Command)) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let file =
            std::env::temp_dir().join(format!("rialto-faults-{}-{count}.conf", std::process::id()));
        fs::write(&file, format!("{BASE}{conf}\n")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_rialto"));
        command.args(["run", "--config", file.to_str().unwrap()]).stdin(Stdio::null());
        change(&mut command);
        let child = command.spawn().unwrap();
        Self { child, file, log: Log::default(), http: None }
    }

    /// What it logs.
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Its process.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Where its HTTP server is.
    pub(crate) fn http(&self) -> &str {
        self.http.as_deref().unwrap()
    }

    /// Where it is, when the log cannot say so.
    pub(crate) fn set_http(&mut self, port: u16) {
        self.http = Some(format!("127.0.0.1:{port}"));
    }

    /// Status and body.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        request(self.http(), "GET", path, "")
    }

    /// Status and body.
    pub(crate) fn patch(&self, path: &str, body: &str) -> (u16, String) {
        request(self.http(), "PATCH", path, body)
    }

    /// Status and body.
    pub(crate) fn post(&self, path: &str, body: &str) -> (u16, String) {
        request(self.http(), "POST", path, body)
    }

    /// Creates a conference of so many endpoints.
    pub(crate) fn create(&self, meeting: &str, endpoints: usize) {
        for n in 0..endpoints {
            let (status, body) = self.add(meeting, n);
            assert_eq!(status, 200, "{body}");
        }
    }

    /// Adds the `n`th endpoint to a conference, which the first one creates.
    pub(crate) fn add(&self, meeting: &str, n: usize) -> (u16, String) {
        let endpoint = format!(
            r#""endpoints":[{{"id":"{n:08x}","create":true,"capabilities":["source-names"],
            "transport":{{"ice-controlling":true}},"medias":[{{"type":"audio",
            "payload-types":[{{"id":"111","name":"opus"}}]}}]}}]"#
        );
        if n == 0 {
            let request = format!(r#"{{"meeting-id":"{meeting}","create":true,{endpoint}}}"#);
            return self.post("/colibri/v2/conferences", &request);
        }
        self.patch(&format!("/colibri/v2/conferences/{meeting}"), &format!("{{{endpoint}}}"))
    }

    /// Ends one.
    pub(crate) fn expire(&self, meeting: &str) {
        let path = format!("/colibri/v2/conferences/{meeting}");
        let (status, body) = self.patch(&path, r#"{"expire":true}"#);
        assert_eq!(status, 200, "{body}");
    }

    /// Waits until it serves, whatever it logs.
    pub(crate) fn until_it_serves(&self) {
        let start = Instant::now();
        while TcpStream::connect(self.http()).is_err() {
            assert!(start.elapsed() < PATIENCE, "it does not serve");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// One number of `/metrics`.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics");
        let line =
            text.lines().find(|line| line.strip_prefix(name).is_some_and(|r| r.starts_with(' ')));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// Waits until `/metrics` say so.
    pub(crate) fn until(&self, name: &str, wanted: impl Fn(f64) -> bool) {
        let start = Instant::now();
        loop {
            let value = self.metric(name);
            if wanted(value) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{name} is {value}\n{}", self.log.text());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Threads, open files and resident kilobytes, as the system counts them.
    pub(crate) fn system(&self) -> (usize, usize, usize) {
        let pid = self.child.id();
        let count = |what| fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kilobytes = resident.trim().trim_end_matches(" kB").parse().unwrap();
        (count("task"), count("fd"), kilobytes)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// It is still there, and nothing in it has panicked.
    pub(crate) fn is_well(&mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "{}", self.log.text());
        assert_eq!(self.get("/about/version").0, 200);
        assert!(self.log.with(&["panicked"]).is_empty(), "{}", self.log.text());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.file);
        if std::thread::panicking() {
            let lines = self.log.text();
            eprintln!("{}", lines.lines().rev().take(60).collect::<Vec<_>>().join("\n"));
        }
    }
}

fn request(address: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// A client of a server that is here.
pub(crate) fn client_section(id: &str, port: u16, more: &str) -> String {
    format!(
        "videobridge.apis.xmpp-client.configs.{id} {{\nHOSTNAME = 127.0.0.1\nPORT = {port}\n\
         DOMAIN = auth.jitsi.local\nUSERNAME = jvb\nPASSWORD = \"{}\"\n\
         MUC_JIDS = \"{}\"\nMUC_NICKNAME = jvb-{id}\n\
         DISABLE_CERTIFICATE_VERIFICATION = true\n{more}\n}}\n",
        crate::prosody::PASSWORD,
        crate::fake::ROOM,
    )
}

/// A component of a server that is here.
pub(crate) fn component_section(port: u16, more: &str) -> String {
    format!(
        "videobridge.apis.xmpp-component {{ enabled = true, host = 127.0.0.1, port = {port}, \
         domain = {}, secret = \"{}\" }}\n{more}\n",
        crate::prosody::DOMAIN,
        crate::prosody::SECRET,
    )
}
