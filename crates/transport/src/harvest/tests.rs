use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    http::HeaderMap,
    routing::{get, put},
};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 20);

/// A server that loses the first request, and answers the second after an answer to another
/// request.
async fn stun_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut request = [0; 64];
        socket.recv_from(&mut request).await.unwrap();
        let (len, from) = socket.recv_from(&mut request).await.unwrap();
        assert_eq!((len, &request[..2]), (20, &[0, 1][..]));
        let answer = |transaction: &[u8]| {
            let mut bytes = vec![1, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42];
            bytes.extend(transaction);
            bytes.extend([0, 0x20, 0, 8, 0, 1, 0x55, 0x55]);
            bytes.extend((u32::from(PUBLIC) ^ 0x2112_a442).to_be_bytes());
            bytes
        };
        socket.send_to(&answer(&[7; 12]), from).await.unwrap();
        socket.send_to(b"what", from).await.unwrap();
        socket.send_to(&answer(&request[8..20]), from).await.unwrap();
    });
    addr
}

#[tokio::test]
async fn a_server_tells_how_it_sees_us() {
    let local: SocketAddr = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 10000).into();
    let stun_servers = vec![stun_server().await.to_string()];
    let config = HarvestConfig { stun_servers, aws: false, ..HarvestConfig::default() };
    let found = Found { local: local.ip(), public: PUBLIC.into() };
    assert_eq!(discover(&config, &[local]).await, [found]);
    // Configured addresses are not asked for again, and nobody is asked about IPv6.
    let silent = HarvestConfig { aws: false, ..HarvestConfig::default() };
    assert_eq!(discover(&silent, &[local]).await, []);
    let six: SocketAddr = "[::1]:10000".parse().unwrap();
    assert_eq!(discover(&config, &[six]).await, []);
}

#[tokio::test]
async fn a_server_without_a_name_is_a_line_and_no_more() {
    let local: SocketAddr = "127.0.0.1:10000".parse().unwrap();
    let stun_servers = vec!["no port".to_owned()];
    let config = HarvestConfig { stun_servers, aws: false, ..HarvestConfig::default() };
    assert_eq!(discover(&config, &[local]).await, []);
}

#[tokio::test]
async fn metadata_are_asked_with_a_token() {
    let token = |headers: HeaderMap| async move {
        assert!(headers.contains_key("x-aws-ec2-metadata-token-ttl-seconds"));
        "t0ken"
    };
    let with_token = |text: &'static str| {
        move |headers: HeaderMap| async move {
            assert_eq!(headers["x-aws-ec2-metadata-token"], "t0ken");
            text
        }
    };
    let router = Router::new()
        .route("/latest/api/token", put(token))
        .route("/latest/meta-data/local-ipv4", get(with_token("10.0.0.5")))
        .route("/latest/meta-data/public-ipv4", get(with_token("203.0.113.20")));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let found = Found { local: "10.0.0.5".parse().unwrap(), public: PUBLIC.into() };
    assert_eq!(aws::ask(&host).await.unwrap(), found);
}

/// Each combination of `aws.enabled`, `aws.force` and the machine.
#[tokio::test]
async fn metadata_are_asked_on_amazons_machines_or_where_it_is_forced() {
    let asked = Arc::new(AtomicUsize::new(0));
    let token = {
        let asked = asked.clone();
        move || async move {
            asked.fetch_add(1, Ordering::Relaxed);
            "t0ken"
        }
    };
    let router = Router::new()
        .route("/latest/api/token", put(token))
        .route("/latest/meta-data/local-ipv4", get(|| async { "10.0.0.5" }))
        .route("/latest/meta-data/public-ipv4", get(|| async { "203.0.113.20" }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    for case in 0..8 {
        let [aws, aws_force, amazon] = [1, 2, 4].map(|bit| case & bit != 0);
        let config = HarvestConfig { aws, aws_force, ..HarvestConfig::default() };
        let expected = aws && (aws_force || amazon);
        let found = by_metadata(&config, || amazon, &host).await;
        assert_eq!(found.is_some(), expected, "{aws} {aws_force} {amazon}");
        assert_eq!(asked.swap(0, Ordering::Relaxed), usize::from(expected), "nobody else is");
    }
}

#[tokio::test]
async fn metadata_that_nobody_serves_are_no_address() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = closed.local_addr().unwrap().to_string();
    drop(closed);
    let config = HarvestConfig { aws: true, aws_force: true, ..HarvestConfig::default() };
    assert_eq!(by_metadata(&config, || false, &host).await, None);
}

#[tokio::test]
async fn metadata_without_an_address_are_named() {
    let router = Router::new().route("/latest/meta-data/local-ipv4", get(|| async { "10.0.0.5" }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let error = aws::ask(&host).await.unwrap_err().to_string();
    assert_eq!(error, "public-ipv4 is not known");
}

proptest::proptest! {
    #[test]
    fn any_answer_is_survived(
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..100),
        text in "HTTP/1.1 (200|404)( OK)?\\r\\n(a: b\\r\\n){0,2}\\r\\n(\\PC|[ -~]){0,20}",
    ) {
        fuzz(&bytes);
        fuzz(text.as_bytes());
        // An answer to a Binding request, with any attributes.
        let mut answer = vec![1, 1, 0, (bytes.len() & !3) as u8, 0x21, 0x12, 0xa4, 0x42];
        answer.extend([7; 12]);
        answer.extend(&bytes);
        fuzz(&answer);
    }
}
