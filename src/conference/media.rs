//! What an endpoint negotiated. Requests add to it and never take away, as Jitsi Videobridge's do.

use rialto_engine::Control;

use super::{effects::Effects, endpoint::Endpoint, state::Conference};
use crate::colibri::{Media, extension, payload_type};

impl Endpoint {
    /// Adds media descriptions; `true` when that changed anything. What is not known is ignored.
    /// `conference`: its id, for logs.
    pub(super) fn add_media(&mut self, conference: &str, media: &[Media]) -> bool {
        let mut changed = false;
        for described in media {
            for signalled in &described.payload_types {
                let Some(pt) = payload_type(described.r#type, signalled) else {
                    tracing::debug!(
                        conference,
                        endpoint = %self.id,
                        payload_type = signalled.id,
                        name = %signalled.name,
                        "payload type ignored"
                    );
                    continue;
                };
                let has = |kind: &str, subtype: Option<&str>| {
                    let mut all = signalled.rtcp_fbs.iter();
                    all.any(|fb| {
                        fb.r#type == kind && (subtype.is_none() || fb.subtype.as_deref() == subtype)
                    })
                };
                // RFC 8888 section 6.
                let (remb, ccfb) = (has("goog-remb", None), has("ack", Some("ccfb")));
                changed |= (remb && !self.remb) || (ccfb && !self.congestion_feedback);
                self.remb |= remb;
                self.congestion_feedback |= ccfb;
                changed |= self.payload_types.get(&pt.pt) != Some(&pt);
                self.payload_types.insert(pt.pt, pt);
            }
            for signalled in &described.rtp_hdrexts {
                let Some((id, kind)) = extension(signalled) else {
                    tracing::debug!(
                        conference,
                        endpoint = %self.id,
                        extension = signalled.id,
                        uri = %signalled.uri,
                        "header extension ignored"
                    );
                    continue;
                };
                changed |= self.extensions.insert(id, kind) != Some(kind);
            }
            changed |= self.extmap_allow_mixed != described.extmap_allow_mixed;
            self.extmap_allow_mixed = described.extmap_allow_mixed;
        }
        changed
    }
}

impl Conference {
    /// Adds to what an endpoint negotiated, and offers it the sources that it can now receive.
    pub(super) fn add_media(&mut self, id: &str, media: &[Media], effects: &mut Effects) {
        let Some(endpoint) = self.endpoints.get_mut(id) else { return };
        if endpoint.add_media(&self.identity.id, media) {
            endpoint.shares.all_changed();
            effects.control(Control::SetMedia(endpoint.engine_id, endpoint.media_params()));
            self.offer_all(id, effects);
        }
    }
}
