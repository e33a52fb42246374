//! The state of a session for `/debug`: no secrets, addresses redacted as configured.

use std::time::Instant;

use serde_json::json;

use super::{super::redact::redact, Session};

impl Session {
    /// State for `/debug`.
    pub(crate) fn debug(&self, now: Instant) -> serde_json::Value {
        let ago = |at: Instant| now.saturating_duration_since(at).as_millis() as u64;
        let paths: Vec<_> = self
            .current
            .paths()
            .map(|path| {
                json!({
                    "local": path.local.to_string(),
                    "remote": redact(path.remote).to_string(),
                    "heard_ms_ago": ago(path.heard),
                    "answered_ms_ago": path.answered.map(ago),
                    "selected": self.selected == Some(path.pair()),
                })
            })
            .collect();
        json!({
            "ice_generation": self.current.generation(),
            "ice_restarting": self.next.is_some(),
            "controlling": self.current.controlling(),
            "connected": self.selected.is_some(),
            "failed": self.failed.map(|reason| reason.to_string()),
            "bound_addresses": self.addresses.iter().count(),
            "paths": paths,
            "dtls": self.media.debug(),
        })
    }
}
