//! The emulated link, in this process: its reports come with their distributions.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    os::fd::AsFd as _,
    path::Path,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use rialto_load::link::{
    carry::{Carrier, Order, Orders},
    counts::Report,
    host::{Namespace, PREFIX},
    settings::{Changes, Schedule, Settings},
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::calls::chromium::NAMESPACE_PORT;

/// How often the link says what it did.
pub(crate) const INTERVAL: Duration = Duration::from_millis(250);

/// A namespace behind a link.
pub(crate) struct Emulator {
    namespace: Option<Namespace>,
    pub(crate) name: String,
    pub(crate) host: Ipv4Addr,
    /// Connections to this port of loopback come out at chromedriver's in the namespace.
    pub(crate) relay: u16,
    reports: Arc<Mutex<Vec<Report>>>,
    orders: Orders,
    carrying: Option<JoinHandle<io::Result<()>>>,
}

impl Emulator {
    /// A link, or `None` where there can be none. In CI (`CI=true`) that is a failure.
    pub(crate) fn start(link: &str) -> Option<Self> {
        let name = format!("{PREFIX}{}", std::process::id());
        let (namespace, ends) = match Namespace::create(&name, None, 1500) {
            Ok(made) => made,
            Err(problem) => {
                let ci = std::env::var("CI").is_ok_and(|ci| ci == "true" || ci == "1");
                assert!(!ci, "no link: {problem}");
                eprintln!("SKIPPED, no link: {problem}");
                return None;
            }
        };
        let (mut down, mut up) = (Settings::default(), Settings::default());
        let changes = Changes::parse(link).expect("a link");
        changes.down.apply(&mut down);
        changes.up.apply(&mut up);
        let reports = Arc::new(Mutex::new(Vec::new()));
        let seen = reports.clone();
        let watch = Box::new(move |report| seen.lock().expect("no panic").push(report));
        let none = Schedule::default();
        let (carrier, orders) =
            Carrier::new(ends, (down, up), none, 1, INTERVAL, watch).expect("descriptors");
        let carrying = thread::spawn(|| carrier.run());
        let host = namespace.host;
        let relay = relay(&name).expect("a relay");
        let (namespace, carrying) = (Some(namespace), Some(carrying));
        Some(Self { namespace, name, host, relay, reports, orders, carrying })
    }

    /// Changes the link now.
    pub(crate) fn change(&self, changes: &str) {
        let changes = Changes::parse(changes).expect("changes");
        self.orders.tell(Order::Change(Box::new(changes)));
    }

    /// What it did so far.
    pub(crate) fn take_reports(&self) -> Vec<Report> {
        std::mem::take(&mut *self.reports.lock().expect("no panic"))
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // Browsers in it end before the link does.
        self.namespace = None;
        self.orders.tell(Order::Stop);
        let _ = self.carrying.take().map(JoinHandle::join);
    }
}

/// Takes connections on a port of loopback here and makes them to chromedriver in the namespace, so that
/// what the test asks a browser does not go over the link.
fn relay(namespace: &str) -> io::Result<u16> {
    // Sockets stay in the namespace in which they were made.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let file = File::open(Path::new("/run/netns").join(namespace))?;
    thread::spawn(move || {
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(file.as_fd(), kind).expect("into the namespace");
        drop(file);
        for taken in listener.incoming().map_while(Result::ok) {
            if let Ok(made) = TcpStream::connect(("127.0.0.1", NAMESPACE_PORT)) {
                for (from, to) in [(&taken, &made), (&made, &taken)] {
                    let (mut from, mut to) = (clone(from), clone(to));
                    thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
            }
        }
    });
    Ok(port)
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("descriptors")
}
