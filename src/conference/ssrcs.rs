//! SSRCs of sources, told over the channel. A focus does not signal others' sources to a client with the
//! capability `ssrc-rewriting`: it expects the bridge to, and to give the client a bounded number of
//! SSRCs whatever the size of the conference. We tell each source's own SSRCs and rewrite none.

use std::collections::{BTreeMap, HashMap};

use rialto_media::{EndpointId, MediaType, Mid, SourceId};

use super::{
    allocate::MAX_MIDS,
    effects::Effects,
    endpoint::{Endpoint, EndpointSource},
    state::Conference,
};
use crate::channel::{MappedSource, ToClient};

/// Sources of one message: it stays far below what a message may have.
const CHUNK: usize = 50;

impl Conference {
    /// Tells receivers of sources that they have begun to get.
    pub fn tell_ssrcs(&self, effects: &mut Effects) {
        let mut news: BTreeMap<EndpointId, Vec<SourceId>> = BTreeMap::new();
        for (receiver, source) in std::mem::take(&mut effects.unmapped) {
            news.entry(receiver).or_default().push(source);
        }
        if news.is_empty() {
            return;
        }
        let known = self.known_sources();
        for (receiver, sources) in news {
            if let Some(receiver) = self.by_engine_id(receiver) {
                receiver.tell_ssrcs(&known, &sources, effects);
            }
        }
    }

    /// Tells a receiver with a new channel of all sources that it has been told of before.
    pub(super) fn tell_all_ssrcs(&self, receiver: &Endpoint, effects: &mut Effects) {
        if !receiver.mapped.is_empty() {
            let mut sources: Vec<SourceId> = receiver.mapped.iter().copied().collect();
            sources.sort_unstable();
            receiver.tell_ssrcs(&self.known_sources(), &sources, effects);
        }
    }

    fn known_sources(&self) -> HashMap<SourceId, (&str, &EndpointSource)> {
        let sources = self.endpoints.values().flat_map(|owner| {
            owner.sources.iter().map(|source| (source.spec.id, (owner.id.as_str(), source)))
        });
        sources.collect()
    }
}

impl Endpoint {
    fn tell_ssrcs(
        &self,
        known: &HashMap<SourceId, (&str, &EndpointSource)>,
        sources: &[SourceId],
        effects: &mut Effects,
    ) {
        for media in [MediaType::Audio, MediaType::Video] {
            let sources = sources.iter().filter_map(|id| known.get(id));
            let mapped: Vec<MappedSource> = sources
                .filter(|(_, source)| source.spec.media == media)
                .filter_map(|(owner, source)| self.mapped_source(owner, source))
                .collect();
            for sources in mapped.chunks(CHUNK) {
                let video = media == MediaType::Video;
                let message = ToClient::SourcesMap { video, sources };
                effects.message(self.engine_id, message.text());
            }
        }
    }

    fn mapped_source<'a>(
        &'a self,
        owner: &'a str,
        source: &'a EndpointSource,
    ) -> Option<MappedSource<'a>> {
        let encoding = source.spec.encodings.first()?;
        let mid = self.mids.get(&*source.spec.name).filter(|_| self.mid_demux);
        Some(MappedSource {
            source: &source.spec.name,
            owner,
            ssrc: encoding.ssrc,
            rtx: encoding.rtx,
            video_type: source.video_type.as_deref(),
            mid: mid.and_then(|mid| std::str::from_utf8(mid.as_bytes()).ok()),
        })
    }

    /// The MID of a source: the one that it gave, or, when it goes by the MIDs that we tell, a new one.
    pub(super) fn mid(&mut self, media: MediaType, source: &str) -> Option<Mid> {
        if self.mid_demux && self.mids.len() < MAX_MIDS && !self.mids.contains_key(source) {
            let (kind, given) = match media {
                MediaType::Audio => ('a', &mut self.mids_given.0),
                MediaType::Video => ('v', &mut self.mids_given.1),
            };
            let mid = Mid::new(&format!("{kind}{given}"))?;
            *given = given.wrapping_add(1);
            self.mids.insert(source.to_owned(), mid);
        }
        self.mids.get(source).copied()
    }
}
