//! Bytes to and from a server, and the way to a login over them.

use std::{io::ErrorKind, time::Duration};

use bytes::{Buf as _, BytesMut};
use rand::Rng as _;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{
    Account, Cause,
    login::{Bound, Login, Next},
    tls,
};
use crate::{
    config::XmppClient,
    xmpp::{
        Limits, StreamEvent, StreamReader,
        connect::{ConnectError, PER_ADDRESS, connect_any},
    },
};

/// Logging in takes no longer than this.
const PATIENCE: Duration = Duration::from_secs(15);
/// Read at once.
const READ_SIZE: usize = 16 * 1024;

/// Bytes both ways.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection after its login.
pub(super) struct Established {
    pub wire: Wire,
    pub bound: Bound,
}

impl Established {
    pub(super) fn jid(&self) -> &str {
        &self.bound.jid
    }
}

/// A connection, and what came over it.
pub(super) struct Wire {
    pub io: Box<dyn Io>,
    pub unread: Unread,
}

/// Bytes that came, and the stream in them.
pub(super) struct Unread {
    reader: StreamReader,
    bytes: BytesMut,
}

impl Unread {
    fn new() -> Self {
        Self { reader: StreamReader::new(Limits::default()), bytes: BytesMut::new() }
    }

    /// The next event, if it has come.
    pub(super) fn event(&mut self) -> Result<Option<StreamEvent>, Cause> {
        let mut rest = &self.bytes[..];
        let event = self.reader.read(&mut rest);
        let left = rest.len();
        self.bytes.advance(self.bytes.len().saturating_sub(left));
        event.map_err(|error| Cause::Protocol(error.to_string()))
    }

    /// Where to read to.
    pub(super) fn space(&mut self) -> &mut BytesMut {
        self.bytes.reserve(READ_SIZE);
        &mut self.bytes
    }
}

impl Wire {
    pub(super) fn new(io: Box<dyn Io>) -> Self {
        Self { io, unread: Unread::new() }
    }

    async fn event(&mut self) -> Result<StreamEvent, Cause> {
        loop {
            if let Some(event) = self.unread.event()? {
                return Ok(event);
            }
            if self.io.read_buf(self.unread.space()).await.map_err(broken)? == 0 {
                return Err(Cause::Closed);
            }
        }
    }

    /// Says goodbye, and does not wait for an answer.
    pub(super) async fn close(&mut self) {
        let _ = timeout(PATIENCE, self.send(b"</stream:stream>")).await;
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Cause> {
        self.io.write_all(bytes).await.map_err(broken)?;
        self.io.flush().await.map_err(broken)
    }
}

/// Connects and logs in, with a resource of the server's choice if none is given.
pub(super) async fn establish(
    client: &XmppClient,
    resource: Option<&str>,
) -> Result<Established, Cause> {
    let socket = connect(client).await?;
    timeout(PATIENCE, log_in(client, resource, Box::new(socket)))
        .await
        .map_err(|_| Cause::Timeout)?
}

async fn connect(client: &XmppClient) -> Result<TcpStream, Cause> {
    let connected = connect_any(&client.host, client.port, PER_ADDRESS).await;
    connected.map_err(|error| match error {
        ConnectError::Unresolved(error) => Cause::Unresolved(error.to_string()),
        ConnectError::Refused(error) => Cause::Connect(error.to_string()),
    })
}

/// Logs in over a connection.
async fn log_in(
    client: &XmppClient,
    resource: Option<&str>,
    io: Box<dyn Io>,
) -> Result<Established, Cause> {
    let account = Account {
        domain: client.domain.clone(),
        username: client.username.clone(),
        password: client.password.clone(),
        security: client.security,
        resource: resource.map(str::to_owned),
    };
    let mut login = Login::new(account, rand::rng().random());
    let mut wire = Wire::new(io);
    wire.send(&login.open()).await?;
    loop {
        let event = wire.event().await?;
        match login.on_event(event)? {
            Next::Wait => {}
            Next::Send(bytes) => wire.send(&bytes).await?,
            Next::Encrypt => {
                // What was read before TLS may be of somebody on the way: it goes with its buffer.
                let Wire { io, .. } = wire;
                wire = Wire::new(encrypt(client, io).await?);
                wire.send(&login.encrypted()).await?;
            }
            Next::Restart(bytes) => {
                // A server says nothing before our new stream but white space.
                wire.unread = Unread::new();
                wire.send(&bytes).await?;
            }
            Next::Done(bound) => return Ok(Established { wire, bound }),
        }
    }
}

/// The certificate is that of the domain, wherever it is served (RFC 6120 section 13.7.2).
async fn encrypt(client: &XmppClient, io: Box<dyn Io>) -> Result<Box<dyn Io>, Cause> {
    let name = ServerName::try_from(client.domain.clone())
        .map_err(|error| Cause::Tls(format!("{}: {error}", client.domain)))?;
    let stream = tls::connector(client.verify_certificate)?
        .connect(name, io)
        .await
        .map_err(|error| tls::cause(&client.domain, &error))?;
    Ok(Box::new(stream))
}

/// What is to be sent.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    bytes: BytesMut,
    /// Written, and perhaps still in a buffer of TLS.
    unflushed: bool,
}

impl Unsent {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_done(&self) -> bool {
        self.bytes.is_empty() && !self.unflushed
    }

    /// Sends some of it. May be given up at any time, and begun again.
    pub(super) async fn step(&mut self, to: &mut (impl AsyncWrite + Unpin)) -> Result<(), Cause> {
        if self.bytes.is_empty() {
            to.flush().await.map_err(broken)?;
            self.unflushed = false;
        } else {
            if to.write_buf(&mut self.bytes).await.map_err(broken)? == 0 {
                return Err(Cause::Closed);
            }
            self.unflushed = true;
        }
        Ok(())
    }

    /// Sends all of it, and closes.
    pub(super) async fn finish(&mut self, to: &mut (impl AsyncWrite + Unpin)) -> Result<(), Cause> {
        while !self.is_done() {
            self.step(to).await?;
        }
        to.shutdown().await.map_err(broken)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn broken(error: std::io::Error) -> Cause {
    match error.kind() {
        // TLS that was cut off without a word of it, as servers that are killed do.
        ErrorKind::UnexpectedEof => Cause::Closed,
        _ => Cause::Broken(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_that_is_cut_off_is_a_closed_connection() {
        let cut = std::io::Error::new(ErrorKind::UnexpectedEof, "see https://example.com");
        assert_eq!(broken(cut), Cause::Closed);
        let reset = std::io::Error::new(ErrorKind::ConnectionReset, "reset");
        assert_eq!(broken(reset), Cause::Broken("reset".to_owned()));
    }
}
