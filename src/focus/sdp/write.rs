//! Writes descriptions.

use std::fmt::{self, Display, Formatter};

use super::{Candidate, Codec, Description, Kind, Section, Transport};
use crate::colibri::SCTP_PORT;

/// Writes one line with the line end that RFC 8866 requires.
macro_rules! line {
    ($f:expr, $($arg:tt)*) => {{
        write!($f, $($arg)*)?;
        $f.write_str("\r\n")
    }};
}

impl Display for Description {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        line!(f, "v=0")?;
        line!(f, "o=- {} {} IN IP4 0.0.0.0", self.session, self.version)?;
        line!(f, "s=-")?;
        line!(f, "t=0 0")?;
        if !self.bundle.is_empty() {
            line!(f, "a=group:BUNDLE {}", self.bundle.join(" "))?;
        }
        if self.extmap_allow_mixed {
            line!(f, "a=extmap-allow-mixed")?;
        }
        line!(f, "a=msid-semantic: WMS *")?;
        self.transport.fmt(f)?;
        self.sections.iter().try_for_each(|section| section.fmt(f))
    }
}

impl Display for Section {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let port = if self.rejected { 0 } else { 9 };
        if self.kind == Kind::Application {
            line!(f, "m=application {port} UDP/DTLS/SCTP webrtc-datachannel")?;
        } else {
            write!(f, "m={} {port} UDP/TLS/RTP/SAVPF", self.kind.as_str())?;
            self.codecs.iter().try_for_each(|codec| write!(f, " {}", codec.pt))?;
            f.write_str("\r\n")?;
        }
        line!(f, "c=IN IP4 0.0.0.0")?;
        if !self.mid.is_empty() {
            line!(f, "a=mid:{}", self.mid)?;
        }
        self.transport.fmt(f)?;
        if self.kind == Kind::Application {
            // RFC 8841 sections 5.1 and 6.1.
            line!(f, "a=sctp-port:{SCTP_PORT}")?;
            return line!(f, "a=max-message-size:65536");
        }
        line!(f, "a={}", self.direction.as_str())?;
        line!(f, "a=rtcp-mux")?;
        if let Some((stream, track)) = &self.msid {
            line!(f, "a=msid:{}", msid(stream, track))?;
        }
        if self.extmap_allow_mixed {
            line!(f, "a=extmap-allow-mixed")?;
        }
        for extension in &self.extensions {
            line!(f, "a=extmap:{} {}", extension.id, extension.uri)?;
        }
        self.codecs.iter().try_for_each(|codec| codec.fmt(f))?;
        for rid in &self.rids {
            line!(f, "a=rid:{} {}", rid.id, if rid.send { "send" } else { "recv" })?;
        }
        simulcast(self, f)?;
        for group in &self.groups {
            write!(f, "a=ssrc-group:{}", group.semantics)?;
            group.ssrcs.iter().try_for_each(|ssrc| write!(f, " {ssrc}"))?;
            f.write_str("\r\n")?;
        }
        for ssrc in &self.ssrcs {
            let id = ssrc.id;
            if ssrc.cname.is_empty() && ssrc.msid.is_none() {
                line!(f, "a=ssrc:{id}")?;
            }
            if !ssrc.cname.is_empty() {
                line!(f, "a=ssrc:{id} cname:{}", ssrc.cname)?;
            }
            if let Some((stream, track)) = &ssrc.msid {
                line!(f, "a=ssrc:{id} msid:{}", msid(stream, track))?;
            }
        }
        Ok(())
    }
}

/// Writes `a=simulcast` (RFC 8853) for all rids of the section.
fn simulcast(section: &Section, f: &mut Formatter<'_>) -> fmt::Result {
    let list = |send: bool| {
        let ids: Vec<&str> =
            section.rids.iter().filter(|rid| rid.send == send).map(|rid| rid.id.as_str()).collect();
        ids.join(";")
    };
    let (send, receive) = (list(true), list(false));
    match (send.is_empty(), receive.is_empty()) {
        (true, true) => Ok(()),
        (false, true) => line!(f, "a=simulcast:send {send}"),
        (true, false) => line!(f, "a=simulcast:recv {receive}"),
        (false, false) => line!(f, "a=simulcast:send {send} recv {receive}"),
    }
}

fn msid(stream: &str, track: &str) -> String {
    format!("{stream} {track}").trim_end().to_owned()
}

impl Display for Codec {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let pt = self.pt;
        if !self.name.is_empty() {
            write!(f, "a=rtpmap:{pt} {}/{}", self.name, self.clock_rate)?;
            if let Some(channels) = self.channels {
                write!(f, "/{channels}")?;
            }
            f.write_str("\r\n")?;
        }
        for (kind, subtype) in &self.feedback {
            match subtype {
                Some(subtype) => line!(f, "a=rtcp-fb:{pt} {kind} {subtype}")?,
                None => line!(f, "a=rtcp-fb:{pt} {kind}")?,
            }
        }
        if self.parameters.is_empty() {
            return Ok(());
        }
        let parameters: Vec<String> = self
            .parameters
            .iter()
            .map(
                |(name, value)| {
                    if name.is_empty() { value.clone() } else { format!("{name}={value}") }
                },
            )
            .collect();
        line!(f, "a=fmtp:{pt} {}", parameters.join(";"))
    }
}

impl Display for Transport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.ufrag.is_empty() {
            line!(f, "a=ice-ufrag:{}", self.ufrag)?;
        }
        if !self.pwd.is_empty() {
            line!(f, "a=ice-pwd:{}", self.pwd)?;
        }
        for (hash, digest) in &self.fingerprints {
            line!(f, "a=fingerprint:{hash} {digest}")?;
        }
        if let Some(setup) = self.setup {
            line!(f, "a=setup:{}", setup.as_str())?;
        }
        for candidate in &self.candidates {
            line!(f, "a={candidate}")?;
        }
        Ok(())
    }
}

impl Display for Candidate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "candidate:{} {} {} {} {} {} typ {}",
            self.foundation,
            self.component,
            self.protocol,
            self.priority,
            self.address,
            self.port,
            self.typ
        )
    }
}
