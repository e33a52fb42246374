//! The ClientHello, read before the handshake begins, because it decides which version is worth more.
//!
//! The library takes the client's first SRTP profile under DTLS 1.3, and the best common one under
//! 1.2. A client that lists AES-CM first and GCM after it (Chromium does) gets GCM only under 1.2.

use bytes::Bytes;

use super::SharedConfig;

/// Datagrams that are held until the ClientHello is whole. With post-quantum keys it takes two.
const MAX_HELD: usize = 16;
/// Bytes that are held.
const MAX_BYTES: usize = 16 * 1024;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const DTLS_1_2: u16 = 0xfefd;
const DTLS_1_3: u16 = 0xfefc;

const SUPPORTED_GROUPS: u16 = 10;
const USE_SRTP: u16 = 14;
const EXTENDED_MASTER_SECRET: u16 = 23;
const SUPPORTED_VERSIONS: u16 = 43;

/// `SRTP_AES128_CM_HMAC_SHA1_80` (RFC 5764 section 4.1.2).
const CM_80: u16 = 1;
/// `SRTP_AEAD_AES_128_GCM` and `SRTP_AEAD_AES_256_GCM` (RFC 7714 section 14.2).
const GCM: [u16; 2] = [7, 8];

/// The version to answer with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// The newest that both have.
    Newest,
    /// DTLS 1.2, although the client has 1.3.
    Only12,
}

/// What our side has under DTLS 1.2.
pub struct Abilities {
    suites: Vec<u16>,
    groups: Vec<u16>,
}

impl Abilities {
    /// As the library is set up.
    pub fn of(config: &SharedConfig) -> Self {
        Self {
            suites: config.dtls12_cipher_suites().map(|suite| suite.suite().as_u16()).collect(),
            groups: config.kx_groups().map(|group| group.name().as_u16()).collect(),
        }
    }
}

/// Datagrams with pieces of a ClientHello, until it is whole.
#[derive(Default)]
pub struct Held(Vec<Bytes>);

impl Held {
    /// Takes a datagram; one without a piece of a ClientHello is ignored. `Some`: it is time to
    /// answer, with this version, what [`Self::datagrams`] has.
    pub fn take(&mut self, datagram: &[u8], ours: &Abilities) -> Option<Version> {
        fragments(datagram).next()?;
        self.0.push(Bytes::copy_from_slice(datagram));
        if let Some(hello) = assemble(&self.0) {
            return Some(choose(&hello, ours).unwrap_or(Version::Newest));
        }
        // The library has limits of its own.
        let bytes: usize = self.0.iter().map(Bytes::len).sum();
        (self.0.len() >= MAX_HELD || bytes >= MAX_BYTES).then_some(Version::Newest)
    }

    /// What came, in the order in which it came.
    pub fn datagrams(&self) -> &[Bytes] {
        &self.0
    }
}

/// DTLS 1.2 if the client can do that, and loses GCM by its own order otherwise. `None`: the message
/// is malformed, or has not what 1.3 needs; the library knows the answer to that.
fn choose(hello: &[u8], ours: &Abilities) -> Option<Version> {
    let offer = Offer::read(hello)?;
    let mut profiles = words(offer.srtp?).filter(|id| *id == CM_80 || GCM.contains(id));
    let cm_first = profiles.next()? == CM_80;
    let loses_gcm = cm_first && profiles.any(|id| GCM.contains(&id));
    let both = [DTLS_1_2, DTLS_1_3].iter().all(|v| words(offer.versions).any(|w| w == *v));
    let suite = words(offer.suites).any(|id| ours.suites.contains(&id));
    let group = words(offer.groups).any(|id| ours.groups.contains(&id));
    let old_works = both && suite && group && offer.extended_master_secret;
    Some(if loses_gcm && old_works { Version::Only12 } else { Version::Newest })
}

/// The lists of a ClientHello (RFC 8446 section 4.1.2, RFC 9147 section 5.3) that decide.
#[derive(Default)]
struct Offer<'a> {
    suites: &'a [u8],
    versions: &'a [u8],
    groups: &'a [u8],
    srtp: Option<&'a [u8]>,
    extended_master_secret: bool,
}

impl<'a> Offer<'a> {
    fn read(hello: &'a [u8]) -> Option<Self> {
        let mut input = Input(hello);
        let _version_and_random = input.take(2 + 32)?;
        let _session = input.vector8()?;
        let _cookie = input.vector8()?;
        let suites = input.vector16()?;
        let _compression = input.vector8()?;
        let mut extensions = Input(input.vector16()?);
        let mut offer = Self { suites, ..Self::default() };
        while !extensions.0.is_empty() {
            let kind = extensions.u16()?;
            let mut data = Input(extensions.vector16()?);
            match kind {
                SUPPORTED_VERSIONS => offer.versions = data.vector8()?,
                SUPPORTED_GROUPS => offer.groups = data.vector16()?,
                USE_SRTP => offer.srtp = Some(data.vector16()?),
                EXTENDED_MASTER_SECRET => offer.extended_master_secret = true,
                _ => {}
            }
        }
        Some(offer)
    }
}

/// The body of the ClientHello whose pieces these datagrams have, if none is missing. The first
/// piece's word on the length holds.
fn assemble(datagrams: &[Bytes]) -> Option<Vec<u8>> {
    let mut pieces: Vec<_> = datagrams.iter().flat_map(|datagram| fragments(datagram)).collect();
    let length = pieces.first()?.length;
    if length > MAX_BYTES {
        return None;
    }
    pieces.sort_by_key(|piece| piece.offset);
    let mut hello = Vec::new();
    for piece in pieces.iter().filter(|piece| piece.length == length) {
        let known = hello.len().checked_sub(piece.offset)?;
        hello.extend_from_slice(piece.bytes.get(known..).unwrap_or_default());
    }
    (hello.len() == length).then_some(hello)
}

/// A piece of a handshake message (RFC 6347 section 4.2.2).
struct Fragment<'a> {
    length: usize,
    offset: usize,
    bytes: &'a [u8],
}

/// The pieces of a first ClientHello in a datagram, which may have several records.
fn fragments(datagram: &[u8]) -> impl Iterator<Item = Fragment<'_>> {
    let mut records = Input(datagram);
    let mut record = Input(&[]);
    std::iter::from_fn(move || {
        loop {
            if let Some((kind, sequence, fragment)) = record.fragment() {
                if kind == CLIENT_HELLO && sequence == 0 {
                    return Some(fragment);
                }
            } else {
                record = records.plain_handshake()?;
            }
        }
    })
}

/// A list of 16-bit numbers; half a number at the end is left out.
fn words(list: &[u8]) -> impl Iterator<Item = u16> {
    list.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair))
}

/// What is left to read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of so many bytes, at most four.
    fn number(&mut self, bytes: usize) -> Option<usize> {
        let digits = self.take(bytes)?;
        Some(digits.iter().fold(0, |number, digit| (number << 8) | usize::from(*digit)))
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.number(1)?;
        self.take(length)
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.number(2)?;
        self.take(length)
    }

    /// The content of the next record, or nothing of it unless it is a handshake's in epoch 0.
    fn plain_handshake(&mut self) -> Option<Self> {
        let kind = self.number(1)?;
        let _version = self.take(2)?;
        let epoch = self.number(2)?;
        let _sequence = self.take(6)?;
        let content = self.vector16()?;
        let plain = kind == usize::from(HANDSHAKE) && epoch == 0;
        Some(Self(if plain { content } else { &[] }))
    }

    /// The next message type, message number and piece.
    fn fragment(&mut self) -> Option<(u8, usize, Fragment<'a>)> {
        let kind = *self.take(1)?.first()?;
        let length = self.number(3)?;
        let sequence = self.number(2)?;
        let offset = self.number(3)?;
        let here = self.number(3)?;
        let bytes = self.take(here)?;
        (offset + here <= length).then_some((kind, sequence, Fragment { length, offset, bytes }))
    }
}

/// For fuzzing: any bytes, as one datagram, as two, and as the message itself.
pub fn fuzz(data: &[u8]) {
    let ours = Abilities { suites: vec![0xc02b], groups: vec![29] };
    let _ = choose(data, &ours);
    let (first, second) = data.split_at(data.len() / 2);
    let mut held = Held::default();
    for datagram in [first, second, data] {
        let before = held.datagrams().len();
        let _ = held.take(datagram, &ours);
        assert!(held.datagrams().len() <= before + 1);
    }
    if let Some(hello) = assemble(held.datagrams()) {
        assert!(hello.len() <= held.datagrams().iter().map(Bytes::len).sum());
    }
}

#[cfg(test)]
mod tests;
