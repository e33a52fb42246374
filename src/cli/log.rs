//! The log's way to standard error. Nobody who logs waits for who reads it: a full disk or a reader that
//! is stuck costs lines, never media.

use std::{
    borrow::Cow,
    fmt::Write as _,
    fs::File,
    io::{self, IsTerminal as _, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tracing::{Level, Subscriber};
use tracing_subscriber::{
    EnvFilter, filter::filter_fn, fmt::MakeWriter, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// Lines that wait for being written.
const LINES: usize = 16 * 1024;
/// And their bytes: seconds of the most talkative level.
const BYTES: usize = 8 << 20;
/// Upper bound of a line, bytes: it may quote what a peer sent.
const LINE_BYTES: usize = 8 << 10;
/// At the end of the process, what waits has so long to be written.
const END_PATIENCE: Duration = Duration::from_millis(500);

enum Item {
    Line(Vec<u8>),
    /// Tell when all before it is written.
    Flush(Sender<()>),
}

/// The end of the queue that lines go into. Clones are the same.
#[derive(Clone)]
struct Lines {
    queue: SyncSender<Item>,
    waiting: Arc<Waiting>,
    /// Whether lines are coloured.
    ansi: bool,
}

#[derive(Default)]
struct Waiting {
    bytes: AtomicUsize,
    /// Lines that found no place, and of which nothing was said yet.
    lost: AtomicU64,
}

/// Writes what waits when it is dropped, unless that takes too long.
pub(super) struct Log(Option<Lines>);

impl Log {
    /// Everything that is logged from now on goes to standard error. `RUST_LOG` decides; `default` is the
    /// level without it. The ICE agent's own lines are about single packets, which peers can cause at
    /// will: only its errors are shown.
    pub(super) fn start(default: &str) -> Self {
        Self::start_with(default, None)
    }

    /// The same, and to a file as well.
    pub(super) fn start_with(default: &str, file: Option<File>) -> Self {
        let ansi = io::stderr().is_terminal() && file.is_none();
        let Some(lines) = Lines::start(Tee { file }, ansi) else { return Self(None) };
        let filter = EnvFilter::try_from_default_env()
            .unwrap_or_else(|_| EnvFilter::new(format!("{default},is=error,sctp_proto=off")));
        // Only fails when there is a subscriber already.
        let _ = subscriber(filter, ansi, lines.clone()).try_init();
        Self(Some(lines))
    }
}

/// Standard error, and a file where there is one. What the file does not take (its disk is full) is still
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

/// Lines of libraries that quote what nobody may read in a log are capped at these levels, whatever
/// `RUST_LOG` says: the ICE agent prints both passwords of a transport at DEBUG and whole STUN messages at
/// TRACE, and the WebSocket library prints what people say to each other.
const CAPS: [(&str, Level); 2] = [("is", Level::INFO), ("tungstenite", Level::DEBUG)];

/// Whether a line of this target and level may be shown.
fn may_show(target: &str, level: Level) -> bool {
    let root = target.split("::").next().unwrap_or_default();
    CAPS.iter().all(|(capped, most)| *capped != root || level <= *most)
}

fn subscriber<W>(
    filter: EnvFilter,
    ansi: bool,
    writer: W,
) -> impl Subscriber + Send + Sync + 'static
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let cap = filter_fn(|metadata| may_show(metadata.target(), *metadata.level()));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(ansi)
        .with_writer(writer)
        .finish()
        .with(cap)
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(lines) = &self.0 {
            lines.flush(END_PATIENCE);
        }
    }
}

impl Lines {
    /// `None` when the system has no thread for it.
    fn start(to: impl Write + Send + 'static, ansi: bool) -> Option<Self> {
        let (queue, items) = sync_channel(LINES);
        let waiting = Arc::<Waiting>::default();
        let shared = waiting.clone();
        let run = move || write_all(&items, &shared, to);
        thread::Builder::new().name("log".to_owned()).spawn(run).ok()?;
        Some(Self { queue, waiting, ansi })
    }

    /// Waits until everything is written, or until patience ends.
    fn flush(&self, patience: Duration) {
        let end = Instant::now() + patience;
        let (written, all) = channel();
        // A full queue has no place for the request either, until the writer has got on.
        while self.queue.try_send(Item::Flush(written.clone())).is_err() {
            if Instant::now() >= end {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        let _ = all.recv_timeout(end.saturating_duration_since(Instant::now()));
    }

    fn push(&self, line: &[u8]) {
        let before = self.waiting.bytes.fetch_add(line.len(), Ordering::Relaxed);
        let fits = before.saturating_add(line.len()) <= BYTES;
        if !fits || self.queue.try_send(Item::Line(line.to_vec())).is_err() {
            self.waiting.bytes.fetch_sub(line.len(), Ordering::Relaxed);
            self.waiting.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// Takes one line, which comes in one piece.
struct Line<'a>(&'a Lines);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(&one_line(line, self.0.ansi));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes sure that a line is one and has a bounded length, whatever it quotes: control characters but
/// the end of the line are escaped, so that nobody writes lines of their own or moves a terminal's
/// cursor.
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

/// Whether a text begins with a change of colour, which is all that the formatter writes.
fn is_colour(text: &str) -> bool {
    text.strip_prefix("\x1b[").is_some_and(|rest| {
        rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m')
    })
}

/// The thread `log`.
fn write_all(items: &Receiver<Item>, waiting: &Waiting, mut to: impl Write) {
    while let Ok(item) = items.recv() {
        match item {
            Item::Line(line) => {
                waiting.bytes.fetch_sub(line.len(), Ordering::Relaxed);
                if to.write_all(&line).is_err() {
                    waiting.lost.fetch_add(1, Ordering::Relaxed);
                } else {
                    tell_lost(waiting, &mut to);
                }
            }
            Item::Flush(written) => {
                let _ = to.flush();
                let _ = written.send(());
            }
        }
    }
}

/// Says how many lines are missing, once there is somebody to say it to.
fn tell_lost(waiting: &Waiting, to: &mut impl Write) {
    let lost = waiting.lost.swap(0, Ordering::Relaxed);
    if lost > 0 && writeln!(to, "rialto: {lost} lines of the log could not be written").is_err() {
        waiting.lost.fetch_add(lost, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use is::{IceAgent, IceCreds};

    use super::*;

    /// Longer than any machine takes.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// A reader that takes nothing until it is told to, or whose disk is full.
    #[derive(Clone, Default)]
    struct Reader(Arc<(Mutex<State>, Condvar)>);

    #[derive(Default)]
    struct State {
        open: bool,
        full: bool,
        text: Vec<u8>,
    }

    impl Reader {
        fn set(&self, open: bool, full: bool) {
            let mut state = self.0.0.lock().unwrap();
            (state.open, state.full) = (open, full);
            self.0.1.notify_all();
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.0.lock().unwrap().text.clone()).unwrap()
        }
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut state = self.0.1.wait_while(self.0.0.lock().unwrap(), |s| !s.open).unwrap();
            if state.full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.text.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_is_stuck_costs_lines_and_no_time() {
        let reader = Reader::default();
        let lines = Lines::start(reader.clone(), false).unwrap();
        let line = [b'x'; 99];
        for _ in 0..LINES + 100 {
            let _ = lines.make_writer().write(&line);
        }
        let huge = vec![b'y'; BYTES];
        lines.push(&huge);
        let lost = lines.waiting.lost.load(Ordering::Relaxed);
        assert!((100..=101).contains(&lost), "one may be in the writer's hands: {lost}");
        assert!(lines.waiting.bytes.load(Ordering::Relaxed) <= BYTES);
        reader.set(true, false);
        lines.flush(PATIENCE);
        let text = reader.text();
        assert!(
            text.contains(&format!("rialto: {lost} lines of the log")),
            "what is missing is told"
        );
        assert!(!text.contains('y'));
    }

    #[test]
    fn a_full_disk_is_told_when_there_is_room_again() {
        let reader = Reader::default();
        reader.set(true, true);
        let lines = Lines::start(reader.clone(), false).unwrap();
        lines.push(b"lost\n");
        lines.flush(PATIENCE);
        reader.set(true, false);
        lines.push(b"kept\n");
        lines.flush(PATIENCE);
        assert_eq!(reader.text(), "kept\nrialto: 1 lines of the log could not be written\n");
    }

    /// What is logged under this `RUST_LOG`.
    fn logged(directives: &str, log: impl FnOnce()) -> String {
        let reader = Reader::default();
        reader.set(true, false);
        let lines = Lines::start(reader.clone(), false).unwrap();
        let filter = EnvFilter::new(directives);
        tracing::subscriber::with_default(subscriber(filter, false, lines.clone()), log);
        lines.flush(PATIENCE);
        reader.text()
    }

    /// What the library may log of two transports' passwords, and a line that is worth one.
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
        let reader = Reader::default();
        reader.set(true, false);
        let lines = Lines::start(reader.clone(), false).unwrap();
        let uncapped = tracing_subscriber::fmt()
            .with_env_filter("is=debug")
            .with_writer(lines.clone())
            .finish();
        tracing::subscriber::with_default(uncapped, use_passwords);
        lines.flush(PATIENCE);
        assert!(reader.text().contains("their-secret"), "the cap is needed no more");
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
        let reader = Reader::default();
        reader.set(true, false);
        let lines = Lines::start(reader.clone(), false).unwrap();
        lines.make_writer().write_all(b"WARN meeting=m\n2026 ERROR forged\r\x1b[2J\0\n").unwrap();
        lines.flush(PATIENCE);
        assert_eq!(reader.text(), "WARN meeting=m\\n2026 ERROR forged\\r\\x1b[2J\\x00\n");
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
