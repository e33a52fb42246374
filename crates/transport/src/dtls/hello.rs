//! Reads the ClientHello before the handshake begins, because it decides which library answers, and
//! with which version.
//!
//! dimpl answers clients with DTLS 1.3: browsers. It uses the client's first SRTP profile under
//! 1.3, and the best common one under 1.2. A client that lists AES-CM first and GCM after it (as
//! Chromium does) gets GCM only under 1.2. OpenSSL answers all other clients: a client without 1.3
//! may have an RSA certificate, which shows when it is too late to choose, or lack the extended
//! master secret.

use bytes::Bytes;

use super::{
    of_dimpl::Versions,
    records::{Fragment, Input, hello_pieces},
};

/// Most datagrams that are held until the ClientHello is complete. With post-quantum keys it takes
/// two.
const MAX_HELD: usize = 16;
/// Most bytes that are held.
const MAX_BYTES: usize = 16 * 1024;

const DTLS_1_2: u16 = 0xfefd;
const DTLS_1_3: u16 = 0xfefc;

const SUPPORTED_GROUPS: u16 = 10;
const USE_SRTP: u16 = 14;
const EXTENDED_MASTER_SECRET: u16 = 23;
const SUPPORTED_VERSIONS: u16 = 43;

/// `SRTP_AES128_CM_HMAC_SHA1_80` (RFC 5764 section 4.1.2).
const CM_80: u16 = 1;
/// `SRTP_AES128_CM_HMAC_SHA1_32`, which dimpl does not know.
const CM_32: u16 = 2;
/// `SRTP_AEAD_AES_128_GCM` and `SRTP_AEAD_AES_256_GCM` (RFC 7714 section 14.2).
const GCM: [u16; 2] = [7, 8];

/// Which library answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// dimpl, with these versions.
    Dimpl(Versions),
    /// OpenSSL, with DTLS 1.2.
    OpenSsl,
}

/// What our side supports under DTLS 1.2.
pub(crate) struct Abilities {
    suites: Vec<u16>,
    groups: Vec<u16>,
}

impl Abilities {
    /// According to the library's settings.
    pub(crate) fn of(config: &dimpl::Config) -> Self {
        Self {
            suites: config.dtls12_cipher_suites().map(|suite| suite.suite().as_u16()).collect(),
            groups: config.kx_groups().map(|group| group.name().as_u16()).collect(),
        }
    }
}

/// Datagrams with pieces of a ClientHello that is not complete yet.
#[derive(Default)]
pub(crate) struct PartialHello(Vec<Bytes>);

impl PartialHello {
    /// Adds a datagram; one without a piece of a ClientHello is ignored. Returns how to answer
    /// [`Self::datagrams`] once that is known. A ClientHello with another random than the held one
    /// cannot complete it, and replaces it.
    pub(crate) fn take(&mut self, datagram: &[u8], ours: &Abilities) -> Option<Answer> {
        let pieces: Vec<_> = hello_pieces(datagram).collect();
        if pieces.is_empty() {
            return None;
        }
        if let (Some(known), Some(new)) = (self.random(), random_of(&pieces))
            && known != new
        {
            self.0.clear();
        }
        self.0.push(Bytes::copy_from_slice(datagram));
        if let Some(hello) = assemble(&self.0) {
            return Some(choose(&hello, ours).unwrap_or(Answer::Dimpl(Versions::Newest)));
        }
        // The library has its own limits.
        let bytes: usize = self.0.iter().map(Bytes::len).sum();
        let full = self.0.len() >= MAX_HELD || bytes >= MAX_BYTES;
        full.then_some(Answer::Dimpl(Versions::Newest))
    }

    /// The datagrams in the order in which they arrived.
    pub(crate) fn datagrams(&self) -> &[Bytes] {
        &self.0
    }

    /// The client's random, if the beginning has arrived.
    pub(crate) fn random(&self) -> Option<&[u8]> {
        self.0.iter().find_map(|datagram| hello_pieces(datagram).find_map(|piece| piece.random()))
    }
}

fn random_of<'a>(pieces: &[Fragment<'a>]) -> Option<&'a [u8]> {
    pieces.iter().find_map(Fragment::random)
}

/// Chooses OpenSSL for clients without DTLS 1.3, or without an SRTP profile that dimpl knows.
/// Chooses dimpl with 1.2 if the client supports that, and would lose GCM by its own order under
/// 1.3. `None`: the message is malformed, and the library knows the answer to that.
fn choose(hello: &[u8], ours: &Abilities) -> Option<Answer> {
    let offer = Offer::read(hello)?;
    let has = |version| words(offer.versions).any(|word| word == version);
    let old = has(DTLS_1_2) || offer.versions.is_empty();
    if !has(DTLS_1_3) {
        return Some(Answer::OpenSsl);
    }
    let srtp = offer.srtp.unwrap_or_default();
    let mut profiles = words(srtp).filter(|id| *id == CM_80 || GCM.contains(id));
    let Some(first) = profiles.next() else {
        let only_short = old && words(srtp).any(|id| id == CM_32);
        return Some(if only_short { Answer::OpenSsl } else { Answer::Dimpl(Versions::Newest) });
    };
    let loses_gcm = first == CM_80 && profiles.any(|id| GCM.contains(&id));
    let suite = words(offer.suites).any(|id| ours.suites.contains(&id));
    let group = words(offer.groups).any(|id| ours.groups.contains(&id));
    let old_works = old && suite && group && offer.extended_master_secret;
    let versions = if loses_gcm && old_works { Versions::Only12 } else { Versions::Newest };
    Some(Answer::Dimpl(versions))
}

/// The lists of a ClientHello that decide (RFC 8446 section 4.1.2, RFC 9147 section 5.3).
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

/// Assembles the body of the ClientHello from its pieces, if none is missing. The length in the
/// first piece counts.
fn assemble(datagrams: &[Bytes]) -> Option<Vec<u8>> {
    let mut pieces: Vec<_> = datagrams.iter().flat_map(|datagram| hello_pieces(datagram)).collect();
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

/// Reads a list of 16-bit numbers; an odd byte at the end is ignored.
fn words(list: &[u8]) -> impl Iterator<Item = u16> {
    list.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair))
}

/// For fuzzing: any bytes, as one datagram, as two, and as the message itself.
pub(crate) fn fuzz(data: &[u8]) {
    let ours = Abilities { suites: vec![0xc02b], groups: vec![29] };
    let _ = choose(data, &ours);
    let (first, second) = data.split_at(data.len() / 2);
    let mut held = PartialHello::default();
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
