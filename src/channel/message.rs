//! Messages of the bridge channel: a strict parser and a writer.
//!
//! A message is a JSON object whose `colibriClass` names its type. Names may not repeat; fields that a class
//! does not have are refused, except in messages that the bridge relays between clients, and in constraints.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Map, Value, json};

use super::constraints::Constraint;
use crate::strict_json;

/// Longest message, bytes.
pub const MAX_BYTES: usize = 64 << 10;

/// Upper bound of the names in a list of an audio subscription: no client plays more sources.
pub const MAX_AUDIO_NAMES: usize = 1_000;

/// The field that names the type of a message.
const CLASS: &str = "colibriClass";

/// A message from a client to the bridge.
#[derive(Clone, PartialEq, Debug)]
pub enum ToBridge {
    /// `ClientHello`: asks for a `ServerHello`.
    Hello,
    /// `EndpointMessage`: for another client, or for all.
    Endpoint {
        /// Whom; empty for all.
        to: String,
        /// Whatever else is in it, without `from`.
        fields: Map<String, Value>,
    },
    /// `EndpointStats`: for all.
    Stats {
        /// Whatever is in it, without `from`.
        fields: Map<String, Value>,
    },
    /// `LastNChangedEvent`: the receiver's last-N; negative is all.
    LastN(i32),
    /// `ReceiverVideoConstraints`: the receiver's constraints on videos.
    VideoConstraints(VideoConstraints),
    /// `ReceiverAudioSubscription`: the receiver's audio subscription.
    AudioSubscription(AudioSubscription),
    /// `SourceVideoTypeMessage` and `VideoTypeMessage`: what one of its videos shows.
    VideoType {
        /// The source; `None` is its first video.
        source: Option<String>,
        /// What it shows.
        video_type: VideoType,
    },
}

/// An update of receiver constraints. A field that is `None` stays as it was.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct VideoConstraints {
    /// Last-N; negative is all.
    pub last_n: Option<i32>,
    /// Selected sources, which come first.
    pub selected: Option<Vec<String>>,
    /// Sources on stage, which come before the selected ones.
    pub on_stage: Option<Vec<String>>,
    /// The constraint on sources that are not named.
    pub default: Option<Constraint>,
    /// The constraint on each named source.
    pub constraints: Option<BTreeMap<String, Constraint>>,
    /// Bandwidth to assume instead of the estimate, bit/s; negative for the estimate.
    pub assumed_bandwidth_bps: Option<i64>,
}

/// An audio subscription: excluded sources are not sent, included ones are, and the rest if `all` is set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AudioSubscription {
    /// Every source that is not excluded.
    pub all: bool,
    /// Sources that are wanted.
    pub include: BTreeSet<String>,
    /// Sources that are not.
    pub exclude: BTreeSet<String>,
}

/// What a video shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VideoType {
    /// A camera.
    Camera,
    /// A screen.
    Desktop,
    /// A screen at a high frame rate.
    DesktopHighFps,
    /// Nothing: it is switched off.
    Disabled,
    /// Nothing yet.
    None,
}

impl VideoType {
    const ALL: [Self; 5] =
        [Self::Camera, Self::Desktop, Self::DesktopHighFps, Self::Disabled, Self::None];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Camera => "camera",
            Self::Desktop => "desktop",
            Self::DesktopHighFps => "desktop_high_fps",
            Self::Disabled => "disabled",
            Self::None => "none",
        }
    }
}

/// Why a message is not read. Nothing of the message is in the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MessageError {
    /// Longer than [`MAX_BYTES`].
    #[error("longer than 64 KiB")]
    TooLong,
    /// Not JSON, nested too deep, or an object with a name that repeats.
    #[error("no JSON object whose names are all different")]
    Json,
    /// No `colibriClass`, or none that clients send.
    #[error("no colibriClass that clients send")]
    Class,
    /// A field is missing, or has a value that it cannot have.
    #[error("{0} is missing or cannot be what it is")]
    Field(&'static str),
    /// A field that the class does not have.
    #[error("a field that the class does not have")]
    UnknownField,
}

impl ToBridge {
    /// Whether it goes to everybody else.
    pub fn is_for_all(&self) -> bool {
        match self {
            Self::Endpoint { to, .. } => to.trim().is_empty(),
            Self::Stats { .. } => true,
            _ => false,
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// The first fault: nothing of such a message is applied.
    pub fn parse(text: &str) -> Result<Self, MessageError> {
        if text.len() > MAX_BYTES {
            return Err(MessageError::TooLong);
        }
        let Ok(Value::Object(fields)) = strict_json::parse(text.as_bytes()) else {
            return Err(MessageError::Json);
        };
        let mut fields = Fields(fields);
        let class = fields.text(CLASS)?.ok_or(MessageError::Class)?;
        let message = match class.as_str() {
            "ClientHello" => Self::Hello,
            "EndpointMessage" => return fields.endpoint_message(),
            "EndpointStats" => return Ok(Self::Stats { fields: fields.relayed() }),
            "LastNChangedEvent" => Self::LastN(fields.required("lastN", Fields::int)?),
            "ReceiverVideoConstraints" => Self::VideoConstraints(fields.video_constraints()?),
            "ReceiverAudioSubscription" => Self::AudioSubscription(fields.audio_subscription()?),
            "SourceVideoTypeMessage" => Self::VideoType {
                video_type: fields.video_type()?,
                source: Some(fields.required("sourceName", Fields::text)?),
            },
            "VideoTypeMessage" => {
                Self::VideoType { video_type: fields.video_type()?, source: None }
            }
            _ => return Err(MessageError::Class),
        };
        if fields.0.is_empty() { Ok(message) } else { Err(MessageError::UnknownField) }
    }
}

/// Fields of a message that were not read yet. `null` is as good as absent.
struct Fields(Map<String, Value>);

impl Fields {
    fn take<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Value) -> Option<T>,
    ) -> Result<Option<T>, MessageError> {
        match self.0.shift_remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value).map(Some).ok_or(MessageError::Field(name)),
        }
    }

    fn required<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Self, &'static str) -> Result<Option<T>, MessageError>,
    ) -> Result<T, MessageError> {
        read(self, name)?.ok_or(MessageError::Field(name))
    }

    fn text(&mut self, name: &'static str) -> Result<Option<String>, MessageError> {
        self.take(name, text)
    }

    fn texts<T: FromIterator<String>>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<T>, MessageError> {
        self.take(name, |value| match value {
            Value::Array(values) => values.into_iter().map(text).collect(),
            _ => None,
        })
    }

    fn int(&mut self, name: &'static str) -> Result<Option<i32>, MessageError> {
        self.take(name, |value| i32::try_from(integer(&value)?).ok())
    }

    fn boolean(&mut self, name: &'static str) -> Result<Option<bool>, MessageError> {
        self.take(name, |value| value.as_bool())
    }

    /// All remaining fields but `from`: the bridge knows the sender.
    fn relayed(mut self) -> Map<String, Value> {
        self.0.shift_remove("from");
        self.0
    }

    fn endpoint_message(mut self) -> Result<ToBridge, MessageError> {
        let to = self.required("to", Self::text)?;
        Ok(ToBridge::Endpoint { to, fields: self.relayed() })
    }

    fn video_constraints(&mut self) -> Result<VideoConstraints, MessageError> {
        let constraints = self.take("constraints", |value| match value {
            Value::Object(constraints) => constraints
                .into_iter()
                .map(|(source, value)| Some((source, constraint(&value)?)))
                .collect(),
            _ => None,
        })?;
        Ok(VideoConstraints {
            last_n: self.int("lastN")?,
            selected: self.texts("selectedSources")?,
            on_stage: self.texts("onStageSources")?,
            default: self.take("defaultConstraints", |value| constraint(&value))?,
            constraints,
            assumed_bandwidth_bps: self.take("assumedBandwidthBps", |value| integer(&value))?,
        })
    }

    /// With the fields of today, or with a mode and a list as before.
    fn audio_subscription(&mut self) -> Result<AudioSubscription, MessageError> {
        let all = self.boolean("all")?;
        let include = self.audio_names("include")?;
        let exclude = self.audio_names("exclude")?;
        let mode = self.text("mode")?;
        let list = self.audio_names("list")?.unwrap_or_default();
        let Some(mode) = mode else {
            return Ok(AudioSubscription {
                all: all.unwrap_or(false),
                include: include.unwrap_or_default(),
                exclude: exclude.unwrap_or_default(),
            });
        };
        let (all, include, exclude) = match mode.to_ascii_lowercase().as_str() {
            "all" => (true, BTreeSet::new(), BTreeSet::new()),
            "none" => (false, BTreeSet::new(), BTreeSet::new()),
            "include" => (false, list, BTreeSet::new()),
            "exclude" => (true, BTreeSet::new(), list),
            _ => return Err(MessageError::Field("mode")),
        };
        Ok(AudioSubscription { all, include, exclude })
    }

    fn audio_names(
        &mut self,
        name: &'static str,
    ) -> Result<Option<BTreeSet<String>>, MessageError> {
        let names = self.texts::<BTreeSet<String>>(name)?;
        match &names {
            Some(names) if names.len() > MAX_AUDIO_NAMES => Err(MessageError::Field(name)),
            _ => Ok(names),
        }
    }

    /// The type. Drops `endpointId`: the bridge knows the sender.
    fn video_type(&mut self) -> Result<VideoType, MessageError> {
        self.text("endpointId")?;
        let name = self.required("videoType", Self::text)?;
        VideoType::ALL
            .into_iter()
            .find(|known| name.eq_ignore_ascii_case(known.as_str()))
            .ok_or(MessageError::Field("videoType"))
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// A whole number; a fraction is truncated, as in JVB.
fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().map(|number| number as i64))
}

/// Other fields are for other bridges.
fn constraint(value: &Value) -> Option<Constraint> {
    let max_height = i32::try_from(integer(value.get("maxHeight")?)?).ok()?;
    let max_frame_rate = match value.get("maxFrameRate") {
        None | Some(Value::Null) => -1.0,
        Some(rate) => rate.as_f64()?,
    };
    let known = max_height >= -1 && matches!(max_frame_rate, -1.0 | 0.0..);
    known.then_some(Constraint { max_height, max_frame_rate })
}

/// A message from the bridge to a client.
#[derive(Clone, PartialEq, Debug)]
pub enum ToClient<'a> {
    /// `ServerHello`.
    Hello {
        /// The bridge's version, if it is announced.
        version: Option<&'a str>,
    },
    /// `EndpointMessage`: from another client.
    Endpoint {
        /// The receiver, as the sender named it.
        to: &'a str,
        /// Who.
        from: &'a str,
        /// Whatever else is in it.
        fields: &'a Map<String, Value>,
    },
    /// `EndpointStats`: of another client.
    Stats {
        /// Whose.
        from: &'a str,
        /// Whatever else is in it.
        fields: &'a Map<String, Value>,
    },
    /// `DominantSpeakerEndpointChangeEvent`.
    DominantSpeaker {
        /// Who.
        endpoint: &'a str,
        /// Who before, latest first.
        previous: &'a [String],
        /// The dominant speaker has been silent for a while.
        silence: bool,
    },
    /// `EndpointConnectivityStatusChangeEvent`.
    Connectivity {
        /// Whose.
        endpoint: &'a str,
        /// Something comes from it. A text in JSON, `"true"` or `"false"`.
        active: bool,
    },
    /// `ForwardedSources`: the videos that the receiver gets, and no others.
    ForwardedSources(&'a [String]),
    /// `VideoSourcesMap` and `AudioSourcesMap`: the SSRCs of sources, for clients that do not get them from
    /// the focus. Entries of earlier messages stay.
    SourcesMap {
        /// `VideoSourcesMap`.
        video: bool,
        /// Which.
        sources: &'a [MappedSource<'a>],
    },
    /// `SenderSourceConstraints`: the greatest height that receivers request of one of its videos.
    SenderConstraints {
        /// Which.
        source: &'a str,
        /// Pixels; 0: no receiver requests it.
        max_height: i32,
    },
    /// `ConnectionStats`: the estimate of its link, bit/s.
    ConnectionStats(u64),
}

/// A source, and how its packets are known.
#[derive(Clone, PartialEq, Debug)]
pub struct MappedSource<'a> {
    /// Its name.
    pub source: &'a str,
    /// Whose.
    pub owner: &'a str,
    /// SSRC of its packets.
    pub ssrc: u32,
    /// SSRC of retransmissions.
    pub rtx: Option<u32>,
    /// What a video shows, as signalled.
    pub video_type: Option<&'a str>,
    /// MID of its packets, for clients that demultiplex by it.
    pub mid: Option<&'a str>,
}

impl MappedSource<'_> {
    fn value(&self, video: bool) -> Value {
        let mut value = json!({ "source": self.source, "owner": self.owner, "ssrc": self.ssrc });
        if video {
            value["rtx"] = self.rtx.map_or(-1, i64::from).into();
            value["videoType"] = self.video_type.unwrap_or("camera").to_ascii_uppercase().into();
        }
        if let Some(mid) = self.mid {
            value["mid"] = mid.into();
        }
        value
    }
}

impl ToClient<'_> {
    /// The message as it is sent.
    pub fn text(&self) -> Arc<str> {
        let value = match self {
            Self::Hello { version: None } => json!({ CLASS: "ServerHello" }),
            Self::Hello { version: Some(version) } => {
                json!({ CLASS: "ServerHello", "version": version })
            }
            Self::Endpoint { to, from, fields } => {
                relay(json!({ CLASS: "EndpointMessage", "to": to, "from": from }), fields)
            }
            Self::Stats { from, fields } => {
                relay(json!({ CLASS: "EndpointStats", "from": from }), fields)
            }
            Self::DominantSpeaker { endpoint, previous, silence } => json!({
                CLASS: "DominantSpeakerEndpointChangeEvent",
                "dominantSpeakerEndpoint": endpoint,
                "previousSpeakers": previous,
                "silence": silence,
            }),
            Self::Connectivity { endpoint, active } => json!({
                CLASS: "EndpointConnectivityStatusChangeEvent",
                "endpoint": endpoint,
                "active": active.to_string(),
            }),
            Self::ForwardedSources(sources) => {
                json!({ CLASS: "ForwardedSources", "forwardedSources": sources })
            }
            Self::SourcesMap { video, sources } => json!({
                CLASS: if *video { "VideoSourcesMap" } else { "AudioSourcesMap" },
                "mappedSources": sources.iter().map(|s| s.value(*video)).collect::<Vec<_>>(),
            }),
            Self::SenderConstraints { source, max_height } => json!({
                CLASS: "SenderSourceConstraints",
                "sourceName": source,
                "maxHeight": max_height,
            }),
            Self::ConnectionStats(bps) => {
                json!({ CLASS: "ConnectionStats", "estimatedDownlinkBandwidth": bps })
            }
        };
        value.to_string().into()
    }
}

/// Adds a client's fields; those of the bridge take precedence.
fn relay(mut message: Value, fields: &Map<String, Value>) -> Value {
    if let Value::Object(message) = &mut message {
        for (name, value) in fields {
            message.entry(name).or_insert_with(|| value.clone());
        }
    }
    message
}

#[cfg(test)]
mod tests;
