//! Numbers with units, as `jvb.conf` writes them: durations, sizes, bandwidths, percentages.

use std::time::Duration;

/// Parses a duration: `5 seconds`, `500ms`, `1.5 h`; without a unit, milliseconds. Returns `None` for
/// anything else, for negative values and for more than 300 years.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let nanoseconds = match unit {
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => 1.0,
        "us" | "micro" | "micros" | "microsecond" | "microseconds" => 1e3,
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1e6,
        "s" | "second" | "seconds" => 1e9,
        "m" | "minute" | "minutes" => 60e9,
        "h" | "hour" | "hours" => 3600e9,
        "d" | "day" | "days" => 86400e9,
        _ => return None,
    };
    let total = number * nanoseconds;
    (total < 1e19).then(|| Duration::from_nanos(total.round() as u64))
}

/// Formats a duration in its largest whole unit: `90 s`, `2 min`, `250 µs`.
pub fn show_duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    for (unit, name) in [
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "min"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "µs"),
    ] {
        if nanoseconds >= unit && nanoseconds.is_multiple_of(unit) {
            return format!("{} {name}", nanoseconds / unit);
        }
    }
    if nanoseconds == 0 { "0 s".to_owned() } else { format!("{nanoseconds} ns") }
}

/// Parses a size in bytes: `10485760`, `10m`, `10 MiB` (powers of two), `10 MB` (powers of ten).
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let scale: u64 = match unit {
        "" | "B" | "b" | "byte" | "bytes" => 1,
        "kB" | "kilobyte" | "kilobytes" => 1_000,
        "MB" | "megabyte" | "megabytes" => 1_000_000,
        "GB" | "gigabyte" | "gigabytes" => 1_000_000_000,
        "K" | "k" | "Ki" | "KiB" | "kibibyte" | "kibibytes" => 1 << 10,
        "M" | "m" | "Mi" | "MiB" | "mebibyte" | "mebibytes" => 1 << 20,
        "G" | "g" | "Gi" | "GiB" | "gibibyte" | "gibibytes" => 1 << 30,
        _ => return None,
    };
    let bytes = number * scale as f64;
    (bytes < 1e15).then_some(bytes.round() as u64)
}

/// Parses a bandwidth: `500 kbps`, `20 mbps`, `30000 bps`. A unit is required, in any case.
pub fn bandwidth(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let scale = match unit.to_ascii_lowercase().as_str() {
        "bps" => 1.0,
        "kbps" => 1e3,
        "mbps" => 1e6,
        "gbps" => 1e9,
        _ => return None,
    };
    let bits = number * scale;
    (bits < 1e15).then_some(bits.round() as u64)
}

/// Formats a bandwidth in its largest whole unit: `20 mbps`, `2500 kbps`.
pub fn show_bandwidth(bps: u64) -> String {
    for (unit, name) in [(1_000_000, "mbps"), (1_000, "kbps")] {
        if bps >= unit && bps.is_multiple_of(unit) {
            return format!("{} {name}", bps / unit);
        }
    }
    format!("{bps} bps")
}

/// Parses a fraction: `0.15`, or `15 %`, which is the same.
pub fn fraction(text: &str) -> Option<f64> {
    match split(text)? {
        (number, "") => Some(number),
        (number, "%") => Some(number / 100.0),
        _ => None,
    }
}

/// Parses `true`, `yes`, `on` and their opposites, as Lightbend's library does.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Splits a text into a non-negative number and the rest.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let number: f64 = number.parse().ok()?;
    Some((number, unit.trim()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("1 minute", 60_000),
            ("90 seconds", 90_000),
            ("15ms", 15),
            ("500", 500),
            ("1.5 s", 1500),
            ("24 hours", 86_400_000),
            (" 1 d ", 86_400_000),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(duration("250us"), Some(Duration::from_micros(250)));
        for wrong in ["", "s", "-1 s", "1 fortnight", "1 s 2", "1e3", "999999999999 d", "1.2.3 s"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
        assert_eq!(show_duration(Duration::from_secs(90)), "90 s");
        assert_eq!(show_duration(Duration::from_secs(120)), "2 min");
        assert_eq!(show_duration(Duration::ZERO), "0 s");
    }

    #[test]
    fn sizes_bandwidths_fractions_booleans() {
        assert_eq!(size("10485760"), Some(10 << 20));
        assert_eq!(size("10m"), Some(10 << 20));
        assert_eq!(size("10 MB"), Some(10_000_000));
        assert_eq!(size("10 potatoes"), None);
        assert_eq!(bandwidth("500 kbps"), Some(500_000));
        assert_eq!(bandwidth("20Mbps"), Some(20_000_000));
        assert_eq!(bandwidth("20"), None);
        assert_eq!(fraction("15 %"), Some(0.15));
        assert_eq!(fraction(".75"), Some(0.75));
        assert_eq!((boolean("yes"), boolean("off"), boolean("1")), (Some(true), Some(false), None));
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "\\PC{0,20}") {
            let _ = (duration(&text), size(&text), bandwidth(&text), fraction(&text));
        }

        #[test]
        fn what_is_shown_is_read_back(ns in 0u64..100_000_000_000_000) {
            let shown = show_duration(Duration::from_nanos(ns)).replace("min", "m").replace('µ', "u");
            prop_assert_eq!(duration(&shown), Some(Duration::from_nanos(ns)));
        }
    }
}
