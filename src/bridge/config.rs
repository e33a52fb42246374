//! The bridge's configuration.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{capture::CaptureConfig, load::LoadConfig};
use crate::{channel::Limits, conference::SsrcLimits};

/// How the bridge behaves. Defaults are those of Jitsi Videobridge.
#[derive(Clone, Debug)]
pub struct BridgeConfig {
    /// An endpoint from which nothing has come for this long expires
    /// (`videobridge.entity-expiration.timeout`, 1 minute).
    pub expiration_timeout: Duration,
    /// How often that is looked at (`videobridge.entity-expiration.check-interval`, 1 minute).
    pub expiration_check_interval: Duration,
    /// An endpoint that never connected expires after this long (2 minutes).
    pub connect_timeout: Duration,
    /// A conference without endpoints expires after this long (20 seconds).
    pub empty_conference_timeout: Duration,
    /// How often activity is looked at (`videobridge.ep-connection-status.check-interval`, 500 ms).
    pub activity_check_interval: Duration,
    /// An endpoint that never connected counts as disconnected after this long
    /// (`videobridge.ep-connection-status.first-transfer-timeout`, 15 seconds).
    pub first_transfer_timeout: Duration,
    /// An endpoint from which nothing has come for this long counts as disconnected
    /// (`videobridge.ep-connection-status.max-inactivity-limit`, 8 seconds).
    pub max_inactivity: Duration,
    /// SCTP for the bridge channel (`videobridge.sctp.enabled`, true in a configuration). Without it a
    /// request with `<sctp>` is refused.
    pub sctp: bool,
    /// How many videos a receiver gets until it or the focus sets its last-N; negative is all
    /// (`videobridge.cc.initial-last-n`, -1).
    pub initial_last_n: i32,
    /// Bounds of what receivers get of videos.
    pub limits: Limits,
    /// How many videos each receiver gets in a conference of this many endpoints or more
    /// (`videobridge.load-management.conference-last-n-limits`). None.
    pub last_n_by_size: Arc<BTreeMap<usize, usize>>,
    /// How often clients get the estimate of their link (`videobridge.connection-stats.interval`, 10 s);
    /// `None`: never.
    pub connection_stats: Option<Duration>,
    /// How many SSRCs a client gets whose SSRCs are rewritten (`videobridge.ssrc-limit`).
    pub ssrc_limits: SsrcLimits,
    /// In a conference of more endpoints than this, clients' statistics go only to those who see or hear them
    /// (`videobridge.stats-filter-threshold`, 20).
    pub stats_filter_threshold: usize,
    /// How many former dominant speakers clients get (`videobridge.speech-activity.recent-speakers-count`,
    /// 10).
    pub recent_speakers: usize,
    /// Clients are notified when the dominant speaker has been silent for this long
    /// (`videobridge.speech-activity.silence-detection-timeout`, 3 s, when `enable-silence-detection`). None.
    pub silence_after: Option<Duration>,
    /// What WebSocket addresses of endpoints begin with: `wss://<domain>/colibri-ws/<server id>`, one
    /// for each domain. None: there are no WebSockets.
    pub web_sockets: Vec<String>,
    /// The configuration asks for relays between bridges (`videobridge.relay.enabled`), which there are not
    /// yet. The refusal says which of the two is the cause.
    pub relays_wanted: bool,
    /// The version that clients get, if it is announced (`videobridge.version.announce`).
    pub announced_version: Option<String>,
    /// Announce no readiness for new conferences from the start (`videobridge.initial-drain-mode`).
    pub initial_drain: bool,
    /// How to shut down.
    pub shutdown: ShutdownConfig,
    /// What counts as healthy.
    pub health: HealthConfig,
    /// Captures of packets, for debugging.
    pub capture: CaptureConfig,
    /// How load is measured.
    pub load: LoadConfig,
    /// `videobridge.version.release`, if set.
    pub release: Option<String>,
    /// Engine threads that must keep reporting for the bridge to be healthy; 0 asks none.
    pub shards: u16,
    /// Requests of one conference that may wait for their turn. More are refused.
    pub max_queued_requests: usize,
    /// Conferences that there may be; more are refused with `resource-constraint`
    /// (`rialto.max-conferences`, 10,000).
    pub max_conferences: usize,
    /// Endpoints of all conferences that there may be; more are refused with `resource-constraint`
    /// (`rialto.max-endpoints`, 20,000).
    pub max_endpoints: usize,
    /// Seed of conference ids and of the bridge's own SSRCs.
    pub seed: u64,
}

/// What counts as healthy (`videobridge.health`).
#[derive(Clone, Debug)]
pub struct HealthConfig {
    /// Why clients will not find this bridge, as long as they will not: it has no public address although it
    /// must have one, or no STUN server returned one. None.
    pub address_fault: watch::Receiver<Option<String>>,
    /// `sticky-failures`: once failed, failed until a restart. false.
    pub sticky_failures: bool,
    /// `timeout`: being in none of its rooms for this long is a failure. 90 s.
    pub absence: Duration,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            address_fault: watch::Sender::new(None).subscribe(),
            sticky_failures: false,
            absence: Duration::from_secs(90),
        }
    }
}

/// How to shut down.
#[derive(Clone, Copy, Debug)]
pub struct ShutdownConfig {
    /// A graceful shutdown waits no longer than this for endpoints to leave
    /// (`videobridge.shutdown.graceful-shutdown-max-duration`, 24 hours).
    pub graceful_max: Duration,
    /// The shutdown proceeds when no more than this many endpoints are left
    /// (`videobridge.shutdown.graceful-shutdown-min-participants`, 0).
    pub min_participants: usize,
    /// Time between announcing the end and the end (`videobridge.shutdown.shutting-down-delay`,
    /// 1 minute).
    pub delay: Duration,
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self {
            graceful_max: Duration::from_secs(24 * 3600),
            min_participants: 0,
            delay: Duration::from_secs(60),
        }
    }
}

impl Default for BridgeConfig {
    fn default() -> Self {
        Self {
            expiration_timeout: Duration::from_secs(60),
            expiration_check_interval: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(120),
            empty_conference_timeout: Duration::from_secs(20),
            activity_check_interval: Duration::from_millis(500),
            first_transfer_timeout: Duration::from_secs(15),
            max_inactivity: Duration::from_secs(8),
            sctp: false,
            initial_last_n: -1,
            limits: Limits::default(),
            last_n_by_size: Arc::default(),
            connection_stats: Some(Duration::from_secs(10)),
            ssrc_limits: SsrcLimits::default(),
            stats_filter_threshold: 20,
            recent_speakers: 10,
            silence_after: None,
            web_sockets: Vec::new(),
            relays_wanted: false,
            announced_version: None,
            initial_drain: false,
            shutdown: ShutdownConfig::default(),
            health: HealthConfig::default(),
            capture: CaptureConfig::default(),
            load: LoadConfig::default(),
            release: None,
            shards: 0,
            max_queued_requests: 256,
            max_conferences: 10_000,
            max_endpoints: 20_000,
            seed: 0,
        }
    }
}
