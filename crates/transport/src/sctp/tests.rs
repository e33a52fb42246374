//! The bridge's end against another implementation (`dcsctp`) as the client, over a link with loss
//! and delay, in virtual time.

use std::time::Duration;

use dcsctp::api::{
    DcSctpSocket, Message, Options, PpId, SendOptions, SocketEvent, SocketState, SocketTime,
    StreamId,
};
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

const DCEP: PpId = PpId(50);
const STRING: PpId = PpId(51);
const BINARY: PpId = PpId(53);
const EMPTY: PpId = PpId(56);
const ENDED: SctpEvent = SctpEvent::Closed("the peer ended the association");
const TOO_LONG: SctpEvent = SctpEvent::Closed("a message of the peer has more than 65536 bytes");
const UNACCEPTABLE: &str = "a message of more than 512 KiB, or a malformed chunk";
const PROTOCOL: &str = "http://jitsi.org/protocols/colibri";

impl Sctp {
    /// A client's end, for tests of the layers above.
    pub(crate) fn client(now: Instant, counters: &mut TransportCounters) -> Self {
        let mut client = Self::default();
        let config = sctp_proto::ClientConfig::new();
        client.association = client.endpoint.connect(config, PEER).ok();
        client.step(now, counters);
        client
    }

    /// Opens the channel as the client, once there is an association.
    pub(crate) fn open(&mut self, now: Instant, counters: &mut TransportCounters) {
        let (_, association) = self.association.as_mut().unwrap();
        let open = Open {
            unordered: false,
            reliability: Reliability::Reliable,
            label: "JVB data channel",
            protocol: PROTOCOL,
        };
        let mut stream = association.open_stream(0, Ppid::Dcep).unwrap();
        stream.write_with_ppi(&open.write(), Ppid::Dcep).unwrap();
        self.channel = Some(0);
        self.step(now, counters);
    }
}

struct World {
    start: Instant,
    now: Instant,
    bridge: Sctp,
    client: Box<dyn DcSctpSocket>,
    counters: TransportCounters,
    /// (when, to the bridge, bytes)
    flying: Vec<(Instant, bool, Vec<u8>)>,
    rng: StdRng,
    loss: f64,
    /// Largest delay in ms; the smallest is 5.
    delay: u64,
    /// Events of the bridge.
    told: Vec<SctpEvent>,
    /// Messages that the client received.
    got: Vec<(u16, u32, Vec<u8>)>,
    /// Streams that the bridge closed.
    closed: Vec<u16>,
    aborted: bool,
    /// The bridge's ABORTs are lost.
    lose_aborts: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let options =
            Options { max_message_size: 1 << 20, max_retransmissions: None, ..Options::default() };
        let mut client = dcsctp::new_socket("client", &options);
        client.connect();
        Self {
            start: now,
            now,
            bridge: Sctp::default(),
            client,
            counters: TransportCounters::default(),
            flying: Vec::new(),
            rng: StdRng::seed_from_u64(seed),
            loss: 0.0,
            delay: 20,
            told: Vec::new(),
            got: Vec::new(),
            closed: Vec::new(),
            aborted: false,
            lose_aborts: false,
        }
    }

    /// With an open channel on stream 0.
    fn open(seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.open_channel(0);
        assert!(world.until(20, |w| w.bridge.is_open()), "{:?}", world.told);
        world
    }

    fn open_channel(&mut self, stream: u16) {
        let open = Open {
            unordered: false,
            reliability: Reliability::Reliable,
            label: "JVB data channel",
            protocol: PROTOCOL,
        };
        self.client_sends(stream, DCEP, open.write());
    }

    fn client_sends(&mut self, stream: u16, ppid: PpId, payload: Vec<u8>) {
        let message = Message::new(StreamId(stream), ppid, payload);
        self.client.send(message, &SendOptions::default()).unwrap();
    }

    fn bridge_sends(&mut self, text: &str) -> Result<(), SendError> {
        self.bridge.send(self.now, text, &mut self.counters)
    }

    /// Sends what both sides have to send.
    fn collect(&mut self) {
        for event in self.bridge.take_events() {
            match event {
                SctpEvent::Packet(packet) => self.fly(false, packet.to_vec()),
                other => self.told.push(other),
            }
        }
        while let Some(message) = self.client.get_next_message() {
            self.got.push((message.stream_id.0, message.ppid.0, message.payload));
        }
        while let Some(event) = self.client.poll_event() {
            match event {
                SocketEvent::SendPacket(packet) => self.fly(true, packet),
                SocketEvent::OnIncomingStreamReset(streams) => {
                    self.closed.extend(streams.iter().map(|stream| stream.0));
                }
                SocketEvent::OnAborted(..) => self.aborted = true,
                _ => {}
            }
        }
    }

    fn fly(&mut self, to_bridge: bool, packet: Vec<u8>) {
        assert!(packet.len() <= 1200, "{}", packet.len());
        let abort = !to_bridge && packet.get(12) == Some(&6) && self.lose_aborts;
        if !abort && !self.rng.random_bool(self.loss) {
            let delay = self.rng.random_range(5..=self.delay);
            self.flying.push((self.now + Duration::from_millis(delay), to_bridge, packet));
        }
    }

    fn until(&mut self, seconds: u64, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + Duration::from_secs(seconds);
        loop {
            self.collect();
            if done(self) {
                return true;
            }
            let client = self.client.poll_timeout();
            let client = (client != SocketTime::infinite_future())
                .then(|| self.start + (client - SocketTime::zero()));
            let flying = self.flying.iter().map(|(at, ..)| *at).min();
            let next = [client, flying, self.bridge.poll_timeout()].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return false;
            };
            self.now = self.now.max(next);
            self.client.advance_time(SocketTime::zero() + (self.now - self.start));
            self.bridge.handle_timeout(self.now, &mut self.counters);
            let due: Vec<_> = self.flying.extract_if(.., |(at, ..)| *at <= self.now).collect();
            for (_, to_bridge, packet) in due {
                if to_bridge {
                    self.bridge.handle(self.now, &packet, &mut self.counters);
                } else {
                    self.client.handle_input(&packet);
                }
            }
        }
    }

    fn texts(&self) -> Vec<&str> {
        let mut texts = Vec::new();
        for event in &self.told {
            if let SctpEvent::Text(text) = event {
                texts.push(text.as_str());
            }
        }
        texts
    }
}

#[test]
fn the_client_opens_a_channel() {
    let mut world = World::open(1);
    assert_eq!(world.told, [SctpEvent::Opened]);
    assert!(world.until(5, |w| w.got == [(0, 50, vec![2])]), "{:?}", world.got);
    assert_eq!((world.counters.sctp_connected, world.counters.channels_opened), (1, 1));
}

#[test]
fn texts_go_both_ways() {
    let mut world = World::open(2);
    world.client_sends(0, STRING, b"{\"colibriClass\":\"ClientHello\"}".to_vec());
    world.client_sends(0, EMPTY, vec![0]);
    world.bridge_sends("hi \u{1f600}").unwrap();
    world.bridge_sends("").unwrap();
    assert!(world.until(5, |w| w.got.len() == 3 && w.texts().len() == 2));
    assert_eq!(world.texts(), ["{\"colibriClass\":\"ClientHello\"}", ""]);
    assert_eq!(world.got[1], (0, 51, "hi \u{1f600}".as_bytes().to_vec()));
    assert_eq!(world.got[2], (0, 56, vec![0]));
}

#[test]
fn loss_and_reordering_change_nothing() {
    for seed in 0..8 {
        let mut world = World::new(seed);
        (world.loss, world.delay) = (0.2, 120);
        world.open_channel(0);
        assert!(world.until(120, |w| w.bridge.is_open()), "seed {seed}");
        let texts: Vec<_> = (0..40).map(|n| format!("{n}").repeat(1 + 157 * n)).collect();
        for text in &texts {
            world.client_sends(0, STRING, text.clone().into_bytes());
            world.bridge_sends(text).unwrap();
        }
        let done = |w: &World| w.got.len() == 41 && w.texts().len() == 40;
        assert!(world.until(600, done), "seed {seed}: {} {}", world.got.len(), world.texts().len());
        assert_eq!(world.texts(), texts, "seed {seed}");
        assert!(
            world
                .got
                .iter()
                .skip(1)
                .map(|(_, _, bytes)| bytes.as_slice())
                .eq(texts.iter().map(String::as_bytes))
        );
        assert_eq!(world.bridge.held.bytes(), 0);
    }
}

#[test]
fn the_largest_text_and_one_byte_more() {
    let mut world = World::open(3);
    let largest = "x".repeat(MAX_MESSAGE);
    world.client_sends(0, STRING, largest.clone().into_bytes());
    world.bridge_sends(&largest).unwrap();
    assert_eq!(world.bridge_sends(&format!("{largest}x")), Err(SendError::TooLong));
    assert!(world.until(20, |w| w.got.len() == 2 && w.texts().len() == 1));
    assert_eq!(world.got[1].2, largest.as_bytes());
    assert_eq!(world.texts(), [largest.as_str()]);
}

/// A message that is too long closes its channel; the peer sees it, and may open another one on the
/// same stream or on a new one.
#[test]
fn a_message_that_is_too_long_closes_its_channel() {
    for (seed, length) in [(31, MAX_MESSAGE + 1), (32, 140_000), (33, 300_000), (34, MAX_ASSEMBLED)]
    {
        let mut world = World::open(seed);
        (world.loss, world.delay) = (0.05, 60);
        for stream in [0, 0, 2] {
            world.client_sends(stream, STRING, vec![b'x'; length]);
            assert!(world.until(120, |w| w.told.last() == Some(&TOO_LONG)), "{length}");
            assert!(world.until(20, |w| w.closed.last() == Some(&stream)), "{length}");
            assert_eq!(world.bridge_sends("x"), Err(SendError::NotOpen));
            world.client.reset_streams(&[StreamId(stream)]).unwrap();
            assert!(world.until(20, |w| w.bridge.held.bytes() == 0));
            world.until(5, |_| false);
            let next = if stream == 0 && world.counters.channel_too_long == 2 { 2 } else { stream };
            world.open_channel(next);
            assert!(world.until(60, |w| w.bridge.is_open()), "{length} {stream}");
            world.client_sends(next, STRING, b"again".to_vec());
            assert!(world.until(60, |w| w.texts().last() == Some(&"again")), "{length} {stream}");
        }
        assert_eq!((world.counters.channel_too_long, world.counters.sctp_lost), (3, 0));
        assert!(!world.aborted);
    }
}

/// A message that is far too long aborts the association with a cause, and another one may begin:
/// also if the ABORT is lost and the peer continues to send.
#[test]
fn a_message_that_is_far_too_long_aborts_the_association() {
    for lost in [false, true] {
        let mut world = World::open(35);
        world.client_sends(0, STRING, vec![b'x'; MAX_ASSEMBLED + 1]);
        world.lose_aborts = lost;
        assert!(world.until(60, |w| w.told.last() == Some(&SctpEvent::Closed(UNACCEPTABLE))));
        world.until(2, |_| false);
        world.lose_aborts = false;
        assert!(world.until(20, |w| w.aborted), "the client is told");
        assert_eq!(world.counters.sctp_lost, 1);
        world.client.connect();
        world.open_channel(0);
        assert!(world.until(20, |w| w.bridge.is_open()));
    }
}

#[test]
fn binary_is_dropped() {
    let mut world = World::open(4);
    world.client_sends(0, BINARY, b"binary".to_vec());
    world.client_sends(0, STRING, b"\xff".to_vec());
    world.client_sends(0, PpId(99), b"?".to_vec());
    world.client_sends(0, STRING, b"text".to_vec());
    assert!(world.until(5, |w| w.texts() == ["text"]));
    assert_eq!((world.counters.channel_binary, world.counters.channel_malformed), (1, 2));
}

#[test]
fn a_second_channel_is_refused_and_the_first_goes_on() {
    let mut world = World::open(5);
    world.open_channel(2);
    world.client_sends(4, STRING, b"no channel".to_vec());
    assert!(world.until(10, |w| w.closed == [2]), "{:?}", world.closed);
    assert_eq!(world.counters.channels_refused, 1);
    assert_eq!(world.counters.channel_malformed, 1);
    world.client_sends(0, STRING, b"still here".to_vec());
    assert!(world.until(5, |w| w.texts() == ["still here"]));
}

#[test]
fn a_closed_channel_can_be_opened_again() {
    let mut world = World::open(6);
    assert!(world.until(5, |w| !w.got.is_empty()));
    world.client.reset_streams(&[StreamId(0)]).unwrap();
    assert!(
        world.until(10, |w| w.told == [SctpEvent::Opened, SctpEvent::Closed("the peer closed it")]
            && w.closed == [0])
    );
    world.open_channel(0);
    assert!(world.until(10, |w| w.bridge.is_open()));
    world.bridge_sends("again").unwrap();
    assert!(world.until(5, |w| w.got.last() == Some(&(0, 51, b"again".to_vec()))));
}

#[test]
fn an_abort_closes_the_channel_and_the_peer_may_begin_again() {
    let mut world = World::open(7);
    world.client.close();
    assert!(world.until(5, |w| w.told == [SctpEvent::Opened, ENDED]));
    assert!(!world.aborted, "an ABORT is not answered");
    assert_eq!(world.counters.sctp_lost, 1);
    world.client.connect();
    world.open_channel(0);
    assert!(world.until(20, |w| w.told.len() == 3 && w.bridge.is_open()));
}

/// Both directions of such a channel behave as the client chose (RFC 8832 section 5.1).
#[test]
fn channels_may_be_unordered_and_give_up() {
    let kinds = [
        (true, Reliability::Reliable),
        (true, Reliability::Retransmissions(2)),
        (false, Reliability::Retransmissions(0)),
        (true, Reliability::Lifetime(500)),
    ];
    for (seed, (unordered, reliability)) in (20..).zip(kinds) {
        let mut world = World::new(seed);
        let open = Open { unordered, reliability, label: "any", protocol: "" };
        world.client_sends(0, DCEP, open.write());
        assert!(world.until(20, |w| w.bridge.is_open() && w.got.len() == 1), "{reliability:?}");
        let texts: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        for text in &texts {
            world.bridge_sends(text).unwrap();
            world.client_sends(0, STRING, text.clone().into_bytes());
        }
        assert!(world.until(20, |w| w.got.len() == 21 && w.texts().len() == 20), "{reliability:?}");
        // Lost messages are given up where the client wants that, and later ones continue.
        world.loss = 1.0;
        world.bridge_sends("lost").unwrap();
        world.until(3, |_| false);
        world.loss = 0.0;
        world.bridge_sends("last").unwrap();
        let has = |w: &World, text: &str| w.got.iter().any(|(.., got)| got == text.as_bytes());
        let kept = reliability == Reliability::Reliable;
        assert!(world.until(60, |w| has(w, "last") && has(w, "lost") == kept), "{reliability:?}");
        assert!(!world.until(30, |w| has(w, "lost") != kept), "{reliability:?}");
    }
}

/// A peer that lost its state begins anew, without ending the old association (RFC 9260 section
/// 5.2.2).
#[test]
fn a_client_that_forgot_everything_can_begin_again() {
    let mut world = World::open(12);
    let options = Options { max_retransmissions: None, ..Options::default() };
    world.client = dcsctp::new_socket("again", &options);
    world.client.advance_time(SocketTime::zero() + (world.now - world.start));
    world.client.connect();
    world.open_channel(0);
    assert!(world.until(120, |w| w.got.last() == Some(&(0, 50, vec![2]))), "{:?}", world.told);
    assert_eq!(
        world.told,
        [
            SctpEvent::Opened,
            SctpEvent::Closed("the peer began another association"),
            SctpEvent::Opened
        ]
    );
    world.bridge_sends("again").unwrap();
    world.client_sends(0, STRING, b"again".to_vec());
    assert!(world.until(20, |w| w.texts() == ["again"] && w.got.len() > 1));
}

#[test]
fn a_shutdown_closes_the_channel() {
    let mut world = World::open(8);
    world.client.shutdown();
    assert!(world.until(20, |w| w.told == [SctpEvent::Opened, ENDED]));
    assert!(world.client.state() == SocketState::Closed);
}

#[test]
fn an_idle_association_answers_heartbeats() {
    let mut world = World::open(9);
    assert!(!world.until(600, |w| w.aborted));
    assert!(world.bridge.is_open());
}

#[test]
fn a_peer_that_takes_nothing_is_not_buffered_for() {
    let mut world = World::open(10);
    world.loss = 1.0;
    let text = "x".repeat(MAX_MESSAGE);
    let sent = (0..64).take_while(|_| world.bridge_sends(&text).is_ok()).count();
    // The acknowledgement of the channel may still wait, too.
    assert!((7..=MAX_BUFFERED / MAX_MESSAGE).contains(&sent), "{sent}");
    assert_eq!(world.bridge_sends(&text), Err(SendError::Full));
    // No answer for a minute: the association stays, and continues when the path is back.
    world.until(60, |_| false);
    world.loss = 0.0;
    assert!(world.until(120, |w| w.got.len() == 1 + sent), "{}", world.got.len());
}

#[test]
fn too_many_streams_end_the_association() {
    let mut world = World::open(11);
    for stream in 1..=MAX_STREAMS as u16 {
        world.client_sends(stream, STRING, b"?".to_vec());
    }
    let closed = SctpEvent::Closed(Reason::Greedy.text());
    assert!(world.until(10, |w| w.told.last() == Some(&closed) && w.aborted));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn anything_is_survived(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8)) {
        let (mut sctp, mut counters) = (Sctp::default(), TransportCounters::default());
        for packet in packets {
            sctp.handle(Instant::now(), &packet, &mut counters);
        }
    }
}
