//! Sending, receiving and waiting allocate nothing once the batches are made.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    net::SocketAddr,
    time::Duration,
};

use rialto_sys::{Message, PollFd, RecvBatch, SendBatch, SocketOptions, UdpSocket, poll};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting for each thread.
struct Counting;

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are those that this call needs.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn ten_thousand_datagrams_allocate_nothing() {
    let options =
        SocketOptions { reuse_port: false, receive_buffer: 1 << 20, send_buffer: 0, gro: true };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let from = UdpSocket::bind(any, &options).unwrap();
    let to = UdpSocket::bind(any, &options).unwrap();
    let buffer = [7; 5_000];
    let refused = SocketAddr::from(([255, 255, 255, 255], 9));
    let message = |remote, start, len, segment_size| Message {
        remote,
        local_ip: None,
        start,
        len,
        segment_size,
    };
    let remote = to.local_addr();
    let messages = [
        message(remote, 0, 4_000, 1_000),
        message(refused, 0, 100, 0),
        message(remote, 4_000, 900, 0),
        // Refused with segmentation, and sent in pieces.
        message(remote, 0, 2_000, 10),
    ];
    let (mut send, mut receive) = (SendBatch::new(true), RecvBatch::new(64, 65_536));
    let mut fds = [PollFd::new(&to)];
    let before = ALLOCATIONS.get();
    let mut received = 0;
    while received < 10_000 {
        let sent = send.send(&from, &buffer, &messages);
        assert_eq!((sent.datagrams, sent.failed, sent.gso_refused), (205, 1, 1));
        poll(&mut fds, Some(Duration::ZERO)).unwrap();
        while receive.recv(&to).unwrap() > 0 {
            received += receive.datagrams().count();
        }
    }
    assert_eq!(ALLOCATIONS.get(), before);
    assert!(before > 0, "the counter counts");
}
