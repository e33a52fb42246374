//! Joins a room of `rialto dev`, and prints every second who is there and what it hears of them.
//!
//! ```sh
//! cargo run --example listen -- http://127.0.0.1:8080 any-room
//! ```
//!
//! Signalling is the room's WebSocket (`src/focus/message.rs`): the bridge offers, we answer. ICE, DTLS and
//! SRTP are str0m's, which has no I/O of its own: what it wants to send, and when it wants to be called again,
//! comes out of `poll_output`.

use std::{
    collections::BTreeMap,
    error::Error,
    net::{SocketAddr, UdpSocket as StdSocket},
    time::{Duration, Instant},
};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use str0m::{
    Candidate, Event, Input, Output, Rtc,
    change::SdpOffer,
    net::{Protocol, Receive},
    rtp::RtpPacket,
};
use tokio::{net::UdpSocket, time};
use tokio_tungstenite::tungstenite::Message;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let (Some(base), Some(room)) = (args.next(), args.next()) else {
        return Err("usage: listen http://127.0.0.1:8080 ROOM".into());
    };
    listen(&base, &room, |line| println!("{line}")).await
}

/// What is heard of one source.
#[derive(Default)]
struct Heard {
    codec: String,
    packets: u64,
    bytes: u64,
}

/// Joins, and listens until the room closes the connection.
pub(crate) async fn listen(
    base: &str,
    room: &str,
    mut say: impl FnMut(String),
) -> Result<(), Failure> {
    let host = base.strip_prefix("http://").ok_or("only http:// addresses")?.trim_end_matches('/');
    let url = format!("ws://{host}/_rialto/ws?room={room}&name=Listener");
    let (mut signalling, _) = tokio_tungstenite::connect_async(url).await?;
    let socket = UdpSocket::bind((local_address(host)?.ip(), 0)).await?;
    let here = socket.local_addr()?;
    str0m::crypto::from_feature_flags().install_process_default();
    // RTP mode: packets as they are, without frames being put together.
    let mut rtc = Rtc::builder().set_rtp_mode(true).build(Instant::now());
    rtc.add_local_candidate(Candidate::host(here, "udp")?);

    let mut sources: BTreeMap<String, String> = BTreeMap::new(); // by MID
    let mut heard: BTreeMap<String, Heard> = BTreeMap::new();
    let mut seconds = time::interval(Duration::from_secs(1));
    let mut datagram = vec![0; 2048];
    loop {
        let due = loop {
            match rtc.poll_output()? {
                Output::Timeout(due) => break due,
                Output::Transmit(out) => {
                    socket.send_to(&out.contents, out.destination).await?;
                }
                Output::Event(Event::Connected) => say("connected".to_owned()),
                Output::Event(Event::RtpPacket(packet)) => {
                    note(&mut rtc, &sources, &mut heard, &packet);
                }
                Output::Event(_) => {}
            }
        };
        tokio::select! {
            text = signalling.next() => {
                let text = match text.transpose()? {
                    Some(Message::Text(text)) => text,
                    // Pings are answered by the library.
                    Some(_) => continue,
                    None => return Ok(()),
                };
                let message: Value = serde_json::from_str(&text)?;
                match message["type"].as_str() {
                    Some("peers") => say(participants(&message)),
                    Some("offer") => {
                        let sdp = message["sdp"].as_str().unwrap_or_default();
                        let answer = rtc.sdp_api().accept_offer(SdpOffer::from_sdp_string(sdp)?)?;
                        sources = slots(&message);
                        let answer = json!({
                            "type": "answer",
                            "version": message["version"],
                            "sdp": answer.to_sdp_string(),
                        });
                        signalling.send(Message::text(answer.to_string())).await?;
                    }
                    Some("closed") => return Err(message["message"].to_string().into()),
                    _ => {}
                }
            }
            received = socket.recv_from(&mut datagram) => {
                let (len, source) = received?;
                let contents = datagram.get(..len).unwrap_or_default().try_into();
                // What is neither STUN, DTLS nor RTP is not for us.
                if let Ok(contents) = contents {
                    let receive = Receive { proto: Protocol::Udp, source, destination: here, contents };
                    rtc.handle_input(Input::Receive(Instant::now(), receive))?;
                }
            }
            () = time::sleep_until(due.into()) => rtc.handle_input(Input::Timeout(Instant::now()))?,
            _ = seconds.tick() => {
                for (source, Heard { codec, packets, bytes }) in std::mem::take(&mut heard) {
                    say(format!("{source:<24} {codec:<6} {packets:>4} packets/s {:>6} kbit/s", bytes * 8 / 1000));
                }
            }
        }
    }
}

/// The address of this machine from which the bridge is reached.
fn local_address(host: &str) -> std::io::Result<SocketAddr> {
    let any = if host.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = StdSocket::bind(any)?;
    socket.connect(host)?;
    socket.local_addr()
}

/// The names of the sources that the sections of an offer carry. Names are other people's: nothing in them
/// may move the cursor.
fn slots(offer: &Value) -> BTreeMap<String, String> {
    let slots = offer["slots"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().escape_debug().to_string();
    slots.map(|slot| (text(&slot["mid"]), text(&slot["source"]))).collect()
}

fn participants(message: &Value) -> String {
    let peers = message["peers"].as_array().into_iter().flatten();
    let names =
        peers.map(|peer| format!("{} {:?}", peer["id"], peer["name"].as_str().unwrap_or_default()));
    format!("participants: {}", names.collect::<Vec<_>>().join(", "))
}

/// Counts a packet for its source, which its MID or its SSRC tells.
fn note(
    rtc: &mut Rtc,
    sources: &BTreeMap<String, String>,
    heard: &mut BTreeMap<String, Heard>,
    packet: &RtpPacket,
) {
    let ssrc = packet.header.ssrc;
    let mid = rtc.direct_api().stream_rx(&ssrc).map(|stream| stream.mid());
    let source = mid.and_then(|mid| sources.get(&mid.to_string()));
    let entry = heard.entry(source.cloned().unwrap_or_else(|| format!("SSRC {ssrc}"))).or_default();
    let params = rtc.codec_config().params();
    let params = params.iter().find(|params| params.pt() == packet.header.payload_type);
    entry.codec = params.map_or("?".to_owned(), |params| params.spec().codec.to_string());
    entry.packets += 1;
    entry.bytes += packet.payload.len() as u64;
}
