//! Round trips, malformed input, and the `rtcp` crate as oracle.

use super::*;
use crate::{ExtSeq, Seq};
use proptest::collection::vec;
use proptest::prelude::*;
use rtcp::goodbye::Goodbye;
use rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtcp::receiver_report::ReceiverReport;
use rtcp::reception_report::ReceptionReport;
use rtcp::sender_report::SenderReport;
use rtcp::source_description::SourceDescription;
use rtcp::transport_feedbacks::transport_layer_cc::{SymbolTypeTcc, TransportLayerCc};
use rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};

fn written(write: impl FnOnce(&mut RtcpWriter)) -> Vec<u8> {
    let mut buf = vec![0xaa; 4000];
    let mut writer = RtcpWriter::new(&mut buf);
    write(&mut writer);
    let len = writer.len();
    buf.truncate(len);
    buf
}

fn only(data: &[u8]) -> Rtcp<'_> {
    let mut packets = RtcpPackets::new(data);
    let first = packets.next().unwrap().unwrap();
    assert!(packets.next().is_none());
    first
}

/// The one packet that the oracle reads.
fn oracle<T: Clone + 'static>(data: &[u8]) -> T {
    let packets = rtcp::packet::unmarshal(&mut &data[..]).unwrap();
    assert_eq!(packets.len(), 1);
    packets[0].as_any().downcast_ref::<T>().unwrap().clone()
}

fn block() -> impl Strategy<Value = ReportBlock> {
    (any::<u32>(), any::<u8>(), -(1i32 << 23)..1 << 23, any::<[u32; 4]>()).prop_map(
        |(ssrc, fraction_lost, cumulative_lost, [a, b, c, d])| ReportBlock {
            ssrc,
            fraction_lost,
            cumulative_lost,
            highest_seq: a,
            jitter: b,
            last_sr: c,
            delay_since_last_sr: d,
        },
    )
}

fn oracle_block(block: &ReportBlock) -> ReceptionReport {
    ReceptionReport {
        ssrc: block.ssrc,
        fraction_lost: block.fraction_lost,
        // The crate keeps the 24 bits unsigned.
        total_lost: block.cumulative_lost as u32 & 0xff_ffff,
        last_sequence_number: block.highest_seq,
        jitter: block.jitter,
        last_sender_report: block.last_sr,
        delay: block.delay_since_last_sr,
    }
}

#[test]
fn a_compound_gives_its_packets_in_order() {
    let data = written(|w| {
        w.sender_report(1, 2, 3, 4, 5, &[]).unwrap();
        w.sdes_cname(1, "name").unwrap();
        w.pli(1, 9).unwrap();
        w.bye(&[1, 7]).unwrap();
    });
    let packets: Vec<_> = RtcpPackets::new(&data).map(Result::unwrap).collect();
    assert!(matches!(packets[0], Rtcp::SenderReport { ssrc: 1, ntp: 2, rtp_ts: 3, .. }));
    let Rtcp::Sdes(mut chunks) = packets[1].clone() else { panic!() };
    assert_eq!(chunks.next(), Some((1, Some(&b"name"[..]))));
    assert_eq!(chunks.next(), None);
    assert!(matches!(packets[2], Rtcp::Pli { sender: 1, media: 9 }));
    let Rtcp::Bye(ssrcs) = packets[3].clone() else { panic!() };
    assert_eq!(ssrcs.collect::<Vec<_>>(), [1, 7]);
    assert_eq!(packets.len(), 4);
}

#[test]
fn a_malformed_packet_does_not_cost_what_stands_beside_it() {
    let broken: [(&[u8], RtcpError); 6] = [
        (&[0x40, 200, 0, 0], RtcpError::Version),
        (&[0xa0, 201, 0, 1, 0, 0, 0, 9], RtcpError::Padding),
        (&[0xa0, 201, 0, 1, 0, 0, 0, 0], RtcpError::Padding),
        (&[0x81, 201, 0, 1, 0, 0, 0, 1], RtcpError::Short),
        (&[0x81, 203, 0, 0], RtcpError::Short),
        (&[0x8f, packet_type::RTPFB, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2], RtcpError::Short),
    ];
    for (broken, error) in broken {
        let mut data = written(|w| w.pli(1, 2).unwrap());
        data.extend(broken);
        data.extend(written(|w| w.pli(3, 4).unwrap()));
        let results: Vec<_> = RtcpPackets::new(&data).map(|r| r.map(|_| ())).collect();
        assert_eq!(results, [Ok(()), Err(error), Ok(())]);
    }
}

#[test]
fn a_packet_that_is_cut_short_ends_the_iteration_with_an_error() {
    let mut data = written(|w| w.pli(1, 2).unwrap());
    data.extend([0x81, packet_type::RTPFB, 0, 200, 0, 0]);
    data.extend(written(|w| w.pli(3, 4).unwrap()));
    let results: Vec<_> = RtcpPackets::new(&data).map(|r| r.map(|_| ())).collect();
    assert_eq!(results, [Ok(()), Err(RtcpError::Short)]);

    let first = |data: &[u8]| RtcpPackets::new(data).next().unwrap().map(|_| ()).unwrap_err();
    assert_eq!(first(&[0x40, 200, 0, 0]), RtcpError::Version);
    assert_eq!(first(&[0x80]), RtcpError::Short);
    assert_eq!(first(&[0xa0, 201, 0, 1, 0, 0, 0, 9]), RtcpError::Padding);
    assert_eq!(first(&[0xa0, 201, 0, 1, 0, 0, 0, 0]), RtcpError::Padding);
    assert_eq!(first(&[0x81, 201, 0, 1, 0, 0, 0, 1]), RtcpError::Short);
    assert_eq!(first(&[0x81, 203, 0, 0]), RtcpError::Short);
}

#[test]
fn unknown_packets_are_handed_on() {
    assert!(matches!(
        only(&[0x83, 210, 0, 1, 1, 2, 3, 4]),
        Rtcp::Other { packet_type: 210, count: 3, body: [1, 2, 3, 4] }
    ));
    assert!(matches!(only(&[0x80, packet_type::XR, 0, 1, 1, 2, 3, 4]), Rtcp::Xr([1, 2, 3, 4])));
    assert!(matches!(only(&[0x80, packet_type::APP, 0, 0]), Rtcp::App([])));
    // Application layer feedback that is not REMB.
    let other = [0x8f, packet_type::PSFB, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, b'A', b'B', b'C', b'D'];
    assert!(matches!(only(&other), Rtcp::Other { packet_type: 206, count: 15, .. }));
}

#[test]
fn a_full_buffer_keeps_what_was_written() {
    let mut buf = [0; 30];
    let mut writer = RtcpWriter::new(&mut buf);
    writer.pli(1, 2).unwrap();
    assert_eq!(writer.fir(1, &[(2, 3)]), Err(RtcpError::Full));
    assert_eq!(writer.nack(1, 2, [1, 100, 200].map(Seq)), Err(RtcpError::Full));
    assert_eq!(writer.nack(1, 2, [Seq(1)]), Ok(()));
    assert_eq!(writer.pli(1, 2), Err(RtcpError::Full));
    assert_eq!(writer.len(), 28);
    assert_eq!(RtcpPackets::new(&buf[..28]).flatten().count(), 2);

    let mut writer = RtcpWriter::new(&mut buf);
    assert_eq!(writer.nack(1, 2, []), Err(RtcpError::Count));
    assert_eq!(writer.fir(1, &[]), Err(RtcpError::Count));
    assert_eq!(writer.sdes_cname(1, &"x".repeat(256)), Err(RtcpError::Count));
    assert!(writer.is_empty());
    let mut large = [0; 2000];
    assert_eq!(RtcpWriter::new(&mut large).bye(&[0; 32]), Err(RtcpError::Count));
}

#[test]
fn nack_packs_seventeen_into_an_entry() {
    let data = written(|w| w.nack(1, 2, (65_530..=65_535).chain(0..=10).map(Seq)).unwrap());
    assert_eq!(data.len(), 16);
    let data = written(|w| w.nack(1, 2, (65_530..=65_535).chain(0..=11).map(Seq)).unwrap());
    assert_eq!(data.len(), 20);
}

#[test]
fn feedback_splits_where_one_packet_cannot_say_it() {
    let at = |seq: u64, at: i64| Arrival { seq: ExtSeq(seq), at };
    let mut buf = [0; 1200];
    let mut write = |base, arrivals: &[Arrival]| {
        RtcpWriter::new(&mut buf).transport_cc(1, 2, 3, ExtSeq(base), arrivals)
    };
    assert_eq!(write(10, &[]), Err(RtcpError::Count));
    // A delta over 8 s, a gap over what a count can say, a step back.
    assert_eq!(write(10, &[at(10, 0), at(11, 32_768)]), Ok(1));
    assert_eq!(write(10, &[at(10, 0), at(11, 32_767)]), Ok(2));
    assert_eq!(write(10, &[at(10, 0), at(65_544, 1)]), Ok(2));
    assert_eq!(write(10, &[at(10, 0), at(65_545, 1)]), Ok(1));
    assert_eq!(write(10, &[at(10, 0), at(10, 1)]), Ok(1));
    assert_eq!(write(10, &[at(9, 0)]), Err(RtcpError::Full));
    // 20 bytes of head, 2 of chunk, 2 of deltas.
    let arrivals: Vec<_> = (0..100).map(|n| at(n, 0)).collect();
    let mut small = [0; 24];
    let mut writer = RtcpWriter::new(&mut small);
    assert_eq!(writer.transport_cc(1, 2, 3, ExtSeq(0), &arrivals), Ok(2));
    assert_eq!(writer.len(), 24);
    let taken = RtcpWriter::new(&mut small[..23]).transport_cc(1, 2, 3, ExtSeq(0), &arrivals);
    assert_eq!(taken, Err(RtcpError::Full));
}

#[test]
fn feedback_with_reserved_symbols_or_missing_deltas_is_refused() {
    let feedback = |tail: [u8; 4]| {
        let mut data = vec![0x8f, packet_type::RTPFB, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2];
        data.extend([0, 7, 0, 3, 0, 0, 1, 0]);
        data.extend(tail);
        RtcpPackets::new(&data).next().unwrap().map(|_| ()).err()
    };
    assert_eq!(feedback([0x00, 0x03, 0, 0]), None);
    assert_eq!(feedback([0x20, 0x03, 0, 0]), Some(RtcpError::Short));
    assert_eq!(feedback([0x60, 0x03, 0, 0]), Some(RtcpError::TransportCc));
    assert_eq!(feedback([0x00, 0x02, 0, 0]), Some(RtcpError::Short));
    assert_eq!(feedback([0xff, 0xff, 0, 0]), Some(RtcpError::TransportCc));
}

/// Sorted arrivals after gaps, with deltas that jump back and far ahead at times.
fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let gap = prop_oneof![12 => Just(0u64), 3 => 1u64..20, 1 => 20u64..20_000];
    let delta = prop_oneof![10 => 0i64..200, 2 => -300i64..600, 1 => -40_000i64..40_000];
    (any::<u16>(), 0i64..1 << 30, vec((gap, delta), 1..600)).prop_map(|(seq, at, steps)| {
        let mut last = Arrival { seq: ExtSeq::new(3, Seq(seq)), at };
        steps
            .into_iter()
            .map(|(gap, delta)| {
                last = Arrival {
                    seq: last.seq.offset(gap as i64 + 1),
                    at: last.at.saturating_add(delta).max(0),
                };
                last
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn never_panics(data in vec(any::<u8>(), 0..120), kind in 198u8..209, first in any::<u8>()) {
        crate::fuzz::rtcp(&data);
        let mut data = data;
        if let [a, b, rest @ ..] = &mut data[..] {
            *a = 0x80 | (first & 0x3f);
            *b = kind;
            if let [hi, lo, rest @ ..] = rest {
                *hi = 0;
                *lo = (rest.len() / 4) as u8;
            }
        }
        crate::fuzz::rtcp(&data);
    }

    #[test]
    fn reports_agree_with_the_oracle(
        ssrc in any::<u32>(), ntp in any::<u64>(), rest in any::<[u32; 3]>(),
        blocks in vec(block(), 0..31),
    ) {
        let [rtp_time, packet_count, octet_count] = rest;
        let reports: Vec<_> = blocks.iter().map(oracle_block).collect();

        let ours = written(|w| {
            w.sender_report(ssrc, ntp, rtp_time, packet_count, octet_count, &blocks).unwrap();
        });
        let theirs = SenderReport {
            ssrc, ntp_time: ntp, rtp_time, packet_count, octet_count,
            reports: reports.clone(), ..Default::default()
        };
        prop_assert_eq!(&oracle::<SenderReport>(&ours), &theirs);
        let Rtcp::SenderReport { ssrc: s, ntp: n, rtp_ts, packets, octets, blocks: read } =
            only(&ours) else { panic!() };
        prop_assert_eq!((s, n, [rtp_ts, packets, octets]), (ssrc, ntp, rest));
        prop_assert_eq!(read.collect::<Vec<_>>(), &blocks[..]);

        let ours = written(|w| w.receiver_report(ssrc, &blocks).unwrap());
        let theirs = ReceiverReport { ssrc, reports, ..Default::default() };
        prop_assert_eq!(&oracle::<ReceiverReport>(&ours), &theirs);
        let Rtcp::ReceiverReport { ssrc: s, blocks: read } = only(&ours) else { panic!() };
        prop_assert_eq!(s, ssrc);
        prop_assert_eq!(read.collect::<Vec<_>>(), blocks);
    }

    #[test]
    fn nacks_agree_with_the_oracle(
        start in any::<u16>(), steps in vec(1u16..40, 1..100), ssrcs in any::<(u32, u32)>(),
    ) {
        let lost: Vec<_> = steps
            .iter()
            .scan(start, |seq, step| { *seq = seq.wrapping_add(*step); Some(*seq) })
            .collect();
        let ours = written(|w| w.nack(ssrcs.0, ssrcs.1, lost.iter().copied().map(Seq)).unwrap());
        let theirs = oracle::<TransportLayerNack>(&ours);
        prop_assert_eq!((theirs.sender_ssrc, theirs.media_ssrc), ssrcs);
        let seen: Vec<_> = theirs.nacks.iter().flat_map(NackPair::packet_list).collect();
        prop_assert_eq!(&seen, &lost);
        let Rtcp::Nack { sender, media, lost: read } = only(&ours) else { panic!() };
        prop_assert_eq!((sender, media), ssrcs);
        prop_assert_eq!(read.map(|seq| seq.0).collect::<Vec<_>>(), lost);
    }

    #[test]
    fn small_packets_agree_with_the_oracle(
        sender in any::<u32>(), media in any::<u32>(), ssrcs in vec(any::<u32>(), 1..31),
        numbers in vec(any::<u8>(), 31), name in "[a-zA-Z0-9]{1,40}",
    ) {
        let ours = written(|w| w.pli(sender, media).unwrap());
        let theirs = PictureLossIndication { sender_ssrc: sender, media_ssrc: media };
        prop_assert_eq!(oracle::<PictureLossIndication>(&ours), theirs);

        let requests: Vec<_> = ssrcs.iter().copied().zip(numbers).collect();
        let ours = written(|w| w.fir(sender, &requests).unwrap());
        let theirs = FullIntraRequest {
            sender_ssrc: sender,
            media_ssrc: 0,
            fir: requests
                .iter()
                .map(|(ssrc, number)| FirEntry { ssrc: *ssrc, sequence_number: *number })
                .collect(),
        };
        prop_assert_eq!(oracle::<FullIntraRequest>(&ours), theirs);
        let Rtcp::Fir { sender: s, requests: read } = only(&ours) else { panic!() };
        prop_assert_eq!((s, read.collect::<Vec<_>>()), (sender, requests));

        let ours = written(|w| w.bye(&ssrcs).unwrap());
        prop_assert_eq!(&oracle::<Goodbye>(&ours).sources, &ssrcs);

        let ours = written(|w| w.sdes_cname(sender, &name).unwrap());
        let theirs = oracle::<SourceDescription>(&ours);
        prop_assert_eq!(theirs.chunks.len(), 1);
        prop_assert_eq!(theirs.chunks[0].source, sender);
        prop_assert_eq!(&theirs.chunks[0].items[0].text[..], name.as_bytes());
        let Rtcp::Sdes(mut chunks) = only(&ours) else { panic!() };
        prop_assert_eq!(chunks.next(), Some((sender, Some(name.as_bytes()))));
    }

    #[test]
    fn remb_agrees_with_the_oracle(
        bitrate in 0u64..1 << 50, sender in any::<u32>(), ssrcs in vec(any::<u32>(), 0..9),
    ) {
        let ours = written(|w| w.remb(sender, bitrate, &ssrcs).unwrap());
        let Rtcp::Remb { sender: s, bitrate: read, ssrcs: list } = only(&ours) else { panic!() };
        prop_assert_eq!((s, list.collect::<Vec<_>>()), (sender, ssrcs.clone()));
        prop_assert!(read <= bitrate && bitrate - read <= bitrate >> 17);
        let theirs = oracle::<ReceiverEstimatedMaximumBitrate>(&ours);
        prop_assert_eq!((theirs.sender_ssrc, &theirs.ssrcs), (sender, &ssrcs));
        prop_assert!((f64::from(theirs.bitrate) - read as f64).abs() <= read as f64 / 1e6);
    }
}

proptest! {
    // Each case writes hundreds of statuses into small buffers.
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// All arrivals are read back, over as many packets as it takes, in buffers of any size.
    #[test]
    fn feedback_reads_back(arrivals in arrivals(), room in 24usize..1300, lead in 0u64..50) {
        let mut base = arrivals[0].seq.checked_sub(lead).unwrap();
        let mut rest = &arrivals[..];
        let mut number = 0u8;
        while !rest.is_empty() {
            let mut buf = vec![0xcc; room];
            let mut writer = RtcpWriter::new(&mut buf);
            let Ok(taken) = writer.transport_cc(1, 2, number, base, rest) else {
                // A long gap before the first arrival, with no room for its chunks.
                base = rest[0].seq;
                continue;
            };
            let len = writer.len();
            prop_assert!(taken > 0 && len.is_multiple_of(4));
            let Rtcp::TransportCc(read) = only(&buf[..len]) else { panic!() };
            prop_assert_eq!((read.sender, read.media, read.feedback_count), (1, 2, number));
            prop_assert_eq!(read.base, base.seq());
            let got: Vec<_> = read.statuses().filter_map(|(seq, at)| Some((seq, at?))).collect();
            let sent: Vec<_> = rest[..taken].iter().map(|a| (a.seq.seq(), a.at)).collect();
            prop_assert_eq!(got, sent);
            prop_assert_eq!(read.statuses().count(), usize::from(read.count));

            // The crate counts the symbols of a whole chunk in 16 bits, and overflows at the last one.
            if read.count < u16::MAX - 14 {
                agrees_with_the_crate(&buf[..len], read.count, &rest[..taken])?;
            }

            base = rest[taken - 1].seq.next();
            rest = &rest[taken..];
            number = number.wrapping_add(1);
        }
    }
}

fn agrees_with_the_crate(
    packet: &[u8],
    count: u16,
    arrivals: &[Arrival],
) -> Result<(), TestCaseError> {
    let theirs = oracle::<TransportLayerCc>(packet);
    prop_assert_eq!(theirs.packet_status_count, count);
    prop_assert_eq!(theirs.recv_deltas.len(), arrivals.len());
    let micros: i64 = theirs.recv_deltas.iter().map(|delta| delta.delta).sum();
    let start = i64::from(theirs.reference_time) * 256;
    prop_assert_eq!(Some(start + micros / 250), arrivals.last().map(|last| last.at));
    for (delta, status) in theirs.recv_deltas.iter().zip(1..) {
        let small = delta.type_tcc_packet == SymbolTypeTcc::PacketReceivedSmallDelta;
        prop_assert!(small == (0..=255 * 250).contains(&delta.delta), "delta {status}");
    }
    Ok(())
}

#[test]
fn a_receivers_time_is_found_among_other_blocks_and_answered() {
    // A block of another kind, then the time (RFC 3611 section 4.4).
    let body = [
        [0, 0, 0, 7].as_slice(),
        &[1, 0, 0, 1, 9, 9, 9, 9],
        &[4, 0, 0, 2, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88],
    ]
    .concat();
    let found = xr::receiver_reference_time(&body);
    assert_eq!(found, Some((7, 0x1122_3344_5566_7788)));
    for len in 0..body.len() {
        assert_eq!(xr::receiver_reference_time(&body[..len]), None, "{len}");
    }
    assert_eq!(xr::receiver_reference_time(&[0, 0, 0, 7, 4, 0, 0, 1, 0, 0, 0, 0]), None);

    let answer = written(|w| w.delay_since_reference(1, 7, 0x3344_5566, 0x8000).unwrap());
    let expected = [0x80, 207, 0, 5, 0, 0, 0, 1, 5, 0, 0, 3, 0, 0, 0, 7];
    assert_eq!(answer, [&expected[..], &[0x33, 0x44, 0x55, 0x66, 0, 0, 0x80, 0]].concat());
}
