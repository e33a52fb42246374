//! Fuzz entry for the HTTP servers: the bytes of a client's connection.

use std::{sync::Arc, time::Duration};

use rialto_engine::{Control, ControlSink, Engine, MediaEvent};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
    runtime::Builder,
    sync::mpsc,
    time::timeout,
};

use super::{
    Guard, Hosts, VERSION, connection_slots::ConnectionSlots, listen, muc_client, router,
    web_sockets,
};
use crate::{
    bridge::{Bridge, BridgeConfig, EngineCommands, SelfReport},
    config::{Rest, Secret, WebSockets, XmppClient},
    telemetry,
};

/// The token that the server requires.
const TOKEN: &str = "s3cr3t";
/// The path that needs no token.
const HEALTH: &str = "/about/health";
/// Buffer of a connection, bytes.
const PIPE: usize = 16 << 10;
/// A connection whose client has sent everything ends within this time, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(8);

/// A detached engine.
#[derive(Debug)]
struct Nowhere;

impl ControlSink for Nowhere {
    fn control(&self, _: Control) {}
}

/// The first byte decides whether the server has a token, the others are requests. Each answer must be
/// valid HTTP, the connection must end when the client's side ends, and without the token no answer may
/// contain data of the bridge.
pub(crate) fn connection(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else { return };
    if let Ok((id, fields)) = muc_client::read(bytes) {
        let _ = XmppClient::from_fields(&id, fields);
    }
    telemetry::fuzz(bytes);
    let token = if how & 1 == 0 { Secret::default() } else { Secret::new(TOKEN) };
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let answers = runtime.block_on(async {
        let exchange = exchange(token, bytes);
        timeout(TIMEOUT, exchange).await.expect("the connection ends with the client's side")
    });
    let text = String::from_utf8_lossy(&answers);
    // The answer has the version of the request (RFC 9112 section 2.3).
    let is_http = ["HTTP/1.1 ", "HTTP/1.0 "].iter().any(|version| text.starts_with(version));
    assert!(answers.is_empty() || is_http, "{text}");
    let sent = String::from_utf8_lossy(bytes);
    if how & 1 == 1 && !sent.contains(TOKEN) && !sent.contains(HEALTH) {
        // A successful answer can only be a file of the status page, recognised by its policy: these
        // contain no data of the bridge.
        let answers =
            ["HTTP/1.1 2", "HTTP/1.0 2"].into_iter().flat_map(|ok| text.split(ok).skip(1));
        for head in answers.filter_map(|part| part.split("\r\n\r\n").next()) {
            assert!(head.contains("\r\ncontent-security-policy: "), "{text}");
        }
    }
}

/// Returns the server's answers.
async fn exchange(token: Secret, bytes: &[u8]) -> Vec<u8> {
    let engine = Engine::new(Arc::new(Nowhere), vec!["127.0.0.1:10000".parse().expect("good")]);
    let sink = EngineCommands::sink(engine.clone());
    let (transports, updates) = rialto_transport::fuzz::transports(sink).expect("transports");
    let (_events, media) = mpsc::channel::<MediaEvent>(8);
    let bridge = Bridge::new(BridgeConfig::default(), engine, transports, media, updates);
    let report = SelfReport::new(bridge.clone(), VERSION);
    let rest = Rest { colibri: true, shutdown: true, ..Rest::default() };
    let router =
        router(report, None, &rest, true).merge(web_sockets(bridge, &WebSockets::default()));
    let router = Guard::new(Hosts::default(), &token, "--host").protect(router);
    let slots = ConnectionSlots::new(2, 1);
    let slot = slots.take().await.expect("a free slot");

    let (mut client, server) = duplex(PIPE);
    let asked = async move {
        let (mut read, mut write) = tokio::io::split(&mut client);
        let mut answers = Vec::new();
        let send = async {
            // A server that closes the connection stops reading.
            let _ = write.write_all(bytes).await;
            let _ = write.shutdown().await;
        };
        let ((), _) = tokio::join!(send, read.read_to_end(&mut answers));
        answers
    };
    let (answers, ()) = tokio::join!(asked, listen::serve(server, router, &slot));
    answers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::connection;

    #[test]
    fn requests_of_all_kinds_are_answered() {
        for request in [
            "GET /about/health HTTP/1.1\r\nhost: localhost\r\n\r\n",
            "GET /debug HTTP/1.1\r\nhost: evil.example\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "POST /colibri/v2/conferences HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}",
        ] {
            for how in ["0", "1"] {
                connection(format!("{how}{request}").as_bytes());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_bytes_are_survived(data in prop::collection::vec(any::<u8>(), 0..200)) {
            connection(&data);
        }
    }
}
