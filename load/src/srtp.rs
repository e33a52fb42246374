//! SRTP of the clients, by one of two stacks: `webrtc-srtp` (another stack than the bridge's) or the
//! bridge's own (several times faster, for the generator's packet loop).

use rialto_srtp::{Profile, RxContext, RxStream, SrtpError, TxContext};
use rustc_hash::FxHashMap;
use webrtc_srtp::{
    context::Context,
    option::{srtcp_replay_protection, srtp_replay_protection},
    protection_profile::ProtectionProfile,
};

/// The implementation that encrypts and decrypts packets.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, clap::ValueEnum)]
pub enum Stack {
    /// The bridge's own.
    #[default]
    Rialto,
    /// The crate `webrtc-srtp`.
    Webrtc,
}

/// Size of the replay window.
const REPLAY_WINDOW: usize = 2048;

/// Result of the DTLS handshake: a profile, and key and salt of both directions.
#[derive(Clone)]
pub struct Keys {
    /// The protection profile.
    pub profile: Profile,
    /// Key and salt of what the client sends, key first.
    pub local: Vec<u8>,
    /// Key and salt of what the bridge sends, key first.
    pub remote: Vec<u8>,
}

impl Keys {
    /// Splits the exported keying material of a DTLS client (RFC 5764 section 4.2).
    pub fn of_client(profile: Profile, exported: &[u8]) -> Option<Self> {
        let (key, salt) = (profile.key_len(), profile.salt_len());
        let (client_key, rest) = exported.split_at_checked(key)?;
        let (server_key, rest) = rest.split_at_checked(key)?;
        let (client_salt, rest) = rest.split_at_checked(salt)?;
        let server_salt = rest.get(..salt)?;
        Some(Self {
            profile,
            local: [client_key, client_salt].concat(),
            remote: [server_key, server_salt].concat(),
        })
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("profile", &self.profile).finish_non_exhaustive()
    }
}

fn webrtc_context(profile: Profile, key_and_salt: &[u8]) -> Option<Context> {
    let profile_of_crate = match profile {
        Profile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Profile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        Profile::Aes128CmSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        Profile::Aes128CmSha1_32 => ProtectionProfile::Aes128CmHmacSha1_32,
    };
    let (key, salt) = key_and_salt.split_at_checked(profile.key_len())?;
    Context::new(
        key,
        salt,
        profile_of_crate,
        Some(srtp_replay_protection(REPLAY_WINDOW)),
        Some(srtcp_replay_protection(REPLAY_WINDOW)),
    )
    .ok()
}

/// Protects what a client sends.
pub enum Sealer {
    /// By the bridge's stack.
    Rialto(Box<TxContext>),
    /// By `webrtc-srtp`.
    Webrtc(Box<Context>),
}

impl Sealer {
    /// `None` when the key does not fit the profile.
    pub fn new(stack: Stack, keys: &Keys) -> Option<Self> {
        Some(match stack {
            Stack::Rialto => Self::Rialto(TxContext::new(keys.profile, &keys.local).ok()?.into()),
            Stack::Webrtc => Self::Webrtc(webrtc_context(keys.profile, &keys.local)?.into()),
        })
    }

    /// Seals a plain RTP packet in place. `index` is its sequence number, extended.
    pub fn rtp(&mut self, packet: &mut Vec<u8>, header_len: usize, index: u64, ssrc: u32) -> bool {
        let plain = packet.len();
        match self {
            Self::Rialto(context) => {
                packet.resize(plain + context.profile().rtp_overhead(), 0);
                context.seal_rtp(packet, header_len, plain, index, ssrc).is_ok()
            }
            Self::Webrtc(context) => replace(packet, context.encrypt_rtp(packet)),
        }
    }

    /// Seals a plain compound RTCP packet in place.
    pub fn rtcp(&mut self, packet: &mut Vec<u8>) -> bool {
        let plain = packet.len();
        match self {
            Self::Rialto(context) => {
                packet.resize(plain + context.profile().rtcp_overhead(), 0);
                context.seal_rtcp(packet, plain).is_ok()
            }
            Self::Webrtc(context) => replace(packet, context.encrypt_rtcp(packet)),
        }
    }
}

fn replace<E>(packet: &mut Vec<u8>, sealed: Result<bytes::Bytes, E>) -> bool {
    let Ok(sealed) = sealed else { return false };
    packet.clear();
    packet.extend_from_slice(&sealed);
    true
}

/// Why a packet could not be decrypted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotOpened {
    /// It was decrypted before.
    Replay,
    /// It does not authenticate, or is malformed.
    Forged,
}

/// Decrypts what a client receives.
pub enum Opener {
    /// By the bridge's stack.
    Rialto(Box<RxContext>, FxHashMap<u32, Option<RxStream>>),
    /// By `webrtc-srtp`.
    Webrtc(Box<Context>),
}

impl Opener {
    /// `None` when the key does not fit the profile.
    pub fn new(stack: Stack, keys: &Keys) -> Option<Self> {
        Some(match stack {
            Stack::Rialto => {
                let context = RxContext::new(keys.profile, &keys.remote).ok()?;
                Self::Rialto(context.into(), FxHashMap::default())
            }
            Stack::Webrtc => Self::Webrtc(webrtc_context(keys.profile, &keys.remote)?.into()),
        })
    }

    /// Decrypts an SRTP packet in place; returns the length of the plain one.
    pub fn rtp(
        &mut self,
        packet: &mut [u8],
        header_len: usize,
        ssrc: u32,
    ) -> Result<usize, NotOpened> {
        let own = |error| match error {
            SrtpError::Replay | SrtpError::TooOld => NotOpened::Replay,
            _ => NotOpened::Forged,
        };
        match self {
            Self::Rialto(context, streams) => {
                if let Some(stream) = streams.get_mut(&ssrc) {
                    return context
                        .open_rtp(stream, packet, header_len)
                        .map(|o| o.len)
                        .map_err(own);
                }
                let mut stream = None;
                let opened = context.open_rtp(&mut stream, packet, header_len).map_err(own)?;
                streams.insert(ssrc, stream);
                Ok(opened.len)
            }
            Self::Webrtc(context) => match context.decrypt_rtp(packet) {
                Ok(plain) => copy_back(packet, &plain).ok_or(NotOpened::Forged),
                Err(webrtc_srtp::Error::SrtpSsrcDuplicated(..)) => Err(NotOpened::Replay),
                Err(_) => Err(NotOpened::Forged),
            },
        }
    }

    /// Decrypts an SRTCP packet in place.
    pub fn rtcp(&mut self, packet: &mut [u8]) -> Option<usize> {
        match self {
            Self::Rialto(context, _) => context.open_rtcp(packet).ok(),
            // The crate reads the index before it checks the length.
            Self::Webrtc(_) if packet.len() < 22 => None,
            Self::Webrtc(context) => copy_back(packet, &context.decrypt_rtcp(packet).ok()?),
        }
    }
}

fn copy_back(packet: &mut [u8], plain: &[u8]) -> Option<usize> {
    packet.get_mut(..plain.len())?.copy_from_slice(plain);
    Some(plain.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::packet::{self, Header};

    fn keys(profile: Profile) -> (Keys, Keys) {
        let exported: Vec<u8> = (0..100).collect();
        let client = Keys::of_client(profile, &exported).unwrap();
        let server = Keys { profile, local: client.remote.clone(), remote: client.local.clone() };
        (client, server)
    }

    #[test]
    fn the_stacks_understand_each_other() {
        for profile in Profile::ALL {
            for (from, to) in [(Stack::Rialto, Stack::Webrtc), (Stack::Webrtc, Stack::Rialto)] {
                let (client, server) = keys(profile);
                let mut sealer = Sealer::new(from, &client).unwrap();
                let mut opener = Opener::new(to, &server).unwrap();
                for index in 65_500u64..65_600 {
                    let seq = index as u16;
                    let header = Header { pt: 100, marker: false, seq, timestamp: 1, ssrc: 7 };
                    let mut wire = Vec::new();
                    header.write(&[(5, &[1, 2])], &mut wire);
                    wire.extend_from_slice(b"some payload");
                    let plain = wire.clone();
                    let header_len = packet::header_len(&wire).unwrap();
                    assert!(sealer.rtp(&mut wire, header_len, index, 7));
                    let len = opener.rtp(&mut wire.clone(), header_len, 7).unwrap();
                    assert_eq!(len, plain.len());
                    let again = opener.rtp(&mut wire.clone(), header_len, 7);
                    assert_eq!(again, Err(NotOpened::Replay));
                    wire[4] ^= 1;
                    wire[3] ^= 0x40;
                    let forged = opener.rtp(&mut wire, header_len, 7);
                    assert_eq!(forged, Err(NotOpened::Forged));
                }
                let mut wire = vec![0x80, 201, 0, 1, 0, 0, 0, 9];
                assert!(sealer.rtcp(&mut wire));
                let len = opener.rtcp(&mut wire).unwrap();
                assert_eq!(wire[..len], [0x80, 201, 0, 1, 0, 0, 0, 9]);
            }
        }
    }

    #[test]
    fn short_key_material_is_refused() {
        assert!(Keys::of_client(Profile::AeadAes128Gcm, &[0; 55]).is_none());
        assert!(Keys::of_client(Profile::AeadAes128Gcm, &[0; 56]).is_some());
    }
}
