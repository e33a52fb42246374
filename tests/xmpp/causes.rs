//! Why there is no connection: what is told to the operator of each cause. And every way to log in
//! that there is.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
};

use rialto::{
    config::{XmppClient, XmppSecurity},
    xmpp::client::{Cause, probe},
};

use super::{
    focus::ROOM,
    here::client,
    prosody::{DOMAIN, PASSWORD, PATIENCE, Prosody, free_port},
};

/// Another domain of the same server, for which its certificate is not.
const OTHER: &str = "other.jitsi.local";

const MECHANISMS: [&str; 3] = ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"];

/// A server that offers one mechanism only.
fn only(mechanism: &str, more: &str) -> Option<Prosody> {
    let plus = ["SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"];
    let others = MECHANISMS.into_iter().filter(|other| *other != mechanism).chain(plus);
    let others: Vec<String> = others.map(|other| format!("\"{other}\"")).collect();
    Prosody::start(&format!("disable_sasl_mechanisms = {{ {} }}\n{more}", others.join(", ")))
}

fn with(port: u16, change: impl FnOnce(&mut XmppClient)) -> XmppClient {
    let mut client = client(port);
    change(&mut client);
    client
}

#[tokio::test]
async fn every_mechanism_logs_in_with_the_right_password_only() {
    for mechanism in MECHANISMS {
        let Some(prosody) = only(mechanism, "") else { return };
        let port = prosody.port();
        for security in [XmppSecurity::Required, XmppSecurity::IfPossible, XmppSecurity::Disabled] {
            let jid = probe(&with(port, |client| client.security = security)).await;
            let jid = jid.unwrap_or_else(|cause| panic!("{mechanism} {security:?}: {cause}"));
            assert!(jid.starts_with(&format!("jvb@{DOMAIN}/")), "{jid}");
        }
        let wrong = with(port, |client| client.password = rialto::config::Secret::new("guess"));
        assert_eq!(probe(&wrong).await, Err(Cause::Credentials), "{mechanism}");
        let nobody = with(port, |client| client.username = "nobody".to_owned());
        assert_eq!(probe(&nobody).await, Err(Cause::Credentials), "{mechanism}");
    }
}

#[tokio::test]
async fn tls_is_used_as_it_is_configured() {
    use XmppSecurity::{Disabled, IfPossible, Required};
    let Some(without) = Prosody::start("modules_disabled = { \"s2s\", \"offline\", \"tls\" }")
    else {
        return;
    };
    let log_in = |prosody: &Prosody, security| {
        let client = with(prosody.port(), |client| client.security = security);
        async move { probe(&client).await }
    };
    assert_eq!(log_in(&without, Required).await, Err(Cause::NoTls));
    for security in [IfPossible, Disabled] {
        log_in(&without, security).await.unwrap();
    }
    let Some(demanding) = Prosody::start("c2s_require_encryption = true") else { return };
    for security in [Required, IfPossible] {
        log_in(&demanding, security).await.unwrap();
    }
    let refused = log_in(&demanding, Disabled).await;
    assert!(matches!(refused, Err(Cause::NoMechanism(_))), "{refused:?}");
    // Nobody on the way can make a password readable by taking TLS away.
    let Some(plain) = only("PLAIN", "modules_disabled = { \"s2s\", \"offline\", \"tls\" }") else {
        return;
    };
    let refused = log_in(&plain, IfPossible).await;
    assert!(matches!(refused, Err(Cause::NoMechanism(_))), "{refused:?}");
    log_in(&plain, Disabled).await.unwrap();
}

/// The bridge's process, and what it says.
struct Run {
    child: Child,
    lines: Receiver<String>,
    config: PathBuf,
}

impl Run {
    /// Starts it with sections of clients. The certificate of `trusted` is what the system trusts.
    fn start(sections: &str, trusted: &Prosody) -> Self {
        let config = std::env::temp_dir().join(format!("rialto-causes-{}.conf", trusted.port()));
        let text = format!(
            "videobridge {{\n ice.udp.port = 0\n http-servers.private.port = -1\n\
             apis.xmpp-client.configs {{\n{sections}\n}}\n}}\nrialto.shards = 1\n"
        );
        fs::write(&config, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_rialto"))
            .args(["run", "--config", config.to_str().unwrap()])
            .env("SSL_CERT_FILE", trusted.certificate())
            .env_remove("SSL_CERT_DIR")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        let (line, lines) = mpsc::channel();
        thread::spawn(move || {
            for said in said.lines() {
                let Ok(said) = said else { return };
                if line.send(said).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, config }
    }

    /// Waits until each of `expected` is in a line, all parts in the same one. Gives all lines.
    fn says(&self, expected: &[&[&str]]) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        let has = |lines: &[String], parts: &[&str]| {
            lines.iter().any(|line| parts.iter().all(|part| line.contains(part)))
        };
        while let Some(missing) = expected.iter().find(|parts| !has(&lines, parts)) {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("{missing:?} is not in {lines:#?}");
            };
            lines.push(line);
        }
        lines
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.config);
    }
}

/// A section of the configuration: the right one, with changes.
fn section(id: &str, port: u16, changes: &[(&str, &str)]) -> String {
    let port = port.to_string();
    let mut keys = vec![
        ("HOSTNAME", "127.0.0.1"),
        ("PORT", &port),
        ("DOMAIN", DOMAIN),
        ("USERNAME", "jvb"),
        ("PASSWORD", PASSWORD),
        ("MUC_JIDS", ROOM),
        ("MUC_NICKNAME", id),
    ];
    for (key, value) in changes {
        keys.retain(|(name, _)| name != key);
        if !value.is_empty() {
            keys.push((key, value));
        }
    }
    let lines: Vec<String> =
        keys.iter().map(|(key, value)| format!("{key} = \"{value}\"")).collect();
    format!("{id} {{\n{}\n}}\n", lines.join("\n"))
}

#[test]
fn every_cause_has_a_line_of_its_own() {
    let Some(trusted) = Prosody::start(&format!("VirtualHost \"{OTHER}\"")) else { return };
    let Some(stranger) = Prosody::start("") else { return };
    let nobody = free_port();
    let (port, other) = (trusted.port(), stranger.port());
    let sections = [
        section("good", port, &[]),
        section("refused", nobody, &[]),
        section("lookup", port, &[("HOSTNAME", "no..host")]),
        section("untrusted", other, &[]),
        section("unchecked", other, &[("DISABLE_CERTIFICATE_VERIFICATION", "true")]),
        section("misnamed", port, &[("DOMAIN", OTHER)]),
        section("password", port, &[("PASSWORD", "hunter2")]),
        section("host", port, &[("DOMAIN", "nowhere.example")]),
        section("twin", port, &[("USERNAME", "focus"), ("MUC_NICKNAME", "good")]),
        section("incomplete", port, &[("MUC_NICKNAME", ""), ("PASSWORD", "")]),
    ];
    let bridge = Run::start(&sections.concat(), &trusted);
    let lines = bridge.says(&[
        &["client=\"refused\"", "cannot connect", "refused"],
        &["client=\"lookup\"", "no address"],
        &["client=\"untrusted\"", "TLS failed", "self-signed", "DISABLE_CERTIFICATE_VERIFICATION"],
        &["client=\"unchecked\"", "XMPP: logged in"],
        &["client=\"misnamed\"", "TLS failed", OTHER, "of another name"],
        &["client=\"password\"", "wrong user name or password"],
        &["client=\"host\"", "host-unknown"],
        &["the nickname is in use"],
        &["XMPP: joined the room", "nick=\"good\""],
        &["configs.incomplete", "PASSWORD, MUC_NICKNAME"],
    ]);
    let said = lines.join("\n");
    assert!(!said.contains("hunter2") && !said.contains(PASSWORD), "{said}");
}
