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
    prosody::{PATIENCE, Prosody},
};

/// Closed until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let open = self.0.0.lock().unwrap();
        drop(self.0.1.wait_timeout_while(open, PATIENCE, |open| !*open).unwrap());
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
            self.gate.pass();
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
    let slow = gate.clone();
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
        gate.open();
        for id in ["slow-1", "slow-2"] {
            let answer = next(&mut focus, &["slow-1", "slow-2"]);
            assert_eq!(answer.attr("id"), Some(id), "{}", String::from(&answer));
            assert_eq!(answer.attr("type"), Some("result"), "{}", String::from(&answer));
        }
    });
    asked.await.unwrap();
    here.xmpp.leave().await;
}
