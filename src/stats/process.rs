//! The system's figures about this process.

use std::fs;

/// One reading of `/proc/self`; figures that the system does not provide are left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Process {
    /// Threads.
    pub threads: Option<u64>,
    /// Resident memory, bytes.
    pub resident_bytes: Option<u64>,
    /// Open files and sockets.
    pub open_files: Option<u64>,
}

impl Process {
    /// As it is now.
    pub fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| -> Option<u64> {
            let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
            rest.split_whitespace().next()?.parse().ok()
        };
        Self {
            threads: field("Threads:"),
            resident_bytes: field("VmRSS:").map(|kib| kib.saturating_mul(1024)),
            open_files: fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_tells_everything() {
        let process = Process::read();
        assert!(process.threads.is_some_and(|threads| threads > 0));
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 1 << 20));
        assert!(process.open_files.is_some_and(|files| files > 2));
    }
}
