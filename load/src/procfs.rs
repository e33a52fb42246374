//! Reads `/proc`: CPU time, memory and threads of a process, and drops of sockets.

use std::{fs, time::Duration};

/// Clock ticks per second of `/proc/PID/stat`; 100 on every Linux platform that Rust supports.
const TICKS: u64 = 100;

/// A sample of a process.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct ProcessSample {
    /// CPU time in user mode since its start.
    pub user: Duration,
    /// CPU time in the kernel since its start.
    pub system: Duration,
    /// CPU time of its current threads, to the nanosecond, where the kernel provides it.
    pub run: Duration,
    /// Resident memory, bytes.
    pub resident: u64,
    /// Threads.
    pub threads: u64,
}

impl ProcessSample {
    /// User and system time. Ticks are truncated and ended threads are forgotten, so the larger
    /// value is closer.
    pub fn cpu(&self) -> Duration {
        self.run.max(self.user + self.system)
    }
}

/// Samples a process; `None` if it is gone, or a zombie.
pub fn process(pid: u32) -> Option<ProcessSample> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(ProcessSample { run: run_time(pid), ..parse_process(&stat, &status)? })
}

/// The first field of each thread's `schedstat`: nanoseconds on a processor.
fn run_time(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let read = |task: fs::DirEntry| fs::read_to_string(task.path().join("schedstat")).ok();
    tasks.filter_map(read).filter_map(|text| parse_schedstat(&text)).sum()
}

fn parse_schedstat(text: &str) -> Option<Duration> {
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

fn parse_process(stat: &str, status: &str) -> Option<ProcessSample> {
    let (state, user, system) = parse_stat(stat)?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_whitespace().next()?.parse().ok()
    };
    Some(ProcessSample {
        user,
        system,
        run: Duration::ZERO,
        resident: field("VmRSS").unwrap_or(0) * 1024,
        threads: field("Threads").unwrap_or(0),
    })
}

/// State, user and system time; the command name may hold spaces and parentheses.
fn parse_stat(stat: &str) -> Option<(&str, Duration, Duration)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    let mut fields = fields.skip(10);
    let mut ticks = || -> Option<Duration> {
        Some(Duration::from_millis(fields.next()?.parse::<u64>().ok()? * 1000 / TICKS))
    };
    Some((state, ticks()?, ticks()?))
}

/// CPU time of this process' threads whose name begins with `prefix`: the sum, and the most of one
/// thread.
pub fn own_threads(prefix: &str) -> (Duration, Duration) {
    let (mut sum, mut most) = (Duration::ZERO, Duration::ZERO);
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let Ok(stat) = fs::read_to_string(task.path().join("stat")) else { continue };
        let name = stat.split_once('(').map_or("", |(_, rest)| rest);
        if let (true, Some((_, user, system))) = (name.starts_with(prefix), parse_stat(&stat)) {
            sum += user + system;
            most = most.max(user + system);
        }
    }
    (sum, most)
}

/// Datagrams that the kernel dropped because the receive queue of a UDP socket on one of these ports
/// was full.
pub fn udp_drops(ports: &[u16]) -> u64 {
    ["/proc/net/udp", "/proc/net/udp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .map(|table| parse_drops(&table, ports))
        .sum()
}

fn parse_drops(table: &str, ports: &[u16]) -> u64 {
    let line = |line: &str| -> Option<u64> {
        let mut fields = line.split_whitespace();
        let (_, port) = fields.nth(1)?.rsplit_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        let drops = fields.next_back()?.parse().ok()?;
        ports.contains(&port).then_some(drops)
    };
    table.lines().skip(1).filter_map(line).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "41 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 250 75 0 0 20 0 9 0 100 1 2";

    #[test]
    fn reads_a_process() {
        let status = "Name:\tx\nVmRSS:\t   2048 kB\nThreads:\t9\n";
        let sample = parse_process(STAT, status).unwrap();
        assert_eq!(sample.user, Duration::from_millis(2500));
        assert_eq!(sample.system, Duration::from_millis(750));
        assert_eq!(sample.cpu(), Duration::from_millis(3250));
        let precise = ProcessSample { run: Duration::from_nanos(3_250_000_007), ..sample };
        assert_eq!(precise.cpu(), precise.run);
        assert_eq!((sample.resident, sample.threads), (2 << 20, 9));
        assert_eq!(parse_schedstat("1234567 89 10\n"), Some(Duration::from_nanos(1_234_567)));
        assert_eq!(parse_schedstat(""), None);
        assert_eq!(parse_process(&STAT.replace(" S ", " Z "), status), None);
        assert_eq!(parse_process("nonsense", status), None);
    }

    #[test]
    fn reads_itself_and_not_the_dead() {
        assert!(process(std::process::id()).unwrap().resident > 0);
        assert_eq!(process(u32::MAX), None);
    }

    #[test]
    fn sums_drops_of_the_given_ports() {
        let table = "  sl  local_address rem_address   st ... drops\n\
             1: 0100007F:2710 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 1 2 0 7\n\
             2: 0100007F:2711 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 1 2 0 9\n";
        assert_eq!(parse_drops(table, &[10_000]), 7);
        assert_eq!(parse_drops(table, &[10_000, 10_001]), 16);
        assert_eq!(parse_drops(table, &[]), 0);
    }
}
