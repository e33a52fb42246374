//! The state of a simulated receiver for congestion control feedback (RFC 8888).

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rialto_rtp::{
    Seq, SeqUnwrapper,
    rtcp::{RtcpWriter, ccfb::Fate},
};

/// Most packets of a stream in one report.
const REPORTED: u64 = 100;

#[derive(Debug, Default)]
struct Stream {
    unwrapper: SeqUnwrapper,
    arrivals: BTreeMap<u64, Instant>,
    /// The first number that was not reported on yet.
    next: Option<u64>,
}

/// Arrivals of each stream since the last report.
#[derive(Debug, Default)]
pub(super) struct CongestionRecorder {
    streams: BTreeMap<u32, Stream>,
}

impl CongestionRecorder {
    pub(super) fn on_packet(&mut self, now: Instant, ssrc: u32, seq: Seq) {
        let stream = self.streams.entry(ssrc).or_default();
        let index = stream.unwrapper.update(seq).0;
        if stream.next.is_none_or(|next| index >= next) {
            stream.next.get_or_insert(index);
            stream.arrivals.insert(index, now);
        }
    }

    /// Reports arrivals, and losses in between.
    pub(super) fn report(&mut self, now: Instant, start: Instant, w: &mut RtcpWriter<'_>) {
        let mut blocks = Vec::new();
        for (ssrc, stream) in &mut self.streams {
            let Some((&last, _)) = stream.arrivals.last_key_value() else { continue };
            let first = stream.next.unwrap_or(last).max(last.saturating_sub(REPORTED));
            let arrivals = std::mem::take(&mut stream.arrivals);
            stream.next = Some(last + 1);
            let fates: Vec<Fate> = (first..=last)
                .map(|index| arrivals.get(&index).map_or(Fate::Lost, |at| received(now - *at)))
                .collect();
            blocks.push((*ssrc, Seq(first as u16), fates));
        }
        let blocks: Vec<_> =
            blocks.iter().map(|(ssrc, first, fates)| (*ssrc, *first, fates.as_slice())).collect();
        if !blocks.is_empty() {
            let time = (now - start).as_micros() * 65_536 / 1_000_000;
            w.congestion_feedback(1, &blocks, time as u32).expect("it fits");
        }
    }
}

fn received(ago: Duration) -> Fate {
    Fate::Received((ago.as_micros() * 1_024 / 1_000_000) as u16)
}
