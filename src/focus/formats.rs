//! Payload types and header extensions that the focus offers. They are the same in every section of every
//! offer, so that all browsers of a room use the same numbers.

use super::sdp::{Codec, Extmap, Kind};

/// Codecs of a section, the preferred one first. VP8 leads because every browser encodes it well.
pub(super) fn codecs(kind: Kind) -> Vec<Codec> {
    match kind {
        // Plain audio is preferred: the bridge adds redundancy for receivers that lose packets.
        Kind::Audio => vec![
            codec(111, "opus", 48_000, "minptime=10;useinbandfec=1"),
            codec(63, "red", 48_000, "111/111"),
        ],
        Kind::Video => {
            let mut codecs = Vec::new();
            let media = [
                (96, "VP8", ""),
                (98, "VP9", "profile-id=0"),
                (
                    102,
                    "H264",
                    "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
                ),
                (45, "AV1", ""),
            ];
            for (pt, name, parameters) in media {
                codecs.push(codec(pt, name, 90_000, parameters));
                codecs.push(codec(pt + 1, "rtx", 90_000, &format!("apt={pt}")));
            }
            codecs
        }
        Kind::Application => Vec::new(),
    }
}

fn codec(pt: u8, name: &str, clock_rate: u32, parameters: &str) -> Codec {
    let feedback: &[(&str, Option<&str>)] = match name {
        "opus" => &[("transport-cc", None)],
        "rtx" | "red" => &[],
        // rrtr: a participant that sends no media measures its round trip with it (RFC 3611 section 4.4).
        _ => &[
            ("transport-cc", None),
            ("ccm", Some("fir")),
            ("nack", None),
            ("nack", Some("pli")),
            ("rrtr", None),
        ],
    };
    Codec {
        pt,
        name: name.to_owned(),
        clock_rate,
        channels: (clock_rate == 48_000).then_some(2),
        parameters: parameters
            .split_terminator(';')
            .map(|part| part.split_once('=').unwrap_or(("", part)))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        feedback: feedback.iter().map(|(k, s)| ((*k).to_owned(), s.map(str::to_owned))).collect(),
    }
}

/// Header extensions of a section. Within a BUNDLE group an id stands for one URI (RFC 9143 section 15.1).
pub(super) fn extensions(kind: Kind) -> Vec<Extmap> {
    let both = [
        (4, "urn:ietf:params:rtp-hdrext:sdes:mid"),
        (3, "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"),
        (2, "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"),
    ];
    let own: &[(u8, &str)] = match kind {
        Kind::Audio => &[(1, "urn:ietf:params:rtp-hdrext:ssrc-audio-level")],
        Kind::Video => &[
            (5, "urn:3gpp:video-orientation"),
            (
                6,
                "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
            ),
            (7, "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"),
            (8, "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"),
        ],
        Kind::Application => return Vec::new(),
    };
    both.iter().chain(own).map(|(id, uri)| Extmap { id: *id, uri: (*uri).to_owned() }).collect()
}
