//! A client in the call: it encrypts what it sends, and decrypts and counts everything it is sent.

use std::{net::SocketAddr, time::Duration};

use rialto_media::EndpointId;
use rialto_rtp::{
    self as rtp, RtpHeader,
    rtcp::{Rtcp, RtcpPackets, ntp},
};
use rialto_srtp::{Keying, Profile, RxContext, RxStream, SrtpError, TxContext};
use rustc_hash::FxHashSet;

use super::{CAMERA_RTX, call::VIDEO_RTX};
use crate::sim::Numbering;

/// Packets, and their bytes above UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl Traffic {
    pub(super) fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

/// A stream that a client receives.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) ssrc: u32,
    srtp: Option<RxStream>,
    pub(super) traffic: Traffic,
    /// The number of the last packet, and the end of its payload.
    pub(super) last: Option<(u64, [u8; 4])>,
}

/// See the module's description.
pub(super) struct Person {
    pub(super) id: EndpointId,
    /// The address it is sent to, if any.
    pub(super) at: Option<SocketAddr>,
    pub(super) numbering: Numbering,
    pub(super) heard: Vec<Heard>,
    /// All compound packets.
    pub(super) rtcp: Traffic,
    /// Requests for keyframes.
    pub(super) keyframe_requests: u64,
    /// The middle of the last sender report's time.
    pub(super) last_report: u32,
    /// Whether retransmissions of the same packet under the same number are allowed.
    pub(super) repeats_are_fine: bool,
    profile: Profile,
    tx: TxContext,
    rx: RxContext,
    /// Received datagrams, if they may arrive again.
    seen: FxHashSet<Vec<u8>>,
}

impl Person {
    pub(super) fn new(id: u32, profile: Profile) -> Self {
        let keying = keying(profile, id);
        Self {
            id: EndpointId(id),
            at: None,
            numbering: Numbering(id as u8),
            heard: Vec::new(),
            rtcp: Traffic::default(),
            keyframe_requests: 0,
            last_report: 0,
            repeats_are_fine: false,
            profile,
            tx: TxContext::new(profile, &keying.receive).expect("a good key"),
            rx: RxContext::new(profile, &keying.send).expect("a good key"),
            seen: FxHashSet::default(),
        }
    }

    /// Changes to new keys; each epoch has its own.
    pub(super) fn rekey(&mut self, epoch: u32) -> Keying {
        let keying = keying(self.profile, epoch);
        self.tx = TxContext::new(self.profile, &keying.receive).expect("a good key");
        self.rx = RxContext::new(self.profile, &keying.send).expect("a good key");
        for heard in &mut self.heard {
            (heard.srtp, heard.last) = (None, None);
        }
        keying
    }

    /// Encrypts `buf[..len]` as RTP under an index; returns the length, if it is a packet at all.
    pub(super) fn seal(&self, buf: &mut [u8], len: usize, index: u64) -> Option<usize> {
        let header = RtpHeader::parse(buf.get(..len)?).ok()?;
        self.tx.seal_rtp(buf, header.len, len, index, header.ssrc).ok()
    }

    /// Encrypts `buf[..len]` as RTCP.
    pub(super) fn seal_rtcp(&mut self, buf: &mut [u8], len: usize) -> Option<usize> {
        self.tx.seal_rtcp(buf, len).ok()
    }

    /// Everything received under an SSRC.
    pub(super) fn traffic(&self, ssrc: u32) -> Traffic {
        self.heard(ssrc).map(|h| h.traffic).unwrap_or_default()
    }

    /// Packets of retransmissions and probes.
    pub(super) fn rtx_packets(&self) -> u64 {
        let rtx = [VIDEO_RTX].into_iter().chain(CAMERA_RTX);
        rtx.map(|ssrc| self.traffic(ssrc).packets).sum()
    }

    pub(super) fn heard(&self, ssrc: u32) -> Option<&Heard> {
        self.heard.iter().find(|h| h.ssrc == ssrc)
    }

    /// Handles what the bridge sends. All of it can be decrypted: no number is used twice, and none
    /// is too far ahead.
    pub(super) fn take(&mut self, bytes: &mut [u8]) {
        if rtp::is_rtcp(bytes) {
            return self.take_rtcp(bytes);
        }
        let header = RtpHeader::parse(bytes).expect("the bridge sends RTP");
        let at = self.heard.iter().position(|h| h.ssrc == header.ssrc).unwrap_or_else(|| {
            let (srtp, traffic, last) = (None, Traffic::default(), None);
            self.heard.push(Heard { ssrc: header.ssrc, srtp, traffic, last });
            self.heard.len() - 1
        });
        let heard = &mut self.heard[at];
        heard.traffic.add(bytes.len());
        if self.repeats_are_fine && !self.seen.insert(bytes.to_vec()) {
            return;
        }
        let opened = self.rx.open_rtp(&mut heard.srtp, bytes, header.len);
        let opened = match opened {
            // What arrives late, after much else, is of no use to a decoder.
            Err(SrtpError::TooOld) if self.repeats_are_fine => return,
            opened => opened.expect("a receiver opens all that it is sent"),
        };
        let plain = &bytes[..opened.len];
        header.payload_range(plain).expect("sound padding");
        let end = plain.last_chunk().copied().unwrap_or_default();
        heard.last = Some((opened.index, end));
    }

    fn take_rtcp(&mut self, bytes: &mut [u8]) {
        self.rtcp.add(bytes.len());
        let len = self.rx.open_rtcp(bytes).expect("a receiver opens all reports");
        assert!(len <= 1_200, "{len} bytes of RTCP");
        for packet in RtcpPackets::new(&bytes[..len]) {
            match packet.expect("the bridge sends RTCP") {
                Rtcp::SenderReport { ntp, .. } => self.last_report = ntp::middle(ntp),
                Rtcp::Pli { .. } => self.keyframe_requests += 1,
                Rtcp::Fir { requests, .. } => self.keyframe_requests += requests.count() as u64,
                _ => {}
            }
        }
    }
}

/// The keys of a client and the bridge.
pub(super) fn keying(profile: Profile, epoch: u32) -> Keying {
    let len = profile.key_len() + profile.salt_len();
    let key = |direction| {
        let mut key = vec![direction; len];
        key[1..5].copy_from_slice(&epoch.to_be_bytes());
        key
    };
    Keying { profile, receive: key(1), send: key(2) }
}

/// The round-trip time that ICE measured for everybody.
pub(super) const RTT: Duration = Duration::from_millis(40);
