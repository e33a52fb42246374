//! The Data Channel Establishment Protocol (RFC 8832): the peer opens, we acknowledge.

/// DATA_CHANNEL_ACK (RFC 8832 section 5.2).
pub(super) const ACK: [u8; 1] = [2];

const OPEN: u8 = 3;
const HEADER: usize = 12;

/// How messages of a channel are delivered (RFC 8832 section 5.1), in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reliability {
    /// Every message arrives.
    Reliable,
    /// A message is given up after this many retransmissions.
    Retransmissions(u32),
    /// A message is given up after this many milliseconds.
    Lifetime(u32),
}

/// DATA_CHANNEL_OPEN (RFC 8832 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Open<'a> {
    /// Messages may overtake each other.
    pub unordered: bool,
    /// The reliability.
    pub reliability: Reliability,
    /// The channel's name.
    pub label: &'a str,
    /// The subprotocol.
    pub protocol: &'a str,
}

/// Why a message is not a DATA_CHANNEL_OPEN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DcepError {
    /// The message is of another type.
    #[error("not a DATA_CHANNEL_OPEN")]
    Type,
    /// Its length does not fit the lengths in it.
    #[error("wrong length")]
    Length,
    /// The channel type is not one of the six.
    #[error("unknown channel type")]
    ChannelType,
    /// Label or protocol are not UTF-8.
    #[error("not UTF-8")]
    Text,
}

impl<'a> Open<'a> {
    /// Reads a message.
    pub(crate) fn parse(message: &'a [u8]) -> Result<Self, DcepError> {
        if message.first() != Some(&OPEN) {
            return Err(DcepError::Type);
        }
        let (header, texts) = message.split_first_chunk::<HEADER>().ok_or(DcepError::Length)?;
        // Bytes 2 and 3 are the priority, which decides how channels share: there is only one.
        let [_, kind, _, _, p0, p1, p2, p3, l0, l1, n0, n1] = *header;
        let parameter = u32::from_be_bytes([p0, p1, p2, p3]);
        let reliability = match kind & 0x7f {
            0 => Reliability::Reliable,
            1 => Reliability::Retransmissions(parameter),
            2 => Reliability::Lifetime(parameter),
            _ => return Err(DcepError::ChannelType),
        };
        let label_length = usize::from(u16::from_be_bytes([l0, l1]));
        let protocol_length = usize::from(u16::from_be_bytes([n0, n1]));
        let (label, protocol) = texts.split_at_checked(label_length).ok_or(DcepError::Length)?;
        if protocol.len() != protocol_length {
            return Err(DcepError::Length);
        }
        Ok(Self {
            unordered: kind & 0x80 != 0,
            reliability,
            label: std::str::from_utf8(label).map_err(|_| DcepError::Text)?,
            protocol: std::str::from_utf8(protocol).map_err(|_| DcepError::Text)?,
        })
    }

    /// Writes it, as a peer does in tests. Texts are cut at 65 535 bytes, the limit of a length
    /// field.
    #[cfg(test)]
    pub(crate) fn write(&self) -> Vec<u8> {
        let (kind, parameter) = match self.reliability {
            Reliability::Reliable => (0, 0),
            Reliability::Retransmissions(count) => (1, count),
            Reliability::Lifetime(milliseconds) => (2, milliseconds),
        };
        let cut = |text: &'a str| text.get(..text.len().min(usize::from(u16::MAX))).unwrap_or("");
        let (label, protocol) = (cut(self.label), cut(self.protocol));
        let mut message = vec![OPEN, kind | u8::from(self.unordered) << 7, 0, 0];
        message.extend(parameter.to_be_bytes());
        message.extend((label.len() as u16).to_be_bytes());
        message.extend((protocol.len() as u16).to_be_bytes());
        message.extend(label.as_bytes());
        message.extend(protocol.as_bytes());
        message
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As Chromium writes what lib-jitsi-meet asks for.
    const JITSI: &[u8] = b"\x03\x00\x01\x00\x00\x00\x00\x00\x00\x10\x00\x22\
        JVB data channelhttp://jitsi.org/protocols/colibri";

    #[test]
    fn what_a_client_of_jitsi_sends() {
        let open = Open::parse(JITSI).unwrap();
        assert_eq!(open.label, "JVB data channel");
        assert_eq!(open.protocol, "http://jitsi.org/protocols/colibri");
        assert_eq!((open.unordered, open.reliability), (false, Reliability::Reliable));
    }

    #[test]
    fn what_is_wrong() {
        assert_eq!(Open::parse(&[]), Err(DcepError::Type));
        assert_eq!(Open::parse(&ACK), Err(DcepError::Type));
        assert_eq!(Open::parse(&JITSI[..11]), Err(DcepError::Length));
        assert_eq!(Open::parse(&JITSI[..JITSI.len() - 1]), Err(DcepError::Length));
        assert_eq!(Open::parse(&[JITSI, b"x"].concat()), Err(DcepError::Length));
        assert_eq!(Open::parse(&[3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err(DcepError::ChannelType));
        assert_eq!(Open::parse(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 255]), Err(DcepError::Text));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(
            unordered: bool,
            which in 0..3,
            parameter: u32,
            label in ".{0,40}",
            protocol in ".{0,40}",
        ) {
            let reliability = match which {
                0 => Reliability::Reliable,
                1 => Reliability::Retransmissions(parameter),
                _ => Reliability::Lifetime(parameter),
            };
            let open = Open { unordered, reliability, label: &label, protocol: &protocol };
            let written = open.write();
            prop_assert_eq!(Open::parse(&written), Ok(open));
        }

        #[test]
        fn anything_is_read_or_refused(data in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Open::parse(&data);
        }
    }
}
