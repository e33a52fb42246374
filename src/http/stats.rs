//! `/colibri/stats`: what a bridge publishes about itself, as JSON.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value};

use super::{Shared, VERSION, readings};

pub(super) async fn stats(State(shared): State<Shared>) -> Response {
    let stats = shared.bridge.stats();
    let mut fields: Map<String, Value> = readings::STATS
        .iter()
        .map(|(name, read)| ((*name).to_owned(), read(&stats).into()))
        .collect();
    if let Some(threads) = threads() {
        fields.insert("threads".to_owned(), threads.into());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    fields.insert("current_timestamp".to_owned(), timestamp(now).into());
    fields.insert("version".to_owned(), VERSION.into());
    if let Some(release) = &shared.release {
        fields.insert("release".to_owned(), release.as_ref().into());
    }
    Json(fields).into_response()
}

/// Threads of this process, where the system tells.
pub(super) fn threads() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("Threads:"))?.trim().parse().ok()
}

/// `yyyy-MM-dd HH:mm:ss.SSS`, UTC. The date by the civil-calendar arithmetic of days since 1970:
/// years begin in March, so that the leap day is the last of its year.
fn timestamp(since_1970: Duration) -> String {
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
