//! The task that forwards events of the engine and of transports to conferences, and keeps the bridge's
//! measurements of itself. It waits for no conference: it writes to each one's mailbox, and reads what the
//! conference last published.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use rialto_engine::{EndpointSnapshot, MediaEvent, ShardSnapshot};
use rialto_media::EndpointId;
use rialto_transport::TransportUpdate;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::{
    Inner,
    health::ShardReport,
    load::{self, CpuTimes, Measure, Meter, Reducer},
    mailbox::Level,
    now,
    packets::PacketsBySize,
    readings::Readings,
    registry::Handle,
    stats::ShardLoad,
};

/// Events forwarded at a time, which bounds how many tasks are woken before others get a thread.
const WAKES: usize = 32;

/// Runs until the bridge is dropped.
pub(super) async fn run(
    bridge: Weak<Inner>,
    mut media: mpsc::Receiver<MediaEvent>,
    mut updates: mpsc::UnboundedReceiver<TransportUpdate>,
) {
    let Some(shutdown_interval) =
        bridge.upgrade().map(|bridge| bridge.config.activity_check_interval)
    else {
        return;
    };
    let mut shutdown = interval(shutdown_interval);
    shutdown.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut loads = interval(load::INTERVAL);
    loads.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut media_open, mut updates_open) = (true, true);
    let mut since_yield = 0;
    let mut monitor = Monitor::default();
    loop {
        enum Event {
            Media(Option<MediaEvent>),
            Update(Option<TransportUpdate>),
            Shutdown,
            Load,
        }
        let event = tokio::select! {
            event = media.recv(), if media_open => Event::Media(event),
            update = updates.recv(), if updates_open => Event::Update(update),
            _ = shutdown.tick() => Event::Shutdown,
            _ = loads.tick() => Event::Load,
        };
        // Lets the woken tasks run before more are woken.
        since_yield += 1;
        if since_yield >= WAKES {
            since_yield = 0;
            tokio::task::yield_now().await;
        }
        let Some(bridge) = bridge.upgrade() else { return };
        match event {
            Event::Media(Some(MediaEvent::Snapshot(snapshot))) => {
                let queues = &mut monitor.readings.queues;
                (queues.media_events, queues.transport_updates) = (media.len(), updates.len());
                monitor.on_snapshot(&bridge, *snapshot).await;
            }
            Event::Media(Some(event)) => on_media(&bridge, event).await,
            Event::Media(None) => {
                media_open = false;
                monitor.readings.engine_gone = true;
                monitor.publish(&bridge);
                tracing::error!("the engine has stopped");
            }
            Event::Update(Some(update)) => {
                if let Some(conference) = bridge.registry.route(endpoint_of(&update)) {
                    conference.mailbox.transport(update);
                }
            }
            Event::Update(None) => {
                updates_open = false;
                monitor.readings.transports_gone = true;
                monitor.publish(&bridge);
                tracing::error!("the transports have stopped");
            }
            Event::Shutdown => bridge.advance_shutdown(),
            Event::Load => monitor.on_load(&bridge),
        }
    }
}

async fn on_media(bridge: &Inner, event: MediaEvent) {
    match event {
        MediaEvent::AudioLevel { endpoint, source, level } => {
            let Some(conference) = bridge.registry.route(endpoint) else { return };
            conference.mailbox.level(Level { at: now(), endpoint, source, loudness: level });
        }
        MediaEvent::Allocated(allocation) => {
            let Some(conference) = bridge.registry.route(allocation.receiver) else { return };
            conference.mailbox.media(|media| {
                media.allocated.insert(allocation.receiver, allocation);
            });
        }
        MediaEvent::Snapshot(snapshot) => split(bridge, snapshot.endpoints).await,
    }
}

/// Gives each conference the measurements of all its endpoints at once.
async fn split(bridge: &Inner, endpoints: Vec<EndpointSnapshot>) {
    let mut by_conference: BTreeMap<String, (Arc<Handle>, Vec<EndpointSnapshot>)> = BTreeMap::new();
    for endpoint in endpoints {
        let Some(conference) = bridge.registry.route(endpoint.endpoint) else { continue };
        match by_conference.get_mut(&conference.id) {
            Some((_, endpoints)) => endpoints.push(endpoint),
            None => {
                by_conference.insert(conference.id.clone(), (conference, vec![endpoint]));
            }
        }
    }
    for (nth, (conference, endpoints)) in by_conference.into_values().enumerate() {
        conference.mailbox.media(|media| {
            media.measured.extend(endpoints.into_iter().map(|one| (one.endpoint, one)));
        });
        if nth % WAKES == WAKES - 1 {
            tokio::task::yield_now().await;
        }
    }
}

fn endpoint_of(update: &TransportUpdate) -> EndpointId {
    match update {
        TransportUpdate::Connected { endpoint }
        | TransportUpdate::Ready { endpoint }
        | TransportUpdate::Failed { endpoint, .. }
        | TransportUpdate::Disconnected { endpoint }
        | TransportUpdate::Closed { endpoint }
        | TransportUpdate::ChannelOpened { endpoint }
        | TransportUpdate::ChannelText { endpoint, .. }
        | TransportUpdate::ChannelClosed { endpoint } => *endpoint,
    }
}

/// The bridge's measurements of itself.
#[derive(Default)]
struct Monitor {
    readings: Readings,
    meter: Meter,
    reducer: Reducer,
    packets: PacketsBySize,
}

impl Monitor {
    async fn on_snapshot(&mut self, bridge: &Inner, snapshot: ShardSnapshot) {
        let load = ShardLoad {
            shard: snapshot.shard,
            busy: snapshot.busy.into(),
            endpoints: snapshot.endpoints.len(),
            waiting: snapshot.waiting,
        };
        let rates = snapshot.endpoints.iter().flat_map(|e| [e.receive_pps, e.send_pps]);
        let packet_rate = rates.fold(0, u64::saturating_add);
        split(bridge, snapshot.endpoints).await;
        let ShardSnapshot { totals, drops, delays, pacing, .. } = snapshot;
        let report = ShardReport { at: now(), totals, drops, delays, pacing, load, packet_rate };
        self.readings.take(report);
        self.publish(bridge);
    }

    fn on_load(&mut self, bridge: &Inner) {
        self.meter.look(CpuTimes::now(), self.readings.busiest(), &bridge.config.load);
        let conferences = bridge.registry.all();
        for conference in &conferences {
            self.packets.add(&conference.published.load().tally, load::INTERVAL);
        }
        self.readings.packets = Arc::new(self.packets.clone());
        self.reduce_load(bridge, &conferences);
        self.publish(bridge);
    }

    /// Lowers or raises the bound of videos for each receiver by the recent load. Conferences apply it with
    /// their next tick.
    fn reduce_load(&mut self, bridge: &Inner, conferences: &[Arc<Handle>]) {
        let Some(config) = &bridge.config.load.reducer else { return };
        let packets = match bridge.config.load.measure {
            Measure::CpuUsage => 0,
            Measure::PacketRate => self.readings.packet_rate(),
        };
        let pressure = self.meter.pressure(packets, &bridge.config.load);
        let published = || conferences.iter().map(|one| one.published.load());
        let most_forwarded = || published().map(|one| one.tally.most_forwarded).max().unwrap_or(0);
        let Some(step) = self.reducer.look(pressure, most_forwarded, config, now()) else {
            return;
        };
        tracing::warn!(
            ?pressure,
            last_n_before = step.before,
            last_n = step.after,
            "bound of videos per receiver changed by load"
        );
    }

    fn publish(&mut self, bridge: &Inner) {
        let config = &bridge.config.load;
        self.readings.last_n_by_load = self.reducer.limit();
        self.readings.stress = self.meter.stress(self.readings.packet_rate(), config);
        self.readings.cpu_steal = self.meter.steal();
        bridge.readings.store(Arc::new(self.readings.clone()));
    }
}
