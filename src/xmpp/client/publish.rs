//! When the bridge says how it is: at regular times, and at once when a focus would choose otherwise.

use std::time::Duration;

use minidom::Element;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, interval_at},
};

use crate::{
    bridge::{SelfReport, ShutdownState},
    xmpp::presence,
};

/// How often what a focus chooses by is looked at between two publications.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Makes `<stats>`.
pub(super) struct Publisher {
    pub report: SelfReport,
    pub interval: Duration,
    pub whitelist: Option<Vec<String>>,
}

/// What a focus chooses by, as coarse as it makes a difference.
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
    /// The bridge itself says that it is too much.
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
    /// What there is to say now.
    pub fn stats(&self) -> Element {
        presence::stats(&self.report.read(), self.whitelist.as_deref())
    }

    /// Publishes until nobody listens.
    pub async fn run(self, to: watch::Sender<Element>) {
        // What there was to say at the start is published already.
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
    use super::*;

    #[test]
    fn stress_has_classes() {
        let of = Stress::of;
        assert_eq!([of(0.0), of(0.49), of(f64::NAN)], [Stress::Low; 3]);
        assert_eq!([of(0.5), of(0.79)], [Stress::Medium; 2]);
        assert_eq!([of(0.8), of(0.99)], [Stress::High; 2]);
        assert_eq!([of(1.0), of(7.5)], [Stress::TooMuch; 2]);
    }
}
