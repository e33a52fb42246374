//! Units as people type them: bitrates (`1500k`, `2.5M`), durations (`30s`, `2m`, `500ms`), rates
//! (`20/s`) and shares (`5`, `5%`).

use std::time::Duration;

/// Bits per second from `800000`, `1500k`, `2.5M` or `1G` (powers of ten; a trailing `bps` is
/// allowed).
pub fn bitrate(text: &str) -> Result<u64, String> {
    let bare = text.trim().trim_end_matches("bps");
    let (digits, scale) = match bare.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&bare[..at], 1e3),
        Some((at, 'm' | 'M')) => (&bare[..at], 1e6),
        Some((at, 'g' | 'G')) => (&bare[..at], 1e9),
        _ => (bare, 1.0),
    };
    let value = number(digits)
        .ok_or_else(|| format!("'{text}' is not a bitrate: write it as 1500k or 2.5M"))?;
    let bps = (value * scale).round();
    if !(1.0..=100e9).contains(&bps) {
        return Err(format!("'{text}' is out of range: 1 to 100G bits per second"));
    }
    Ok(bps as u64)
}

/// A duration from `30s`, `2m`, `1.5h`, `500ms` or plain seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bare = text.trim();
    let (digits, scale) = [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)]
        .iter()
        .find_map(|(unit, scale)| bare.strip_suffix(unit).map(|digits| (digits, *scale)))
        .unwrap_or((bare, 1.0));
    let value = number(digits)
        .ok_or_else(|| format!("'{text}' is not a duration: write it as 30s, 2m or 500ms"))?;
    let seconds = value * scale;
    if seconds > 30.0 * 24.0 * 3600.0 {
        return Err(format!("'{text}' is longer than 30 days"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Events per second from `20/s` or `20`; more than 0.
pub fn rate(text: &str) -> Result<f64, String> {
    let bare = text.trim().trim_end_matches("/s");
    match number(bare) {
        Some(value) if value > 0.0 && value <= 1e6 => Ok(value),
        _ => Err(format!("'{text}' is not a rate: write it as 20/s")),
    }
}

/// A share from 0 to 1, written as a percentage: `5` or `5%`.
pub fn percent(text: &str) -> Result<f64, String> {
    match number(text.trim().trim_end_matches('%')) {
        Some(value) if value <= 100.0 => Ok(value / 100.0),
        _ => Err(format!("'{text}' is not a percentage between 0 and 100")),
    }
}

/// A plain, finite, non-negative decimal number.
fn number(digits: &str) -> Option<f64> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    plain.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitrates() {
        assert_eq!(bitrate("1500k"), Ok(1_500_000));
        assert_eq!(bitrate("2.5M"), Ok(2_500_000));
        assert_eq!(bitrate("64kbps"), Ok(64_000));
        assert_eq!(bitrate("800000"), Ok(800_000));
        for bad in ["", "k", "fast", "-5k", "0", "1e9k", "inf", "NaN"] {
            assert!(bitrate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        assert_eq!(duration("1.5h"), Ok(Duration::from_secs(5400)));
        for bad in ["", "s", "soon", "-1s", "5x", "900000h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_and_shares() {
        assert_eq!(rate("20/s"), Ok(20.0));
        assert_eq!(rate("0.5"), Ok(0.5));
        assert!(rate("0").is_err() && rate("x/s").is_err());
        assert_eq!(percent("5"), Ok(0.05));
        assert_eq!(percent("2.5%"), Ok(0.025));
        assert!(percent("101").is_err() && percent("-1").is_err());
    }
}
