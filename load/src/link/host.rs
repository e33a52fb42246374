//! The namespace with its devices, created with `ip` of iproute2, and the programs in it.

use std::{
    io,
    net::Ipv4Addr,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rialto_sys::Tun;
use rustix::process::{Pid, Signal, kill_process};

/// Prefix of namespace names unless they are chosen; the process id follows.
pub const PREFIX: &str = "rialto-link-";

/// How long programs in the namespace have to end before they are killed.
const GRACE: Duration = Duration::from_secs(5);

/// Why there is no namespace.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The kernel has no TUN devices, or the container is not given them.
    #[error(
        "there is no /dev/net/tun: load the module (modprobe tun), or give it to the container \
         (--device /dev/net/tun)"
    )]
    NoTun,
    /// Nothing works without these rights.
    #[error(
        "no permission to create network devices: run it as root, or in a container with \
         --cap-add NET_ADMIN --cap-add SYS_ADMIN"
    )]
    NoPermission,
    /// The device cannot be created for another reason.
    #[error("cannot create a TUN device: {0}")]
    Tun(io::Error),
    /// There is no `ip`.
    #[error("cannot run ip ({0}): install iproute2")]
    NoIp(io::Error),
    /// `ip` failed.
    #[error("ip {command}: {problem}")]
    Ip {
        /// Its arguments.
        command: String,
        /// Its error output.
        problem: String,
    },
    /// No four addresses are free.
    #[error("all of 198.18.0.0/15 is in use: choose other addresses with --network")]
    NoAddress,
}

/// A network namespace. Dropping this removes it, and ends the programs in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    /// This machine's address on the link.
    pub host: Ipv4Addr,
    /// The namespace's address on the link.
    pub inside: Ipv4Addr,
}

/// Both ends of the link.
#[derive(Debug)]
pub struct Ends {
    /// This machine's.
    pub host: Tun,
    /// The namespace's.
    pub inside: Tun,
}

impl Namespace {
    /// Creates a namespace with a link to this machine. `network` is the first of four addresses.
    pub fn create(
        name: &str,
        network: Option<Ipv4Addr>,
        mtu: u32,
    ) -> Result<(Self, Ends), HostError> {
        let ends = Ends { host: device()?, inside: device()? };
        remove_abandoned()?;
        let network = network.map_or_else(free_network, Ok)?;
        let address = |number| Ipv4Addr::from(u32::from(network).wrapping_add(number));
        let (host, inside) = (address(1), address(2));
        ip(&["netns", "add", name])?;
        // From here on it is removed if something fails.
        let namespace = Self { name: name.to_owned(), host, inside };
        ip(&["link", "set", "dev", ends.inside.name(), "netns", name])?;
        let (host, inside, mtu) = (format!("{host}/30"), format!("{inside}/30"), mtu.to_string());
        let ends_of = [(&[][..], &ends.host, &host), (&["-n", name][..], &ends.inside, &inside)];
        for (within, tun, address) in ends_of {
            let ip = |words: &[&str]| ip(&[within, words].concat());
            // Without a link-local address the kernel sends nothing of its own over the link.
            ip(&["link", "set", "dev", tun.name(), "mtu", &mtu, "addrgenmode", "none"])?;
            ip(&["addr", "add", address, "dev", tun.name()])?;
            ip(&["link", "set", "dev", tun.name(), "up"])?;
        }
        ip(&["-n", name, "link", "set", "dev", "lo", "up"])?;
        let gateway = namespace.host.to_string();
        ip(&["-n", name, "route", "add", "default", "via", &gateway])?;
        Ok((namespace, ends))
    }

    /// A command that runs in it.
    pub fn command(&self) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]);
        command
    }

    /// Ends the programs in it: first with SIGTERM, after a while with SIGKILL.
    fn end_programs(&self) {
        let start = Instant::now();
        let mut signal = Signal::TERM;
        let mut told = Vec::new();
        loop {
            let left = self.programs();
            if left.is_empty() || start.elapsed() > GRACE * 2 {
                return;
            }
            if start.elapsed() > GRACE && signal == Signal::TERM {
                signal = Signal::KILL;
                told.clear();
            }
            for pid in left {
                if !told.contains(&pid) {
                    // One that has ended meanwhile needs no signal.
                    let _ = kill_process(pid, signal);
                    told.push(pid);
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The processes that are in it.
    fn programs(&self) -> Vec<Pid> {
        let said = ip(&["netns", "pids", &self.name]).unwrap_or_default();
        said.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.end_programs();
        if let Err(error) = ip(&["netns", "del", &self.name]) {
            eprintln!("rialto-link: {error}");
        }
    }
}

fn device() -> Result<Tun, HostError> {
    Tun::create("rlink%d").map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => HostError::NoTun,
        io::ErrorKind::PermissionDenied => HostError::NoPermission,
        // ENXIO, ENODEV: the device node is there and the module is not.
        _ if matches!(error.raw_os_error(), Some(6 | 19)) => HostError::NoTun,
        _ => HostError::Tun(error),
    })
}

/// Removes namespaces of processes that were killed before they could.
fn remove_abandoned() -> Result<(), HostError> {
    for line in ip(&["netns", "list"])?.lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        if let Some(pid) = name.strip_prefix(PREFIX).and_then(|pid| pid.parse::<u32>().ok())
            && !Path::new(&format!("/proc/{pid}")).exists()
        {
            let unused = Ipv4Addr::UNSPECIFIED;
            drop(Namespace { name: name.to_owned(), host: unused, inside: unused });
        }
    }
    Ok(())
}

/// Runs `ip` and returns its output.
fn ip(words: &[&str]) -> Result<String, HostError> {
    let output = Command::new("ip").args(words).stdin(Stdio::null()).output();
    let output = output.map_err(HostError::NoIp)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let problem = said.lines().next().unwrap_or("failed, and did not say why").to_owned();
    Err(HostError::Ip { command: words.join(" "), problem })
}

/// The first of four addresses that nobody uses here. They belong to the network reserved for
/// measurements (RFC 2544, RFC 6890); processes that start at the same time begin at different
/// ones.
fn free_network() -> Result<Ipv4Addr, HostError> {
    let used = ip(&["-4", "-o", "addr"])?;
    let start = u32::from(Ipv4Addr::new(198, 18, 0, 0));
    let count = 1 << 15;
    let networks =
        (0..count).map(|n| Ipv4Addr::from(start + 4 * ((std::process::id() + n) % count)));
    networks.into_iter().find(|network| is_free(*network, &used)).ok_or(HostError::NoAddress)
}

/// Whether none of the four addresses is among those that `ip -4 -o addr` printed.
fn is_free(network: Ipv4Addr, used: &str) -> bool {
    let addresses = used.split_whitespace().filter_map(|word| word.split('/').next()?.parse().ok());
    let mut addresses = addresses.map(|address: Ipv4Addr| u32::from(address) & !3);
    !addresses.any(|used| used == u32::from(network))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_addresses_are_free_when_none_of_them_is_there() {
        let used = "1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever\n\
                    4: rlink0    inet 198.18.0.5/30 scope global rlink0\\       valid_lft forever\n";
        assert!(is_free(Ipv4Addr::new(198, 18, 0, 0), used));
        assert!(!is_free(Ipv4Addr::new(198, 18, 0, 4), used));
        assert!(is_free(Ipv4Addr::new(198, 18, 0, 8), used));
    }
}
