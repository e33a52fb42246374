//! Debug output of a conference, in the form of Jitsi Videobridge's, as far as this bridge has the same
//! state.

use serde_json::{Map, Value, json};

use super::{endpoint::Endpoint, state::Conference};

impl Conference {
    /// Ids and names, and with `full` everything. `endpoint` leaves out the other endpoints.
    /// `creation_time`: ms since 1970. `outside` describes an endpoint's transport
    /// and its channels.
    pub fn debug(
        &self,
        full: bool,
        endpoint: Option<&str>,
        creation_time: u64,
        outside: &dyn Fn(&Endpoint) -> (Value, Value),
    ) -> Value {
        let mut state = Map::new();
        let mut put = |name: &str, value: Value| state.insert(name.to_owned(), value);
        put("id", self.identity.id.as_str().into());
        put("rtcstatsEnabled", self.identity.rtcstats_enabled.into());
        if let Some(name) = &self.identity.name {
            put("name", name.as_str().into());
        }
        put("meeting_id", self.identity.meeting_id.as_str().into());
        if full {
            put("expired", false.into());
            put("creation_time", creation_time.into());
            put("speech_activity", self.speech_activity());
        }
        let ranking = full.then(|| self.ranking());
        let shown =
            self.endpoints.values().filter(|e| endpoint.is_none_or(|wanted| e.id == wanted));
        let endpoints: Map<String, Value> = shown
            .map(|e| {
                let value = match &ranking {
                    Some(ranking) => {
                        let mut value = self.debug_endpoint(e, &outside(e));
                        value["allocation"] = self.debug_allocation(e, ranking);
                        value
                    }
                    None => e.stats_id.as_deref().into(),
                };
                (e.id.clone(), value)
            })
            .collect();
        put("endpoints", Value::Object(endpoints));
        put("relays", json!({}));
        Value::Object(state)
    }

    /// The speech activity, in the form of `dominant-speaker-identification`.
    pub fn speech_activity(&self) -> Value {
        let dominant = self.speakers.dominant().and_then(|id| self.by_engine_id.get(&id));
        json!({
            "dominantEndpoint": dominant.map_or("null", String::as_str),
            "dominantSpeakerIdentification": null,
            "endpointsBySpeechActivity": self.speech_order,
            "endpointsInLastNOrder": self.speech_order,
        })
    }

    fn debug_endpoint(&self, endpoint: &Endpoint, (transport, channels): &(Value, Value)) -> Value {
        let view = self.view(&endpoint.id).unwrap_or_default();
        let measured = endpoint.snapshot.as_ref();
        let received = measured.map_or((0, 0), |m| m.received);
        let sent = measured.map_or((0, 0), |m| m.sent);
        let sources: Vec<Value> = endpoint.sources.iter().map(debug_source).collect();
        let receives: Vec<Value> = view
            .sources
            .iter()
            .map(|source| {
                json!({
                    "name": source.name,
                    "current": source.current,
                    "target": source.target,
                    "max_height": source.max_height,
                    "height": source.height,
                    "bitrate_bps": source.bps,
                    "packets": source.packets,
                    "retransmissions": source.retransmissions,
                })
            })
            .collect();
        json!({
            "expired": false,
            "stats_id": endpoint.stats_id,
            "transport": transport,
            "transport_state": endpoint.transport.as_str(),
            "inactive": endpoint.inactive,
            "accept_audio": endpoint.accepts(rialto_media::MediaType::Audio),
            "accept_video": endpoint.accepts(rialto_media::MediaType::Video),
            "visitor": endpoint.is_visitor(),
            "diarize": endpoint.diarize,
            "ssrc_rewriting": endpoint.slots.is_some(),
            "slots": endpoint.slots.as_ref().map(|slots| slots.debug()),
            "force_mute": {
                "audio": endpoint.force_mute.audio,
                "video": endpoint.force_mute.video,
            },
            "sources": sources,
            "receives": receives,
            "receive": {
                "bitrate_bps": view.receive_bps,
                "loss": view.receive_loss,
                "packets": received.0,
                "bytes": received.1,
            },
            "send": {
                "bitrate_bps": view.send_bps,
                "loss": view.send_loss,
                "packets": sent.0,
                "bytes": sent.1,
            },
            "channels": channels,
            "wishes": endpoint.constraints.debug(),
            "forwarded_sources": endpoint.forwarded,
            "rtt_ms": view.rtt.map(|rtt| rtt.as_secs_f64() * 1000.0),
        })
    }
}

fn debug_source(source: &super::EndpointSource) -> Value {
    let ssrcs: Vec<Value> = source
        .spec
        .encodings
        .iter()
        .map(|encoding| json!({ "ssrc": encoding.ssrc, "rtx": encoding.rtx }))
        .collect();
    json!({
        "name": &*source.spec.name,
        "video_type": source.video_type,
        "encodings": ssrcs,
    })
}
