//! From an address to a session: TCP, TLS, SASL and a resource (RFC 6120 sections 4 to 7), with a resumable
//! session where the server supports it (XEP-0198); or a component's handshake (XEP-0114).

use std::time::Duration;

use minidom::Element;
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use xmpp_parsers::{
    bind::{BindQuery, BindResponse},
    component::Handshake,
    ns,
    sasl::{Auth, DefinedCondition, Failure, Nonza, Response},
    sm,
    stanza_error::DefinedCondition as StanzaCondition,
    starttls::{Nonza as Tls, Request},
    stream_features::StreamFeatures,
};

use super::{
    acks,
    bounded::Io,
    cause::Cause,
    component::ComponentConfig,
    connect::{ConnectError, PER_ADDRESS, connect_any},
    sasl::{Exchange, best},
    stanza::{CLIENT, Inbound, Stanza, iq, named, shown, stanza_error},
    tls,
    wire::{Event, Kind, Wire, open},
};
use crate::config::{XmppClient, XmppSecurity};

/// Logging in takes no longer than this.
const PATIENCE: Duration = Duration::from_secs(15);
/// The id of the request for a resource.
const BIND_ID: &str = "bind";

/// The account that connects.
#[derive(Clone, Debug)]
pub(super) enum Account {
    /// A user, with the resource to bind; one of the server's choice otherwise.
    Client(Box<XmppClient>, Option<String>),
    /// A component.
    Component(Box<ComponentConfig>),
}

/// A connection that has logged in.
pub(super) struct LoggedIn {
    pub wire: Wire,
    pub session: Session,
}

/// The session of a connection.
#[derive(Debug)]
pub(super) enum Session {
    /// The previous session was resumed. The server has received this many stanzas of it.
    Resumed(u32),
    /// A new one.
    New {
        /// Our address, as the server gave it.
        jid: String,
        /// Stanzas are counted in it.
        counted: Option<sm::Enabled>,
    },
}

impl Account {
    pub(super) fn is_component(&self) -> bool {
        matches!(self, Self::Component(_))
    }

    /// The address for pings: the server, which a component has to name.
    pub(super) fn pinged(&self) -> Option<&str> {
        match self {
            Self::Client(..) => None,
            Self::Component(component) => {
                Some(component.domain.as_deref().unwrap_or(&component.host))
            }
        }
    }

    /// Host and port.
    pub(super) fn server(&self) -> (&str, u16) {
        match self {
            Self::Client(client, _) => (&client.host, client.port),
            Self::Component(component) => (&component.host, component.port),
        }
    }

    /// Connects and logs in; with the session that was lost, if the server still has it.
    pub(super) async fn enter(&self, resume: Option<sm::Resume>) -> Result<LoggedIn, Cause> {
        let socket = connect(self.server()).await?;
        let entered = timeout(PATIENCE, self.enter_over(Box::new(socket), resume));
        entered.await.map_err(|_| Cause::Timeout)?
    }

    /// The same over a connection.
    pub(super) async fn enter_over(
        &self,
        io: Box<dyn Io>,
        resume: Option<sm::Resume>,
    ) -> Result<LoggedIn, Cause> {
        match self {
            Self::Client(client, resource) => log_in(client, resource.clone(), io, resume).await,
            Self::Component(component) => component_handshake(component, io).await,
        }
    }
}

async fn connect((host, port): (&str, u16)) -> Result<TcpStream, Cause> {
    let connected = connect_any(host, port, PER_ADDRESS).await;
    connected.map_err(|error| match error {
        ConnectError::Unresolved(error) => Cause::Unresolved(error.to_string()),
        ConnectError::Refused(error) => Cause::Connect(error.to_string()),
    })
}

/// The digest is of the stream's id and the secret.
async fn component_handshake(
    component: &ComponentConfig,
    io: Box<dyn Io>,
) -> Result<LoggedIn, Cause> {
    let secret = |cause| match cause {
        Cause::Stream { condition, text } => {
            Cause::Secret([condition, text].join(" ").trim().to_owned())
        }
        Cause::HostUnknown => Cause::Secret("host-unknown".to_owned()),
        cause => cause,
    };
    let opened = open(io, &component.jid(), Kind::Component).await?;
    let (id, name) = opened.id_and_name();
    let mut wire = opened.without_features();
    wire.send(Handshake::from_stream_id_and_password(id, component.secret.reveal()));
    loop {
        match wire.next().await {
            Ok(Event::Nonza(Inbound::Handshake)) => break,
            // A server may send other elements before; nothing is addressed to us yet.
            Ok(_) => {}
            Err(cause) => return Err(secret(cause)),
        }
    }
    // The server's name for us takes precedence (XEP-0114 section 3).
    let jid = name.unwrap_or_else(|| component.jid());
    Ok(LoggedIn { wire, session: Session::New { jid, counted: None } })
}

async fn log_in(
    client: &XmppClient,
    resource: Option<String>,
    io: Box<dyn Io>,
    resume: Option<sm::Resume>,
) -> Result<LoggedIn, Cause> {
    let (features, wire) = open(io, &client.domain, Kind::Client).await?.features().await?;
    let encrypts = features.can_starttls() && client.security != XmppSecurity::Disabled;
    let (features, mut wire) = if encrypts {
        let io = encrypt(client, wire).await?;
        open(io, &client.domain, Kind::Client).await?.features().await?
    } else if client.security == XmppSecurity::Required {
        return Err(Cause::NoTls);
    } else {
        (features, wire)
    };
    // Otherwise an attacker on the path could remove STARTTLS and read the password.
    let plain = encrypts || client.security == XmppSecurity::Disabled;
    authenticate(client, &features, &mut wire, plain).await?;
    let (features, mut wire) = wire.restart(&client.domain).await?.features().await?;
    let session = begin(&mut wire, &features, resource, resume).await?;
    Ok(LoggedIn { wire, session })
}

/// The certificate is that of the domain, wherever it is served (RFC 6120 section 13.7.2).
async fn encrypt(client: &XmppClient, mut wire: Wire) -> Result<Box<dyn Io>, Cause> {
    wire.send(Request);
    match wire.next().await? {
        Event::Nonza(Inbound::Tls(Tls::Proceed(_))) => {}
        Event::Nonza(Inbound::Tls(Tls::Failure(_))) => {
            return Err(Cause::Tls("the server cannot begin it".to_owned()));
        }
        other => return Err(unexpected(&other)),
    }
    let name = ServerName::try_from(client.domain.clone())
        .map_err(|error| Cause::Tls(format!("{}: {error}", client.domain)))?;
    let stream = tls::connector(client.verify_certificate)?
        .connect(name, wire.into_io())
        .await
        .map_err(|error| tls::cause(&client.domain, &error))?;
    Ok(Box::new(stream))
}

async fn authenticate(
    client: &XmppClient,
    features: &StreamFeatures,
    wire: &mut Wire,
    plain: bool,
) -> Result<(), Cause> {
    let offered = features.sasl_mechanisms.iter().map(String::as_str);
    let mechanism = best(&offered, plain)
        .ok_or_else(|| Cause::NoMechanism(shown(&offered.collect::<Vec<_>>().join(" "))))?;
    let mut exchange = Exchange::new(&mechanism, &client.username, client.password.reveal())?;
    wire.send(Auth { mechanism, data: exchange.initial() });
    loop {
        match wire.next().await? {
            Event::Nonza(Inbound::Sasl(Nonza::Challenge(challenge))) => {
                wire.send(Response { data: exchange.respond(&challenge.data)? });
            }
            Event::Nonza(Inbound::Sasl(Nonza::Success(success))) => {
                return Ok(exchange.finish(&success.data)?);
            }
            Event::Nonza(Inbound::Sasl(Nonza::Failure(failure))) => return Err(refused(failure)),
            other => return Err(unexpected(&other)),
        }
    }
}

fn refused(failure: Failure) -> Cause {
    let text = failure.texts.values().next().map_or("", String::as_str);
    match failure.defined_condition {
        DefinedCondition::NotAuthorized
        | DefinedCondition::CredentialsExpired
        | DefinedCondition::AccountDisabled => Cause::Credentials,
        condition => {
            Cause::Refused { what: "login", condition: named(condition), text: shown(text) }
        }
    }
}

/// Resumes the lost session, or binds a new one.
async fn begin(
    wire: &mut Wire,
    features: &StreamFeatures,
    resource: Option<String>,
    resume: Option<sm::Resume>,
) -> Result<Session, Cause> {
    let counts = features.stream_management.is_some();
    if let Some(resume) = resume.filter(|_| counts) {
        wire.send(resume);
        match wire.next().await? {
            Event::Nonza(Inbound::Acks(sm::Nonza::Resumed(resumed))) => {
                return Ok(Session::Resumed(resumed.h));
            }
            // The server has forgotten it.
            failed if is_failed(&failed) => {}
            other => return Err(unexpected(&other)),
        }
    }
    if !features.can_bind() {
        return Err(Cause::Protocol("the server binds no resources".to_owned()));
    }
    let jid = bind(wire, resource).await?;
    if !counts {
        return Ok(Session::New { jid, counted: None });
    }
    wire.send(acks::enable());
    match wire.next().await? {
        Event::Nonza(Inbound::Acks(sm::Nonza::Enabled(enabled))) => {
            Ok(Session::New { jid, counted: Some(enabled) })
        }
        failed if is_failed(&failed) => Ok(Session::New { jid, counted: None }),
        other => Err(unexpected(&other)),
    }
}

/// The library wants a count in it, which few servers send.
fn is_failed(event: &Event) -> bool {
    match event {
        Event::Nonza(Inbound::Acks(nonza)) => matches!(nonza, sm::Nonza::Failed(_)),
        Event::Stanza(stanza) => stanza.element().is("failed", ns::SM),
        Event::Nonza(_) => false,
    }
}

async fn bind(wire: &mut Wire, mut resource: Option<String>) -> Result<String, Cause> {
    loop {
        wire.send(iq("set", BIND_ID, None, BindQuery::new(resource.clone())));
        let answer = match wire.next().await? {
            Event::Stanza(Stanza::Whole(answer)) if answer.is("iq", CLIENT) => answer,
            other => return Err(unexpected(&other)),
        };
        if answer.attr("type") == Some("result") && answer.attr("id") == Some(BIND_ID) {
            let bound = answer.children().find_map(|c| BindResponse::try_from(c.clone()).ok());
            if let Some(bound) = bound {
                return Ok(bound.jid.to_string());
            }
        }
        let condition = stanza_error(&answer);
        // A server that keeps the older of two: then it may choose.
        if condition != StanzaCondition::Conflict || resource.take().is_none() {
            return Err(Cause::Protocol(format!("no resource: {}", named(condition))));
        }
    }
}

/// An unexpected event during login: no peer knows our address yet, so nothing else can be for us.
fn unexpected(event: &Event) -> Cause {
    match event {
        Event::Stanza(Stanza::Refused { fault, .. }) => Cause::Protocol(fault.to_string()),
        Event::Stanza(Stanza::Whole(element)) if element.is("failure", ns::SASL) => {
            let condition = element.children().next().map_or("", Element::name);
            Cause::Refused { what: "login", condition: shown(condition), text: String::new() }
        }
        Event::Stanza(Stanza::Whole(element)) => {
            Cause::Protocol(format!("<{}> was not expected", shown(element.name())))
        }
        Event::Nonza(heard) => Cause::Protocol(format!("{} was not expected", heard.name())),
    }
}

#[cfg(test)]
mod tests;
