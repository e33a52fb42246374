//! What a server sends, for fuzzing.

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use minidom::Element;

use super::{
    Account, Cause,
    login::{Bound, Login, Next},
    room::Room,
    sasl::{Mechanism, Sasl},
    session::{Out, Session},
};
use crate::{
    config::{Secret, XmppSecurity},
    fuzzing::script::Script,
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

/// Steps of a script.
const MAX_STEPS: usize = 64;
/// Most that one step makes a session do.
const MAX_OUT: usize = 16;
/// A session waits for no longer than a quiet server is asked after.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// A server that has let the bridge in, and says and does anything: steps of one byte, and what it needs.
/// Whatever it says, the session does little at each step, waits for a bounded time, makes progress when
/// that time has come, and writes what can be read.
pub(crate) fn server(data: &[u8]) {
    let mut script = Script(data);
    let mut now = Instant::now();
    let acks = script.any() & 1 == 0;
    let mut session = session(now, acks);
    let mut asked = Vec::new();
    for _ in 0..MAX_STEPS {
        let Some(step) = script.byte() else { break };
        let alive = match step % 8 {
            0 => {
                now += Duration::from_millis(u64::from(script.any()) * 100);
                session.on_time(now)
            }
            1 => {
                // To the end of what it waits for.
                now = now.max(session.deadline());
                let due = session.on_time(now);
                assert!(due.is_err() || session.deadline() > now, "nothing came of waiting");
                due
            }
            2 => {
                session.publish(Element::bare("stats", "http://jitsi.org/protocol/colibri"), now);
                Ok(())
            }
            3 if step > 250 => {
                session.leave();
                Ok(())
            }
            3 => hear(&mut session, script.bytes(), now),
            4 | 5 => hear(&mut session, presence(&mut script).as_bytes(), now),
            _ => hear(&mut session, iq(&mut script, &asked).as_bytes(), now),
        };
        if alive.is_err() {
            return;
        }
        let mut count = 0;
        while let Some(out) = session.next() {
            count += 1;
            let Out::Send(element) = out else { continue };
            asked.extend(element.attr("id").map(str::to_owned));
            let mut written = Vec::new();
            element.write_to(&mut written).expect("what is built can be written");
            assert!(written.len() < 64 << 10, "{} bytes", written.len());
            let read = crate::xmpp::parse(&written, "jabber:client", Limits::default());
            assert!(read.is_ok(), "what is written can be read");
        }
        assert!(count <= MAX_OUT, "{count} at once");
        assert!(session.joined() <= 1);
        assert!(session.deadline() <= now + MAX_WAIT);
    }
}

/// Bytes within a stream that is open.
fn hear(session: &mut Session, bytes: &[u8], now: Instant) -> Result<(), Cause> {
    const OPEN: &str = "<stream:stream xmlns='jabber:client' \
                        xmlns:stream='http://etherx.jabber.org/streams'>";
    let mut reader = StreamReader::new(Limits::default());
    let all = [OPEN.as_bytes(), bytes].concat();
    let mut rest = &all[..];
    // One thing at a time.
    for _ in 0..2 {
        let Ok(Some(event)) = reader.read(&mut rest) else { break };
        session.on_event(event, now)?;
    }
    Ok(())
}

fn presence(script: &mut Script<'_>) -> String {
    let kind = script.pick(&["", " type='unavailable'", " type='error'", " type='subscribe'"]);
    let from = script.pick(&["/jvb", "", "/other", "/jvb/x"]);
    let codes = ["110", "201", "301", "307", "332", "999"];
    let bits = script.any();
    let has = codes.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
    let codes: Vec<_> = has.map(|(_, code)| format!("<status code='{code}'/>")).collect();
    let codes = codes.concat();
    let destroy = if bits & 0x40 == 0 { "" } else { "<destroy><reason>over</reason></destroy>" };
    let error = script.pick(&["", "conflict", "item-not-found", "not-allowed", "forbidden"]);
    let error = if error.is_empty() {
        String::new()
    } else {
        format!("<error><{error} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>")
    };
    format!(
        "<presence from='brewery@example.com{from}'{kind}>\
         <x xmlns='http://jabber.org/protocol/muc#user'>{codes}{destroy}</x>{error}</presence>"
    )
}

/// A request, or an answer to one of ours.
fn iq(script: &mut Script<'_>, asked: &[String]) -> String {
    let kind = script.pick(&["result", "error", "get", "set"]);
    let from = script.pick(&["brewery@example.com", "brewery@example.com/focus", "example.com"]);
    let at = usize::from(script.any());
    let id = asked.len().checked_sub(1 + at % 4).and_then(|at| asked.get(at));
    let id = id.map_or("x", String::as_str);
    let content = script.pick(&[
        "",
        "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='form'>\
         <field var='muc#roomconfig_whois'/></x></query>",
        "<query xmlns='http://jabber.org/protocol/muc#owner'/>",
        "<error><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>",
        "<query xmlns='http://jabber.org/protocol/disco#info'/>",
        "<query xmlns='jabber:iq:version'/>",
        "<ping xmlns='urn:xmpp:ping'/>",
        "<healthcheck xmlns='http://jitsi.org/protocol/healthcheck'/>",
        "<conference-modify xmlns='jitsi:colibri2' meeting-id='m' create='true'/>",
        "<r xmlns='urn:xmpp:sm:3'/>",
    ]);
    if content.starts_with("<r ") {
        return content.to_owned();
    }
    format!("<iq type='{kind}' from='{from}' id='{id}'>{content}</iq>")
}

fn session(now: Instant, acks: bool) -> Session {
    let bound = Bound { jid: "jvb@example.com/1".to_owned(), acks };
    let (name, version, os) = ("Rialto".to_owned(), "1".to_owned(), "Linux".to_owned());
    let about = About { name, version, os, sign: false };
    let room = Room::new("brewery@example.com", "jvb", now, || 0.5);
    let stats = Element::bare("stats", "http://jitsi.org/protocol/colibri");
    Session::new(&bound, vec![room], about, stats, now)
}
