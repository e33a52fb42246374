//! Runs a link from start to end.

use std::{
    fs::File,
    io::{self, BufRead as _, Write},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Child, ExitStatus},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use super::{
    args::Options,
    carry::{Carrier, Order, Orders},
    counts::Report,
    host::{HostError, Namespace},
    settings::Changes,
};

/// Why a link could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no namespace.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The command cannot be started.
    #[error("cannot start the command: {0}")]
    Command(io::Error),
    /// The file for the lines of JSON cannot be written.
    #[error("cannot write {0}: {1}")]
    Json(String, io::Error),
    /// Packets cannot be carried any longer.
    #[error("the link broke: {0}")]
    Broken(String),
    /// Signals, descriptors or threads.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Runs until the command ends or a signal arrives. Returns the exit status. Everything is removed.
///
/// # Errors
/// The link could not start, or not continue.
pub async fn run(options: Options) -> Result<u8, RunError> {
    // Before there is anything that a signal would leave behind.
    let mut signals = Signals::new()?;
    let mut out = open(&options.json)?;
    let (namespace, ends) = Namespace::create(&options.name, options.network, options.mtu)?;
    let ready = json!({
        "namespace": options.name, "host": namespace.host, "inside": namespace.inside,
    });
    writeln!(out, "{ready}")
        .and_then(|()| out.flush())
        .map_err(|error| RunError::Json(options.json.display().to_string(), error))?;
    let print = Box::new(move |report: Report| {
        // A reader that has gone away needs no output.
        let _ = writeln!(out, "{}", report.line()).and_then(|()| out.flush());
    });
    let links = (options.down, options.up);
    let (carrier, orders) =
        Carrier::new(ends, links, options.schedule, options.seed, options.interval, print)?;
    let (broken, mut has_broken) = oneshot::channel();
    let carrying = thread::Builder::new().name("carry".to_owned()).spawn(move || {
        let result = carrier.run();
        let _ = broken.send(result);
    })?;
    if options.control {
        let orders = orders.clone();
        thread::Builder::new().name("control".to_owned()).spawn(move || control(&orders))?;
    }
    let result = if options.command.is_empty() {
        select! {
            _ = signals.next() => Ok(0),
            result = &mut has_broken => Err(broke(result)),
        }
    } else {
        let mut command = namespace.command();
        let child = command.args(&options.command).spawn().map_err(RunError::Command);
        match child {
            Ok(child) => {
                let (pid, mut ended) = watch(child)?;
                select! {
                    status = &mut ended => Ok(exit_status(status.ok())),
                    signal = signals.next() => {
                        let _ = kill_process(pid, signal);
                        // The link continues while the command shuts down; another signal does not
                        // wait.
                        select! {
                            status = &mut ended => Ok(exit_status(status.ok())),
                            signal = signals.next() => Ok(128 + signal.as_raw() as u8),
                        }
                    }
                    result = &mut has_broken => Err(broke(result)),
                }
            }
            Err(error) => Err(error),
        }
    };
    // Programs in the namespace end before the link does.
    drop(namespace);
    orders.tell(Order::Stop);
    let _ = carrying.join();
    result
}

/// The signals that end it.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hangup.recv() => Signal::HUP,
        }
    }
}

fn open(json: &Path) -> Result<Box<dyn Write + Send>, RunError> {
    if json == Path::new("-") {
        return Ok(Box::new(io::stdout()));
    }
    let file = File::create(json);
    let file = file.map_err(|error| RunError::Json(json.display().to_string(), error))?;
    Ok(Box::new(file))
}

/// Waits for a process in a thread of its own.
fn watch(mut child: Child) -> io::Result<(Pid, oneshot::Receiver<ExitStatus>)> {
    let pid = Pid::from_child(&child);
    let (sender, receiver) = oneshot::channel();
    thread::Builder::new().name("command".to_owned()).spawn(move || {
        if let Ok(status) = child.wait() {
            let _ = sender.send(status);
        }
    })?;
    Ok((pid, receiver))
}

/// The exit status that a shell would return for such a command.
fn exit_status(status: Option<ExitStatus>) -> u8 {
    let Some(status) = status else { return 1 };
    let signalled = status.signal().map(|signal| 128 + signal);
    status.code().or(signalled).and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

fn broke(result: Result<io::Result<()>, oneshot::error::RecvError>) -> RunError {
    RunError::Broken(match result {
        Ok(Err(error)) => error.to_string(),
        Ok(Ok(())) | Err(_) => "its thread ended".to_owned(),
    })
}

/// Applies the lines of standard input.
fn control(orders: &Orders) {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        match Changes::parse(&line) {
            Ok(changes) => orders.tell(Order::Change(Box::new(changes))),
            Err(problem) => eprintln!("rialto-link: {problem}"),
        }
    }
}
