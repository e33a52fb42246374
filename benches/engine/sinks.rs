//! The sockets that receive the packets.
//!
//! The benches use [`Kind::Filter`]: delivery costs what it costs up to the receiver's socket, GSO
//! runs are split into datagrams on the way as for a device without the offload, and neither
//! wake-ups nor the draining of queues, which no bridge does for its receivers, disturb either CPU.
//! `cargo bench --bench engine sinks` compares the other kinds.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use rialto_sys::{PollFd, RecvBatch, SocketOptions, UdpSocket, poll, set_affinity};

/// How a sink disposes of what it is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A socket filter drops it at the end of the kernel's delivery.
    Filter,
    /// It is queued, with GRO, and a thread on CPU 1 reads it.
    DrainGro,
    /// It is queued datagram by datagram, and a thread on CPU 1 reads it.
    Drain,
    /// Nobody reads it: the queue is full after some packets, and the kernel drops the rest.
    Full,
}

/// Sockets that receive packets until this is dropped.
pub(crate) struct Sinks {
    /// Addresses to send to.
    pub(crate) addrs: Vec<SocketAddr>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Sinks {
    /// `count` sockets on 127.0.0.1.
    pub(crate) fn new(kind: Kind, count: usize) -> io::Result<Self> {
        let drained = matches!(kind, Kind::Drain | Kind::DrainGro);
        let options = SocketOptions {
            reuse_port: false,
            receive_buffer: if drained { 4 << 20 } else { 1 << 12 },
            send_buffer: 0,
            gro: kind == Kind::DrainGro,
        };
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let sockets = (0..count)
            .map(|_| UdpSocket::bind(any_port, &options))
            .collect::<io::Result<Vec<_>>>()?;
        if kind == Kind::Filter {
            sockets.iter().try_for_each(UdpSocket::drop_incoming)?;
        }
        let addrs = sockets.iter().map(UdpSocket::local_addr).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            if drained {
                drain(&sockets, &stopped)
            } else {
                while !stopped.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Ok(())
            }
        });
        Ok(Self { addrs, stop, thread: Some(thread) })
    }
}

impl Drop for Sinks {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn drain(sockets: &[UdpSocket], stop: &AtomicBool) -> io::Result<()> {
    set_affinity(1)?;
    let mut fds: Vec<_> = sockets.iter().map(PollFd::new).collect();
    let mut batch = RecvBatch::new(64, 65_536);
    while !stop.load(Ordering::Relaxed) {
        poll(&mut fds, Some(Duration::from_millis(20)))?;
        for (socket, fd) in sockets.iter().zip(&fds) {
            if fd.is_ready() {
                batch.recv(socket)?;
            }
        }
    }
    Ok(())
}
