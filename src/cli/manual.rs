//! Manual pages and shell completions, made from the arguments.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::{
    Man,
    roff::{Inline, Roff, bold, roman},
};

use super::{Args, Failure};
use crate::http;

/// `rialto man`: prints the page of the command itself, or writes all pages into a directory.
pub(super) fn pages(directory: Option<&Path>) -> Result<ExitCode, Failure> {
    let Some(directory) = directory else {
        // A reader that closed the pipe is not an error.
        let _ = io::stdout().write_all(&main_page().1);
        return Ok(ExitCode::SUCCESS);
    };
    let write = || -> io::Result<()> {
        fs::create_dir_all(directory)?;
        for (name, page) in all_pages() {
            fs::write(directory.join(name), page)?;
        }
        Ok(())
    };
    write().map_err(|error| Failure::Other(format!("{}: {error}", directory.display())))?;
    Ok(ExitCode::SUCCESS)
}

/// `rialto completions`.
pub(super) fn completions(shell: Shell) {
    let _ = io::stdout().write_all(&script(shell));
}

fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "rialto", &mut script);
    script
}

/// The command with the short version, so that pages do not differ between builds.
fn command() -> Command {
    let mut command = Args::command().version(http::VERSION).disable_help_subcommand(true);
    command.build();
    command
}

/// Returns file name and text of each page: `rialto.1`, and `rialto-run.1` for `rialto run`.
fn all_pages() -> Vec<(String, Vec<u8>)> {
    let command = command();
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    let pages = shown.map(|command| page(command, &[("SEE ALSO", &[&["rialto", "(1)"]])]));
    pages.chain([main_page()]).collect()
}

/// Words of a manual page, bold and plain in turn.
type Words = &'static [&'static str];

/// A heading and its paragraphs.
type Section = (&'static str, &'static [Words]);

/// Sections of the main page that are not made from the arguments.
const MAIN: &[Section] = &[
    (
        "EXIT STATUS",
        &[
            &[
                "0",
                "  The bridge was asked over HTTP to stop, or the command did what it was asked.",
            ],
            &[
                "1",
                "  The system refused: a port is in use, a permission is missing. One line says what.",
            ],
            &["2", "  The command line is wrong."],
            &["78", "  The configuration cannot be used. One line says which key, file and line."],
            &["129, 130, 143", "  The bridge was stopped by SIGHUP, SIGINT or SIGTERM."],
        ],
    ),
    (
        "FILES",
        &[
            &[
                "/etc/jitsi/videobridge/jvb.conf",
                "  Configuration of the service, in HOCON. Missing values have Jitsi Videobridge's \
                 defaults.",
            ],
            &[
                "/etc/jitsi/videobridge/sip-communicator.properties",
                "  Old keys of Jitsi Videobridge.",
            ],
            &["/var/lib/rialto", "  Packet captures, if they are on."],
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            &[
                "RUST_LOG",
                "  Level of the log: error, warn, info, debug, trace, or one for each part.",
            ],
            &[
                "RIALTO_HTTP_TOKEN",
                "  Token for requests to the private HTTP server; ",
                "rialto top",
                " sends it.",
            ],
            &["RIALTO_COMPONENT_SECRET", "  Secret of an XMPP component; see --secret."],
            &[
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                "  Address of an OpenTelemetry collector for traces of requests, if \
                 rialto.tracing.otlp-endpoint is not set.",
            ],
        ],
    ),
    (
        "SIGNALS",
        &[&[
            "SIGTERM",
            "  Stops the bridge: at once, or, if ",
            "rialto.sigterm-drain",
            " gives them time, after its conferences have ended. A second signal stops it at once.",
        ]],
    ),
    (
        "SEE ALSO",
        &[
            &[
                "rialto-run",
                "(1), ",
                "rialto-check-config",
                "(1), ",
                "rialto-dev",
                "(1), ",
                "rialto-container",
                "(1), ",
                "rialto-health",
                "(1), ",
                "rialto-top",
                "(1)",
            ],
            &["", "/usr/share/doc/rialto/operating.md, /usr/share/doc/rialto/metrics.md"],
        ],
    ),
];

fn main_page() -> (String, Vec<u8>) {
    page(&command(), MAIN)
}

/// Returns file name and text of a command's page, with `sections` at its end.
fn page(command: &Command, sections: &[Section]) -> (String, Vec<u8>) {
    let man =
        Man::new(command.clone()).source(format!("rialto {}", http::VERSION)).manual("Rialto");
    let mut text = Vec::new();
    let mut roff = Roff::default();
    for (heading, paragraphs) in sections {
        roff.control("SH", [*heading]);
        for words in *paragraphs {
            roff.control("PP", []);
            roff.text(words.iter().enumerate().map(alternate).collect::<Vec<_>>());
        }
    }
    // Writing to memory does not fail.
    let _ = man.render_title(&mut text);
    let _ = man.render_name_section(&mut text);
    let _ = man.render_synopsis_section(&mut text);
    let _ = man.render_description_section(&mut text);
    let _ = man.render_options_section(&mut text);
    if command.get_subcommands().any(|command| !command.is_hide_set()) {
        let _ = man.render_subcommands_section(&mut text);
    }
    let _ = roff.to_writer(&mut text);
    (man.get_filename(), text)
}

fn alternate((at, word): (usize, &&'static str)) -> Inline {
    if at % 2 == 0 { bold(*word) } else { roman(*word) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(page: &[u8]) -> String {
        // Hyphens are escaped.
        String::from_utf8(page.to_vec()).unwrap().replace('\\', "")
    }

    #[test]
    fn every_command_that_help_lists_has_a_page_with_its_options() {
        let pages = all_pages();
        let command = command();
        let shown: Vec<_> =
            command.get_subcommands().filter(|command| !command.is_hide_set()).collect();
        assert_eq!(pages.len(), shown.len() + 1);
        for command in shown {
            let file = format!("rialto-{}.1", command.get_name());
            let (_, page) =
                pages.iter().find(|(name, _)| *name == file).unwrap_or_else(|| panic!("{file}"));
            let page = text(page);
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                let name = argument.get_long().map_or_else(
                    || argument.get_value_names().unwrap()[0].to_string(),
                    |long| format!("--{long}"),
                );
                assert!(page.contains(&name), "{file}: {name}");
            }
        }
    }

    #[test]
    fn the_main_page_says_what_the_arguments_do_not() {
        let (name, page) = main_page();
        let page = text(&page);
        assert_eq!(name, "rialto.1");
        for part in ["NAME", "SYNOPSIS", "SUBCOMMANDS", "EXIT STATUS", "FILES", "ENVIRONMENT"] {
            assert!(
                page.contains(&format!(".SH \"{part}\"")) || page.contains(&format!(".SH {part}")),
                "{part}: {page}"
            );
        }
        assert!(page.contains("rialto-check-config"));
        // The page is the same in every build.
        assert!(!page.contains(env!("RIALTO_BUILD")));
        // Every page that it refers to exists.
        let names: Vec<_> = all_pages().into_iter().map(|(name, _)| name).collect();
        let (_, paragraphs) = MAIN.iter().find(|(heading, _)| *heading == "SEE ALSO").unwrap();
        for other in paragraphs[0].iter().step_by(2) {
            assert!(names.contains(&format!("{other}.1")), "{other}");
        }
    }

    #[test]
    fn completions_know_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(script(shell)).unwrap();
            for word in ["check-config", "connect", "container"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
