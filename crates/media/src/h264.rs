//! Decides which H.264 formats are the same (RFC 6184 section 8.2.2): those with the same profile
//! and packetization mode. The level does not count.

/// Default for a missing or malformed `profile-level-id` (RFC 6184 section 8.1): Baseline, level 1.
const DEFAULT: [u8; 3] = [0x42, 0x00, 0x0a];

/// Returns what must be equal for two payload types to be the same format: the profile and the
/// packetization mode, as `profile/mode`. Parameters that were not signalled have their defaults.
pub fn format(profile_level_id: Option<&str>, packetization_mode: Option<&str>) -> String {
    let mode = packetization_mode.and_then(|mode| mode.trim().parse::<u8>().ok()).unwrap_or(0);
    let [idc, iop, _] = profile_level_id.and_then(read).unwrap_or(DEFAULT);
    match profile(idc, iop) {
        Some(profile) => format!("{profile}/{mode}"),
        // A profile that is not in the table only matches itself.
        None => format!("{idc:02x}{iop:02x}/{mode}"),
    }
}

fn read(text: &str) -> Option<[u8; 3]> {
    let text = text.trim();
    let digits = text.len() == 6 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let [_, idc, iop, level] = u32::from_str_radix(text, 16).ok().filter(|_| digits)?.to_be_bytes();
    Some([idc, iop, level])
}

/// RFC 6184 section 8.1, table 5: a profile can be written in several ways. Bits 7 to 4 of `iop`
/// are the constraint flags 0 to 3; flags that the table leaves open are not compared.
fn profile(idc: u8, iop: u8) -> Option<&'static str> {
    let is = |mask: u8, value: u8| iop & mask == value;
    Some(match idc {
        0x42 if is(0x4f, 0x40) => "constrained-baseline",
        0x4d if is(0x8f, 0x80) => "constrained-baseline",
        0x58 if is(0xcf, 0xc0) => "constrained-baseline",
        0x42 if is(0x4f, 0x00) => "baseline",
        0x58 if is(0xcf, 0x80) => "baseline",
        0x4d if is(0xaf, 0x00) => "main",
        0x58 if is(0xcf, 0x00) => "extended",
        0x64 if iop == 0 => "high",
        // H.264 annex A.2.4.1: with flags 4 and 5.
        0x64 if iop == 0x0c => "constrained-high",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(profile_level_id: &str) -> String {
        format(Some(profile_level_id), Some("1"))
    }

    #[test]
    fn the_level_is_no_part_of_the_format() {
        assert_eq!(of("42e01f"), of("42E034"));
        assert_eq!(of("64001f"), of("640033"));
        assert_ne!(of("42e01f"), of("64001f"));
        assert_ne!(of("64001f"), of("640c1f"));
        assert_ne!(of("42001f"), of("42e01f"));
    }

    #[test]
    fn one_profile_is_written_in_several_ways() {
        for same in ["42c01f", "42401f", "4d801f", "4de01f", "58c01f"] {
            assert_eq!(of(same), of("42e01f"), "{same}");
        }
        assert_eq!(of("58801f"), of("42001f"));
        assert_eq!(of("4d401f"), of("4d001f"));
        assert_ne!(of("58001f"), of("4d001f"));
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        assert_eq!(format(None, None), format(Some("42000a"), Some("0")));
        assert_eq!(format(Some("nonsense"), None), format(None, None));
        assert_ne!(format(None, Some("1")), format(None, None));
        assert_eq!(format(Some("42e01f"), Some(" 1 ")), of("42e01f"));
    }

    proptest! {
        #[test]
        fn any_text_gives_a_format(id: Option<String>, mode: Option<String>) {
            prop_assert!(format(id.as_deref(), mode.as_deref()).contains('/'));
        }
    }
}
