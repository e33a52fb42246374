//! A reader of STUN messages (RFC 8489), to find out whose a datagram is and whether it is
//! authentic.
//!
//! The ICE agent parses again what passes here. This reader exists because a datagram must be
//! attributed and authenticated before anything is done with it.

mod write;

use std::net::{IpAddr, SocketAddr};

use hmac::{Hmac, Mac};
use sha1::Sha1;

pub(crate) use self::write::Writer;
use super::crc::crc32;

/// Length of the header, before the first attribute.
const HEADER: usize = 20;
const MAGIC: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802a;

/// Attributes with lower numbers must be understood by the receiver of a request (RFC 8489 section
/// 14).
const OPTIONAL: u16 = 0x8000;
/// Of these, the ones that mean nothing in a check and may be ignored: MAPPED-ADDRESS, REALM,
/// NONCE, and what RFC 8489 added for long-term credentials and for MESSAGE-INTEGRITY-SHA256.
const MEANINGLESS: [u16; 6] = [0x0001, 0x0014, 0x0015, 0x001c, 0x001d, 0x001e];
/// Most unknown attributes that are reported to the peer, so that an answer is bounded.
const MAX_UNKNOWN: usize = 8;

/// Identifies a request and its responses.
pub type TransactionId = [u8; 12];

/// The class of a message. Only the Binding method is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Binding request.
    Request,
    /// Binding indication.
    Indication,
    /// Binding success response.
    Success,
    /// Binding error response.
    Error,
}

/// ICE-CONTROLLING or ICE-CONTROLLED (RFC 8445 section 7.1.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Role {
    /// The sender is the controlling side.
    pub controlling: bool,
    /// Decides if both want the same role.
    pub tie_breaker: u64,
}

/// Why a datagram is not an acceptable STUN message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StunError {
    /// Shorter than a header, or than the header says.
    #[error("truncated")]
    Truncated,
    /// Not the magic cookie of RFC 8489 section 5.
    #[error("no magic cookie")]
    Cookie,
    /// Another method than Binding.
    #[error("unknown method")]
    Method,
    /// An attribute extends beyond the message, or has an impossible length.
    #[error("bad attribute")]
    Attribute,
    /// FINGERPRINT is present and wrong (RFC 8489 section 14.7), or not the last attribute.
    #[error("wrong fingerprint")]
    Fingerprint,
}

/// A STUN message. Attributes after MESSAGE-INTEGRITY are ignored, except FINGERPRINT.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Its class.
    pub class: Class,
    /// Its transaction.
    pub transaction: TransactionId,
    /// USERNAME.
    pub username: Option<&'a [u8]>,
    /// PRIORITY.
    pub priority: Option<u32>,
    /// Whether USE-CANDIDATE is present.
    pub use_candidate: bool,
    /// XOR-MAPPED-ADDRESS.
    pub mapped: Option<SocketAddr>,
    /// ICE-CONTROLLING or ICE-CONTROLLED.
    pub role: Option<Role>,
    /// The number in ERROR-CODE.
    pub error: Option<u16>,
    bytes: &'a [u8],
    unknown: ([u16; MAX_UNKNOWN], usize),
    integrity: Option<(usize, &'a [u8])>,
}

impl<'a> Message<'a> {
    /// Parses a datagram.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, StunError> {
        let header = bytes.get(..HEADER).ok_or(StunError::Truncated)?;
        let kind = be16(header, 0).ok_or(StunError::Truncated)?;
        let length = usize::from(be16(header, 2).ok_or(StunError::Truncated)?);
        if header.get(4..8) != Some(&MAGIC[..]) {
            return Err(StunError::Cookie);
        }
        if length % 4 != 0 || bytes.len() != HEADER + length {
            return Err(StunError::Truncated);
        }
        let class = match kind {
            0x0001 => Class::Request,
            0x0011 => Class::Indication,
            0x0101 => Class::Success,
            0x0111 => Class::Error,
            _ => return Err(StunError::Method),
        };
        let transaction =
            header.get(8..20).and_then(|t| t.try_into().ok()).ok_or(StunError::Truncated)?;
        let mut message = Self {
            class,
            transaction,
            username: None,
            priority: None,
            use_candidate: false,
            mapped: None,
            role: None,
            error: None,
            bytes,
            unknown: ([0; MAX_UNKNOWN], 0),
            integrity: None,
        };
        message.read_attributes()?;
        Ok(message)
    }

    /// USERNAME as the receiver's and the sender's ufrag.
    pub fn ufrags(&self) -> Option<(&'a [u8], &'a [u8])> {
        let username = self.username?;
        let colon = username.iter().position(|&b| b == b':')?;
        Some((username.get(..colon)?, username.get(colon + 1..)?))
    }

    /// The datagram.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The unknown mandatory attributes before MESSAGE-INTEGRITY (RFC 8489 section 6.3.1), as many
    /// as an answer lists.
    pub fn unknown(&self) -> &[u16] {
        let (kinds, count) = &self.unknown;
        kinds.get(..*count).unwrap_or_default()
    }

    /// Returns whether MESSAGE-INTEGRITY is present and right for this password (RFC 8489 section
    /// 14.5).
    pub fn is_authentic(&self, password: &[u8]) -> bool {
        let Some((offset, mac)) = self.integrity else { return false };
        let Ok(mut hmac) = Hmac::<Sha1>::new_from_slice(password) else { return false };
        // The length in the header counts as if MESSAGE-INTEGRITY were the last attribute.
        let length = (offset + 4 + 20 - HEADER) as u16;
        let (Some(kind), Some(rest)) = (self.bytes.get(..2), self.bytes.get(4..offset)) else {
            return false;
        };
        hmac.update(kind);
        hmac.update(&length.to_be_bytes());
        hmac.update(rest);
        hmac.verify_slice(mac).is_ok()
    }

    fn read_attributes(&mut self) -> Result<(), StunError> {
        let mut offset = HEADER;
        while offset < self.bytes.len() {
            let kind = be16(self.bytes, offset).ok_or(StunError::Attribute)?;
            let length = usize::from(be16(self.bytes, offset + 2).ok_or(StunError::Attribute)?);
            let start = offset + 4;
            let value = self.bytes.get(start..start + length).ok_or(StunError::Attribute)?;
            let end = start + length.next_multiple_of(4);
            if end > self.bytes.len() {
                return Err(StunError::Attribute);
            }
            if kind == FINGERPRINT {
                self.check_fingerprint(offset, value, end)?;
            } else if self.integrity.is_none() {
                self.read_attribute(kind, value, offset)?;
            }
            offset = end;
        }
        Ok(())
    }

    fn read_attribute(
        &mut self,
        kind: u16,
        value: &'a [u8],
        offset: usize,
    ) -> Result<(), StunError> {
        match kind {
            USERNAME if self.username.is_none() => self.username = Some(value),
            PRIORITY => {
                let bytes = value.try_into().map_err(|_| StunError::Attribute)?;
                self.priority = Some(u32::from_be_bytes(bytes));
            }
            USE_CANDIDATE => self.use_candidate = true,
            XOR_MAPPED_ADDRESS => {
                let mapped = unxor(value, &self.transaction).ok_or(StunError::Attribute)?;
                self.mapped = Some(mapped);
            }
            MESSAGE_INTEGRITY => {
                if value.len() != 20 {
                    return Err(StunError::Attribute);
                }
                self.integrity = Some((offset, value));
            }
            ICE_CONTROLLED | ICE_CONTROLLING => {
                let bytes = value.try_into().map_err(|_| StunError::Attribute)?;
                let tie_breaker = u64::from_be_bytes(bytes);
                self.role = Some(Role { controlling: kind == ICE_CONTROLLING, tie_breaker });
            }
            ERROR_CODE => {
                let [_, _, hundreds, rest, ..] = *value else { return Err(StunError::Attribute) };
                self.error = Some(u16::from(hundreds & 7) * 100 + u16::from(rest % 100));
            }
            USERNAME | UNKNOWN_ATTRIBUTES | OPTIONAL.. => {}
            kind if MEANINGLESS.contains(&kind) => {}
            kind => self.note_unknown(kind),
        }
        Ok(())
    }

    fn note_unknown(&mut self, kind: u16) {
        let (kinds, count) = &mut self.unknown;
        let known = kinds.iter().take(*count).any(|k| *k == kind);
        if let Some(place) = kinds.get_mut(*count).filter(|_| !known) {
            *place = kind;
            *count += 1;
        }
    }

    fn check_fingerprint(&self, offset: usize, value: &[u8], end: usize) -> Result<(), StunError> {
        let covered = self.bytes.get(..offset).ok_or(StunError::Fingerprint)?;
        let expected = crc32(covered) ^ 0x5354_554e;
        if end != self.bytes.len() || value != expected.to_be_bytes() {
            return Err(StunError::Fingerprint);
        }
        Ok(())
    }
}

/// The transaction id, if there is room for one.
pub(crate) fn transaction_of(bytes: &[u8]) -> Option<TransactionId> {
    bytes.get(8..HEADER)?.try_into().ok()
}

/// Returns whether a message of ours is a request.
pub(crate) fn is_request(bytes: &[u8]) -> bool {
    bytes.get(..2) == Some(&[0, 1][..])
}

/// Returns whether a message of ours is an error response.
pub(crate) fn is_error(bytes: &[u8]) -> bool {
    bytes.get(..2) == Some(&[1, 0x11][..])
}

/// Who a datagram may belong to. Read before anything of it is checked, to find the hub that checks
/// it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hint<'a> {
    /// A request to this ufrag.
    Request(&'a [u8]),
    /// The response to a request.
    Response(TransactionId),
}

/// The [`Hint`] of a datagram; `None` if it belongs to nobody.
pub(crate) fn hint(bytes: &[u8]) -> Option<Hint<'_>> {
    match be16(bytes, 0)? {
        0x0001 => {
            let mut offset = HEADER;
            loop {
                let kind = be16(bytes, offset)?;
                let length = usize::from(be16(bytes, offset + 2)?);
                let start = offset + 4;
                if kind == USERNAME {
                    let name = bytes.get(start..start + length)?;
                    return name.split(|&byte| byte == b':').next().map(Hint::Request);
                }
                offset = start + length.next_multiple_of(4);
            }
        }
        0x0101 | 0x0111 => transaction_of(bytes).map(Hint::Response),
        _ => None,
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at.checked_add(2)?)?;
    pair.try_into().ok().map(u16::from_be_bytes)
}

fn unxor(value: &[u8], transaction: &TransactionId) -> Option<SocketAddr> {
    let port = be16(value, 2)? ^ 0x2112;
    let address: IpAddr = match (value.get(1)?, value.len()) {
        (1, 8) => xor::<4>(value.get(4..)?.try_into().ok()?, transaction).into(),
        (2, 20) => xor::<16>(value.get(4..)?.try_into().ok()?, transaction).into(),
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

/// Masks or unmasks an address (RFC 8489 section 14.2).
fn xor<const N: usize>(mut octets: [u8; N], transaction: &TransactionId) -> [u8; N] {
    octets.iter_mut().zip(MAGIC.iter().chain(transaction)).for_each(|(o, m)| *o ^= m);
    octets
}

#[cfg(test)]
mod tests;
