//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use rialto_codec_model::Mode;
use rialto_srtp::Profile;

use crate::{
    call::CallOptions, plan::Shape, run::RunOptions, shared::MediaOptions, srtp::Stack, units,
};

/// Makes calls against a bridge that speaks COLIBRI2 over HTTP, with real ICE, DTLS and SRTP clients,
/// and prints what they cost.
///
/// Exit status: 0 if every client got everything; 1 if a client did not, or continuity was broken; 2 for a wrong command line;
/// 3 if the bridge refused or could not be reached; 4 if it died or media stopped.
#[derive(Parser, Debug)]
#[command(name = "rialto-load", version)]
pub struct Args {
    /// The bridge's HTTP interface
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    bridge: String,
    /// Bearer token of the HTTP interface (`rialto.http.token` in Rialto's configuration)
    #[arg(long, value_name = "TOKEN", env = "RIALTO_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A typical call; the options below override parts of it
    #[arg(long, value_enum)]
    shape: Option<Preset>,
    /// Number of conferences
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    conferences: u32,
    /// Endpoints of each conference that send, and receive from the others
    #[arg(long, value_name = "N")]
    senders: Option<u32>,
    /// Endpoints of each conference that only receive
    #[arg(long, value_name = "N")]
    receivers: Option<u32>,
    /// Send video at this bitrate (of the highest encoding, with --simulcast)
    #[arg(long, value_name = "BITRATE", value_parser = units::bitrate)]
    video: Option<u64>,
    /// Send audio
    #[arg(long)]
    audio: bool,
    /// Send three encodings of each video
    #[arg(long)]
    simulcast: bool,
    /// Send video with layers, such as vp9/L3T3_KEY, av1/L3T3, vp8/3xL1T3 or h264/3xL1T3/dd (with dependency
    /// descriptors), and check that each receiver gets one continuous stream
    #[arg(long, value_name = "CODEC/MODE", conflicts_with = "simulcast", value_parser = mode)]
    mode: Option<Mode>,
    /// Heights that receivers request over the bridge channel, in turn (180,720)
    #[arg(long, value_name = "LINES", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=8640))]
    wish: Vec<u16>,
    /// After this time, each receiver requests the next height
    #[arg(long, value_name = "TIME", requires = "wish", value_parser = units::duration)]
    wish_every: Option<Duration>,
    /// Do not negotiate retransmission streams (RFC 4588): lost packets are resent unchanged
    #[arg(long)]
    no_rtx: bool,
    /// Negotiate retransmission streams (the default)
    #[arg(long, conflicts_with = "no_rtx")]
    rtx: bool,
    /// Tell the bridge that it may rewrite SSRCs, as Jitsi Meet does
    #[arg(long)]
    ssrc_rewriting: bool,
    /// Receivers only count packets and answer STUN. They decrypt nothing and send no feedback or requests, so that
    /// one core of them takes more than one core of a bridge sends. Latency and continuity are not measured
    #[arg(long, conflicts_with_all = ["mode", "wish", "ssrc_rewriting", "drop"])]
    sinks: bool,
    /// Frames per second
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=120))]
    fps: u32,
    /// Longest time between keyframes
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    keyframes: Duration,
    /// Send a frame's packets at this multiple of the video's bitrate; 0 sends them at once
    #[arg(long, value_name = "FACTOR", default_value_t = 0.0)]
    pace: f64,
    /// How long to measure
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::duration)]
    duration: Duration,
    /// Joins per second (20/s) [default: as fast as possible]
    #[arg(long, value_name = "RATE", value_parser = units::rate)]
    join_rate: Option<f64>,
    /// Time limit of one join
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::duration)]
    patience: Duration,
    /// Share of incoming packets that every client drops on purpose
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = units::percent)]
    drop: f64,
    /// Share of outgoing media packets that every client drops on purpose
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = units::percent)]
    drop_sent: f64,
    /// How long to wait for a bridge that does not answer yet
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    wait: Duration,
    /// Process id of the bridge, to measure its CPU time and memory
    #[arg(long, value_name = "PID")]
    bridge_pid: Option<u32>,
    /// Write the report as JSON to a file, or to standard output with -
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Print no progress lines
    #[arg(long, short)]
    quiet: bool,
    /// Number of threads that carry media
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// Let the kernel coalesce received packets (GRO). This is cheaper for both sides than a real network
    #[arg(long)]
    gro: bool,
    /// SRTP stack for media
    #[arg(long, value_enum, default_value_t)]
    srtp: Stack,
    /// SRTP profiles to offer
    #[arg(long, value_enum, default_value_t)]
    profile: Profiles,
    /// Seed of every random choice
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// How a video is encoded.
fn mode(text: &str) -> Result<Mode, String> {
    Mode::find(text).ok_or_else(|| {
        let names: Vec<_> = Mode::named().map(|mode| mode.name.replace(' ', "/")).collect();
        format!("'{text}' is none of {}", names.join(", "))
    })
}

/// A usual shape of calls.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
enum Preset {
    /// One sender, 20 receivers
    Webinar,
    /// 10 senders
    Meeting,
    /// 10 senders of audio
    Audio,
}

/// SRTP profiles.
#[derive(Clone, Copy, PartialEq, Eq, Default, ValueEnum, Debug)]
enum Profiles {
    /// AES-128-GCM, or AES-CM with HMAC-SHA1
    #[default]
    Any,
    /// AES-128-GCM only
    Gcm,
    /// AES-CM with HMAC-SHA1-80 only
    Cm,
}

impl Args {
    /// What to run; the error says which options contradict each other.
    pub fn options(&self) -> Result<RunOptions, String> {
        let shape = self.shape()?;
        let profiles = match self.profile {
            Profiles::Any => vec![Profile::AeadAes128Gcm, Profile::Aes128CmSha1_80],
            Profiles::Gcm => vec![Profile::AeadAes128Gcm],
            Profiles::Cm => vec![Profile::Aes128CmSha1_80],
        };
        if !(self.pace == 0.0 || self.pace.is_finite() && self.pace >= 1.0) {
            return Err("--pace must be 0, or at least 1".to_owned());
        }
        let media = MediaOptions {
            stack: self.srtp,
            drop_received: self.drop,
            drop_sent: self.drop_sent,
            pace: self.pace,
            gro: self.gro,
        };
        Ok(RunOptions {
            call: CallOptions {
                bridge: self.bridge.clone(),
                token: self.token.clone(),
                shape,
                media,
                profiles,
                threads: self.threads.into(),
                join_rate: self.join_rate,
                patience: self.patience,
            },
            duration: self.duration,
            wait: self.wait,
            bridge_pid: self.bridge_pid,
            progress: !self.quiet,
        })
    }

    fn shape(&self) -> Result<Shape, String> {
        let (senders, receivers) = match self.shape {
            None | Some(Preset::Webinar) => (1, 20),
            Some(Preset::Meeting | Preset::Audio) => (10, 0),
        };
        let (video, audio) = match (self.shape, self.video, self.audio) {
            (_, Some(bitrate), audio) => (Some(bitrate), audio || self.shape.is_some()),
            (Some(Preset::Audio), None, _) | (None, None, true) => (None, true),
            (_, None, _) => (Some(1_500_000), true),
        };
        let shape = Shape {
            conferences: self.conferences as usize,
            senders: self.senders.unwrap_or(senders) as usize,
            receivers: self.receivers.unwrap_or(receivers) as usize,
            video,
            audio,
            simulcast: self.simulcast,
            layers: self.mode,
            wishes: self.wish.clone(),
            wish_interval: self.wish_every,
            rtx: !self.no_rtx,
            rewriting: self.ssrc_rewriting,
            sinks: self.sinks,
            fps: self.fps,
            keyframe_interval: self.keyframes,
            seed: self.seed,
        };
        if shape.senders + shape.receivers == 0 {
            return Err("no endpoints: --senders and --receivers are both 0".to_owned());
        }
        if shape.sinks && shape.receivers == 0 {
            return Err("--sinks without --receivers".to_owned());
        }
        if shape.simulcast && shape.video.is_none() {
            return Err("--simulcast without --video".to_owned());
        }
        if shape.video.is_none() && (shape.layers.is_some() || !shape.wishes.is_empty()) {
            return Err("--mode or --wish without --video".to_owned());
        }
        if shape.wish_interval.is_some_and(|every| every.is_zero()) {
            return Err("--wish-every must be more than 0".to_owned());
        }
        Ok(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(line: &str) -> Shape {
        let words = std::iter::once("rialto-load").chain(line.split_whitespace());
        Args::parse_from(words).options().unwrap().call.shape
    }

    #[test]
    fn the_command_of_the_manual() {
        let line = "--bridge http://127.0.0.1:8080 --conferences 1 --senders 1 --receivers 20 \
                    --video 1500k --audio --duration 30s";
        let words = std::iter::once("rialto-load").chain(line.split_whitespace());
        let options = Args::parse_from(words).options().unwrap();
        assert_eq!(options.duration, Duration::from_secs(30));
        let shape = options.call.shape;
        assert_eq!((shape.senders, shape.receivers), (1, 20));
        assert_eq!((shape.video, shape.audio), (Some(1_500_000), true));
        assert!(shape.rtx && !shape.simulcast && !shape.rewriting);
    }

    #[test]
    fn a_token_is_taken_from_the_command_line() {
        let token = |words: &[&str]| Args::parse_from(words).options().unwrap().call.token;
        assert_eq!(token(&["rialto-load", "--token", "s3cret"]).as_deref(), Some("s3cret"));
        let command = <Args as clap::CommandFactory>::command();
        let option = command.get_arguments().find(|arg| arg.get_id() == "token").unwrap();
        assert_eq!(option.get_env().unwrap(), "RIALTO_TOKEN");
        assert!(option.is_hide_env_values_set());
    }

    #[test]
    fn presets_and_parts() {
        assert_eq!(shape("").video, Some(1_500_000));
        assert!(shape("").audio);
        assert!(!shape("--video 1M").audio);
        assert_eq!(shape("--audio").video, None);
        assert!(shape("--ssrc-rewriting").rewriting);
        assert!(shape("--sinks").sinks);
        assert_eq!(shape("--shape audio").video, None);
        let meeting = shape("--shape meeting --senders 4 --video 800k");
        assert_eq!((meeting.senders, meeting.receivers), (4, 0));
        assert!(meeting.audio);
    }

    #[test]
    fn layers_and_wishes() {
        let layered = shape("--mode av1/L3T3 --wish 180,720 --wish-every 3s");
        assert_eq!(layered.layers, Some(Mode::AV1_L3T3));
        assert_eq!(layered.wishes, [180, 720]);
        assert_eq!(layered.wish_interval, Some(Duration::from_secs(3)));
        let refused = |line: &str| {
            let words = std::iter::once("rialto-load").chain(line.split_whitespace());
            Args::try_parse_from(words).unwrap_err().to_string()
        };
        assert!(refused("--mode vp8/L3T3").contains("VP9/L3T3_KEY/DD"));
        assert!(refused("--mode av1/L3T3 --simulcast").contains("--simulcast"));
        assert!(refused("--wish-every 3s").contains("--wish"));
        assert!(refused("--wish 0").contains('0'));
        assert!(refused("--sinks --wish 180").contains("--wish"));
    }

    #[test]
    fn contradictions_are_named() {
        let of = |line: &str| {
            let words = std::iter::once("rialto-load").chain(line.split_whitespace());
            Args::parse_from(words).options().map(|_| ())
        };
        assert!(of("--senders 0 --receivers 0").unwrap_err().contains("--senders"));
        assert!(of("--audio --simulcast").unwrap_err().contains("--simulcast"));
        assert!(of("--audio --mode av1/L3T3").unwrap_err().contains("--mode"));
        assert!(of("--wish 180 --wish-every 0").unwrap_err().contains("--wish-every"));
        assert!(of("--pace 0.5").unwrap_err().contains("--pace"));
        assert!(of("--sinks --shape meeting").unwrap_err().contains("--receivers"));
        assert!(Args::try_parse_from(["rialto-load", "--video", "fast"]).is_err());
    }
}
