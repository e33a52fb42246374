//! Logins at a server that the test scripts.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use minidom::Element;
use tokio::io::DuplexStream;
use tokio_rustls::{TlsAcceptor, rustls};
use xmpp_parsers::sm::{Enabled, StreamId};

use super::*;
use crate::{
    config::Secret,
    xmpp::{
        client::tests::client,
        component::Allowed,
        tests::{FakeServer, ends},
    },
};

const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const PLAIN: &str = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
                     <mechanism>PLAIN</mechanism></mechanisms>";
const SUCCESS: &str = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";
const BIND: &str = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>";
const SM: &str = "<sm xmlns='urn:xmpp:sm:3'/>";
const BOUND: &str = "<iq type='result' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
                     <jid>jvb@example.com/x</jid></bind></iq>";

fn account(security: XmppSecurity) -> Account {
    let client = XmppClient { security, verify_certificate: false, ..client() };
    Account::Client(Box::new(client), Some("bridge".to_owned()))
}

/// What a login comes to at a server that does as `far` does.
async fn enter<F: Future>(
    account: &Account,
    resume: Option<sm::Resume>,
    far: impl FnOnce(FakeServer<DuplexStream>) -> F,
) -> (Result<Session, Cause>, F::Output) {
    let (ours, theirs) = ends(1 << 16);
    let entered = async { account.enter_over(ours, resume).await.map(|entered| entered.session) };
    tokio::join!(entered, far(theirs))
}

fn text(element: &Element) -> String {
    String::from(element)
}

/// As far as the features of the stream that is logged in.
async fn authenticated(far: &mut FakeServer<DuplexStream>, offered: &str) {
    far.offer(PLAIN).await;
    far.next_named("auth").await;
    far.say(SUCCESS).await;
    far.offer(offered).await;
}

#[tokio::test]
async fn a_login_over_tls() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["example.com".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let far = async |mut far: FakeServer<DuplexStream>| {
        let head = far.open().await;
        assert_eq!(head.get(&minidom::rxml::Namespace::NONE, "to").unwrap(), "example.com");
        far.say(&format!("<stream:features>{STARTTLS}{PLAIN}</stream:features>")).await;
        far.next_named("starttls").await;
        // Bytes from before TLS are discarded.
        far.say("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
        let mut far = FakeServer::new(acceptor.accept(far.into_io()).await.unwrap());
        far.offer(PLAIN).await;
        let auth = far.next_named("auth").await;
        assert_eq!(STANDARD.decode(auth.text()).unwrap(), b"\0jvb\0secret");
        far.say(SUCCESS).await;
        far.offer(&format!("{BIND}{SM}")).await;
        let bind = far.next_named("iq").await;
        assert!(text(&bind).contains("<resource>bridge</resource>"), "{bind:?}");
        // A server that does not let it replace itself chooses.
        far.say(
            "<iq type='error' id='bind'><error type='cancel'>\
             <conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>",
        )
        .await;
        let bind = far.next_named("iq").await;
        assert!(!text(&bind).contains("resource"), "{bind:?}");
        far.say(BOUND).await;
        let enable = far.next_named("enable").await;
        assert_eq!(enable.attr("resume"), Some("true"));
        far.say("<enabled xmlns='urn:xmpp:sm:3' id='s1' resume='true' max='600'/>").await;
    };
    let (session, ()) = enter(&account(XmppSecurity::Required), None, far).await;
    let Session::New { jid, counted: Some(Enabled { id, resume: true, .. }) } = session.unwrap()
    else {
        panic!("not counted");
    };
    assert_eq!((&*jid, id), ("jvb@example.com/x", Some(StreamId("s1".to_owned()))));
}

#[tokio::test]
async fn no_password_goes_out_where_it_could_be_read() {
    let begin = async |security, offered: String| {
        let far = async |mut far: FakeServer<DuplexStream>| {
            far.offer(&offered).await;
            far.next().await.map(|element| element.name().to_owned())
        };
        enter(&account(security), None, far).await
    };
    let (refused, said) = begin(XmppSecurity::Required, PLAIN.to_owned()).await;
    assert_eq!((refused.unwrap_err(), said), (Cause::NoTls, None));
    let (refused, said) = begin(XmppSecurity::IfPossible, PLAIN.to_owned()).await;
    assert!(matches!(refused, Err(Cause::NoMechanism(_))) && said.is_none());
    let (_, said) = begin(XmppSecurity::Disabled, PLAIN.to_owned()).await;
    assert_eq!(said.as_deref(), Some("auth"));
    let (_, said) = begin(XmppSecurity::IfPossible, format!("{STARTTLS}{PLAIN}")).await;
    assert_eq!(said.as_deref(), Some("starttls"));
    let (_, said) = begin(XmppSecurity::Disabled, format!("{STARTTLS}{PLAIN}")).await;
    assert_eq!(said.as_deref(), Some("auth"));
}

#[tokio::test]
async fn a_refusal_is_named() {
    let refused = async |said: &str| {
        let far = async |mut far: FakeServer<DuplexStream>| {
            far.offer(PLAIN).await;
            far.next_named("auth").await;
            far.say(said).await;
        };
        enter(&account(XmppSecurity::Disabled), None, far).await.0.unwrap_err()
    };
    let failure = |condition: &str| {
        format!("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><{condition}/></failure>")
    };
    assert_eq!(refused(&failure("not-authorized")).await, Cause::Credentials);
    for condition in ["temporary-auth-failure", "of-its-own"] {
        let cause = refused(&failure(condition)).await;
        assert!(
            matches!(&cause, Cause::Refused { condition: said, .. } if said == condition),
            "{cause}"
        );
    }
    let error = |condition: &str| {
        format!(
            "<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
             <text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>a\nb</text></stream:error>"
        )
    };
    assert_eq!(refused(&error("host-unknown")).await, Cause::HostUnknown);
    let conflict = Cause::Stream { condition: "conflict".into(), text: "a\\nb".into() };
    assert_eq!(refused(&error("conflict")).await, conflict);
    assert_eq!(refused("</stream:stream>").await, Cause::Closed);
    let unbound = async |mut far: FakeServer<DuplexStream>| authenticated(&mut far, "").await;
    let (cause, ()) = enter(&account(XmppSecurity::Disabled), None, unbound).await;
    assert_eq!(cause.unwrap_err(), Cause::Protocol("the server binds no resources".into()));
    for early in [
        "<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>?</challenge>",
        "<a><!-- --></a>",
    ] {
        let cause = refused(early).await;
        assert!(matches!(cause, Cause::Protocol(_)), "{early}: {cause}");
    }
    let challenge = "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";
    assert_eq!(refused(challenge).await, Cause::Sasl(crate::xmpp::sasl::SaslError::Challenge));
    let other = async |mut far: FakeServer<DuplexStream>| far.say("<html xmlns='x'>").await;
    let (cause, ()) = enter(&account(XmppSecurity::Disabled), None, other).await;
    assert!(matches!(cause, Err(Cause::Protocol(_))));
}

#[tokio::test]
async fn a_server_that_cannot_show_that_it_knows_the_password_is_not_the_server() {
    let far = async |mut far: FakeServer<DuplexStream>| {
        far.offer(&PLAIN.replace("PLAIN", "SCRAM-SHA-1")).await;
        let auth = far.next_named("auth").await;
        let initial = String::from_utf8(STANDARD.decode(auth.text()).unwrap()).unwrap();
        let nonce = initial.split(",r=").nth(1).unwrap();
        let challenge = STANDARD.encode(format!("r={nonce}x,s=c2FsdA==,i=4096"));
        let sasl = "urn:ietf:params:xml:ns:xmpp-sasl";
        far.say(&format!("<challenge xmlns='{sasl}'>{challenge}</challenge>")).await;
        far.next_named("response").await;
        let wrong = STANDARD.encode("v=c2lnbmF0dXJl");
        far.say(&format!("<success xmlns='{sasl}'>{wrong}</success>")).await;
    };
    let (cause, ()) = enter(&account(XmppSecurity::Disabled), None, far).await;
    let not_the_server = Cause::Sasl(crate::xmpp::sasl::SaslError::NotTheServer);
    assert_eq!(cause.unwrap_err(), not_the_server);
}

#[tokio::test]
async fn a_session_that_was_lost_goes_on_where_the_server_still_has_it() {
    let resume = || sm::Resume { h: 7, previd: StreamId("s1".to_owned()) };
    let account = account(XmppSecurity::Disabled);
    let far = async |mut far: FakeServer<DuplexStream>| {
        authenticated(&mut far, &format!("{BIND}{SM}")).await;
        let resume = far.next_named("resume").await;
        assert_eq!((resume.attr("h"), resume.attr("previd")), (Some("7"), Some("s1")));
        far.say("<resumed xmlns='urn:xmpp:sm:3' h='3' previd='s1'/>").await;
    };
    let (session, ()) = enter(&account, Some(resume()), far).await;
    assert!(matches!(session.unwrap(), Session::Resumed(3)));
    // With and without a count; the library wants one.
    let without: Element = "<failed xmlns='urn:xmpp:sm:3'/>".parse().unwrap();
    assert!(sm::Failed::try_from(without).is_err());
    for failed in ["<failed xmlns='urn:xmpp:sm:3'/>", "<failed xmlns='urn:xmpp:sm:3' h='3'/>"] {
        let far = async |mut far: FakeServer<DuplexStream>| {
            authenticated(&mut far, &format!("{BIND}{SM}")).await;
            far.next_named("resume").await;
            far.say(failed).await;
            far.next_named("iq").await;
            far.say(BOUND).await;
            far.next_named("enable").await;
            far.say(failed).await;
        };
        let (session, ()) = enter(&account, Some(resume()), far).await;
        assert!(matches!(session.unwrap(), Session::New { counted: None, .. }));
    }
    let far = async |mut far: FakeServer<DuplexStream>| {
        authenticated(&mut far, BIND).await;
        far.next_named("iq").await;
        far.say(BOUND).await;
    };
    let (session, ()) = enter(&account, Some(resume()), far).await;
    assert!(matches!(session.unwrap(), Session::New { counted: None, .. }), "it has none");
}

fn component() -> Account {
    Account::Component(Box::new(ComponentConfig {
        host: "localhost".into(),
        port: 5347,
        domain: Some("example.com".into()),
        subdomain: "jvb".into(),
        secret: Secret::new("test"),
        allowed: Allowed::default(),
        publish: Vec::new(),
    }))
}

#[tokio::test]
async fn the_handshake_is_that_of_the_specification() {
    let far = async |far: FakeServer<DuplexStream>| {
        let mut far = far.of_component();
        let head = far.open().await;
        assert_eq!(head.get(&minidom::rxml::Namespace::NONE, "to").unwrap(), "jvb.example.com");
        let handshake = far.next_named("handshake").await;
        assert_eq!(handshake.text(), "aaee83c26aeeafcbabeabfcbcd50df997e0a2a1e");
        far.say("<handshake/>").await;
    };
    let (session, ()) = enter(&component(), None, far).await;
    let Session::New { jid, counted: None } = session.unwrap() else { panic!("counted") };
    assert_eq!(jid, "example.com", "as the server says");
}

#[tokio::test]
async fn each_refusal_of_a_component_has_its_cause() {
    let refused = async |said: &str| {
        let far = async |far: FakeServer<DuplexStream>| {
            let mut far = far.of_component();
            far.open().await;
            far.next_named("handshake").await;
            far.say(said).await;
        };
        enter(&component(), None, far).await.0.unwrap_err()
    };
    let text =
        "<text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>Given token does not match</text>";
    let refusal = format!(
        "<stream:error><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>{text}\
         </stream:error>"
    );
    let cause = refused(&refusal).await.to_string();
    assert!(cause.contains("refused the secret") && cause.contains("does not match"), "{cause}");
    assert_eq!(refused("<early xmlns='x'/></stream:stream>").await, Cause::Closed);
    assert!(matches!(refused("<iq></message>").await, Cause::Protocol(_)));
}
