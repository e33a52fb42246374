//! A focus: it does what the first focuses did, on one thread.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use minidom::Element;
use rialto_load::colibri::{AUDIO_LEVEL, OPUS, RTX, TRANSPORT_CC, VIDEO};

use crate::{
    prosody::{COMPONENT, NODE, PUBSUB},
    wire::Connection,
};

/// The focus's address.
pub(crate) const FOCUS: &str = "focus@auth.jitsi.local/focus";
/// The room.
pub(crate) const ROOM: &str = "talk@internal.auth.jitsi.local";
pub(crate) const JINGLE: &str = "urn:xmpp:jingle:1";

const COLIBRI: &str = "http://jitsi.org/protocol/colibri";
const ICE: &str = "urn:xmpp:jingle:transports:ice-udp:1";
const HEALTH: &str = "http://jitsi.org/protocol/healthcheck";
const RTP: &str = "urn:xmpp:jingle:apps:rtp:1";
const MUC_USER: &str = "http://jabber.org/protocol/muc#user";

/// What the focus knows, for the test.
#[derive(Clone, Default)]
pub(crate) struct Load(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// The latest statistics.
    stats: BTreeMap<String, String>,
    owners: Vec<String>,
    stop: bool,
}

impl Load {
    /// What the bridge said last in the node.
    pub(crate) fn stat(&self, name: &str) -> Option<String> {
        self.0.lock().unwrap().stats.get(name).cloned()
    }

    /// Participants that were made owners.
    pub(crate) fn owners(&self) -> Vec<String> {
        self.0.lock().unwrap().owners.clone()
    }

    /// The focus ends.
    pub(crate) fn stop(&self) {
        self.0.lock().unwrap().stop = true;
    }

    /// Nothing is known any more.
    fn forget(&self) {
        let mut known = self.0.lock().unwrap();
        known.stats.clear();
        known.stop = false;
    }
}

/// Starts a focus.
pub(crate) fn start(server: u16, load: Load) -> JoinHandle<Focus> {
    std::thread::spawn(move || {
        let connection = Connection::log_in(server, "focus", "focus");
        let mut focus = Focus {
            connection,
            load,
            ids: 0,
            in_room: false,
            met: false,
            occupants: BTreeMap::new(),
            conference: None,
        };
        focus.subscribe();
        focus.serve();
        focus
    })
}

pub(crate) struct Focus {
    connection: Connection,
    load: Load,
    ids: usize,
    in_room: bool,
    /// The bridge was looked at.
    met: bool,
    /// By nickname, which is the endpoint's id.
    occupants: BTreeMap<String, Occupant>,
    /// The conference's id at the bridge.
    conference: Option<String>,
}

#[derive(Default)]
struct Occupant {
    /// Channels by content.
    channels: BTreeMap<String, String>,
}

impl Focus {
    fn serve(&mut self) {
        while !self.load.0.lock().unwrap().stop {
            // The node is published to all the time: there is always something.
            let element = self.connection.next(|_| true);
            self.on(&element);
        }
    }

    /// Its server has been away, and rooms with it: it comes back under its name, which owns its
    /// conference.
    pub(crate) fn resume(mut self, server: u16) -> JoinHandle<Self> {
        self.load.forget();
        std::thread::spawn(move || {
            self.connection = Connection::log_in(server, "focus", "focus");
            self.in_room = false;
            self.subscribe();
            self.serve();
            self
        })
    }

    /// The endpoints that the bridge has in the conference.
    pub(crate) fn endpoints(&mut self) -> Vec<String> {
        let id = self.conference.clone().unwrap();
        let look = format!("<conference xmlns='{COLIBRI}' id='{id}'/>");
        let answer = self.ask(COMPONENT, "set", &look);
        assert_eq!(answer.attr("type"), Some("result"), "{}", String::from(&answer));
        let conference = answer.children().next().unwrap();
        let endpoints = conference.children().filter(|child| child.name() == "endpoint");
        endpoints.map(|endpoint| endpoint.attr("id").unwrap().to_owned()).collect()
    }

    /// Which way somebody's audio goes from now on, as the bridge sees it.
    pub(crate) fn direct_audio(&mut self, nick: &str, direction: &str) {
        let (id, channel) =
            (self.conference.clone().unwrap(), &self.occupants[nick].channels["audio"]);
        let update = format!(
            "<conference xmlns='{COLIBRI}' id='{id}'><content name='audio'>\
             <channel id='{channel}' direction='{direction}'/></content></conference>"
        );
        let answer = self.ask(COMPONENT, "set", &update);
        assert_eq!(answer.attr("type"), Some("result"), "{}", String::from(&answer));
    }

    /// Everybody is gone.
    pub(crate) fn end(&mut self) {
        for nick in self.occupants.keys().cloned().collect::<Vec<_>>() {
            self.gone(&nick);
        }
    }

    /// Asks and waits for the answer.
    fn ask(&mut self, to: &str, kind: &str, inside: &str) -> Element {
        self.ids += 1;
        let id = format!("f{}", self.ids);
        self.connection.send(&format!("<iq type='{kind}' id='{id}' to='{to}'>{inside}</iq>"));
        self.connection.next(|element| {
            element.name() == "iq"
                && element.attr("id") == Some(id.as_str())
                && matches!(element.attr("type"), Some("result" | "error"))
        })
    }

    /// Subscribes to the node, as soon as the bridge has made it.
    fn subscribe(&mut self) {
        let jid = self.connection.jid().to_owned();
        let subscribe = format!(
            "<pubsub xmlns='http://jabber.org/protocol/pubsub'>\
             <subscribe node='{NODE}' jid='{jid}'/></pubsub>"
        );
        while self.ask(PUBSUB, "set", &subscribe).attr("type") != Some("result") {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// A bridge is who publishes under its own name, can do what a bridge does, and is well.
    fn meet(&mut self, published: &Element) {
        assert_eq!(item(published).as_deref(), Some(COMPONENT));
        if self.met {
            return;
        }
        self.met = true;
        let info = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
        let info = String::from(&self.ask(COMPONENT, "get", info));
        for feature in [COLIBRI, ICE, "urn:xmpp:jingle:apps:dtls:0", HEALTH] {
            assert!(info.contains(feature), "{feature} in {info}");
        }
        let health = self.ask(COMPONENT, "get", &format!("<healthcheck xmlns='{HEALTH}'/>"));
        assert_eq!(health.attr("type"), Some("result"), "{}", String::from(&health));
    }

    fn on(&mut self, element: &Element) {
        let child = element.children().next();
        match (element.name(), child) {
            ("message", _) => {
                let said = stats(element);
                if !said.is_empty() {
                    self.meet(element);
                    self.load.0.lock().unwrap().stats = said;
                }
            }
            ("presence", _) => self.on_presence(element),
            ("iq", Some(child)) if child.is("conference", "http://jitsi.org/protocol/focus") => {
                self.on_conference_request(element);
            }
            ("iq", Some(child)) if child.attr("action") == Some("session-accept") => {
                self.on_accept(element, child);
            }
            _ => {}
        }
    }

    /// A client wants the conference: the room is there before it comes.
    fn on_conference_request(&mut self, iq: &Element) {
        if !self.in_room {
            self.connection.enter(ROOM, "focus");
            self.in_room = true;
        }
        let (id, from) = (iq.attr("id").unwrap(), iq.attr("from").unwrap());
        self.connection.send(&format!(
            "<iq type='result' id='{id}' to='{from}'>\
             <conference xmlns='http://jitsi.org/protocol/focus' ready='true' room='{ROOM}'/></iq>"
        ));
    }

    fn on_presence(&mut self, presence: &Element) {
        let Some(nick) = presence.attr("from").and_then(|from| from.strip_prefix(ROOM)) else {
            return;
        };
        let nick = nick.trim_start_matches('/').to_owned();
        if nick == "focus" {
            return;
        }
        if presence.attr("type") == Some("unavailable") {
            self.gone(&nick);
        } else if !self.occupants.contains_key(&nick) {
            self.come(&nick, presence);
        }
    }

    fn come(&mut self, nick: &str, presence: &Element) {
        if self.occupants.is_empty() {
            let user = presence.get_child("x", MUC_USER).unwrap();
            let item = user.get_child("item", MUC_USER).unwrap();
            let jid = item.attr("jid").unwrap().split('/').next().unwrap();
            let owner = format!(
                "<query xmlns='http://jabber.org/protocol/muc#admin'>\
                 <item affiliation='owner' jid='{jid}'/></query>"
            );
            let answer = self.ask(ROOM, "set", &owner);
            assert_eq!(answer.attr("type"), Some("result"), "{}", String::from(&answer));
            self.load.0.lock().unwrap().owners.push(nick.to_owned());
        }
        self.occupants.insert(nick.to_owned(), Occupant::default());
        match self.occupants.len() {
            1 => {}
            // The second one makes it a conference: for both.
            2 => {
                for nick in self.occupants.keys().cloned().collect::<Vec<_>>() {
                    self.invite(&nick);
                }
            }
            _ => self.invite(nick),
        }
    }

    /// Allocates channels for one, and offers it a session.
    fn invite(&mut self, nick: &str) {
        let id = self.conference.as_ref().map_or(String::new(), |id| format!("id='{id}'"));
        let contents: String = ["audio", "video"]
            .map(|media| {
                let format = format(media);
                format!(
                    "<content name='{media}'><channel endpoint='{nick}' channel-bundle-id='{nick}' \
                     initiator='true' expire='60' rtp-level-relay-type='translator'>{format}\
                     </channel></content>"
                )
            })
            .concat();
        let association = format!(
            "<content name='data'><sctpconnection endpoint='{nick}' channel-bundle-id='{nick}' \
             initiator='true' expire='60' port='5000'/></content>"
        );
        let answer = self.ask(
            COMPONENT,
            "set",
            &format!(
                "<conference xmlns='{COLIBRI}' name='talk' {id}>{contents}{association}\
                 <channel-bundle id='{nick}'><transport xmlns='{ICE}'>\
                 <fingerprint xmlns='urn:xmpp:jingle:apps:dtls:0' required='false'/>\
                 </transport></channel-bundle><endpoint id='{nick}'/></conference>"
            ),
        );
        assert_eq!(answer.attr("type"), Some("result"), "{}", String::from(&answer));
        let conference = answer.children().next().unwrap();
        self.conference = conference.attr("id").map(str::to_owned);
        let occupant = self.occupants.get_mut(nick).unwrap();
        for content in conference.children().filter(|child| child.name() == "content") {
            let channel = content.children().find(|c| c.attr("endpoint") == Some(nick)).unwrap();
            let (name, id) = (content.attr("name").unwrap(), channel.attr("id").unwrap());
            occupant.channels.insert(name.to_owned(), id.to_owned());
        }
        let bundle = conference
            .children()
            .find(|child| child.name() == "channel-bundle" && child.attr("id") == Some(nick))
            .unwrap();
        let transport = String::from(bundle.children().next().unwrap());
        let offered: String = ["audio", "video"]
            .map(|media| {
                let format = format(media);
                format!(
                    "<content name='{media}' creator='initiator' senders='both'>\
                     <description xmlns='{RTP}' media='{media}'>{format}</description>\
                     {transport}</content>"
                )
            })
            .concat();
        let map = "<sctpmap xmlns='urn:xmpp:jingle:transports:dtls-sctp:1' number='5000' \
                   protocol='webrtc-datachannel' streams='1024'/></transport>";
        let with_map = transport.replacen("</transport>", map, 1);
        let data = format!(
            "<content name='data' creator='initiator' senders='both'>\
             <description xmlns='{RTP}' media='application'/>{with_map}</content>"
        );
        let jingle = format!(
            "<jingle xmlns='{JINGLE}' action='session-initiate' initiator='{ROOM}/focus' \
             sid='{nick}'>{offered}{data}</jingle>"
        );
        let taken = self.ask(&format!("{ROOM}/{nick}"), "set", &jingle);
        assert_eq!(taken.attr("type"), Some("result"), "{}", String::from(&taken));
    }

    /// A client's transport and sources go to the bridge.
    fn on_accept(&mut self, iq: &Element, jingle: &Element) {
        let nick = jingle.attr("sid").unwrap().to_owned();
        // As occupants: addresses of the room, not of accounts.
        assert_eq!(iq.attr("from"), Some(format!("{ROOM}/{nick}").as_str()));
        let mut contents = Vec::new();
        let mut transport = String::new();
        for content in jingle.children() {
            let name = content.attr("name").unwrap();
            let channel = &self.occupants[&nick].channels[name];
            let description = content.children().find(|child| child.name() == "description");
            let sources: String =
                description.unwrap().children().map(String::from).collect::<Vec<_>>().concat();
            let format = format(name);
            contents.push(format!(
                "<content name='{name}'><channel id='{channel}' endpoint='{nick}' \
                 channel-bundle-id='{nick}'>{format}{sources}</channel></content>"
            ));
            let of = content.children().find(|child| child.name() == "transport");
            transport = String::from(of.unwrap());
        }
        let id = self.conference.clone().unwrap();
        let update = format!(
            "<conference xmlns='{COLIBRI}' id='{id}'>{}\
             <channel-bundle id='{nick}'>{transport}</channel-bundle></conference>",
            contents.concat()
        );
        let answer = self.ask(COMPONENT, "set", &update);
        assert_eq!(answer.attr("type"), Some("result"), "{}", String::from(&answer));
        let (id, from) = (iq.attr("id").unwrap(), iq.attr("from").unwrap());
        self.connection.send(&format!("<iq type='result' id='{id}' to='{from}'/>"));
    }

    fn gone(&mut self, nick: &str) {
        let Some(occupant) = self.occupants.remove(nick) else { return };
        let Some(id) = &self.conference else { return };
        let contents: Vec<String> = occupant
            .channels
            .iter()
            .map(|(name, channel)| {
                let kind = if name == "data" { "sctpconnection" } else { "channel" };
                format!("<content name='{name}'><{kind} id='{channel}' expire='0'/></content>")
            })
            .collect();
        let expire =
            format!("<conference xmlns='{COLIBRI}' id='{id}'>{}</conference>", contents.concat());
        self.ask(COMPONENT, "set", &expire);
    }
}

/// Payload types and header extensions.
fn format(media: &str) -> String {
    let extension = |id: u8, uri: &str| {
        format!("<rtp-hdrext xmlns='urn:xmpp:jingle:apps:rtp:rtp-hdrext:0' id='{id}' uri='{uri}'/>")
    };
    let wide = extension(
        TRANSPORT_CC,
        "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    );
    let feedback = "urn:xmpp:jingle:apps:rtp:rtcp-fb:0";
    if media == "audio" {
        let level = extension(AUDIO_LEVEL, "urn:ietf:params:rtp-hdrext:ssrc-audio-level");
        return format!(
            "<payload-type xmlns='{RTP}' id='{OPUS}' name='opus' clockrate='48000' channels='2'>\
             <rtcp-fb xmlns='{feedback}' type='transport-cc'/></payload-type>{level}{wide}"
        );
    }
    format!(
        "<payload-type xmlns='{RTP}' id='{VIDEO}' name='VP8' clockrate='90000'>\
         <rtcp-fb xmlns='{feedback}' type='ccm' subtype='fir'/><rtcp-fb xmlns='{feedback}' type='nack'/>\
         <rtcp-fb xmlns='{feedback}' type='nack' subtype='pli'/>\
         <rtcp-fb xmlns='{feedback}' type='transport-cc'/></payload-type>\
         <payload-type xmlns='{RTP}' id='{RTX}' name='rtx' clockrate='90000'>\
         <parameter xmlns='{RTP}' name='apt' value='{VIDEO}'/></payload-type>{wide}"
    )
}

/// The id of the item in an element.
fn item(element: &Element) -> Option<String> {
    if element.name() == "item" {
        return element.attr("id").map(str::to_owned);
    }
    element.children().find_map(item)
}

/// All statistics in an element.
fn stats(element: &Element) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    if element.name() == "stat"
        && let (Some(name), Some(value)) = (element.attr("name"), element.attr("value"))
    {
        found.insert(name.to_owned(), value.to_owned());
    }
    for child in element.children() {
        found.append(&mut stats(child));
    }
    found
}
