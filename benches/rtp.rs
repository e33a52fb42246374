//! Reading and rewriting RTP, beside the `rtp` crate; reading codec descriptors and RTCP; writing
//! transport-wide feedback.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rialto_rtp::codec::{Shift, VideoCodec, dd::DependencyReader, read};
use rialto_rtp::rtcp::{Arrival, Rtcp, RtcpPackets, RtcpWriter};
use rialto_rtp::{ExtSeq, ExtWriter, RtpHeader, Seq, header, write_header};
use webrtc_util::marshal::{Marshal, Unmarshal};

const PAYLOAD_LEN: usize = 1100;

/// The dependency descriptor of a keyframe with two temporal layers, and of a frame of the upper one.
const STRUCTURE: [u8; 15] =
    [0xfe, 0x00, 0x00, 0x87, 0xc1, 0x1e, 0xa8, 0x51, 0x41, 0x00, 0x94, 0x05, 0x9c, 0x09, 0xfc];
const KNOWN_TEMPLATE: [u8; 3] = [0xc0, 0x00, 0x01];

/// A packet as a browser sends it: MID, transport-wide sequence number, send time, VP8.
fn packet() -> Vec<u8> {
    let mut buf = vec![0; 200 + PAYLOAD_LEN];
    let len = rewrite(&mut buf, &[0x90, 0xe0, 0x92, 0x34, 0x56, 0x20, 0x01], 1);
    buf.truncate(len);
    let header = RtpHeader::parse(&buf).unwrap();
    buf.resize(header.len + PAYLOAD_LEN, 0x55);
    buf
}

/// What egress does for one receiver: a new header, its extensions, the payload, its descriptor.
fn rewrite(out: &mut [u8], payload: &[u8], n: u64) -> usize {
    let fixed = write_header(out, true, 96, Seq(n as u16), 90_000, 0x1234).unwrap();
    header::set_extension_bit(out, true);
    let mut writer = ExtWriter::new(&mut out[fixed..], true);
    writer.push(3, b"video").unwrap();
    writer.push(5, &(n as u16).to_be_bytes()).unwrap();
    writer.push(2, &[1, 2, 3]).unwrap();
    let start = fixed + writer.finish();
    let end = start + payload.len();
    out[start..end].copy_from_slice(payload);
    if let Some(info) = read(VideoCodec::Vp8, payload, true) {
        let shift = Shift { picture_id: n as u16, tl0: n as u8, frame_number: 0 };
        info.numbers.patch(&mut out[start..end], shift);
    }
    end
}

fn rtp(c: &mut Criterion) {
    let packet = packet();
    let mut group = c.benchmark_group("rtp");
    group.throughput(Throughput::Elements(1));
    group.bench_function("parse/rialto", |b| {
        b.iter(|| {
            let header = RtpHeader::parse(black_box(&packet)).unwrap();
            header.extensions(&packet).map(|e| u32::from(e.id)).sum::<u32>() + header.ssrc
        });
    });
    group.bench_function("parse/rtp crate", |b| {
        b.iter(|| rtp::header::Header::unmarshal(&mut black_box(&packet[..])).unwrap());
    });
    let (mut out, mut n) = (vec![0; 1500], 0);
    group.bench_function("rewrite/rialto", |b| {
        b.iter(|| {
            n += 1;
            let header = RtpHeader::parse(black_box(&packet)).unwrap();
            rewrite(&mut out, &packet[header.payload_range(&packet).unwrap()], n)
        });
    });
    group.bench_function("rewrite/rtp crate", |b| {
        let bytes = bytes::Bytes::from(packet.clone());
        b.iter(|| {
            let mut packet = rtp::packet::Packet::unmarshal(&mut bytes.clone()).unwrap();
            packet.header.sequence_number = packet.header.sequence_number.wrapping_add(1);
            packet.header.ssrc = 0x1234;
            packet.marshal_to(&mut out).unwrap()
        });
    });
    let header = RtpHeader::parse(&packet).unwrap();
    group.bench_function("vp8 descriptor", |b| {
        b.iter(|| read(VideoCodec::Vp8, black_box(&packet[header.len..]), true));
    });
    let mut reader = DependencyReader::default();
    group.bench_function("dependency descriptor/structure", |b| {
        b.iter(|| reader.read(black_box(&STRUCTURE)).unwrap());
    });
    group.bench_function("dependency descriptor/known template", |b| {
        b.iter(|| reader.read(black_box(&KNOWN_TEMPLATE)).unwrap().layers.unwrap());
    });
    group.finish();
}

fn rtcp(c: &mut Criterion) {
    let arrivals: Vec<_> =
        (0..60).map(|n| Arrival { seq: ExtSeq(n * 21 / 20), at: n as i64 * 17 }).collect();
    let write = |buf: &mut [u8]| {
        let mut writer = RtcpWriter::new(buf);
        writer.receiver_report(1, &[]).unwrap();
        writer.nack(1, 2, (10..30).step_by(3).map(Seq)).unwrap();
        writer.transport_cc(1, 2, 3, ExtSeq(0), &arrivals).unwrap();
        writer.len()
    };
    let mut buf = [0; 1200];
    let len = write(&mut buf);
    let compound = buf[..len].to_vec();
    let mut group = c.benchmark_group("rtcp");
    group.bench_function("write RR, NACK, feedback on 60", |b| b.iter(|| write(&mut buf)));
    group.bench_function("read it/rialto", |b| {
        b.iter(|| {
            RtcpPackets::new(black_box(&compound))
                .flatten()
                .map(|packet| match packet {
                    Rtcp::Nack { lost, .. } => lost.count(),
                    Rtcp::TransportCc(feedback) => feedback.statuses().count(),
                    _ => 1,
                })
                .sum::<usize>()
        });
    });
    group.bench_function("read it/rtcp crate", |b| {
        b.iter(|| rtcp::packet::unmarshal(&mut black_box(&compound[..])).unwrap());
    });
    group.finish();
}

criterion_group!(benches, rtp, rtcp);
criterion_main!(benches);
