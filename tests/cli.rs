//! The command as a process: its output and its exit codes.

use std::process::{Command, Output};

fn rialto(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rialto"))
        .args(args)
        .env_remove("RUST_LOG")
        .env("JVB_TEST_PORT", "20000")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file of this text, in a directory that ends with the test.
struct File(std::path::PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rialto-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// One line on stderr that holds `parts`, nothing on stdout, and this exit code.
fn one_line(output: &Output, code: i32, parts: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("rialto: "), "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{part} is not in {stderr}");
    }
    assert!(output.stdout.is_empty());
}

#[test]
fn no_command_prints_help() {
    let output = rialto(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("check-config"));
}

#[test]
fn version() {
    let output = rialto(&["version"]);
    assert_eq!(text(&output.stdout), format!("rialto {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn real_files_are_taken_unchanged() {
    for (file, expected) in [
        ("tests/data/config/debian-jvb.conf", "videobridge.stats.interval = 10 s "),
        ("tests/data/config/docker-jvb.conf", "static-mappings = [172.18.0.5 -> 203.0.113.20]"),
    ] {
        let output = rialto(&["check-config", file]);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{stderr}");
        assert!(stdout.contains(expected), "{stdout}");
        assert!(!stderr.contains("unknown key"), "{stderr}");
        assert!(!stdout.contains("s3cr3t") && !stderr.contains("s3cr3t"));
    }
}

#[test]
fn check_config_tells_values_and_origins() {
    let file = File::new(
        "origins.conf",
        "videobridge.ice.udp.port = ${JVB_TEST_PORT}\nvideobridge.stats.interval = 7 s\nvideobridge.stat = 1\n",
    );
    let output = rialto(&["check-config", file.path()]);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success());
    let line = |key: &str| {
        stdout.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{stdout}"))
    };
    assert!(line("videobridge.ice.udp.port = 20000 ").contains("# environment JVB_TEST_PORT, "));
    assert!(line("videobridge.stats.interval = 7 s ").ends_with("origins.conf:2"));
    assert!(line("rialto.shards = 0 (one per core) ").ends_with("# default"));
    assert!(stderr.starts_with("warning: ") && stderr.contains("unknown key videobridge.stat"));
}

#[test]
fn a_mistake_in_the_configuration_is_one_line_and_78() {
    let file = File::new("mistake.conf", "\nvideobridge.ice.udp.port = many\n");
    let parts = ["mistake.conf:2: videobridge.ice.udp.port: needs a whole number", "'many'"];
    one_line(&rialto(&["check-config", file.path()]), 78, &parts);
    let file = File::new("open.conf", "videobridge {\n");
    one_line(&rialto(&["check-config", file.path()]), 78, &["open.conf:1: ", "never closed"]);
    one_line(
        &rialto(&["check-config", "/nonexistent.conf"]),
        78,
        &["cannot read /nonexistent.conf"],
    );
}
