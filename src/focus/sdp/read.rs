//! Parses descriptions.

use super::{
    Candidate, Codec, Description, Direction, Error, Extmap, Kind, MAX_BYTES, MAX_REPEATS,
    MAX_SECTIONS, Rid, Section, Setup, Ssrc, SsrcGroup, Transport,
};

/// Maximum length of a token (codec name, parameter, URI, credential), bytes.
const MAX_TOKEN: usize = 512;

impl Description {
    /// Parses a description. Unknown lines and attributes are skipped.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_BYTES {
            return Err(Error::TooLong);
        }
        let mut lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
        if lines.next() != Some("v=0") {
            return Err(Error::Version);
        }
        let mut description = Self::default();
        for line in lines {
            let Some((kind, value)) = line.split_once('=') else { continue };
            match kind {
                "o" => origin(&mut description, value)?,
                "m" => {
                    let section = media(value)?;
                    push(&mut description.sections, section, MAX_SECTIONS, "m")?;
                }
                "a" => attribute(&mut description, value)?,
                _ => {}
            }
        }
        Ok(description)
    }
}

fn origin(description: &mut Description, value: &str) -> Result<(), Error> {
    let mut words = value.split_ascii_whitespace().skip(1);
    description.session = number(words.next(), "o")?;
    description.version = number(words.next(), "o")?;
    Ok(())
}

fn media(value: &str) -> Result<Section, Error> {
    let mut words = value.split_ascii_whitespace();
    let kind = match words.next() {
        Some("audio") => Kind::Audio,
        Some("video") => Kind::Video,
        Some("application") => Kind::Application,
        _ => return Err(Error::Malformed("m")),
    };
    let port: u16 = number(words.next(), "m")?;
    words.next().ok_or(Error::Malformed("m"))?;
    let mut section = Section::new(kind, "", Direction::SendRecv);
    section.rejected = port == 0;
    if kind != Kind::Application {
        for word in words {
            let pt: u8 = number(Some(word), "m")?;
            if pt > 127 {
                return Err(Error::Malformed("m"));
            }
            if section.codecs.iter().all(|codec| codec.pt != pt) {
                let codec = Codec {
                    pt,
                    name: String::new(),
                    clock_rate: 0,
                    channels: None,
                    parameters: Vec::new(),
                    feedback: Vec::new(),
                };
                push(&mut section.codecs, codec, MAX_REPEATS, "payload type")?;
            }
        }
    }
    Ok(section)
}

fn attribute(description: &mut Description, line: &str) -> Result<(), Error> {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    let Some(section) = description.sections.last_mut() else {
        match name {
            "group" => {
                if let Some(mids) = value.strip_prefix("BUNDLE") {
                    for mid in mids.split_ascii_whitespace() {
                        push(&mut description.bundle, token(mid)?, MAX_SECTIONS, "BUNDLE")?;
                    }
                }
            }
            "extmap-allow-mixed" => description.extmap_allow_mixed = true,
            _ => transport(&mut description.transport, name, value)?,
        }
        return Ok(());
    };
    match name {
        "mid" => section.mid = token(value)?,
        "sendrecv" => section.direction = Direction::SendRecv,
        "sendonly" => section.direction = Direction::SendOnly,
        "recvonly" => section.direction = Direction::RecvOnly,
        "inactive" => section.direction = Direction::Inactive,
        "msid" => section.msid = Some(msid(value)?),
        "rtpmap" => rtpmap(section, value)?,
        "fmtp" => fmtp(section, value)?,
        "rtcp-fb" => rtcp_fb(section, value)?,
        "extmap" => extmap(section, value)?,
        "extmap-allow-mixed" => section.extmap_allow_mixed = true,
        "ssrc" => ssrc(section, value)?,
        "ssrc-group" => ssrc_group(section, value)?,
        "rid" => rid(section, value)?,
        _ => transport(&mut section.transport, name, value)?,
    }
    Ok(())
}

fn transport(transport: &mut Transport, name: &str, value: &str) -> Result<(), Error> {
    match name {
        "ice-ufrag" => transport.ufrag = token(value)?,
        "ice-pwd" => transport.pwd = token(value)?,
        "fingerprint" => {
            let (hash, digest) = value.split_once(' ').ok_or(Error::Malformed("fingerprint"))?;
            let pair = (token(hash)?.to_ascii_lowercase(), token(digest)?);
            push(&mut transport.fingerprints, pair, MAX_REPEATS, "fingerprint")?;
        }
        "setup" => {
            transport.setup = Some(match value.trim() {
                "actpass" => Setup::ActPass,
                "active" => Setup::Active,
                "passive" => Setup::Passive,
                _ => return Err(Error::Malformed("setup")),
            });
        }
        // A candidate that is invalid or beyond the limit is skipped: the others may be enough.
        "candidate" => {
            if let Ok(candidate) = candidate(value) {
                let _ = push(&mut transport.candidates, candidate, MAX_REPEATS, "candidate");
            }
        }
        _ => {}
    }
    Ok(())
}

/// Returns the codec of a line beginning with `<payload type> `, and the rest of the line. `None` when the
/// payload type is not in the `m=` line (browsers do not write such lines; RFC 8866 lets them be ignored).
fn about<'s, 'v>(
    section: &'s mut Section,
    value: &'v str,
    line: &'static str,
) -> Result<Option<(&'s mut Codec, &'v str)>, Error> {
    let (pt, rest) = value.split_once(' ').ok_or(Error::Malformed(line))?;
    let pt: u8 = number(Some(pt), line)?;
    Ok(section.codecs.iter_mut().find(|codec| codec.pt == pt).map(|codec| (codec, rest.trim())))
}

fn rtpmap(section: &mut Section, value: &str) -> Result<(), Error> {
    if let Some((codec, rest)) = about(section, value, "rtpmap")? {
        let mut parts = rest.split('/');
        codec.name = token(parts.next().unwrap_or_default())?;
        codec.clock_rate = number(parts.next(), "rtpmap")?;
        codec.channels = match parts.next() {
            Some(channels) => Some(number(Some(channels), "rtpmap")?),
            None => None,
        };
    }
    Ok(())
}

fn fmtp(section: &mut Section, value: &str) -> Result<(), Error> {
    if let Some((codec, rest)) = about(section, value, "fmtp")? {
        for part in rest.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or(("", part));
            if part.len() > MAX_TOKEN {
                return Err(Error::Malformed("fmtp"));
            }
            let pair = (name.trim().to_owned(), value.trim().to_owned());
            if pair.0.is_empty() && pair.1.is_empty() {
                continue;
            }
            push(&mut codec.parameters, pair, MAX_REPEATS, "fmtp")?;
        }
    }
    Ok(())
}

fn rtcp_fb(section: &mut Section, value: &str) -> Result<(), Error> {
    let Some((pt, rest)) = value.split_once(' ') else {
        return Err(Error::Malformed("rtcp-fb"));
    };
    let mut words = rest.split_ascii_whitespace();
    let kind = token(words.next().unwrap_or_default())?;
    let subtype = words.next().map(token).transpose()?;
    // `*` stands for every payload type of the section (RFC 4585 section 4.2).
    let only: Option<u8> = if pt == "*" { None } else { Some(number(Some(pt), "rtcp-fb")?) };
    for codec in section.codecs.iter_mut().filter(|codec| only.is_none_or(|pt| pt == codec.pt)) {
        let pair = (kind.clone(), subtype.clone());
        if !codec.feedback.contains(&pair) {
            push(&mut codec.feedback, pair, MAX_REPEATS, "rtcp-fb")?;
        }
    }
    Ok(())
}

fn extmap(section: &mut Section, value: &str) -> Result<(), Error> {
    let mut words = value.split_ascii_whitespace();
    let id = words.next().map(|id| id.split('/').next().unwrap_or_default());
    let id: u8 = number(id, "extmap")?;
    let uri = token(words.next().unwrap_or_default())?;
    if id == 0 {
        return Err(Error::Malformed("extmap"));
    }
    push(&mut section.extensions, Extmap { id, uri }, MAX_REPEATS, "extmap")
}

fn ssrc(section: &mut Section, value: &str) -> Result<(), Error> {
    let (id, attribute) = value.split_once(' ').unwrap_or((value, ""));
    let id: u32 = number(Some(id), "ssrc")?;
    if section.ssrcs.iter().all(|ssrc| ssrc.id != id) {
        let ssrc = Ssrc { id, cname: String::new(), msid: None };
        push(&mut section.ssrcs, ssrc, MAX_REPEATS, "ssrc")?;
    }
    let Some(ssrc) = section.ssrcs.iter_mut().find(|ssrc| ssrc.id == id) else { return Ok(()) };
    match attribute.split_once(':') {
        Some(("cname", cname)) => ssrc.cname = token(cname)?,
        Some(("msid", value)) => ssrc.msid = Some(msid(value)?),
        _ => {}
    }
    Ok(())
}

fn ssrc_group(section: &mut Section, value: &str) -> Result<(), Error> {
    let mut words = value.split_ascii_whitespace();
    let semantics = token(words.next().unwrap_or_default())?;
    let mut ssrcs = Vec::new();
    for word in words {
        push(&mut ssrcs, number(Some(word), "ssrc-group")?, MAX_REPEATS, "ssrc-group")?;
    }
    push(&mut section.groups, SsrcGroup { semantics, ssrcs }, MAX_REPEATS, "ssrc-group")
}

fn rid(section: &mut Section, value: &str) -> Result<(), Error> {
    let mut words = value.split_ascii_whitespace();
    let id = token(words.next().unwrap_or_default())?;
    let send = match words.next() {
        Some("send") => true,
        Some("recv") => false,
        _ => return Err(Error::Malformed("rid")),
    };
    push(&mut section.rids, Rid { id, send }, MAX_REPEATS, "rid")
}

/// Parses the text after `candidate:`.
pub(super) fn candidate(value: &str) -> Result<Candidate, Error> {
    let mut words = value.split_ascii_whitespace();
    let mut word = || words.next().unwrap_or_default();
    let candidate = Candidate {
        foundation: token(word())?,
        component: number(Some(word()), "candidate")?,
        protocol: token(word())?.to_ascii_lowercase(),
        priority: number(Some(word()), "candidate")?,
        address: token(word())?,
        port: number(Some(word()), "candidate")?,
        typ: match word() {
            "typ" => token(word())?,
            _ => return Err(Error::Malformed("candidate")),
        },
    };
    Ok(candidate)
}

fn msid(value: &str) -> Result<(String, String), Error> {
    let mut words = value.split_ascii_whitespace();
    let stream = token(words.next().unwrap_or_default())?;
    // Firefox may leave out the track.
    let track = words.next().map_or(Ok(String::new()), token)?;
    Ok((stream, track))
}

fn number<T: std::str::FromStr>(word: Option<&str>, line: &'static str) -> Result<T, Error> {
    word.and_then(|word| word.parse().ok()).ok_or(Error::Malformed(line))
}

/// Accepts a non-empty word of printable ASCII.
fn token(word: &str) -> Result<String, Error> {
    let word = word.trim();
    if word.is_empty() || word.len() > MAX_TOKEN || !word.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Error::Malformed("attribute"));
    }
    Ok(word.to_owned())
}

fn push<T>(list: &mut Vec<T>, item: T, most: usize, line: &'static str) -> Result<(), Error> {
    if list.len() >= most {
        return Err(Error::TooMany(line));
    }
    list.push(item);
    Ok(())
}
