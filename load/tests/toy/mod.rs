//! A bridge made only of the clients' own crates, to test the generator without the product. It
//! allocates over COLIBRI2, connects with ICE and DTLS, and forwards every packet to all others of
//! the conference, RTCP included.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{patch, post},
};
use dtls::{
    config::{ClientAuthType, Config, ExtendedMasterSecretType},
    conn::DTLSConn,
    crypto::Certificate,
    extension::extension_use_srtp::SrtpProtectionProfile,
};
use rialto_load::srtp::{Keys, Opener, Sealer, Stack};
use rialto_srtp::Profile;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use webrtc_ice::{
    agent::{Agent, agent_config::AgentConfig},
    candidate::CandidateType,
    mdns::MulticastDnsMode,
    network_type::NetworkType,
};
use webrtc_util::{Conn, KeyingMaterialExporter};

/// A deliberate fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flaw {
    None,
    /// Refuses every conference.
    Refuses,
    /// Connects, and forwards nothing.
    Silent,
    /// Forwards for a while.
    Stops,
    /// Forwards all but some packets.
    Forgets,
    /// Offers no candidate.
    NoCandidate,
    /// Its certificate is another than signalled.
    WrongFingerprint,
}

type Shared = Arc<Toy>;

struct Toy {
    flaw: Flaw,
    certificate: Certificate,
    fingerprint: String,
    conferences: Mutex<HashMap<String, Vec<Member>>>,
    forwarded: AtomicU32,
}

#[derive(Clone)]
struct Member {
    id: String,
    agent: Arc<Agent>,
    out: Arc<Mutex<Option<Out>>>,
}

type Out = (Sealer, mpsc::UnboundedSender<Vec<u8>>);

/// Starts one; its HTTP address.
pub(crate) async fn start(flaw: Flaw) -> String {
    let certificate = Certificate::generate_self_signed(vec!["toy".to_owned()]).unwrap();
    let digest = Sha256::digest(certificate.certificate[0].as_ref());
    let mut hex: Vec<_> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    if flaw == Flaw::WrongFingerprint {
        hex.reverse();
    }
    let toy = Toy {
        flaw,
        certificate,
        fingerprint: hex.join(":"),
        conferences: Mutex::default(),
        forwarded: AtomicU32::new(0),
    };
    let app = Router::new()
        .route("/colibri/v2/conferences", post(create))
        .route("/colibri/v2/conferences/{meeting}", patch(modify))
        .with_state(Arc::new(toy));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

type Answer = Result<Json<Value>, (StatusCode, String)>;

async fn create(State(toy): State<Shared>, Json(request): Json<Value>) -> Answer {
    if toy.flaw == Flaw::Refuses {
        return Err((StatusCode::SERVICE_UNAVAILABLE, "no room at the inn".to_owned()));
    }
    let meeting = request["meeting-id"].as_str().unwrap().to_owned();
    toy.conferences.lock().unwrap().entry(meeting.clone()).or_default();
    allocate(&toy, &meeting, &request["endpoints"][0]).await
}

async fn modify(
    State(toy): State<Shared>,
    Path(meeting): Path<String>,
    Json(request): Json<Value>,
) -> Answer {
    if request["expire"] == true {
        toy.conferences.lock().unwrap().remove(&meeting);
        return Ok(Json(json!({})));
    }
    let endpoint = &request["endpoints"][0];
    let id = endpoint["id"].as_str().unwrap();
    if endpoint["create"] == true {
        return allocate(&toy, &meeting, endpoint).await;
    }
    let mut conferences = toy.conferences.lock().unwrap();
    let members = conferences.get_mut(&meeting).unwrap();
    if endpoint["expire"] == true {
        members.retain(|member| member.id != id);
        return Ok(Json(json!({ "endpoints": [{ "id": id, "expire": true }] })));
    }
    let member = members.iter().find(|member| member.id == id).unwrap().clone();
    let transport = &endpoint["transport"]["transport"];
    let text = |field: &str| transport[field].as_str().unwrap().to_owned();
    tokio::spawn(serve(toy.clone(), meeting.clone(), member, text("ufrag"), text("pwd")));
    Ok(Json(json!({ "endpoints": [{ "id": id }] })))
}

async fn allocate(toy: &Shared, meeting: &str, endpoint: &Value) -> Answer {
    let id = endpoint["id"].as_str().unwrap().to_owned();
    let agent = Agent::new(AgentConfig {
        network_types: vec![NetworkType::Udp4],
        candidate_types: vec![CandidateType::Host],
        multicast_dns_mode: MulticastDnsMode::Disabled,
        include_loopback: true,
        prflx_acceptance_min_wait: Some(Duration::ZERO),
        ip_filter: Arc::new(Some(Box::new(|ip| ip.is_loopback()))),
        ..AgentConfig::default()
    })
    .await
    .unwrap();
    let (found, mut candidates) = mpsc::unbounded_channel();
    agent.on_candidate(Box::new(move |candidate| {
        let _ = found.send(candidate);
        Box::pin(async {})
    }));
    agent.gather_candidates().unwrap();
    let candidate = candidates.recv().await.unwrap().unwrap();
    let (ufrag, pwd) = agent.get_local_user_credentials().await;
    let agent = Arc::new(agent);
    let member = Member { id: id.clone(), agent, out: Arc::default() };
    toy.conferences.lock().unwrap().get_mut(meeting).unwrap().push(member);
    let mut candidates = vec![json!({
        "protocol": "udp", "type": "host", "component": "1", "foundation": "1",
        "ip": candidate.address(), "port": candidate.port().to_string(),
    })];
    if toy.flaw == Flaw::NoCandidate {
        candidates.clear();
    }
    Ok(Json(json!({ "endpoints": [{ "id": id, "transport": { "transport": {
        "xmlns": "urn:xmpp:jingle:transports:ice-udp:1", "ufrag": ufrag, "pwd": pwd,
        "rtcp-mux": true, "candidates": candidates,
        "fingerprints": [
            { "hash": "sha-256", "setup": "actpass", "fingerprint": toy.fingerprint },
        ],
    }}}]})))
}

/// Connects one member and passes on what it sends.
async fn serve(toy: Shared, meeting: String, member: Member, ufrag: String, pwd: String) {
    let (_cancel, cancelled) = mpsc::channel(1);
    let Ok(conn) = member.agent.dial(cancelled, ufrag, pwd).await else { return };
    let conn: Arc<dyn Conn + Send + Sync> = conn;
    let (to_dtls, from_ice) = mpsc::unbounded_channel();
    let (to_media, mut media) = mpsc::unbounded_channel();
    let reader = conn.clone();
    tokio::spawn(async move {
        let mut buffer = vec![0; 2048];
        while let Ok(len) = reader.recv(&mut buffer).await {
            let packet = buffer[..len].to_vec();
            let target = if packet[0] >= 128 { &to_media } else { &to_dtls };
            let _ = target.send(packet);
        }
    });
    let dtls_side = DtlsSide { conn: conn.clone(), incoming: tokio::sync::Mutex::new(from_ice) };
    let config = Config {
        certificates: vec![toy.certificate.clone()],
        srtp_protection_profiles: vec![
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        ],
        client_auth: ClientAuthType::RequireAnyClientCert,
        extended_master_secret: ExtendedMasterSecretType::Require,
        insecure_skip_verify: true,
        ..Config::default()
    };
    let Ok(dtls) = DTLSConn::new(Arc::new(dtls_side), config, false, None).await else { return };
    let profile = Profile::from_id(dtls.selected_srtpprotection_profile() as u16).unwrap();
    let state = dtls.connection_state().await;
    let len = 2 * (profile.key_len() + profile.salt_len());
    let exported = state.export_keying_material("EXTRACTOR-dtls_srtp", &[], len).await.unwrap();
    let client = Keys::of_client(profile, &exported).unwrap();
    let keys = Keys { profile, local: client.remote, remote: client.local };
    let (out, mut outgoing) = mpsc::unbounded_channel::<Vec<u8>>();
    *member.out.lock().unwrap() = Sealer::new(Stack::Webrtc, &keys).map(|sealer| (sealer, out));
    tokio::spawn(async move {
        while let Some(packet) = outgoing.recv().await {
            let _ = conn.send(&packet).await;
        }
    });
    let mut opener = Opener::new(Stack::Webrtc, &keys).unwrap();
    while let Some(packet) = media.recv().await {
        let forwarded = toy.forwarded.fetch_add(1, Ordering::Relaxed);
        let stopped = toy.flaw == Flaw::Stops && forwarded > 500;
        let forgotten = toy.flaw == Flaw::Forgets && forwarded % 100 == 99;
        if forgotten {
            // Opened once, so that it is not taken when it is sent again.
            forget(packet, &mut opener);
        } else if toy.flaw != Flaw::Silent && !stopped {
            pass_on(&toy, &meeting, &member.id, packet, &mut opener);
        }
    }
}

fn forget(mut packet: Vec<u8>, opener: &mut Opener) {
    let header_len = rialto_load::media::packet::header_len(&packet).unwrap_or(12);
    let ssrc = u32::from_be_bytes(packet[8..12].try_into().unwrap());
    let _ = opener.rtp(&mut packet, header_len, ssrc);
}

fn pass_on(toy: &Toy, meeting: &str, from: &str, mut packet: Vec<u8>, opener: &mut Opener) {
    let is_rtcp = (192..=223).contains(&packet[1]);
    let header_len = rialto_load::media::packet::header_len(&packet).unwrap_or(12);
    let ssrc = u32::from_be_bytes(packet[8..12].try_into().unwrap());
    let opened = if is_rtcp {
        opener.rtcp(&mut packet)
    } else {
        opener.rtp(&mut packet, header_len, ssrc).ok()
    };
    let Some(len) = opened else { return };
    packet.truncate(len);
    let mut conferences = toy.conferences.lock().unwrap();
    for member in conferences.get_mut(meeting).into_iter().flatten() {
        let mut out = member.out.lock().unwrap();
        let Some((sealer, out)) = out.as_mut().filter(|_| member.id != from) else { continue };
        let mut copy = packet.clone();
        // The other crate follows roll-overs by itself.
        let sealed = if is_rtcp {
            sealer.rtcp(&mut copy)
        } else {
            sealer.rtp(&mut copy, header_len, 0, ssrc)
        };
        if sealed {
            let _ = out.send(copy);
        }
    }
}

/// DTLS over an ICE connection that media shares.
struct DtlsSide {
    conn: Arc<dyn Conn + Send + Sync>,
    incoming: tokio::sync::Mutex<mpsc::UnboundedReceiver<Vec<u8>>>,
}

#[async_trait]
impl Conn for DtlsSide {
    async fn connect(&self, _: SocketAddr) -> Result<(), webrtc_util::Error> {
        Err(io::Error::from(io::ErrorKind::Unsupported).into())
    }

    async fn recv(&self, buffer: &mut [u8]) -> Result<usize, webrtc_util::Error> {
        let packet = self.incoming.lock().await.recv().await;
        let packet = packet.ok_or(webrtc_util::Error::ErrBufferClosed)?;
        buffer[..packet.len()].copy_from_slice(&packet);
        Ok(packet.len())
    }

    async fn recv_from(
        &self,
        buffer: &mut [u8],
    ) -> Result<(usize, SocketAddr), webrtc_util::Error> {
        let len = self.recv(buffer).await?;
        Ok((len, self.conn.remote_addr().unwrap()))
    }

    async fn send(&self, bytes: &[u8]) -> Result<usize, webrtc_util::Error> {
        self.conn.send(bytes).await
    }

    async fn send_to(&self, bytes: &[u8], _: SocketAddr) -> Result<usize, webrtc_util::Error> {
        self.conn.send(bytes).await
    }

    fn local_addr(&self) -> Result<SocketAddr, webrtc_util::Error> {
        self.conn.local_addr()
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        self.conn.remote_addr()
    }

    async fn close(&self) -> Result<(), webrtc_util::Error> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
        self
    }
}
