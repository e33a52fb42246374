//! The signalling protocol between the page and the focus: JSON texts over one WebSocket.

use serde::{Deserialize, Serialize};

/// Most encodings in a message.
pub(super) const MAX_ENCODINGS: usize = 16;

/// What the page says.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(super) enum FromPage {
    /// The answer to an offer.
    Answer {
        /// [`ToPage::Offer::version`].
        version: u64,
        /// The local description.
        sdp: String,
        /// SSRCs that the description does not name (simulcast).
        #[serde(default)]
        encodings: Vec<Encoding>,
    },
    /// SSRCs that became known after the answer.
    Encodings {
        /// All of them.
        encodings: Vec<Encoding>,
    },
    /// The participant's name.
    Name {
        /// What the others see.
        name: String,
    },
    /// A local ICE candidate.
    Candidate {
        /// `candidate:...`.
        candidate: String,
    },
    /// What the page has to send.
    Sending(Sending),
    /// ICE is to restart.
    Restart,
}

/// An RTP stream that the page sends.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Encoding {
    /// Its section.
    pub mid: String,
    /// Its simulcast stream.
    #[serde(default)]
    pub rid: String,
    /// Its SSRC.
    pub ssrc: u32,
    /// The SSRC of its retransmissions.
    #[serde(default)]
    pub rtx: Option<u32>,
}

/// What a participant sends.
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

/// Whether something is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SendState {
    /// There is no such thing.
    #[default]
    None,
    /// It is there and muted.
    Muted,
    /// It is sent.
    On,
}

/// What the focus says.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(super) enum ToPage {
    /// The page is in the room.
    Welcome {
        /// Its endpoint id.
        id: String,
        /// The room's name.
        room: String,
    },
    /// A description to answer.
    Offer {
        /// Counts the offers.
        version: u64,
        /// The description.
        sdp: String,
        /// What the sections of others carry.
        slots: Vec<Slot>,
    },
    /// Everyone in the room, this page included.
    Peers {
        /// In order of their ids.
        peers: Vec<Peer>,
    },
    /// Who speaks.
    Speaker {
        /// The endpoint, if anyone.
        id: Option<String>,
    },
    /// What the bridge measured and decided for this page, about once a second.
    Bridge(BridgeView),
    /// Something that was asked for was not done.
    Failed {
        /// What and why.
        message: String,
    },
    /// The call is over.
    Closed {
        /// Why.
        message: String,
        /// Joining again may help.
        retry: bool,
    },
}

/// A section and what it carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Slot {
    /// Its MID.
    pub mid: String,
    /// The source's name.
    pub source: String,
    /// Who sends it.
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
    /// What it sends.
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
    /// ICE and DTLS are up.
    pub connected: bool,
    /// What is forwarded to the page.
    pub forwarded: Vec<Forwarded>,
    /// Videos of which the page gets less than there is.
    pub short: Vec<Short>,
}

/// A video of which the page gets less than there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Short {
    /// The source's name.
    pub source: String,
    /// Why, by its name in `docs/bandwidth.md`.
    pub reason: &'static str,
    /// For how long that has been the reason, whole seconds.
    pub seconds: u64,
}

/// A source as it is forwarded to the page.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Forwarded {
    /// The source's name.
    pub source: String,
    /// The encoding that is forwarded, 0 the lowest.
    pub current: Option<u8>,
    /// The encoding that was decided.
    pub target: Option<u8>,
    /// How many encodings the source has.
    pub encodings: u8,
    /// Frame height of the current encoding, pixels, if the codec tells it.
    pub height: Option<u16>,
    /// Forwarded, bit/s.
    pub bps: u64,
    /// Packets forwarded in all.
    pub packets: u64,
    /// Of these, again on request.
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
