//! The crate `dtls`, which runs in tasks: clients in one thread, servers in another one, datagrams in
//! channels between them.

use std::{io, sync::Arc, thread, time::Duration};

use dtls::{
    config::{ClientAuthType, Config, ExtendedMasterSecretType},
    conn::DTLSConn,
    crypto::Certificate,
    extension::extension_use_srtp::SrtpProtectionProfile,
};
use futures_util::future::join_all;
use rialto_sys::thread_cpu_time;
use tokio::runtime::{Builder, Runtime};
use webrtc_util::{Conn, KeyingMaterialExporter, conn::conn_pipe::pipe};

use super::{CLIENT, Cost, LABEL, MATERIAL, SERVER, SESSIONS, WARM_UP, Wire};
use crate::resident_kib;

/// Handshakes at a time, which share the cost of waking each other's threads.
const CONCURRENT: usize = 20;

/// Larger than any datagram of theirs, bytes.
const SCRATCH: usize = 2_048;

type End = Arc<dyn Conn + Send + Sync>;

/// Measures it.
pub fn run() -> io::Result<Cost> {
    let certificates = [0, 1].map(|_| {
        Certificate::generate_self_signed(vec!["peer".to_owned()]).expect("a certificate")
    });
    let wire = runtime()?.block_on(watched(&certificates));
    many(&certificates, WARM_UP)?;
    let (cpu, memory) = many(&certificates, SESSIONS)?;
    Ok(Cost { wire, cpu, memory })
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// CPU time of client and server, and memory in KiB, of so many sessions.
fn many(certificates: &[Certificate; 2], sessions: usize) -> io::Result<([Duration; 2], f64)> {
    let memory = resident_kib()?;
    let (clients, servers): (Vec<_>, Vec<_>) = (0..sessions).map(|_| wire()).unzip();
    let sides = thread::scope(|scope| {
        let connect = |side, ends| scope.spawn(move || Side::connect(certificates, side, ends));
        let threads = [connect(CLIENT, clients), connect(SERVER, servers)];
        threads.map(|thread| thread.join().expect("no panic"))
    });
    let memory = resident_kib()? - memory;
    let [client, server] = sides;
    let (client, server) = (client?, server?);
    assert!(client.keys().eq(server.keys()));
    Ok(([client.cpu, server.cpu], memory))
}

/// One side of all sessions.
struct Side {
    cpu: Duration,
    sessions: Vec<(DTLSConn, Vec<u8>)>,
    /// Its tasks are part of the memory.
    _runtime: Runtime,
}

impl Side {
    fn connect(certificates: &[Certificate; 2], side: usize, ends: Vec<End>) -> io::Result<Self> {
        let cpu = thread_cpu_time();
        let runtime = runtime()?;
        let mut sessions = Vec::with_capacity(ends.len());
        let mut ends = ends.into_iter().peekable();
        while ends.peek().is_some() {
            let some = ends.by_ref().take(CONCURRENT);
            let some = some.map(|end| connect(end, &certificates[side], side));
            sessions.extend(runtime.block_on(join_all(some)));
        }
        let cpu = thread_cpu_time().saturating_sub(cpu);
        Ok(Self { cpu, sessions, _runtime: runtime })
    }

    fn keys(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.sessions.iter().map(|(_, keys)| keys)
    }
}

async fn connect(end: End, certificate: &Certificate, side: usize) -> (DTLSConn, Vec<u8>) {
    let config = Config {
        certificates: vec![certificate.clone()],
        srtp_protection_profiles: vec![SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm],
        extended_master_secret: ExtendedMasterSecretType::Require,
        client_auth: ClientAuthType::RequireAnyClientCert,
        insecure_skip_verify: true,
        ..Config::default()
    };
    let session = DTLSConn::new(end, config, side == CLIENT, None).await.expect("a handshake");
    let state = session.connection_state().await;
    let keys = state.export_keying_material(LABEL, &[], MATERIAL).await.expect("keys");
    (session, keys)
}

/// Both ends of a channel each way.
fn wire() -> (End, End) {
    let (one, other) = pipe();
    (Arc::new(one), Arc::new(other))
}

/// One handshake through a counter.
async fn watched(certificates: &[Certificate; 2]) -> Wire {
    let ((client, behind_client), (server, behind_server)) = (wire(), wire());
    let mut wire = Wire::default();
    let handshake = async {
        tokio::join!(
            connect(client, &certificates[CLIENT], CLIENT),
            connect(server, &certificates[SERVER], SERVER),
        )
    };
    tokio::select! {
        _ = handshake => {}
        () = carry([behind_client, behind_server], &mut wire) => {}
    }
    wire
}

/// Carries datagrams between the two, until it is dropped.
async fn carry(ends: [End; 2], wire: &mut Wire) {
    let mut buffers = [[0; SCRATCH]; 2];
    let [of_client, of_server] = &mut buffers;
    loop {
        let (side, datagram) = tokio::select! {
            length = ends[CLIENT].recv(of_client) => (CLIENT, &of_client[..length.expect("open")]),
            length = ends[SERVER].recv(of_server) => (SERVER, &of_server[..length.expect("open")]),
        };
        wire.count(side, datagram);
        ends[1 - side].send(datagram).await.expect("open");
    }
}
