//! A Prosody of its own for a test: on loopback, with a directory that goes when it does.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Longer than any machine takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The domain of accounts.
pub(crate) const DOMAIN: &str = "auth.jitsi.local";
/// The bridge, as a component.
pub(crate) const COMPONENT: &str = "jitsi-videobridge.auth.jitsi.local";
/// Its secret.
pub(crate) const SECRET: &str = "s3cr3t";
/// A pubsub service.
pub(crate) const PUBSUB: &str = "pubsub.auth.jitsi.local";
/// The node where bridges publish.
pub(crate) const NODE: &str = "sharedStatsNode";
/// Passwords of all accounts.
pub(crate) const PASSWORD: &str = "correct horse";

/// A port that nobody has.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server.
pub(crate) struct Prosody {
    dir: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Prosody {
    /// Starts one; `None`, and a line why, where there is no Prosody. `more` is global configuration.
    pub(crate) fn start(more: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if Command::new("prosodyctl")
            .arg("about")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_err()
        {
            assert!(std::env::var_os("CI").is_none(), "CI needs prosody (apt-get install prosody)");
            eprintln!("SKIPPED: prosody is not installed (apt-get install prosody)");
            return None;
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("rialto-prosody-{}-{count}", std::process::id()));
        fs::create_dir_all(dir.join("data")).unwrap();
        let port = free_port();
        let mut prosody = Self { dir, port, child: None };
        prosody.configure(more);
        for user in ["jvb", "focus", "client", "client1", "client2"] {
            prosody.account(user);
        }
        prosody.launch();
        Some(prosody)
    }

    /// One with a place for a component, and a pubsub service. Gives its port for components as well.
    pub(crate) fn with_component() -> Option<(Self, u16)> {
        let port = free_port();
        let prosody = Self::start(&format!(
            r#"
component_ports = {{ {port} }}
component_interfaces = {{ "127.0.0.1" }}
Component "{COMPONENT}"
    component_secret = "{SECRET}"
Component "{PUBSUB}" "pubsub"
    admins = {{ "{COMPONENT}" }}
"#
        ))?;
        Some((prosody, port))
    }

    /// Where clients connect.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Its certificate, which it has signed itself.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.join("certificate.pem")
    }

    /// Stops it, as a crash would.
    pub(crate) fn kill(&mut self) {
        if self.child.is_some() {
            self.signal("KILL");
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// While it is down: it has no pubsub nodes any more.
    #[allow(dead_code, reason = "for tests of the component")]
    pub(crate) fn forget_nodes(&self) {
        let name = PUBSUB.replace('.', "%2e");
        let _ = fs::remove_dir_all(self.dir.join("data").join(name));
    }

    /// Starts it again.
    pub(crate) fn launch(&mut self) {
        let child = Command::new("prosody")
            .args(["--config", self.dir.join("prosody.cfg.lua").to_str().unwrap()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(start.elapsed() < PATIENCE, "{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it wrote.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("prosody.log")).unwrap_or_default()
    }

    fn account(&self, user: &str) {
        let accounts = self.dir.join("data/auth%2ejitsi%2elocal/accounts");
        fs::create_dir_all(&accounts).unwrap();
        let text = format!("return {{ [\"password\"] = \"{PASSWORD}\" }};\n");
        fs::write(accounts.join(format!("{user}.dat")), text).unwrap();
    }

    fn configure(&self, more: &str) {
        // An authority, as `prosodyctl cert generate` makes them.
        let mut params = rcgen::CertificateParams::new(vec![DOMAIN.to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        fs::write(self.certificate(), params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(self.dir.join("key.pem"), key.serialize_pem()).unwrap();
        let show = |path: &Path| path.to_str().unwrap().to_owned();
        let text = format!(
            r#"
run_as_root = true
daemonize = false
pidfile = "{dir}/prosody.pid"
data_path = "{dir}/data"
log = {{ debug = "{dir}/prosody.log" }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
c2s_direct_tls_ports = {{}}
modules_enabled = {{ "disco", "tls", "saslauth", "ping", "smacks" }}
modules_disabled = {{ "s2s", "offline" }}
authentication = "internal_plain"
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
ssl = {{ certificate = "{dir}/certificate.pem", key = "{dir}/key.pem" }}
{more}
VirtualHost "{DOMAIN}"
Component "internal.{DOMAIN}" "muc"
    storage = "memory"
    muc_room_default_public_jids = true
"#,
            dir = show(&self.dir),
            port = self.port,
        );
        fs::write(self.dir.join("prosody.cfg.lua"), text).unwrap();
    }
}

impl Drop for Prosody {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("{}", self.log().lines().rev().take(60).collect::<Vec<_>>().join("\n"));
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}
