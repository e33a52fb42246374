//! Media exports that a focus requested: the state that is kept, and the refusals that JVB makes too.
//!
//! Nothing is exported. A refusal would cost every participant a new session, again and again, so a
//! request that JVB would take is taken; a JVB whose recorder cannot be reached looks the same to a
//! focus.

use std::collections::{BTreeMap, HashSet};

use crate::colibri::{ColibriError, Connect};

/// Upper bound of exports of a conference.
const MAX_EXPORTS: usize = 64;
/// The only protocol there is.
const PROTOCOL: &str = "mediajson";

/// The exports of a conference, by id.
#[derive(Clone, Debug, Default)]
pub(super) struct Exports(BTreeMap<String, Connect>);

impl Exports {
    /// The exports after a delta: all of it, or an error. Expiries are applied before creations.
    pub(super) fn after(&self, delta: &[Connect]) -> Result<Self, ColibriError> {
        let mut next = self.clone();
        let mut named = HashSet::new();
        let (expired, changed): (Vec<_>, Vec<_>) = delta.iter().partition(|one| one.expire);
        for connect in expired {
            let id = id(connect)?;
            if !named.insert(id) {
                return Err(ColibriError::bad_request(format!("connect {id} expires twice")));
            }
            next.0.remove(id);
        }
        named.clear();
        for connect in changed {
            let id = id(connect)?;
            if !named.insert(id) {
                return Err(ColibriError::bad_request(format!("connect {id} is listed twice")));
            }
            check(connect)?;
            match next.0.get(id) {
                Some(_) if connect.create => {
                    return Err(ColibriError::bad_request(format!("connect {id} already exists")));
                }
                None if !connect.create => {
                    return Err(ColibriError::bad_request(format!("Unknown connect {id}")));
                }
                Some(live) if !is_same_connection(live, connect) => {
                    return Err(ColibriError::not_configured(format!(
                        "Only exports and requests of connect {id} can change"
                    )));
                }
                _ => {}
            }
            next.0.insert(id.to_owned(), connect.clone());
        }
        if next.0.len() > MAX_EXPORTS {
            return Err(ColibriError::bad_request("Too many connects"));
        }
        Ok(next)
    }

    #[cfg(test)]
    fn ids(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

fn id(connect: &Connect) -> Result<&str, ColibriError> {
    connect.id.as_deref().ok_or_else(|| ColibriError::bad_request("connect: id must be set"))
}

fn check(connect: &Connect) -> Result<(), ColibriError> {
    if connect.video {
        return Err(ColibriError::not_configured("Export of video is not supported"));
    }
    if connect.protocol.as_deref().is_some_and(|protocol| protocol != PROTOCOL) {
        return Err(ColibriError::not_configured("Unsupported protocol of a connect"));
    }
    Ok(())
}

/// Whether an update leaves unchanged what cannot change while the export is connected. Missing fields count
/// as unchanged.
fn is_same_connection(live: &Connect, update: &Connect) -> bool {
    let keeps = |live: &Option<String>, update: &Option<String>| update.is_none() || live == update;
    keeps(&live.url, &update.url)
        && keeps(&live.r#type, &update.r#type)
        && live.audio == update.audio
        && live.http_headers == update.http_headers
        && live.ping == update.ping
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::colibri::Condition;

    fn create(id: &str) -> Connect {
        Connect {
            id: Some(id.to_owned()),
            create: true,
            url: Some(format!("wss://recorder.example.com/{id}")),
            protocol: Some(PROTOCOL.to_owned()),
            r#type: Some("transcriber".to_owned()),
            audio: true,
            ..Connect::default()
        }
    }

    fn expire(id: &str) -> Connect {
        Connect { id: Some(id.to_owned()), expire: true, ..Connect::default() }
    }

    #[test]
    fn a_delta_is_taken_as_a_whole() {
        let exports = Exports::default().after(&[create("a"), create("b")]).unwrap();
        assert_eq!(exports.ids(), ["a", "b"]);
        let more = Connect { create: false, exports: vec!["x-a0".into()], ..create("a") };
        let exports = exports.after(&[more, create("b"), expire("b")]).unwrap();
        assert_eq!(exports.0["a"].exports, ["x-a0"]);
        let exports = exports.after(&[expire("a"), expire("gone")]).unwrap();
        assert_eq!(exports.ids(), ["b"]);
    }

    #[test]
    fn what_jvb_refuses_is_refused() {
        let exports = Exports::default().after(&[create("a")]).unwrap();
        let update = |change: fn(&mut Connect)| {
            let mut connect = Connect { create: false, ..create("a") };
            change(&mut connect);
            vec![connect]
        };
        for delta in [
            vec![create("a")],
            vec![create("b"), create("b")],
            vec![expire("a"), expire("a")],
            vec![Connect { create: false, ..create("b") }],
            vec![Connect { id: None, ..create("b") }],
            (0..=MAX_EXPORTS).map(|nth| create(&format!("n{nth}"))).collect(),
        ] {
            let error = exports.after(&delta).unwrap_err();
            assert_eq!((error.condition, error.reason), (Condition::BadRequest, None), "{error}");
        }
        for delta in [
            vec![Connect { video: true, ..create("b") }],
            vec![Connect { protocol: Some("sip".into()), ..create("b") }],
            update(|connect| connect.url = Some("wss://elsewhere.example.com".into())),
            update(|connect| connect.r#type = Some("recorder".into())),
            update(|connect| connect.audio = false),
            update(|connect| connect.ping = Some(crate::colibri::Ping { interval: 1, timeout: 1 })),
        ] {
            let error = exports.after(&delta).unwrap_err();
            assert_eq!(error.condition, Condition::FeatureNotImplemented, "{error}");
        }
        assert_eq!(exports.ids(), ["a"]);
    }
}
