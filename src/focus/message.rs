//! The signalling protocol between the page and the focus: JSON texts over one WebSocket.

use serde::{Deserialize, Serialize};

/// Maximum encodings in a message.
pub(super) const MAX_ENCODINGS: usize = 16;

/// A message from the page to the focus.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(super) enum FromPage {
    /// The answer to an offer.
    Answer {
        /// [`ToPage::Offer::version`].
        version: u64,
        /// The local description.
        sdp: String,
        /// SSRCs missing in the description (simulcast).
        #[serde(default)]
        encodings: Vec<Encoding>,
    },
    /// SSRCs that became known after the answer.
    Encodings {
        /// All SSRCs.
        encodings: Vec<Encoding>,
    },
    /// Sets the participant's name.
    Name {
        /// The name that the others see.
        name: String,
    },
    /// A local ICE candidate.
    Candidate {
        /// `candidate:...`.
        candidate: String,
    },
    /// Which media the page sends.
    Sending(Sending),
    /// Requests an ICE restart.
    Restart,
}

/// An RTP stream that the page sends.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Encoding {
    /// The MID of its section.
    pub mid: String,
    /// The rid of its simulcast stream.
    #[serde(default)]
    pub rid: String,
    /// Its SSRC.
    pub ssrc: u32,
    /// The SSRC of its retransmissions.
    #[serde(default)]
    pub rtx: Option<u32>,
}

/// Which media a participant sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Sending {
    /// Microphone.
    pub microphone: SendState,
    /// Camera.
    pub camera: SendState,
    /// Screen share.
    pub screen: SendState,
}

/// The state of one kind of media.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SendState {
    /// There is no source.
    #[default]
    None,
    /// The source is muted.
    Muted,
    /// The source is sent.
    On,
}

/// A message from the focus to the page.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(super) enum ToPage {
    /// The page has joined the room.
    Welcome {
        /// Its endpoint id.
        id: String,
        /// The room's name.
        room: String,
    },
    /// An offer, which the page must answer.
    Offer {
        /// The number of the offer.
        version: u64,
        /// The description.
        sdp: String,
        /// The sources in the sections of other participants.
        slots: Vec<Slot>,
    },
    /// Everyone in the room, this page included.
    Peers {
        /// In order of their ids.
        peers: Vec<Peer>,
    },
    /// The dominant speaker.
    Speaker {
        /// The endpoint, if anyone.
        id: Option<String>,
    },
    /// The bridge's measurements and decisions for this page, about once a second.
    Bridge(BridgeView),
    /// A request of the page failed.
    Failed {
        /// The request and the reason.
        message: String,
    },
    /// The call is over.
    Closed {
        /// The reason.
        message: String,
        /// Whether joining again may help.
        retry: bool,
    },
}

/// A section and its source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Slot {
    /// Its MID.
    pub mid: String,
    /// The source's name.
    pub source: String,
    /// The sending endpoint.
    pub endpoint: String,
    /// `audio`, `camera` or `desktop`.
    pub kind: &'static str,
}

/// A participant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Peer {
    /// Endpoint id.
    pub id: String,
    /// The name that the participant chose.
    pub name: String,
    /// Which media it sends.
    pub sending: Sending,
}

/// The bridge's view of a page.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct BridgeView {
    /// Round trip, milliseconds.
    pub rtt_ms: Option<f64>,
    /// Received from the page, bit/s.
    pub receive_bps: u64,
    /// Sent to the page, bit/s.
    pub send_bps: u64,
    /// Fraction of the page's packets lost, 0..=1.
    pub receive_loss: f32,
    /// Fraction of the bridge's packets that the page reports lost, 0..=1.
    pub send_loss: f32,
    /// Whether ICE and DTLS are connected.
    pub connected: bool,
    /// The sources forwarded to the page.
    pub forwarded: Vec<Forwarded>,
    /// Videos of which the page gets less than the best encoding.
    pub short: Vec<Short>,
}

/// A video of which the page gets less than the best encoding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Short {
    /// The source's name.
    pub source: String,
    /// The reason, by its name in `docs/bandwidth.md`.
    pub reason: &'static str,
    /// How long that has been the reason, whole seconds.
    pub seconds: u64,
}

/// A source forwarded to the page.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Forwarded {
    /// The source's name.
    pub source: String,
    /// The encoding that is forwarded, 0 the lowest.
    pub current: Option<u8>,
    /// The encoding that the allocation selected.
    pub target: Option<u8>,
    /// How many encodings the source has.
    pub encodings: u8,
    /// Frame height of the current encoding, pixels, if the codec carries it.
    pub height: Option<u16>,
    /// Forwarded, bit/s.
    pub bps: u64,
    /// Packets forwarded in total.
    pub packets: u64,
    /// Retransmissions among these.
    pub retransmissions: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_page_says() {
        let answer = r#"{"type":"answer","version":3,"sdp":"v=0","encodings":[{"mid":"1","rid":"l","ssrc":4294967295}]}"#;
        let FromPage::Answer { version, encodings, .. } = serde_json::from_str(answer).unwrap()
        else {
            panic!("not an answer")
        };
        assert_eq!((version, encodings[0].ssrc, encodings[0].rtx), (3, u32::MAX, None));
        let later = r#"{"type":"encodings","encodings":[{"mid":"1","ssrc":7,"rtx":8}]}"#;
        let FromPage::Encodings { encodings } = serde_json::from_str(later).unwrap() else {
            panic!("no encodings")
        };
        assert_eq!((encodings[0].ssrc, encodings[0].rtx), (7, Some(8)));
        let sending = r#"{"type":"sending","microphone":"on","camera":"muted"}"#;
        let FromPage::Sending(sending) = serde_json::from_str(sending).unwrap() else {
            panic!("not a state")
        };
        assert_eq!(sending.camera, SendState::Muted);
        assert_eq!(sending.screen, SendState::None);
        assert!(serde_json::from_str::<FromPage>(r#"{"type":"restart"}"#).is_ok());
        for bad in [r#"{"type":"x"}"#, "[]", r#"{"type":"answer","version":-1,"sdp":""}"#, "{"] {
            assert!(serde_json::from_str::<FromPage>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn writes_what_the_page_reads() {
        let text = serde_json::to_string(&ToPage::Bridge(BridgeView::default())).unwrap();
        assert!(text.starts_with(r#"{"type":"bridge","rtt_ms":null"#), "{text}");
        let text = serde_json::to_string(&ToPage::Speaker { id: None }).unwrap();
        assert_eq!(text, r#"{"type":"speaker","id":null}"#);
    }
}
