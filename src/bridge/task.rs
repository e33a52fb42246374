//! The task of a conference: it owns the conference's state and handles its messages one after the other
//! through its [`Mailbox`](super::mailbox::Mailbox) or with its ticks.
//!
//! What a change decides goes out before the next message is looked at, so that engine, transports and
//! channels see changes in the order in which they were decided.

use std::{
    collections::{HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use rialto_engine::Tap;
use rialto_media::{EndpointId, LogLimit, Rate};
use rialto_transport::{FailReason, TransportUpdate};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval_at},
};

use super::{
    Inner,
    data_channel::DataChannel,
    mailbox::{Level, Media, Message},
    now,
    registry::{Handle, Published},
};
use crate::conference::{Conference, Effects, SMALL, TransportState};

/// An endpoint without a bridge channel after this long is counted, as in JVB.
const CHANNEL_DELAY: Duration = Duration::from_secs(30);

/// After a message that took this long the task yields to others on its thread.
const LONG: Duration = Duration::from_micros(200);

/// Rate of log lines about messages that cannot be handled: a peer may send many of them.
static PANICS: LogLimit = LogLimit::new(Rate::per_second(10, 10));

/// A conference and what belongs to it.
pub(super) struct Task {
    pub handle: Arc<Handle>,
    pub conference: Conference,
    /// Endpoints whose packets are captured.
    pub taps: HashMap<EndpointId, Tap>,
    pub data_channels: HashMap<EndpointId, DataChannel>,
    /// Endpoints that should have a channel by then.
    channels_due: VecDeque<(Instant, EndpointId)>,
    /// When to check next for endpoints that have been idle for too long.
    next_expiration: Instant,
    /// The published snapshot may be stale.
    changed: bool,
    /// The values of its counters that are already in the bridge's totals.
    counted: Counted,
    has_ended: bool,
}

/// Counters of a conference.
#[derive(Clone, Copy, Default)]
struct Counted {
    speaker_changes: u64,
    ahead: crate::conference::KeyframesAhead,
}

impl Task {
    pub(super) fn new(handle: Arc<Handle>, conference: Conference, bridge: &Inner) -> Self {
        Self {
            handle,
            conference,
            taps: HashMap::new(),
            data_channels: HashMap::new(),
            channels_due: VecDeque::new(),
            next_expiration: next_expiration(bridge),
            changed: true,
            counted: Counted::default(),
            has_ended: false,
        }
    }

    /// Runs until the conference has ended and all requests are answered, or the bridge is dropped.
    pub(super) async fn run(
        mut self,
        bridge: Weak<Inner>,
        mut mail: mpsc::UnboundedReceiver<Message>,
        tick: Duration,
    ) {
        let mut ticks = interval_at(tokio::time::Instant::now() + tick, tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.has_ended {
            let message = tokio::select! {
                // Ticks are due however many messages wait.
                biased;
                _ = ticks.tick() => None,
                message = mail.recv() => match message {
                    Some(message) => Some(message),
                    None => return,
                },
            };
            let Some(bridge) = bridge.upgrade() else { return };
            let begun = Instant::now();
            let taken = catch_unwind(AssertUnwindSafe(|| match message {
                Some(message) => self.take(&bridge, message),
                None => self.tick(&bridge),
            }));
            if taken.is_err()
                && let Some(suppressed) = PANICS.allow(Instant::now())
            {
                let (conference, meeting) = (&self.handle.id, &self.handle.meeting_id);
                tracing::error!(%conference, %meeting, suppressed, "a message could not be handled");
            }
            if mail.is_empty() {
                self.publish_soon(&bridge);
            }
            drop(bridge);
            if begun.elapsed() > LONG {
                tokio::task::yield_now().await;
            }
        }
        mail.close();
        while let Some(message) = mail.recv().await {
            // Callers of anything else get an error when the message is dropped.
            if let Message::Request(job) = message {
                self.handle.mailbox.waiting.request_taken();
                job.refuse_as_gone();
            }
        }
    }

    fn take(&mut self, bridge: &Arc<Inner>, message: Message) {
        match message {
            Message::Request(job) => {
                self.handle.mailbox.waiting.request_taken();
                self.answer(bridge, *job);
            }
            Message::Media => self.take_media(bridge),
            Message::Transport(update) => self.transport_changed(bridge, &update),
            Message::Text(text) => {
                self.handle.mailbox.waiting.text_taken(&text);
                self.take_text(bridge, text.endpoint, text.kind, &text.body);
            }
            Message::Question(question) => question(self, bridge),
            Message::Expire(why, done) => {
                self.expire(bridge, why);
                let _ = done.send(());
            }
        }
    }

    /// Applies a change to the conference, and then its effects.
    pub(super) fn change<T>(
        &mut self,
        bridge: &Inner,
        change: impl FnOnce(&mut Conference, &mut Effects) -> T,
    ) -> T {
        let (result, _) = self.quiet_change(bridge, change);
        self.changed = true;
        result
    }

    /// The same for a change that most times changes nothing of the published snapshot. Also returns whether
    /// the conference announced something.
    fn quiet_change<T>(
        &mut self,
        bridge: &Inner,
        change: impl FnOnce(&mut Conference, &mut Effects) -> T,
    ) -> (T, bool) {
        let mut effects = Effects::default();
        let result = change(&mut self.conference, &mut effects);
        self.conference.send_constraints(&mut effects);
        self.conference.send_slots(&mut effects);
        let announces = !effects.events.is_empty();
        self.apply(bridge, effects);
        (result, announces)
    }

    /// Applies the effects of a change.
    pub(super) fn apply(&mut self, bridge: &Inner, effects: Effects) {
        for endpoint in effects.removed {
            bridge.transports.remove(endpoint);
            bridge.registry.remove_route(endpoint);
            self.taps.remove(&endpoint);
            bridge.channels.remove(endpoint);
            self.data_channels.remove(&endpoint);
        }
        // The client gets the source of a slot before media of it can be sent.
        for (endpoint, text) in effects.messages {
            bridge.channels.send(endpoint, text);
        }
        for control in effects.controls {
            bridge.engine.send(control);
        }
        for event in effects.events {
            self.handle.announce(event);
        }
    }

    fn take_media(&mut self, bridge: &Inner) {
        let large = self.conference.endpoints().len() > SMALL;
        let media = self.handle.mailbox.waiting.take_media(now(), large);
        let Media { levels, measured, allocated } = media;
        if !levels.is_empty() {
            let ((), announces) = self.quiet_change(bridge, |conference, effects| {
                for Level { at, endpoint, source, loudness } in levels {
                    conference.audio_level(endpoint, loudness, at, effects);
                    conference.level_received(endpoint, source, loudness, effects);
                }
            });
            self.changed |= announces;
        }
        if measured.is_empty() && allocated.is_empty() {
            return;
        }
        self.change(bridge, |conference, effects| {
            for snapshot in measured.into_values() {
                conference.measured(snapshot, effects);
            }
            for allocation in allocated.into_values() {
                conference.allocated(*allocation, now(), effects);
            }
        });
    }

    fn transport_changed(&mut self, bridge: &Arc<Inner>, update: &TransportUpdate) {
        let (endpoint, state) = match update {
            TransportUpdate::Connected { endpoint } => (*endpoint, TransportState::Connected),
            TransportUpdate::Ready { endpoint } => (*endpoint, TransportState::Ready),
            TransportUpdate::Failed { endpoint, reason } => {
                if *reason == FailReason::IceTimeout {
                    bridge.totals.ice_failed();
                }
                (*endpoint, TransportState::Failed)
            }
            TransportUpdate::Disconnected { endpoint } => (*endpoint, TransportState::Disconnected),
            TransportUpdate::Closed { endpoint } => (*endpoint, TransportState::Closed),
            TransportUpdate::ChannelOpened { endpoint } => {
                return self.data_channel_opened(bridge, *endpoint);
            }
            TransportUpdate::ChannelText { endpoint, text } => {
                return self.data_channel_text(bridge, *endpoint, text);
            }
            TransportUpdate::ChannelClosed { endpoint } => {
                return drop(self.data_channels.remove(endpoint));
            }
        };
        let Some(known) = self.conference.by_engine_id(endpoint) else { return };
        tracing::info!(
            conference = %self.handle.id,
            meeting = %self.handle.meeting_id,
            endpoint = known.id,
            ?update,
            "transport changed"
        );
        self.change(bridge, |conference, effects| {
            conference.transport_changed(endpoint, state, now(), effects);
        });
    }

    fn tick(&mut self, bridge: &Arc<Inner>) {
        // Levels may wait that did not wake the task.
        self.take_media(bridge);
        let now = now();
        if !bridge.config.web_sockets.is_empty() && self.conference.lacks_channels(now) {
            tracing::warn!(
                conference = %self.handle.id,
                meeting = %self.handle.meeting_id,
                addresses = ?bridge.config.web_sockets,
                "nobody has opened a bridge channel: do WebSocket addresses lead here?"
            );
        }
        let videos = bridge.last_n_by_load();
        let ((limited, activity), announces) = self.quiet_change(bridge, |conference, effects| {
            let limited = conference.limit_by_load(videos, effects);
            let last_activity = |id| bridge.transports.last_activity(id);
            (limited, conference.tick(now, &last_activity, effects))
        });
        self.changed |= limited || announces;
        bridge.totals.activity_changed(activity);
        self.check_channels(bridge, now);
        if now >= self.next_expiration {
            self.next_expiration = next_expiration(bridge);
            self.check_expiration(bridge, now);
        }
        if self.changed && !self.has_ended {
            self.publish(bridge);
        }
    }

    /// Notes when a new endpoint should have a channel.
    pub(super) fn expect_channel(&mut self, endpoint: EndpointId) {
        self.channels_due.push_back((now() + CHANNEL_DELAY, endpoint));
    }

    /// Counts endpoints that should have a channel by now and have none.
    fn check_channels(&mut self, bridge: &Inner, now: Instant) {
        let mut missing = 0;
        while let Some((at, endpoint)) = self.channels_due.front().copied()
            && at <= now
        {
            self.channels_due.pop_front();
            let is_there = self.conference.by_engine_id(endpoint).is_some();
            missing += usize::from(is_there && bridge.channels.kinds(endpoint).is_empty());
        }
        bridge.totals.without_channel(missing);
    }

    fn check_expiration(&mut self, bridge: &Arc<Inner>, now: Instant) {
        if self.conference.should_expire(now) {
            return self.expire(bridge, "nobody is in it");
        }
        let expired =
            self.change(bridge, |conference, effects| conference.expire_idle(now, effects));
        for (endpoint, why) in expired {
            tracing::info!(
                conference = %self.handle.id, meeting = %self.handle.meeting_id, endpoint, why, "endpoint idle"
            );
        }
    }

    /// Ends the conference.
    pub(super) fn expire(&mut self, bridge: &Inner, why: &'static str) {
        bridge.registry.remove(&self.handle);
        let mut effects = Effects::default();
        self.conference.expire(&mut effects);
        self.count(bridge);
        let lasted = now().saturating_duration_since(self.conference.created());
        bridge.totals.conference_ended(lasted);
        self.apply(bridge, effects);
        self.has_ended = true;
        let (conference, meeting) = (&self.handle.id, &self.handle.meeting_id);
        tracing::info!(%conference, %meeting, why, "conference expired");
    }

    /// Publishes what has changed; of a large conference with the next tick, because that is a sum over all
    /// of its endpoints.
    pub(super) fn publish_soon(&mut self, bridge: &Inner) {
        if self.changed && !self.has_ended && self.conference.endpoints().len() <= SMALL {
            self.publish(bridge);
        }
    }

    fn publish(&mut self, bridge: &Inner) {
        self.changed = false;
        self.count(bridge);
        let (tally, shortages) = (self.conference.tally(), self.conference.shortages());
        self.handle.published.store(Arc::new(Published { tally, shortages }));
    }

    /// Adds what the conference counted since the last time to the bridge's totals.
    fn count(&mut self, bridge: &Inner) {
        let (speaker_changes, ahead) = self.conference.counters();
        let before = std::mem::replace(&mut self.counted, Counted { speaker_changes, ahead });
        bridge.totals.speakers_changed(
            speaker_changes.saturating_sub(before.speaker_changes),
            ahead.asked.saturating_sub(before.ahead.asked),
            ahead.suppressed.saturating_sub(before.ahead.suppressed),
        );
    }
}

/// All conferences tick at the same times, counted from the bridge's start.
fn next_expiration(bridge: &Inner) -> Instant {
    let (now, every) = (now(), bridge.config.expiration_check_interval.as_nanos().max(1));
    let since = now.saturating_duration_since(bridge.started).as_nanos();
    let left = u64::try_from(every - since % every).unwrap_or(u64::MAX);
    now.checked_add(Duration::from_nanos(left)).unwrap_or(now)
}
