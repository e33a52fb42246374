//! Checks whether a datagram consists of DTLS records. Other datagrams are counted.

/// Header of a record with version, epoch and number in full: RFC 6347 section 4.1, RFC 9147
/// section 4.
const PLAIN_HEADER: usize = 13;

/// The content types of such records: change_cipher_spec to ack (RFC 9147 section 4).
const PLAIN: std::ops::RangeInclusive<u8> = 20..=26;

/// Returns whether `datagram` consists of complete records and nothing else.
pub(crate) fn is_well_formed(datagram: &[u8]) -> bool {
    let mut rest = datagram;
    while let Some(&first) = rest.first() {
        let after = if PLAIN.contains(&first) { after_plain(rest) } else { after_unified(rest) };
        let Some(after) = after else { return false };
        rest = after;
    }
    !datagram.is_empty()
}

fn after_plain(record: &[u8]) -> Option<&[u8]> {
    let (header, rest) = record.split_at_checked(PLAIN_HEADER)?;
    let length = header.last_chunk::<2>().map(|length| u16::from_be_bytes(*length))?;
    // DTLS 1.0 to 1.3 have 254 as their major version.
    (header.get(1) == Some(&254)).then_some(())?;
    rest.get(usize::from(length)..)
}

/// The header of DTLS 1.3 is `001CSLEE`: a sequence number of one or two bytes (`S`), and a length
/// if `L` is set; without it the record ends with the datagram. We never negotiate connection ids
/// (`C`).
fn after_unified(record: &[u8]) -> Option<&[u8]> {
    let (&first, rest) = record.split_first()?;
    if first & 0b1110_0000 != 0b0010_0000 || first & 0b0001_0000 != 0 {
        return None;
    }
    let number = if first & 0b0000_1000 == 0 { 1 } else { 2 };
    let (_, rest) = rest.split_at_checked(number)?;
    if first & 0b0000_0100 == 0 {
        return Some(&[]);
    }
    let (length, rest) = rest.split_first_chunk::<2>()?;
    rest.get(usize::from(u16::from_be_bytes(*length))..)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u16).to_be_bytes();
        [&[kind, 254, 253, 0, 0, 0, 0, 0, 0, 0, 1][..], &length, body].concat()
    }

    #[test]
    fn records_of_both_versions_are_well_formed() {
        let alert = plain(21, &[2, 40]);
        let unified = [0b0010_1100, 0, 1, 0, 2, 7, 7];
        let to_the_end = [0b0010_0000, 1, 7, 7, 7];
        assert!(is_well_formed(&alert) && is_well_formed(&unified) && is_well_formed(&to_the_end));
        assert!(is_well_formed(&[&alert[..], &unified, &to_the_end].concat()));
    }

    #[test]
    fn what_is_cut_off_or_no_record_is_not() {
        let alert = plain(21, &[2, 40]);
        for length in 0..alert.len() {
            assert!(!is_well_formed(&alert[..length]), "{length}");
        }
        let rubbish: [&[u8]; 4] =
            [&[22; 40], &[0b0011_1100, 0, 0, 0, 0], &[0b0010_1100, 0, 1, 0, 9, 7], &[63]];
        assert!(rubbish.iter().all(|bytes| !is_well_formed(bytes)));
        assert!(!is_well_formed(&[&alert[..], &[1]].concat()));
    }

    proptest! {
        #[test]
        fn records_may_hold_anything(bodies in prop::collection::vec(any::<Vec<u8>>(), 1..5)) {
            let datagram: Vec<u8> =
                bodies.iter().flat_map(|body| plain(23, body)).collect();
            prop_assert!(is_well_formed(&datagram));
        }

        #[test]
        fn anything_is_judged(bytes in any::<Vec<u8>>()) {
            is_well_formed(&bytes);
        }
    }
}
