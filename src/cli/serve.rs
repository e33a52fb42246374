//! `rialto run` and `rialto dev`.

use std::{
    convert::Infallible,
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use rialto_hocon::System;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    Failure,
    args::{Component, Dev, Run},
    failure::{Listener, MIN_TOKEN, Remedies},
    log::Settings,
    notify::ServiceManager,
    print_error,
    traces::Traces,
};
use crate::{
    config::{self, Config, Override, Secret},
    daemon::{Daemon, Options},
};

/// How long tasks that cannot be cancelled (host name look-ups) may delay the exit.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// Runs a bridge with a configuration file.
pub(super) fn run(args: &Run) -> Result<ExitCode, Failure> {
    run_with(args, Settings::level("info"))
}

/// As [`run`], with other log settings.
pub(super) fn run_with(args: &Run, log: Settings) -> Result<ExitCode, Failure> {
    let mut overrides: Vec<Override> = args.shards.map(shards).into_iter().collect();
    overrides.extend(component_overrides(&args.component));
    let loaded = config::load(args.config.as_deref(), &overrides, &System)?;
    let _log = log.start(traces(&loaded.config)?);
    let remedies = Remedies {
        effective: &loaded.effective,
        private: Listener {
            port: config::private_port_key(&loaded.config),
            address: "videobridge.http-servers.private.host",
        },
        public: Listener {
            port: config::public_port_key(&loaded.config),
            address: "videobridge.http-servers.public.host",
        },
        page: PAGE,
        udp_port: "videobridge.ice.udp.port",
        udp_address: "ice4j.harvest.allowed-addresses",
    };
    // Logged after the start: an error that prevents the start is then the only line.
    serve(&loaded.config, &Options::default(), remedies, |_| {
        let unknown = unknown_apis(&args.component);
        if !unknown.is_empty() {
            tracing::warn!(
                "--apis: unknown, and left out: {} (known: xmpp, rest)",
                unknown.join(", ")
            );
        }
        for warning in loaded.warnings.iter().filter(|warning| !warning.is_note()) {
            tracing::warn!("{warning}");
        }
        Ok(())
    })
}

/// Runs a bridge with a built-in focus.
pub(super) fn dev(args: &Dev) -> Result<ExitCode, Failure> {
    let mut config = config::load(None, &dev_overrides(args), &System)?.config;
    let _log = Settings::level("warn").start(traces(&config)?);
    config.harvest.loopback = true;
    let (page, api) = (dev_page(args), dev_api(args));
    check_api(page, api, &config.http_access.token)?;
    let apart = page != api;
    let options = Options {
        focus: true,
        page: apart.then_some(page),
        media_address: args.bind,
        tls: args.tls_cert.clone().zip(args.tls_key.clone()),
    };
    let private = if apart { Listener { port: "--api", address: "--api" } } else { PAGE };
    let (udp_port, udp_address) = ("--udp-port", "--bind");
    let remedies =
        Remedies { effective: &[], private, public: PAGE, page: PAGE, udp_port, udp_address };
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    serve(&config, &options, remedies, |daemon| {
        let (Some(addr), Some(api)) = (daemon.page_addr(), daemon.http_addr()) else {
            return Ok(());
        };
        if options.tls.is_none() && !addr.ip().is_loopback() {
            print_error(
                "warning: browsers give cameras to pages on localhost or over HTTPS only: add \
                 --tls-cert and --tls-key",
            );
        }
        if apart {
            let everywhere = if api.ip().is_unspecified() { " on all addresses" } else { "" };
            print_error(&format!("control API{everywhere}: http://{}/", reachable(api)));
        }
        writeln!(io::stdout(), "{scheme}://{}/", reachable(addr))
    })
}

/// Starts the exporter of traces, if one is configured.
fn traces(config: &Config) -> Result<Option<Traces>, Failure> {
    config.tracing.otlp_endpoint.as_deref().map(Traces::start).transpose()
}

/// Refuses addresses that would expose the control API without a sufficient token, or give one port to two
/// servers.
fn check_api(page: SocketAddr, api: SocketAddr, token: &Secret) -> Result<(), Failure> {
    let any = |addr: SocketAddr| addr.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let one_family = page.is_ipv4() == api.is_ipv4() || any(page) || any(api);
    let overlaps = one_family && (page.ip().is_unspecified() || api.ip().is_unspecified());
    if page != api && page.port() == api.port() && page.port() != 0 && overlaps {
        return Err(Failure::Overlap { api, page });
    }
    match token.reveal().chars().count() {
        _ if api.ip().is_loopback() => Ok(()),
        0 => Err(Failure::NoToken(api)),
        1..MIN_TOKEN => Err(Failure::ShortToken(api)),
        _ => Ok(()),
    }
}

/// The flags that set the page's address.
const PAGE: Listener = Listener { port: "--port", address: "--bind" };

fn dev_page(args: &Dev) -> SocketAddr {
    SocketAddr::new(args.bind.unwrap_or(Ipv4Addr::LOCALHOST.into()), args.port)
}

/// Returns the address of the control API. Whoever reaches it can end all calls, so it is reachable from a
/// network only if `--api` says so.
fn dev_api(args: &Dev) -> SocketAddr {
    let page = dev_page(args);
    match args.api {
        Some(api) => api,
        None if page.ip().is_loopback() => page,
        None => {
            let next = if page.port() == 0 { None } else { page.port().checked_add(1) };
            SocketAddr::new(Ipv4Addr::LOCALHOST.into(), next.unwrap_or(0))
        }
    }
}

fn shards(shards: u16) -> Override {
    Override::text("rialto.shards", shards.to_string(), "--shards")
}

/// Returns the unknown names in `--apis`, escaped for a log.
fn unknown_apis(args: &Component) -> Vec<String> {
    let apis = args.apis.iter().flat_map(|apis| apis.split(',')).map(str::trim);
    let unknown = apis.filter(|api| !["", "xmpp", "rest"].contains(api));
    unknown.map(|api| api.escape_debug().to_string()).collect()
}

/// Returns the overrides for JVB's old flags.
fn component_overrides(args: &Component) -> Vec<Override> {
    let apis = args.apis.as_ref().map(|apis| apis.split(',').map(str::trim).collect::<Vec<_>>());
    let has = |name| apis.as_ref().map(|apis| apis.contains(&name));
    let found = args.domain.is_some() || args.host.is_some() || args.subdomain.is_some();
    let enabled = has("xmpp").or(found.then_some(true)).map(|enabled| enabled.to_string());
    let rest = has("rest").filter(|rest| *rest).map(|rest| rest.to_string());
    let port = args.port.map(|port| port.to_string());
    [
        ("videobridge.apis.xmpp-component.enabled", enabled, "--apis, --domain or --host"),
        ("videobridge.apis.rest.enabled", rest, "--apis"),
        ("videobridge.apis.xmpp-component.domain", args.domain.clone(), "--domain"),
        ("videobridge.apis.xmpp-component.host", args.host.clone(), "--host"),
        ("videobridge.apis.xmpp-component.port", port, "--port"),
        ("videobridge.apis.xmpp-component.subdomain", args.subdomain.clone(), "--subdomain"),
        ("videobridge.apis.xmpp-component.secret", args.secret.clone(), "--secret"),
    ]
    .into_iter()
    .filter_map(|(key, value, flag)| value.map(|value| Override::text(key, value, flag)))
    .collect()
}

fn dev_overrides(args: &Dev) -> Vec<Override> {
    let api = dev_api(args);
    let mut overrides = vec![
        Override::text("videobridge.apis.rest.enabled", "true".to_owned(), "rialto dev"),
        Override::text("videobridge.http-servers.private.port", api.port().to_string(), "--port"),
        Override::text("videobridge.http-servers.private.host", api.ip().to_string(), "--bind"),
        Override::text("videobridge.ice.udp.port", args.udp_port.to_string(), "--udp-port"),
        // The page's offers negotiate redundant audio, so the bridge can add it for receivers that lose
        // packets.
        Override::text("jmt.audio.red.policy", "PROTECT_ALL".to_owned(), "rialto dev"),
    ];
    if !args.host.is_empty() {
        overrides.push(Override::texts("rialto.http.hosts", &args.host, "--host"));
    }
    if let Some(bind) = args.bind.filter(|bind| !bind.is_unspecified()) {
        let key = "ice4j.harvest.allowed-addresses";
        overrides.push(Override::list(key, bind.to_string(), "--bind"));
    }
    overrides.extend(args.shards.map(shards));
    overrides
}

/// Returns an address that a browser on this machine can open.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

fn serve(
    config: &Config,
    options: &Options,
    remedies: Remedies<'_>,
    ready: impl FnOnce(&Daemon) -> io::Result<()>,
) -> Result<ExitCode, Failure> {
    raise_open_files();
    let system =
        |what: &'static str| move |error: io::Error| Failure::Other(format!("{what}: {error}"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(system("cannot start the control plane"))?;
    let (code, engine) = runtime.block_on(async {
        // Installed before the first socket, so that a signal during the start is not lost.
        let mut signals = Signals::new().map_err(system("cannot handle signals"))?;
        let mut daemon = Daemon::start(config, options)
            .await
            .map_err(|error| Failure::start(error, remedies))?;
        // The process that started this one may not read its output.
        let _ = ready(&daemon);
        let manager = ServiceManager::from_env();
        manager.ready();
        let code = tokio::select! {
            code = until_stopped(&daemon, &mut signals, &manager, config.engine.sigterm_drain) => code,
            never = keep_alive(&daemon, &manager) => match never {},
        };
        daemon.leave().await;
        Ok::<_, Failure>((code, daemon.stop().await))
    })?;
    runtime.shutdown_timeout(STOP_TIMEOUT);
    drop(engine);
    Ok(code)
}

/// The limit on open files that the bridge requests. Service managers and shells often start processes with
/// 1,024, and allow more.
const OPEN_FILES: usize = 1 << 20;
/// A lower limit is worth a warning: each connection takes one file.
const FEW_FILES: usize = 4096;

/// Raises the process's limit on open files and sockets as far as the system allows, and logs the result.
fn raise_open_files() {
    let Ok((before, most)) = rialto_sys::open_files() else { return };
    let wanted = most.min(OPEN_FILES);
    if before < wanted && rialto_sys::set_open_files(wanted).is_ok() {
        tracing::info!(before, now = wanted, "limit of open files raised");
    }
    let now = rialto_sys::open_files().map_or(before, |(now, _)| now);
    if now < FEW_FILES {
        tracing::warn!(
            limit = now,
            "few files and sockets may be open, which limits connections: raise the hard limit \
             (LimitNOFILE, ulimit -Hn)"
        );
    }
}

/// Waits for the signal or the shutdown that ends the process. After SIGTERM, conferences have up to
/// `drain` to end; a second signal ends the process at once.
async fn until_stopped(
    daemon: &Daemon,
    signals: &mut Signals,
    manager: &ServiceManager,
    drain: Duration,
) -> ExitCode {
    let (name, number) = tokio::select! {
        signal = signals.next() => signal,
        () = daemon.bridge().stopped() => {
            tracing::info!("shut down");
            manager.stopping("shut down");
            return ExitCode::SUCCESS;
        }
    };
    manager.stopping(name);
    if name == "SIGTERM" && !drain.is_zero() {
        // From here on no conference can start.
        daemon.bridge().graceful_shutdown();
        if daemon.bridge().stats().conferences == 0 {
            tracing::info!(signal = name, "stopping: there are no conferences");
            return ExitCode::from(128 + number);
        }
        tracing::info!(signal = name, ?drain, "waiting for conferences to end");
        tokio::select! {
            never = manager.keep_extending_timeout() => match never {},
            (name, _) = signals.next() => tracing::info!(signal = name, "stopping at once"),
            () = daemon.bridge().stopped() => tracing::info!("shut down"),
            () = tokio::time::sleep(drain) => {
                let conferences = daemon.bridge().stats().conferences;
                tracing::info!(conferences, "stopping: the time of rialto.sigterm-drain is over");
            }
        }
    } else {
        tracing::info!(signal = name, "stopping");
    }
    ExitCode::from(128 + number)
}

/// Notifies the service manager's watchdog while no thread of the bridge is stuck.
async fn keep_alive(daemon: &Daemon, manager: &ServiceManager) -> Infallible {
    let Some(interval) = manager.interval() else { return std::future::pending().await };
    let mut ticks = tokio::time::interval(interval);
    loop {
        ticks.tick().await;
        match daemon.bridge().alive() {
            Ok(()) => manager.alive(),
            Err(error) => {
                tracing::warn!(%error, "the watchdog of the service manager is not notified");
            }
        }
    }
}

/// The signals that end the process; the exit code is 128 plus their number, as in JVB.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> (&'static str, u8) {
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", 15),
            _ = self.interrupt.recv() => ("SIGINT", 2),
            _ = self.hang_up.recv() => ("SIGHUP", 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::args::{Args, Command};

    /// Parses JVB's old flags into a configuration, or an error.
    fn flags(given: &[&str]) -> Result<Config, String> {
        let args = ["rialto", "run"].iter().chain(given);
        let Args { command: Command::Run(run) } =
            Args::try_parse_from(args).map_err(|error| error.to_string())?
        else {
            return Err("not run".to_owned());
        };
        let loaded = config::load(None, &component_overrides(&run.component), &System);
        loaded.map(|loaded| loaded.config).map_err(|error| error.to_string())
    }

    #[test]
    fn jvbs_flags_make_a_component() {
        // As Debian's script passed them.
        let all = ["--host=localhost", "--domain=example.com", "--port=5347", "--secret=s3cr3t"];
        let config = flags(&[&all[..], &["--apis=xmpp,rest", "--subdomain=jvb"]].concat()).unwrap();
        let component = config.xmpp.component.as_ref().unwrap();
        assert_eq!((component.port, component.subdomain.as_str()), (5347, "jvb"));
        assert_eq!(component.secret.reveal(), "s3cr3t");
        assert!(config.rest.colibri);
        let wire = crate::daemon::component_config(&config).unwrap();
        assert_eq!((wire.host.as_str(), wire.jid()), ("localhost", "jvb.example.com".to_owned()));
        // As it passed them once MUCs had replaced the XMPP component.
        let config = flags(&[&all[..], &["--apis=,"]].concat()).unwrap();
        assert!(config.xmpp.component.is_none() && !config.rest.colibri);
    }

    #[test]
    fn what_is_left_out_is_as_in_jvb() {
        let config = flags(&["--domain=example.com", "--secret=x"]).unwrap();
        let wire = crate::daemon::component_config(&config).unwrap();
        assert_eq!((wire.host.as_str(), wire.port), ("example.com", 5275));
        assert_eq!(wire.jid(), "jitsi-videobridge.example.com");
        let config = flags(&["--apis=xmpp", "--secret=x"]).unwrap();
        let wire = crate::daemon::component_config(&config).unwrap();
        assert_eq!((wire.host.as_str(), wire.jid()), ("localhost", "jitsi-videobridge".to_owned()));
        let lacks = flags(&["--domain=example.com"]).unwrap_err();
        assert!(lacks.contains("--secret") && lacks.contains("RIALTO_COMPONENT_SECRET"), "{lacks}");
        assert!(flags(&[]).unwrap_err().contains("--config"));
    }
}
