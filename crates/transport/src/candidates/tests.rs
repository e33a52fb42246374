use super::*;
use crate::config::StaticMapping;

fn interface(name: &str, ip: &str) -> Interface {
    Interface { name: name.to_owned(), ip: ip.parse().unwrap() }
}

fn machine() -> Vec<Interface> {
    vec![
        interface("lo", "127.0.0.1"),
        interface("lo", "::1"),
        interface("eth0", "10.0.0.5"),
        interface("eth0", "2001:db8::5"),
        interface("eth0", "fe80::5"),
        interface("docker0", "172.17.0.1"),
        interface("eth1", "203.0.113.9"),
    ]
}

fn usable_of(config: &TransportConfig, bound: &[&str]) -> Vec<String> {
    let bound: Vec<SocketAddr> = bound.iter().map(|b| b.parse().unwrap()).collect();
    usable(config, &bound, &machine()).iter().map(ToString::to_string).collect()
}

const BOTH: [&str; 2] = ["0.0.0.0:10000", "[::]:10000"];

#[test]
fn wildcards_use_every_address_of_the_family() {
    let found = usable_of(&TransportConfig::default(), &BOTH);
    let expected =
        ["10.0.0.5:10000", "172.17.0.1:10000", "203.0.113.9:10000", "[2001:db8::5]:10000"];
    assert_eq!(found, expected);
}

#[test]
fn filters() {
    let config = TransportConfig {
        blocked_interfaces: vec!["docker0".to_owned()],
        blocked_addresses: vec!["203.0.113.9".parse().unwrap()],
        use_ipv6: false,
        loopback: true,
        ..TransportConfig::default()
    };
    assert_eq!(usable_of(&config, &BOTH), ["127.0.0.1:10000", "10.0.0.5:10000"]);
    let config = TransportConfig {
        allowed_interfaces: vec!["eth1".to_owned()],
        ..TransportConfig::default()
    };
    assert_eq!(usable_of(&config, &BOTH), ["203.0.113.9:10000"]);
}

#[test]
fn a_named_address_is_used_even_if_loopback() {
    let config = TransportConfig::default();
    assert_eq!(usable_of(&config, &["127.0.0.1:7"]), ["127.0.0.1:7"]);
    assert_eq!(usable_of(&config, &["127.9.8.7:7"]), ["127.9.8.7:7"]);
    assert_eq!(usable_of(&config, &["192.0.2.1:7"]), [""; 0]);
}

#[test]
fn mappings_and_private_addresses() {
    let config = TransportConfig {
        advertise_private: false,
        static_mappings: vec![StaticMapping {
            local: "10.0.0.5".parse().unwrap(),
            local_port: None,
            public: "198.51.100.1".parse().unwrap(),
            public_port: Some(443),
        }],
        ..TransportConfig::default()
    };
    let bound = ["0.0.0.0:10000".parse().unwrap()];
    let usable = usable(&config, &bound, &machine());
    let list = describe(&config, &usable, false, 1);
    let shown: Vec<_> = list.iter().map(|c| (c.ip.to_string(), c.port, c.kind.as_str())).collect();
    assert_eq!(
        shown,
        [("203.0.113.9".to_owned(), 10000, "host"), ("198.51.100.1".to_owned(), 443, "srflx")]
    );
    assert_eq!(list[0].priority, 2_130_706_431);
    assert_eq!(list[1].priority, 1_694_498_815);
    assert_eq!(list[1].related, Some(("10.0.0.5".parse().unwrap(), 10000)));
    assert_eq!(describe(&config, &usable, true, 1).len(), 4);
}

#[test]
fn an_address_may_have_several_public_ones() {
    let mapping = |public: &str| StaticMapping {
        local: "10.0.0.5".parse().unwrap(),
        local_port: None,
        public: public.parse().unwrap(),
        public_port: None,
    };
    let static_mappings = vec![mapping("198.51.100.1"), mapping("198.51.100.2")];
    let config = TransportConfig { static_mappings, ..TransportConfig::default() };
    let list = describe(&config, &["10.0.0.5:10000".parse().unwrap()], true, 1);
    let reflexive = list.iter().filter(|c| c.kind == CandidateKind::ServerReflexive);
    let told: Vec<String> = reflexive.map(|c| format!("{}:{}", c.ip, c.port)).collect();
    assert_eq!(told, ["198.51.100.1:10000", "198.51.100.2:10000"]);
}

#[test]
fn a_mapping_of_a_port_is_for_that_port() {
    let mapping = |local_port, public_port| StaticMapping {
        local: "10.0.0.5".parse().unwrap(),
        local_port: Some(local_port),
        public: "198.51.100.1".parse().unwrap(),
        public_port: Some(public_port),
    };
    let static_mappings = vec![mapping(10000, 443), mapping(20000, 444)];
    let config = TransportConfig { static_mappings, ..TransportConfig::default() };
    let locals = ["10.0.0.5:10000".parse().unwrap(), "172.17.0.1:10000".parse().unwrap()];
    let list = describe(&config, &locals, true, 1);
    let public = list.iter().filter(|c| c.kind == CandidateKind::ServerReflexive);
    let told: Vec<String> = public.map(|c| format!("{}:{}", c.ip, c.port)).collect();
    // Only the address and the port that it is for, however many addresses there are.
    assert_eq!(told, ["198.51.100.1:443"]);
}

#[test]
fn link_local_addresses_and_the_address_families() {
    let mut machine = machine();
    machine.push(interface("eth2", "169.254.7.7"));
    let of = |config: &TransportConfig| -> Vec<String> {
        let bound: Vec<SocketAddr> = BOTH.iter().map(|b| b.parse().unwrap()).collect();
        usable(config, &bound, &machine).iter().map(ToString::to_string).collect()
    };
    let without = of(&TransportConfig::default());
    assert!(!without.iter().any(|addr| addr.contains("169.254") || addr.contains("fe80")));
    let with = of(&TransportConfig { use_link_local: true, ..TransportConfig::default() });
    assert!(with.contains(&"169.254.7.7:10000".to_owned()), "{with:?}");
    assert!(with.contains(&"[fe80::5]:10000".to_owned()), "{with:?}");
    let four = of(&TransportConfig { use_ipv6: false, ..TransportConfig::default() });
    assert!(!four.is_empty() && four.iter().all(|addr| !addr.starts_with('[')), "{four:?}");
    let allowed_addresses = vec!["203.0.113.9".parse().unwrap()];
    let one = of(&TransportConfig { allowed_addresses, ..TransportConfig::default() });
    assert_eq!(one, ["203.0.113.9:10000"]);
    // A blocked address stays blocked even if it is allowed as well.
    let both = TransportConfig {
        allowed_interfaces: vec!["eth0".to_owned(), "eth1".to_owned()],
        blocked_interfaces: vec!["eth1".to_owned()],
        ..TransportConfig::default()
    };
    assert_eq!(of(&both), ["10.0.0.5:10000", "[2001:db8::5]:10000"]);
}
