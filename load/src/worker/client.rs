//! One client in a worker: its socket, its keys, what it sends and what it receives.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use rialto_sys::{Message, UdpSocket};
use tokio::sync::mpsc;

use super::{
    Context,
    feedback::{self, Heard},
    receive::{Arrived, Receiver, ReceptionTotals},
    screen::Figures,
    send::{Output, SourceSender},
    sink::Sink,
    timers::{Timers, What},
};
use crate::{
    media::packet::{self, Parsed},
    plan::Media,
    shared::Shared,
    srtp::{Keys, NotOpened, Opener, Sealer},
    twcc,
};

/// Time between reports (RFC 3550 leaves it to the bandwidth; browsers report about once a second).
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Interval of transport-wide feedback, as in browsers.
const FEEDBACK_EVERY: Duration = Duration::from_millis(100);

/// A client.
pub struct Client {
    /// Its socket.
    pub socket: Arc<UdpSocket>,
    endpoint: usize,
    ice: mpsc::Sender<(Bytes, SocketAddr)>,
    started: u64,
    connected_at: Option<u64>,
    session: Option<Session>,
    sources: Vec<SourceSender>,
    receiver: Receiver,
    /// It only counts what arrives, and its receiver gets nothing.
    sink: Option<Sink>,
    arrivals: twcc::Arrivals,
    rtcp_ssrc: u32,
    out: Outbox,
    rng: StdRng,
    counts: ClientCounts,
}

struct Session {
    remote: SocketAddr,
    sealer: Sealer,
    opener: Opener,
    transport_seq: u16,
}

/// Encrypted packets to be sent.
#[derive(Default)]
struct Outbox {
    buffer: Vec<u8>,
    messages: Vec<Message>,
}

impl Outbox {
    fn push(&mut self, packet: &[u8], remote: SocketAddr) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(packet);
        let len = packet.len();
        self.messages.push(Message { remote, local_ip: None, start, len, segment_size: 0 });
    }

    fn flush(&mut self, socket: &UdpSocket, context: &mut Context) {
        if self.messages.is_empty() {
            return;
        }
        let sent = context.sender.send(socket, &self.buffer, &self.messages);
        context.counts.send_errors += (sent.failed + sent.blocked) as u64;
        self.buffer.clear();
        self.messages.clear();
    }
}

/// Counters of one client.
#[derive(Clone, Copy, Default, Debug, serde::Serialize)]
pub struct ClientCounts {
    /// Media packets sent.
    pub sent: u64,
    /// Bytes of them.
    pub sent_bytes: u64,
    /// SRTP packets that could not be decrypted.
    pub not_opened: u64,
    /// SRTP packets that had been decrypted before.
    pub replays: u64,
    /// SRTP packets dropped on purpose.
    pub dropped: u64,
    /// Packets retransmitted at the bridge's request.
    pub sent_again: u64,
    /// NACKs sent.
    pub nacks_sent: u64,
    /// Keyframe requests sent.
    pub keyframes_wanted: u64,
    /// Counts of the bridge's RTCP.
    #[serde(flatten)]
    pub heard: Heard,
}

/// The report of one client.
#[derive(Clone, Debug)]
pub struct ClientReport {
    /// Index into the plan.
    pub endpoint: usize,
    /// When it started to join, nanoseconds of the run's clock.
    pub started: u64,
    /// When it had its keys.
    pub connected: Option<u64>,
    /// Whether it is still present.
    pub present: bool,
    /// Counts.
    pub counts: ClientCounts,
    /// Packets without a stamp of their source.
    pub unstamped: u64,
    /// The sources that it received.
    pub sources: Vec<SourceReport>,
}

/// What one client received of one source.
#[derive(Clone, Debug)]
pub struct SourceReport {
    /// Index into the plan.
    pub source: usize,
    /// Audio or video.
    pub media: Media,
    /// Counts.
    pub totals: ReceptionTotals,
    /// Packets of the source, each counted once.
    pub unique: u64,
    /// Packets that should have arrived, from the first one on.
    pub expected: u64,
    /// Packets that have not arrived although later ones have.
    pub gaps: u64,
    /// Packets that arrived again.
    pub duplicates: u64,
    /// Unique packets of each encoding.
    pub encodings: Vec<u64>,
    /// What would have been seen of it, if it is a video with layers.
    pub screen: Option<Figures>,
}

impl SourceReport {
    /// Packets that should have arrived and did not.
    pub fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.unique)
    }
}

impl Client {
    /// Creates a client that is about to connect.
    pub fn new(
        endpoint: usize,
        socket: Arc<UdpSocket>,
        ice: mpsc::Sender<(Bytes, SocketAddr)>,
        started: u64,
        shared: &Shared,
    ) -> Self {
        let plan = &shared.plan.endpoints[endpoint];
        let mut rng = StdRng::seed_from_u64(shared.plan.shape.seed ^ (endpoint as u64 + 1) << 20);
        let sources = plan.sources.clone();
        let sources: Vec<_> = sources.map(|s| SourceSender::new(s, shared, &mut rng)).collect();
        let own = sources.iter().flat_map(SourceSender::streams).next();
        let own = own.and_then(|stream| Some(shared.plan.streams.get(stream)?.ssrc));
        Self {
            socket,
            endpoint,
            ice,
            started,
            connected_at: None,
            session: None,
            sources,
            receiver: Receiver::new(endpoint, shared),
            sink: shared.plan.is_sink(endpoint).then(|| Sink::new(endpoint, shared)),
            arrivals: twcc::Arrivals::default(),
            rtcp_ssrc: own.unwrap_or(plan.rtcp_ssrc),
            out: Outbox::default(),
            rng,
            counts: ClientCounts::default(),
        }
    }

    /// Sets the keys.
    pub fn connected(
        &mut self,
        remote: SocketAddr,
        keys: &Keys,
        now: Instant,
        context: &mut Context,
    ) {
        let stack = context.shared.media.stack;
        let (sealer, opener) = (Sealer::new(stack, keys), Opener::new(stack, keys));
        if let (Some(sealer), Some(opener)) = (sealer, opener) {
            self.connected_at = Some(context.shared.nanos(now));
            let transport_seq = self.rng.random_range(0..0x8000);
            self.session = Some(Session { remote, sealer, opener, transport_seq });
        }
    }

    /// Starts its timers, each at a random moment of its interval.
    pub fn schedule(&mut self, now: Instant, timers: &mut Timers) {
        let rng = &mut self.rng;
        let mut within = |interval: Duration| now + interval.mul_f64(rng.random::<f64>());
        for (at, source) in self.sources.iter_mut().enumerate() {
            let start = within(source.interval());
            source.start(start);
            timers.push(start, self.endpoint, What::Send(at));
        }
        if self.sink.is_some() {
            return;
        }
        timers.push(within(REPORT_EVERY), self.endpoint, What::Report);
        timers.push(within(FEEDBACK_EVERY), self.endpoint, What::Feedback);
    }

    /// Disappears without notice. Its streams no longer count beyond what has arrived.
    pub fn vanish(&mut self, context: &Context) {
        self.session = None;
        for stream in self.sources.iter().flat_map(SourceSender::streams) {
            if let Some(state) = context.shared.streams.get(stream) {
                // Nothing is expected after what each receiver has got.
                state.made.store(0, Ordering::Release);
            }
        }
    }

    /// Handles a datagram from the socket.
    pub fn datagram(
        &mut self,
        bytes: &mut [u8],
        remote: SocketAddr,
        at: Instant,
        context: &mut Context,
    ) {
        match bytes {
            // STUN and DTLS (RFC 7983).
            [0..=3 | 20..=63, ..] => {
                // A full queue means that the agent is gone or stuck; STUN and DTLS retransmit.
                let _ = self.ice.try_send((Bytes::copy_from_slice(bytes), remote));
            }
            [128..=191, 192..=223, ..] if self.sink.is_none() => self.rtcp(bytes, at, context),
            [128..=191, 192..=223, ..] => {}
            [128..=191, ..] => match self.sink.as_mut().filter(|_| self.session.is_some()) {
                Some(sink) => sink.rtp(bytes, at, context),
                None => self.rtp(bytes, at, context),
            },
            _ => {}
        }
    }

    fn rtp(&mut self, bytes: &mut [u8], at: Instant, context: &mut Context) {
        let Some(session) = &mut self.session else { return };
        let drop = context.shared.media.drop_received;
        if drop > 0.0 && self.rng.random::<f64>() < drop {
            self.counts.dropped += 1;
            return;
        }
        let header_len = packet::header_len(bytes);
        let ssrc = bytes.get(8..).and_then(|rest| rest.first_chunk()).copied();
        let (Some(header_len), Some(ssrc)) = (header_len, ssrc.map(u32::from_be_bytes)) else {
            self.counts.not_opened += 1;
            return;
        };
        let opened = match session.opener.rtp(bytes, header_len, ssrc) {
            Err(NotOpened::Replay) => {
                self.counts.replays += 1;
                return;
            }
            opened => opened.ok().and_then(|len| bytes.get(..len)),
        };
        let Some((plain, header)) = opened.and_then(|plain| Some((plain, Parsed::read(plain)?)))
        else {
            self.counts.not_opened += 1;
            return;
        };
        context.counts.received += 1;
        context.counts.received_bytes += plain.len() as u64;
        self.arrivals.take(&header, plain, context.shared.nanos(at));
        let arrived = Arrived { packet: plain, header: &header, at };
        if self.receiver.rtp(&arrived, context) && !context.missing.contains(&self.endpoint) {
            context.missing.push(self.endpoint);
        }
    }

    fn rtcp(&mut self, bytes: &mut [u8], at: Instant, context: &mut Context) {
        let Some(session) = &mut self.session else { return };
        let Some(plain) = session.opener.rtcp(bytes).and_then(|len| bytes.get(..len)) else {
            self.counts.not_opened += 1;
            return;
        };
        let wishes = feedback::read(plain, at, &mut self.receiver, &mut self.counts.heard, context);
        for ssrc in wishes.keyframes {
            for source in &mut self.sources {
                source.request_keyframe(ssrc);
            }
        }
        for (ssrc, seq) in wishes.again {
            let (mut output, sources) = output(
                session,
                &mut self.out,
                &mut self.rng,
                &mut self.counts,
                &mut self.sources,
                context,
            );
            let again = sources.iter_mut().any(|s| s.send_again(ssrc, seq, &mut output));
            self.counts.sent_again += u64::from(again);
        }
        self.out.flush(&self.socket, context);
    }

    /// Does what is due; returns when to call again.
    pub fn timer(&mut self, what: What, now: Instant, context: &mut Context) -> Option<Instant> {
        self.session.as_ref()?;
        match what {
            What::Send(at) => self.send(at, now, context),
            What::Report => {
                self.report_rtcp(now, context);
                Some(now + REPORT_EVERY)
            }
            What::Feedback => {
                if let Some(feedback) = self.arrivals.feedback(self.rtcp_ssrc) {
                    self.send_rtcp(vec![Box::new(feedback)], context);
                }
                let stuck = self.receiver.stuck(Duration::from_nanos(context.shared.nanos(now)));
                if !stuck.is_empty() {
                    self.counts.keyframes_wanted += stuck.len() as u64;
                    self.send_rtcp(feedback::keyframes(self.rtcp_ssrc, stuck), context);
                }
                Some(now + FEEDBACK_EVERY)
            }
        }
    }

    /// Makes the frame that is due and sends what may be sent; returns when to call again.
    fn send(&mut self, at: usize, now: Instant, context: &mut Context) -> Option<Instant> {
        let session = self.session.as_mut()?;
        let shared = context.shared.clone();
        let before = self.counts;
        let (mut output, sources) = output(
            session,
            &mut self.out,
            &mut self.rng,
            &mut self.counts,
            &mut self.sources,
            context,
        );
        let (next, late) = sources.get_mut(at)?.tick(now, &shared, &mut output)?;
        if let Some(late) = late {
            context.schedule_lag.saturating_record(late.as_nanos() as u64);
        }
        context.counts.sent += self.counts.sent - before.sent;
        context.counts.sent_bytes += self.counts.sent_bytes - before.sent_bytes;
        self.out.flush(&self.socket, context);
        Some(next)
    }

    /// Requests what is missing.
    pub fn ask_again(&mut self, now: Instant, context: &mut Context) {
        let missing = self.receiver.missing(now);
        if !missing.is_empty() {
            self.counts.nacks_sent +=
                missing.iter().map(|(_, seqs)| seqs.len() as u64).sum::<u64>();
            self.send_rtcp(feedback::nacks(self.rtcp_ssrc, missing), context);
        }
        if self.receiver.is_missing() {
            context.missing.push(self.endpoint);
        }
    }

    fn report_rtcp(&mut self, now: Instant, context: &mut Context) {
        let reports = self.sources.iter().flat_map(SourceSender::reports).collect();
        let received = self.receiver.reports(now);
        let wanted = self.receiver.undecodable(now);
        self.receiver.settle(Duration::from_nanos(context.shared.nanos(now)));
        self.counts.keyframes_wanted += wanted.len() as u64;
        let packets = feedback::reports(self.rtcp_ssrc, reports, &received, wanted);
        self.send_rtcp(packets, context);
    }

    fn send_rtcp(&mut self, packets: feedback::Packets, context: &mut Context) {
        let Some(session) = &mut self.session else { return };
        for mut packet in feedback::compounds(self.rtcp_ssrc, packets) {
            if session.sealer.rtcp(&mut packet) {
                self.out.push(&packet, session.remote);
            }
        }
        self.out.flush(&self.socket, context);
    }

    /// Its report so far.
    pub fn report(&self, context: &Context) -> ClientReport {
        let sources = self.receiver.sources().iter().map(|reception| {
            let (unique, expected, duplicates) = reception.arrivals(&context.shared);
            SourceReport {
                source: reception.source,
                media: context.shared.plan.sources[reception.source].media,
                totals: reception.totals,
                unique,
                expected,
                gaps: reception.gaps(),
                duplicates,
                encodings: reception.encodings(),
                screen: reception.screen().cloned(),
            }
        });
        ClientReport {
            endpoint: self.endpoint,
            started: self.started,
            connected: self.connected_at,
            present: self.session.is_some(),
            counts: self.counts,
            unstamped: self.receiver.unstamped + self.sink.as_ref().map_or(0, |sink| sink.unknown),
            sources: match &self.sink {
                Some(sink) => sink.report().collect(),
                None => sources.collect(),
            },
        }
    }
}

/// Encrypts into the outbox.
struct Sealing<'a> {
    session: &'a mut Session,
    out: &'a mut Outbox,
    rng: &'a mut StdRng,
    counts: &'a mut ClientCounts,
    drop: f64,
}

fn output<'a>(
    session: &'a mut Session,
    out: &'a mut Outbox,
    rng: &'a mut StdRng,
    counts: &'a mut ClientCounts,
    sources: &'a mut Vec<SourceSender>,
    context: &Context,
) -> (Sealing<'a>, &'a mut Vec<SourceSender>) {
    let drop = context.shared.media.drop_sent;
    (Sealing { session, out, rng, counts, drop }, sources)
}

impl Output for Sealing<'_> {
    fn send(&mut self, packet: &mut Vec<u8>, index: u64, ssrc: u32) {
        let sealed = packet::header_len(packet)
            .is_some_and(|len| self.session.sealer.rtp(packet, len, index, ssrc));
        if sealed {
            self.send_sealed(packet);
        }
    }

    fn send_sealed(&mut self, packet: &[u8]) {
        self.counts.sent += 1;
        self.counts.sent_bytes += packet.len() as u64;
        if self.drop > 0.0 && self.rng.random::<f64>() < self.drop {
            return;
        }
        self.out.push(packet, self.session.remote);
    }

    fn transport_seq(&mut self) -> u16 {
        self.session.transport_seq = self.session.transport_seq.wrapping_add(1);
        self.session.transport_seq
    }

    fn rng(&mut self) -> &mut StdRng {
        self.rng
    }
}
