//! The arguments.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::{Args as ClapArgs, Parser, Subcommand};

use super::top::Target;

/// A selective forwarding unit that takes Jitsi Videobridge's place.
#[derive(Parser, Debug)]
#[command(name = "rialto", version = super::VERSION, arg_required_else_help = true)]
pub(super) struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Run the bridge of a deployment.
    Run(Run),
    /// Run a bridge with rooms of its own and a page to call from. No configuration, no XMPP. Prints
    /// the address of the page.
    Dev(Dev),
    /// Print every value that a configuration file leads to, where each comes from, and what has no
    /// effect; and whether this machine has the ports, buffers and addresses for it. Exits
    /// with 0, or with 78 when `run` would refuse the file.
    CheckConfig {
        /// The file (HOCON, as jvb.conf).
        file: PathBuf,
        /// Log in to every XMPP server as well, and out again: does it answer, is the password right?
        /// And ask the STUN servers how they see this machine. Exits with 78 when an XMPP server does
        /// not let the bridge in, or no STUN server answers and videobridge.health.require-stun is true.
        #[arg(long)]
        connect: bool,
    },
    /// Run the bridge in place of docker-jitsi-meet's jvb image, whose environment variables say how.
    /// Custom files are read from /config (or CONFIG_DIR).
    Container {
        /// Print the configuration that the variables lead to, and end.
        #[arg(long)]
        print: bool,
    },
    /// Ask a bridge on this machine whether it is healthy. Exits with 0 when it is, or with 1.
    Health {
        /// Address of the bridge's private HTTP server.
        #[arg(default_value = "127.0.0.1:8080")]
        address: String,
    },
    /// Show what a bridge does, anew every second: its health, the load, delay and drops of each thread, its
    /// conferences, and for each receiver of one what it is sent, what its link carries, and why it gets no
    /// more. The page at the same address shows it in a browser. Exits with 1 when the bridge cannot be
    /// reached.
    Top(Top),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write that and one for each command into a directory.
    #[command(hide = true)]
    Man {
        /// The directory.
        directory: Option<PathBuf>,
    },
    /// Print the version, the commit and how it was built.
    Version,
}

/// `rialto run`.
#[derive(ClapArgs, Debug, Default)]
pub(super) struct Run {
    /// Configuration file (HOCON, as jvb.conf).
    #[arg(long, value_name = "FILE", required_unless_present_any = ["domain", "host", "apis"])]
    pub config: Option<PathBuf>,
    /// Engine threads [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub shards: Option<u16>,
    #[command(flatten)]
    pub component: Component,
}

/// The flags with which JVB became a component of an XMPP server. Where to find the server makes this
/// bridge one, unless `--apis` is given and has no `xmpp`; they win over the file.
#[derive(ClapArgs, Debug, Default)]
#[command(next_help_heading = "XMPP component (XEP-0114)")]
pub(super) struct Component {
    /// The XMPP server's domain; the component is SUBDOMAIN.DOMAIN there.
    #[arg(long)]
    pub domain: Option<String>,
    /// Where the XMPP server is [default: the domain, or localhost].
    #[arg(long)]
    pub host: Option<String>,
    /// Its port for components, which is 5347 in Prosody [default: 5275].
    #[arg(long)]
    pub port: Option<u16>,
    /// The component's own domain [default: jitsi-videobridge].
    #[arg(long)]
    pub subdomain: Option<String>,
    /// What the bridge is asked over, separated by commas: `xmpp` (as a component), `rest` (COLIBRI2
    /// over HTTP) [default: xmpp, when one of the other flags is given].
    #[arg(long)]
    pub apis: Option<String>,
    /// The secret that the server knows. Everybody on this machine can read a command line: better in
    /// the file, or in the environment.
    #[arg(long, env = "RIALTO_COMPONENT_SECRET", hide_env_values = true)]
    pub secret: Option<String>,
}

/// `rialto top`.
#[derive(ClapArgs, Debug)]
pub(super) struct Top {
    /// The bridge's private HTTP server. Its token, where it has one, is read from RIALTO_HTTP_TOKEN.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: Target,
    /// The conference whose receivers are shown, by one of its ids or its name [default: the largest].
    #[arg(long, value_name = "ID")]
    pub conference: Option<String>,
    /// Print one table and end.
    #[arg(long)]
    pub once: bool,
}

/// `rialto dev`.
#[derive(ClapArgs, Debug)]
pub(super) struct Dev {
    /// Serve the page and media on this address only. Browsers give cameras to pages on localhost or
    /// over HTTPS only: add --tls-cert and --tls-key. The control API stays on loopback (see --api).
    /// [default: the page on 127.0.0.1, media on all addresses]
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Option<IpAddr>,
    /// TCP port of the page; 0 takes any.
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// A name under which browsers reach the page, beside addresses, this machine's name and those of the
    /// certificate. May be given more than once.
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
    /// Serve the control API (COLIBRI2, /debug, /metrics, drain) here. Elsewhere than on loopback it needs
    /// a token, which RIALTO_HTTP_TOKEN holds. [default: where the page is, if that is on loopback;
    /// otherwise 127.0.0.1, on the port after the page's]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub api: Option<SocketAddr>,
    /// UDP port of media; 0 takes any.
    #[arg(long, default_value_t = 10000)]
    pub udp_port: u16,
    /// Engine threads [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub shards: Option<u16>,
    /// Certificate chain (PEM), to serve the page over HTTPS.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Key of the certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}
