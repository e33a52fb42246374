//! A reader of STUN messages (RFC 8489), for telling whose a datagram is and whether it is genuine.
//!
//! The ICE agent parses again what passes here. This reader exists because a datagram must be
//! attributed and authenticated before anything is done with it.

use std::net::{IpAddr, SocketAddr};

use hmac::{Hmac, Mac};
use sha1::Sha1;

/// Bytes before the first attribute.
const HEADER: usize = 20;
const MAGIC: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;

/// Identifies a request and its responses.
pub type TransactionId = [u8; 12];

/// What kind of message it is. Only the Binding method is known.
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

/// Why a datagram is not a STUN message that we take.
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
    /// An attribute reaches beyond the message, or has an impossible length.
    #[error("bad attribute")]
    Attribute,
    /// FINGERPRINT is there and wrong (RFC 8489 section 14.7), or not the last attribute.
    #[error("wrong fingerprint")]
    Fingerprint,
}

/// A STUN message. Attributes after MESSAGE-INTEGRITY are not looked at, FINGERPRINT excepted.
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
    /// USE-CANDIDATE is there.
    pub use_candidate: bool,
    /// XOR-MAPPED-ADDRESS.
    pub mapped: Option<SocketAddr>,
    bytes: &'a [u8],
    integrity: Option<(usize, &'a [u8])>,
}

impl<'a> Message<'a> {
    /// Reads a datagram.
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
            bytes,
            integrity: None,
        };
        message.read_attributes()?;
        Ok(message)
    }

    /// USERNAME as the local and the remote ufrag, where the local one is at the front.
    pub fn ufrags(&self) -> Option<(&'a [u8], &'a [u8])> {
        let username = self.username?;
        let colon = username.iter().position(|&b| b == b':')?;
        Some((username.get(..colon)?, username.get(colon + 1..)?))
    }

    /// Whether MESSAGE-INTEGRITY is there and right for this password (RFC 8489 section 14.5).
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
            _ => {}
        }
        Ok(())
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

/// The transaction id of a message that our own agent wrote.
pub fn transaction_of(bytes: &[u8]) -> Option<TransactionId> {
    bytes.get(8..HEADER)?.try_into().ok()
}

/// Whether a message that our own agent wrote is a request.
pub fn is_request(bytes: &[u8]) -> bool {
    bytes.get(..2) == Some(&[0, 1][..])
}

/// Whether a message that our own agent wrote is an error response.
pub fn is_error(bytes: &[u8]) -> bool {
    bytes.get(..2) == Some(&[1, 0x11][..])
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at.checked_add(2)?)?;
    pair.try_into().ok().map(u16::from_be_bytes)
}

fn unxor(value: &[u8], transaction: &TransactionId) -> Option<SocketAddr> {
    let port = be16(value, 2)? ^ 0x2112;
    let mask = MAGIC.iter().chain(transaction);
    let address: IpAddr = match (value.get(1)?, value.len()) {
        (1, 8) => {
            let mut octets: [u8; 4] = value.get(4..)?.try_into().ok()?;
            octets.iter_mut().zip(mask).for_each(|(o, m)| *o ^= m);
            octets.into()
        }
        (2, 20) => {
            let mut octets: [u8; 16] = value.get(4..)?.try_into().ok()?;
            octets.iter_mut().zip(mask).for_each(|(o, m)| *o ^= m);
            octets.into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

/// CRC-32 of ITU V.42, as FINGERPRINT uses it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        let index = (crc ^ u32::from(byte)) & 0xff;
        CRC_TABLE[index as usize] ^ (crc >> 8)
    })
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests;
