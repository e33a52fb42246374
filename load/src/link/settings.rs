//! Settings of a link, and their text form: `rate=5M delay=25ms loss=2%`.

use std::time::Duration;

use crate::units;

/// One direction of a link.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Bits per second; `None` is no limit, 0 carries nothing.
    pub rate: Option<u64>,
    /// Longest wait for the bottleneck; packets that would wait longer are dropped.
    pub queue: Duration,
    /// Delay of every packet.
    pub delay: Duration,
    /// Most additional random delay.
    pub jitter: Duration,
    /// Fraction of packets that jitter does not delay, so that they overtake those that it does.
    pub overtake: f64,
    /// Fraction of packets that are lost on the way.
    pub loss: f64,
    /// Mean number of packets in a row per loss; 1: single losses.
    pub burst: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rate: None,
            queue: Duration::from_millis(300),
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            overtake: 0.0,
            loss: 0.0,
            burst: 1.0,
        }
    }
}

/// [`Settings::rate`].
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rate(Option<u64>);

/// New values of some settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    rate: Option<Rate>,
    queue: Option<Duration>,
    delay: Option<Duration>,
    jitter: Option<Duration>,
    overtake: Option<f64>,
    loss: Option<f64>,
    burst: Option<f64>,
}

impl Change {
    /// Parses `KEY=VALUE` for each word.
    ///
    /// # Errors
    /// Names the wrong word, and why.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut change = Self::default();
        for word in text.split_whitespace() {
            let (key, value) = pair(word)?;
            change.set(key, value)?;
        }
        Ok(change)
    }

    /// Sets one value from its text.
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "rate" => self.rate = Some(rate(value)?),
            "queue" => self.queue = Some(units::duration(value)?),
            "delay" => self.delay = Some(units::duration(value)?),
            "jitter" => self.jitter = Some(units::duration(value)?),
            "overtake" => self.overtake = Some(units::percent(value)?),
            "loss" => self.loss = Some(units::percent(value)?),
            "burst" => self.burst = Some(burst(value)?),
            _ => {
                return Err(format!(
                    "'{key}' is no setting of a link: there are rate, queue, delay, jitter, \
                     overtake, loss and burst"
                ));
            }
        }
        Ok(())
    }

    /// Applies the new values to `settings`.
    pub fn apply(&self, settings: &mut Settings) {
        fn put<T: Copy>(to: &mut T, from: Option<T>) {
            if let Some(value) = from {
                *to = value;
            }
        }
        put(&mut settings.rate, self.rate.map(|Rate(rate)| rate));
        put(&mut settings.queue, self.queue);
        put(&mut settings.delay, self.delay);
        put(&mut settings.jitter, self.jitter);
        put(&mut settings.overtake, self.overtake);
        put(&mut settings.loss, self.loss);
        put(&mut settings.burst, self.burst);
    }
}

/// New values of some settings of both directions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Into the namespace.
    pub down: Change,
    /// Out of the namespace.
    pub up: Change,
}

impl Changes {
    /// Parses `KEY=VALUE` for both directions, `down.KEY=VALUE` and `up.KEY=VALUE`; the last one of
    /// a key counts.
    ///
    /// # Errors
    /// Names the wrong word, and why.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut changes = Self::default();
        for word in text.split_whitespace() {
            let (key, value) = pair(word)?;
            if let Some(key) = key.strip_prefix("down.") {
                changes.down.set(key, value)?;
            } else if let Some(key) = key.strip_prefix("up.") {
                changes.up.set(key, value)?;
            } else {
                changes.down.set(key, value)?;
                changes.up.set(key, value)?;
            }
        }
        Ok(changes)
    }
}

/// Changes with their times, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schedule(pub Vec<(Duration, Changes)>);

impl Schedule {
    /// Parses steps with `;` between them, each a time since the start and the changes then: `0s
    /// rate=5M; 20s rate=1M up.loss=2%; 40s rate=5M`.
    ///
    /// # Errors
    /// Names the wrong step, and why; times must increase.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut steps: Vec<(Duration, Changes)> = Vec::new();
        for step in text.split(';').map(str::trim).filter(|step| !step.is_empty()) {
            let (time, changes) = step.split_once(char::is_whitespace).unwrap_or((step, ""));
            let time = units::duration(time)?;
            if changes.trim().is_empty() {
                return Err(format!("'{step}' changes nothing: write it as 20s rate=1M"));
            }
            if steps.last().is_some_and(|(last, _)| *last > time) {
                return Err(format!("'{step}' is earlier than the step before it"));
            }
            steps.push((time, Changes::parse(changes)?));
        }
        Ok(Self(steps))
    }
}

fn pair(word: &str) -> Result<(&str, &str), String> {
    word.split_once('=').ok_or_else(|| format!("'{word}' is not KEY=VALUE, such as rate=5M"))
}

/// A bitrate, `0`, or `max`.
fn rate(text: &str) -> Result<Rate, String> {
    match text {
        "max" => Ok(Rate(None)),
        "0" => Ok(Rate(Some(0))),
        text => units::bitrate(text).map(|rate| Rate(Some(rate))),
    }
}

/// Packets in a row.
fn burst(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(packets) if (1.0..=1e6).contains(&packets) => Ok(packets),
        _ => Err(format!("'{text}' is no burst: packets in a row on average, 1 or more")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn every_setting_has_its_key() {
        let text = "rate=5M queue=100ms delay=25ms jitter=30ms overtake=5% loss=10% burst=8";
        let mut settings = Settings::default();
        Change::parse(text).unwrap().apply(&mut settings);
        let expected = Settings {
            rate: Some(5_000_000),
            queue: ms(100),
            delay: ms(25),
            jitter: ms(30),
            overtake: 0.05,
            loss: 0.1,
            burst: 8.0,
        };
        assert_eq!(settings, expected);
        Change::parse("rate=max loss=0").unwrap().apply(&mut settings);
        assert_eq!(settings, Settings { rate: None, loss: 0.0, ..expected });
        Change::parse("rate=0").unwrap().apply(&mut settings);
        assert_eq!(settings.rate, Some(0));
    }

    #[test]
    fn a_key_is_of_both_directions_or_of_one() {
        let changes = Changes::parse("rate=5M up.rate=1M down.loss=2%").unwrap();
        assert_eq!(changes.down, Change::parse("rate=5M loss=2%").unwrap());
        assert_eq!(changes.up, Change::parse("rate=1M").unwrap());
    }

    #[test]
    fn a_schedule_has_steps() {
        let schedule = Schedule::parse("0s rate=5M; 20s rate=1M up.loss=2%;40s rate=5M;").unwrap();
        let times: Vec<_> = schedule.0.iter().map(|(time, _)| time.as_secs()).collect();
        assert_eq!(times, [0, 20, 40]);
        assert_eq!(schedule.0[1].1, Changes::parse("rate=1M up.loss=2%").unwrap());
        assert_eq!(Schedule::parse("").unwrap(), Schedule::default());
    }

    #[test]
    fn errors_name_the_word() {
        for (text, named) in [
            ("20s", "changes nothing"),
            ("soon rate=1M", "'soon'"),
            ("20s rate=1M; 10s rate=2M", "earlier"),
            ("0s speed=1M", "'speed'"),
            ("0s rate", "'rate'"),
            ("0s rate=fast", "'fast'"),
            ("0s left.rate=1M", "'left.rate'"),
            ("0s burst=0.5", "'0.5'"),
            ("0s burst=NaN", "'NaN'"),
            ("0s loss=101%", "'101%'"),
        ] {
            let error = Schedule::parse(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
