//! `jmt.debug.pcap`: packet captures.

use std::path::PathBuf;

use super::reader::Reader;

/// Whether packet captures are allowed, and where their files go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Capture {
    /// `enabled`: captures are allowed. false.
    pub allowed: bool,
    /// `start-enabled`: capture every endpoint from its start. false.
    pub from_start: bool,
    /// `directory` of the files. Default: the first of the service's state directories (`STATE_DIRECTORY`,
    /// which systemd sets for `StateDirectory=`), or `/tmp`, as in JVB, if there is none.
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
    // A service may have a private `/tmp` (`PrivateTmp=`), where nobody would find the files.
    let state = r.environment("STATE_DIRECTORY").unwrap_or_default();
    if let Some(first) =
        state.split(':').next().filter(|first| is_path(first) && first.starts_with('/'))
    {
        c.directory = first.into();
    }
    let mut directory = c.directory.display().to_string();
    r.text("jmt.debug.pcap.directory", &mut directory, "a directory", is_path);
    c.directory = directory.into();
}

fn is_path(text: &str) -> bool {
    (1..=1024).contains(&text.len()) && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        path::{Path, PathBuf},
    };

    use rialto_hocon::Source;

    use crate::config::load;

    /// A configuration file, and the service's `STATE_DIRECTORY`.
    struct Service(&'static str, Option<&'static str>);

    impl Source for Service {
        fn read(&self, path: &Path) -> io::Result<String> {
            let here = path == Path::new("jvb.conf");
            if here { Ok(self.0.to_owned()) } else { Err(io::ErrorKind::NotFound.into()) }
        }

        fn env(&self, name: &str) -> Option<String> {
            self.1.filter(|_| name == "STATE_DIRECTORY").map(str::to_owned)
        }
    }

    #[test]
    fn captures_go_to_the_state_directory_by_default() {
        let says = "jmt.debug.pcap.directory = /srv/captures";
        for (text, state, directory) in [
            ("", None, "/tmp"),
            ("", Some("/var/lib/rialto"), "/var/lib/rialto"),
            ("", Some("/var/lib/rialto:/var/lib/other"), "/var/lib/rialto"),
            ("", Some(""), "/tmp"),
            ("", Some("relative"), "/tmp"),
            (says, Some("/var/lib/rialto"), "/srv/captures"),
            (says, None, "/srv/captures"),
        ] {
            let loaded = load(Some(Path::new("jvb.conf")), &[], &Service(text, state)).unwrap();
            assert_eq!(loaded.config.capture.directory, PathBuf::from(directory), "{state:?}");
        }
    }
}
