//! Public addresses: those that are found out at the start, and whether there is any.

use std::net::{IpAddr, SocketAddr};

use crate::{
    config::Config,
    harvest::{self, Found},
    transport::{self, StaticMapping, TransportConfig},
};

/// Public addresses that the configuration does not have.
pub(super) async fn public(
    config: &Config,
    settings: &TransportConfig,
    media: &[SocketAddr],
) -> Vec<StaticMapping> {
    // Where interfaces cannot be listed, transports say so.
    let locals = transport::local_addresses(settings, media).unwrap_or_default();
    let found = harvest::discover(&config.harvest, &locals).await.into_iter();
    let mapping = |Found { local, public }: Found| StaticMapping {
        local,
        local_port: None,
        public,
        public_port: None,
    };
    found.map(mapping).collect()
}

/// Why clients elsewhere will not find this bridge, if the configuration says that they must
/// (`videobridge.health`). `settings` has what was found.
pub(super) fn fault(
    config: &Config,
    settings: &TransportConfig,
    media: &[SocketAddr],
) -> Option<String> {
    let health = &config.health;
    let locals = transport::local_addresses(settings, media).unwrap_or_default();
    let mapped = settings.static_mappings.iter().map(|mapping| mapping.public);
    let mut all = locals.iter().map(SocketAddr::ip).chain(mapped);
    if health.require_valid_address && !all.any(is_public) {
        return Some("No valid IP addresses available for harvesting.".to_owned());
    }
    let found = settings.static_mappings.len() > config.harvest.static_mappings.len();
    if health.require_stun && !config.harvest.stun_servers.is_empty() && !found {
        return Some("Address discovery through STUN failed".to_owned());
    }
    None
}

/// As JVB sees it: not of a private network (RFC 1918), not of one link, not of this machine.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) => {
            !(ip.is_private() || ip.is_link_local() || ip.is_loopback() || ip.is_unspecified())
        }
        IpAddr::V6(ip) => !(ip.is_unicast_link_local() || ip.is_loopback() || ip.is_unspecified()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(public: &str) -> TransportConfig {
        let mapping = StaticMapping {
            local: IpAddr::from([127, 0, 0, 1]),
            local_port: None,
            public: public.parse().unwrap(),
            public_port: None,
        };
        TransportConfig {
            allowed_addresses: vec![IpAddr::from([127, 0, 0, 1])],
            loopback: true,
            static_mappings: vec![mapping],
            ..TransportConfig::default()
        }
    }

    #[test]
    fn a_bridge_that_nobody_can_reach_is_not_well_unless_that_is_meant() {
        let media = ["127.0.0.1:10000".parse().unwrap()];
        let mut config = Config::default();
        assert_eq!(fault(&config, &mapped("198.51.100.1"), &media), None);
        assert_eq!(fault(&config, &mapped("2001:db8::1"), &media), None);
        for address in ["10.1.2.3", "192.168.1.1", "169.254.0.1", "fe80::1", "::ffff:10.0.0.1"] {
            let fault = fault(&config, &mapped(address), &media).unwrap_or_default();
            assert!(fault.starts_with("No valid IP addresses"), "{address}: {fault}");
        }
        config.health.require_valid_address = false;
        assert_eq!(fault(&config, &mapped("10.1.2.3"), &media), None);
    }

    #[test]
    fn a_stun_server_that_is_needed_must_answer() {
        let media = ["127.0.0.1:10000".parse().unwrap()];
        let mut config = Config::default();
        config.health.require_valid_address = false;
        config.health.require_stun = true;
        let found = mapped("198.51.100.1");
        assert_eq!(fault(&config, &TransportConfig::default(), &media), None, "none is asked");
        config.harvest.stun_servers = vec!["stun.example.com:3478".to_owned()];
        assert_eq!(fault(&config, &found, &media), None);
        let none = TransportConfig { static_mappings: Vec::new(), ..found };
        let fault = fault(&config, &none, &media).unwrap_or_default();
        assert!(fault.contains("STUN"), "{fault}");
    }
}
