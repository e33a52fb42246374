//! `rialto check-config --connect` at a real server.

use std::{fs, process::Command};

use super::prosody::{DOMAIN, PASSWORD, Prosody, SECRET};

/// Exit status and output.
fn check(prosody: &Prosody, component: u16, password: &str, secret: &str) -> (Option<i32>, String) {
    let path = std::env::temp_dir().join(format!("rialto-check-{}.conf", prosody.port()));
    let text = format!(
        "videobridge {{\n ice.udp.port = 0\n http-servers.private.port = 0\n\
         apis.xmpp-client.configs.shard {{\n hostname = 127.0.0.1\n port = {}\n domain = {DOMAIN}\n\
         username = jvb\n password = \"{password}\"\n muc_jids = \"brewery@internal.{DOMAIN}\"\n\
         muc_nickname = one\n disable_certificate_verification = true\n }}\n\
         apis.xmpp-component {{ enabled = true, host = 127.0.0.1, port = {component}, domain = {DOMAIN}, secret = \"{secret}\" }}\n}}\n",
        prosody.port()
    );
    fs::write(&path, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_rialto"))
        .args(["check-config", "--connect", path.to_str().unwrap()])
        .output()
        .unwrap();
    fs::remove_file(&path).unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn servers_are_asked_whether_they_let_the_bridge_in() {
    let Some((prosody, component)) = Prosody::with_component() else { return };
    let (code, said) = check(&prosody, component, PASSWORD, SECRET);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("server:  ok      shard: 127.0.0.1:"), "{said}");
    assert!(said.contains("lets the component jitsi-videobridge.auth.jitsi.local in"), "{said}");
    assert!(!said.contains(PASSWORD) && !said.contains(SECRET), "{said}");
    let (code, said) = check(&prosody, component, "guessed", SECRET);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("wrong user name or password"), "{said}");
    let (code, said) = check(&prosody, component, PASSWORD, "guessed");
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("refused the secret"), "{said}");
}
