//! ICE user name fragments that encode the endpoint that they belong to.
//!
//! A STUN request finds its transport without a search. The ufrag is the configured prefix, seven
//! characters that hold the endpoint's number and three bits of the agent's generation (mixed with
//! a secret, so that they mean nothing to others), and seven random ones against guessing (35 bits;
//! RFC 8445 section 5.3 asks for 24).

use rand::{Rng, RngCore};
use rialto_media::EndpointId;

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const OWNER: usize = 7;
const RANDOM: usize = 7;
const PASSWORD: usize = 26;
/// USERNAME has at most 508 bytes (RFC 8489 section 14.3): two ufrags and a colon, and the peer's
/// may have 256 (RFC 8839 section 5.4).
const MAX_PREFIX: usize = 508 - 256 - 1 - OWNER - RANDOM;
const MASK: u64 = (1 << 35) - 1;

/// Creates ufrags, and decodes their endpoint.
#[derive(Debug)]
pub(crate) struct Ufrags {
    prefix: String,
    multiplier: u64,
    inverse: u64,
    addend: u64,
}

impl Ufrags {
    /// Creates it with the configured prefix and a secret from `rng`.
    pub(crate) fn new(prefix: &str, rng: &mut impl RngCore) -> Self {
        let characters = prefix.chars().count();
        if characters > MAX_PREFIX {
            tracing::warn!(characters, "of the ufrag prefix the first {MAX_PREFIX} are used");
        }
        let prefix = prefix
            .chars()
            .take(MAX_PREFIX)
            .map(|c| if c.is_ascii_alphanumeric() || c == '+' || c == '/' { c } else { '/' })
            .collect();
        let multiplier = (rng.next_u64() | 1) & MASK;
        Self { prefix, multiplier, inverse: inverse(multiplier), addend: rng.next_u64() & MASK }
    }

    /// Creates a ufrag and password for an agent of `owner`.
    pub(crate) fn credentials(
        &self,
        owner: EndpointId,
        generation: u32,
        rng: &mut impl RngCore,
    ) -> (String, String) {
        let plain = u64::from(owner.0) << 3 | u64::from(generation & 7);
        let mixed = plain.wrapping_mul(self.multiplier).wrapping_add(self.addend) & MASK;
        let mut ufrag = self.prefix.clone();
        push_digits(&mut ufrag, mixed, OWNER);
        push_digits(&mut ufrag, rng.next_u64(), RANDOM);
        let mut password = String::with_capacity(PASSWORD);
        for _ in 0..PASSWORD {
            password.push(char::from(ALPHABET[rng.random_range(0..32)]));
        }
        (ufrag, password)
    }

    /// Returns the endpoint in a ufrag of ours. This proves nothing: the whole ufrag must be
    /// compared.
    pub(crate) fn owner(&self, ufrag: &[u8]) -> Option<EndpointId> {
        let rest = ufrag.strip_prefix(self.prefix.as_bytes())?;
        if rest.len() != OWNER + RANDOM {
            return None;
        }
        let mut mixed = 0u64;
        for &byte in rest.iter().take(OWNER) {
            mixed = mixed << 5 | u64::from(digit(byte)?);
        }
        let plain = mixed.wrapping_sub(self.addend).wrapping_mul(self.inverse) & MASK;
        u32::try_from(plain >> 3).ok().map(EndpointId)
    }
}

fn push_digits(out: &mut String, value: u64, count: usize) {
    for place in (0..count).rev() {
        let index = (value >> (5 * place)) & 31;
        out.push(char::from(ALPHABET[index as usize]));
    }
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'a'..=b'z' => Some(byte - b'a'),
        b'2'..=b'7' => Some(byte - b'2' + 26),
        _ => None,
    }
}

/// Inverse of an odd number modulo 2^64 (and so modulo 2^35), by Newton's iteration: each step
/// doubles the correct low bits, starting from three.
fn inverse(odd: u64) -> u64 {
    let mut x = odd;
    for _ in 0..5 {
        x = x.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(x)));
    }
    x
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn the_prefix_is_made_to_fit_the_grammar() {
        let mut rng = StdRng::seed_from_u64(1);
        let ufrags = Ufrags::new("jvb-123:", &mut rng);
        let (ufrag, password) = ufrags.credentials(EndpointId(7), 0, &mut rng);
        assert!(ufrag.starts_with("jvb/123/"));
        assert!(password.len() >= 22);
        assert_eq!(ufrags.owner(ufrag.as_bytes()), Some(EndpointId(7)));
    }

    proptest! {
        #[test]
        fn owners_come_back(seed: u64, owner: u32, generation: u32, prefix in "[a-z]{0,8}") {
            let mut rng = StdRng::seed_from_u64(seed);
            let ufrags = Ufrags::new(&prefix, &mut rng);
            let (ufrag, _) = ufrags.credentials(EndpointId(owner), generation, &mut rng);
            prop_assert_eq!(ufrags.owner(ufrag.as_bytes()), Some(EndpointId(owner)));
        }

        #[test]
        fn any_bytes_are_read(seed: u64, bytes: Vec<u8>) {
            let ufrags = Ufrags::new("", &mut StdRng::seed_from_u64(seed));
            let _ = ufrags.owner(&bytes);
        }
    }
}
