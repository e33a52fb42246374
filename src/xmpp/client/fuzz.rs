//! What a server sends, for fuzzing.

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use minidom::Element;

use super::{
    Account,
    login::{Bound, Login, Next},
    room::Room,
    sasl::{Mechanism, Sasl},
    session::Session,
};
use crate::{
    config::{Secret, XmppSecurity},
    xmpp::{Limits, StreamReader, iq::About},
};

/// Bytes to a login, and to a session when it comes to one; or, with `logged_in`, to a session at once.
pub(crate) fn bytes(data: &[u8], logged_in: bool) {
    let account = Account {
        domain: "example.com".into(),
        username: "jvb".into(),
        password: Secret::new("secret"),
        security: XmppSecurity::Disabled,
        resource: Some("bridge".into()),
    };
    let mut login = Login::new(account, [0; 18]);
    let mut now = Instant::now();
    let mut session = logged_in.then(|| session(now, true));
    let mut reader = StreamReader::new(Limits::default());
    let mut rest = data;
    while let Ok(Some(event)) = reader.read(&mut rest) {
        now += Duration::from_secs(1);
        let Some(session) = &mut session else {
            match login.on_event(event) {
                Ok(Next::Done(Bound { acks, .. })) => session = Some(self::session(now, acks)),
                Ok(Next::Encrypt) => drop(login.encrypted()),
                Ok(_) => {}
                Err(_) => return,
            }
            continue;
        };
        if session.on_event(event, now).is_err() || session.on_time(now).is_err() {
            return;
        }
        while session.next().is_some() {}
        assert!(session.joined() <= 1);
    }
}

/// What a server says in an exchange of passwords: the first byte chooses the mechanism, lines are
/// challenges, and the last one ends the exchange.
pub(crate) fn sasl(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let offered = ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"];
    let offered = offered.get(usize::from(*first) % 3).copied();
    let Some(mechanism) = Mechanism::best(offered.into_iter(), true) else { return };
    let mut sasl = Sasl::new(mechanism, "jvb", "secret", [0; 18]);
    let mut proven = false;
    for line in rest.split(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(line);
        proven |= sasl.finish(&STANDARD.encode(&*text)).is_ok() | sasl.finish(&text).is_ok();
        // Rounds of hashing are bounded, and take their time all the same.
        if text.split("i=").nth(1).is_some_and(|rounds| rounds.len() > 3) {
            continue;
        }
        let _ = (sasl.respond(&text), sasl.respond(&STANDARD.encode(&*text)));
    }
    assert!(!proven || mechanism == Mechanism::Plain, "nobody here knows the password");
}

fn session(now: Instant, acks: bool) -> Session {
    let bound = Bound { jid: "jvb@example.com/1".to_owned(), acks };
    let (name, version, os) = ("Rialto".to_owned(), "1".to_owned(), "Linux".to_owned());
    let about = About { name, version, os, sign: false };
    let room = Room::new("brewery@example.com", "jvb", now, || 0.5);
    let stats = Element::bare("stats", "http://jitsi.org/protocol/colibri");
    Session::new(&bound, vec![room], about, stats, now)
}
