//! SRTP seal and open, beside the raw cipher alone, webrtc-srtp, and the libraries that were not
//! chosen. Lengths are of the payload; the header has 12 bytes more.
//!
//! Opening destroys the packet, so every "open" (raw ones too) starts by copying it into place.

use std::hint::black_box;

use aes_gcm::aead::{AeadInPlace, KeyInit};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use rialto_rtp::{ExtSeq, write_header};
use rialto_srtp::{Profile, RxContext, TxContext};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;

const HEADER_LEN: usize = 12;
const SSRC: u32 = 7;
/// Packets that are sealed before opening is measured, in one roll-over cycle.
const SEALED: u64 = 4096;

fn key(profile: Profile) -> Vec<u8> {
    vec![0x42; profile.key_len() + profile.salt_len()]
}

fn plain(payload_len: usize, index: u64) -> Vec<u8> {
    let mut packet = vec![0x17; HEADER_LEN + payload_len];
    write_header(&mut packet, false, 96, ExtSeq(index).seq(), 90_000, SSRC);
    packet
}

fn webrtc(profile: Profile) -> Context {
    let material = key(profile);
    let (key, salt) = material.split_at(profile.key_len());
    let profile = match profile {
        Profile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Profile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        Profile::Aes128CmSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        Profile::Aes128CmSha1_32 => ProtectionProfile::Aes128CmHmacSha1_32,
    };
    Context::new(key, salt, profile, None, None).unwrap()
}

fn nonce(index: u64) -> [u8; 12] {
    let mut nonce = [0x42; 12];
    nonce[4..].copy_from_slice(&index.to_be_bytes());
    nonce
}

fn seal(c: &mut Criterion) {
    for profile in Profile::ALL {
        for len in [120, 1100] {
            let mut group = c.benchmark_group(format!("seal/{profile}/{len}"));
            group.throughput(Throughput::Bytes(len as u64));
            let total = HEADER_LEN + len;
            let mut buf = plain(len, 0);
            buf.resize(total + profile.rtp_overhead(), 0);
            let tx = TxContext::new(profile, &key(profile)).unwrap();
            let mut index = 0;
            group.bench_function("rialto", |b| {
                b.iter(|| {
                    index += 1;
                    tx.seal_rtp(black_box(&mut buf), HEADER_LEN, total, index, SSRC).unwrap()
                });
            });
            let mut theirs = webrtc(profile);
            let packet = plain(len, 1);
            group.bench_function("webrtc-srtp", |b| {
                b.iter(|| theirs.encrypt_rtp(black_box(&packet)).unwrap());
            });
            match profile {
                Profile::Aes128CmSha1_80 | Profile::Aes128CmSha1_32 => raw_cm(&mut group, len),
                Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => {
                    raw_gcm(&mut group, profile, len);
                }
            }
            group.finish();
        }
    }
}

/// The AEAD call alone, in the three libraries that have it.
fn raw_gcm(group: &mut BenchmarkGroup<WallTime>, profile: Profile, len: usize) {
    let (header, mut buf, mut index) = ([0x17; HEADER_LEN], vec![0x17; len], 0);
    let wide = profile == Profile::AeadAes256Gcm;
    let material = vec![0x42; profile.key_len()];

    let algorithm = if wide { &AES_256_GCM } else { &AES_128_GCM };
    let ring = LessSafeKey::new(UnboundKey::new(algorithm, &material).unwrap());
    group.bench_function("raw cipher, ring", |b| {
        b.iter(|| {
            index += 1;
            let nonce = Nonce::assume_unique_for_key(nonce(index));
            ring.seal_in_place_separate_tag(nonce, Aad::from(&header), black_box(&mut buf)).unwrap()
        });
    });

    let algorithm =
        if wide { &aws_lc_rs::aead::AES_256_GCM } else { &aws_lc_rs::aead::AES_128_GCM };
    let key = aws_lc_rs::aead::UnboundKey::new(algorithm, &material).unwrap();
    let aws = aws_lc_rs::aead::LessSafeKey::new(key);
    group.bench_function("raw cipher, aws-lc-rs", |b| {
        b.iter(|| {
            index += 1;
            let nonce = aws_lc_rs::aead::Nonce::assume_unique_for_key(nonce(index));
            let aad = aws_lc_rs::aead::Aad::from(&header);
            aws.seal_in_place_separate_tag(nonce, aad, black_box(&mut buf)).unwrap()
        });
    });

    if !wide {
        let aes = aes_gcm::Aes128Gcm::new_from_slice(&material).unwrap();
        group.bench_function("raw cipher, RustCrypto", |b| {
            b.iter(|| {
                index += 1;
                let nonce = nonce(index).into();
                aes.encrypt_in_place_detached(&nonce, &header, black_box(&mut buf)).unwrap()
            });
        });
    }
}

/// Counter mode and HMAC-SHA1 without SRTP around them.
fn raw_cm(group: &mut BenchmarkGroup<WallTime>, len: usize) {
    use aes::Aes128Enc;
    use aes::cipher::{InnerIvInit, StreamCipher, StreamCipherCoreWrapper};
    use hmac::{Hmac, Mac};

    let (mut buf, mut index) = (vec![0x17; HEADER_LEN + len], 0u64);
    let iv = |index: u64| u128::from(index << 16).to_be_bytes();

    let key = Aes128Enc::new_from_slice(&[0x42; 16]).unwrap();
    let mac = <Hmac<sha1::Sha1> as Mac>::new_from_slice(&[0x42; 20]).unwrap();
    group.bench_function("raw cipher, RustCrypto", |b| {
        b.iter(|| {
            index += 1;
            let core = ctr::CtrCore::<&Aes128Enc, ctr::flavors::Ctr128BE>::inner_iv_init(
                &key,
                (&iv(index)).into(),
            );
            let data = black_box(&mut buf);
            StreamCipherCoreWrapper::from_core(core).apply_keystream(&mut data[HEADER_LEN..]);
            let mut mac = mac.clone();
            mac.update(data);
            mac.finalize().into_bytes()
        });
    });

    let key = aws_lc_rs::cipher::UnboundCipherKey::new(&aws_lc_rs::cipher::AES_128, &[0x42; 16]);
    let key = aws_lc_rs::cipher::EncryptingKey::ctr(key.unwrap()).unwrap();
    let sha1 = aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY;
    let mac = aws_lc_rs::hmac::Key::new(sha1, &[0x42; 20]);
    group.bench_function("raw cipher, aws-lc-rs", |b| {
        b.iter(|| {
            index += 1;
            let context = aws_lc_rs::cipher::EncryptionContext::Iv128(iv(index).into());
            let data = black_box(&mut buf);
            key.less_safe_encrypt(&mut data[HEADER_LEN..], context).unwrap();
            aws_lc_rs::hmac::sign(&mac, data)
        });
    });
}

fn open(c: &mut Criterion) {
    for profile in Profile::ALL {
        for len in [120, 1100] {
            let mut group = c.benchmark_group(format!("open/{profile}/{len}"));
            group.throughput(Throughput::Bytes(len as u64));
            let tx = TxContext::new(profile, &key(profile)).unwrap();
            let sealed: Vec<_> = (0..SEALED)
                .map(|index| {
                    let mut buf = plain(len, index);
                    let total = buf.len();
                    buf.resize(total + profile.rtp_overhead(), 0);
                    tx.seal_rtp(&mut buf, HEADER_LEN, total, index, SSRC).unwrap();
                    buf
                })
                .collect();
            let mut buf = vec![0; HEADER_LEN + len + profile.rtp_overhead()];
            let rx = RxContext::new(profile, &key(profile)).unwrap();
            let mut packets = sealed.iter().cycle().zip((0..SEALED).cycle());
            let mut stream = None;
            group.bench_function("rialto", |b| {
                b.iter(|| {
                    let (packet, n) = packets.next().unwrap();
                    if n == 0 {
                        stream = None;
                    }
                    buf.copy_from_slice(packet);
                    rx.open_rtp(&mut stream, black_box(&mut buf), HEADER_LEN).unwrap()
                });
            });
            let mut theirs = webrtc(profile);
            group.bench_function("webrtc-srtp", |b| {
                b.iter(|| theirs.decrypt_rtp(black_box(&sealed[1])).unwrap());
            });
            if matches!(profile, Profile::AeadAes128Gcm | Profile::AeadAes256Gcm) {
                raw_open(&mut group, profile, len);
            }
            group.finish();
        }
    }
}

/// The chosen library's call alone.
fn raw_open(group: &mut BenchmarkGroup<WallTime>, profile: Profile, len: usize) {
    let wide = profile == Profile::AeadAes256Gcm;
    let algorithm = if wide { &AES_256_GCM } else { &AES_128_GCM };
    let key = UnboundKey::new(algorithm, &vec![0x42; profile.key_len()]).unwrap();
    let ring = LessSafeKey::new(key);
    let header = [0x17; HEADER_LEN];
    // As many distinct packets as above, so that both come from the same cache level.
    let sealed: Vec<_> = (0..SEALED)
        .map(|index| {
            let mut sealed = vec![0x17; len];
            let nonce = Nonce::assume_unique_for_key(nonce(index));
            ring.seal_in_place_append_tag(nonce, Aad::from(&header), &mut sealed).unwrap();
            sealed
        })
        .collect();
    let mut packets = sealed.iter().zip(0..SEALED).cycle();
    let mut buf = sealed[0].clone();
    group.bench_function("raw cipher, ring", |b| {
        b.iter(|| {
            let (packet, index) = packets.next().unwrap();
            buf.copy_from_slice(packet);
            let nonce = Nonce::assume_unique_for_key(nonce(index));
            ring.open_in_place(nonce, Aad::from(&header), black_box(&mut buf)).unwrap().len()
        });
    });
}

criterion_group!(benches, seal, open);
criterion_main!(benches);
