//! SASL (RFC 6120 section 6): SCRAM (RFC 5802, RFC 7677) and PLAIN (RFC 4616) by the crate `sasl`, with the
//! checks that the crate does not make.
//!
//! SCRAM never sends the password, and proves that the server knows it too. Names and passwords go out as
//! they are configured: ASCII needs no preparation, and other passwords must be written composed (NFC), as
//! keyboards do.

use sasl::{
    client::{
        MechanismError,
        mechanisms::{Plain, Scram},
    },
    common::{
        ChannelBinding,
        scram::{Sha1, Sha256},
    },
};
use xmpp_parsers::sasl::Mechanism;

/// Bound of the hashing rounds that a server may ask for: this many take seconds.
const MAX_ITERATIONS: u32 = 1_000_000;

/// The best of the mechanisms that a server offers.
///
/// Channel binding is not used, and PLAIN is not used in its place.
pub(super) fn best<'a>(
    offered: &(impl Iterator<Item = &'a str> + Clone),
    plain: bool,
) -> Option<Mechanism> {
    let known = [Mechanism::ScramSha256, Mechanism::ScramSha1, Mechanism::Plain];
    // A server that offers channel binding and PLAIN but no plain SCRAM may be an attacker on the path.
    let binds = offered.clone().any(|name| name.trim().ends_with("-PLUS"));
    known.into_iter().find(|mechanism| {
        let allowed = *mechanism != Mechanism::Plain || (plain && !binds);
        allowed && offered.clone().any(|name| name.trim() == self::name(mechanism))
    })
}

fn name(mechanism: &Mechanism) -> &'static str {
    match mechanism {
        Mechanism::ScramSha256 => "SCRAM-SHA-256",
        Mechanism::ScramSha1 => "SCRAM-SHA-1",
        Mechanism::Plain => "PLAIN",
        // Never chosen.
        _ => "",
    }
}

/// Why the server's side of the exchange is invalid.
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
    /// There is no randomness for the exchange.
    #[error("this machine has no randomness")]
    NoNonce,
}

/// One exchange.
pub(super) struct Exchange {
    mechanism: Box<dyn sasl::client::Mechanism + Send>,
    initial: Vec<u8>,
    /// The client's nonce, with which the server's must begin; `None` where no challenge is expected.
    nonce: Option<String>,
    plain: bool,
}

impl Exchange {
    pub(super) fn new(
        mechanism: &Mechanism,
        user: &str,
        password: &str,
    ) -> Result<Self, SaslError> {
        let plain = *mechanism == Mechanism::Plain;
        // In SCRAM these two have a meaning (RFC 5802 section 5.1).
        let name = user.replace('=', "=3D").replace(',', "=2C");
        let no_nonce = |_| SaslError::NoNonce;
        let none = ChannelBinding::None;
        let mut mechanism: Box<dyn sasl::client::Mechanism + Send> = match mechanism {
            Mechanism::Plain => Box::new(Plain::new(user, password)),
            Mechanism::ScramSha1 => {
                Box::new(Scram::<Sha1>::new(name, password, none).map_err(no_nonce)?)
            }
            _ => Box::new(Scram::<Sha256>::new(name, password, none).map_err(no_nonce)?),
        };
        let initial = mechanism.initial();
        let nonce = std::str::from_utf8(&initial).ok().and_then(|text| text.split(",r=").nth(1));
        let nonce = nonce.map(str::to_owned).filter(|_| !plain);
        Ok(Self { mechanism, initial, nonce, plain })
    }

    /// What `<auth>` holds.
    pub(super) fn initial(&self) -> Vec<u8> {
        self.initial.clone()
    }

    /// The response to a challenge. There is one challenge.
    pub(super) fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, SaslError> {
        let nonce = self.nonce.take().ok_or(SaslError::Challenge)?;
        check(challenge, &nonce)?;
        self.mechanism.response(challenge).map_err(|_| SaslError::Challenge)
    }

    /// What `<success>` holds, which ends the exchange.
    pub(super) fn finish(&mut self, last: &[u8]) -> Result<(), SaslError> {
        if self.plain {
            return Ok(());
        }
        self.mechanism.success(last).map_err(|_: MechanismError| SaslError::NotTheServer)
    }
}

/// Checks a challenge: the crate accepts its fields in any order, and any nonce and number of rounds.
fn check(challenge: &[u8], ours: &str) -> Result<(), SaslError> {
    let challenge = std::str::from_utf8(challenge).map_err(|_| SaslError::Challenge)?;
    let mut parts = challenge.split(',');
    let mut part = |name| parts.next().and_then(|part| part.strip_prefix(name));
    let (Some(nonce), Some(_salt), Some(rounds)) = (part("r="), part("s="), part("i=")) else {
        return Err(SaslError::Challenge);
    };
    if nonce.len() <= ours.len() || !nonce.starts_with(ours) {
        return Err(SaslError::Challenge);
    }
    // A later part of the same name would count instead.
    if parts.any(|part| ["r=", "s=", "i="].iter().any(|name| part.starts_with(name))) {
        return Err(SaslError::Challenge);
    }
    let rounds: u64 = rounds.parse().map_err(|_| SaslError::Challenge)?;
    match rounds {
        0 => Err(SaslError::Challenge),
        rounds if rounds > u64::from(MAX_ITERATIONS) => Err(SaslError::TooExpensive(rounds)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use proptest::prelude::*;
    use ring::{digest, hmac, pbkdf2};

    use super::*;

    const SALT: &[u8] = b"salt of the server";

    /// A server that knows a password (RFC 5802 section 3), by another library than the client's.
    struct Server {
        hash: &'static digest::Algorithm,
        salted: Vec<u8>,
        mac: hmac::Algorithm,
    }

    impl Server {
        fn new(mechanism: &Mechanism, password: &str, salt: &[u8], rounds: u32) -> Self {
            let (stretch, mac, hash) = if *mechanism == Mechanism::ScramSha1 {
                let mac = hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY;
                (pbkdf2::PBKDF2_HMAC_SHA1, mac, &digest::SHA1_FOR_LEGACY_USE_ONLY)
            } else {
                (pbkdf2::PBKDF2_HMAC_SHA256, hmac::HMAC_SHA256, &digest::SHA256)
            };
            let mut salted = vec![0; hash.output_len()];
            pbkdf2::derive(
                stretch,
                rounds.try_into().unwrap(),
                salt,
                password.as_bytes(),
                &mut salted,
            );
            Self { hash, salted, mac }
        }

        fn sign(&self, key: &[u8], text: &[u8]) -> Vec<u8> {
            hmac::sign(&hmac::Key::new(self.mac, key), text).as_ref().to_vec()
        }

        /// The proof that the client must show, and what the server shows then.
        fn proofs(&self, message: &[u8]) -> (String, String) {
            let client_key = self.sign(&self.salted, b"Client Key");
            let stored = digest::digest(self.hash, &client_key);
            let signature = self.sign(stored.as_ref(), message);
            let proof: Vec<u8> = client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
            let server_key = self.sign(&self.salted, b"Server Key");
            (STANDARD.encode(proof), STANDARD.encode(self.sign(&server_key, message)))
        }
    }

    /// RFC 5802 section 5 and RFC 7677 section 3: the server of these tests is right.
    #[test]
    fn the_published_exchanges() {
        for (mechanism, first, salt, nonce, proof, signature) in [
            (
                Mechanism::ScramSha1,
                "n=user,r=fyko+d2lbbFgONRv9qkxdawL",
                "QSXCR+Q6sek8bf92",
                "fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j",
                "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
                "rmF9pqV8S7suAoZWja4dJRkFsKQ=",
            ),
            (
                Mechanism::ScramSha256,
                "n=user,r=rOprNGfwEbeRWgbNEkqO",
                "W22ZaJ0SNY7soEsUEjb6gQ==",
                "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
                "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
                "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            ),
        ] {
            let server = Server::new(&mechanism, "pencil", &STANDARD.decode(salt).unwrap(), 4096);
            let message = format!("{first},r={nonce},s={salt},i=4096,c=biws,r={nonce}");
            let expected = (proof.to_owned(), signature.to_owned());
            assert_eq!(server.proofs(message.as_bytes()), expected);
        }
    }

    #[test]
    fn both_sides_show_that_they_know_the_password() {
        for mechanism in [Mechanism::ScramSha1, Mechanism::ScramSha256] {
            let mut client = Exchange::new(&mechanism, "us,er=1", "pencil").unwrap();
            let initial = String::from_utf8(client.initial()).unwrap();
            let bare = initial.strip_prefix("n,,").expect("no channel binding");
            let nonce = bare.strip_prefix("n=us=2Cer=3D1,r=").unwrap();
            assert!(nonce.len() >= 24, "{nonce}");
            let challenge = format!("r={nonce}more,s={},i=4096", STANDARD.encode(SALT));
            assert_eq!(client.finish(b"v=AAAA"), Err(SaslError::NotTheServer), "too early");
            let said = String::from_utf8(client.respond(challenge.as_bytes()).unwrap()).unwrap();
            let without = format!("c=biws,r={nonce}more");
            let server = Server::new(&mechanism, "pencil", SALT, 4096);
            let message = format!("{bare},{challenge},{without}");
            let (proof, signature) = server.proofs(message.as_bytes());
            assert_eq!(said, format!("{without},p={proof}"));
            for wrong in ["", "v=", "v=AAAA", "e=other-error", "\u{e9}"] {
                assert_eq!(
                    client.finish(wrong.as_bytes()),
                    Err(SaslError::NotTheServer),
                    "{wrong}"
                );
            }
            assert_eq!(client.finish(format!("v={signature}").as_bytes()), Ok(()));
            let again = client.respond(challenge.as_bytes());
            assert_eq!(again, Err(SaslError::Challenge), "one challenge only");
            let other = Exchange::new(&mechanism, "us,er=1", "pencil").unwrap();
            assert_ne!(other.initial(), initial.as_bytes(), "never the same nonce twice");
        }
    }

    #[test]
    fn plain_is_what_rfc_4616_says() {
        let mut sasl = Exchange::new(&Mechanism::Plain, "tim", "tanstaaftanstaaf").unwrap();
        assert_eq!(sasl.initial(), b"\0tim\0tanstaaftanstaaf");
        assert_eq!(sasl.respond(b""), Err(SaslError::Challenge));
        assert_eq!(sasl.finish(b""), Ok(()));
    }

    #[test]
    fn the_strongest_that_is_offered_is_used() {
        let best = |offered: &str, plain| best(&offered.split(' '), plain);
        assert_eq!(best("PLAIN SCRAM-SHA-1 SCRAM-SHA-256", true), Some(Mechanism::ScramSha256));
        assert_eq!(best("SCRAM-SHA-1-PLUS PLAIN SCRAM-SHA-1", true), Some(Mechanism::ScramSha1));
        assert_eq!(best("SCRAM-SHA-256-PLUS PLAIN", true), None, "no fall to PLAIN");
        assert_eq!(best("PLAIN", true), Some(Mechanism::Plain));
        assert_eq!(best("PLAIN EXTERNAL", false), None);
    }

    #[test]
    fn a_challenge_is_checked() {
        for (challenge, error) in [
            ("r=other,s=QSXCR+Q6sek8bf92,i=4096", SaslError::Challenge),
            ("r=NONCE,s=QSXCR+Q6sek8bf92,i=4096", SaslError::Challenge),
            ("r=NONCE2,s=?,i=4096", SaslError::Challenge),
            ("r=NONCE2,s=QSXCR+Q6sek8bf92,i=0", SaslError::Challenge),
            ("r=NONCE2,s=QSXCR+Q6sek8bf92,i=1,i=1000001", SaslError::Challenge),
            ("m=x,r=NONCE2,s=QSXCR+Q6sek8bf92,i=1", SaslError::Challenge),
            ("r=NONCE2,s=QSXCR+Q6sek8bf92,i=4294967296", SaslError::TooExpensive(1 << 32)),
            ("r=NONCE2,s=QSXCR+Q6sek8bf92,i=1000001", SaslError::TooExpensive(1_000_001)),
        ] {
            let mut sasl = Exchange::new(&Mechanism::ScramSha1, "user", "pencil").unwrap();
            let nonce = sasl.nonce.clone().unwrap();
            let said = challenge.replace("NONCE", &nonce);
            assert_eq!(sasl.respond(said.as_bytes()), Err(error), "{challenge}");
        }
    }

    proptest! {
        #[test]
        fn any_challenge_is_survived(challenge in "(r=NONCE[a-z,=]{0,8},s=[A-Za-z=]{0,8},i=[0-9]{0,3}.{0,4})|.{0,20}") {
            let mut sasl = Exchange::new(&Mechanism::ScramSha256, "user", "pencil").unwrap();
            let nonce = sasl.nonce.clone().unwrap();
            let _ = sasl.respond(challenge.replace("NONCE", &nonce).as_bytes());
            let _ = sasl.finish(challenge.as_bytes());
        }
    }
}
