//! NTP timestamps as RTCP uses them (RFC 3550 section 4).
#![expect(clippy::arithmetic_side_effects, reason = "times of 64 bits in units that leave room")]

use std::time::Duration;

/// Seconds from 1900-01-01 to 1970-01-01.
const UNIX_EPOCH: u64 = 2_208_988_800;

/// The NTP timestamp (32.32 fixed point) of a time since the Unix epoch. Seconds wrap in 2036.
#[inline]
pub fn from_unix(time: Duration) -> u64 {
    let seconds = time.as_secs().wrapping_add(UNIX_EPOCH);
    let fraction = (u64::from(time.subsec_nanos()) << 32) / 1_000_000_000;
    (seconds << 32) | fraction
}

/// The time since the Unix epoch of an NTP timestamp, in the era 1900 to 2036 unless that is before
/// 1970.
#[inline]
pub fn to_unix(ntp: u64) -> Duration {
    let seconds = ntp >> 32;
    let seconds = seconds.checked_sub(UNIX_EPOCH).unwrap_or(seconds + (1 << 32) - UNIX_EPOCH);
    let nanos = ((ntp & 0xffff_ffff) * 1_000_000_000) >> 32;
    let nanos = nanos as u32;
    Duration::new(seconds, nanos)
}

/// The middle 32 bits, 16.16 fixed point seconds: the part of a sender report that report blocks
/// repeat.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the middle is wanted")]
pub const fn middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

/// A duration as the 32.32 fixed point difference of two NTP timestamps.
#[inline]
pub fn interval(duration: Duration) -> u64 {
    let fraction = (u64::from(duration.subsec_nanos()) << 32) / 1_000_000_000;
    (duration.as_secs() << 32) | fraction
}

/// A duration in 1/65536 s, as in the delay of a report block; at most 18 hours.
#[inline]
pub fn compact(duration: Duration) -> u32 {
    u32::try_from((duration.as_nanos() << 16) / 1_000_000_000).unwrap_or(u32::MAX)
}

/// The duration of a number of 1/65536 s.
#[inline]
pub fn from_compact(units: u32) -> Duration {
    Duration::from_nanos((u64::from(units) * 1_000_000_000) >> 16)
}

/// The round-trip time from a report block that arrives at NTP time `now` (RFC 3550 section 6.4.1).
/// `None` if the block answers no sender report, or the peer claims a delay longer than the time
/// that has passed.
#[inline]
pub fn round_trip(now: u64, last_sr: u32, delay_since_last_sr: u32) -> Option<Duration> {
    if last_sr == 0 {
        return None;
    }
    let units = middle(now).wrapping_sub(last_sr).wrapping_sub(delay_since_last_sr);
    // Half the circle and more is a negative time.
    (units < 1 << 31).then(|| from_compact(units))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_times() {
        assert_eq!(from_unix(Duration::ZERO), UNIX_EPOCH << 32);
        assert_eq!(from_unix(Duration::from_millis(500)) & 0xffff_ffff, 1 << 31);
        assert_eq!(compact(Duration::from_secs(2)), 2 << 16);
        assert_eq!(interval(Duration::from_millis(2_500)), 5 << 31);
        assert_eq!(compact(Duration::from_secs(100_000)), u32::MAX);
    }

    #[test]
    fn round_trip_of_the_rfc_example() {
        // RFC 3550 section 6.4.1, figure 2: 6.125 s.
        let now = 0x0000_b710_8000_0000;
        assert_eq!(middle(now), 0xb710_8000);
        let trip = round_trip(now, 0xb705_2000, 0x0005_4000);
        assert_eq!(trip, Some(Duration::from_millis(6125)));
        assert_eq!(round_trip(now, 0, 0), None);
        assert_eq!(round_trip(now, 0xb710_7000, 0x0005_4000), None);
    }

    proptest! {
        #[test]
        fn unix_times_survive(seconds in 0u64..1 << 32, nanos in 0u32..1_000_000_000) {
            let time = Duration::new(seconds, nanos);
            let back = to_unix(from_unix(time));
            prop_assert!(time.abs_diff(back) <= Duration::from_nanos(1), "{time:?} {back:?}");
        }
    }
}
