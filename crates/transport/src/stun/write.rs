//! A writer of STUN messages (RFC 8489).

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::{
    Class, ERROR_CODE, FINGERPRINT, HEADER, ICE_CONTROLLED, ICE_CONTROLLING, MAGIC,
    MESSAGE_INTEGRITY, PRIORITY, Role, TransactionId, UNKNOWN_ATTRIBUTES, USE_CANDIDATE, USERNAME,
    XOR_MAPPED_ADDRESS, crc32, xor,
};

/// A Binding message being written. Attributes are in the order of the calls.
#[derive(Debug)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// Creates a message without attributes.
    pub(crate) fn new(class: Class, transaction: TransactionId) -> Self {
        let kind: u16 = match class {
            Class::Request => 0x0001,
            Class::Indication => 0x0011,
            Class::Success => 0x0101,
            Class::Error => 0x0111,
        };
        let mut bytes = Vec::with_capacity(128);
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(MAGIC);
        bytes.extend(transaction);
        Self(bytes)
    }

    /// USERNAME of a check: the receiver's ufrag, then the sender's (RFC 8445 section 7.2.2).
    pub(crate) fn username(self, receiver: &str, sender: &str) -> Self {
        self.attribute(USERNAME, &[receiver.as_bytes(), b":", sender.as_bytes()])
    }

    /// PRIORITY.
    pub(crate) fn priority(self, priority: u32) -> Self {
        self.attribute(PRIORITY, &[&priority.to_be_bytes()])
    }

    /// ICE-CONTROLLING or ICE-CONTROLLED.
    pub(crate) fn role(self, role: Role) -> Self {
        let kind = if role.controlling { ICE_CONTROLLING } else { ICE_CONTROLLED };
        self.attribute(kind, &[&role.tie_breaker.to_be_bytes()])
    }

    /// USE-CANDIDATE.
    pub(crate) fn use_candidate(self) -> Self {
        self.attribute(USE_CANDIDATE, &[])
    }

    /// XOR-MAPPED-ADDRESS, masked by the transaction id.
    pub(crate) fn mapped(self, address: SocketAddr) -> Self {
        let transaction = super::transaction_of(&self.0).unwrap_or_default();
        let port = (address.port() ^ 0x2112).to_be_bytes();
        match address.ip() {
            IpAddr::V4(ip) => {
                let ip = xor(ip.octets(), &transaction);
                self.attribute(XOR_MAPPED_ADDRESS, &[&[0, 1], &port, &ip])
            }
            IpAddr::V6(ip) => {
                let ip = xor(ip.octets(), &transaction);
                self.attribute(XOR_MAPPED_ADDRESS, &[&[0, 2], &port, &ip])
            }
        }
    }

    /// ERROR-CODE (RFC 8489 section 14.8).
    pub(crate) fn error(self, code: u16, reason: &str) -> Self {
        let number = [0, 0, (code / 100) as u8, (code % 100) as u8];
        self.attribute(ERROR_CODE, &[&number, reason.as_bytes()])
    }

    /// UNKNOWN-ATTRIBUTES (RFC 8489 section 14.9).
    pub(crate) fn unknown_attributes(self, kinds: &[u16]) -> Self {
        let kinds: Vec<u8> = kinds.iter().flat_map(|kind| kind.to_be_bytes()).collect();
        self.attribute(UNKNOWN_ATTRIBUTES, &[&kinds])
    }

    /// Adds MESSAGE-INTEGRITY under this password, then FINGERPRINT.
    pub(crate) fn finish(mut self, password: &[u8]) -> Bytes {
        self.set_length(24);
        if let Ok(mut hmac) = Hmac::<Sha1>::new_from_slice(password) {
            hmac.update(&self.0);
            let mac = hmac.finalize().into_bytes();
            self = self.attribute(MESSAGE_INTEGRITY, &[&mac]);
        }
        self.set_length(8);
        let sum = crc32(&self.0) ^ 0x5354_554e;
        self.attribute(FINGERPRINT, &[&sum.to_be_bytes()]).0.into()
    }

    /// Sets the length in the header: of what follows it so far, and of `more` bytes.
    fn set_length(&mut self, more: usize) {
        let length = (self.0.len().saturating_sub(HEADER) + more) as u16;
        if let Some(place) = self.0.get_mut(2..4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }

    /// Appends an attribute, with its value in parts.
    pub(crate) fn attribute(mut self, kind: u16, value: &[&[u8]]) -> Self {
        let length: usize = value.iter().map(|part| part.len()).sum();
        self.0.extend(kind.to_be_bytes());
        self.0.extend((length as u16).to_be_bytes());
        for part in value {
            self.0.extend_from_slice(part);
        }
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }
}
