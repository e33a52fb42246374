//! The table of docs/budgets.md, held against what a peer sent and what left because of it.

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

/// What the bridge adds to a packet: MID, room for other forms of extensions, padding.
const ADDED: u64 = 64;
/// A compound packet of those who behave: a report, a request, a BYE, a CNAME of 64 bytes.
const REPORT: u64 = 240;
/// The largest compound packet.
const COMPOUND: u64 = 1_200 + 40;
/// Sources of the peer.
const SOURCES: u64 = 3;
/// A receiver may be sent so much again at once, and for each millisecond.
const BURST: u64 = 128 << 10;
const FLOOR_PER_MS: u64 = 12;

impl Spent {
    /// Panics when more left than the table says.
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

    /// What conferences were told.
    fn judge_events(&self, call: &Call, ms: u64) {
        let events = call.events;
        // A snapshot of each shard a second.
        let most = call.cores.len() as u64 * (ms / 1_000 + 2);
        assert!(events.snapshots <= most, "{events:?}, {most} snapshots");
        // Loudness ten times a second, of the one who behaves and of each source of the peer, which is
        // another one each time that it comes back.
        let lives = 1 + self.signals;
        let most = (1 + SOURCES * lives) * (ms / 100 + 2);
        assert!(events.levels <= most, "{events:?}, {most} levels");
        // What a receiver gets ten times a second, and once more for each time that it comes.
        let receivers = call.people.len() as u64;
        let most = receivers * (ms / 100 + 2) + self.signals;
        assert!(events.allocations <= most, "{events:?}, {most} allocations");
    }

    /// What somebody else got because of the peer.
    fn judge_other(&self, call: &Call, who: usize, ms: u64) {
        let media = Self::of(call, who);
        assert!(media.packets <= self.rtp.packets, "{media:?} of {:?}", self.rtp);
        let bytes = self.rtp.bytes + ADDED * media.packets;
        assert!(media.bytes <= bytes, "{media:?} of {:?}", self.rtp);
        // Whose video comes first is what a new link is probed with, whatever it sends.
        let probes = Self::probes(call, who);
        assert!(probes.packets <= sum(call, |t| t.probes_sent));
        assert!(probes.bytes <= BURST + FLOOR_PER_MS * ms, "{probes:?}");

        // Reports to who sends twice a second; requests each 200 ms for each of two encodings; sender
        // reports once a second for each source, and when it begins; a BYE when it ends.
        let asked = call.people[who].keyframe_requests;
        let requests = 2 * (ms / 200 + 1);
        assert!(asked <= requests, "{asked} requests of {requests}");
        let seconds = ms / 1_000 + 1;
        let most = 2 * seconds + requests + (SOURCES + 2) * (seconds + 2 * self.signals + 1);
        let rtcp = call.people[who].rtcp;
        assert!(rtcp.packets <= most, "{rtcp:?} of {most}");
        assert!(rtcp.bytes <= REPORT * rtcp.packets, "{rtcp:?}");
    }

    /// What the peer itself got.
    fn judge_peer(&self, call: &Call, peer: usize, ms: u64) {
        let person = &call.people[peer];
        let (audio, again) = (person.traffic(AUDIO_SSRC), sum(call, |t| t.retransmissions_sent));
        // All is seen under the SSRC of the first encoding.
        let (video, rtx) = (person.traffic(VIDEO_SSRC), person.traffic(VIDEO_RTX));
        let others = (1..2).map(|n| person.traffic(VIDEO_SSRC + n).packets);
        assert_eq!(others.sum::<u64>(), 0);
        assert_eq!(OWN.iter().map(|ssrc| person.traffic(*ssrc).packets).sum::<u64>(), 0);
        let all = audio.packets + video.packets + rtx.packets;
        // Only the peer tells what arrives, so that the others are probed when they begin and no more. The
        // bytes of probes share the bound of retransmissions below.
        let probes = sum(call, |t| t.probes_sent);
        let most = call.honest + again + probes;
        assert!(all <= most, "{all} of {}, {again} again and {probes} probes", call.honest);

        let quiet = (RTT.as_millis() as u64) * 9 / 10 - 1;
        // Nobody else asks for anything again: what others got as RTX were probes.
        let others = (0..call.people.len()).filter(|who| *who != peer);
        let others = others.map(|who| call.people[who].rtx_packets()).sum::<u64>();
        let first = video.packets + rtx.packets - again - (probes - others);
        // Twice each where the peer tells of losses.
        let most = first * 8.min(2 * (ms / quiet + 1));
        assert!(again <= most, "{again} of {most} again");
        let media = audio.bytes + video.bytes + rtx.bytes;
        let burst = (1 + self.signals) * (BURST + 1_500);
        assert!(rtx.bytes <= media / 4 + FLOOR_PER_MS * ms + burst, "{rtx:?}");

        // Reports; a NACK ten times for each packet that may have left a gap, and feedback on it; one
        // keyframe request each 200 ms for each of four encodings; what it is told of two sources.
        let seconds = ms / 1_000 + 1;
        let streams = 4 * (1 + self.signals);
        let caused = 11 * self.rtp.packets + streams * (ms / 200 + 1);
        let most = 2 * seconds + 1 + caused + 2 * (seconds + 2 * self.signals + 1);
        // Answers to who asks for its round trip.
        let most = most + ms / 200 + 1;
        // And, whatever comes, four at a time each 10 ms.
        let most = most.min(4 * (ms / 10 + ms / 50 + 2) + 4 * (seconds + self.signals));
        assert!(person.rtcp.packets <= most, "{:?} of {most}", person.rtcp);
        assert!(person.rtcp.bytes <= COMPOUND * person.rtcp.packets);
    }
}

/// Sum over the shards.
fn sum(call: &Call, of: impl Fn(&crate::ShardTotals) -> u64) -> u64 {
    call.cores.iter().map(|core| of(&core.totals)).sum()
}
