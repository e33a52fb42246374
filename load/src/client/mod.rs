//! Joining: one endpoint from its signalling to its SRTP keys.

pub mod channel;
pub mod dtls;
pub mod ice;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use ::dtls::conn::DTLSConn;
use rialto_srtp::Profile;
use rialto_sys::{SocketOptions, UdpSocket};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
    time::timeout_at,
};
use webrtc_ice::agent::Agent;
use webrtc_util::Conn;

use self::{
    channel::{Channel, Wishes},
    dtls::Identity,
};
use crate::{
    colibri::{self, BridgeTransport, LocalTransport},
    http::{Bridge, HttpError},
    shared::Shared,
    worker::{Command, Worker},
};

/// STUN and DTLS datagrams that may wait for a client's agent.
const ICE_QUEUE: usize = 64;
/// Receive buffer of a client's socket, bytes: a keyframe of 10 Mbit/s and more.
const RECEIVE_BUFFER: usize = 1 << 20;

/// The step at which a join failed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// COLIBRI2 over HTTP.
    Signalling,
    /// Connectivity checks.
    Ice,
    /// The DTLS handshake.
    Dtls,
    /// The bridge channel.
    Channel,
    /// Nothing arrived.
    Media,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signalling => "signalling",
            Self::Ice => "ICE",
            Self::Dtls => "DTLS",
            Self::Channel => "the bridge channel",
            Self::Media => "media",
        })
    }
}

/// Why an endpoint failed to join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The bridge's HTTP interface.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The endpoint that should have created the conference failed to.
    #[error("its conference was not created")]
    NoConference,
    /// The bridge offers no address that this machine can send to.
    #[error("the bridge offered no UDP candidate that can be reached from here: {offered}")]
    NoCandidate {
        /// What it offered.
        offered: String,
    },
    /// No socket.
    #[error("no UDP socket on {address}: {source}")]
    Socket {
        /// Where.
        address: IpAddr,
        /// The kernel's reason.
        source: std::io::Error,
    },
    /// ICE did not connect.
    #[error("ICE did not connect to {remote}: {reason}")]
    Ice {
        /// The bridge's candidates.
        remote: String,
        /// Why.
        reason: String,
    },
    /// DTLS did not finish.
    #[error("DTLS: {0}")]
    Dtls(String),
    /// No bridge channel.
    #[error("bridge channel: {0}")]
    Channel(String),
}

impl JoinError {
    /// The step that failed.
    pub fn step(&self) -> Step {
        match self {
            Self::Http(_) | Self::NoConference => Step::Signalling,
            Self::NoCandidate { .. } | Self::Socket { .. } | Self::Ice { .. } => Step::Ice,
            Self::Dtls(_) => Step::Dtls,
            Self::Channel(_) => Step::Channel,
        }
    }
}

/// Whether a conference was created.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Exists {
    NotYet,
    Yes,
    No,
}

/// A conference that its first endpoint creates, while the others wait.
#[derive(Debug)]
pub struct Conference {
    first: usize,
    exists: watch::Sender<Exists>,
}

impl Conference {
    /// A conference to be created by the endpoint `first`.
    pub fn new(first: usize) -> Self {
        Self { first, exists: watch::Sender::new(Exists::NotYet) }
    }
}

/// What all joins need.
pub struct Joining {
    /// The run.
    pub shared: Arc<Shared>,
    /// The bridge.
    pub bridge: Bridge,
    /// The certificate.
    pub identity: Identity,
    /// SRTP profiles to offer.
    pub profiles: Vec<Profile>,
    /// Time for a whole join.
    pub patience: Duration,
}

/// A connected client: what must live for its transport to continue.
pub struct Joined {
    /// Its address.
    pub local: SocketAddr,
    agent: Agent,
    dtls: Arc<DTLSConn>,
    /// The task that sends its constraints.
    wishing: Option<AbortHandle>,
}

impl Joined {
    /// Application data over DTLS: SCTP, if signalled.
    pub fn data(&self) -> Arc<dyn Conn + Send + Sync> {
        self.dtls.clone()
    }

    /// Closes the transport in order: DTLS, then the agent.
    pub async fn close(self) {
        self.wishing.iter().for_each(AbortHandle::abort);
        let _ = self.dtls.close().await;
        let _ = self.agent.close().await;
    }

    /// Stops without sending anything.
    pub async fn vanish(self) {
        self.wishing.iter().for_each(AbortHandle::abort);
        let _ = self.agent.close().await;
    }
}

impl Joining {
    /// Joins one endpoint, whose media `worker` carries.
    pub async fn join(
        &self,
        endpoint: usize,
        conference: &Conference,
        worker: &Worker,
    ) -> Result<Joined, JoinError> {
        let began = Instant::now();
        let transport = self.allocate(endpoint, conference).await?;
        let (local_ip, remotes) = ice::route(&transport.candidates)
            .ok_or_else(|| JoinError::NoCandidate { offered: offered(&transport) })?;
        let socket = self.open(local_ip)?;
        let local = socket.local_addr();
        let (ice, incoming) = mpsc::channel(ICE_QUEUE);
        let started = self.shared.nanos(began);
        worker.send(Command::Add { endpoint, socket: socket.clone(), ice, started });

        let ice_error = |reason: String| JoinError::Ice { remote: list(&remotes), reason };
        let agent = ice::agent(socket, incoming).await.map_err(|e| ice_error(e.to_string()))?;
        for &remote in &remotes {
            ice::add_remote(&agent, remote).map_err(|e| ice_error(e.to_string()))?;
        }
        let (ufrag, pwd) = agent.get_local_user_credentials().await;
        let fingerprint = self.identity.fingerprint.clone();
        let answer = LocalTransport { ufrag, pwd, fingerprint, address: local };
        self.answer(endpoint, &answer).await?;

        let deadline = tokio::time::Instant::from_std(began + self.patience);
        let (_cancel, cancelled) = mpsc::channel(1);
        let connect = agent.accept(cancelled, transport.ufrag.clone(), transport.pwd.clone());
        let conn = match timeout_at(deadline, connect).await {
            Ok(Ok(conn)) => conn,
            Ok(Err(error)) => return Err(ice_error(error.to_string())),
            Err(_) => {
                let _ = agent.close().await;
                return Err(ice_error(self.gave_up("no check succeeded")));
            }
        };
        let remote = conn.remote_addr().ok_or_else(|| ice_error("no pair".to_owned()))?;
        let handshake = dtls::connect(conn, &self.identity, &self.profiles, transport.fingerprints);
        match timeout_at(deadline, handshake).await {
            Ok(Ok((dtls, keys))) => {
                worker.send(Command::Connected { endpoint, remote, keys });
                let dtls = Arc::new(dtls);
                let wishing = self.wish(endpoint, dtls.clone()).await?;
                Ok(Joined { local, agent, dtls, wishing })
            }
            Ok(Err(error)) => Err(JoinError::Dtls(error.to_string())),
            Err(_) => {
                let _ = agent.close().await;
                Err(JoinError::Dtls(self.gave_up("the handshake did not finish")))
            }
        }
    }

    /// Sends the endpoint's constraints, and keeps changing them.
    async fn wish(
        &self,
        endpoint: usize,
        dtls: Arc<DTLSConn>,
    ) -> Result<Option<AbortHandle>, JoinError> {
        let heights = &self.shared.plan.shape.wishes;
        let now = Instant::now();
        let (at, _) = self.shared.wish(endpoint, now);
        let Some(&first) = heights.get(at) else { return Ok(None) };
        let later = self.shared.next_wish(now).map(|(due, every)| {
            let next = heights.iter().cycle().skip(at + 1).take(heights.len()).copied().collect();
            (tokio::time::Instant::from_std(due), every, next)
        });
        let channel = Channel::open(dtls, self.patience).await.map_err(JoinError::Channel)?;
        let wishing = channel::keep_wishing(channel, Wishes { first, later }).await;
        wishing.map(Some).map_err(JoinError::Channel)
    }

    /// Allocates the endpoint: with its conference, or once the conference exists.
    async fn allocate(
        &self,
        endpoint: usize,
        conference: &Conference,
    ) -> Result<BridgeTransport, JoinError> {
        if conference.first == endpoint {
            let created = self.create(endpoint, true).await;
            let state = if created.is_ok() { Exists::Yes } else { Exists::No };
            conference.exists.send_replace(state);
            return created;
        }
        let mut exists = conference.exists.subscribe();
        let state = exists.wait_for(|state| *state != Exists::NotYet).await;
        if state.is_ok_and(|state| *state == Exists::Yes) {
            return self.create(endpoint, false).await;
        }
        Err(JoinError::NoConference)
    }

    async fn create(
        &self,
        endpoint: usize,
        create_conference: bool,
    ) -> Result<BridgeTransport, JoinError> {
        let plan = &self.shared.plan;
        let member = &plan.endpoints[endpoint];
        let request = colibri::create_endpoint(plan, endpoint, create_conference);
        let (what, answer) = if create_conference {
            let what = format!("create a conference with endpoint {}", member.id);
            let answer = self.bridge.create(&what, &request).await?;
            (what, answer)
        } else {
            let what = format!("create endpoint {}", member.id);
            let meeting = &plan.conferences[member.conference];
            let answer = self.bridge.modify(meeting, &what, &request).await?;
            (what, answer)
        };
        BridgeTransport::read(&answer, &member.id)
            .map_err(|reason| HttpError::Answer { what, reason }.into())
    }

    async fn answer(&self, endpoint: usize, local: &LocalTransport) -> Result<(), HttpError> {
        let plan = &self.shared.plan;
        let member = &plan.endpoints[endpoint];
        let what = format!("take the transport and sources of endpoint {}", member.id);
        let request = colibri::answer(plan, endpoint, local);
        let meeting = &plan.conferences[member.conference];
        self.bridge.modify(meeting, &what, &request).await?;
        Ok(())
    }

    fn open(&self, address: IpAddr) -> Result<Arc<UdpSocket>, JoinError> {
        let options = SocketOptions {
            reuse_port: false,
            receive_buffer: RECEIVE_BUFFER,
            send_buffer: RECEIVE_BUFFER,
            gro: self.shared.media.gro,
        };
        let socket = UdpSocket::bind(SocketAddr::new(address, 0), &options);
        let socket = socket.and_then(|socket| socket.stamp_arrivals().map(|()| socket));
        socket.map(Arc::new).map_err(|source| JoinError::Socket { address, source })
    }

    fn gave_up(&self, what: &str) -> String {
        format!("{what} within {} s", self.patience.as_secs_f64())
    }
}

fn offered(transport: &BridgeTransport) -> String {
    let addresses = transport.candidates.iter().map(ToString::to_string);
    let all: Vec<_> = addresses.chain(transport.ignored.iter().cloned()).collect();
    if all.is_empty() { "it offered none at all".to_owned() } else { all.join(", ") }
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
