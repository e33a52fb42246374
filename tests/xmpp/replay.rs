//! What a real focus asked of a real Jitsi Videobridge, asked of this bridge over a real server.

use std::{collections::HashMap, fs, path::PathBuf};

use minidom::Element;
use rialto::xmpp::{Limits, Stanza, parse};

use super::{
    compare::comparable,
    focus::{Focus, ROOM},
    here::{Here, NICK, client, set},
    prosody::Prosody,
    wire::CLIENT,
};

/// Captured stanzas by file name, in order.
fn captures(directory: &str) -> Vec<(String, Element)> {
    let directory =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/xmpp").join(directory);
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.is_file()).collect();
    files.sort();
    let read = |file: PathBuf| {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        match parse(text.trim().as_bytes(), CLIENT, Limits::default()) {
            Ok(Stanza::Whole(element)) => (name, element),
            other => panic!("{}: {other:?}", file.display()),
        }
    };
    files.into_iter().map(read).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_of_a_focus_is_answered_as_by_a_jvb() {
    let Some(prosody) = Prosody::start("") else { return };
    let here = Here::start(client(prosody.port()));
    let port = prosody.port();
    let asked = tokio::task::spawn_blocking(move || {
        let mut focus = Focus::log_in(port, "focus");
        focus.join("focus");
        focus.stats(NICK, |_| true);
        replay(&mut focus)
    });
    let compared = asked.await.unwrap();
    assert_eq!(compared, 49);
    assert_eq!(here.bridge.stats().conferences, 0);
}

/// Sends the requests as pipelined as they were, and gives the number of answers compared.
fn replay(focus: &mut Focus) -> usize {
    let mut ours = HashMap::new();
    let mut compared = 0;
    for (name, mut stanza) in captures("") {
        let id = stanza.attr("id").unwrap_or_default().to_owned();
        if name.contains("-jicofo-to-jvb-") && stanza.name() == "iq" {
            let sent = format!("ask-{}", ours.len());
            set(&mut stanza, "id", &sent);
            set(&mut stanza, "to", &format!("{ROOM}/{NICK}"));
            stanza.attrs_mut().remove(&minidom::rxml::Namespace::NONE, "from");
            focus.send_element(&stanza);
            ours.insert(id, sent);
        } else if name.contains("-jvb-to-jicofo-") {
            let sent = ours.get(&id).unwrap_or_else(|| panic!("{name} answers nothing"));
            let mut answer = focus.next(|e| e.name() == "iq" && e.attr("id") == Some(sent));
            for attribute in ["id", "to", "from"] {
                let theirs = stanza.attr(attribute).unwrap_or_default().to_owned();
                set(&mut answer, attribute, &theirs);
            }
            assert_eq!(comparable(&answer), comparable(&stanza), "{name}");
            compared += 1;
        }
    }
    compared
}
