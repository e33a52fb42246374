//! The system calls of Rialto's engine behind a safe interface: batched UDP with segmentation offload
//! (GSO), receive coalescing (GRO) and destination addresses, readiness, wake-ups, thread placement; and
//! TUN devices, for the emulator of links in `load/`.
//!
//! All unsafe code of the project is here; each block says why it is sound.

#[cfg(not(target_os = "linux"))]
compile_error!("Rialto's engine needs Linux: recvmmsg, sendmmsg, UDP_SEGMENT, UDP_GRO, IP_PKTINFO");

mod address;
mod control;
mod message;
mod poll;
mod recv;
mod send;
mod socket;
#[cfg(test)]
mod tests;
mod thread;
mod tun;

pub use message::Message;
pub use poll::{EventFd, PollFd, poll};
pub use recv::{Datagram, RecvBatch};
pub use send::{SendBatch, Sent};
pub use socket::{SocketOptions, UdpSocket};
pub use thread::{
    open_files, set_affinity, set_open_files, set_timer_slack, thread_cpu_time, thread_id,
};
pub use tun::Tun;
