//! The one task that brings conferences what engine and transports say, and what time does.

use std::sync::{Arc, Weak};

use rialto_engine::{MediaEvent, ShardSnapshot};
use rialto_media::EndpointId;
use rialto_transport::{FailReason, TransportUpdate};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::{
    Inner,
    health::ShardReport,
    load::{self, CpuTimes, Measure},
    lock, now,
    stats::ShardLoad,
};
use crate::conference::{Conference, TransportState};

/// Runs until the bridge is dropped.
pub(super) async fn run(
    bridge: Weak<Inner>,
    mut media: mpsc::Receiver<MediaEvent>,
    mut updates: mpsc::UnboundedReceiver<TransportUpdate>,
) {
    let Some((activity_interval, expiration_interval)) = bridge.upgrade().map(|bridge| {
        (bridge.config.activity_check_interval, bridge.config.expiration_check_interval)
    }) else {
        return;
    };
    let mut activity = interval(activity_interval);
    activity.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut expiration = interval(expiration_interval);
    expiration.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut loads = interval(load::INTERVAL);
    loads.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut media_open, mut updates_open) = (true, true);
    loop {
        enum Happened {
            Media(Option<MediaEvent>),
            Update(Option<TransportUpdate>),
            Activity,
            Expiration,
            Load,
        }
        let happened = tokio::select! {
            event = media.recv(), if media_open => Happened::Media(event),
            update = updates.recv(), if updates_open => Happened::Update(update),
            _ = activity.tick() => Happened::Activity,
            _ = expiration.tick() => Happened::Expiration,
            _ = loads.tick() => Happened::Load,
        };
        let Some(bridge) = bridge.upgrade() else { return };
        match happened {
            Happened::Media(Some(event)) => {
                if matches!(event, MediaEvent::Snapshot(_)) {
                    let queues = &mut lock(&bridge.reports).queues;
                    (queues.media_events, queues.transport_updates) = (media.len(), updates.len());
                }
                bridge.on_media(event);
            }
            Happened::Media(None) => {
                media_open = false;
                lock(&bridge.reports).engine_gone = true;
                tracing::error!("the engine has stopped");
            }
            Happened::Update(Some(update)) => bridge.on_update(&update),
            Happened::Update(None) => {
                updates_open = false;
                lock(&bridge.reports).transports_gone = true;
                tracing::error!("the transports have stopped");
            }
            Happened::Activity => {
                bridge.check_activity();
                bridge.check_channels();
                bridge.advance_shutdown();
            }
            Happened::Expiration => bridge.check_expiration(),
            Happened::Load => {
                let busiest = lock(&bridge.reports).busiest();
                lock(&bridge.load).look(CpuTimes::now(), busiest, &bridge.config.load);
                bridge.count_packets();
                bridge.reduce_load();
            }
        }
    }
}

impl Inner {
    fn on_media(&self, event: MediaEvent) {
        match event {
            MediaEvent::AudioLevel { endpoint, source, level } => {
                self.with_endpoint(endpoint, |conference, effects| {
                    conference.audio_level(endpoint, level, now(), effects);
                    conference.voice_heard(endpoint, source, level, effects);
                });
            }
            MediaEvent::Snapshot(snapshot) => self.on_snapshot(*snapshot),
            MediaEvent::Allocated(allocation) => {
                self.with_endpoint(allocation.receiver, |conference, effects| {
                    conference.allocated(*allocation, now(), effects);
                });
            }
        }
    }

    fn on_snapshot(&self, snapshot: ShardSnapshot) {
        let load = ShardLoad {
            shard: snapshot.shard,
            busy: snapshot.busy.into(),
            endpoints: snapshot.endpoints.len(),
            waiting: snapshot.waiting,
        };
        let rates = snapshot.endpoints.iter().flat_map(|e| [e.receive_pps, e.send_pps]);
        let packet_rate = rates.fold(0, u64::saturating_add);
        for endpoint in snapshot.endpoints {
            self.with_endpoint(endpoint.endpoint, |conference, effects| {
                conference.measured(endpoint, effects);
            });
        }
        let ShardSnapshot { totals, drops, delays, pacing, .. } = snapshot;
        let report = ShardReport { at: now(), totals, drops, delays, pacing, load, packet_rate };
        lock(&self.reports).take(report);
    }

    fn on_update(self: &Arc<Self>, update: &TransportUpdate) {
        let (endpoint, state) = match update {
            TransportUpdate::Connected { endpoint } => (*endpoint, TransportState::Connected),
            TransportUpdate::Ready { endpoint } => (*endpoint, TransportState::Ready),
            TransportUpdate::Failed { endpoint, reason } => {
                if *reason == FailReason::IceTimeout {
                    self.totals.ice_failed();
                }
                (*endpoint, TransportState::Failed)
            }
            TransportUpdate::Disconnected { endpoint } => (*endpoint, TransportState::Disconnected),
            TransportUpdate::Closed { endpoint } => (*endpoint, TransportState::Closed),
            TransportUpdate::ChannelOpened { endpoint } => {
                return self.data_channel_opened(*endpoint);
            }
            TransportUpdate::ChannelText { endpoint, text } => {
                return self.data_channel_text(*endpoint, text);
            }
            TransportUpdate::ChannelClosed { endpoint } => {
                return self.data_channel_closed(*endpoint);
            }
        };
        self.with_endpoint(endpoint, |conference, effects| {
            let id = conference.by_engine_id(endpoint).map(|e| e.id.as_str());
            tracing::info!(
                conference = %conference.identity().id,
                meeting = %conference.identity().meeting_id,
                endpoint = id,
                ?update,
                "transport changed"
            );
            conference.transport_changed(endpoint, state, now(), effects);
        });
    }

    pub(super) fn with_endpoint(
        &self,
        endpoint: EndpointId,
        change: impl FnOnce(&mut crate::conference::Conference, &mut crate::conference::Effects),
    ) {
        // The route is not kept locked: the change may remove it.
        let Some(handle) = self.routes.get(&endpoint).map(|route| route.value().clone()) else {
            return;
        };
        self.with(&handle, change);
    }

    fn check_activity(&self) {
        for handle in self.handles() {
            let changed = self.with(&handle, |conference, effects| {
                if !self.config.web_sockets.is_empty() && conference.lacks_channels(now()) {
                    tracing::warn!(
                        conference = %handle.id,
                        meeting = %handle.meeting_id,
                        addresses = ?self.config.web_sockets,
                        "nobody has opened a bridge channel: do WebSocket addresses lead here?"
                    );
                }
                conference.tick(now(), &|id| self.transports.last_activity(id), effects)
            });
            self.totals.activity_changed(changed.unwrap_or_default());
        }
    }

    /// Lowers or raises how many videos everybody gets, by the load of the last while.
    fn reduce_load(&self) {
        let Some(config) = &self.config.load.reducer else { return };
        let packets = match self.config.load.measure {
            Measure::CpuUsage => 0,
            Measure::PacketRate => lock(&self.reports).packet_rate(),
        };
        let pressure = lock(&self.load).pressure(packets, &self.config.load);
        let tallies = || self.handles().into_iter().filter_map(|one| one.read(Conference::tally));
        let most_forwarded = || tallies().map(|tally| tally.most_forwarded).max().unwrap_or(0);
        let Some(step) = lock(&self.reducer).look(pressure, most_forwarded, config, now()) else {
            return;
        };
        let (before, after) = (step.before, step.after);
        tracing::warn!(
            ?pressure,
            last_n_before = before,
            last_n = after,
            "the bridge's load changes how many videos everybody gets"
        );
        for handle in self.handles() {
            self.with(&handle, |conference, effects| conference.limit_by_load(after, effects));
        }
    }

    /// How many videos anybody gets while the bridge is as busy as it is.
    pub(super) fn last_n_by_load(&self) -> Option<usize> {
        lock(&self.reducer).limit()
    }

    /// Adds what conferences carried since the last look.
    fn count_packets(&self) {
        let tallies =
            self.handles().into_iter().filter_map(|handle| handle.read(Conference::tally));
        let tallies: Vec<_> = tallies.collect();
        let mut packets = lock(&self.packets);
        for tally in &tallies {
            packets.add(tally, load::INTERVAL);
        }
    }

    /// Counts those that should have a channel by now and have none.
    fn check_channels(&self) {
        let now = now();
        let mut due = lock(&self.channels_due);
        let mut missing = 0;
        while let Some((at, endpoint)) = due.front().copied()
            && at <= now
        {
            due.pop_front();
            let is_there = self.routes.contains_key(&endpoint);
            missing += usize::from(is_there && self.channels.kinds(endpoint).is_empty());
        }
        self.totals.without_channel(missing);
    }

    fn check_expiration(&self) {
        for handle in self.handles() {
            if handle.read(|conference| conference.should_expire(now())) == Some(true) {
                self.expire(&handle, "nobody is in it");
                continue;
            }
            let expired =
                self.with(&handle, |conference, effects| conference.expire_idle(now(), effects));
            for (endpoint, why) in expired.unwrap_or_default() {
                tracing::info!(
                    conference = %handle.id, meeting = %handle.meeting_id, endpoint, why, "endpoint idle"
                );
            }
        }
    }
}
