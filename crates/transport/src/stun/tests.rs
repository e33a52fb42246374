use proptest::prelude::*;

use super::*;

/// RFC 5769 section 2.1: a request with long-lived attributes, password `VOkJxbRl1RmTxUk/WvJxBt`.
const REQUEST: &str = "000100582112a442b7e7a701bc34d686fa87dfae\
    802200105354554e207465737420636c69656e74\
    002400046e0001ff\
    80290008932ff9b151263b36\
    000600096576746a3a68367659202020\
    000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2\
    80280004e57a3bcf";
/// RFC 5769 section 2.2: its IPv4 response.
const RESPONSE4: &str = "0101003c2112a442b7e7a701bc34d686fa87dfae\
    8022000b7465737420766563746f7220\
    002000080001a147e112a643\
    000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7\
    80280004c07d4c96";
/// RFC 5769 section 2.3: its IPv6 response.
const RESPONSE6: &str = "010100482112a442b7e7a701bc34d686fa87dfae\
    8022000b7465737420766563746f7220\
    002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9\
    00080014a382954e4be67bf11784c97c8292c275bfe3ed41\
    80280004c8fb0b4c";
const PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect()
}

#[test]
fn rfc_5769_request() {
    let bytes = unhex(REQUEST);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.class, Class::Request);
    assert_eq!(message.ufrags(), Some((&b"evtj"[..], &b"h6vY"[..])));
    assert_eq!(message.priority, Some(0x6e00_01ff));
    assert!(!message.use_candidate);
    assert!(message.is_authentic(PASSWORD));
    assert!(!message.is_authentic(b"VOkJxbRl1RmTxUk/WvJxBu"));
}

#[test]
fn rfc_5769_responses() {
    for (text, mapped) in [
        (RESPONSE4, "192.0.2.1:32853"),
        (RESPONSE6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
    ] {
        let bytes = unhex(text);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.class, Class::Success);
        assert_eq!(message.mapped, Some(mapped.parse().unwrap()));
        assert!(message.is_authentic(PASSWORD));
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let bytes = unhex(REQUEST);
    // FINGERPRINT is optional and after MESSAGE-INTEGRITY: with another type it is just ignored.
    let before = 0..(bytes.len() - 8) * 8;
    let value = (bytes.len() - 4) * 8..bytes.len() * 8;
    for bit in before.chain(value) {
        let mut forged = bytes.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        let accepted = Message::parse(&forged).is_ok_and(|m| m.is_authentic(PASSWORD));
        assert!(!accepted, "bit {bit}");
    }
}

/// Appends attributes and corrects the length; MESSAGE-INTEGRITY does not cover what follows it.
fn with_appended(message: &str, attributes: &[u8]) -> Vec<u8> {
    let mut bytes = unhex(message);
    bytes.truncate(bytes.len() - 8);
    bytes.extend_from_slice(attributes);
    let length = (bytes.len() - HEADER) as u16;
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    bytes
}

#[test]
fn attributes_after_integrity_are_ignored() {
    let bytes = with_appended(REQUEST, &[0x00, 0x25, 0, 0, 0x00, 0x24, 0, 4, 0, 0, 0, 1]);
    let message = Message::parse(&bytes).unwrap();
    assert!(message.is_authentic(PASSWORD));
    assert!(!message.use_candidate);
    assert_eq!(message.priority, Some(0x6e00_01ff));
}

#[test]
fn chromium_network_cost_is_accepted() {
    // 0xC057 before MESSAGE-INTEGRITY, as Chromium sends it; this MAC is then wrong, but it parses.
    let mut bytes = unhex(REQUEST);
    bytes.truncate(HEADER);
    bytes.extend_from_slice(&[0xc0, 0x57, 0, 4, 0, 1, 0, 10]);
    bytes[2..4].copy_from_slice(&8u16.to_be_bytes());
    assert!(Message::parse(&bytes).is_ok());
}

#[test]
fn malformed() {
    let good = unhex(REQUEST);
    assert_eq!(Message::parse(&[]).unwrap_err(), StunError::Truncated);
    assert_eq!(Message::parse(&good[..good.len() - 1]).unwrap_err(), StunError::Truncated);
    let mut other = good.clone();
    other[4] = 0;
    assert_eq!(Message::parse(&other).unwrap_err(), StunError::Cookie);
    other.clone_from(&good);
    other[1] = 3;
    assert_eq!(Message::parse(&other).unwrap_err(), StunError::Method);
    other.clone_from(&good);
    *other.last_mut().unwrap() ^= 1;
    assert_eq!(Message::parse(&other).unwrap_err(), StunError::Fingerprint);
    // An attribute that reaches beyond the message.
    let bytes = with_appended(REQUEST, &[0x80, 0x22, 0, 5, 1, 2, 3, 4]);
    assert_eq!(Message::parse(&bytes).unwrap_err(), StunError::Attribute);
}

proptest! {
    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Message::parse(&bytes).map(|m| (m.ufrags(), m.is_authentic(b"p")));
    }

    #[test]
    fn any_attributes_are_read(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = unhex(REQUEST);
        bytes.truncate(HEADER);
        bytes.extend_from_slice(&body);
        let length = (bytes.len() - HEADER) as u16;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        let _ = Message::parse(&bytes).map(|m| (m.ufrags(), m.is_authentic(b"p")));
    }

    /// The agent's own parser must survive what passes here; and if both parse a message, they
    /// agree on who sent it.
    #[test]
    fn agrees_with_the_agent(flips in prop::collection::vec((0usize..108, any::<u8>()), 0..6)) {
        let mut bytes = unhex(REQUEST);
        for (at, value) in flips {
            bytes[at] = value;
        }
        let (Ok(ours), Ok(theirs)) = (Message::parse(&bytes), is::stun::StunMessage::parse(&bytes))
        else {
            return Ok(());
        };
        if let (Some(name), Some(other)) = (ours.username, theirs.username()) {
            prop_assert_eq!(name, other.as_bytes());
        }
    }
}
