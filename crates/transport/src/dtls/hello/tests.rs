use proptest::prelude::*;

use super::*;
use crate::dtls::records::{CLIENT_HELLO, HANDSHAKE as HANDSHAKE_RECORD};

const HANDSHAKE: u8 = HANDSHAKE_RECORD as u8;
const NEWEST: Answer = Answer::Dimpl(Versions::Newest);
const ONLY_12: Answer = Answer::Dimpl(Versions::Only12);
const GCM_128: u16 = 7;
const GCM_256: u16 = 8;
const BOTH: &[u16] = &[DTLS_1_3, DTLS_1_2];

fn ours() -> Abilities {
    Abilities { suites: vec![0xc02b, 0xc02c], groups: vec![29, 23] }
}

fn list(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn vector16(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

fn vector8(bytes: &[u8]) -> Vec<u8> {
    [&[bytes.len() as u8], bytes].concat()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().to_vec(), vector16(data)].concat()
}

fn hello(profiles: &[u16], versions: &[u16], suites: &[u16], groups: &[u16]) -> Vec<u8> {
    let mut srtp = vector16(&list(profiles));
    srtp.push(0);
    let extensions = [
        extension(SUPPORTED_VERSIONS, &vector8(&list(versions))),
        extension(SUPPORTED_GROUPS, &vector16(&list(groups))),
        extension(EXTENDED_MASTER_SECRET, &[]),
        extension(USE_SRTP, &srtp),
    ];
    let (session, cookie, compression) = (vec![0], vec![0], vec![1, 0]);
    let lists = [session, cookie, vector16(&list(suites)), compression];
    [vec![0xfe, 0xfd], vec![9; 32], lists.concat(), vector16(&extensions.concat())].concat()
}

fn offer(profiles: &[u16], versions: &[u16]) -> Vec<u8> {
    hello(profiles, versions, &[0x1301, 0xc02b], &[0x11ec, 29])
}

/// A datagram with that part of the message in one record.
fn datagram(hello: &[u8], offset: usize, end: usize) -> Vec<u8> {
    let number = |n: usize| (n as u32).to_be_bytes()[1..].to_vec();
    let bytes = &hello[offset..end];
    let head = [vec![CLIENT_HELLO], number(hello.len()), vec![0, 0], number(offset)].concat();
    let fragment = [head, number(bytes.len()), bytes.to_vec()].concat();
    [vec![HANDSHAKE, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 3], vector16(&fragment)].concat()
}

#[test]
fn gcm_behind_cm_is_worth_the_older_version() {
    for (profiles, expected) in [
        (&[CM_80][..], NEWEST),
        (&[CM_80, GCM_128], ONLY_12),
        (&[CM_80, GCM_256, GCM_128], ONLY_12),
        (&[2, CM_80, 0x99, GCM_256], ONLY_12),
        (&[GCM_256, CM_80], NEWEST),
        (&[GCM_128], NEWEST),
        (&[0x99], NEWEST),
        (&[], NEWEST),
    ] {
        let version = choose(&offer(profiles, BOTH), &ours()).unwrap_or(NEWEST);
        assert_eq!(version, expected, "{profiles:?}");
    }
}

#[test]
fn a_client_that_cannot_do_1_2_keeps_1_3() {
    let profiles = &[CM_80, GCM_128];
    let newest = Some(NEWEST);
    assert_eq!(choose(&offer(profiles, &[DTLS_1_3]), &ours()), newest);
    assert_eq!(choose(&hello(profiles, BOTH, &[0x1301], &[29]), &ours()), newest);
    assert_eq!(choose(&hello(profiles, BOTH, &[0xc02b], &[0x11ec]), &ours()), newest);
    assert_eq!(choose(&hello(profiles, BOTH, &[0xc02b], &[29]), &ours()), Some(ONLY_12));
}

#[test]
fn openssl_answers_what_dimpl_cannot() {
    let other = Some(Answer::OpenSsl);
    // No more than 1.2: it may have any certificate. Without the extension it has no more either.
    assert_eq!(choose(&offer(&[CM_80, GCM_128], &[DTLS_1_2]), &ours()), other);
    assert_eq!(choose(&offer(&[GCM_128], &[]), &ours()), other);
    // Tags of 32 bits.
    assert_eq!(choose(&offer(&[CM_32], BOTH), &ours()), other);
    assert_eq!(choose(&offer(&[CM_32], &[DTLS_1_3]), &ours()), Some(NEWEST));
    assert_eq!(choose(&offer(&[CM_32, CM_80], BOTH), &ours()), Some(NEWEST));
}

#[test]
fn a_newer_hello_replaces_one_that_is_not_whole() {
    let one = offer(&[CM_80, GCM_128], BOTH);
    let mut other = one.clone();
    other[20] ^= 1;
    let mut held = PartialHello::default();
    assert_eq!(held.take(&datagram(&one, 0, 50), &ours()), None);
    assert_eq!(held.random(), Some(&one[2..34]));
    assert_eq!(held.take(&datagram(&other, 0, 50), &ours()), None);
    assert_eq!(held.random(), Some(&other[2..34]));
    assert_eq!(held.take(&datagram(&other, 50, other.len()), &ours()), Some(ONLY_12));
    assert_eq!(assemble(held.datagrams()), Some(other));
}

#[test]
fn a_cut_message_says_nothing() {
    let whole = offer(&[CM_80, GCM_128], BOTH);
    for length in 0..whole.len() {
        assert_eq!(choose(&whole[..length], &ours()), None, "{length} of {} bytes", whole.len());
    }
}

#[test]
fn other_datagrams_are_not_held() {
    let mut held = PartialHello::default();
    let whole = offer(&[CM_80], BOTH);
    let mut encrypted = datagram(&whole, 0, whole.len());
    encrypted[4] = 1;
    let mut later = datagram(&whole, 0, whole.len());
    later[18] = 1;
    for other in [&[][..], &[HANDSHAKE], &[20; 60], &encrypted, &later] {
        assert_eq!(held.take(other, &ours()), None);
    }
    assert!(held.datagrams().is_empty());
}

#[test]
fn what_never_gets_whole_is_left_to_the_library() {
    let whole = offer(&[CM_80, GCM_128], BOTH);
    let mut held = PartialHello::default();
    let piece = datagram(&whole, 10, 20);
    let taken = (1..=MAX_HELD).find(|_| held.take(&piece, &ours()).is_some());
    assert_eq!(taken, Some(MAX_HELD));
    assert_eq!(held.datagrams().len(), MAX_HELD);
}

#[test]
fn several_records_in_a_datagram_are_read() {
    let whole = offer(&[CM_80, GCM_128], BOTH);
    let alert = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 1, 0];
    let parts = [&alert[..], &datagram(&whole, 40, whole.len()), &datagram(&whole, 0, 40)];
    let mut held = PartialHello::default();
    assert_eq!(held.take(&parts.concat(), &ours()), Some(ONLY_12));
}

proptest! {
    #[test]
    fn pieces_in_any_order_make_the_message(
        cuts in prop::collection::vec(0..100_usize, 0..8),
        twice in any::<prop::sample::Index>(),
        order in any::<u64>(),
        overlap in 0..20_usize,
    ) {
        let whole = offer(&[CM_80, GCM_128], BOTH);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut * whole.len() / 100).collect();
        cuts.extend([0, whole.len()]);
        cuts.sort_unstable();
        let mut pieces: Vec<_> = cuts
            .windows(2)
            .map(|cut| datagram(&whole, cut[0].saturating_sub(overlap), cut[1]))
            .collect();
        pieces.push(pieces[twice.index(pieces.len())].clone());
        pieces.sort_by_key(|piece| order.wrapping_mul(1 + u64::from(piece[21]) + piece.len() as u64));
        let mut held = PartialHello::default();
        let taken = pieces.iter().find_map(|piece| held.take(piece, &ours()));
        prop_assert_eq!(taken, Some(ONLY_12));
        prop_assert_eq!(assemble(held.datagrams()), Some(whole));
    }

    #[test]
    fn any_bytes_are_survived(
        data in prop::collection::vec(any::<u8>(), 0..400),
        place in any::<prop::sample::Index>(),
        value: u8,
    ) {
        fuzz(&data);
        // A message with one byte changed gets further in than noise.
        let mut hello = offer(&[CM_80, GCM_128], BOTH);
        let at = place.index(hello.len());
        hello[at] = value;
        let _ = choose(&hello, &ours());
        let mut datagram = datagram(&hello, 0, hello.len());
        let at = place.index(datagram.len());
        datagram[at] = value;
        fuzz(&datagram);
    }
}
