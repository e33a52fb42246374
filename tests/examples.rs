//! What is in `examples/` does what it says. `tests/browser` runs the listener.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use yaml_rust2::{Yaml, YamlLoader};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `rialto dev`, which ends with this value, and its address.
struct Dev(Child, String);

impl Dev {
    fn start(token: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rialto"))
            .args(["dev", "--port", "0", "--udp-port", "0", "--shards", "1"])
            .env("RIALTO_HTTP_TOKEN", token)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self(child, line.trim_end().trim_end_matches('/').to_owned())
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn colibri2(address: &str, token: &str) -> Output {
    Command::new(root().join("examples/colibri2.sh"))
        .arg(address)
        .env("RIALTO_HTTP_TOKEN", token)
        .output()
        .unwrap()
}

#[test]
fn the_script_makes_a_conference_looks_at_it_and_ends_it() {
    for token in ["", "a-token-of-this-test"] {
        let dev = Dev::start(token);
        let output = colibri2(&dev.1, token);
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{said}");
        let steps: Vec<&str> = said.split("\n== ").collect();
        assert_eq!(steps.len(), 7, "{said}");
        for (step, parts) in [
            (1, &["\"ufrag\"", "\"candidates\"", "\"fingerprint\""][..]),
            (2, &["\"ufrag\""]),
            (4, &["\"endpoints\":2", "\"id\":\"alice\"", "\"id\":\"bob\""]),
            (6, &["error: 404"]),
        ] {
            for part in parts {
                assert!(steps[step].to_lowercase().contains(part), "{part}: {}", steps[step]);
            }
        }
        assert!(token.is_empty() || !said.contains(token));
    }
}

#[test]
fn the_script_fails_where_the_bridge_refuses() {
    let dev = Dev::start("a-token-of-this-test");
    let output = colibri2(&dev.1, "guess");
    assert!(!output.status.success());
    assert!(text(&output.stdout).contains("A token is needed"), "{}", text(&output.stdout));
    assert!(!colibri2("http://127.0.0.1:1", "").status.success());
}

fn compose() -> Yaml {
    let text = fs::read_to_string(root().join("examples/docker-compose/compose.yml")).unwrap();
    YamlLoader::load_from_str(&text).unwrap().remove(0)
}

fn example_variables() -> BTreeMap<String, String> {
    let text = fs::read_to_string(root().join("examples/docker-compose/.env.example")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let pairs = lines.map(|line| line.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// All texts of a document.
fn texts(yaml: &Yaml, found: &mut Vec<String>) {
    match yaml {
        Yaml::Hash(pairs) => pairs.values().for_each(|value| texts(value, found)),
        Yaml::Array(values) => values.iter().for_each(|value| texts(value, found)),
        Yaml::String(text) => found.push(text.clone()),
        _ => {}
    }
}

/// `text` with each `${NAME:-default}` and `${NAME:?message}` replaced.
fn filled(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut parts = text.split("${");
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        let (expression, rest) = part.split_once('}').unwrap();
        let (name, otherwise) = expression.split_once(':').unwrap();
        let given = variables.get(name).filter(|value| !value.is_empty());
        let value = match (given, otherwise.strip_prefix('-')) {
            (Some(value), _) => value.clone(),
            (None, Some(default)) => default.to_owned(),
            (None, None) => panic!("{name} has no value: {otherwise}"),
        };
        out = format!("{out}{value}{rest}");
    }
    out
}

fn names_in(text: &str) -> impl Iterator<Item = &str> {
    text.split("${").skip(1).filter_map(|part| part.split([':', '}']).next())
}

#[test]
fn the_composition_is_whole() {
    let compose = compose();
    let services = compose["services"].as_hash().unwrap();
    let names: Vec<&str> = services.keys().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(names, ["web", "prosody", "jicofo", "jvb"]);
    for (name, service) in services {
        let name = name.as_str().unwrap();
        assert!(service["image"].as_str().is_some(), "{name}");
        for other in service["depends_on"].as_vec().into_iter().flatten() {
            assert!(names.contains(&other.as_str().unwrap()), "{name} waits for {other:?}");
        }
        for volume in service["volumes"].as_vec().into_iter().flatten() {
            let volume = volume.as_str().unwrap().split(':').next().unwrap();
            assert!(!compose["volumes"][volume].is_badvalue(), "{name}: {volume}");
        }
    }
    let build = &compose["services"]["jvb"]["build"];
    let context = root().join("examples/docker-compose").join(build["context"].as_str().unwrap());
    assert!(context.join(build["dockerfile"].as_str().unwrap()).exists());
    // Whoever asks for health or figures in there is on no other machine.
    let ports = compose["services"]["jvb"]["ports"].as_vec().unwrap();
    assert!(ports.iter().any(|port| port.as_str() == Some("127.0.0.1:8080:8080")));
    // The two files name the same variables.
    let mut found = Vec::new();
    texts(&compose, &mut found);
    let used: std::collections::BTreeSet<&str> = found.iter().flat_map(|t| names_in(t)).collect();
    let variables = example_variables();
    let explained: std::collections::BTreeSet<&str> =
        variables.keys().map(String::as_str).collect();
    assert_eq!(used, explained);
    // Both sides of a login have the same password.
    let of = |service: &str, name: &str| compose["services"][service]["environment"][name].clone();
    assert_eq!(of("jvb", "JVB_AUTH_PASSWORD"), of("prosody", "JVB_AUTH_PASSWORD"));
    assert_eq!(of("jvb", "JVB_AUTH_USER"), of("prosody", "JVB_AUTH_USER"));
    assert_eq!(of("jicofo", "JICOFO_AUTH_PASSWORD"), of("prosody", "JICOFO_AUTH_PASSWORD"));
    let aliases = &compose["services"]["prosody"]["networks"]["meet"]["aliases"];
    assert_eq!(aliases[0].as_str(), of("jvb", "XMPP_SERVER").as_str());
}

/// A file that ends with the test.
struct File(PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The environment of a service, where `.env` is filled in.
fn environment_of(service: &str) -> Vec<(String, String)> {
    let mut variables = example_variables();
    for (name, value) in &mut variables {
        if value.is_empty() {
            let is_address = name == "JVB_ADVERTISE_IPS";
            let given = if is_address { "192.0.2.10" } else { "a-secret-of-this-test" };
            given.clone_into(value);
        }
    }
    let compose = compose();
    let environment = compose["services"][service]["environment"].as_hash().unwrap();
    environment
        .iter()
        .map(|(name, value)| {
            (name.as_str().unwrap().to_owned(), filled(value.as_str().unwrap(), &variables))
        })
        .collect()
}

#[test]
fn the_bridge_of_the_composition_takes_its_environment() {
    let environment = environment_of("jvb");
    let rialto = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rialto"));
        command.args(args).env_clear().envs(environment.iter().cloned()).output().unwrap()
    };
    let rendered = rialto(&["container", "--print"]);
    assert!(rendered.status.success(), "{}", text(&rendered.stderr));
    let file =
        File(std::env::temp_dir().join(format!("rialto-compose-{}.conf", std::process::id())));
    fs::write(&file.0, &rendered.stdout).unwrap();
    let checked = rialto(&["check-config", file.0.to_str().unwrap()]);
    let (said, complaints) = (text(&checked.stdout), text(&checked.stderr));
    assert!(checked.status.success(), "{complaints}");
    assert!(!complaints.contains("unknown key"), "{complaints}");
    for line in [
        "shard0.HOSTNAME = xmpp.meet.jitsi ",
        "shard0.USERNAME = jvb ",
        "udp.port = 10000 ",
        "192.0.2.10",
        "stun.addresses = [] ",
        "websockets.enabled = false ",
        "sctp.enabled = true ",
        "rialto.sigterm-drain = 10 min ",
        "rialto.http.token = ",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(!said.contains("a-secret-of-this-test"), "{said}");
}

/// A Prosody with the domains that Jitsi's image makes when nothing else is said, on loopback.
struct Prosody {
    directory: PathBuf,
    child: Option<Child>,
    port: u16,
}

impl Prosody {
    /// `None`, and a line why, where there is no Prosody.
    fn start(user: &str, password: &str) -> Option<Self> {
        if Command::new("prosodyctl").arg("about").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "CI needs prosody (apt-get install prosody)");
            eprintln!("SKIPPED: prosody is not installed (apt-get install prosody)");
            return None;
        }
        let directory = std::env::temp_dir().join(format!("rialto-compose-{}", std::process::id()));
        for part in ["data", "certs"] {
            fs::create_dir_all(directory.join(part)).unwrap();
        }
        // Prosody finds it by its name. The image makes one as well.
        let pair = rcgen::generate_simple_self_signed(["auth.meet.jitsi".to_owned()]).unwrap();
        for (kind, pem) in [("crt", pair.cert.pem()), ("key", pair.signing_key.serialize_pem())] {
            fs::write(directory.join(format!("certs/auth.meet.jitsi.{kind}")), pem).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut prosody = Self { directory, child: None, port };
        let dir = prosody.directory.display();
        let text = format!(
            r#"
run_as_root = true
pidfile = "{dir}/prosody.pid"
data_path = "{dir}/data"
certificates = "{dir}/certs"
log = {{ debug = "{dir}/prosody.log" }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
c2s_direct_tls_ports = {{}}
modules_enabled = {{ "disco", "tls", "saslauth", "ping", "smacks" }}
modules_disabled = {{ "s2s", "offline" }}
authentication = "internal_hashed"
VirtualHost "auth.meet.jitsi"
    disco_items = {{ {{ "internal-muc.meet.jitsi", "rooms of bridges" }} }}
Component "internal-muc.meet.jitsi" "muc"
    storage = "memory"
    muc_room_locking = false
    muc_room_default_public_jids = true
"#
        );
        fs::write(prosody.configuration(), text).unwrap();
        for args in [&["check", "config"][..], &["register", user, "auth.meet.jitsi", password]] {
            let mut control = Command::new("prosodyctl");
            let output =
                control.arg("--config").arg(prosody.configuration()).args(args).output().unwrap();
            assert!(output.status.success(), "{args:?}: {}", text_of(&output));
        }
        let mut server = Command::new("prosody");
        server.arg("--config").arg(prosody.configuration()).arg("-F").stdin(Stdio::null());
        prosody.child = Some(server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "prosody does not listen");
            std::thread::yield_now();
        }
        Some(prosody)
    }

    fn configuration(&self) -> PathBuf {
        self.directory.join("prosody.cfg.lua")
    }
}

impl Drop for Prosody {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Longer than any machine takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn text_of(output: &Output) -> String {
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_bridge_of_the_composition_joins_the_room_where_a_focus_looks_for_it() {
    let server = environment_of("prosody");
    let of = |name: &str| server.iter().find(|(known, _)| known == name).unwrap().1.clone();
    let (user, password) = (of("JVB_AUTH_USER"), of("JVB_AUTH_PASSWORD"));
    let Some(prosody) = Prosody::start(&user, &password) else { return };
    // What a test shares with the rest of its machine: ports.
    let custom = prosody.directory.join("config");
    fs::create_dir_all(&custom).unwrap();
    let ports =
        "videobridge { ice.udp.port = 0, http-servers.private { host = 127.0.0.1, port = 0 } }\n";
    fs::write(custom.join("custom-jvb.conf"), ports).unwrap();
    let mut bridge = Command::new(env!("CARGO_BIN_EXE_rialto"))
        .arg("container")
        .env_clear()
        .envs(environment_of("jvb"))
        .env("XMPP_SERVER", format!("127.0.0.1:{}", prosody.port))
        .env("CONFIG_DIR", &custom)
        .env("RUN_DIR", prosody.directory.join("run"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut log, mut joined) = (String::new(), false);
    for line in BufReader::new(bridge.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        joined = line.contains("XMPP: joined the room")
            && line.contains("jvbbrewery@internal-muc.meet.jitsi");
        log.push_str(&line);
        log.push('\n');
        if joined || line.contains("XMPP: ") && line.contains("WARN") {
            break;
        }
    }
    let _ = bridge.kill();
    let _ = bridge.wait();
    assert!(joined, "{log}");
}
