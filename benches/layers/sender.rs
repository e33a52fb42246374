//! Endpoints that send video with layers, and audio.

use std::{net::SocketAddr, time::Duration};

use rialto_codec_model::{Coded, Encoder, Mode, Rate};
use rialto_rtp::{ExtWriter, Seq, header};
use rialto_srtp::TxContext;

use crate::{
    call::{AUDIO_SSRC, VIDEO_SSRC, ext, pt},
    rig::{self, PROFILE},
};

/// Most bytes of a video packet's payload.
const PAYLOAD: usize = 1_080;
/// Bytes of an audio packet's.
const AUDIO_PAYLOAD: usize = 80;
/// Pictures per second.
pub(crate) const FPS: f64 = 30.0;

/// See the module's description.
pub(crate) struct Sender {
    pub(crate) remote: SocketAddr,
    id: u32,
    seal: TxContext,
    pub(crate) encoder: Encoder,
    video_index: u64,
    audio_index: u64,
    transport: u16,
}

impl Sender {
    pub(crate) fn new(id: u32, mode: Mode, bps: u64) -> Self {
        let mut encoder = Encoder::new(mode, id, u64::from(id));
        encoder.rate = Some(Rate { bps, fps: FPS, payload: PAYLOAD });
        encoder.drops = 0.0;
        let (remote, seal) = (rig::remote(id), rig::seal(id));
        Self { remote, id, seal, encoder, video_index: 1, audio_index: 1, transport: 0 }
    }

    /// The protected packets of the next picture.
    pub(crate) fn picture(&mut self, now: Duration) -> Vec<Vec<u8>> {
        let timestamp = (now.as_micros() as u64 * 9 / 100) as u32;
        let coded = self.encoder.picture(now, timestamp);
        self.encoder.sent.clear();
        coded.iter().map(|coded| self.video(coded, timestamp)).collect()
    }

    fn video(&mut self, coded: &Coded, timestamp: u32) -> Vec<u8> {
        let ssrc = VIDEO_SSRC + 4 * self.id + u32::from(coded.encoding);
        self.transport = self.transport.wrapping_add(1);
        let transport = self.transport.to_be_bytes();
        let descriptor = coded.descriptor.as_deref().unwrap_or_default();
        let extensions = [
            (ext::ABS_SEND_TIME, &[0; 3][..]),
            (ext::TRANSPORT_CC, &transport[..]),
            (ext::DESCRIPTOR, descriptor),
        ];
        let index = self.video_index;
        self.video_index += 1;
        let head = Head { marker: coded.marker, pt: pt::VIDEO, index, timestamp, ssrc };
        self.packet(&head, &extensions, &coded.payload)
    }

    /// A protected audio packet of a speaker.
    pub(crate) fn audio(&mut self) -> Vec<u8> {
        self.transport = self.transport.wrapping_add(1);
        let transport = self.transport.to_be_bytes();
        let extensions = [(ext::AUDIO_LEVEL, &[0x94][..]), (ext::TRANSPORT_CC, &transport[..])];
        let index = self.audio_index;
        self.audio_index += 1;
        let timestamp = index as u32 * 960;
        let ssrc = AUDIO_SSRC + self.id;
        let head = Head { marker: false, pt: pt::OPUS, index, timestamp, ssrc };
        self.packet(&head, &extensions, &[0x78; AUDIO_PAYLOAD])
    }

    fn packet(&mut self, head: &Head, extensions: &[(u8, &[u8])], payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 1_500];
        let seq = Seq(head.index as u16);
        header::write_header(&mut bytes, head.marker, head.pt, seq, head.timestamp, head.ssrc)
            .expect("room");
        header::set_extension_bit(&mut bytes, true);
        // What is longer than 16 bytes takes the form with two bytes (RFC 8285 section 4.3).
        let long = extensions.iter().any(|(_, data)| data.len() > 16);
        let mut writer = ExtWriter::new(&mut bytes[12..], long);
        for (id, data) in extensions.iter().filter(|(_, data)| !data.is_empty()) {
            writer.push(*id, data).expect("room");
        }
        let len = 12 + writer.finish();
        bytes.truncate(len);
        bytes.extend_from_slice(payload);
        let plain = bytes.len();
        bytes.resize(plain + PROFILE.rtp_overhead(), 0);
        self.seal.seal_rtp(&mut bytes, len, plain, head.index, head.ssrc).expect("room");
        bytes
    }
}

struct Head {
    marker: bool,
    pt: u8,
    index: u64,
    timestamp: u32,
    ssrc: u32,
}
