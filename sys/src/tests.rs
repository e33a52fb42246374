//! Sockets against each other over loopback.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{EventFd, Message, PollFd, RecvBatch, SendBatch, Sent, SocketOptions, UdpSocket, poll};

const PLAIN: SocketOptions =
    SocketOptions { reuse_port: false, receive_buffer: 1 << 20, send_buffer: 0, gro: false };
const GRO: SocketOptions = SocketOptions { gro: true, ..PLAIN };
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn bind(ip: IpAddr, options: &SocketOptions) -> UdpSocket {
    UdpSocket::bind(SocketAddr::new(ip, 0), options).unwrap()
}

type Got = (Vec<u8>, SocketAddr, Option<IpAddr>, bool);

/// What arrives at `socket` until `count` datagrams came, or none for a second.
fn receive(socket: &UdpSocket, batch: &mut RecvBatch, count: usize) -> Vec<Got> {
    let mut got = Vec::new();
    let mut fds = [PollFd::new(socket)];
    while got.len() < count && poll(&mut fds, Some(Duration::from_secs(1))).unwrap() > 0 {
        batch.recv(socket).unwrap();
        got.extend(
            batch.datagrams().map(|d| (d.bytes.to_vec(), d.remote, d.local_ip, d.truncated)),
        );
    }
    got
}

/// One message of `sizes` after another, each filled with its number.
fn messages(remote: SocketAddr, sizes: &[(usize, u16)]) -> (Vec<u8>, Vec<Message>) {
    let mut buffer = Vec::new();
    let mut messages = Vec::new();
    for (number, &(len, segment_size)) in sizes.iter().enumerate() {
        messages.push(Message { remote, local_ip: None, start: buffer.len(), len, segment_size });
        buffer.extend((0..len).map(|at| (number * 31 + at) as u8));
    }
    (buffer, messages)
}

fn datagrams(buffer: &[u8], messages: &[Message]) -> Vec<Vec<u8>> {
    messages.iter().flat_map(|m| m.segments(buffer)).map(<[u8]>::to_vec).collect()
}

fn bytes(got: Vec<Got>) -> Vec<Vec<u8>> {
    got.into_iter().map(|got| got.0).collect()
}

#[test]
fn a_batch_arrives_in_order_with_addresses() {
    for ip in ["127.0.0.1", "::1"] {
        let ip: IpAddr = ip.parse().unwrap();
        let (from, to) = (bind(ip, &PLAIN), bind(ip, &PLAIN));
        let sizes: Vec<_> = (0..150).map(|n| (1 + n * 9, 0)).collect();
        let (buffer, messages) = messages(to.local_addr(), &sizes);
        let sent = SendBatch::new(true).send(&from, &buffer, &messages);
        assert_eq!((sent.datagrams, sent.failed, sent.blocked, sent.calls), (150, 0, 0, 3));

        let mut batch = RecvBatch::new(64, 1500);
        assert_eq!(batch.recv(&to).unwrap(), 64);
        assert!(batch.is_full());
        let first: Vec<_> = batch.datagrams().map(|d| d.bytes.to_vec()).collect();
        let rest = receive(&to, &mut batch, 86);
        assert!(!batch.is_full());
        assert!(rest.iter().all(|got| got.1 == from.local_addr() && got.2.is_none() && !got.3));
        assert_eq!([first, bytes(rest)].concat(), datagrams(&buffer, &messages));
        assert_eq!(batch.recv(&to).unwrap(), 0, "nothing waits");
    }
}

#[test]
fn segments_leave_as_datagrams_and_may_arrive_coalesced() {
    let from = bind(LOOPBACK, &PLAIN);
    assert!(from.gso());
    let sizes = [(64 * 1000, 1000), (500, 0), (2500, 1000), (7, 0), (1000, 1000)];
    for (options, slot_len) in [(&PLAIN, 1500), (&GRO, 65_536)] {
        let to = bind(LOOPBACK, options);
        assert_eq!(to.gro(), options.gro);
        let (buffer, messages) = messages(to.local_addr(), &sizes);
        let mut send = SendBatch::new(true);
        let sent = send.send(&from, &buffer, &messages);
        assert_eq!((sent.datagrams, sent.gso_refused, sent.calls), (70, 0, 1));
        let mut batch = RecvBatch::new(100, slot_len);
        assert_eq!(batch.recv(&to).unwrap(), if options.gro { 5 } else { 70 });
        let got: Vec<_> = batch.datagrams().map(|d| d.bytes.to_vec()).collect();
        assert_eq!(got, datagrams(&buffer, &messages));
    }
}

#[test]
fn without_gso_the_same_datagrams_leave_one_by_one() {
    let (from, to) = (bind(LOOPBACK, &PLAIN), bind(LOOPBACK, &PLAIN));
    let (buffer, messages) = messages(to.local_addr(), &[(90 * 100, 100), (50, 0), (250, 100)]);
    let sent = SendBatch::new(false).send(&from, &buffer, &messages);
    assert_eq!((sent.datagrams, sent.calls), (94, 2));
    let got = receive(&to, &mut RecvBatch::new(64, 1500), 94);
    assert_eq!(bytes(got), datagrams(&buffer, &messages));
}

#[test]
fn a_message_that_gso_refuses_is_sent_in_pieces_and_gso_stays() {
    let (from, to) = (bind(LOOPBACK, &PLAIN), bind(LOOPBACK, &PLAIN));
    // More segments than any kernel takes.
    let (buffer, messages) = messages(to.local_addr(), &[(300, 100), (2000, 10), (300, 100)]);
    let mut send = SendBatch::new(true);
    let sent = send.send(&from, &buffer, &messages);
    assert_eq!((sent.datagrams, sent.failed, sent.gso_refused), (206, 0, 1));
    assert!(send.gso() && !sent.gso_given_up);
    let got = receive(&to, &mut RecvBatch::new(64, 1500), 206);
    assert_eq!(bytes(got), datagrams(&buffer, &messages));
}

#[test]
fn gso_that_never_works_is_given_up_once_and_nothing_is_lost() {
    let (from, to) = (bind(LOOPBACK, &PLAIN), bind(LOOPBACK, &PLAIN));
    from.refuse_gso();
    let (buffer, messages) = messages(to.local_addr(), &[(300, 100); 20]);
    let mut send = SendBatch::new(true);
    let sent = send.send(&from, &buffer, &messages);
    assert_eq!((sent.datagrams, sent.failed, sent.gso_given_up), (60, 0, true));
    assert!((8..=9).contains(&sent.gso_refused), "{}", sent.gso_refused);
    assert!(!send.gso());
    let again = send.send(&from, &buffer, &messages);
    assert_eq!((again.datagrams, again.gso_refused, again.gso_given_up), (60, 0, false));
    let got = receive(&to, &mut RecvBatch::new(64, 1500), 120);
    let expected = datagrams(&buffer, &messages);
    assert_eq!(bytes(got), [expected.clone(), expected].concat());
}

#[test]
fn one_refused_message_costs_no_other() {
    let (from, to) = (bind(LOOPBACK, &PLAIN), bind(LOOPBACK, &PLAIN));
    let (buffer, mut messages) = messages(to.local_addr(), &[(100, 0), (300, 100), (100, 0)]);
    // Broadcast without SO_BROADCAST is not permitted; neither whole nor in pieces.
    let refused = SocketAddr::from(([255, 255, 255, 255], 9));
    messages[1].remote = refused;
    let sent = SendBatch::new(true).send(&from, &buffer, &messages);
    assert_eq!((sent.datagrams, sent.failed, sent.blocked), (2, 3, 0));
    assert_eq!(sent.error.unwrap().kind(), std::io::ErrorKind::PermissionDenied);
    assert_eq!(receive(&to, &mut RecvBatch::new(8, 1500), 2).len(), 2);
}

#[test]
fn a_full_send_buffer_leaves_the_rest() {
    let from = bind(LOOPBACK, &SocketOptions { send_buffer: 1, ..PLAIN });
    // More than the smallest buffer holds in one datagram.
    let to = bind(LOOPBACK, &PLAIN);
    let (buffer, messages) = messages(to.local_addr(), &[(10, 0), (60_000, 0), (300, 100)]);
    let Sent { datagrams, blocked, .. } = SendBatch::new(true).send(&from, &buffer, &messages);
    // The kernel takes a datagram as long as anything is free, so the long one may pass.
    assert_eq!(datagrams + blocked, 5);
}

#[test]
fn a_wildcard_socket_tells_and_takes_the_local_address() {
    let cases = [("0.0.0.0", "127.0.0.2"), ("0.0.0.0", "127.0.0.1"), ("::", "::1")];
    for (wildcard, local) in cases {
        let local: IpAddr = local.parse().unwrap();
        let bridge = bind(wildcard.parse().unwrap(), &PLAIN);
        let port = bridge.local_addr().port();
        let loopback = if local.is_ipv4() { LOOPBACK } else { local };
        let peer = bind(loopback, &PLAIN);
        let (buffer, mut messages) = messages(SocketAddr::new(local, port), &[(250, 100)]);
        let mut send = SendBatch::new(true);
        assert_eq!(send.send(&peer, &buffer, &messages).datagrams, 3);
        let mut batch = RecvBatch::new(8, 1500);
        let got = receive(&bridge, &mut batch, 3);
        assert_eq!(got.len(), 3);
        assert!(got.iter().all(|got| got.2 == Some(local)));

        messages[0].remote = peer.local_addr();
        messages[0].local_ip = Some(local);
        assert_eq!(send.send(&bridge, &buffer, &messages).datagrams, 3);
        let got = receive(&peer, &mut batch, 3);
        assert_eq!(got.len(), 3);
        assert!(got.iter().all(|got| got.1 == SocketAddr::new(local, port)));
    }
}

#[test]
fn arrivals_are_stamped_when_asked_for() {
    let (from, to) = (bind(LOOPBACK, &PLAIN), bind(LOOPBACK, &PLAIN));
    let mut batch = RecvBatch::new(4, 100);
    let mut arrival = || {
        let (buffer, messages) = messages(to.local_addr(), &[(10, 0)]);
        SendBatch::new(true).send(&from, &buffer, &messages);
        assert!(poll(&mut [PollFd::new(&to)], Some(Duration::from_secs(1))).unwrap() > 0);
        batch.recv(&to).unwrap();
        batch.datagrams().next().unwrap().received
    };
    assert_eq!(arrival(), None);
    to.stamp_arrivals().unwrap();
    let wall = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let before = wall();
    // The kernel switches stamping on a little after it was asked to.
    let stamped = std::iter::repeat_with(arrival).take(10_000).flatten().next().unwrap();
    assert!((before..=wall()).contains(&stamped), "{before:?} {stamped:?}");
}

#[test]
fn what_is_longer_than_a_slot_is_flagged() {
    let (from, to) = (bind(LOOPBACK, &PLAIN), bind(LOOPBACK, &PLAIN));
    let (buffer, messages) = messages(to.local_addr(), &[(101, 0), (100, 0)]);
    SendBatch::new(true).send(&from, &buffer, &messages);
    let got = receive(&to, &mut RecvBatch::new(8, 100), 2);
    let flags: Vec<_> = got.iter().map(|got| (got.0.len(), got.3)).collect();
    assert_eq!(flags, [(100, true), (100, false)]);
}

#[test]
fn an_empty_datagram_is_one() {
    let to = bind(LOOPBACK, &GRO);
    let from = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    from.send_to(&[], to.local_addr()).unwrap();
    let got = receive(&to, &mut RecvBatch::new(8, 65_536), 1);
    assert_eq!(got, [(vec![], from.local_addr().unwrap(), None, false)]);
}

#[test]
fn a_port_is_shared_only_when_all_ask_for_it() {
    let shared = SocketOptions { reuse_port: true, ..PLAIN };
    let first = bind(LOOPBACK, &shared);
    assert!(UdpSocket::bind(first.local_addr(), &PLAIN).is_err());
    assert!(UdpSocket::bind(first.local_addr(), &shared).is_ok());
}

#[test]
fn buffers_are_reported_in_the_measure_they_were_asked_in() {
    let options = SocketOptions { receive_buffer: 100_000, send_buffer: 50_000, ..PLAIN };
    let socket = bind(LOOPBACK, &options);
    assert_eq!(socket.receive_buffer().unwrap(), 100_000);
    assert_eq!(socket.send_buffer().unwrap(), 50_000);
}

#[test]
fn a_sink_receives_nothing() {
    let (from, to) = (bind(LOOPBACK, &PLAIN), bind(LOOPBACK, &PLAIN));
    to.drop_incoming().unwrap();
    let (buffer, messages) = messages(to.local_addr(), &[(250, 100)]);
    assert_eq!(SendBatch::new(true).send(&from, &buffer, &messages).datagrams, 3);
    assert_eq!(RecvBatch::new(8, 1500).recv(&to).unwrap(), 0);
}

#[test]
fn batches_may_move_to_their_thread() {
    fn movable<T: Send>() {}
    movable::<(RecvBatch, SendBatch, UdpSocket, EventFd)>();
}
