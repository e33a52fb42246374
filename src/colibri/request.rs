//! `conference-modify` and `conference-modified`.

use std::time::Duration;

use super::{Media, MediaSource, Transport};

/// Capabilities that an endpoint may announce.
pub mod capability {
    /// Sources have names. Mandatory.
    pub const SOURCE_NAMES: &str = "source-names";
    /// The endpoint can be sent rewritten SSRCs.
    pub const SSRC_REWRITING: &str = "ssrc-rewriting";
    /// The endpoint can reach private addresses of the bridge.
    pub const PRIVATE_ADDRESSES: &str = "private-address-connectivity";
    /// The endpoint demultiplexes by MID. Means something only beside [`SSRC_REWRITING`].
    pub const RTP_MID_DEMUX: &str = "rtp-mid-demux";
}

/// A request to create, change or expire a conference and its contents.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConferenceModify {
    /// The meeting, chosen by the focus; the key of everything.
    pub meeting_id: String,
    /// The room's bare JID.
    pub name: Option<String>,
    /// Create the conference.
    pub create: bool,
    /// Expire the conference once this is answered.
    pub expire: bool,
    /// The conference may appear in rtcstats output. True by default.
    pub rtcstats_enabled: bool,
    /// Participants to create, change or expire.
    pub endpoints: Vec<Colibri2Endpoint>,
    /// Links to other bridges.
    pub relays: Vec<Colibri2Relay>,
    /// Media exports, as a delta. `Some(vec![])` is an empty element.
    pub connects: Option<Vec<Connect>>,
    /// The trace that this request belongs to.
    pub traceparent: Option<TraceParent>,
}

impl Default for ConferenceModify {
    fn default() -> Self {
        Self {
            meeting_id: String::new(),
            name: None,
            create: false,
            expire: false,
            rtcstats_enabled: true,
            endpoints: Vec::new(),
            relays: Vec::new(),
            connects: None,
            traceparent: None,
        }
    }
}

/// The answer to a [`ConferenceModify`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConferenceModified {
    /// One for each endpoint of the request, in its order.
    pub endpoints: Vec<Colibri2Endpoint>,
    /// One for each relay of the request.
    pub relays: Vec<Colibri2Relay>,
    /// The bridge's own SSRCs for RTCP, when a conference or an endpoint was created.
    pub sources: Option<Vec<MediaSource>>,
}

/// A participant, in requests and in answers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Colibri2Endpoint {
    /// Its id, chosen by the focus.
    pub id: String,
    /// The name under which its statistics appear.
    pub stats_id: Option<String>,
    /// Its role in the room. A visitor sends nothing.
    pub muc_role: Option<MucRole>,
    /// Its audio carries several speakers.
    pub diarize: Option<bool>,
    /// Create it.
    pub create: bool,
    /// Expire it.
    pub expire: bool,
    /// What it can do ([`capability`]).
    pub capabilities: Vec<String>,
    /// Transport parameters: the peer's in a request, the bridge's in an answer.
    pub transport: Option<Transport>,
    /// Payload types and header extensions to add.
    pub media: Vec<Media>,
    /// All its sources; `None` leaves them as they are, `Some(vec![])` removes them.
    pub sources: Option<Vec<MediaSource>>,
    /// How many videos it receives until it asks for something itself; -1 for all.
    pub initial_last_n: Option<i32>,
    /// Drop what it sends.
    pub force_mute: Option<ForceMute>,
    /// The parameters that only COLIBRI 1 has.
    pub v1: Option<ByChannels>,
}

impl Colibri2Endpoint {
    /// An endpoint with nothing but its id.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), ..Self::default() }
    }

    /// Whether it announces a [`capability`].
    pub fn has_capability(&self, name: &str) -> bool {
        self.capabilities.iter().any(|have| have == name)
    }

    /// Whether the request has more of it than expiry, force-mute or identification.
    pub fn is_substantial(&self) -> bool {
        self.create || !self.media.is_empty() || self.transport.is_some() || self.sources.is_some()
    }
}

/// A role in the room (XEP-0045 section 5.1, and Jitsi's `visitor`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "the names are those of XEP-0045")]
pub enum MucRole {
    Moderator,
    Participant,
    Visitor,
    None,
}

impl MucRole {
    /// The value of the attribute.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Moderator => "moderator",
            Self::Participant => "participant",
            Self::Visitor => "visitor",
            Self::None => "none",
        }
    }

    /// Reads the value of the attribute, in any case.
    pub fn parse(role: &str) -> Option<Self> {
        [Self::Moderator, Self::Participant, Self::Visitor, Self::None]
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(role))
    }
}

/// Which media of an endpoint are dropped on arrival.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ForceMute {
    /// Its audio.
    pub audio: bool,
    /// Its video.
    pub video: bool,
}

/// Parameters of an endpoint from its COLIBRI 1 channels, which neither form of COLIBRI2 has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ByChannels {
    /// Audio is not sent to it.
    pub no_audio: bool,
    /// Video is not sent to it.
    pub no_video: bool,
    /// How many videos it receives, whatever it asked for before; -1 for all. `None` changes nothing.
    pub last_n: Option<i32>,
    /// Expires the endpoint when nothing came from it for this long. `None`: the bridge's default.
    pub idle_timeout: Option<Duration>,
}

/// A link to another bridge.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Colibri2Relay {
    /// The other bridge's relay id.
    pub id: String,
    /// The mesh that the link belongs to.
    pub mesh_id: Option<String>,
    /// Create it.
    pub create: bool,
    /// Expire it.
    pub expire: bool,
    /// Transport parameters.
    pub transport: Option<Transport>,
    /// Payload types and header extensions.
    pub media: Vec<Media>,
    /// Sources of the relay itself.
    pub sources: Option<Vec<MediaSource>>,
    /// Endpoints behind it; `Some(vec![])` is an empty element.
    pub endpoints: Option<Vec<Colibri2Endpoint>>,
}

/// An export of the conference's media to a service.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Connect {
    /// Its id, for later changes.
    pub id: Option<String>,
    /// Create it.
    pub create: bool,
    /// Expire it.
    pub expire: bool,
    /// Where to connect.
    pub url: Option<String>,
    /// `mediajson`.
    pub protocol: Option<String>,
    /// `recorder`, `transcriber` or `translator`.
    pub r#type: Option<String>,
    /// Export audio.
    pub audio: bool,
    /// Export video.
    pub video: bool,
    /// Headers of the connection request.
    pub http_headers: Vec<HttpHeader>,
    /// Keep-alive.
    pub ping: Option<Ping>,
    /// Names of sources to export.
    pub exports: Vec<String>,
    /// What the service is asked for.
    pub requests: Vec<String>,
}

/// A header of an export's connection request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpHeader {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Keep-alive of an export.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ping {
    /// Milliseconds between pings.
    pub interval: u32,
    /// Milliseconds to wait for the answer.
    pub timeout: u32,
}

/// W3C trace context, as `<traceparent xmlns='jitsi:opentelemetry'>` carries it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TraceParent {
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// 16 hexadecimal digits.
    pub parent_id: String,
    /// 2 hexadecimal digits.
    pub trace_flags: String,
}
