//! Warnings about keys that are valid by themselves but contradict each other.

use rialto_hocon::Origin;

use super::{Config, Effective, Secret, StatsDestination, load::Warning, servers};

/// Returns all contradictions, each at a key that the file sets.
pub(super) fn find(config: &Config, effective: &[Effective]) -> Vec<Warning> {
    let origin = |key: &str| {
        let found = effective.iter().find(|value| value.key == key);
        found.map_or(Origin::Default, |value| value.origin.clone())
    };
    let found = control(config)
        .into_iter()
        .chain(channels(config))
        .chain(addresses(config))
        .chain(servers(config))
        .chain(lifecycle(config));
    found.map(|(key, what)| Warning::Contradiction { origin: origin(key), what }).collect()
}

/// A key, and the text of the warning.
pub(super) type Found = (&'static str, String);

fn control(config: &Config) -> Vec<Found> {
    let mut found = Vec::new();
    let xmpp = &config.xmpp;
    if !config.rest.colibri && xmpp.clients.is_empty() && xmpp.component.is_none() {
        let key = "videobridge.apis.rest.enabled";
        let what = "nothing can allocate conferences: videobridge.apis.xmpp-client.configs has no \
                    complete client, and videobridge.apis.xmpp-component.enabled and \
                    videobridge.apis.rest.enabled are false";
        found.push((key, what.to_owned()));
    }
    let nowhere = |place: &StatsDestination| *place != StatsDestination::Muc;
    if xmpp.component.is_none() && config.stats.transports.iter().any(|t| nowhere(&t.to)) {
        let key = "videobridge.stats.transports";
        let what = format!(
            "{key}: colibri and pubsub have no effect while \
             videobridge.apis.xmpp-component.enabled is false"
        );
        found.push((key, what));
    }
    if xmpp.announced_version.is_some() {
        let key = "rialto.announced-version";
        let what = format!(
            "{key}: where the focus has octo on, and a JVB of this version is in the same pool, a \
             conference may be put on both, and then nobody but the first gets a call: there are no \
             relays here yet. Without this key a focus keeps each conference on bridges of one kind"
        );
        found.push((key, what));
    }
    if let Some(whitelist) = &xmpp.whitelist
        && !whitelist.iter().any(|name| name == "drain")
    {
        let key = "videobridge.apis.xmpp-client.stats-filter.whitelist";
        found.push((key, format!("{key} has no drain: Jicofo will never choose this bridge")));
    }
    found
}

fn channels(config: &Config) -> Vec<Found> {
    let mut found = Vec::new();
    let sockets = &config.web_sockets;
    let served = sockets.enabled && config.public_http.listen().is_some();
    if sockets.enabled && !served {
        let key = "videobridge.websockets.enabled";
        let port = servers::public_port_key(config);
        let what = format!("{key} has no effect: {port} is not set");
        found.push((key, what));
    } else if served && sockets.domains.is_empty() {
        let key = "videobridge.websockets.domains";
        found.push((key, format!("no client is told of a WebSocket: {key} is empty")));
    }
    if !config.sctp.enabled && !served {
        let key = "videobridge.sctp.enabled";
        let what = format!(
            "{key} is false and nothing serves WebSockets: clients have no channel to the bridge, and \
             cannot say what they want to receive"
        );
        found.push((key, what));
    }
    if sockets.pings && sockets.enabled && sockets.ping_interval >= sockets.idle_timeout {
        let key = "videobridge.websockets.idle-timeout";
        let what = format!(
            "{key} is no longer than keepalive-ping-interval: every WebSocket closes between two pings"
        );
        found.push((key, what));
    }
    found
}

fn addresses(config: &Config) -> Vec<Found> {
    let mut found = Vec::new();
    let harvest = &config.harvest;
    let both = harvest.allowed_interfaces.iter().find(|n| harvest.blocked_interfaces.contains(n));
    if let Some(name) = both {
        let key = "ice4j.harvest.blocked-interfaces";
        found.push((
            key,
            format!("{key} has {name}, which allowed-interfaces has too: it is not used"),
        ));
    }
    let both = harvest.allowed_addresses.iter().find(|ip| harvest.blocked_addresses.contains(ip));
    if let Some(ip) = both {
        let key = "ice4j.harvest.blocked-addresses";
        found.push((
            key,
            format!("{key} has {ip}, which allowed-addresses has too: it is not used"),
        ));
    }
    let key = "ice4j.harvest.mapping.static-mappings";
    for mapping in &harvest.static_mappings {
        let (local, public) = (mapping.local, mapping.public);
        if local.is_ipv4() != public.is_ipv4() {
            found
                .push((key, format!("{key} maps {local} to {public}, which is of another family")));
        }
        if mapping.local_port.is_some_and(|port| config.ice.port != 0 && port != config.ice.port) {
            let what = format!(
                "{key} maps a local port that videobridge.ice.udp.port is not: it has no effect for {local}"
            );
            found.push((key, what));
        }
    }
    if harvest.aws_force && !harvest.aws {
        let key = "ice4j.harvest.mapping.aws.force";
        found.push((key, format!("{key} has no effect: aws.enabled is false")));
    }
    found
}

fn servers(config: &Config) -> Vec<Found> {
    let mut found = Vec::new();
    if config.rest.shutdown && !config.rest.colibri {
        let key = "videobridge.rest.shutdown.enabled";
        let what = format!("{key} has no effect: videobridge.apis.rest.enabled is false");
        found.push((key, what));
    }
    if servers::servers_collide(config) {
        let key = servers::public_port_key(config);
        let what =
            format!("{key} is the port of http-servers.private too: one of them cannot listen");
        found.push((key, what));
    }
    let open = config.http.listen().is_some_and(|addr| !addr.ip().is_loopback());
    let closed = config.http_access.token != Secret::default()
        || (config.http.tls.key_store.is_some() && config.http.tls.need_client_auth);
    if open && !closed {
        let key = "videobridge.http-servers.private.host";
        let what = format!(
            "{key}: whoever reaches this address can end conferences and read who is in them: set \
             rialto.http.token, or need-client-auth with a key store, or keep it behind a firewall"
        );
        found.push((key, what));
    }
    found.extend(config.http.contradictions(&servers::PRIVATE));
    found.extend(config.public_http.contradictions(&servers::PUBLIC));
    found
}

fn lifecycle(config: &Config) -> Vec<Found> {
    let mut found = Vec::new();
    let consent = &config.ice.consent;
    if consent.original_wait > consent.max_wait {
        let key = "ice4j.consent-freshness.max-wait-interval";
        found.push((key, format!("{key} is less than original-wait-interval")));
    }
    if config.initial_drain_mode && !config.rest.drain {
        let key = "videobridge.initial-drain-mode";
        let what = format!(
            "{key} is true and videobridge.rest.drain.enabled false: nothing can end the drain"
        );
        found.push((key, what));
    }
    found
}
