//! Self-describing media: every payload says what it is, and shows whether it is complete.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use rialto_codec_model::{Body, Coded, Encoder};
use rialto_media::{
    Codec, EncodingSpec, Extension, MediaParams, MediaType, Mid, PayloadType, SourceSpec,
};
use rialto_rtp::{
    ExtWriter, Seq,
    codec::{dd::DependencyDescriptor, red},
    ext::ExtError,
    header, rtx,
};

/// Time between two frames of a video source.
pub const VIDEO_INTERVAL: Duration = Duration::from_millis(33);
/// Time between two packets of an audio source.
pub const AUDIO_INTERVAL: Duration = Duration::from_millis(20);
/// Voice at −20 dBov (RFC 6464).
const AUDIO_LEVEL: u8 = 0x94;
/// Height of a video's lowest encoding; each further one has twice as much.
pub const LOWEST_HEIGHT: u16 = 180;
/// Sent packets that a client can retransmit.
const HISTORY: usize = 512;

const VIDEO_CODECS: [Codec; 4] = [Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::H264];

/// The payload types and extension ids that a client negotiated; no two clients have the same.
#[derive(Clone, Copy, Debug)]
pub struct Numbering(pub u8);

impl Numbering {
    /// Payload type of Opus.
    pub fn opus(self) -> u8 {
        119 - self.0 % 8
    }

    /// Payload type of redundant audio, if negotiated.
    pub fn red(self) -> u8 {
        16 + self.0 % 8
    }

    /// Payload type of VP8.
    pub fn vp8(self) -> u8 {
        96 + self.0 % 8
    }

    /// Payload type of VP8's retransmissions.
    pub fn rtx(self) -> u8 {
        104 + self.0 % 8
    }

    /// Payload type of a codec.
    pub fn payload_type(self, codec: Codec) -> u8 {
        self.0 % 8
            + match codec {
                Codec::Vp9 => 120,
                Codec::Av1 => 48,
                Codec::H264 => 24,
                _ => return self.vp8(),
            }
    }

    /// Payload type of a codec's retransmissions.
    pub fn rtx_of(self, codec: Codec) -> u8 {
        self.0 % 8
            + match codec {
                Codec::Vp9 => 40,
                Codec::Av1 => 56,
                Codec::H264 => 32,
                _ => return self.rtx(),
            }
    }

    /// The video codec that a payload type, or that of its retransmissions, stands for.
    pub fn codec(self, pt: u8) -> Option<Codec> {
        VIDEO_CODECS.into_iter().find(|c| [self.payload_type(*c), self.rtx_of(*c)].contains(&pt))
    }

    /// Id of a header extension.
    pub fn extension(self, kind: Extension) -> u8 {
        let place = match kind {
            Extension::AudioLevel => 0,
            Extension::Mid => 1,
            Extension::TransportCc => 2,
            Extension::AbsSendTime => 3,
            _ => 4,
        };
        1 + (place + self.0) % 5
    }

    /// The negotiated parameters.
    pub fn media(self) -> MediaParams {
        let payload = |pt, codec, media, clock_rate| PayloadType {
            pt,
            codec,
            media,
            clock_rate,
            profile: String::new(),
            nack: media == MediaType::Video,
            pli: media == MediaType::Video,
            fir: false,
            transport_cc: true,
        };
        let known = [
            Extension::AudioLevel,
            Extension::Mid,
            Extension::TransportCc,
            Extension::AbsSendTime,
            Extension::DependencyDescriptor,
        ];
        let video = |codec| {
            let (pt, rtx) = (self.payload_type(codec), self.rtx_of(codec));
            [(pt, codec), (rtx, Codec::Rtx { apt: pt })]
                .map(|(pt, codec)| payload(pt, codec, MediaType::Video, 90_000))
        };
        let mut payload_types = vec![payload(self.opus(), Codec::Opus, MediaType::Audio, 48_000)];
        payload_types.extend(VIDEO_CODECS.into_iter().flat_map(video));
        MediaParams {
            payload_types,
            extensions: known
                .map(|kind| (self.extension(kind), kind))
                .into_iter()
                .chain([(LAYERS_ALLOCATION, Extension::VideoLayersAllocation)])
                .collect(),
            extmap_allow_mixed: true,
            congestion_feedback: false,
            remb: false,
        }
    }

    /// The same, with redundant audio.
    pub fn media_with_red(self) -> MediaParams {
        let mut media = self.media();
        let opus = media.payload_types.iter().find(|pt| pt.codec == Codec::Opus).cloned();
        let red = opus.map(|opus| PayloadType { pt: self.red(), codec: Codec::Red, ..opus });
        media.payload_types.extend(red);
        media
    }
}

/// Descriptor with a picture id of 15 bits and TL0PICIDX, before the frame's header.
const VP8_LEN: usize = 5;

/// The running numbers of a video packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct CodecNumbers {
    /// Of the payload descriptor (RFC 7741 section 4.2), modulo 2^15.
    pub(super) picture_id: u16,
    /// See `picture_id`.
    pub(super) tl0: u8,
    /// Of the dependency descriptor (AV1 RTP section A.8.3).
    pub(super) frame_number: u16,
}

impl CodecNumbers {
    /// Reads a video packet's payload and dependency descriptor.
    pub(super) fn read(payload: &[u8], descriptor: &[u8]) -> Option<Self> {
        let [_, _, high, low, tl0] = *payload.first_chunk::<VP8_LEN>()?;
        let picture_id = u16::from_be_bytes([high & 0x7f, low]);
        let frame_number = DependencyDescriptor::parse(descriptor)?.frame_number;
        Some(Self { picture_id, tl0, frame_number })
    }

    /// How far each is ahead of `other`.
    pub(super) fn since(self, other: Self) -> [u16; 3] {
        [
            self.picture_id.wrapping_sub(other.picture_id) & 0x7fff,
            self.tl0.wrapping_sub(other.tl0).into(),
            self.frame_number.wrapping_sub(other.frame_number),
        ]
    }
}

/// A sent packet, not encrypted.
#[derive(Clone, Debug)]
pub struct Plain {
    /// The packet.
    pub bytes: Vec<u8>,
    /// Length of its header.
    pub header_len: usize,
    /// Its SSRC.
    pub ssrc: u32,
    /// Its index: roll-over counter and sequence number.
    pub index: u64,
}

/// One encoding of a source.
#[derive(Debug)]
struct Encoding {
    spec: EncodingSpec,
    next_index: u64,
    next_rtx: u64,
    numbers: CodecNumbers,
    keyframe_wanted: bool,
    silent: bool,
    sent: VecDeque<Plain>,
    packets: u32,
    octets: u32,
}

/// A source that a client sends.
#[derive(Debug)]
pub struct Track {
    /// As it is signalled.
    pub spec: SourceSpec,
    numbering: Numbering,
    mid: Mid,
    encodings: Vec<Encoding>,
    frame: u32,
    /// Everything that was sent, with its time since the start.
    pub made: BTreeMap<Body, Duration>,
    /// Number of keyframes requested.
    pub keyframes_asked: u32,
    /// Bytes of payload in a packet of video.
    pub packet_len: usize,
    /// The level of its audio (RFC 6464): voice activity and -dBov.
    pub level: u8,
    /// How many earlier packets each audio packet repeats (RFC 2198); `None`: plain Opus.
    pub redundancy: Option<usize>,
    /// The bitrates that its video announces for its layers
    /// (<http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00>).
    pub announces: Option<Vec<u8>>,
    /// Audio that was sent, and when.
    spoken: VecDeque<(u32, Vec<u8>)>,
    /// Its encoder, if it has layers.
    pub coder: Option<Encoder>,
}

impl Track {
    /// Creates a track of a client with this numbering. `first` is its first sequence number.
    pub fn new(spec: SourceSpec, numbering: Numbering, mid: Mid, first: u16) -> Self {
        let encodings = spec
            .encodings
            .iter()
            .zip(0u16..)
            .map(|(spec, at)| Encoding {
                spec: *spec,
                next_index: u64::from(first),
                next_rtx: 7,
                // Each encoder starts at other numbers.
                numbers: CodecNumbers {
                    picture_id: first.wrapping_sub(at * 5_000) & 0x7fff,
                    tl0: (first as u8).wrapping_sub(at as u8 * 50),
                    frame_number: first.wrapping_sub(at * 9_000),
                },
                keyframe_wanted: true,
                silent: false,
                sent: VecDeque::new(),
                packets: 0,
                octets: 0,
            })
            .collect();
        let (made, keyframes_asked, packet_len) = (BTreeMap::new(), 0, 400);
        Self {
            spec,
            numbering,
            mid,
            encodings,
            frame: 0,
            made,
            keyframes_asked,
            packet_len,
            level: AUDIO_LEVEL,
            redundancy: None,
            announces: None,
            spoken: VecDeque::new(),
            coder: None,
        }
    }

    /// Continues the numbers of another track with the same SSRCs: under one key none may be used
    /// twice.
    pub fn continue_from(&mut self, before: &Self) {
        for encoding in &mut self.encodings {
            let same = before.encodings.iter().find(|e| e.spec.ssrc == encoding.spec.ssrc);
            if let Some(same) = same {
                (encoding.next_index, encoding.next_rtx) = (same.next_index, same.next_rtx);
                encoding.numbers = same.numbers;
            }
        }
    }

    /// Stops sending an encoding, or sends it again.
    pub fn silence(&mut self, encoding: usize, silent: bool) {
        self.encodings[encoding].silent = silent;
        if let Some(coder) = &mut self.coder {
            coder.silence(encoding, silent);
        }
    }

    /// The index of the next packet of the first encoding.
    pub fn next_index(&self) -> u64 {
        self.encodings[0].next_index
    }

    /// The time between two frames.
    pub fn interval(&self) -> Duration {
        match self.spec.media {
            MediaType::Audio => AUDIO_INTERVAL,
            MediaType::Video => VIDEO_INTERVAL,
        }
    }

    /// The RTP timestamp of a moment.
    pub fn timestamp(&self, since_start: Duration) -> u32 {
        let rate = match self.spec.media {
            MediaType::Audio => 48,
            MediaType::Video => 90,
        };
        ((since_start.as_micros() as u64 * rate / 1_000) as u32).wrapping_add(self.spec.id.0 << 24)
    }

    /// The packets of the next frame of every encoding; `transport` counts transport sequence
    /// numbers.
    pub fn make_frame(&mut self, since_start: Duration, transport: &mut u16) -> Vec<Plain> {
        let timestamp = self.timestamp(since_start);
        if let Some(coder) = &mut self.coder {
            let coded = coder.picture(since_start, timestamp);
            return coded.iter().map(|c| self.wrap(c, since_start, transport)).collect();
        }
        let mut packets = Vec::new();
        self.frame += 1;
        for at in 0..self.encodings.len() {
            if self.encodings[at].silent {
                continue;
            }
            let key = self.encodings[at].keyframe_wanted || self.frame.is_multiple_of(300);
            let parts = match self.spec.media {
                MediaType::Audio => 1,
                MediaType::Video => 1 + at as u8 + u8::from(key) * 2,
            };
            for part in 0..parts {
                let id = self.spec.id.0;
                let body =
                    Body { source: id, encoding: at as u8, frame: self.frame, part, parts, key };
                self.made.insert(body, since_start);
                *transport = transport.wrapping_add(1);
                packets.push(self.make_packet(at, body, since_start, *transport));
            }
            let encoding = &mut self.encodings[at];
            let CodecNumbers { picture_id, tl0, frame_number } = &mut encoding.numbers;
            *picture_id = (*picture_id + 1) & 0x7fff;
            (*tl0, *frame_number) = (tl0.wrapping_add(1), frame_number.wrapping_add(1));
            encoding.keyframe_wanted = false;
        }
        packets
    }

    fn make_packet(&mut self, at: usize, body: Body, since: Duration, transport: u16) -> Plain {
        let timestamp = self.timestamp(since);
        let video = self.spec.media == MediaType::Video;
        let pt = match (video, self.redundancy) {
            (true, _) => self.numbering.vp8(),
            (false, None) => self.numbering.opus(),
            (false, Some(_)) => self.numbering.red(),
        };
        let marker = body.part + 1 == body.parts;
        let numbers = self.encodings[at].numbers;
        let [high, low] = numbers.frame_number.to_be_bytes();
        let descriptor = [u8::from(body.part == 0) << 7 | u8::from(marker) << 6, high, low];
        let kind = if video { Kind::Video(Some(&descriptor)) } else { Kind::Audio(self.level) };
        let mut bytes = self.header(at, marker, pt, timestamp, transport, kind);
        let header_len = bytes.len();
        if video {
            let id = 0x8000 | numbers.picture_id;
            let start = body.part == 0;
            bytes.push(0x80 | u8::from(start) << 4);
            bytes.push(0xc0);
            bytes.extend_from_slice(&id.to_be_bytes());
            bytes.push(numbers.tl0);
            if start {
                let inter = u8::from(!body.key);
                let (width, height) = (320u16 << at, LOWEST_HEIGHT << at);
                bytes.extend_from_slice(&[inter, 0, 0, 0x9d, 0x01, 0x2a]);
                bytes.extend(width.to_le_bytes().into_iter().chain(height.to_le_bytes()));
            }
        }
        if video {
            // Packets of a frame differ by a few bytes, as in browsers.
            body.write(&mut bytes, self.packet_len + usize::from(body.part % 3));
        } else {
            let mut payload = Vec::new();
            body.write(&mut payload, 60);
            self.spoken.push_back((timestamp, payload.clone()));
            if self.spoken.len() > 3 {
                self.spoken.pop_front();
            }
            match self.redundancy {
                None => bytes.extend(payload),
                Some(distance) => {
                    bytes.extend(redundant(&self.spoken, self.numbering.opus(), distance));
                }
            }
        }
        self.keep(at, bytes, header_len)
    }

    /// The RTP packet of an encoded packet.
    fn wrap(&mut self, coded: &Coded, since: Duration, transport: &mut u16) -> Plain {
        self.made.insert(coded.body, since);
        *transport = transport.wrapping_add(1);
        let at = usize::from(coded.encoding);
        let (pt, timestamp) = (self.numbering.payload_type(coded.codec), self.timestamp(since));
        let kind = Kind::Video(coded.descriptor.as_deref());
        let mut bytes = self.header(at, coded.marker, pt, timestamp, *transport, kind);
        let header_len = bytes.len();
        bytes.extend_from_slice(&coded.payload);
        self.keep(at, bytes, header_len)
    }

    /// The header of an encoding's next packet.
    fn header(
        &self,
        at: usize,
        marker: bool,
        pt: u8,
        timestamp: u32,
        transport: u16,
        kind: Kind<'_>,
    ) -> Vec<u8> {
        let encoding = &self.encodings[at];
        let (seq, ssrc) = (Seq(encoding.next_index as u16), encoding.spec.ssrc);
        let mut bytes = vec![0; 400];
        header::write_header(&mut bytes, marker, pt, seq, timestamp, ssrc).expect("room");
        header::set_extension_bit(&mut bytes, true);
        let announced = self.announces.as_deref();
        let len =
            extensions(&mut bytes[12..], self.numbering, self.mid, (transport, announced), kind);
        bytes.truncate(12 + len.expect("valid extensions"));
        bytes
    }

    /// Counts a packet, and stores it for retransmission.
    fn keep(&mut self, at: usize, bytes: Vec<u8>, header_len: usize) -> Plain {
        let encoding = &mut self.encodings[at];
        let (index, ssrc) = (encoding.next_index, encoding.spec.ssrc);
        encoding.next_index += 1;
        encoding.packets += 1;
        encoding.octets += (bytes.len() - header_len) as u32;
        let plain = Plain { bytes, header_len, ssrc, index };
        encoding.sent.push_back(plain.clone());
        if encoding.sent.len() > HISTORY {
            encoding.sent.pop_front();
        }
        plain
    }

    /// A packet that was sent, if it is still stored.
    pub fn sent(&self, ssrc: u32, seq: Seq) -> Option<&Plain> {
        let encoding = self.encodings.iter().find(|e| e.spec.ssrc == ssrc)?;
        encoding.sent.iter().rfind(|p| p.index as u16 == seq.0)
    }

    /// The retransmission of a packet, if it is still stored.
    pub fn resend(&mut self, ssrc: u32, seq: Seq) -> Option<Plain> {
        let numbering = self.numbering;
        let encoding = self.encodings.iter_mut().find(|e| e.spec.ssrc == ssrc)?;
        let plain = encoding.sent.iter().rfind(|p| p.index as u16 == seq.0)?.clone();
        let rtx_ssrc = encoding.spec.rtx?;
        let index = encoding.next_rtx;
        encoding.next_rtx += 1;
        let Plain { mut bytes, header_len, .. } = plain;
        let pt = numbering.rtx_of(numbering.codec(bytes[1] & 0x7f)?);
        let len = bytes.len();
        bytes.resize(len + rtx::OSN_LEN, 0);
        rtx::wrap(&mut bytes, header_len, len, pt, Seq(index as u16), rtx_ssrc)?;
        Some(Plain { bytes, header_len, ssrc: rtx_ssrc, index })
    }

    /// Handles a request for a keyframe of an encoding.
    pub fn want_keyframe(&mut self, ssrc: u32) {
        let Some(at) = self.encodings.iter().position(|e| e.spec.ssrc == ssrc) else { return };
        self.encodings[at].keyframe_wanted = true;
        self.keyframes_asked += 1;
        if let Some(coder) = &mut self.coder {
            coder.want_keyframe(at);
        }
    }

    /// SSRC, packets and octets of each encoding.
    pub fn totals(&self) -> impl Iterator<Item = (u32, u32, u32)> + '_ {
        self.encodings.iter().map(|e| (e.spec.ssrc, e.packets, e.octets))
    }
}

/// The newest audio packet, with `distance` earlier ones.
fn redundant(spoken: &VecDeque<(u32, Vec<u8>)>, payload_type: u8, distance: usize) -> Vec<u8> {
    let now = spoken.back().map_or(0, |(at, _)| *at);
    let from = spoken.len().saturating_sub(distance + 1);
    let blocks: Vec<_> = spoken
        .iter()
        .skip(from)
        .map(|(at, data)| red::Block { payload_type, offset: now.wrapping_sub(*at), data })
        .collect();
    let mut out = vec![0; 1_000];
    let len = red::write(&mut out, &blocks).expect("room");
    out.truncate(len);
    out
}

/// The id of the header extension in which all clients announce their layers' bitrates.
const LAYERS_ALLOCATION: u8 = 14;

/// Header extensions of a packet besides those that all have.
#[derive(Clone, Copy)]
enum Kind<'a> {
    Audio(u8),
    /// A dependency descriptor.
    Video(Option<&'a [u8]>),
}

fn extensions(
    buf: &mut [u8],
    numbering: Numbering,
    mid: Mid,
    (transport, announced): (u16, Option<&[u8]>),
    kind: Kind<'_>,
) -> Result<usize, ExtError> {
    // What is longer than 16 bytes takes the form with two bytes (RFC 8285 section 4.3).
    let long = matches!(kind, Kind::Video(Some(descriptor)) if descriptor.len() > 16)
        || announced.is_some_and(|announced| announced.len() > 16);
    let mut writer = ExtWriter::new(buf, long);
    writer.push(numbering.extension(Extension::Mid), mid.as_bytes())?;
    writer.push(numbering.extension(Extension::TransportCc), &transport.to_be_bytes())?;
    match kind {
        Kind::Audio(level) => {
            writer.push(numbering.extension(Extension::AudioLevel), &[level])?;
        }
        Kind::Video(descriptor) => {
            writer.push(numbering.extension(Extension::AbsSendTime), &[1, 2, 3])?;
            if let Some(descriptor) = descriptor {
                writer.push(numbering.extension(Extension::DependencyDescriptor), descriptor)?;
            }
        }
    }
    if let Some(announced) = announced {
        writer.push(LAYERS_ALLOCATION, announced)?;
    }
    Ok(writer.finish())
}
