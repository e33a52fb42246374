//! `jmt.debug.pcap`: captures of packets.

use std::path::PathBuf;

use super::reader::Reader;

/// Whether packets may be captured, and where to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Capture {
    /// `enabled`: they may be. false.
    pub allowed: bool,
    /// `start-enabled`: from every endpoint's beginning. false.
    pub from_start: bool,
    /// `directory`: for the files. `/tmp`.
    pub directory: PathBuf,
}

impl Default for Capture {
    fn default() -> Self {
        Self { allowed: false, from_start: false, directory: PathBuf::from("/tmp") }
    }
}

/// Fills `c`, which holds the defaults.
pub(super) fn read(r: &mut Reader<'_>, c: &mut Capture) {
    r.boolean("jmt.debug.pcap.enabled", &mut c.allowed);
    r.boolean("jmt.debug.pcap.start-enabled", &mut c.from_start);
    let mut directory = c.directory.display().to_string();
    r.text("jmt.debug.pcap.directory", &mut directory, "a directory", |text| {
        (1..=1024).contains(&text.len()) && !text.contains(char::is_control)
    });
    c.directory = directory.into();
}
