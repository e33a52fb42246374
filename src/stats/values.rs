//! Values of statistics, and the published data that the bridge does not measure itself.

use std::{fmt, time::Duration};

use serde_json::Value;

/// A number of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A count.
    Whole(u64),
    /// A fraction, a mean, a level.
    Fraction(f64),
    /// 0 or 1 in text, a boolean in JSON.
    Flag(bool),
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<usize> for Number {
    fn from(value: usize) -> Self {
        Self::Whole(value as u64)
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Fraction(if value.is_finite() { value } else { 0.0 })
    }
}

impl From<bool> for Number {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}

impl From<Number> for Value {
    fn from(number: Number) -> Self {
        match number {
            Number::Whole(value) => value.into(),
            Number::Fraction(value) => value.into(),
            Number::Flag(value) => value.into(),
        }
    }
}

/// The value of a statistic.
#[derive(Clone, Debug, PartialEq)]
pub enum Stat {
    /// A number or a flag.
    Number(Number),
    /// A text.
    Text(String),
}

impl From<&str> for Stat {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl<N: Into<Number>> From<N> for Stat {
    fn from(number: N) -> Self {
        Self::Number(number.into())
    }
}

impl From<Stat> for Value {
    fn from(stat: Stat) -> Self {
        match stat {
            Stat::Number(number) => number.into(),
            Stat::Text(text) => text.into(),
        }
    }
}

/// As JVB writes it into presence: a fraction always has a point.
impl fmt::Display for Stat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(Number::Whole(value)) => write!(f, "{value}"),
            Self::Number(Number::Fraction(value)) => write!(f, "{value:?}"),
            Self::Number(Number::Flag(value)) => write!(f, "{value}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// Published data that the bridge does not measure itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Surroundings {
    /// When this is, since 1970.
    pub now: Duration,
    /// Version of the bridge, as others compare it.
    pub version: String,
    /// Release, if configured.
    pub release: Option<String>,
    /// Region, if configured.
    pub region: Option<String>,
    /// Threads of this process, where the system provides the number.
    pub threads: Option<u64>,
    /// XMPP connections.
    pub mucs: Mucs,
}

/// XMPP connections and the rooms they are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mucs {
    /// Connections that are configured.
    pub clients_configured: usize,
    /// Of these, connected.
    pub clients_connected: usize,
    /// Rooms to be in.
    pub configured: usize,
    /// Of these, joined.
    pub joined: usize,
    /// Connections that were lost so far.
    pub disconnects: u64,
    /// For how long no room was joined, where there are some to join.
    pub absent_for: Option<Duration>,
}

/// `yyyy-MM-dd HH:mm:ss.SSS`, UTC. The date by the civil-calendar arithmetic of days since 1970:
/// years begin in March, so that the leap day is the last of its year.
pub fn timestamp(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let millis = since_1970.subsec_millis();
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{millis:03}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps() {
        for (millis, expected) in [
            (0, "1970-01-01 00:00:00.000"),
            (951_782_400_000, "2000-02-29 00:00:00.000"),
            (1_709_251_199_999, "2024-02-29 23:59:59.999"),
            (1_795_453_997_180, "2026-11-23 17:13:17.180"),
        ] {
            assert_eq!(timestamp(Duration::from_millis(millis)), expected);
        }
    }
}
