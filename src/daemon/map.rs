//! Maps the configuration to the settings of each part; the only module that knows both.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use rand::RngCore as _;
use rialto_engine::{
    AllocationConfig, AudioConfig, BandwidthConfig, EngineConfig, Loudest, RedPolicy, Redundancy,
    SilenceLimit,
    ingress::keyframe::{KeyframeLimits, RequestLimit},
};
use rialto_transport::{Hash, StaticMapping, TransportConfig, harvest::HarvestConfig};

use super::{public_address, xmpp};
use crate::{
    bridge::{BridgeConfig, CaptureConfig, LoadConfig, Measure, ReducerConfig, ShutdownConfig},
    channel::Limits,
    conference::SsrcLimits,
    config::{self, Config, LoadMeasure},
};

/// Returns the addresses at which media is received: only `address`, if there is one.
pub(crate) fn media_addresses(config: &Config, address: Option<IpAddr>) -> Vec<SocketAddr> {
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    match address {
        // `::` accepts every address, as for TCP; `0.0.0.0` only IPv4.
        Some(address) if address != IpAddr::V6(Ipv6Addr::UNSPECIFIED) => addresses = vec![address],
        _ if !config.harvest.use_ipv6 || !has_ipv6() => addresses.truncate(1),
        _ => {}
    }
    addresses.into_iter().map(|ip| SocketAddr::new(ip, config.ice.port)).collect()
}

pub(super) fn engine_config(config: &Config, address: Option<IpAddr>) -> EngineConfig {
    let defaults = EngineConfig::default();
    EngineConfig {
        bind: media_addresses(config, address),
        shards: config.engine.shards.unwrap_or(defaults.shards),
        socket_buffer: config.engine.socket_buffer,
        gso: config.engine.gso,
        gro: config.engine.gro,
        video_hold: config.engine.video_hold,
        keyframes: keyframe_limits(&config.keyframe),
        audio: audio_config(config),
        allocation: allocation_config(&config.cc),
        bandwidth: BandwidthConfig {
            initial_bps: config.cc.bandwidth.initial_bps,
            min_bps: config.cc.bandwidth.min_bps,
            max_bps: config.cc.bandwidth.max_bps,
        },
        seed: rand::rng().next_u64(),
    }
}

fn allocation_config(cc: &config::Cc) -> AllocationConfig {
    AllocationConfig {
        onstage_preferred_height: cc.onstage_preferred_height,
        onstage_preferred_framerate: cc.onstage_preferred_framerate as f32,
        allow_oversend_onstage: cc.allow_oversend_onstage,
        max_oversend_bps: cc.max_oversend_bps,
        change_threshold: cc.bwe_change_threshold,
        trust_bwe: cc.trust_bwe,
        assumed_bandwidth_limit: cc.assumed_bandwidth_limit,
        max_time_between_calculations: cc.max_time_between_calculations,
        use_announced: cc.use_vla_target_bitrate,
    }
}

fn audio_config(config: &Config) -> AudioConfig {
    let (silence, red, loudest) = (&config.audio_silence, &config.redundancy, &config.loudest);
    AudioConfig {
        hold: config.engine.audio_hold,
        silence: SilenceLimit { discard: silence.discard, forwarded: silence.forwarded },
        redundancy: Redundancy {
            policy: match red.policy {
                config::RedPolicy::Noop => RedPolicy::AsSent,
                config::RedPolicy::Strip => RedPolicy::Strip,
                config::RedPolicy::ProtectAll => RedPolicy::Protect,
            },
            distance: match red.distance {
                config::RedDistance::One => 1,
                config::RedDistance::Two => 2,
            },
            voice_only: red.vad_only,
        },
        loudest: Loudest {
            only: loudest.only,
            speakers: loudest.speakers,
            dominant: loudest.dominant,
            expires: loudest.expires,
            alpha: loudest.alpha,
        },
    }
}

fn keyframe_limits(config: &config::Keyframe) -> KeyframeLimits {
    KeyframeLimits {
        receiver: RequestLimit {
            min_interval: config.min_interval,
            max: config.max_requests as usize,
            window: config.max_request_interval,
        },
        source: RequestLimit {
            min_interval: config.source_wide_min_interval,
            max: config.source_wide_max_requests as usize,
            window: config.source_wide_max_request_interval,
        },
    }
}

/// Returns whether the kernel has IPv6: containers often do not.
fn has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

pub(crate) fn transport_config(config: &Config) -> TransportConfig {
    let (ice, harvest) = (&config.ice, &config.harvest);
    let defaults = TransportConfig::default();
    let named = harvest.allowed_addresses.iter().any(IpAddr::is_loopback);
    let mappings = harvest.static_mappings.iter().map(|mapping| StaticMapping {
        local: mapping.local,
        local_port: mapping.local_port,
        public: mapping.public,
        public_port: mapping.public_port,
    });
    let accepted = config.dtls.accepted_fingerprint_hashes.iter();
    TransportConfig {
        allowed_interfaces: harvest.allowed_interfaces.clone(),
        blocked_interfaces: harvest.blocked_interfaces.clone(),
        allowed_addresses: harvest.allowed_addresses.clone(),
        blocked_addresses: harvest.blocked_addresses.clone(),
        use_ipv6: harvest.use_ipv6,
        use_link_local: harvest.use_link_local,
        loopback: harvest.loopback || named,
        advertise_private: ice.advertise_private_candidates,
        static_mappings: mappings.collect(),
        ufrag_prefix: ice.ufrag_prefix.clone().unwrap_or_default(),
        resolve_remote_candidates: ice.resolve_remote_candidates,
        restart_enabled: ice.restart.enabled,
        restart_window: ice.restart.transition_window,
        restart_timeout: ice.restart.timeout,
        consent_interval: ice.consent.interval,
        consent_timeout: consent_timeout(&ice.consent).unwrap_or(defaults.consent_timeout),
        dtls_timeout: config.dtls.handshake_timeout,
        local_hash: hash(config.dtls.local_fingerprint_hash),
        accepted_hashes: accepted.copied().map(hash).collect(),
        ..defaults
    }
}

fn hash(hash: config::Hash) -> Hash {
    match hash {
        config::Hash::Sha1 => Hash::Sha1,
        config::Hash::Sha256 => Hash::Sha256,
        config::Hash::Sha384 => Hash::Sha384,
        config::Hash::Sha512 => Hash::Sha512,
    }
}

/// The services that are queried for public addresses.
pub(crate) fn harvest_config(config: &Config) -> HarvestConfig {
    let harvest = &config.harvest;
    HarvestConfig {
        stun_servers: harvest.stun_servers.clone(),
        aws: harvest.aws,
        aws_force: harvest.aws_force,
    }
}

/// Returns how long consent lasts without an answer if the operator configured the retransmissions: the
/// longest interval plus all waits. RFC 7675 section 5.1 ends it after 30 s.
fn consent_timeout(consent: &config::Consent) -> Option<Duration> {
    let longest = Duration::from_secs(30);
    (*consent != config::Consent::default()).then(|| {
        let waits = consent.max_wait.saturating_mul(consent.max_retransmissions);
        let interval = consent.interval.saturating_mul(6) / 5;
        interval.saturating_add(consent.original_wait).saturating_add(waits).min(longest)
    })
}

pub(super) fn bridge_config(config: &Config) -> BridgeConfig {
    let defaults = EngineConfig::default();
    BridgeConfig {
        sctp: config.sctp.enabled,
        expiration_timeout: config.expiration.timeout,
        expiration_check_interval: config.expiration.check_interval,
        initial_drain: config.initial_drain_mode,
        shutdown: ShutdownConfig {
            graceful_max: config.shutdown.graceful_max_duration,
            min_participants: config.shutdown.graceful_min_participants as usize,
            delay: config.shutdown.shutting_down_delay,
        },
        initial_last_n: config.cc.initial_last_n,
        limits: Limits {
            initial_max_height: Some(config.cc.initial_max_height).filter(|height| *height >= 0),
            default_max_height: config.cc.default_max_height,
            last_n: usize::try_from(config.cc.jvb_last_n).ok(),
        },
        last_n_by_size: Arc::new(
            config.load.last_n_by_size.iter().map(|(s, n)| (*s as usize, *n as usize)).collect(),
        ),
        ssrc_limits: SsrcLimits {
            video: config.ssrc_limit.video.into(),
            audio: config.ssrc_limit.audio.into(),
        },
        connection_stats: Some(config.cc.connection_stats.interval)
            .filter(|_| config.cc.connection_stats.enabled),
        stats_filter_threshold: config.stats_filter_threshold as usize,
        recent_speakers: config.recent_speakers as usize,
        silence_after: config.silence.enabled.then_some(config.silence.timeout),
        first_transfer_timeout: config.connection_status.first_transfer_timeout,
        max_inactivity: config.connection_status.max_inactivity,
        activity_check_interval: config.connection_status.check_interval,
        web_sockets: web_socket_bases(config),
        relays_wanted: config.relays,
        announced_version: config.version.announce.then(|| xmpp::version(config).to_owned()),
        capture: capture_config(&config.capture),
        load: load_config(&config.load),
        release: config.version.release.clone(),
        shards: config.engine.shards.unwrap_or(defaults.shards),
        max_conferences: config.engine.max_conferences as usize,
        max_endpoints: config.engine.max_endpoints as usize,
        seed: rand::rng().next_u64(),
        ..BridgeConfig::default()
    }
}

fn capture_config(config: &config::Capture) -> CaptureConfig {
    CaptureConfig {
        allowed: config.allowed,
        from_start: config.from_start,
        directory: config.directory.clone(),
    }
}

fn load_config(config: &config::Load) -> LoadConfig {
    LoadConfig {
        measure: match config.measure {
            LoadMeasure::CpuUsage => Measure::CpuUsage,
            LoadMeasure::PacketRate => Measure::PacketRate,
        },
        cpu_threshold: config.cpu_threshold,
        detect_steal: config.detect_steal,
        packet_threshold: config.packet_threshold,
        average_participant_stress: config.average_participant_stress,
        cpu_recovery: config.cpu_recovery,
        packet_recovery: config.packet_recovery,
        reducer: config.reduce.then_some(ReducerConfig {
            reduction_scale: config.last_n.reduction_scale,
            recover_scale: config.last_n.recover_scale,
            impact_time: config.last_n.impact_time,
            minimum: config.last_n.minimum as usize,
            maximum: config.last_n.maximum as usize,
        }),
    }
}

/// Returns the prefixes of WebSocket addresses; none when no server accepts WebSockets.
fn web_socket_bases(config: &Config) -> Vec<String> {
    if public_address(config).is_some() { config.web_sockets.bases() } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use std::{io, path::Path};

    use super::*;

    struct Text(&'static str);

    impl rialto_hocon::Source for Text {
        fn read(&self, path: &Path) -> io::Result<String> {
            let here = path == Path::new("jvb.conf");
            if here { Ok(self.0.to_owned()) } else { Err(io::ErrorKind::NotFound.into()) }
        }

        fn env(&self, _: &str) -> Option<String> {
            None
        }
    }

    fn configured(text: &'static str) -> Config {
        config::load(Some(Path::new("jvb.conf")), &[], &Text(text)).unwrap().config
    }

    #[test]
    fn the_defaults_of_the_parts_are_those_of_the_configuration() {
        let config = Config::default();
        assert_eq!(keyframe_limits(&config.keyframe), KeyframeLimits::default());
        assert_eq!(engine_config(&config, None).audio, AudioConfig::default());
        let (ours, theirs) = (bridge_config(&config), BridgeConfig::default());
        assert_eq!(ours.first_transfer_timeout, theirs.first_transfer_timeout);
        assert_eq!(ours.max_inactivity, theirs.max_inactivity);
        assert_eq!(ours.activity_check_interval, theirs.activity_check_interval);
        assert_eq!(ours.expiration_timeout, theirs.expiration_timeout);
        assert_eq!(ours.recent_speakers, theirs.recent_speakers);
        assert_eq!(ours.ssrc_limits, theirs.ssrc_limits);
        assert_eq!(ours.silence_after, theirs.silence_after);
        assert_eq!((ours.capture, ours.load), (theirs.capture, theirs.load));
        assert_eq!(ours.connection_stats, theirs.connection_stats);
        let (ours_engine, theirs_engine) = (engine_config(&config, None), EngineConfig::default());
        assert_eq!(ours_engine.allocation, theirs_engine.allocation);
        assert_eq!(ours_engine.bandwidth, theirs_engine.bandwidth);
        let (ours, theirs) = (transport_config(&config), TransportConfig::default());
        assert_eq!(
            (ours.local_hash, ours.accepted_hashes),
            (theirs.local_hash, theirs.accepted_hashes)
        );
        assert_eq!(ours.consent_timeout, theirs.consent_timeout);
        assert_eq!(ours.restart_window, theirs.restart_window);
        assert_eq!(ours.restart_timeout, theirs.restart_timeout);
        assert_eq!(ours.dtls_timeout, theirs.dtls_timeout);
    }

    #[test]
    fn what_is_configured_reaches_the_parts() {
        let config = configured(
            "videobridge {\n\
               ep-connection-status { first-transfer-timeout = 7 s, max-inactivity-limit = 6 s\n\
                 check-interval = 100 ms }\n\
               entity-expiration { timeout = 50 s, check-interval = 40 s }\n\
               speech-activity { recent-speakers-count = 3, enable-silence-detection = true\n\
                 silence-detection-timeout = 2 s }\n\
               cc { initial-last-n = 4, jvb-last-n = 5 }\n\
               loudest { route-loudest-only = true, num-loudest = 5, always-route-dominant = false\n\
                 energy-expire-time = 1 s, energy-alpha-pct = 20 }\n\
               ice { ufrag-prefix = \"a:\", resolve-remote-candidates = true\n\
                 advertise-private-candidates = false\n\
                 restart { enabled = false, transition-window = 1 s, timeout = 2 s } }\n\
               initial-drain-mode = true, version { announce = true, release = r1 }\n\
               relay.enabled = true, ssrc-limit { video = 7, audio = 8 }\n\
               shutdown { graceful-shutdown-max-duration = 3 h, shutting-down-delay = 9 s\n\
                 graceful-shutdown-min-participants = 2 }\n\
             }\n\
             jmt { debug.pcap { enabled = true, start-enabled = true, directory = /var/x }\n\
               audio.level { discard-silence = false, forwarded-silence-packets-limit = 5 }\n\
               audio.red { policy = PROTECT_ALL, distance = ONE, vad-only = false }\n\
               dtls { handshake-timeout = 8 s, local-fingerprint-hash-function = sha-512\n\
                 accepted-fingerprint-hash-functions = [ sha-256 ] }\n\
               keyframe { min-interval = 100 ms, max-requests = 9, max-request-interval = 5 s\n\
                 source-wide-min-interval = 50 ms, source-wide-max-requests = 2\n\
                 source-wide-max-request-interval = 1 s } }\n\
             ice4j { consent-freshness.interval = 4 s\n\
               harvest { use-ipv6 = false, use-link-local-addresses = true\n\
                 mapping { stun.addresses = [ \"stun.example.com:3478\" ], aws.force = true } } }\n",
        );
        let (second, milli) = (Duration::from_secs(1), Duration::from_millis(1));
        let bridge = bridge_config(&config);
        assert_eq!(bridge.first_transfer_timeout, 7 * second);
        assert_eq!(bridge.max_inactivity, 6 * second);
        assert_eq!(bridge.activity_check_interval, 100 * milli);
        assert_eq!(bridge.expiration_timeout, 50 * second);
        assert_eq!(bridge.expiration_check_interval, 40 * second);
        assert_eq!((bridge.recent_speakers, bridge.initial_last_n), (3, 4));
        assert_eq!(bridge.silence_after, Some(2 * second));
        let silence = SilenceLimit { discard: false, forwarded: 5 };
        let policy = RedPolicy::Protect;
        let redundancy = Redundancy { policy, distance: 1, voice_only: false };
        let audio = engine_config(&config, None).audio;
        assert_eq!((audio.silence, audio.redundancy), (silence, redundancy));
        let (only, dominant, expires) = (true, false, second);
        let loudest = Loudest { only, speakers: 5, dominant, expires, alpha: 20 };
        assert_eq!(audio.loudest, loudest);
        assert_eq!(bridge.limits.last_n, Some(5));
        assert_eq!(bridge.ssrc_limits, SsrcLimits { video: 7, audio: 8 });
        assert!(bridge.relays_wanted);
        assert!(bridge.initial_drain && bridge.announced_version.is_some());
        assert_eq!(bridge.release.as_deref(), Some("r1"));
        assert_eq!(bridge.shutdown.graceful_max, 3 * 3600 * second);
        assert_eq!((bridge.shutdown.delay, bridge.shutdown.min_participants), (9 * second, 2));
        let capture = CaptureConfig { allowed: true, from_start: true, directory: "/var/x".into() };
        assert_eq!(bridge.capture, capture);
        let stun_servers = vec!["stun.example.com:3478".to_owned()];
        let asked = HarvestConfig { stun_servers, aws: true, aws_force: true };
        assert_eq!(harvest_config(&config), asked);
        let transport = transport_config(&config);
        assert!(transport.resolve_remote_candidates && !transport.advertise_private);
        assert!(!transport.restart_enabled && !transport.use_ipv6 && transport.use_link_local);
        assert_eq!((transport.restart_window, transport.restart_timeout), (second, 2 * second));
        assert_eq!((transport.consent_interval, transport.dtls_timeout), (4 * second, 8 * second));
        assert_eq!(transport.ufrag_prefix, "a:");
        assert_eq!(transport.local_hash, Hash::Sha512);
        assert_eq!(transport.accepted_hashes, [Hash::Sha256]);
        let limit = |min_interval, max, window| RequestLimit { min_interval, max, window };
        let limits = KeyframeLimits {
            receiver: limit(100 * milli, 9, 5 * second),
            source: limit(50 * milli, 2, second),
        };
        assert_eq!(keyframe_limits(&config.keyframe), limits);
    }

    #[test]
    fn what_is_configured_of_links_and_load_reaches_the_parts() {
        let config = configured(
            "videobridge {\n\
               cc { bwe-change-threshold = 20 %\n\
                 onstage-preferred-height-px = 480, onstage-preferred-framerate = 24\n\
                 allow-oversend-onstage = false, max-oversend-bitrate = 100 kbps\n\
                 trust-bwe = false, assumed-bandwidth-limit = 10 Mbps\n\
                 max-time-between-calculations = 2 s, use-vla-target-bitrate = true }\n\
               connection-stats.enabled = false\n\
               load-management { average-participant-stress = 0.02\n\
                 load-measurements { load-measurement = packet-rate\n\
                   cpu-usage { load-threshold = 0.5, detect-cpu-steal = false\n\
                     recovery-threshold = 0.4 }\n\
                   packet-rate { load-threshold = 7, recovery-threshold = 6 } }\n\
                 reducer-enabled = true, load-reducers.last-n { reduction-scale = .5\n\
                   recover-scale = 2, impact-time = 5 s, minimum-last-n-value = 3\n\
                   maximum-enforced-last-n-value = 9 }\n\
                 conference-last-n-limits { 20 = 10, \"50\" = 5 } }\n\
             }\n\
             jmt.bwe.estimator { initial-bw = 1 mbps, min-bw = 50 kbps, max-bw = 4 mbps }\n",
        );
        let second = Duration::from_secs(1);
        let bridge = bridge_config(&config);
        let load = LoadConfig {
            measure: Measure::PacketRate,
            cpu_threshold: 0.5,
            detect_steal: false,
            packet_threshold: 7,
            average_participant_stress: 0.02,
            cpu_recovery: 0.4,
            packet_recovery: 6,
            reducer: Some(ReducerConfig {
                reduction_scale: 0.5,
                recover_scale: 2.0,
                impact_time: 5 * second,
                minimum: 3,
                maximum: 9,
            }),
        };
        assert_eq!(*bridge.last_n_by_size, [(20, 10), (50, 5)].into());
        assert_eq!(bridge.connection_stats, None);
        let allocation = AllocationConfig {
            onstage_preferred_height: 480,
            onstage_preferred_framerate: 24.0,
            allow_oversend_onstage: false,
            max_oversend_bps: 100_000,
            change_threshold: 0.2,
            trust_bwe: false,
            assumed_bandwidth_limit: Some(10_000_000),
            max_time_between_calculations: 2 * second,
            use_announced: true,
        };
        let engine = engine_config(&config, None);
        assert_eq!(engine.allocation, allocation);
        let bandwidth =
            BandwidthConfig { initial_bps: 1_000_000, min_bps: 50_000, max_bps: 4_000_000 };
        assert_eq!(engine.bandwidth, bandwidth);
        assert_eq!(bridge.load, load);
    }
}
