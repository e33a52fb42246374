//! Writes the log to standard error. Logging never blocks: when the disk is full or the reader is stuck,
//! log lines are lost, and media is not delayed.

use std::{
    borrow::Cow,
    fmt::Write as _,
    fs::File,
    io::{self, IsTerminal as _, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tracing::{Level, Subscriber};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt as _, filter_fn},
    fmt::MakeWriter,
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use super::traces::Traces;

/// Upper bound of the queued bytes: seconds of the most verbose level.
const BYTES: usize = 8 << 20;
/// A queued line counts as at least this many bytes, for its overhead.
const MIN_LINE_BYTES: usize = 512;
/// Upper bound of queued lines. The limit on bytes is reached first.
const LINES: usize = BYTES / MIN_LINE_BYTES + 1;
/// Upper bound of a line, bytes: it may quote a peer's input.
const LINE_BYTES: usize = 8 << 10;

/// The queue of log lines. Clones share it.
#[derive(Clone)]
struct LogQueue {
    queue: NonBlocking,
    waiting: Arc<Pending>,
    /// Whether lines are coloured.
    ansi: bool,
}

#[derive(Default)]
struct Pending {
    bytes: AtomicUsize,
    /// Lines lost that the log has not reported yet.
    lost: AtomicU64,
}

/// The bytes that a line takes of [`BYTES`].
fn cost(line: &[u8]) -> usize {
    line.len().max(MIN_LINE_BYTES)
}

/// Level and destination of the log, before [`Self::start`].
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// The level if `RUST_LOG` is not set.
    pub level: &'static str,
    /// A second destination beside standard error.
    pub file: Option<File>,
}

/// Dropping it writes the queued lines, unless that takes longer than a second.
pub(super) struct Log {
    /// Dropped before the log, which may report lost spans.
    _traces: Option<Traces>,
    _worker: WorkerGuard,
}

impl Settings {
    /// Logs to standard error, at this level if `RUST_LOG` is not set.
    pub(super) fn level(level: &'static str) -> Self {
        Self { level, file: None }
    }

    /// Starts logging to standard error, filtered by `RUST_LOG`. The ICE agent's lines are about single
    /// packets, which peers can send at will: by default only its errors are logged. Spans of requests go
    /// to `traces`, whatever `RUST_LOG` says.
    pub(super) fn start(self, traces: Option<Traces>) -> Log {
        let ansi = io::stderr().is_terminal() && self.file.is_none();
        let (lines, worker) = LogQueue::start(Tee { file: self.file }, ansi);
        let filter = EnvFilter::try_from_default_env()
            .unwrap_or_else(|_| EnvFilter::new(format!("{},is=error,sctp_proto=off", self.level)));
        let subscriber = subscriber(filter, ansi, lines);
        // Fails only if there is a subscriber already.
        let _ = match &traces {
            Some(traces) => subscriber.with(traces.layer()).try_init(),
            // No no-op layer: with one, each disabled span and line would cost a check.
            None => subscriber.try_init(),
        };
        Log { _traces: traces, _worker: worker }
    }
}

/// Standard error and an optional file. Lines that the file does not accept (its disk is full) are still
/// written to standard error.
struct Tee {
    file: Option<File>,
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = io::stderr().write(bytes)?;
        if let (Some(file), Some(bytes)) = (&mut self.file, bytes.get(..written)) {
            let _ = file.write_all(bytes);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Level caps on libraries that log secrets, whatever `RUST_LOG` says: the ICE agent logs both passwords of
/// a transport at DEBUG and whole STUN messages at TRACE, and the WebSocket library logs the content of
/// messages.
const CAPS: [(&str, Level); 2] = [("is", Level::INFO), ("tungstenite", Level::DEBUG)];

/// Returns whether the caps allow a line of this target and level.
fn may_show(target: &str, level: Level) -> bool {
    let root = target.split("::").next().unwrap_or_default();
    CAPS.iter().all(|(capped, most)| *capped != root || level <= *most)
}

/// Returns a subscriber that writes the lines that pass `filter`. Spans are for traces only: they neither
/// enable lines nor appear in them.
fn subscriber<W>(
    filter: EnvFilter,
    ansi: bool,
    writer: W,
) -> impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let shown =
        filter_fn(|metadata| metadata.is_event() && may_show(metadata.target(), *metadata.level()));
    let lines = tracing_subscriber::fmt::layer().with_ansi(ansi).with_writer(writer);
    Registry::default().with(lines.with_filter(filter.and(shown)))
}

impl LogQueue {
    fn start(to: impl Write + Send + 'static, ansi: bool) -> (Self, WorkerGuard) {
        let waiting = Arc::<Pending>::default();
        let to = Counted { to, waiting: waiting.clone() };
        let (queue, worker) =
            NonBlockingBuilder::default().buffered_lines_limit(LINES).thread_name("log").finish(to);
        (Self { queue, waiting, ansi }, worker)
    }

    fn push(&self, line: &[u8]) {
        let before = self.waiting.bytes.fetch_add(cost(line), Ordering::Relaxed);
        let fits = before.saturating_add(cost(line)) <= BYTES;
        // This does not fail: if the bytes fit, the queue has room.
        if !fits || self.queue.clone().write_all(line).is_err() {
            self.waiting.bytes.fetch_sub(cost(line), Ordering::Relaxed);
            self.waiting.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// Queues one line, which arrives in one write.
struct Line<'a>(&'a LogQueue);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(&one_line(line, self.0.ansi));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The writer of the queue, on the thread `log`: counts the bytes that leave the queue, and reports how
/// many lines were lost once lines can be written again.
struct Counted<W> {
    to: W,
    waiting: Arc<Pending>,
}

impl<W: Write> Counted<W> {
    fn report_lost(&mut self) {
        let lost = self.waiting.lost.swap(0, Ordering::Relaxed);
        let text = "lines of the log could not be written";
        if lost > 0 && writeln!(self.to, "rialto: {lost} {text}").is_err() {
            self.waiting.lost.fetch_add(lost, Ordering::Relaxed);
        }
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_all(line)?;
        Ok(line.len())
    }

    /// The queue hands over one line at a time, and ignores errors.
    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        self.waiting.bytes.fetch_sub(cost(line), Ordering::Relaxed);
        let written = self.to.write_all(line);
        if written.is_err() {
            self.waiting.lost.fetch_add(1, Ordering::Relaxed);
        } else {
            self.report_lost();
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Returns a single line of bounded length, whatever it quotes: control characters except the final line
/// break are escaped, so that a peer can neither forge lines nor move a terminal's cursor.
fn one_line(line: &[u8], ansi: bool) -> Cow<'_, [u8]> {
    let (text, end) = match line.strip_suffix(b"\n") {
        Some(text) => (text, "\n"),
        None => (line, ""),
    };
    // U+0080 to U+009F are control characters as well; all of them begin with this byte.
    let plain = |byte: &u8| !byte.is_ascii_control() && *byte != 0xc2;
    if line.len() <= LINE_BYTES && text.iter().all(plain) {
        return Cow::Borrowed(line);
    }
    let cut = &text[..text.len().min(LINE_BYTES)];
    let cut = String::from_utf8_lossy(cut);
    let mut out = String::with_capacity(cut.len() + 64);
    for (at, char) in cut.char_indices() {
        if out.len() > LINE_BYTES - 16 {
            break;
        }
        if !char.is_control() || (ansi && is_colour(&cut[at..])) {
            out.push(char);
        } else if char.is_ascii() && !matches!(char, '\n' | '\r' | '\t') {
            let _ = write!(out, "\\x{:02x}", char as u32);
        } else {
            out.extend(char.escape_default());
        }
    }
    if text.len() > LINE_BYTES || out.len() > LINE_BYTES - 16 {
        out.push('…');
        if ansi {
            out.push_str("\x1b[0m");
        }
    }
    out.push_str(end);
    Cow::Owned(out.into_bytes())
}

/// Returns whether a text begins with a colour sequence, the only kind that the formatter writes.
fn is_colour(text: &str) -> bool {
    text.strip_prefix("\x1b[").is_some_and(|rest| {
        rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m')
    })
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Condvar, Mutex},
        time::Duration,
    };

    use is::{IceAgent, IceCreds};

    use super::*;

    /// More than any machine needs.
    const TIMEOUT: Duration = Duration::from_secs(60);

    /// A reader that blocks until it is opened, or whose disk is full.
    #[derive(Clone, Default)]
    struct Reader(Arc<(Mutex<State>, Condvar)>);

    #[derive(Default)]
    struct State {
        open: bool,
        full: bool,
        refused: usize,
        text: Vec<u8>,
    }

    impl Reader {
        fn opened() -> Self {
            let reader = Self::default();
            reader.set(true, false);
            reader
        }

        fn set(&self, open: bool, full: bool) {
            let mut state = self.0.0.lock().unwrap();
            (state.open, state.full) = (open, full);
            self.0.1.notify_all();
        }

        /// Returns the written text once `is_all` accepts it.
        fn text_when(&self, is_all: impl Fn(&[u8]) -> bool) -> String {
            let state = self.0.0.lock().unwrap();
            let waits = |state: &mut State| !is_all(&state.text);
            let (state, late) = self.0.1.wait_timeout_while(state, TIMEOUT, waits).unwrap();
            let text = String::from_utf8(state.text.clone()).unwrap();
            assert!(!late.timed_out(), "only {text}");
            text
        }

        fn text_to(&self, end: &str) -> String {
            self.text_when(|text| text.ends_with(end.as_bytes()))
        }
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut state = self.0.1.wait_while(self.0.0.lock().unwrap(), |s| !s.open).unwrap();
            if state.full {
                state.refused += 1;
                self.0.1.notify_all();
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.text.extend_from_slice(bytes);
            self.0.1.notify_all();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_is_stuck_costs_lines_and_no_time() {
        let reader = Reader::default();
        let (lines, _worker) = LogQueue::start(reader.clone(), false);
        let line = [b'x'; 99];
        for _ in 0..LINES + 100 {
            let _ = lines.make_writer().write(&line);
        }
        let huge = vec![b'y'; BYTES];
        lines.push(&huge);
        let lost = lines.waiting.lost.load(Ordering::Relaxed);
        assert!((101..=102).contains(&lost), "one may be in the writer's hands: {lost}");
        assert!(lines.waiting.bytes.load(Ordering::Relaxed) <= BYTES);
        assert_eq!(lines.queue.error_counter().dropped_lines(), 0, "counted nowhere");
        reader.set(true, false);
        let count = |text: &[u8]| text.split(|byte| *byte == b'x').count() - 1;
        let written = (LINES + 101 - lost as usize) * line.len();
        let text = reader.text_when(|text| count(text) == written);
        assert!(
            text.contains(&format!("rialto: {lost} lines of the log")),
            "what is missing is told"
        );
        assert!(!text.contains('y'));
    }

    #[test]
    fn lost_lines_are_reported_once_the_disk_has_room() {
        let reader = Reader::default();
        reader.set(true, true);
        let (lines, _worker) = LogQueue::start(reader.clone(), false);
        lines.push(b"lost\n");
        let state = reader.0.0.lock().unwrap();
        let waits = |state: &mut State| state.refused == 0;
        let (state, _) = reader.0.1.wait_timeout_while(state, TIMEOUT, waits).unwrap();
        drop(state);
        reader.set(true, false);
        lines.push(b"kept\n");
        let told = "rialto: 1 lines of the log could not be written\n";
        assert_eq!(reader.text_to(told), format!("kept\n{told}"));
    }

    /// Returns the lines that `log` writes under this `RUST_LOG`.
    fn logged(directives: &str, log: impl FnOnce()) -> String {
        let reader = Reader::opened();
        let (lines, _worker) = LogQueue::start(reader.clone(), false);
        let filter = EnvFilter::new(directives);
        tracing::subscriber::with_default(subscriber(filter, false, lines.clone()), log);
        lines.push(END);
        reader.text_to("\n--\n")
    }

    const END: &[u8] = b"\n--\n";

    /// Logs as the ICE library does with the passwords of two transports, and one line that stays.
    fn use_passwords() {
        let creds = |pass: &str| IceCreds { ufrag: "u".to_owned(), pass: pass.to_owned() };
        let mut agent = IceAgent::new(creds("our-secret"));
        agent.set_local_credentials(creds("our-secret-2"));
        agent.set_remote_credentials(creds("their-secret"));
        tracing::warn!(target: "is::agent", "kept");
    }

    #[test]
    fn no_directive_shows_the_passwords_of_ice() {
        for directives in ["debug", "trace", "is=trace", "is::agent=trace,warn"] {
            let text = logged(directives, use_passwords);
            assert!(!text.contains("secret"), "{directives}: {text}");
            assert!(text.contains("kept"), "{directives}: {text}");
        }
        let reader = Reader::opened();
        let (lines, _worker) = LogQueue::start(reader.clone(), false);
        let uncapped = tracing_subscriber::fmt()
            .with_env_filter("is=debug")
            .with_writer(lines.clone())
            .finish();
        tracing::subscriber::with_default(uncapped, use_passwords);
        lines.push(END);
        assert!(reader.text_to("\n--\n").contains("their-secret"), "the cap is needed no more");
        let ours = logged("debug", || tracing::debug!("our own lines stay"));
        assert!(ours.contains("our own lines stay"));
    }

    #[test]
    fn caps_are_of_whole_targets() {
        assert!(!may_show("is", Level::DEBUG) && may_show("is", Level::INFO));
        assert!(!may_show("tungstenite::protocol::frame", Level::TRACE));
        assert!(may_show("rialto::transport::ice", Level::TRACE) && may_show("iso", Level::TRACE));
    }

    fn shown(line: &str, ansi: bool) -> String {
        String::from_utf8(one_line(line.as_bytes(), ansi).into_owned()).unwrap()
    }

    #[test]
    fn what_is_quoted_forges_no_lines() {
        let reader = Reader::opened();
        let (lines, _worker) = LogQueue::start(reader.clone(), false);
        lines.make_writer().write_all(b"WARN meeting=m\n2026 ERROR forged\r\x1b[2J\0\n").unwrap();
        let shown_as = "WARN meeting=m\\n2026 ERROR forged\\r\\x1b[2J\\x00\n";
        assert_eq!(reader.text_to("x00\n"), shown_as);
        assert_eq!(shown("a\u{85}b\u{9b}2J é\n", false), "a\\u{85}b\\u{9b}2J é\n");
        assert_eq!(shown("as it is — é\n", false), "as it is — é\n");
    }

    #[test]
    fn only_colours_stay_and_only_on_a_terminal() {
        let coloured = "\x1b[2m12:00\x1b[0m \x1b[1;33mWARN\x1b[0m it\n";
        assert_eq!(shown(coloured, true), coloured);
        assert!(!shown(coloured, false).contains('\x1b'));
        assert_eq!(shown("a\x1b[2Jb\x1b]0;c\x07\n", true), "a\\x1b[2Jb\\x1b]0;c\\x07\n");
    }

    #[test]
    fn a_long_line_is_cut() {
        for long in ["x".repeat(1 << 20), "é".repeat(5000), "\n".repeat(5000)] {
            for ansi in [false, true] {
                let line = shown(&format!("{long}\n"), ansi);
                assert!(line.len() <= LINE_BYTES + 16, "{}", line.len());
                assert!(line.ends_with('\n') && line.contains('…'));
                assert_eq!(line.lines().count(), 1);
            }
        }
        assert_eq!(shown(&"x".repeat(LINE_BYTES), false).len(), LINE_BYTES);
    }
}
