//! Requests of one conference wait for each other, and nobody else does.

use std::sync::{Arc, Condvar, Mutex};

use minidom::Element;
use rialto::{
    bridge::{CreateTransport, RestartAnswer, TransportPort},
    colibri::IceUdp,
};
use rialto_media::EndpointId;
use rialto_transport::{TransportCounters, Transports};
use serde_json::Value;

use super::{
    focus::{Focus, ROOM},
    here::{Here, NICK, client},
    prosody::Prosody,
};

/// Closed until it is opened, however long that takes.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn pass(&self) {
        let open = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(open, |open| !*open).unwrap());
    }
}

/// Who can open it. A test that fails opens it too, or its runtime would never end.
struct Key(Gate);

impl Drop for Key {
    fn drop(&mut self) {
        *self.0.0.0.lock().unwrap() = true;
        self.0.0.1.notify_all();
    }
}

/// Transports of which one takes its time to be made: that of an endpoint `slow`.
struct Slow {
    gate: Gate,
    inner: Transports,
}

impl TransportPort for Slow {
    fn create(&self, endpoint: EndpointId, create: CreateTransport, label: Arc<str>) {
        if label.ends_with("/slow") {
            // Else what this thread of the runtime was to do next would wait with it: no other takes over
            // the task that was woken last.
            tokio::task::block_in_place(|| self.gate.pass());
        }
        TransportPort::create(&self.inner, endpoint, create, label);
    }

    fn set_remote(&self, endpoint: EndpointId, remote: &IceUdp) {
        TransportPort::set_remote(&self.inner, endpoint, remote);
    }

    fn restart_ice(&self, endpoint: EndpointId) -> RestartAnswer {
        TransportPort::restart_ice(&self.inner, endpoint)
    }

    fn describe(&self, endpoint: EndpointId) -> Option<IceUdp> {
        TransportPort::describe(&self.inner, endpoint)
    }

    fn remove(&self, endpoint: EndpointId) {
        TransportPort::remove(&self.inner, endpoint);
    }

    fn debug(&self, endpoint: EndpointId) -> Value {
        TransportPort::debug(&self.inner, endpoint)
    }

    fn counters(&self) -> TransportCounters {
        TransportPort::counters(&self.inner)
    }
}

fn ask(focus: &mut Focus, id: &str, inside: &str) {
    focus.send(&format!("<iq type='get' id='{id}' to='{ROOM}/{NICK}'>{inside}</iq>"));
}

/// The next answer to any of these.
fn next(focus: &mut Focus, ids: &[&str]) -> Element {
    focus.next(|element| {
        element.name() == "iq" && element.attr("id").is_some_and(|id| ids.contains(&id))
    })
}

fn creation(meeting: &str, endpoint: &str) -> String {
    format!(
        "<conference-modify xmlns='jitsi:colibri2' meeting-id='{meeting}' create='true'>\
         <endpoint id='{endpoint}' create='true'><transport ice-controlling='true'/>\
         <capability name='source-names'/></endpoint></conference-modify>"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slow_conference_delays_itself_alone() {
    let Some(prosody) = Prosody::start("") else { return };
    let gate = Gate::default();
    let (slow, key) = (gate.clone(), Key(gate));
    let here = Here::over(client(prosody.port()), |inner| Slow { gate: slow, inner });
    here.joined().await;
    let port = prosody.port();
    let asked = tokio::task::spawn_blocking(move || {
        let mut focus = Focus::log_in(port, "focus");
        focus.join("focus");
        focus.stats(NICK, |_| true);
        ask(&mut focus, "slow-1", &creation("slow", "slow"));
        let mute = "<conference-modify xmlns='jitsi:colibri2' meeting-id='slow'>\
                    <endpoint id='slow'><force-mute audio='true'/></endpoint></conference-modify>";
        ask(&mut focus, "slow-2", mute);
        let health = "<healthcheck xmlns='http://jitsi.org/protocol/healthcheck'/>";
        for round in 0..20 {
            let ids = [format!("health-{round}"), format!("other-{round}")];
            ask(&mut focus, &ids[0], health);
            ask(&mut focus, &ids[1], &creation(&format!("other-{round}"), "quick"));
            for id in &ids {
                let answer = next(&mut focus, &[id, "slow-1", "slow-2"]);
                assert_eq!(answer.attr("id"), Some(id.as_str()), "{}", String::from(&answer));
                assert_eq!(answer.attr("type"), Some("result"), "{}", String::from(&answer));
            }
        }
        drop(key);
        for id in ["slow-1", "slow-2"] {
            let answer = next(&mut focus, &["slow-1", "slow-2"]);
            assert_eq!(answer.attr("id"), Some(id), "{}", String::from(&answer));
            assert_eq!(answer.attr("type"), Some("result"), "{}", String::from(&answer));
        }
    });
    asked.await.unwrap();
    here.xmpp.leave().await;
}
