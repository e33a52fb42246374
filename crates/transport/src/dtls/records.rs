//! Reads DTLS records (RFC 6347 section 4.1, RFC 9147 section 4) before a library sees them, and
//! drops what anybody could have sent.

use std::borrow::Cow;

/// The longest handshake message that is passed on: a certificate of 16 KB with its issuers.
pub(super) const MAX_MESSAGE: usize = 32 * 1024;

const CHANGE_CIPHER_SPEC: usize = 20;
const ALERT: usize = 21;
pub(super) const HANDSHAKE: usize = 22;
/// Of DTLS 1.3; in plaintext only during a handshake.
const ACK: usize = 26;
pub(super) const CLIENT_HELLO: u8 = 1;
const CLIENT_KEY_EXCHANGE: u8 = 16;

/// What remains of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Screened<'a> {
    /// The records that may be passed on.
    pub bytes: Cow<'a, [u8]>,
    /// The description of a plaintext alert, which is dropped: it proves nothing (RFC 6347 section
    /// 4.1.2.7), but may show what a genuine peer objects to.
    pub alert: Option<u8>,
    /// The length of a handshake message that is longer than [`MAX_MESSAGE`].
    pub too_long: Option<usize>,
}

/// Drops records that no library should see: plaintext alerts and data, handshake messages that are
/// malformed or too long, records of unknown types. The library judges what is encrypted.
pub(super) fn screen(datagram: &[u8]) -> Screened<'_> {
    let mut screened = Screened { bytes: Cow::Borrowed(datagram), alert: None, too_long: None };
    let mut kept = Vec::new();
    let mut rest = Input(datagram);
    let mut dropped = false;
    loop {
        let before = rest.0;
        // The short header of DTLS 1.3 (RFC 9147 section 4): encrypted to the end.
        if before.first().is_none_or(|first| first & 0xe0 == 0x20) {
            kept.push(before);
            break;
        }
        let Some(record) = rest.record() else {
            dropped = true;
            break;
        };
        let here = before.get(..before.len() - rest.0.len()).unwrap_or_default();
        if passes(&record, &mut screened) {
            kept.push(here);
        } else {
            dropped = true;
        }
    }
    if dropped {
        screened.bytes = Cow::Owned(kept.concat());
    }
    screened
}

fn passes(record: &Record<'_>, screened: &mut Screened<'_>) -> bool {
    if record.epoch > 0 {
        return true;
    }
    match record.kind {
        CHANGE_CIPHER_SPEC | ACK => true,
        HANDSHAKE => {
            let mut content = Input(record.content);
            while !content.0.is_empty() {
                let Some(fragment) = content.fragment() else { return false };
                if fragment.length > MAX_MESSAGE {
                    screened.too_long = Some(fragment.length);
                    return false;
                }
            }
            true
        }
        ALERT => {
            screened.alert = record.content.get(1).copied();
            false
        }
        _ => false,
    }
}

/// A record with the long header.
struct Record<'a> {
    kind: usize,
    epoch: usize,
    content: &'a [u8],
}

/// A piece of a handshake message (RFC 6347 section 4.2.2).
pub(super) struct Fragment<'a> {
    /// The message's type.
    pub kind: u8,
    /// The message's sequence number.
    pub sequence: usize,
    /// The message's length.
    pub length: usize,
    /// The offset of the piece in the message.
    pub offset: usize,
    /// The piece.
    pub bytes: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// The random of the ClientHello that begins with this piece.
    pub(super) fn random(&self) -> Option<&'a [u8]> {
        if self.offset == 0 { self.bytes.get(2..34) } else { None }
    }
}

/// The pieces of a first ClientHello in a datagram, which may have several records.
pub(super) fn hello_pieces(datagram: &[u8]) -> impl Iterator<Item = Fragment<'_>> {
    let mut records = Input(datagram);
    let mut record = Input(&[]);
    std::iter::from_fn(move || {
        loop {
            if let Some(fragment) = record.fragment() {
                if fragment.kind == CLIENT_HELLO && fragment.sequence == 0 {
                    return Some(fragment);
                }
            } else {
                let next = records.record()?;
                let plain = next.kind == HANDSHAKE && next.epoch == 0;
                record = Input(if plain { next.content } else { &[] });
            }
        }
    })
}

/// Splits a datagram into records; a truncated rest is ignored. Everything from the first record
/// with the short header of DTLS 1.3 on stays together.
pub(super) fn split(datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Input(datagram);
    std::iter::from_fn(move || {
        let before = rest.0;
        if before.first()? & 0xe0 == 0x20 {
            rest = Input(&[]);
            return Some(before);
        }
        rest.record()?;
        before.get(..before.len() - rest.0.len())
    })
}

/// Returns whether there is a piece of a ClientKeyExchange: a client's last flight, sent for the
/// first time or again.
pub(super) fn has_key_exchange(datagram: &[u8]) -> bool {
    let mut records = Input(datagram);
    std::iter::from_fn(|| records.record())
        .filter(|record| record.kind == HANDSHAKE && record.epoch == 0)
        .any(|record| {
            let mut content = Input(record.content);
            std::iter::from_fn(|| content.fragment()).any(|piece| piece.kind == CLIENT_KEY_EXCHANGE)
        })
}

/// A reader over bytes.
pub(super) struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// Reads this many bytes.
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// Reads a number of this many bytes, at most four.
    fn number(&mut self, bytes: usize) -> Option<usize> {
        let digits = self.take(bytes)?;
        Some(digits.iter().fold(0, |number, digit| (number << 8) | usize::from(*digit)))
    }

    /// Reads a number of two bytes.
    pub(super) fn u16(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// Reads bytes with a length prefix of one byte.
    pub(super) fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.number(1)?;
        self.take(length)
    }

    /// Reads bytes with a length prefix of two bytes.
    pub(super) fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.number(2)?;
        self.take(length)
    }

    /// Reads the next record.
    fn record(&mut self) -> Option<Record<'a>> {
        let kind = self.number(1)?;
        let _version = self.take(2)?;
        let epoch = self.number(2)?;
        let _sequence = self.take(6)?;
        let content = self.vector16()?;
        Some(Record { kind, epoch, content })
    }

    /// Reads the next piece of a handshake message.
    fn fragment(&mut self) -> Option<Fragment<'a>> {
        let kind = *self.take(1)?.first()?;
        let length = self.number(3)?;
        let sequence = self.number(2)?;
        let offset = self.number(3)?;
        let here = self.number(3)?;
        let bytes = self.take(here)?;
        (offset + here <= length).then_some(Fragment { kind, sequence, length, offset, bytes })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(kind: u8, epoch: u8, content: &[u8]) -> Vec<u8> {
        let head = [kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 1];
        [&head[..], &(content.len() as u16).to_be_bytes(), content].concat()
    }

    fn message(kind: u8, length: usize, content: &[u8]) -> Vec<u8> {
        let number = |n: usize| (n as u32).to_be_bytes()[1..].to_vec();
        let head = [vec![kind], number(length), vec![0, 1], number(0), number(content.len())];
        [&head.concat()[..], content].concat()
    }

    #[test]
    fn plaintext_alerts_go_and_their_neighbours_stay() {
        let genuine = record(22, 0, &message(16, 3, &[2, 7, 7]));
        let encrypted = record(21, 1, &[9; 30]);
        let mixed = [&genuine[..], &record(21, 0, &[2, 40]), &encrypted].concat();
        let screened = screen(&mixed);
        assert_eq!(*screened.bytes, [&genuine[..], &encrypted].concat());
        assert_eq!(screened.alert, Some(40));
        let short = [0x2c, 1, 2, 3];
        assert_eq!(*screen(&[&record(21, 0, &[1, 0])[..], &short].concat()).bytes, short);
    }

    #[test]
    fn what_is_whole_is_not_copied() {
        let datagram = [record(22, 0, &message(11, 70, &[1; 60])), record(20, 0, &[1])].concat();
        assert!(matches!(screen(&datagram).bytes, Cow::Borrowed(bytes) if bytes == datagram));
    }

    #[test]
    fn a_hello_is_no_last_flight() {
        let hello = record(22, 0, &message(1, 3, &[2, 7, 7]));
        assert!(!has_key_exchange(&hello));
        let certificate = message(11, 3, &[2, 7, 7]);
        let last = [certificate, message(16, 3, &[2, 7, 7])].concat();
        assert!(has_key_exchange(&[&hello[..], &record(22, 0, &last)].concat()));
        assert!(!has_key_exchange(&record(22, 1, &last)));
    }

    #[test]
    fn a_flight_is_split_into_its_records() {
        let one = record(22, 0, &message(11, 70, &[1; 60]));
        let other = record(20, 0, &[1]);
        let short = [0x2c, 1, 2, 3];
        let whole = [&one[..], &other, &short].concat();
        assert_eq!(split(&whole).collect::<Vec<_>>(), [&one[..], &other, &short]);
        assert_eq!(split(&one[..40]).count(), 0);
    }

    #[test]
    fn long_and_malformed_messages_go() {
        let long = screen(&record(22, 0, &message(11, MAX_MESSAGE + 1, &[1; 60]))).too_long;
        assert_eq!(long, Some(MAX_MESSAGE + 1));
        for bad in [
            record(22, 0, &message(11, MAX_MESSAGE + 1, &[1; 60])),
            record(22, 0, &message(11, 59, &[1; 60])),
            record(22, 0, &[11, 0, 0]),
            record(23, 0, &[1; 20]),
            record(99, 0, &[1; 20]),
            record(22, 0, &message(11, 60, &[1; 60]))[..70].to_vec(),
        ] {
            assert!(screen(&bad).bytes.is_empty(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_datagram_is_screened_once(
            records in prop::collection::vec(
                (18u8..30, 0u8..2, prop::collection::vec(any::<u8>(), 0..40)), 0..5),
            tail in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut datagram = Vec::new();
            for (kind, epoch, content) in &records {
                let content =
                    if content.len() % 2 == 0 { message(11, 50, content) } else { content.clone() };
                datagram.extend(record(*kind, *epoch, &content));
            }
            datagram.extend(tail);
            let once = screen(&datagram).bytes.into_owned();
            prop_assert!(once.len() <= datagram.len());
            let twice = screen(&once);
            prop_assert_eq!(&*twice.bytes, &once[..]);
            prop_assert!(twice.alert.is_none() && twice.too_long.is_none());
        }
    }
}
