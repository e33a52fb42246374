//! Compares what a peer sent, and what left because of it, with the table of docs/budgets.md.

use super::{
    OWN,
    call::{AUDIO_SSRC, Call, VIDEO_RTX, VIDEO_SSRC},
    person::{RTT, Traffic},
};

/// What a peer has sent, and what was signalled.
#[derive(Debug, Default)]
pub(super) struct Spent {
    /// All datagrams, repeated ones too.
    pub(super) datagrams: Traffic,
    /// RTP of its own, each packet once.
    pub(super) rtp: Traffic,
    /// RTCP of its own.
    pub(super) rtcp: Traffic,
    /// Commands of control.
    pub(super) signals: u64,
}

/// Bytes that the bridge adds to a packet: MID, other forms of extensions, padding.
const ADDED: u64 = 64;
/// A compound packet of an honest endpoint: a report, a request, a BYE, a CNAME of 64 bytes.
const REPORT: u64 = 240;
/// The largest compound packet.
const COMPOUND: u64 = 1_200 + 40;
/// Sources of the peer.
const SOURCES: u64 = 3;
/// Limits of retransmissions to a receiver: at once, and per millisecond.
const BURST: u64 = 128 << 10;
const FLOOR_PER_MS: u64 = 12;

impl Spent {
    /// Panics if more was sent than the table allows.
    pub(super) fn judge(&self, call: &Call, peer: usize) {
        let ms = call.elapsed().as_millis() as u64;
        for who in 0..call.people.len() {
            if who != peer {
                self.judge_other(call, who, ms);
            }
        }
        self.judge_peer(call, peer, ms);
        self.judge_events(call, ms);
    }

    /// Checks the events for conferences.
    fn judge_events(&self, call: &Call, ms: u64) {
        let events = call.events;
        // One snapshot per shard and second.
        let most = call.cores.len() as u64 * (ms / 1_000 + 2);
        assert!(events.snapshots <= most, "{events:?}, {most} snapshots");
        // Audio levels ten times a second, of the honest sender and of each source of the peer,
        // which is a new one each time it comes back.
        let lives = 1 + self.signals;
        let most = (1 + SOURCES * lives) * (ms / 100 + 2);
        assert!(events.levels <= most, "{events:?}, {most} levels");
        // Allocations ten times a second, and once more for each time that a receiver joins.
        let receivers = call.people.len() as u64;
        let most = receivers * (ms / 100 + 2) + self.signals;
        assert!(events.allocations <= most, "{events:?}, {most} allocations");
    }

    /// Checks what another endpoint was sent because of the peer.
    fn judge_other(&self, call: &Call, who: usize, ms: u64) {
        let media = Self::of(call, who);
        assert!(media.packets <= self.rtp.packets, "{media:?} of {:?}", self.rtp);
        let bytes = self.rtp.bytes + ADDED * media.packets;
        assert!(media.bytes <= bytes, "{media:?} of {:?}", self.rtp);
        // A new link is probed for the video that comes first, whatever the peer sends.
        let probes = Self::probes(call, who);
        assert!(probes.packets <= sum(call, |t| t.probes_sent));
        assert!(probes.bytes <= BURST + FLOOR_PER_MS * ms, "{probes:?}");

        // Reports to senders twice a second; requests every 200 ms for each of two encodings;
        // sender reports once a second for each source, and when it begins; a BYE when it ends.
        let asked = call.people[who].keyframe_requests;
        let requests = 2 * (ms / 200 + 1);
        assert!(asked <= requests, "{asked} requests of {requests}");
        let seconds = ms / 1_000 + 1;
        let most = 2 * seconds + requests + (SOURCES + 2) * (seconds + 2 * self.signals + 1);
        let rtcp = call.people[who].rtcp;
        assert!(rtcp.packets <= most, "{rtcp:?} of {most}");
        assert!(rtcp.bytes <= REPORT * rtcp.packets, "{rtcp:?}");
    }

    /// Checks what the peer itself was sent.
    fn judge_peer(&self, call: &Call, peer: usize, ms: u64) {
        let person = &call.people[peer];
        let (audio, again) = (person.traffic(AUDIO_SSRC), sum(call, |t| t.retransmissions_sent));
        // All is seen under the SSRC of the first encoding.
        let (video, rtx) = (person.traffic(VIDEO_SSRC), person.traffic(VIDEO_RTX));
        let others = (1..2).map(|n| person.traffic(VIDEO_SSRC + n).packets);
        assert_eq!(others.sum::<u64>(), 0);
        assert_eq!(OWN.iter().map(|ssrc| person.traffic(*ssrc).packets).sum::<u64>(), 0);
        let all = audio.packets + video.packets + rtx.packets;
        // Only the peer sends feedback, so the others are probed when they begin and not again. The
        // bytes of probes share the limit of retransmissions below.
        let probes = sum(call, |t| t.probes_sent);
        let most = call.honest + again + probes;
        assert!(all <= most, "{all} of {}, {again} again and {probes} probes", call.honest);

        let quiet = (RTT.as_millis() as u64) * 9 / 10 - 1;
        // Nobody else requests retransmissions: RTX packets to others were probes.
        let others = (0..call.people.len()).filter(|who| *who != peer);
        let others = others.map(|who| call.people[who].rtx_packets()).sum::<u64>();
        let first = video.packets + rtx.packets - again - (probes - others);
        // Twice each if the peer reports losses.
        let most = first * 8.min(2 * (ms / quiet + 1));
        assert!(again <= most, "{again} of {most} again");
        let media = audio.bytes + video.bytes + rtx.bytes;
        let burst = (1 + self.signals) * (BURST + 1_500);
        assert!(rtx.bytes <= media / 4 + FLOOR_PER_MS * ms + burst, "{rtx:?}");

        // Reports; a NACK ten times for each packet that may have left a gap, and feedback about
        // it; one keyframe request each 200 ms for each of four encodings; reports about two
        // sources.
        let seconds = ms / 1_000 + 1;
        let streams = 4 * (1 + self.signals);
        let caused = 11 * self.rtp.packets + streams * (ms / 200 + 1);
        let most = 2 * seconds + 1 + caused + 2 * (seconds + 2 * self.signals + 1);
        // Answers to its receiver reference times.
        let most = most + ms / 200 + 1;
        // And in any case four at a time each 10 ms.
        let most = most.min(4 * (ms / 10 + ms / 50 + 2) + 4 * (seconds + self.signals));
        assert!(person.rtcp.packets <= most, "{:?} of {most}", person.rtcp);
        assert!(person.rtcp.bytes <= COMPOUND * person.rtcp.packets);
    }
}

/// Sum over the shards.
fn sum(call: &Call, of: impl Fn(&crate::ShardTotals) -> u64) -> u64 {
    call.cores.iter().map(|core| of(&core.totals)).sum()
}
