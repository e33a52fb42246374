//! The `<stats>` that the bridge publishes in its presence.

use minidom::Element;

use super::colibri2::COLIBRI;
use crate::{stats::Stat, xmpp::put};

/// Without it, a focus takes a bridge for drained and never chooses it.
const ALWAYS: &str = "drain";

/// `<stats>`: all of `published`, or what `whitelist` names and `drain`. Names of the whitelist that do not
/// exist are left out.
pub fn stats(published: &[(&'static str, Stat)], whitelist: Option<&[String]>) -> Element {
    let mut stats = Element::bare("stats", COLIBRI);
    let wanted = |name: &str| {
        whitelist.is_none_or(|list| name == ALWAYS || list.iter().any(|listed| listed == name))
    };
    for (name, value) in published.iter().filter(|(name, _)| wanted(name)) {
        let mut stat = Element::bare("stat", COLIBRI);
        put(stat.attrs_mut(), "name", name);
        put(stat.attrs_mut(), "value", &value.to_string());
        stats.append_child(stat);
    }
    stats
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::{
        bridge::{BridgeStats, published},
        stats::{Mucs, Surroundings},
    };

    fn around() -> Surroundings {
        Surroundings {
            now: Duration::from_millis(1_795_453_997_180),
            version: "2.3.SNAPSHOT".into(),
            threads: Some(38),
            mucs: Mucs {
                clients_configured: 1,
                clients_connected: 1,
                configured: 1,
                joined: 1,
                ..Mucs::default()
            },
            ..Surroundings::default()
        }
    }

    fn all(element: &Element) -> BTreeMap<String, String> {
        let attr = |stat: &Element, name| stat.attr(name).unwrap().to_owned();
        element.children().map(|stat| (attr(stat, "name"), attr(stat, "value"))).collect()
    }

    /// The statistics of an idle JVB, which this bridge must match.
    #[test]
    fn an_idle_bridge_says_what_an_idle_jvb_says() {
        let capture = include_str!("../../tests/data/xmpp/019-jvb-to-brewery-presence-stats.xml");
        let capture = capture.replacen("<presence", "<presence xmlns='jabber:client'", 1);
        let presence: Element = capture.parse().unwrap();
        let theirs = all(presence.get_child("stats", COLIBRI).unwrap());
        let healthy = BridgeStats {
            healthy: true,
            average_participant_stress: 0.01,
            ..BridgeStats::default()
        };
        let ours = all(&stats(&published(&healthy, &around()), None));
        for (name, value) in &theirs {
            match ours.get(name) {
                Some(_) if name == "current_timestamp" => {}
                Some(said) => assert_eq!(said, value, "{name}"),
                None => panic!("{name} is missing"),
            }
        }
        for name in ours.keys() {
            assert!(theirs.contains_key(name), "{name} is not JVB's");
        }
        assert_eq!(ours["current_timestamp"], "2026-11-23 17:13:17.180");
    }

    /// The form of a value, as parsers expect it.
    fn form(value: &str) -> &'static str {
        match value {
            "true" | "false" => "flag",
            _ if value.parse::<u64>().is_ok() => "whole",
            _ if value.contains('.') && value.parse::<f64>().is_ok() => "fraction",
            _ if value.len() == 23 && value.contains(':') => "time",
            _ => "text",
        }
    }

    /// The statistics that a JVB published from its start to its end.
    #[test]
    fn every_statistic_is_written_as_jvb_writes_it() {
        let captures = [
            include_str!("../../tests/data/xmpp/015-jvb-to-brewery-presence-stats.xml"),
            include_str!("../../tests/data/xmpp/019-jvb-to-brewery-presence-stats.xml"),
            include_str!("../../tests/data/xmpp/026-jvb-to-brewery-presence-stats.xml"),
            include_str!("../../tests/data/xmpp/074-jvb-to-brewery-presence-stats-drain.xml"),
            include_str!("../../tests/data/xmpp/089-jvb-to-brewery-presence-stats-graceful.xml"),
            include_str!(
                "../../tests/data/xmpp/098-jvb-to-brewery-presence-stats-graceful-shutting-down.xml"
            ),
        ];
        for capture in captures {
            let capture = capture.replacen("<presence", "<presence xmlns='jabber:client'", 1);
            let presence: Element = capture.parse().unwrap();
            let theirs = all(presence.get_child("stats", COLIBRI).unwrap());
            let is = |name: &str| theirs[name] == "true";
            let bridge = BridgeStats {
                drain: is("drain"),
                healthy: is("healthy"),
                graceful_shutdown: is("graceful_shutdown"),
                shutting_down: is("shutting_down"),
                stress_level: 0.362_917_096_663_232_7,
                ..BridgeStats::default()
            };
            let ours = all(&stats(&published(&bridge, &around()), None));
            for (name, said) in &ours {
                assert_eq!(form(said), form(&theirs[name]), "{name}: {said}, {}", theirs[name]);
                if form(said) == "flag" {
                    assert_eq!(said, &theirs[name], "{name}");
                }
            }
        }
    }

    #[test]
    fn a_whitelist_leaves_what_a_focus_needs() {
        let around =
            Surroundings { release: Some("rel".into()), region: Some("eu".into()), ..around() };
        let everything = published(&BridgeStats::default(), &around);
        let list = ["stress_level", "release", "region", "version", "colibri2"];
        let list: Vec<String> = list.iter().map(|name| (*name).to_owned()).collect();
        let said = all(&stats(&everything, Some(&list)));
        let expected = [
            ("drain", "false"),
            ("region", "eu"),
            ("release", "rel"),
            ("stress_level", "0.0"),
            ("version", "2.3.SNAPSHOT"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(said, BTreeMap::from(expected));
        assert_eq!(all(&stats(&everything, Some(&[]))).len(), 1);
    }
}
