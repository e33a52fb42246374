//! Passwords shown to a server (RFC 6120 section 6): SCRAM (RFC 5802, RFC 7677) and PLAIN (RFC 4616).
//!
//! SCRAM never sends the password, and shows that the server knows it too. Names and passwords go out
//! as they are configured: ASCII needs no preparation, and other passwords must be written composed
//! (NFC), as keyboards do.

use std::num::NonZeroU32;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{digest, hmac, pbkdf2};

/// A server could ask for work without end: this much takes about a second.
const MAX_ITERATIONS: u32 = 1_000_000;

/// A way to show a password, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mechanism {
    ScramSha256,
    ScramSha1,
    Plain,
}

impl Mechanism {
    /// The best of those that a server offers.
    pub(super) fn best<'a>(offered: impl Iterator<Item = &'a str>, plain: bool) -> Option<Self> {
        let mut best = None;
        for name in offered {
            let known = match name.trim() {
                "SCRAM-SHA-256" => Self::ScramSha256,
                "SCRAM-SHA-1" => Self::ScramSha1,
                "PLAIN" if plain => Self::Plain,
                _ => continue,
            };
            if best.is_none_or(|best: Self| known.rank() < best.rank()) {
                best = Some(known);
            }
        }
        best
    }

    fn rank(self) -> u8 {
        self as u8
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::Plain => "PLAIN",
        }
    }
}

/// Why the server's part of the exchange is not right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaslError {
    /// A challenge that the mechanism does not have.
    #[error("the server's challenge makes no sense")]
    Challenge,
    /// More rounds of hashing than anybody needs.
    #[error("the server asks for {0} rounds of hashing")]
    TooExpensive(u64),
    /// The server could not show that it knows the password (RFC 5802 section 3).
    #[error("the server does not know the password")]
    NotTheServer,
}

/// One exchange.
pub(super) struct Sasl {
    mechanism: Mechanism,
    user: String,
    password: String,
    nonce: String,
    /// What the server must show a signature of at the end, and with which key.
    expected: Option<(hmac::Key, Vec<u8>)>,
}

impl Sasl {
    /// `nonce`: never the same twice.
    pub(super) fn new(mechanism: Mechanism, user: &str, password: &str, nonce: [u8; 18]) -> Self {
        Self {
            mechanism,
            user: user.to_owned(),
            password: password.to_owned(),
            nonce: STANDARD.encode(nonce),
            expected: None,
        }
    }

    /// What `<auth>` holds.
    pub(super) fn initial(&self) -> String {
        STANDARD.encode(match self.mechanism {
            Mechanism::Plain => format!("\0{}\0{}", self.user, self.password),
            _ => format!("n,,{}", self.first_bare()),
        })
    }

    /// The response to a challenge, as they are in XML.
    pub(super) fn respond(&mut self, challenge: &str) -> Result<String, SaslError> {
        if self.mechanism == Mechanism::Plain || self.expected.is_some() {
            return Err(SaslError::Challenge);
        }
        let challenge = decode(challenge)?;
        let mut parts = challenge.split(',');
        let mut part = |name| parts.next().and_then(|part| part.strip_prefix(name));
        let (Some(nonce), Some(salt), Some(rounds)) = (part("r="), part("s="), part("i=")) else {
            return Err(SaslError::Challenge);
        };
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(SaslError::Challenge);
        }
        let salt = STANDARD.decode(salt).map_err(|_| SaslError::Challenge)?;
        let rounds: u64 = rounds.parse().map_err(|_| SaslError::Challenge)?;
        let rounds = u32::try_from(rounds)
            .ok()
            .filter(|rounds| *rounds <= MAX_ITERATIONS)
            .ok_or(SaslError::TooExpensive(rounds))?;
        let rounds = NonZeroU32::new(rounds).ok_or(SaslError::Challenge)?;
        // "biws" is what `n,,` is in base64: no channel binding.
        let without_proof = format!("c=biws,r={nonce}");
        let message = format!("{},{challenge},{without_proof}", self.first_bare());
        let proof = self.prove(&salt, rounds, message.as_bytes());
        Ok(STANDARD.encode(format!("{without_proof},p={}", STANDARD.encode(proof))))
    }

    /// What `<success>` holds, which ends the exchange.
    pub(super) fn finish(&self, last: &str) -> Result<(), SaslError> {
        if self.mechanism == Mechanism::Plain {
            return Ok(());
        }
        let (key, message) = self.expected.as_ref().ok_or(SaslError::NotTheServer)?;
        let last = decode(last).map_err(|_| SaslError::NotTheServer)?;
        let shown = last.split(',').next().and_then(|part| part.strip_prefix("v="));
        let shown = shown.and_then(|shown| STANDARD.decode(shown).ok());
        let shown = shown.ok_or(SaslError::NotTheServer)?;
        hmac::verify(key, message, &shown).map_err(|_| SaslError::NotTheServer)
    }

    fn first_bare(&self) -> String {
        let user = self.user.replace('=', "=3D").replace(',', "=2C");
        format!("n={user},r={}", self.nonce)
    }

    /// The proof for `message`; remembers what the server must answer (RFC 5802 section 3).
    fn prove(&mut self, salt: &[u8], rounds: NonZeroU32, message: &[u8]) -> Vec<u8> {
        let (stretch, mac, hash) = match self.mechanism {
            Mechanism::ScramSha1 => (
                pbkdf2::PBKDF2_HMAC_SHA1,
                hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
                &digest::SHA1_FOR_LEGACY_USE_ONLY,
            ),
            _ => (pbkdf2::PBKDF2_HMAC_SHA256, hmac::HMAC_SHA256, &digest::SHA256),
        };
        let sign = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(mac, key), text);
        let mut salted = vec![0; hash.output_len()];
        pbkdf2::derive(stretch, rounds, salt, self.password.as_bytes(), &mut salted);
        let client_key = sign(&salted, b"Client Key");
        let stored_key = digest::digest(hash, client_key.as_ref());
        let signature = sign(stored_key.as_ref(), message);
        let server_key = sign(&salted, b"Server Key");
        self.expected = Some((hmac::Key::new(mac, server_key.as_ref()), message.to_vec()));
        client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect()
    }
}

fn decode(text: &str) -> Result<String, SaslError> {
    let bytes = STANDARD.decode(text.trim()).map_err(|_| SaslError::Challenge)?;
    String::from_utf8(bytes).map_err(|_| SaslError::Challenge)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with_nonce(mechanism: Mechanism, nonce: &str) -> Sasl {
        let mut sasl = Sasl::new(mechanism, "user", "pencil", [0; 18]);
        nonce.clone_into(&mut sasl.nonce);
        sasl
    }

    /// RFC 5802 section 5 and RFC 7677 section 3.
    #[test]
    fn the_published_exchanges() {
        let sha1 = (
            Mechanism::ScramSha1,
            "fyko+d2lbbFgONRv9qkxdawL",
            "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
            "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        );
        let sha256 = (
            Mechanism::ScramSha256,
            "rOprNGfwEbeRWgbNEkqO",
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        );
        for (mechanism, nonce, challenge, response, last) in [sha1, sha256] {
            let mut sasl = with_nonce(mechanism, nonce);
            assert_eq!(sasl.initial(), STANDARD.encode(format!("n,,n=user,r={nonce}")));
            assert_eq!(sasl.finish(&STANDARD.encode(last)), Err(SaslError::NotTheServer));
            let said = sasl.respond(&STANDARD.encode(challenge)).unwrap();
            assert_eq!(said, STANDARD.encode(response));
            for wrong in ["", "v=", "v=AAAA", "e=other-error"] {
                assert_eq!(sasl.finish(&STANDARD.encode(wrong)), Err(SaslError::NotTheServer));
            }
            assert_eq!(sasl.finish(&STANDARD.encode(last)), Ok(()));
            let again = sasl.respond(&STANDARD.encode(challenge));
            assert_eq!(again, Err(SaslError::Challenge), "one challenge only");
        }
    }

    #[test]
    fn plain_is_what_rfc_4616_says() {
        let sasl = Sasl::new(Mechanism::Plain, "tim", "tanstaaftanstaaf", [0; 18]);
        assert_eq!(sasl.initial(), STANDARD.encode("\0tim\0tanstaaftanstaaf"));
        assert_eq!(sasl.finish(""), Ok(()));
    }

    #[test]
    fn the_strongest_that_is_offered_is_used() {
        let best = |offered: &str, plain| Mechanism::best(offered.split(' '), plain);
        assert_eq!(best("PLAIN SCRAM-SHA-1 SCRAM-SHA-256", true), Some(Mechanism::ScramSha256));
        assert_eq!(best("SCRAM-SHA-1-PLUS PLAIN SCRAM-SHA-1", true), Some(Mechanism::ScramSha1));
        assert_eq!(best("PLAIN", true), Some(Mechanism::Plain));
        assert_eq!(best("PLAIN EXTERNAL", false), None);
    }

    #[test]
    fn a_challenge_is_checked() {
        for (challenge, error) in [
            ("r=other,s=QSXCR+Q6sek8bf92,i=4096", SaslError::Challenge),
            ("r=nonce,s=QSXCR+Q6sek8bf92,i=4096", SaslError::Challenge),
            ("r=nonce2,s=?,i=4096", SaslError::Challenge),
            ("r=nonce2,s=QSXCR+Q6sek8bf92,i=0", SaslError::Challenge),
            ("m=x,r=nonce2,s=QSXCR+Q6sek8bf92,i=1", SaslError::Challenge),
            ("r=nonce2,s=QSXCR+Q6sek8bf92,i=4294967296", SaslError::TooExpensive(1 << 32)),
            ("r=nonce2,s=QSXCR+Q6sek8bf92,i=1000001", SaslError::TooExpensive(1_000_001)),
        ] {
            let mut sasl = with_nonce(Mechanism::ScramSha1, "nonce");
            assert_eq!(sasl.respond(&STANDARD.encode(challenge)), Err(error), "{challenge}");
        }
        assert!(with_nonce(Mechanism::Plain, "n").respond("").is_err());
    }

    proptest! {
        #[test]
        fn any_challenge_is_survived(challenge in "(r=nonce[a-z,=]{0,8},s=[A-Za-z=]{0,8},i=[0-9]{0,3}.{0,4})|.{0,20}") {
            let mut sasl = with_nonce(Mechanism::ScramSha256, "nonce");
            let _ = sasl.respond(&challenge);
            let _ = sasl.respond(&STANDARD.encode(&challenge));
            let _ = sasl.finish(&challenge);
        }
    }
}
