//! The data of the status page and of `rialto top`: a summary of the bridge and one conference in full, in
//! one response. Rates are those of the last second, so that clients keep no state.

use std::{sync::Arc, time::Duration};

use rialto_engine::{BOUNDS_US, DelayHistogram};
use serde::{Deserialize, Serialize};

use super::{Bridge, Inner, SelfReport, health::ShardReport, now, registry::Handle, unix_ms};
use crate::conference::ConferenceStatus;

/// Conferences that are listed, the largest first. The others are counted.
const MAX_CONFERENCES: usize = 100;

/// A summary of the bridge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the bridge.
    pub version: String,
    /// Where it is, if that is configured.
    pub region: Option<String>,
    /// Its clock, ms since 1970.
    pub time: u64,
    /// Since it was started, seconds.
    pub uptime_s: u64,
    /// Whether it can serve.
    pub health: Health,
    /// `RUNNING`, `GRACEFUL_SHUTDOWN` or `SHUTTING_DOWN`.
    pub state: String,
    /// The bridge is in drain mode.
    pub drain: bool,
    /// Load as a fraction of the configured threshold.
    pub stress: f64,
    /// The bound of videos for each receiver at the present load, if there is one.
    pub last_n_by_load: Option<usize>,
    /// Endpoints of all conferences.
    pub endpoints: usize,
    /// RTP received, bit/s.
    pub receive_bps: u64,
    /// RTP sent, bit/s.
    pub send_bps: u64,
    /// Videos that receivers get less of for a reason that is neither the receiver's nor the sender's choice.
    pub shortages: usize,
    /// The engine's threads.
    pub shards: Vec<ShardStatus>,
    /// Conferences, the largest first.
    pub conferences: Vec<ConferenceSummary>,
    /// How many conferences are not listed.
    pub more_conferences: usize,
    /// The conference that was asked for, or the largest.
    pub shown: Option<ShownConference>,
}

/// Whether the bridge can serve.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// It can.
    pub ok: bool,
    /// It will not recover by itself.
    pub hard: bool,
    /// Why it cannot.
    pub cause: Option<String>,
}

/// An engine thread.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// Which one.
    pub shard: u16,
    /// Since its last report, ms.
    pub reported_ms_ago: u64,
    /// The part of the last second in which it did not sleep, 0..=1.
    pub busy: f64,
    /// Endpoints whose home it is.
    pub endpoints: usize,
    /// The most commands that waited for it.
    pub waiting_commands: usize,
    /// The most batches of other shards that waited for it.
    pub waiting_batches: usize,
    /// RTP packets received per second.
    pub receive_pps: u64,
    /// RTP packets sent per second.
    pub send_pps: u64,
    /// From the socket back into it, in the last second; `None` when nothing was forwarded.
    pub delay: Option<Delay>,
    /// Packets dropped per second.
    pub drops_per_second: u64,
    /// Packets dropped since the start.
    pub dropped: u64,
    /// The same by reason.
    pub drops: Vec<DropStatus>,
}

/// How long packets took. A percentile is the upper bound of its bucket, µs; `None` is beyond all bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delay {
    /// Half of the packets took no longer.
    pub p50_us: Option<u64>,
    /// 99 % of the packets took no longer.
    pub p99_us: Option<u64>,
    /// Mean, µs.
    pub mean_us: u64,
}

/// Packets that were dropped for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropStatus {
    /// As in `rialto_dropped_packets_total`.
    pub reason: String,
    /// Since the start.
    pub total: u64,
    /// In the last second.
    pub per_second: u64,
}

/// A line of the list of conferences.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConferenceSummary {
    /// The bridge's id for it.
    pub id: String,
    /// The focus's id for it.
    pub meeting_id: String,
    /// The room's bare JID.
    pub name: Option<String>,
    /// When it began, ms since 1970.
    pub created: u64,
    /// Endpoints.
    pub endpoints: usize,
    /// Of these, those that send video.
    pub video_senders: usize,
    /// RTP received, bit/s.
    pub receive_bps: u64,
    /// RTP sent, bit/s.
    pub send_bps: u64,
    /// Videos that receivers get less of for a reason that is neither the receiver's nor the sender's choice.
    pub shortages: usize,
}

/// A conference in full.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShownConference {
    /// Its line in the list.
    pub summary: ConferenceSummary,
    /// Its endpoints.
    #[serde(flatten)]
    pub status: ConferenceStatus,
}

impl SelfReport {
    /// What the status page shows. `conference`: the one to show in full, by either of its ids or its name;
    /// the largest otherwise.
    pub async fn status(&self, conference: Option<&str>) -> Status {
        let health = self.health();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            region: self.region().map(str::to_owned),
            health: Health {
                ok: health.is_ok(),
                hard: health.as_ref().err().is_some_and(|error| error.hard),
                cause: health.err().map(|error| error.message),
            },
            ..self.bridge().status(conference).await
        }
    }
}

impl Bridge {
    async fn status(&self, conference: Option<&str>) -> Status {
        let mut status = Status {
            time: unix_ms(),
            uptime_s: now().saturating_duration_since(self.inner.started).as_secs(),
            state: self.shutdown_state().as_str().to_owned(),
            drain: self.drain(),
            stress: self.stress_level(),
            last_n_by_load: self.inner.last_n_by_load(),
            shards: self.inner.shard_status(),
            ..Status::default()
        };
        let mut conferences = self.inner.summaries();
        for summary in &conferences {
            status.endpoints = status.endpoints.saturating_add(summary.endpoints);
            status.receive_bps = status.receive_bps.saturating_add(summary.receive_bps);
            status.send_bps = status.send_bps.saturating_add(summary.send_bps);
            status.shortages = status.shortages.saturating_add(summary.shortages);
        }
        let wanted = |summary: &&ConferenceSummary| {
            conference.is_none_or(|wanted| {
                wanted == summary.id
                    || wanted == summary.meeting_id
                    || Some(wanted) == summary.name.as_deref()
            })
        };
        if let Some(summary) = conferences.iter().find(wanted) {
            status.shown = self.inner.shown(summary).await;
        }
        status.more_conferences = conferences.len().saturating_sub(MAX_CONFERENCES);
        conferences.truncate(MAX_CONFERENCES);
        status.conferences = conferences;
        status
    }
}

impl Inner {
    /// A conference in full.
    async fn shown(&self, summary: &ConferenceSummary) -> Option<ShownConference> {
        let handle = self.registry.by_id(&summary.id)?;
        let status = handle.mailbox.ask(|task, _| task.conference.status()).await?;
        Some(ShownConference { summary: summary.clone(), status })
    }

    /// Of all conferences, the largest first.
    fn summaries(&self) -> Vec<ConferenceSummary> {
        let summary = |handle: &Arc<Handle>| {
            let published = handle.published.load();
            let tally = &published.tally;
            ConferenceSummary {
                id: handle.id.clone(),
                meeting_id: handle.meeting_id.clone(),
                name: handle.name.clone(),
                created: handle.created_unix_ms,
                endpoints: tally.endpoints,
                video_senders: tally.video_senders,
                receive_bps: tally.receive_bps,
                send_bps: tally.send_bps,
                shortages: published.shortages,
            }
        };
        let mut all: Vec<ConferenceSummary> = self.registry.all().iter().map(summary).collect();
        // Those of one size keep their order from one reading to the next.
        all.sort_by(|a, b| b.endpoints.cmp(&a.endpoints).then_with(|| a.id.cmp(&b.id)));
        all
    }

    fn shard_status(&self) -> Vec<ShardStatus> {
        let readings = self.readings.load();
        let before = |shard: &u16| readings.before.get(shard).map(AsRef::as_ref);
        readings.shards.iter().map(|(shard, report)| shard_status(report, before(shard))).collect()
    }
}

fn shard_status(last: &ShardReport, before: Option<&ShardReport>) -> ShardStatus {
    let rate = Rate { interval: before.map(|before| last.at.saturating_duration_since(before.at)) };
    let drops: Vec<DropStatus> = last
        .drops
        .iter()
        .filter(|(_, total)| *total > 0)
        .map(|(reason, total)| {
            let known = before.and_then(|before| before.drops.iter().find(|(r, _)| r == reason));
            let per_second = rate.of(*total, known.map_or(0, |(_, total)| *total));
            DropStatus { reason: (*reason).to_owned(), total: *total, per_second }
        })
        .collect();
    let count = |read: fn(&ShardReport) -> u64| rate.of(read(last), before.map_or(0, read));
    let sum = |read: fn(&DropStatus) -> u64| drops.iter().map(read).fold(0, u64::saturating_add);
    ShardStatus {
        shard: last.load.shard,
        reported_ms_ago: now().saturating_duration_since(last.at).as_millis() as u64,
        busy: last.load.busy,
        endpoints: last.load.endpoints,
        waiting_commands: last.load.waiting.commands,
        waiting_batches: last.load.waiting.batches,
        receive_pps: count(|report| report.totals.rtp_received),
        send_pps: count(|report| report.totals.rtp_sent),
        delay: delay(&last.delays, before.map(|before| &before.delays)),
        drops_per_second: sum(|drop| drop.per_second),
        dropped: sum(|drop| drop.total),
        drops,
    }
}

/// Rates between two reports; zero while there is one only.
struct Rate {
    interval: Option<Duration>,
}

impl Rate {
    fn of(&self, now: u64, before: u64) -> u64 {
        let seconds = self.interval.map_or(0.0, |interval| interval.as_secs_f64());
        if seconds <= 0.0 {
            return 0;
        }
        (now.saturating_sub(before) as f64 / seconds).round() as u64
    }
}

/// What was measured since `before`, or since the start.
fn delay(all: &DelayHistogram, before: Option<&DelayHistogram>) -> Option<Delay> {
    let mut recent = *all;
    if let Some(before) = before {
        for (count, before) in recent.buckets.iter_mut().zip(before.buckets) {
            *count = count.saturating_sub(before);
        }
        recent.sum_us = recent.sum_us.saturating_sub(before.sum_us);
    }
    let count = recent.count();
    let percentile = |percent: u64| {
        // The least rank that has so many at or below it.
        let rank = (u128::from(count) * u128::from(percent)).div_ceil(100);
        let mut seen = 0u128;
        let reached = recent.buckets.iter().zip(BOUNDS_US).find(|(in_bucket, _)| {
            seen += u128::from(**in_bucket);
            seen >= rank
        });
        reached.map(|(_, bound)| bound).filter(|bound| *bound != u64::MAX)
    };
    let mean_us = recent.sum_us.checked_div(count)?;
    Some(Delay { p50_us: percentile(50), p99_us: percentile(99), mean_us })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentiles_are_those_of_the_last_second() {
        let mut before = DelayHistogram::default();
        for _ in 0..1000 {
            before.record(Duration::from_millis(400));
        }
        assert_eq!(delay(&before, Some(&before)), None, "nothing since");
        let mut now = before;
        for us in [40, 40, 40, 2_000] {
            now.record(Duration::from_micros(us));
        }
        let expected = Delay { p50_us: Some(50), p99_us: Some(2_500), mean_us: 530 };
        assert_eq!(delay(&now, Some(&before)), Some(expected));
        now.record(Duration::from_secs(2));
        let slow = delay(&now, Some(&before)).unwrap();
        assert_eq!((slow.p50_us, slow.p99_us), (Some(50), None), "beyond all bounds");
        assert_eq!(delay(&now, None).unwrap().p50_us, Some(500_000), "since the start");
    }

    #[test]
    fn rates_are_per_second() {
        let rate = |interval: Option<u64>| Rate { interval: interval.map(Duration::from_millis) };
        assert_eq!(rate(Some(500)).of(30, 10), 40);
        assert_eq!(rate(Some(500)).of(10, 30), 0, "a counter that began anew");
        assert_eq!(rate(Some(0)).of(30, 10), 0);
        assert_eq!(rate(None).of(30, 0), 0);
    }

    proptest! {
        #[test]
        fn any_two_histograms_have_percentiles(
            counts in any::<[u64; 12]>(), sum in any::<u64>(),
            earlier in any::<[u64; 12]>(), earlier_sum in any::<u64>(),
        ) {
            let all = DelayHistogram { buckets: counts, sum_us: sum };
            let before = DelayHistogram { buckets: earlier, sum_us: earlier_sum };
            for before in [None, Some(&before)] {
                if let Some(Delay { p50_us: Some(half), p99_us: Some(most), .. }) = delay(&all, before) {
                    prop_assert!(half <= most);
                }
            }
        }
    }
}
