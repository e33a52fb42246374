//! The command line of `rialto-link`.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::Parser;

use super::{
    host::PREFIX,
    settings::{Changes, Schedule, Settings},
};
use crate::units;

/// Puts a program behind an emulated network link, on one machine.
///
/// Creates a network namespace that is connected to this machine by a link with a rate, a queue, delay,
/// jitter and loss in each direction, runs COMMAND in it, and removes everything afterwards. Without
/// COMMAND it runs until SIGINT or SIGTERM; `ip netns exec NAME` runs programs in the namespace. Needs
/// root (CAP_NET_ADMIN and CAP_SYS_ADMIN), /dev/net/tun and `ip` from iproute2, and nothing else of the
/// kernel. Exit status: COMMAND's; 1 if the link cannot be made or breaks; 2 for a wrong command line.
///
/// A link is a list of KEY=VALUE words, which apply to both directions. The prefix `down.` limits a key
/// to the direction into the namespace, `up.` to the direction out of it:
///
///   rate=5M       bits per second; max is no limit (the default), 0 carries nothing
///   queue=300ms   a packet that would wait for longer than this is dropped (300ms)
///   delay=25ms    delay of every packet (0)
///   jitter=30ms   random additional delay up to this; packets behind wait too, in order (0)
///   overtake=5%   share of packets that jitter does not delay, so that they overtake others (0)
///   loss=2%       share of packets that are lost behind the queue (0)
///   burst=8       packets in a row that are lost on average (1: single losses)
#[derive(Parser, Debug)]
#[command(name = "rialto-link", version, verbatim_doc_comment)]
pub struct Args {
    /// The link at the start, such as "rate=5M delay=25ms up.rate=1M"
    #[arg(long, value_name = "LINK", value_parser = Changes::parse, default_value = "")]
    link: Changes,
    /// Changes and their times: "20s rate=1M; 40s rate=5M down.loss=2%"
    #[arg(long, value_name = "STEPS", value_parser = Schedule::parse, default_value = "")]
    schedule: Schedule,
    /// Apply each line of standard input at once: "rate=1M up.loss=2%". The end of input changes nothing
    #[arg(long, conflicts_with = "command")]
    control: bool,
    /// Seed of every random choice
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Name of the namespace [default: rialto-link-PID]
    #[arg(long)]
    name: Option<String>,
    /// First of four IPv4 addresses: the second one is this machine's, the third one the namespace's
    /// [default: four free ones of 198.18.0.0/15]
    #[arg(long, value_name = "ADDRESS")]
    network: Option<std::net::Ipv4Addr>,
    /// The longest packet, bytes
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u32).range(576..=65_535))]
    mtu: u32,
    /// Interval between the lines of JSON for each direction
    #[arg(long, value_name = "TIME", value_parser = units::duration, default_value = "1s")]
    interval: Duration,
    /// File for the lines of JSON; - is standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    json: PathBuf,
    /// Command to run in the namespace, after --
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// What to do.
#[derive(Debug)]
pub struct Options {
    /// Into the namespace, at the start.
    pub down: Settings,
    /// Out of the namespace, at the start.
    pub up: Settings,
    /// What changes when.
    pub schedule: Schedule,
    /// Changes are read from standard input.
    pub control: bool,
    /// Seed of every random choice.
    pub seed: u64,
    /// Name of the namespace.
    pub name: String,
    /// First of four addresses.
    pub network: Option<std::net::Ipv4Addr>,
    /// The longest packet, bytes.
    pub mtu: u32,
    /// How often a line of JSON is written.
    pub interval: Duration,
    /// Where the lines of JSON go; `-` is standard output.
    pub json: PathBuf,
    /// What to run in the namespace.
    pub command: Vec<OsString>,
}

impl Args {
    /// What they ask for.
    ///
    /// # Errors
    /// Names what cannot be used.
    pub fn options(self) -> Result<Options, String> {
        let (mut down, mut up) = (Settings::default(), Settings::default());
        self.link.down.apply(&mut down);
        self.link.up.apply(&mut up);
        let name = self.name.unwrap_or_else(|| format!("{PREFIX}{}", std::process::id()));
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty()
            || name.len() > 64
            || name.starts_with(['-', '.'])
            || !name.chars().all(plain)
        {
            return Err(format!("--name {name}: letters, digits, '-', '_' and '.' are possible"));
        }
        if self.network.is_some_and(|network| network.octets()[3] % 4 != 0) {
            return Err(
                "--network: the last number of the address must be a multiple of 4".to_owned()
            );
        }
        if self.interval < Duration::from_millis(10) {
            return Err("--interval: 10ms or more".to_owned());
        }
        Ok(Options {
            down,
            up,
            schedule: self.schedule,
            control: self.control,
            seed: self.seed,
            name,
            network: self.network,
            mtu: self.mtu,
            interval: self.interval,
            json: self.json,
            command: self.command,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Result<Options, String> {
        let words = std::iter::once("rialto-link").chain(words.iter().copied());
        Args::try_parse_from(words).map_err(|error| error.to_string())?.options()
    }

    #[test]
    fn the_command_of_the_manual() {
        let link = "rate=5M delay=25ms up.rate=1M";
        let options = options(&[
            "--link",
            link,
            "--schedule",
            "20s rate=1M",
            "--",
            "ping",
            "-c",
            "3",
            "198.18.0.1",
        ])
        .unwrap();
        assert_eq!((options.down.rate, options.up.rate), (Some(5_000_000), Some(1_000_000)));
        assert_eq!(options.schedule.0.len(), 1);
        assert_eq!(options.command, ["ping", "-c", "3", "198.18.0.1"]);
        assert!(options.name.starts_with("rialto-link-"));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (words, named) in [
            (&["--link", "speed=5"][..], "speed"),
            (&["--schedule", "soon rate=1M"], "soon"),
            (&["--name", "a/b"], "--name a/b"),
            (&["--network", "198.18.0.1"], "--network"),
            (&["--mtu", "100"], "100"),
            (&["--interval", "0"], "--interval"),
            (&["--control", "--", "true"], "--control"),
        ] {
            let error = options(words).unwrap_err();
            assert!(error.contains(named), "{words:?}: {error}");
        }
    }
}
