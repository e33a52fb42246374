//! `rialto dev` as a child process.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

/// A running bridge; it ends with this value.
pub struct Bridge {
    child: Child,
    base: String,
}

impl Bridge {
    /// Starts one on free ports and waits for the line with its address. `RIALTO_BIN` names another
    /// program than the tests' own build, such as a release build.
    pub fn start(shards: u16) -> Self {
        let shards = shards.to_string();
        let mut child = Command::new(
            std::env::var("RIALTO_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_rialto").to_owned()),
        )
        .args(["dev", "--bind", "127.0.0.1", "--port", "0", "--udp-port", "0"])
        .args(["--shards", &shards])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("rialto starts");
        let stdout = child.stdout.take().expect("a pipe");
        let mut lines = BufReader::new(stdout).lines();
        let base = loop {
            let line = lines.next().expect("rialto dev prints its address").expect("text");
            if let Some(start) = line.find("http://") {
                let url = line[start..].split_whitespace().next().unwrap_or_default();
                break url.trim_end_matches('/').to_owned();
            }
        };
        // Whatever else is printed is read, so that the bridge never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, base }
    }

    /// The address of a room.
    pub fn url(&self, room: &str) -> String {
        format!("{}/{room}", self.base)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
