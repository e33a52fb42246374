//! How a bridge comes, says how it is, goes, and comes back.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::mpsc,
    thread,
};

use super::{
    focus::{Focus, ROOM, Stats},
    here::{Here, NICK, client},
    prosody::Prosody,
};

/// A focus in the brewery.
fn focus(port: u16) -> Focus {
    let mut focus = Focus::log_in(port, "focus");
    focus.join("focus");
    focus
}

/// Statistics by which a focus chooses, of a bridge that may be chosen.
fn is_usable(stats: &Stats) -> bool {
    let is = |name, value| stats.get(name) == Some(value);
    is("drain", "false") && is("healthy", "true") && is("graceful_shutdown", "false")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_is_back_after_its_server() {
    let Some(mut prosody) = Prosody::start("") else { return };
    let port = prosody.port();
    // First in the room, it makes it and configures it: the focus can come in.
    let here = Here::start(client(port));
    here.joined().await;
    let seen = move || focus(port).stats(NICK, is_usable);
    let stats = tokio::task::spawn_blocking(seen).await.unwrap();
    assert_eq!(stats.get("version"), Some("2.3.SNAPSHOT"));
    prosody.kill();
    here.lost().await;
    prosody.launch();
    tokio::task::spawn_blocking(seen).await.unwrap();
    here.xmpp.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_is_told_at_once_and_a_bridge_leaves_by_its_name() {
    let Some(prosody) = Prosody::start("") else { return };
    let port = prosody.port();
    // Statistics are an hour apart: what comes sooner comes for a reason.
    let here = Here::start(client(port));
    here.joined().await;
    let mut focus = tokio::task::spawn_blocking(move || {
        let mut focus = focus(port);
        focus.stats(NICK, is_usable);
        focus
    })
    .await
    .unwrap();
    here.bridge.set_drain(true);
    let mut focus = tokio::task::spawn_blocking(move || {
        focus.stats(NICK, |stats| stats.get("drain") == Some("true"));
        focus
    })
    .await
    .unwrap();
    here.xmpp.leave().await;
    tokio::task::spawn_blocking(move || focus.sees_leave(NICK)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_bridges_of_one_name_are_one_in_the_room() {
    let Some(prosody) = Prosody::start("") else { return };
    let first = Here::start(client(prosody.port()));
    first.joined().await;
    let mut other = client(prosody.port());
    other.username = "focus".to_owned();
    let second = Here::start(other);
    second.connected().await;
    // Whoever was there stays.
    assert_eq!((first.xmpp.counts().read().joined, second.xmpp.counts().read().joined), (1, 0));
    first.xmpp.leave().await;
    second.joined().await;
    second.xmpp.leave().await;
}

/// What lies between a bridge and its server, and loses the bridge.
struct Between {
    port: u16,
    lose: mpsc::Sender<()>,
}

impl Between {
    /// `tells`: the server is told that the connection is lost.
    fn start(server: u16, tells: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (lose, lost) = mpsc::channel();
        thread::spawn(move || {
            let mut kept = Vec::new();
            for bridge in listener.incoming() {
                let bridge = bridge.unwrap();
                let to_server = TcpStream::connect(("127.0.0.1", server)).unwrap();
                carry(bridge.try_clone().unwrap(), to_server.try_clone().unwrap());
                carry(to_server.try_clone().unwrap(), bridge.try_clone().unwrap());
                if lost.recv().is_err() {
                    return;
                }
                if tells {
                    let _ = to_server.shutdown(Shutdown::Both);
                } else {
                    kept.push(to_server);
                }
                bridge.shutdown(Shutdown::Both).unwrap();
            }
        });
        Self { port, lose }
    }
}

/// Carries bytes one way, until the end of either.
fn carry(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        let mut buf = [0; 4096];
        while let Ok(len @ 1..) = from.read(&mut buf) {
            if to.write_all(&buf[..len]).is_err() {
                return;
            }
        }
    });
}

/// How the bridge came and went, as far as nobody waited for it. Of itself it may say something at any time.
fn presences(focus: &Focus) -> Vec<String> {
    let from = format!("{ROOM}/{NICK}");
    let said = focus.later().filter(|e| e.name() == "presence" && e.attr("from") == Some(&*from));
    said.filter(|e| Stats::of(e).is_none()).map(String::from).collect()
}

const HEALTH: &str = "<healthcheck xmlns='http://jitsi.org/protocol/healthcheck'/>";

/// In a call, nobody sees that the bridge's connection was cut: what is asked meanwhile is answered, and the
/// bridge neither leaves the room nor comes again (XEP-0198).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_loses_no_request_and_nobody_sees_it() {
    for tells in [true, false] {
        let Some(prosody) = Prosody::start("") else { return };
        let port = prosody.port();
        let mut focus = tokio::task::spawn_blocking(move || focus(port)).await.unwrap();
        let between = Between::start(port, tells);
        let here = Here::start(client(between.port));
        here.joined().await;
        let ask = |focus: &mut Focus, id: &str, inside: &str| {
            let to = format!("{ROOM}/{NICK}");
            focus.send(&format!("<iq type='get' id='{id}' to='{to}'>{inside}</iq>"));
        };
        let answered = |focus: &mut Focus, id: &str| {
            let answer = focus.next(|element| element.attr("id") == Some(id));
            assert_eq!(answer.attr("type"), Some("result"), "{}", String::from(&answer));
        };
        let call = |create: bool, endpoint: &str| {
            format!(
                "<conference-modify xmlns='jitsi:colibri2' meeting-id='m' create='{create}'>\
                 <endpoint id='{endpoint}' create='true'><transport ice-controlling='true'/>\
                 <capability name='source-names'/></endpoint></conference-modify>"
            )
        };
        let mut focus = tokio::task::spawn_blocking(move || {
            focus.stats(NICK, is_usable);
            ask(&mut focus, "call", &call(true, "a"));
            answered(&mut focus, "call");
            focus
        })
        .await
        .unwrap();
        let seen = presences(&focus).len();
        between.lose.send(()).unwrap();
        here.lost().await;
        let focus = tokio::task::spawn_blocking(move || {
            ask(&mut focus, "meanwhile-1", &call(false, "b"));
            ask(&mut focus, "meanwhile-2", HEALTH);
            answered(&mut focus, "meanwhile-1");
            answered(&mut focus, "meanwhile-2");
            ask(&mut focus, "after", HEALTH);
            answered(&mut focus, "after");
            focus
        })
        .await
        .unwrap();
        here.joined().await;
        let since = presences(&focus).split_off(seen);
        assert!(since.is_empty(), "the focus sees the bridge come or go: {since:?}");
        assert_eq!((here.bridge.stats().endpoints, here.xmpp.counts().read().disconnects), (2, 1));
        here.xmpp.leave().await;
    }
}

/// A server that has not noticed that a connection is dead would send it the focus's requests. Where it does
/// not keep sessions, the same resource takes its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_reach_the_living_connection_and_not_the_dead_one() {
    let Some(prosody) = Prosody::start("modules_disabled = { \"s2s\", \"offline\", \"smacks\" }")
    else {
        return;
    };
    let port = prosody.port();
    let mut focus = tokio::task::spawn_blocking(move || focus(port)).await.unwrap();
    let between = Between::start(port, false);
    let here = Here::start(client(between.port));
    here.joined().await;
    // Statistics follow the bridge's own presence: what is lost before them never reaches the focus.
    let mut focus = tokio::task::spawn_blocking(move || {
        focus.stats(NICK, is_usable);
        focus
    })
    .await
    .unwrap();
    between.lose.send(()).unwrap();
    here.lost().await;
    here.joined().await;
    assert_eq!(here.xmpp.counts().read().disconnects, 1);
    let ask = move || {
        focus.stats(NICK, is_usable);
        focus.send(&format!("<iq type='get' id='health' to='{ROOM}/{NICK}'>{HEALTH}</iq>"));
        let answer = focus.next(|element| element.attr("id") == Some("health"));
        assert_eq!(answer.attr("type"), Some("result"), "{}", String::from(&answer));
    };
    tokio::task::spawn_blocking(ask).await.unwrap();
    here.xmpp.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_client_is_in_several_breweries() {
    let Some(prosody) = Prosody::start("") else { return };
    let port = prosody.port();
    let mut client = client(port);
    client.rooms.push(ROOM.replacen("jvb", "other", 1));
    let rooms = client.rooms.clone();
    let here = Here::start(client);
    here.in_rooms(2).await;
    let see = move || {
        for (at, room) in rooms.iter().enumerate() {
            let mut focus = Focus::log_in(port, ["focus", "client"][at]);
            focus.enter(room, "focus");
            let from = format!("{room}/{NICK}");
            focus.next(|e| e.attr("from") == Some(&from) && String::from(e).contains("<stats"));
        }
    };
    tokio::task::spawn_blocking(see).await.unwrap();
    here.xmpp.leave().await;
}
