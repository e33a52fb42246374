//! What a shard is told. Commands of one lane are applied in order, between batches.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use rialto_media::{EndpointId, MediaParams, ShardId, SourceId, SourceSpec, Terms};
use rialto_srtp::Keying;

use crate::{EndpointSpec, Tap, Wishes, egress::SourceInfo};

/// One command to one shard.
#[derive(Clone, Debug)]
pub enum ShardCommand {
    /// To every shard: packets from `remote` are this endpoint's.
    Bind {
        /// The validated address.
        remote: SocketAddr,
        /// Whose it is.
        endpoint: EndpointId,
        /// The endpoint's home.
        home: ShardId,
    },
    /// To every shard: the address is nobody's any more, if it is still `endpoint`'s.
    Unbind {
        /// The address.
        remote: SocketAddr,
        /// Whose it was.
        endpoint: EndpointId,
    },
    /// To the home shard: the endpoint lives here.
    AddEndpoint(EndpointId, EndpointSpec),
    /// To the home shard.
    RemoveEndpoint(EndpointId),
    /// To the home shard.
    SetMedia(EndpointId, Arc<MediaParams>),
    /// To the home shard.
    SetSources(EndpointId, Vec<SourceSpec>),
    /// To the home shard.
    SetForceMute {
        /// The sender.
        endpoint: EndpointId,
        /// Drop audio.
        audio: bool,
        /// Drop video.
        video: bool,
    },
    /// To the home shard.
    SetDominant(EndpointId, bool),
    /// To the home shard.
    AskAhead {
        /// The sender.
        speaker: EndpointId,
        /// How much later.
        after: Duration,
    },
    /// To the home shard.
    Tap(EndpointId, Option<Tap>),
    /// To the home shard.
    Select {
        /// The endpoint.
        endpoint: EndpointId,
        /// Where to send.
        remote: SocketAddr,
        /// Where to send from.
        local: SocketAddr,
    },
    /// To the home shard.
    SetKeys(EndpointId, Keying),
    /// To the home shard.
    SetRtt(EndpointId, Duration),
    /// To the sender's home: this shard has receivers of the source.
    AddRoute {
        /// The source.
        source: SourceId,
        /// The receivers' shard.
        shard: ShardId,
        /// Some receiver asked for it by name.
        included: bool,
    },
    /// To the sender's home: it has none any more.
    RemoveRoute {
        /// The source.
        source: SourceId,
        /// The shard.
        shard: ShardId,
    },
    /// To the receiver's home. Repeated when the sender's media or the terms change.
    Subscribe {
        /// Who receives.
        receiver: EndpointId,
        /// What.
        source: Arc<SourceInfo>,
        /// How.
        terms: Terms,
    },
    /// To the receiver's home.
    Unsubscribe {
        /// Who received.
        receiver: EndpointId,
        /// What.
        source: SourceId,
    },
    /// To the receiver's home.
    SetAllocation {
        /// Who receives.
        receiver: EndpointId,
        /// What it wants, in the order of priority.
        wishes: Arc<Wishes>,
    },
    /// To any shard: send this datagram.
    Transmit {
        /// Source address.
        local: SocketAddr,
        /// Destination.
        remote: SocketAddr,
        /// The datagram.
        bytes: Bytes,
    },
}
