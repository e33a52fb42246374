//! Command-line arguments.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::{Args as ClapArgs, Parser, Subcommand};

use super::top::Target;

/// A selective forwarding unit (SFU) that replaces Jitsi Videobridge.
#[derive(Parser, Debug)]
#[command(name = "rialto", version = super::VERSION, arg_required_else_help = true)]
pub(super) struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Run the bridge with a configuration file.
    Run(Run),
    /// Run a bridge with a built-in focus and a page for calls, without configuration or XMPP. Prints the
    /// address of the page.
    Dev(Dev),
    /// Print every effective value of a configuration file, where each comes from, and which keys have no
    /// effect. Then check whether this machine has the ports, buffers and addresses for it. Exits with 0,
    /// or with 78 if `run` would refuse the file.
    CheckConfig {
        /// Configuration file (HOCON, like jvb.conf).
        file: PathBuf,
        /// Also log in to every XMPP server and out again, and ask the STUN servers for this machine's public
        /// address. Exits with 78 if an XMPP server refuses the bridge, or if no STUN server answers and
        /// videobridge.health.require-stun is true.
        #[arg(long)]
        connect: bool,
    },
    /// Run the bridge in place of docker-jitsi-meet's jvb image, configured by the same environment
    /// variables. Reads custom files from /config (or CONFIG_DIR).
    Container {
        /// Print the configuration that results from the variables, and exit.
        #[arg(long)]
        print: bool,
    },
    /// Ask a bridge on this machine whether it is healthy. Exits with 0 if it is, otherwise with 1.
    Health {
        /// Address of the bridge's private HTTP server.
        #[arg(default_value = "127.0.0.1:8080")]
        address: String,
    },
    /// Show the state of a bridge every second: its health, the load, delay and drops of each thread, its
    /// conferences, and for each receiver of one conference what the bridge sends it, the estimate of its
    /// link, and why it gets no more. The status page at the same address shows it in a browser. Exits with
    /// 1 if it cannot reach the bridge.
    Top(Top),
    /// Print a completion script for a shell.
    Completions {
        /// Name of the shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write it and one for each command into a directory.
    #[command(hide = true)]
    Man {
        /// Where to write the pages.
        directory: Option<PathBuf>,
    },
    /// Print the version, the commit and the build.
    Version,
}

/// `rialto run`.
#[derive(ClapArgs, Debug, Default)]
pub(super) struct Run {
    /// Configuration file (HOCON, like jvb.conf).
    #[arg(long, value_name = "FILE", required_unless_present_any = ["domain", "host", "apis"])]
    pub config: Option<PathBuf>,
    /// Engine threads [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub shards: Option<u16>,
    #[command(flatten)]
    pub component: Component,
}

/// JVB's flags for a component of an XMPP server. Each of `--domain`, `--host` and `--subdomain` turns
/// the component on, unless `--apis` is given without `xmpp`. The flags override the file.
#[derive(ClapArgs, Debug, Default)]
#[command(next_help_heading = "XMPP component (XEP-0114)")]
pub(super) struct Component {
    /// Domain of the XMPP server; the component's address is SUBDOMAIN.DOMAIN.
    #[arg(long)]
    pub domain: Option<String>,
    /// Host of the XMPP server [default: the domain, or localhost].
    #[arg(long)]
    pub host: Option<String>,
    /// The server's port for components; Prosody's is 5347 [default: 5275].
    #[arg(long)]
    pub port: Option<u16>,
    /// Subdomain of the component [default: jitsi-videobridge].
    #[arg(long)]
    pub subdomain: Option<String>,
    /// Interfaces for requests, separated by commas: `xmpp` (as a component), `rest` (COLIBRI2 over HTTP)
    /// [default: xmpp, if one of the other flags is given].
    #[arg(long)]
    pub apis: Option<String>,
    /// Secret of the component. Everyone on this machine can read a command line: better set the secret in
    /// the file or in the environment.
    #[arg(long, env = "RIALTO_COMPONENT_SECRET", hide_env_values = true)]
    pub secret: Option<String>,
}

/// `rialto top`.
#[derive(ClapArgs, Debug)]
pub(super) struct Top {
    /// Private HTTP server of the bridge. If it needs a token, set RIALTO_HTTP_TOKEN.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: Target,
    /// Conference whose receivers to show, by one of its ids or its name [default: the largest].
    #[arg(long, value_name = "ID")]
    pub conference: Option<String>,
    /// Print one table and exit.
    #[arg(long)]
    pub once: bool,
}

/// `rialto dev`.
#[derive(ClapArgs, Debug)]
pub(super) struct Dev {
    /// Serve the page and media on this address only. Browsers allow cameras only on pages from localhost or
    /// over HTTPS: add --tls-cert and --tls-key. The control API stays on loopback (see --api).
    /// [default: the page on 127.0.0.1, media on all addresses]
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Option<IpAddr>,
    /// TCP port of the page; 0 uses any free port.
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// A further name by which browsers reach the page. Addresses, this machine's name and the names in the
    /// certificate are always accepted. May be given more than once.
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
    /// Serve the control API (COLIBRI2, /debug, /metrics, drain) here. On any address but loopback it needs
    /// a token in RIALTO_HTTP_TOKEN. [default: the page's address, if that is loopback; otherwise 127.0.0.1,
    /// on the port after the page's]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub api: Option<SocketAddr>,
    /// UDP port of media; 0 uses any free port.
    #[arg(long, default_value_t = 10000)]
    pub udp_port: u16,
    /// Engine threads [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub shards: Option<u16>,
    /// Certificate chain (PEM) to serve the page over HTTPS.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Key of the certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}
