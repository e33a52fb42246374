//! The system calls of Rialto's engine behind a safe interface: batched UDP with segmentation offload
//! (GSO), receive coalescing (GRO) and destination addresses, readiness, wake-ups, thread placement.
//!
//! The only unsafe code of the project is here; each block says why it is sound.

#[cfg(not(target_os = "linux"))]
compile_error!("Rialto's engine needs Linux: recvmmsg, sendmmsg, UDP_SEGMENT, UDP_GRO, IP_PKTINFO");

mod message;

pub use message::Message;
