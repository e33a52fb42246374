//! Why there is no connection.

use std::io::{self, ErrorKind};

use minidom::rxml;
use tokio_xmpp::xmlstream::{ReadError, RecvFeaturesError};
use xmpp_parsers::stream_error::{DefinedCondition, StreamError};

use super::{sasl::SaslError, stanza::shown};

/// Why there is no connection. Each text names what an operator has to check.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// DNS has no address of the host.
    #[error("the host name has no address: {0}")]
    Unresolved(String),
    /// No TCP connection.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// TLS did not begin, or the certificate is not good.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// TLS is required here and not offered there.
    #[error("the server offers no TLS, and SECURITY_MODE is required")]
    NoTls,
    /// No mechanism in common. PLAIN is only used over TLS, or where TLS is disabled.
    #[error("the server offers no way to log in that can be used here: {0:?}")]
    NoMechanism(String),
    /// The server refuses the credentials.
    #[error("wrong user name or password")]
    Credentials,
    /// The server does not know this component, or its secret.
    #[error("the server refused the secret, or does not know this component: {0}")]
    Secret(String),
    /// The server's side of the login is invalid.
    #[error("login failed: {0}")]
    Sasl(#[from] SaslError),
    /// The server does not serve the domain.
    #[error("the server does not know this domain (host-unknown): is DOMAIN right?")]
    HostUnknown,
    /// The server refused something else.
    #[error("{what} refused: {condition} {text}")]
    Refused {
        /// What.
        what: &'static str,
        /// The condition's name.
        condition: String,
        /// The server's words.
        text: String,
    },
    /// The server ended the stream with an error.
    #[error("the server ended the stream: {condition} {text}")]
    Stream {
        /// The condition's name.
        condition: String,
        /// The server's words.
        text: String,
    },
    /// The server violated the protocol.
    #[error("not understood: {0}")]
    Protocol(String),
    /// The login took too long.
    #[error("the server did not answer in time")]
    Timeout,
    /// The server does not answer pings.
    #[error("the server is silent")]
    Silent,
    /// The server does not read what is sent.
    #[error("the server does not read")]
    Slow,
    /// The connection or the stream was closed.
    #[error("the server closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl Cause {
    /// Whether the session may be resumed over another connection (XEP-0198 section 5). Not if a received
    /// element was the cause: it would come again.
    pub(super) fn leaves_session(&self) -> bool {
        matches!(self, Self::Silent | Self::Closed | Self::Broken(_))
    }

    /// The cause of a stream error (RFC 6120 section 4.9).
    pub(super) fn of_stream(error: &StreamError) -> Self {
        if error.condition == DefinedCondition::HostUnknown {
            return Self::HostUnknown;
        }
        let text = error.texts.values().next().map_or("", String::as_str);
        Self::Stream { condition: shown(&error.condition.to_string()), text: shown(text) }
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        let parser = error.get_ref().and_then(|inner| inner.downcast_ref::<rxml::Error>());
        match (error.kind(), parser) {
            // TLS without a close notification, as from a server that was killed; and a stream without an
            // end.
            (ErrorKind::UnexpectedEof, _) | (_, Some(rxml::Error::InvalidEof(_))) => Self::Closed,
            (ErrorKind::InvalidData, _) => Self::Protocol(shown(&error.to_string())),
            _ => Self::Broken(error.to_string()),
        }
    }
}

impl From<ReadError> for Cause {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::HardError(error) => error.into(),
            ReadError::ParseError(error) => Self::Protocol(shown(&error.to_string())),
            ReadError::StreamFooterReceived => Self::Closed,
            ReadError::SoftTimeout => Self::Silent,
        }
    }
}

impl From<RecvFeaturesError> for Cause {
    fn from(error: RecvFeaturesError) -> Self {
        match error {
            RecvFeaturesError::Io(error) => error.into(),
            RecvFeaturesError::StreamError(error) => Self::of_stream(&error.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_that_is_cut_off_is_a_closed_connection() {
        let cut = io::Error::new(ErrorKind::UnexpectedEof, "see https://example.com");
        assert_eq!(Cause::from(cut), Cause::Closed);
        let reset = io::Error::new(ErrorKind::ConnectionReset, "reset");
        assert_eq!(Cause::from(reset), Cause::Broken("reset".to_owned()));
    }
}
