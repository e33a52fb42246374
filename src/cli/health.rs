//! `rialto health`: a health check for containers and monitors without an HTTP client.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    process::ExitCode,
    time::Duration,
};

use super::{Failure, print_error};

/// Limit on connecting, sending and reading, each; a check that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum bytes of the answer.
const MAX_ANSWER_BYTES: u64 = 64 << 10;

/// Asks the private HTTP server at `address` for the bridge's health.
pub(super) fn ask(address: &str) -> Result<ExitCode, Failure> {
    let answer = get(address).map_err(|error| Failure::Other(format!("{address}: {error}")))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    let code = status.split(' ').nth(1).unwrap_or_default();
    if code == "200" {
        return Ok(ExitCode::SUCCESS);
    }
    let body = body.trim();
    let why = if body.is_empty() { status } else { body };
    print_error(&format!("rialto: {address}: not healthy: {}", why.replace(['\r', '\n'], " ")));
    Ok(ExitCode::FAILURE)
}

/// Returns the complete response as text.
fn get(address: &str) -> io::Result<String> {
    let none = io::Error::new(io::ErrorKind::InvalidInput, "not an address");
    let to = address.to_socket_addrs()?.next().ok_or(none)?;
    let mut stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET /about/health HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
