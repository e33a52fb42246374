//! COLIBRI 1, the allocation protocol of older focuses: `<conference>` of
//! `http://jitsi.org/protocol/colibri` (XEP-0340 is its beginning), with contents, channels and channel
//! bundles.
//!
//! Types and their XML; [`crate::faces::colibri1`] answers.

pub(crate) mod read;
pub(crate) mod write;

use minidom::Element;
use rialto_media::MediaType;

use super::{IceUdp, PayloadType, RtpHdrExt, Source, SsrcGroup};

/// The namespace.
pub const NAMESPACE: &str = super::xml::COLIBRI;

/// Whether an element is a request.
pub fn is_conference(element: &Element) -> bool {
    element.is("conference", NAMESPACE)
}

/// `<conference>`: a request.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Conference {
    /// The bridge's id; `None` creates.
    pub id: Option<String>,
    /// The focus's id of it, for logs.
    pub gid: Option<String>,
    /// The room.
    pub name: Option<String>,
    /// What is carried.
    pub contents: Vec<Content>,
    /// Transports, one for each endpoint.
    pub bundles: Vec<Bundle>,
    /// Names of endpoints.
    pub endpoints: Vec<Named>,
}

/// What a content carries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// Audio.
    Audio,
    /// Video.
    Video,
    /// The bridge channel.
    Data,
    /// Known to the protocol, and nothing that a bridge carries.
    Other,
}

impl Kind {
    /// The media of it.
    pub fn media(self) -> Option<MediaType> {
        match self {
            Self::Audio => Some(MediaType::Audio),
            Self::Video => Some(MediaType::Video),
            Self::Data | Self::Other => None,
        }
    }
}

/// `<content>`.
#[derive(Clone, PartialEq, Debug)]
pub struct Content {
    /// What it carries.
    pub kind: Kind,
    /// Its name, as it was written.
    pub name: String,
    /// Channels of media.
    pub channels: Vec<Channel>,
    /// Associations for the bridge channel.
    pub associations: Vec<Channel>,
}

/// Which way a channel carries media, as the bridge sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Direction {
    /// Both ways.
    #[default]
    Sendrecv,
    /// To the endpoint.
    Sendonly,
    /// From the endpoint.
    Recvonly,
    /// Not at all.
    Inactive,
}

impl Direction {
    /// The value of the attribute.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sendrecv => "sendrecv",
            Self::Sendonly => "sendonly",
            Self::Recvonly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Sendrecv, Self::Sendonly, Self::Recvonly, Self::Inactive]
            .into_iter()
            .find(|known| known.as_str() == text)
    }

    /// Media of the endpoint passes.
    pub fn receives(self) -> bool {
        matches!(self, Self::Sendrecv | Self::Recvonly)
    }

    /// Media of others is sent to the endpoint.
    pub fn sends(self) -> bool {
        matches!(self, Self::Sendrecv | Self::Sendonly)
    }
}

/// `<channel>` or `<sctpconnection>`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Channel {
    /// Its id; `None` creates.
    pub id: Option<String>,
    /// Whose it is.
    pub endpoint: Option<String>,
    /// The transport that it uses: the endpoint's.
    pub bundle: Option<String>,
    /// After how many seconds without media its endpoint ends; 0 ends it now.
    pub expire: Option<u32>,
    /// The bridge is the controlling ICE agent.
    pub initiator: bool,
    /// It carries another bridge's media.
    pub octo: bool,
    /// Which way.
    pub direction: Direction,
    /// How many videos the endpoint gets; -1 for all.
    pub last_n: Option<i32>,
    /// Payload types to add.
    pub payload_types: Vec<PayloadType>,
    /// Header extensions to add.
    pub extensions: Vec<RtpHdrExt>,
    /// All its streams; `None` leaves them as they are.
    pub sources: Option<Vec<Source>>,
    /// How they belong together; `None` leaves it as it is.
    pub groups: Option<Vec<SsrcGroup>>,
    /// It has a transport in it, as before there were bundles.
    pub has_transport: bool,
}

/// `<channel-bundle>`.
#[derive(Clone, PartialEq, Debug)]
pub struct Bundle {
    /// The endpoint's id.
    pub id: String,
    /// The peer's transport, or in an answer ours.
    pub transport: Option<IceUdp>,
}

/// `<endpoint>`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// Its id.
    pub id: String,
    /// The name under which its statistics appear.
    pub stats_id: Option<String>,
    /// What people call it.
    pub display_name: Option<String>,
}

impl Channel {
    /// It is to end now.
    pub fn ends(&self) -> bool {
        self.expire == Some(0)
    }
}

/// An answer.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Answer {
    /// The bridge's id of the conference.
    pub id: String,
    /// The room.
    pub name: Option<String>,
    /// A content for each of the request.
    pub contents: Vec<AnsweredContent>,
    /// The transports that were named.
    pub bundles: Vec<Bundle>,
    /// All endpoints of the conference.
    pub endpoints: Vec<Named>,
    /// The bridge takes no new conferences.
    pub graceful_shutdown: bool,
}

/// A content of an answer.
#[derive(Clone, PartialEq, Debug)]
pub struct AnsweredContent {
    /// Its name, as it was written.
    pub name: String,
    /// The channels that were made or changed.
    pub channels: Vec<AnsweredChannel>,
}

/// A channel of an answer.
#[derive(Clone, PartialEq, Debug)]
pub struct AnsweredChannel {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub endpoint: String,
    /// It is an association for the bridge channel.
    pub association: bool,
    /// Which way.
    pub direction: Direction,
    /// How many videos the endpoint gets.
    pub last_n: i32,
    /// The bridge's own SSRC.
    pub own_ssrc: Option<u32>,
    /// The signalled streams.
    pub ssrcs: Vec<u32>,
    /// How they belong together.
    pub groups: Vec<SsrcGroup>,
}
