//! What a server sends, for fuzzing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use minidom::Element;
use tokio::sync::watch;
use xmpp_parsers::sm::{Enabled, StreamId};

use super::{
    MucCounts,
    room::Room,
    rooms::Rooms,
    session::{Out, Session},
};
use crate::{
    config::{Secret, XmppClient, XmppSecurity},
    fuzzing::script::Script,
    xmpp::{
        Answers, Limits,
        driver::{Driver, SessionState},
        login::{self, Account, LoggedIn},
        offline::{Scripted, parse, run},
        sasl::{Exchange, best},
        wire::{Kind, open},
    },
};

/// Bytes to a login, and to a session when it comes to one; or, with `logged_in`, to a session at once.
pub(crate) fn bytes(data: &[u8], logged_in: bool, answers: Arc<dyn Answers>) {
    let client = XmppClient {
        id: "a".into(),
        host: "localhost".into(),
        port: 5222,
        domain: "example.com".into(),
        username: "jvb".into(),
        password: Secret::new("secret"),
        rooms: vec!["brewery@example.com".into()],
        nickname: "jvb".into(),
        verify_certificate: true,
        security: XmppSecurity::Disabled,
        authorized: None,
    };
    let counts = MucCounts::default();
    let (_stats, published) = watch::channel(stats());
    let (_stop, stop) = watch::channel(false);
    let purpose = Rooms::new(&client, published, counts.clone());
    let account = Account::Client(Box::new(client), Some("bridge".into()));
    let io = Box::new(Scripted::new(data, 512));
    run(async {
        let entered = if logged_in {
            open(io, "example.com", Kind::Client).await.map(|opened| {
                let id = Some(StreamId("a".to_owned()));
                let counted = Enabled { id, location: None, max: None, resume: true };
                let jid = "jvb@example.com/1".to_owned();
                let session = login::Session::New { jid, counted: Some(counted) };
                LoggedIn { wire: opened.without_features(), session }
            })
        } else {
            account.enter_over(io, None).await
        };
        let Ok(entered) = entered else { return };
        let mut driver = Driver { account, answers, authorized: None, purpose, stop };
        let end = driver.serve(entered, &mut SessionState::default()).await;
        assert!(end.is_err(), "nobody has told it to leave");
        assert!(counts.read().joined <= 1);
    });
}

/// A server's side of a SASL exchange: the first byte chooses the mechanism, lines are challenges, and the
/// last one ends the exchange.
pub(crate) fn sasl(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let offered = ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"];
    let offered = offered.get(usize::from(*first) % 3).copied();
    let Some(mechanism) = best(&offered.into_iter(), true) else { return };
    let Ok(mut sasl) = Exchange::new(&mechanism, "jvb", "secret") else { return };
    let mut proven = false;
    for line in rest.split(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(line);
        proven |= sasl.finish(line).is_ok();
        // Rounds of hashing are bounded, and take their time all the same.
        if text.split("i=").nth(1).is_some_and(|rounds| rounds.len() > 3) {
            continue;
        }
        let _ = sasl.respond(line);
        let _ = STANDARD.decode(line).map(|line| sasl.respond(&line));
    }
    assert!(!proven || offered == Some("PLAIN"), "nobody here knows the password");
}

/// Steps of a script.
const MAX_STEPS: usize = 64;
/// Most that one step makes a session do.
const MAX_OUT: usize = 16;
/// A session waits for no longer than for a room to be configured.
const MAX_WAIT: Duration = Duration::from_secs(36);

/// A server after login that sends and does anything: steps of one byte, and what each needs. Whatever it
/// sends, the session does little at each step, waits for a bounded time, makes progress when that time has
/// come, and writes what can be read.
pub(crate) fn server(data: &[u8]) {
    let mut script = Script(data);
    let mut now = Instant::now();
    // The corpus has a byte here that chose something once.
    script.any();
    let mut session = session(now);
    let mut asked = Vec::new();
    for _ in 0..MAX_STEPS {
        let Some(step) = script.byte() else { break };
        match step % 8 {
            0 => {
                now += Duration::from_millis(u64::from(script.any()) * 100);
                session.on_time(now);
            }
            1 => {
                // To the end of what it waits for.
                now = session.deadline().map_or(now, |due| now.max(due));
                session.on_time(now);
                assert!(session.deadline().is_none_or(|due| due > now), "nothing came of waiting");
            }
            2 if step > 250 => {
                now += Duration::from_secs(u64::from(script.any()));
                session.resumed(now);
            }
            2 => session.publish(stats(), now),
            3 if step > 250 => session.leave(),
            3 => hear(&mut session, script.bytes(), now),
            4 | 5 => hear(&mut session, presence(&mut script).as_bytes(), now),
            _ => hear(&mut session, iq(&mut script, &asked).as_bytes(), now),
        }
        let mut count = 0;
        while let Some(out) = session.next() {
            count += 1;
            let Out::Send(element) = out else { continue };
            asked.extend(element.attr("id").map(str::to_owned));
            let mut written = Vec::new();
            element.write_to(&mut written).expect("what is built can be written");
            assert!(written.len() < 64 << 10, "{} bytes", written.len());
            let read = parse(&written, "jabber:client", Limits::default());
            assert!(read.is_ok(), "what is written can be read");
        }
        assert!(count <= MAX_OUT, "{count} at once");
        assert!(session.joined() <= 1);
        assert!(session.deadline().is_none_or(|due| due <= now + MAX_WAIT));
    }
}

/// One stanza, or bytes that are none.
fn hear(session: &mut Session, bytes: &[u8], now: Instant) {
    if let Ok(stanza) = parse(bytes, "jabber:client", Limits::default()) {
        session.on_stanza(&stanza, now);
    }
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

fn stats() -> Element {
    Element::bare("stats", "http://jitsi.org/protocol/colibri")
}

fn session(now: Instant) -> Session {
    let room = Room::new("brewery@example.com", "jvb", now, || 0.5);
    Session::new(vec![room], stats(), now)
}
