//! Reads keys of a document into typed targets, and records each key's value, origin and errors.

use std::{borrow::Cow, collections::BTreeSet, net::IpAddr, path::Path, time::Duration};

use rialto_hocon::{Document, Kind, Origin, Source, Value};

use super::{Secret, StaticMapping, load::Warning, units};

/// A key with the value in effect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Effective {
    /// The dotted key.
    pub key: Cow<'static, str>,
    /// The value, formatted for people.
    pub value: String,
    /// Its origin.
    pub origin: Origin,
}

/// A value that its key does not accept.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{origin}: {key}: {what}")]
pub struct Invalid {
    /// The dotted key.
    pub key: String,
    /// The position of the value.
    pub origin: Origin,
    /// What the key needs, and what was found.
    pub what: String,
}

/// A value from the command line, which overrides the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Override {
    /// The dotted key.
    pub key: &'static str,
    /// The value, as written in a file.
    pub value: Kind,
    /// The flag or command that sets it.
    pub flag: &'static str,
}

impl Override {
    /// Overrides a key with a scalar.
    pub fn text(key: &'static str, value: String, flag: &'static str) -> Self {
        Self { key, value: Kind::Text(value), flag }
    }

    /// Overrides a key with a list of one scalar.
    pub fn list(key: &'static str, value: String, flag: &'static str) -> Self {
        Self::texts(key, &[value], flag)
    }

    /// Overrides a key with a list of scalars.
    pub fn texts(key: &'static str, values: &[String], flag: &'static str) -> Self {
        let element = |value: &String| Value {
            kind: Kind::Text(value.clone()),
            origin: Origin::CommandLine(flag),
        };
        Self { key, value: Kind::Array(values.iter().map(element).collect()), flag }
    }
}

/// The form of a collector's address, for error messages.
const OTLP: &str = "the address of a collector, such as http://127.0.0.1:4318";

fn is_http_address(text: &str) -> bool {
    let uri: Option<axum::http::Uri> = text.parse().ok();
    uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.query().is_none()
    })
}

/// Returns the URL at which the collector at `address` accepts traces.
fn traces_of(address: &str) -> String {
    format!("{}/v1/traces", address.trim_end_matches('/'))
}

/// Reads keys of a document; see the module.
pub(super) struct Reader<'a> {
    document: &'a Document,
    overrides: &'a [Override],
    source: &'a dyn Source,
    pub effective: Vec<Effective>,
    pub invalid: Vec<Invalid>,
    /// Warnings found while reading.
    pub warnings: Vec<Warning>,
    /// Keys whose names the operator chose.
    add_known: BTreeSet<String>,
    known: BTreeSet<&'static str>,
    changed: BTreeSet<&'static str>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        document: &'a Document,
        overrides: &'a [Override],
        source: &'a dyn Source,
    ) -> Self {
        Self {
            document,
            overrides,
            source,
            effective: Vec::new(),
            invalid: Vec::new(),
            warnings: Vec::new(),
            add_known: BTreeSet::new(),
            known: BTreeSet::new(),
            changed: BTreeSet::new(),
        }
    }

    /// Returns the keys read so far, except those that the operator named.
    pub(super) fn known(&self) -> &BTreeSet<&'static str> {
        &self.known
    }

    /// Returns whether a key was read.
    pub(super) fn is_known(&self, key: &str) -> bool {
        self.known.contains(key) || self.add_known.contains(key)
    }

    /// Returns an environment variable.
    pub(super) fn environment(&self, name: &str) -> Option<String> {
        self.source.env(name)
    }

    /// Records that a key with a name of the operator's choice was read.
    pub(super) fn add_known(&mut self, key: &str) {
        self.add_known.insert(key.to_owned());
    }

    /// Returns the content of a section whose keys the operator names.
    pub(super) fn section(&mut self, key: &'static str) -> Vec<(String, Value)> {
        let Some(value) = self.document.get(key) else { return Vec::new() };
        match &value.kind {
            Kind::Object(fields) => {
                fields.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
            }
            Kind::Null => Vec::new(),
            other => {
                let (key, origin) = (key.to_owned(), value.origin.clone());
                self.invalid.push(Invalid { key, origin, what: wants("an object", other) });
                Vec::new()
            }
        }
    }

    /// Returns whether a key has another value than its default.
    pub(super) fn differs_from_default(&self, key: &str) -> bool {
        self.changed.contains(key)
    }

    pub(super) fn boolean(&mut self, key: &'static str, target: &mut bool) {
        let read = |kind: &Kind| {
            scalar(kind).and_then(units::boolean).ok_or_else(|| wants("true or false", kind))
        };
        self.read(key, target, read, ToString::to_string);
    }

    pub(super) fn duration(&mut self, key: &'static str, target: &mut Duration) {
        let read = |kind: &Kind| {
            scalar(kind)
                .and_then(units::duration)
                .ok_or_else(|| wants("a duration such as '5 seconds'", kind))
        };
        self.read(key, target, read, |value| units::show_duration(*value));
    }

    /// Reads an interval, which must not be 0.
    pub(super) fn interval(&mut self, key: &'static str, target: &mut Duration) {
        let read = |kind: &Kind| {
            scalar(kind)
                .and_then(units::duration)
                .filter(|interval| *interval >= SHORTEST_INTERVAL)
                .ok_or_else(|| wants("a duration of at least 10 ms such as '5 seconds'", kind))
        };
        self.read(key, target, read, |value| units::show_duration(*value));
    }

    /// Reads a fraction above 0, or a percentage.
    pub(super) fn fraction(&mut self, key: &'static str, target: &mut f64) {
        let read = |kind: &Kind| {
            scalar(kind)
                .and_then(units::fraction)
                .filter(|fraction| *fraction > 0.0 && fraction.is_finite())
                .ok_or_else(|| wants("a fraction such as 0.9 or '90 %'", kind))
        };
        self.read(key, target, read, ToString::to_string);
    }

    /// Reads a number above 0.
    pub(super) fn number(&mut self, key: &'static str, target: &mut f64) {
        let read = |kind: &Kind| {
            scalar(kind)
                .and_then(|text| text.trim().parse::<f64>().ok())
                .filter(|number| *number > 0.0 && number.is_finite())
                .ok_or_else(|| wants("a number that is more than 0", kind))
        };
        self.read(key, target, read, ToString::to_string);
    }

    /// Reads a bandwidth, bit/s.
    pub(super) fn bandwidth(&mut self, key: &'static str, target: &mut u64) {
        let read = |kind: &Kind| {
            let read = scalar(kind).and_then(units::bandwidth);
            read.ok_or_else(|| wants(BANDWIDTH, kind))
        };
        self.read(key, target, read, |bps| units::show_bandwidth(*bps));
    }

    /// Reads a bandwidth, bit/s, that may be unset.
    pub(super) fn optional_bandwidth(&mut self, key: &'static str, target: &mut Option<u64>) {
        let read = |kind: &Kind| {
            let read = scalar(kind).and_then(units::bandwidth);
            read.map(Some).ok_or_else(|| wants(BANDWIDTH, kind))
        };
        self.read(key, target, read, |bps| bps.map_or("(unset)".to_owned(), units::show_bandwidth));
    }

    /// Reads one of a set of names.
    pub(super) fn choice<T: Copy + PartialEq>(
        &mut self,
        key: &'static str,
        target: &mut T,
        names: &[(&'static str, T)],
    ) {
        let read = |kind: &Kind| {
            let text = scalar(kind).unwrap_or_default();
            let found = names.iter().find(|(name, _)| *name == text);
            found.map(|(_, value)| *value).ok_or_else(|| {
                let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
                wants(&format!("one of {}", names.join(", ")), kind)
            })
        };
        let show = |value: &T| {
            let found = names.iter().find(|(_, known)| known == value);
            found.map_or(String::new(), |(name, _)| (*name).to_owned())
        };
        self.read(key, target, read, show);
    }

    /// Reads a size in bytes.
    pub(super) fn size(&mut self, key: &'static str, target: &mut usize) {
        let read = |kind: &Kind| {
            scalar(kind)
                .and_then(units::size)
                .filter(|&bytes| bytes <= 1 << 30)
                .map(|bytes| bytes as usize)
                .ok_or_else(|| wants("a size up to 1 GiB such as '10 MiB'", kind))
        };
        self.read(key, target, read, ToString::to_string);
    }

    /// Reads a whole number within `from..=to`.
    pub(super) fn integer<T>(&mut self, key: &'static str, target: &mut T, from: T, to: T)
    where
        T: Copy + Into<i64> + TryFrom<i64> + ToString,
    {
        let (low, high) = (from.into(), to.into());
        let read = |kind: &Kind| {
            scalar(kind)
                .and_then(|text| text.trim().parse::<i64>().ok())
                .filter(|value| (low..=high).contains(value))
                .and_then(|value| T::try_from(value).ok())
                .ok_or_else(|| wants(&format!("a whole number from {low} to {high}"), kind))
        };
        self.read(key, target, read, ToString::to_string);
    }

    /// Reads a port; a negative number means none.
    pub(super) fn optional_port(&mut self, key: &'static str, target: &mut Option<u16>) {
        let read = |kind: &Kind| {
            let number = scalar(kind).and_then(|text| text.trim().parse::<i64>().ok());
            match number {
                Some(number) if number < 0 => Ok(None),
                Some(number) => u16::try_from(number).map(Some).map_err(|_| wants(PORT, kind)),
                None => Err(wants(PORT, kind)),
            }
        };
        self.read(key, target, read, |port| port.map_or("-1".to_owned(), |port| port.to_string()));
    }

    /// `rialto.shards`: a whole number of threads; 0 is one per core.
    pub(super) fn shards(&mut self, key: &'static str, target: &mut Option<u16>) {
        let read = |kind: &Kind| {
            scalar(kind)
                .and_then(|text| text.trim().parse::<u16>().ok())
                .filter(|&shards| shards <= 256)
                .map(|shards| (shards > 0).then_some(shards))
                .ok_or_else(|| {
                    wants("a number of threads from 1 to 256, or 0 for one per core", kind)
                })
        };
        let show = |shards: &Option<u16>| {
            shards.map_or("0 (one per core)".to_owned(), |shards| shards.to_string())
        };
        self.read(key, target, read, show);
    }

    /// Reads a text that `accept` accepts; `what` describes such texts in errors.
    pub(super) fn text(
        &mut self,
        key: &'static str,
        target: &mut String,
        what: &str,
        accept: impl Fn(&str) -> bool,
    ) {
        let read = |kind: &Kind| {
            scalar(kind)
                .filter(|text| accept(text))
                .map(str::to_owned)
                .ok_or_else(|| wants(what, kind))
        };
        self.read(key, target, read, Clone::clone);
    }

    /// Reads a text that may be unset.
    pub(super) fn optional_text(
        &mut self,
        key: &'static str,
        target: &mut Option<String>,
        what: &str,
        accept: impl Fn(&str) -> bool,
    ) {
        let read = |kind: &Kind| {
            scalar(kind)
                .filter(|text| accept(text))
                .map(|text| Some(text.to_owned()))
                .ok_or_else(|| wants(what, kind))
        };
        self.read(key, target, read, |text| text.clone().unwrap_or_else(|| "(unset)".to_owned()));
    }

    /// Reads the URL for traces: the address of a collector, or, if unset, OpenTelemetry's variables. An
    /// invalid variable is an error as well: nobody sets it without intent.
    pub(super) fn otlp_endpoint(&mut self, key: &'static str, target: &mut Option<String>) {
        let read = |kind: &Kind| {
            let text = scalar(kind).filter(|text| is_http_address(text));
            text.map(|text| Some(traces_of(text))).ok_or_else(|| wants(OTLP, kind))
        };
        let show = |text: &Option<String>| text.clone().unwrap_or_else(|| "(unset)".to_owned());
        self.read(key, target, read, show);
        if target.is_some() {
            return;
        }
        for (variable, is_whole) in
            [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", true), ("OTEL_EXPORTER_OTLP_ENDPOINT", false)]
        {
            let Some(text) = self.source.env(variable).filter(|text| !text.is_empty()) else {
                continue;
            };
            let origin = Origin::Variable(variable);
            if !is_http_address(&text) {
                let what = wants(OTLP, &Kind::Text(text));
                self.invalid.push(Invalid { key: key.to_owned(), origin, what });
                return;
            }
            let text = if is_whole { text } else { traces_of(&text) };
            self.effective.retain(|effective| effective.key != key);
            self.effective.push(Effective { key: key.into(), value: text.clone(), origin });
            *target = Some(text);
            return;
        }
    }

    /// Reads a list of texts that `accept` accepts.
    pub(super) fn texts(
        &mut self,
        key: &'static str,
        target: &mut Vec<String>,
        what: &str,
        accept: impl Fn(&str) -> bool,
    ) {
        let read = |kind: &Kind| {
            list(kind, &format!("a list of {what}"), |kind| {
                scalar(kind)
                    .filter(|text| accept(text))
                    .map(str::to_owned)
                    .ok_or_else(|| wants_element(&format!("a list of {what}"), kind))
            })
        };
        self.read(key, target, read, |list| show_list(list));
    }

    /// Reads an address, or a name, which resolves to its first address.
    pub(super) fn host(&mut self, key: &'static str, target: &mut IpAddr) {
        let source = self.source;
        let read = |kind: &Kind| {
            if let Some(address) = address(kind) {
                return Ok(address);
            }
            let is_host = |text: &&str| {
                let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
                (1..=253).contains(&text.len()) && text.bytes().all(plain)
            };
            let name = scalar(kind).map(str::trim).filter(is_host);
            let name = name.ok_or_else(|| wants("an IP address or a host name", kind))?;
            source.resolve(name).map_err(|error| format!("cannot resolve '{name}': {error}"))
        };
        self.read(key, target, read, ToString::to_string);
    }

    pub(super) fn addresses(&mut self, key: &'static str, target: &mut Vec<IpAddr>) {
        let what = "a list of IP addresses";
        let read = |kind: &Kind| {
            list(kind, what, |kind| address(kind).ok_or_else(|| wants_element(what, kind)))
        };
        self.read(key, target, read, |list| show_list(list));
    }

    /// Reads a list with `element` as the reader of each element.
    pub(super) fn list<T, S: ToString>(
        &mut self,
        key: &'static str,
        target: &mut Vec<T>,
        what: &str,
        element: impl Fn(&Kind) -> Result<T, String>,
        show: impl Fn(&T) -> S,
    ) {
        self.read(
            key,
            target,
            |kind| list(kind, what, &element),
            |values| show_list(&values.iter().map(&show).collect::<Vec<_>>()),
        );
    }

    /// Reads a secret.
    pub(super) fn secret(&mut self, key: &'static str, target: &mut Secret) {
        let read = |kind: &Kind| {
            let text = scalar(kind).filter(|text| !text.contains('\0'));
            // The value may contain a part of the secret, so the error does not quote it.
            text.map(Secret::new).ok_or_else(|| "needs a text".to_owned())
        };
        self.read(key, target, read, Secret::shown);
    }

    /// Reads a secret that `accept` accepts.
    pub(super) fn secret_of(
        &mut self,
        key: &'static str,
        target: &mut Secret,
        accept: impl Fn(&str) -> bool,
    ) {
        let read = |kind: &Kind| {
            let text = scalar(kind).filter(|text| accept(text));
            text.map(Secret::new).ok_or_else(|| "needs a text without spaces".to_owned())
        };
        self.read(key, target, read, Secret::shown);
    }

    /// Reads a secret from the first line of the file at this path; `accept` must accept it. If the key is
    /// unset, an environment variable may hold the secret.
    pub(super) fn secret_file(
        &mut self,
        key: &'static str,
        target: &mut Secret,
        variable: &str,
        accept: impl Fn(&str) -> bool,
    ) {
        let source = self.source;
        if let Some(text) = source.env(variable).filter(|text| accept(text)) {
            *target = Secret::new(text);
        }
        let read = |kind: &Kind| {
            let path = scalar(kind).filter(|path| (1..=1024).contains(&path.len()));
            let path = path.ok_or_else(|| wants("the path of a file", kind))?;
            let text = source
                .read(Path::new(path))
                .map_err(|error| format!("cannot read {}: {error}", path.escape_debug()))?;
            let first = text.lines().next().unwrap_or_default().trim();
            if accept(first) {
                return Ok(Secret::new(first));
            }
            Err(format!("needs a file whose first line is a token, not {}", path.escape_debug()))
        };
        self.read(key, target, read, Secret::shown);
    }

    /// Returns the raw text of a key, if it is a single text.
    pub(super) fn written(&self, key: &str) -> Option<&'a str> {
        let given = self.overrides.iter().rev().find(|given| given.key == key);
        let kind = match given {
            Some(given) => &given.value,
            None => &self.document.get(key)?.kind,
        };
        scalar(kind)
    }

    /// Records an error of a key that another key requires or forbids.
    pub(super) fn mistake(&mut self, key: &'static str, because: &str, what: &str) {
        let given = self.overrides.iter().rev().find(|given| given.key == because);
        let origin = match given {
            Some(given) => Origin::CommandLine(given.flag),
            None => self.document.get(because).map_or(Origin::Default, |v| v.origin.clone()),
        };
        self.invalid.push(Invalid { key: key.to_owned(), origin, what: what.to_owned() });
    }

    pub(super) fn mappings(&mut self, key: &'static str, target: &mut Vec<StaticMapping>) {
        let what = "a list of objects with local-address and public-address";
        let read = |kind: &Kind| list(kind, what, mapping);
        self.read(key, target, read, |list| {
            let shown: Vec<String> = list.iter().map(show_mapping).collect();
            show_list(&shown)
        });
    }

    /// Reads a key: from the command line, else from the file, else the default already in `target`.
    fn read<T>(
        &mut self,
        key: &'static str,
        target: &mut T,
        read: impl Fn(&Kind) -> Result<T, String>,
        show: impl Fn(&T) -> String,
    ) {
        self.known.insert(key);
        let default = show(target);
        let given = self.overrides.iter().rev().find(|given| given.key == key);
        let (kind, mut origin) = match given {
            Some(given) => (Some(&given.value), Origin::CommandLine(given.flag)),
            None => match self.document.get(key) {
                Some(value) if value.origin != Origin::Default => {
                    (Some(&value.kind), value.origin.clone())
                }
                // `target` has the default.
                Some(_) | None => (None, Origin::Default),
            },
        };
        match kind {
            // `null` means that the key is not set.
            None | Some(Kind::Null) => origin = Origin::Default,
            Some(kind) => match read(kind) {
                Ok(value) => *target = value,
                Err(what) => {
                    self.invalid.push(Invalid {
                        key: key.to_owned(),
                        origin: origin.clone(),
                        what,
                    });
                }
            },
        }
        let value = show(target);
        if value != default {
            self.changed.insert(key);
        }
        self.effective.push(Effective { key: key.into(), value, origin });
    }
}

/// A shorter interval would keep a core busy.
pub(super) const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

const BANDWIDTH: &str = "a bandwidth such as '500 kbps' or '10 mbps'";

const PORT: &str = "a port from 0 to 65535, or -1 for none";

pub(super) fn scalar(kind: &Kind) -> Option<&str> {
    match kind {
        Kind::Text(text) => Some(text.as_str()),
        _ => None,
    }
}

pub(super) fn wants(what: &str, found: &Kind) -> String {
    match found {
        Kind::Text(text) => {
            let short: String = text.chars().take(60).collect();
            format!("needs {what}, not '{}'", short.escape_debug())
        }
        other => format!("needs {what}, not {}", other.name()),
    }
}

/// As [`wants`], for an element of a list: two elements without a comma between them are one text.
pub(super) fn wants_element(what: &str, found: &Kind) -> String {
    let two = scalar(found).is_some_and(|text| text.trim().contains(char::is_whitespace));
    wants(what, found) + if two { " (is a ',' missing?)" } else { "" }
}

/// Reads a list; Lightbend's library also accepts an object with numbers as keys, which nobody writes.
fn list<T>(
    kind: &Kind,
    what: &str,
    element: impl Fn(&Kind) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let Kind::Array(elements) = kind else { return Err(wants(what, kind)) };
    elements.iter().map(|value| element(&value.kind)).collect()
}

fn address(kind: &Kind) -> Option<IpAddr> {
    scalar(kind)?.trim().parse().ok()
}

fn mapping(kind: &Kind) -> Result<StaticMapping, String> {
    let Kind::Object(fields) = kind else {
        return Err(wants("objects with local-address and public-address", kind));
    };
    let known = ["local-address", "public-address", "local-port", "public-port", "name"];
    if let Some(other) = fields.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!("does not know '{}' in a mapping", other.escape_debug()));
    }
    let ip = |name: &str| match fields.get(name) {
        Some(value) => address(&value.kind)
            .ok_or_else(|| format!("{name} {}", wants("an IP address", &value.kind))),
        None => Err(format!("needs {name} in each mapping")),
    };
    let port = |name: &str| match fields.get(name).map(|value| &value.kind) {
        None | Some(Kind::Null) => Ok(None),
        Some(kind) => scalar(kind)
            .and_then(|text| text.trim().parse::<u16>().ok())
            .filter(|&port| port > 0)
            .map(Some)
            .ok_or_else(|| format!("{name} {}", wants("a port from 1 to 65535", kind))),
    };
    Ok(StaticMapping {
        local: ip("local-address")?,
        public: ip("public-address")?,
        local_port: port("local-port")?,
        public_port: port("public-port")?,
        name: fields.get("name").and_then(|value| scalar(&value.kind)).map(str::to_owned),
    })
}

fn show_mapping(mapping: &StaticMapping) -> String {
    let port = |port: Option<u16>| port.map_or(String::new(), |port| format!(" port {port}"));
    let name =
        mapping.name.as_ref().map_or(String::new(), |name| format!(" ({})", name.escape_debug()));
    format!(
        "{}{} -> {}{}{name}",
        mapping.local,
        port(mapping.local_port),
        mapping.public,
        port(mapping.public_port)
    )
}

fn show_list<T: ToString>(list: &[T]) -> String {
    let shown: Vec<String> = list.iter().map(ToString::to_string).collect();
    format!("[{}]", shown.join(", "))
}
