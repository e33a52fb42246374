//! Publishes statistics: at regular times, and at once when a focus would choose differently.

use std::time::Duration;

use minidom::Element;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, interval_at},
};

use super::statistics;
use crate::bridge::{SelfReport, ShutdownState};

/// How often the values that a focus chooses by are checked between two publications.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Makes `<stats>`.
pub(super) struct Publisher {
    pub report: SelfReport,
    pub interval: Duration,
    pub whitelist: Option<Vec<String>>,
}

/// The values that a focus chooses by, as coarse as they make a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Vitals {
    healthy: bool,
    drain: bool,
    shutdown: ShutdownState,
    stress: Stress,
}

/// Classes of stress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stress {
    Low,
    Medium,
    /// A focus takes the bridge for overloaded.
    High,
    /// The bridge is above its own threshold.
    TooMuch,
}

impl Stress {
    fn of(level: f64) -> Self {
        match level {
            level if level >= 1.0 => Self::TooMuch,
            level if level >= 0.8 => Self::High,
            level if level >= 0.5 => Self::Medium,
            _ => Self::Low,
        }
    }
}

impl Publisher {
    /// Publishes until nobody reads. Must be called in a tokio runtime.
    pub(super) fn start(self) -> watch::Receiver<Element> {
        let (stats, published) = watch::channel(self.stats());
        tokio::spawn(self.run(stats));
        published
    }

    /// The current values.
    fn stats(&self) -> Element {
        statistics::stats(&self.report.read(), self.whitelist.as_deref())
    }

    /// Publishes until nobody listens.
    async fn run(self, to: watch::Sender<Element>) {
        // The initial statistics are published already.
        let start = tokio::time::Instant::now() + self.interval;
        let mut ticks = interval_at(start, self.interval.max(LOOK_INTERVAL));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut said = self.vitals();
        loop {
            tokio::select! {
                _ = ticks.tick() => said = self.vitals(),
                _ = looks.tick() => {
                    let now = self.vitals();
                    if now == said {
                        continue;
                    }
                    said = now;
                    ticks.reset();
                }
                () = to.closed() => return,
            }
            to.send_replace(self.stats());
        }
    }

    fn vitals(&self) -> Vitals {
        let bridge = self.report.bridge();
        Vitals {
            healthy: bridge.health().is_ok(),
            drain: bridge.drain(),
            shutdown: bridge.shutdown_state(),
            stress: Stress::of(bridge.stress_level()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{sync::mpsc, time::Instant};

    use super::*;
    use rialto_engine::{EndpointSnapshot, MediaEvent, ShardSnapshot};
    use rialto_media::EndpointId;

    use crate::{
        bridge::{Bridge, BridgeConfig, LoadConfig, Measure},
        colibri::xml,
        faces::tests::bridge,
    };

    /// A publisher and its bridge, whose engine ends when the last value returned is dropped.
    fn start() -> (Bridge, watch::Receiver<Element>, mpsc::Sender<MediaEvent>) {
        let load = LoadConfig { measure: Measure::PacketRate, ..LoadConfig::default() };
        let (bridge, media) = bridge(BridgeConfig { load, ..BridgeConfig::default() });
        let publisher = Publisher {
            report: SelfReport::new(bridge.clone(), "1"),
            interval: Duration::from_secs(5),
            whitelist: None,
        };
        (bridge, publisher.start(), media)
    }

    fn says(published: &watch::Receiver<Element>, name: &str) -> String {
        let stats = published.borrow();
        let stat = stats.children().find(|stat| stat.attr("name") == Some(name)).unwrap();
        stat.attr("value").unwrap().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn every_interval_and_at_once_when_a_focus_would_choose_otherwise() {
        let (bridge, mut published, media) = start();
        let begin = Instant::now();
        for nth in 1..=3 {
            published.changed().await.unwrap();
            assert_eq!(begin.elapsed().as_secs(), 5 * nth);
        }
        let began = Instant::now();
        for (change, name, value) in [
            (Box::new(|| bridge.set_drain(true)) as Box<dyn FnOnce()>, "drain", "true"),
            (Box::new(|| bridge.set_drain(false)), "drain", "false"),
            (Box::new(|| bridge.graceful_shutdown()), "graceful_shutdown", "true"),
            (Box::new(|| drop(media)), "healthy", "false"),
        ] {
            change();
            published.changed().await.unwrap();
            assert_eq!(says(&published, name), value, "{name}");
        }
        assert!(began.elapsed() <= LOOK_INTERVAL * 8, "{:?}", began.elapsed());
        let begin = Instant::now();
        published.changed().await.unwrap();
        assert!(begin.elapsed() <= Duration::from_secs(5), "and at intervals from then on");
    }

    /// A shard's report of an endpoint that gets this many packets a second.
    fn busy(endpoint: u32, send_pps: u64) -> MediaEvent {
        let silent = EndpointSnapshot::silent(EndpointId(endpoint));
        let endpoints = vec![EndpointSnapshot { send_pps, ..silent }];
        MediaEvent::Snapshot(Box::new(ShardSnapshot { endpoints, ..ShardSnapshot::default() }))
    }

    #[tokio::test(start_paused = true)]
    async fn another_class_of_stress_is_published_at_once_and_the_same_one_is_not() {
        let (bridge, mut published, media) = start();
        let request = "<conference-modify xmlns='jitsi:colibri2' meeting-id='m' create='true'>\
             <endpoint id='a' create='true'><transport/><capability name='source-names'/></endpoint>\
             </conference-modify>";
        let request = xml::read_conference_modify(&request.parse().unwrap()).unwrap();
        bridge.modify(request).await.unwrap();
        published.changed().await.unwrap();
        for (packets, stress, at_once) in [
            (20_000, "0.4", false),
            (26_000, "0.52", true),
            (30_000, "0.6", false),
            (41_000, "0.82", true),
            (60_000, "1.2", true),
            (1_000, "0.02", true),
        ] {
            let begin = Instant::now();
            // The first endpoint of a bridge has the first number, whichever that is.
            for endpoint in 0..2 {
                media.send(busy(endpoint, packets)).await.unwrap();
            }
            published.changed().await.unwrap();
            assert_eq!(says(&published, "stress_level"), stress);
            let waited = begin.elapsed();
            assert_eq!(waited <= 2 * LOOK_INTERVAL, at_once, "{stress} after {waited:?}");
        }
    }

    #[test]
    fn stress_has_classes() {
        let of = Stress::of;
        assert_eq!([of(0.0), of(0.49), of(f64::NAN)], [Stress::Low; 3]);
        assert_eq!([of(0.5), of(0.79)], [Stress::Medium; 2]);
        assert_eq!([of(0.8), of(0.99)], [Stress::High; 2]);
        assert_eq!([of(1.0), of(7.5)], [Stress::TooMuch; 2]);
    }
}
