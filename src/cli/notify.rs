//! Notifies systemd when the bridge is ready, stopping, and alive (`Type=notify`, `WatchdogSec=`;
//! sd_notify(3)).

use std::{
    convert::Infallible,
    env, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    process,
    time::Duration,
};

/// Extension of the stop timeout per request.
const MORE_TIME: Duration = Duration::from_secs(30);
/// Interval of the requests. The first must come within the unit's `TimeoutStopSec`.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// The connection to the service manager, if one started this process.
#[derive(Debug, Default)]
pub(super) struct ServiceManager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// Connects to the service manager named by the environment. An address that cannot be used is logged
    /// and ignored.
    pub(super) fn from_env() -> Self {
        let Ok(address) = env::var("NOTIFY_SOCKET") else { return Self::default() };
        let watchdog = watchdog(
            env::var("WATCHDOG_USEC").ok().as_deref(),
            env::var("WATCHDOG_PID").ok().as_deref(),
        );
        match connect(&address) {
            Ok(socket) => Self { socket: Some(socket), watchdog },
            Err(error) => {
                tracing::warn!(address, %error, "NOTIFY_SOCKET cannot be used");
                Self::default()
            }
        }
    }

    /// Returns the interval of [`Self::alive`]: half the time after which the manager gives up.
    pub(super) fn interval(&self) -> Option<Duration> {
        self.watchdog.map(|time| time / 2)
    }

    /// Reports that the bridge serves.
    pub(super) fn ready(&self) {
        self.notify("READY=1");
    }

    /// Reports that the bridge is alive.
    pub(super) fn alive(&self) {
        self.notify("WATCHDOG=1");
    }

    /// Reports that the bridge stops, and why.
    pub(super) fn stopping(&self, status: &str) {
        self.notify(&format!("STOPPING=1\nSTATUS={status}"));
    }

    /// Keeps extending the stop timeout for as long as this future is polled. Otherwise the manager kills a
    /// process that takes longer than `TimeoutStopSec`, whatever `rialto.sigterm-drain` is.
    pub(super) async fn keep_extending_timeout(&self) -> Infallible {
        let mut ticks = tokio::time::interval(ASK_AGAIN);
        loop {
            ticks.tick().await;
            self.notify(&format!("EXTEND_TIMEOUT_USEC={}", MORE_TIME.as_micros()));
        }
    }

    fn notify(&self, state: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(state.as_bytes()) {
            tracing::debug!(%error, "the service manager did not take {state:?}");
        }
    }
}

fn connect(address: &str) -> io::Result<UnixDatagram> {
    let address = match address.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A manager that does not read must not block the bridge.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Returns the watchdog timeout, if it is meant for this process.
fn watchdog(usec: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    let ours = pid.is_none_or(|pid| pid.parse() == Ok(process::id()));
    let usec: u64 = usec?.parse().ok().filter(|usec| *usec > 0)?;
    ours.then(|| Duration::from_micros(usec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_for_this_process() {
        let ours = process::id().to_string();
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(Some("1000000"), Some(&ours)), second);
        assert_eq!(watchdog(Some("1000000"), None), second);
        assert_eq!(watchdog(Some("1000000"), Some("1")), None);
        assert_eq!(watchdog(Some("soon"), None), None);
        assert_eq!(watchdog(Some("0"), None), None);
        assert_eq!(watchdog(None, None), None);
    }

    #[test]
    fn states_reach_a_named_and_an_abstract_socket() {
        let name = format!("rialto-notify-{}", process::id());
        let path = env::temp_dir().join(&name);
        let named = UnixDatagram::bind(&path).unwrap();
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let unnamed = UnixDatagram::bind_addr(&address).unwrap();
        for (address, server) in
            [(path.to_str().unwrap().to_owned(), named), (format!("@{name}"), unnamed)]
        {
            let manager =
                ServiceManager { socket: Some(connect(&address).unwrap()), watchdog: None };
            manager.ready();
            manager.alive();
            manager.stopping("SIGTERM");
            for expected in ["READY=1", "WATCHDOG=1", "STOPPING=1\nSTATUS=SIGTERM"] {
                let mut buf = [0; 64];
                let len = server.recv(&mut buf).unwrap();
                assert_eq!(&buf[..len], expected.as_bytes());
            }
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn more_time_to_end_is_asked_for_before_it_is_over() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        // As `connect` does.
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let manager = ServiceManager { socket: Some(ours), watchdog: None };
        let hour = Duration::from_secs(3600);
        let waited = tokio::time::timeout(hour, manager.keep_extending_timeout()).await;
        assert!(waited.is_err());
        let mut buf = [0; 64];
        let len = theirs.recv(&mut buf).unwrap();
        let asked = std::str::from_utf8(&buf[..len]).unwrap();
        let asked = asked.strip_prefix("EXTEND_TIMEOUT_USEC=").unwrap().parse().unwrap();
        let asked = Duration::from_micros(asked);
        assert!(asked >= 2 * ASK_AGAIN, "one that is lost must not end it");
        let mut times = 1;
        while theirs.recv(&mut buf).is_ok() {
            times += 1;
        }
        // The queue of a socket that nobody reads is bounded.
        assert!(times >= 3, "{times}");
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        let nobody = ServiceManager::default();
        nobody.ready();
        assert_eq!(nobody.interval(), None);
        assert!(connect("/nowhere/at/all").is_err());
    }
}
