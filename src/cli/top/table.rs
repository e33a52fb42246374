//! The text of `rialto top`.

use crate::bridge::{Delay, EndpointStatus, ShardStatus, Status, VideoStatus};

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub columns: usize,
    pub rows: usize,
}

/// Maximum width of a name, characters.
const MAX_NAME: usize = 40;

/// Makes a peer's text safe for a terminal: one line of at most `most` characters, without characters that
/// move the cursor, change the text direction or start an escape sequence.
pub(super) fn clean(text: &str, most: usize) -> String {
    let harmless = |c: char| if is_harmful(c) { '\u{fffd}' } else { c };
    let mut cleaned: String = text.chars().map(harmless).take(most).collect();
    if text.chars().nth(most).is_some() {
        cleaned.pop();
        cleaned.push('…');
    }
    cleaned
}

fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || c == '\u{feff}'
}

/// Panics if a terminal would interpret the text instead of showing it.
pub(super) fn assert_harmless(text: &str) {
    assert!(text.chars().all(|c| c == '\n' || !is_harmful(c)), "{text:?}");
}

/// Returns the table, cut to `size` if there is one.
pub(super) fn draw(status: &Status, size: Option<Size>) -> String {
    let mut lines = head(status);
    lines.push(String::new());
    lines.extend(shards(status));
    lines.push(String::new());
    lines.extend(conferences(status, size));
    if status.shown.is_some() {
        lines.push(String::new());
        lines.extend(receivers(status));
    }
    if let Some(Size { columns, rows }) = size {
        lines.truncate(rows);
        for line in &mut lines {
            *line = line.chars().take(columns).collect();
        }
    }
    let mut lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    // The last line ends with a line break too.
    lines.push("");
    lines.join("\n")
}

fn head(status: &Status) -> Vec<String> {
    let health = match &status.health.cause {
        None if status.health.ok => "healthy".to_owned(),
        cause => format!("NOT HEALTHY: {}", clean(cause.as_deref().unwrap_or("unknown"), 200)),
    };
    let mut states = vec![format!("rialto {}", clean(&status.version, MAX_NAME)), health];
    if status.state != "RUNNING" {
        states.push(clean(&status.state, MAX_NAME).to_lowercase().replace('_', " "));
    }
    if status.drain {
        states.push("drains".to_owned());
    }
    states.push(format!("up {}", duration(status.uptime_s)));
    let mut sums = vec![
        format!("load {}", percent(status.stress)),
        format!("{} endpoints", status.endpoints),
        format!("{} in", bits(status.receive_bps)),
        format!("{} out", bits(status.send_bps)),
        format!("{} videos short", status.shortages),
    ];
    if let Some(most) = status.last_n_by_load {
        sums.push(format!("at most {most} videos each"));
    }
    vec![states.join("  "), sums.join("  ")]
}

fn shards(status: &Status) -> Vec<String> {
    let mut table = Table::new(&[
        "SHARD",
        "BUSY",
        "ENDPOINTS",
        "IN/S",
        "OUT/S",
        "P50",
        "P99",
        "DROPS/S",
        "DROPPED",
        "WAITING",
    ]);
    for shard in &status.shards {
        let (p50, p99) = delays(shard.delay);
        table.add([
            shard.shard.to_string(),
            percent(shard.busy),
            shard.endpoints.to_string(),
            shard.receive_pps.to_string(),
            shard.send_pps.to_string(),
            p50,
            p99,
            shard.drops_per_second.to_string(),
            shard.dropped.to_string(),
            shard.waiting_commands.saturating_add(shard.waiting_batches).to_string(),
        ]);
    }
    let mut lines = table.lines();
    lines.extend(drops(&status.shards));
    lines
}

/// Lists the reasons for packet drops in the last second.
fn drops(shards: &[ShardStatus]) -> Option<String> {
    let drops = shards.iter().flat_map(|shard| &shard.drops).filter(|drop| drop.per_second > 0);
    let mut rates: std::collections::BTreeMap<&str, u64> = std::collections::BTreeMap::new();
    for drop in drops {
        let rate = rates.entry(&drop.reason).or_default();
        *rate = rate.saturating_add(drop.per_second);
    }
    let texts: Vec<String> = rates
        .into_iter()
        .map(|(reason, rate)| format!("{} {rate}/s", clean(reason, MAX_NAME)))
        .collect();
    (!texts.is_empty()).then(|| format!("drops: {}", texts.join(", ")))
}

fn conferences(status: &Status, size: Option<Size>) -> Vec<String> {
    if status.conferences.is_empty() {
        return vec!["no conferences".to_owned()];
    }
    let mut table = Table::new(&["CONFERENCE", "ENDPOINTS", "SENDERS", "IN", "OUT", "SHORT"]);
    let shown = status.shown.as_ref().map(|shown| shown.summary.id.as_str());
    // The rest of the terminal is for the endpoints of the conference in detail.
    let most = size.map_or(usize::MAX, |size| (size.rows / 4).max(1));
    let listed = status.conferences.iter().take(most);
    for conference in listed {
        let mark = if Some(conference.id.as_str()) == shown { "> " } else { "  " };
        let name = conference.name.as_deref().unwrap_or(&conference.meeting_id);
        table.add([
            format!("{mark}{}", clean(name, MAX_NAME)),
            conference.endpoints.to_string(),
            conference.video_senders.to_string(),
            bits(conference.receive_bps),
            bits(conference.send_bps),
            conference.shortages.to_string(),
        ]);
    }
    let more = status.conferences.len().saturating_sub(most);
    let more = more.saturating_add(status.more_conferences);
    let mut lines = table.lines();
    lines.extend((more > 0).then(|| format!("  and {more} that are no larger")));
    lines
}

/// Lists the receivers of the conference in detail, each followed by its videos.
fn receivers(status: &Status) -> Vec<String> {
    let mut table =
        Table::new(&["ENDPOINT", "STATE", "RTT", "IN", "OUT", "LOST", "ESTIMATE", "WHY NO MORE"]);
    table.left = &["STATE", "WHY NO MORE"];
    let Some(shown) = &status.shown else { return Vec::new() };
    for endpoint in &shown.status.endpoints {
        table.add(receiver(endpoint));
        for video in &endpoint.videos {
            table.add(of_video(video));
        }
        if endpoint.more_videos > 0 {
            table.add([format!("  and {} videos", endpoint.more_videos)]);
        }
    }
    let mut lines = table.lines();
    let more = shown.status.more;
    lines.extend((more > 0).then(|| format!("and {more} endpoints that lack no more")));
    lines
}

fn receiver(endpoint: &EndpointStatus) -> [String; 8] {
    let state = if endpoint.inactive { "inactive" } else { &endpoint.transport };
    [
        clean(&endpoint.id, MAX_NAME),
        clean(state, MAX_NAME).to_lowercase(),
        endpoint.rtt_ms.map_or("-".to_owned(), |rtt| format!("{rtt:.0} ms")),
        bits(endpoint.receive_bps),
        bits(endpoint.send_bps),
        percent(f64::from(endpoint.send_loss)),
        endpoint.estimate_bps.map_or("-".to_owned(), bits),
        clean(&endpoint.why, MAX_NAME),
    ]
}

fn of_video(video: &VideoStatus) -> [String; 8] {
    let sent = match (&video.sent, video.height) {
        (None, _) => "nothing".to_owned(),
        (Some(_), Some(height)) => format!("{height}p"),
        (Some(layer), None) => clean(layer, MAX_NAME),
    };
    let wanted = video.wanted_height.map_or(String::new(), |height| format!(" of {height}p"));
    let since = format!("{}, {}", clean(&video.why, MAX_NAME), duration(video.since_ms / 1000));
    let bps = if video.sent.is_some() { bits(video.bps) } else { String::new() };
    let none = String::new;
    let name = format!("  {}", clean(&video.name, MAX_NAME));
    [name, format!("{sent}{wanted}"), none(), none(), bps, none(), none(), since]
}

/// Aligns lines in columns. The first column and those in `left` are left-aligned.
struct Table {
    rows: Vec<Vec<String>>,
    left: &'static [&'static str],
}

impl Table {
    fn new(heads: &[&str]) -> Self {
        Self { rows: vec![heads.iter().map(|head| (*head).to_owned()).collect()], left: &[] }
    }

    fn add<const N: usize>(&mut self, row: [String; N]) {
        self.rows.push(row.into());
    }

    fn lines(&self) -> Vec<String> {
        let heads = self.rows.first().map_or(&[][..], Vec::as_slice);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..heads.len()).map(width).collect();
        let cell = |(column, text): (usize, &String)| {
            let width = widths.get(column).copied().unwrap_or_default();
            let head = heads.get(column).map_or("", String::as_str);
            if column == 0 || self.left.contains(&head) {
                format!("{text:<width$}")
            } else {
                format!("{text:>width$}")
            }
        };
        let line = |row: &Vec<String>| row.iter().enumerate().map(cell).collect::<Vec<_>>();
        self.rows.iter().map(|row| line(row).join("  ")).collect()
    }
}

fn bits(bps: u64) -> String {
    let bps = bps as f64;
    if bps >= 9.995e8 {
        format!("{:.2} Gbit/s", bps / 1e9)
    } else if bps >= 9.995e5 {
        format!("{:.2} Mbit/s", bps / 1e6)
    } else {
        format!("{:.0} kbit/s", bps / 1e3)
    }
}

fn percent(fraction: f64) -> String {
    format!("{:.0} %", fraction * 100.0)
}

fn delays(delay: Option<Delay>) -> (String, String) {
    let text = |us: Option<u64>| match us {
        None => ">500 ms".to_owned(),
        Some(us) if us >= 1000 => format!("{} ms", us as f64 / 1000.0),
        Some(us) => format!("{us} µs"),
    };
    delay.map_or(("-".to_owned(), "-".to_owned()), |d| (text(d.p50_us), text(d.p99_us)))
}

fn duration(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bridge::{ConferenceStatus, ConferenceSummary, DropStatus, Health, ShownConference};

    fn status(name: &str) -> Status {
        let text = || name.to_owned();
        let summary = ConferenceSummary {
            id: text(),
            meeting_id: text(),
            name: Some(text()),
            endpoints: 1,
            ..ConferenceSummary::default()
        };
        let video = VideoStatus {
            name: text(),
            sent: Some(text()),
            reason: text(),
            why: text(),
            wanted_height: Some(720),
            since_ms: 61_000,
            ..VideoStatus::default()
        };
        let endpoint = EndpointStatus {
            id: text(),
            stats_id: Some(text()),
            transport: text(),
            why: text(),
            estimate_bps: Some(1_500_000),
            videos: vec![video.clone(), VideoStatus { height: Some(360), bps: 450_000, ..video }],
            more_videos: 3,
            ..EndpointStatus::default()
        };
        let drop = DropStatus { reason: text(), total: 9, per_second: 2 };
        Status {
            version: text(),
            state: text(),
            health: Health { ok: false, hard: true, cause: Some(text()) },
            shards: vec![ShardStatus { drops: vec![drop], ..ShardStatus::default() }],
            conferences: vec![summary.clone()],
            more_conferences: 2,
            shown: Some(ShownConference {
                summary,
                status: ConferenceStatus { dominant: None, endpoints: vec![endpoint], more: 5 },
            }),
            ..Status::default()
        }
    }

    #[test]
    fn a_table_says_what_is_sent_and_why_it_is_not_more() {
        let text = draw(&status("name"), None);
        for part in [
            "NOT HEALTHY: name",
            "SHARD  BUSY",
            "drops: name 2/s",
            "> name",
            "and 2 that are no larger",
            "1.50 Mbit/s",
            "  name          360p of 720p",
            "450 kbit/s",
            "name, 1 min",
            "and 3 videos",
            "and 5 endpoints",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_terminal_is_not_overrun() {
        for (columns, rows) in [(80, 24), (20, 5), (1, 1)] {
            let text = draw(&status(&"wide ".repeat(50)), Some(Size { columns, rows }));
            assert!(text.lines().count() <= rows);
            assert!(text.lines().all(|line| line.chars().count() <= columns), "{text}");
        }
    }

    #[test]
    fn names_move_no_cursor() {
        let evil = "\x1b[2J\x1b]0;title\x07\r\n\u{9b}31m\u{202e}\u{2066}x";
        let text = draw(&status(evil), None);
        assert!(!text.contains(['\x1b', '\x07', '\r', '\u{9b}', '\u{202e}', '\u{2066}']), "{text}");
        let lines = draw(&status("x"), None).lines().count();
        assert_eq!(text.lines().count(), lines);
        assert_eq!(clean("abcdef", 4), "abc…");
        assert_eq!(clean("abcd", 4), "abcd");
    }

    proptest! {
        #[test]
        fn any_names_are_drawn(name in any::<String>(), columns in 1usize..200, rows in 1usize..60) {
            let status = status(&name);
            for size in [None, Some(Size { columns, rows })] {
                assert_harmless(&draw(&status, size));
            }
        }

        #[test]
        fn any_figures_are_drawn(
            n in any::<u64>(), fraction in any::<f64>(), loss in any::<f32>(), rtt in any::<Option<f64>>(),
        ) {
            let mut status = status("name");
            (status.uptime_s, status.stress, status.send_bps) = (n, fraction, n);
            if let Some(shown) = &mut status.shown {
                for endpoint in &mut shown.status.endpoints {
                    (endpoint.send_loss, endpoint.rtt_ms, endpoint.estimate_bps) = (loss, rtt, Some(n));
                    for video in &mut endpoint.videos {
                        video.since_ms = n;
                    }
                }
            }
            prop_assert!(draw(&status, None).lines().count() > 5);
        }
    }
}
