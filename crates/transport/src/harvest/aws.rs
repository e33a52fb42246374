//! Finds the public address of an Amazon EC2 instance with its metadata service (version 2, with a
//! token).

use std::{fs, io, net::IpAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::Found;

/// Address of the metadata service.
pub const METADATA: &str = "169.254.169.254:80";
/// Time limit of one answer. The service is on the same machine.
const PATIENCE: Duration = Duration::from_millis(500);
/// Longer answers are ignored.
const ANSWER_BYTES: u64 = 8192;

/// Why the metadata service gave no address.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The connection failed.
    #[error(transparent)]
    System(#[from] io::Error),
    /// No answer in time.
    #[error("no answer")]
    Silent,
    /// The answer is not what was asked for.
    #[error("{0} is not known")]
    Unknown(&'static str),
}

/// Returns whether this machine is one of Amazon's, according to its firmware.
pub fn is_amazon() -> bool {
    ["sys_vendor", "board_vendor", "bios_vendor"].iter().any(|name| {
        let text = fs::read_to_string(format!("/sys/class/dmi/id/{name}"));
        text.is_ok_and(|text| text.contains("Amazon"))
    })
}

/// Asks the service at `host` (`address:port`).
pub(super) async fn ask(host: &str) -> Result<Found, MetadataError> {
    let lifetime = "X-aws-ec2-metadata-token-ttl-seconds: 60\r\n";
    // A service without tokens does not require one.
    let token = call(host, "PUT", "/latest/api/token", lifetime).await?;
    let header =
        token.map_or(String::new(), |token| format!("X-aws-ec2-metadata-token: {token}\r\n"));
    let mut addresses = [None; 2];
    for (name, place) in ["local-ipv4", "public-ipv4"].into_iter().zip(&mut addresses) {
        let path = format!("/latest/meta-data/{name}");
        let answer = call(host, "GET", &path, &header).await?;
        *place = answer.and_then(|text| text.parse().ok());
    }
    let [local, public]: [Option<IpAddr>; 2] = addresses;
    Ok(Found {
        local: local.ok_or(MetadataError::Unknown("local-ipv4"))?,
        public: public.ok_or(MetadataError::Unknown("public-ipv4"))?,
    })
}

/// Returns the body of an answer with status 200.
async fn call(
    host: &str,
    method: &str,
    path: &str,
    header: &str,
) -> Result<Option<String>, MetadataError> {
    let exchange = async {
        let mut stream = TcpStream::connect(host).await?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{header}Content-Length: 0\r\n\
             Connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES).read_to_end(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    let answer = timeout(PATIENCE, exchange).await.map_err(|_| MetadataError::Silent)??;
    Ok(body(&String::from_utf8_lossy(&answer)))
}

fn body(answer: &str) -> Option<String> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?;
    let text = body.trim();
    // It becomes part of a header.
    let plain = text.len() <= 512 && text.chars().all(|c| c.is_ascii_graphic());
    (status == "200" && plain && !text.is_empty()).then(|| text.to_owned())
}

/// For fuzzing: any bytes as an answer of the metadata service. What becomes part of a header fits
/// there.
pub(crate) fn fuzz(answer: &[u8]) {
    if let Some(text) = body(&String::from_utf8_lossy(answer)) {
        assert!(text.len() <= 512 && text.bytes().all(|byte| byte.is_ascii_graphic()));
        let _ = text.parse::<IpAddr>();
    }
}
