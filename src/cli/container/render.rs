//! Renders `jvb.conf` from the environment variables of docker-jitsi-meet's jvb image, with the same
//! defaults. Settings that this bridge does not support yet are rendered too: the bridge itself warns about
//! them at its start. A `custom-jvb.conf` in the directory of the file is included last, and overrides the
//! rest.

use std::{collections::HashMap, fmt::Write as _};

/// Environment variables; an empty one counts as unset.
pub(super) struct Variables(HashMap<String, String>);

/// Host name and address of the container.
pub(super) struct Host {
    pub name: String,
    /// The address at which others reach it.
    pub address: String,
}

impl Variables {
    pub(super) fn new(all: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(all.into_iter().collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|value| !value.is_empty()).cloned()
    }

    /// Returns the first of these variables that is set, or the default.
    fn first(&self, names: &[&str], default: &str) -> String {
        names.iter().find_map(|name| self.get(name)).unwrap_or_else(|| default.to_owned())
    }

    /// Returns whether a variable is set to a true value.
    pub(super) fn is_on(&self, name: &str, default: bool) -> bool {
        self.get(name).map_or(default, |value| {
            ["true", "TRUE", "True", "1", "yes", "t", "T"].contains(&value.as_str())
        })
    }
}

/// Returns remarks on variables that are set, one line each.
pub(super) fn remarks(variables: &Variables) -> Vec<String> {
    const NO_EFFECT: [(&str, &str); 3] = [
        ("AUTOSCALER_URL", "there is no autoscaler sidecar in this image"),
        ("SENTRY_DSN", "errors are not reported to Sentry"),
        ("VIDEOBRIDGE_MAX_MEMORY", "there is no JVM"),
    ];
    let mut remarks = Vec::new();
    if variables.get("JVB_ADVERTISE_IPS").is_none()
        && variables.get("DOCKER_HOST_ADDRESS").is_some()
    {
        remarks.push("DOCKER_HOST_ADDRESS is deprecated: set JVB_ADVERTISE_IPS".to_owned());
    }
    for (name, why) in NO_EFFECT {
        if variables.get(name).is_some_and(|value| value != "0" && value != "\"0\"") {
            remarks.push(format!("{name} has no effect: {why}"));
        }
    }
    let drain = variables.first(&["RIALTO_SIGTERM_DRAIN"], "0");
    if drain != "0" && drain != "0s" && !drain.starts_with("0 ") {
        remarks.push(format!(
            "a stop waits for conferences for up to {drain}: the container's stop time (docker run \
             --stop-timeout, stop_grace_period of a compose file) must be longer"
        ));
    }
    remarks
}

/// Returns the text of `jvb.conf`.
pub(super) fn jvb_conf(variables: &Variables, host: &Host) -> String {
    let address = variables.first(&["LOCAL_ADDRESS"], &host.address);
    let mut text = "videobridge {\n".to_owned();
    videobridge(&mut text, variables);
    if !variables.is_on("JVB_DISABLE_XMPP", false) {
        xmpp(&mut text, variables, host);
    }
    servers(&mut text, variables, &address);
    if variables.is_on("ENABLE_OCTO", false) {
        let relay = variables.first(&["JVB_OCTO_RELAY_ID", "JVB_OCTO_BIND_ADDRESS"], &host.name);
        let region = variables.first(&["JVB_OCTO_REGION"], "europe");
        let (region, relay) = (quote(&region), quote(&relay));
        let _ =
            writeln!(text, "  relay {{ enabled = true, region = {region}, relay-id = {relay} }}");
    }
    text.push_str("}\n");
    if let Some(engine) = variables.get("BWE_ESTIMATOR_ENGINE") {
        let _ = writeln!(text, "jmt.bwe.estimator.engine = {}", quote(&engine));
    }
    mappings(&mut text, variables, &address);
    // How long a stop waits for conferences; the container's own stop time has to be longer.
    if let Some(drain) = variables.get("RIALTO_SIGTERM_DRAIN") {
        let _ = writeln!(text, "rialto.sigterm-drain = {}", quote(&drain));
    }
    text.push_str("include \"custom-jvb.conf\"\n");
    text
}

fn videobridge(text: &mut String, variables: &Variables) {
    for (key, name, default) in [
        ("ice.advertise-private-candidates", "JVB_ADVERTISE_PRIVATE_CANDIDATES", true),
        ("cc.trust-bwe", "JVB_CC_TRUST_BWE", true),
        ("cc.use-vla-target-bitrate", "ENABLE_VLA", false),
        ("health.require-valid-address", "JVB_REQUIRE_VALID_ADDRESS", false),
        ("apis.rest.enabled", "COLIBRI_REST_ENABLED", false),
        ("rest.shutdown.enabled", "SHUTDOWN_REST_ENABLED", false),
    ] {
        let _ = writeln!(text, "  {key} = {}", variables.is_on(name, default));
    }
    let port = variables.first(&["JVB_PORT"], "10000");
    let _ = writeln!(text, "  ice.udp.port = {}", quote(&port));
}

/// Renders an account on each server. `ENABLE_JVB_XMPP_SERVER` is for deployments where bridges have a
/// server of their own.
fn xmpp(text: &mut String, variables: &Variables, host: &Host) {
    let own = variables.is_on("ENABLE_JVB_XMPP_SERVER", false);
    let of = |name: &str, ours: &str, default: &str| {
        let name = if own { format!("JVB_{name}") } else { name.to_owned() };
        variables.first(&[&name], if own { ours } else { default })
    };
    let all = of("XMPP_SERVER", "xmpp.jvb.meet.jitsi", "xmpp.meet.jitsi");
    let port = of("XMPP_PORT", "6222", "5222");
    let domain = of("XMPP_AUTH_DOMAIN", "auth.jvb.meet.jitsi", "auth.meet.jitsi");
    let muc = of("XMPP_INTERNAL_MUC_DOMAIN", "muc.jvb.meet.jitsi", "internal-muc.meet.jitsi");
    let room = format!("{}@{muc}", variables.first(&["JVB_BREWERY_MUC"], "jvbbrewery"));
    let nickname = variables.first(&["JVB_MUC_NICKNAME", "JVB_INSTANCE_ID"], &host.name);
    let keys = [
        ("DOMAIN", domain),
        ("USERNAME", variables.first(&["JVB_AUTH_USER"], "jvb")),
        ("PASSWORD", variables.first(&["JVB_AUTH_PASSWORD"], "")),
        ("MUC_JIDS", room),
        ("MUC_NICKNAME", nickname),
    ];
    for (number, server) in words(&all).enumerate() {
        let (name, own_port) = host_and_port(server);
        let name = quote(name);
        let port = quote(own_port.unwrap_or(&port));
        let _ = writeln!(text, "  apis.xmpp-client.configs.shard{number} {{");
        let _ = writeln!(text, "    HOSTNAME = {name}\n    PORT = {port}");
        for (key, value) in &keys {
            let _ = writeln!(text, "    {key} = {}", quote(value));
        }
        text.push_str("    DISABLE_CERTIFICATE_VERIFICATION = true\n  }\n");
    }
}

/// Splits `host`, `host:port`, `[IPv6]`, `[IPv6]:port` or `IPv6`.
fn host_and_port(server: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = server.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host, rest.strip_prefix(':'));
    }
    match server.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, Some(port)),
        _ => (server, None),
    }
}

/// Renders HTTP servers and WebSockets. Images from before 2026 route WebSockets to the bridge, and pass it
/// the address of the site.
fn servers(text: &mut String, variables: &Variables, address: &str) {
    text.push_str("  http-servers.private { host = 0.0.0.0, port = 8080 }\n");
    let public = variables.first(&["PUBLIC_URL"], "");
    let site = public.split_once("://").map_or(public.as_str(), |(_, rest)| rest);
    let site = site.split('/').next().unwrap_or_default();
    let domains = variables.first(&["JVB_WS_DOMAIN"], site);
    if !variables.is_on("ENABLE_COLIBRI_WEBSOCKET", !domains.is_empty()) {
        return;
    }
    let domains = if domains.is_empty() { "localhost:8443" } else { &domains };
    let id = variables.first(&["JVB_WS_SERVER_ID"], address);
    let (domains, tls, id) = (list(domains), variables.is_on("JVB_WS_TLS", true), quote(&id));
    text.push_str("  http-servers.public { host = 0.0.0.0, port = 9090 }\n");
    let _ = writeln!(
        text,
        "  websockets {{ enabled = true, domains = {domains}, tls = {tls}, server-id = {id} }}"
    );
}

fn mappings(text: &mut String, variables: &Variables, address: &str) {
    // The image uses Jitsi's STUN server unless another is set, or STUN is disabled.
    let stun = variables.first(&["JVB_STUN_SERVERS"], "meet-jit-si-turnrelay.jitsi.net:443");
    let stun =
        if variables.is_on("JVB_DISABLE_STUN", false) { "[]".to_owned() } else { list(&stun) };
    let aws = !variables.is_on("DISABLE_AWS_HARVESTER", true);
    let port = variables.first(&["JVB_PORT"], "10000");
    let _ = writeln!(
        text,
        "ice4j.harvest.mapping {{\n  stun.addresses = {stun}\n  aws.enabled = {aws}\n  static-mappings = ["
    );
    let public = variables.first(&["JVB_ADVERTISE_IPS", "DOCKER_HOST_ADDRESS"], "");
    for (number, to) in words(&public).enumerate() {
        // `address`, or `address#port`.
        let (to, ports) = match to.split_once('#') {
            Some((to, public)) => {
                let (local, public) = (quote(&port), quote(public));
                (to, format!(", local-port = {local}, public-port = {public}"))
            }
            None => (to, String::new()),
        };
        let (local, to) = (quote(address), quote(to));
        let _ = writeln!(
            text,
            "    {{ local-address = {local}, public-address = {to}{ports}, name = \"ip-{number}\" }}"
        );
    }
    text.push_str("  ]\n}\n");
}

/// Splits a list at commas or spaces.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ', '\n']).filter(|word| !word.is_empty())
}

/// Renders a list with commas as a HOCON list of strings.
fn list(text: &str) -> String {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(quote);
    format!("[{}]", parts.collect::<Vec<_>>().join(", "))
}

/// Quotes a text as a HOCON string on one line.
fn quote(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for char in text.chars().filter(|char| !matches!(char, '\n' | '\r')) {
        if matches!(char, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(char);
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rendered(name: &str, value: String) -> String {
        let variables = Variables::new([(name.to_owned(), value)]);
        let host = Host { name: "one".to_owned(), address: "192.0.2.1".to_owned() };
        jvb_conf(&variables, &host)
    }

    proptest! {
        /// No value, whatever characters it has, adds a key or ends its string.
        #[test]
        fn a_value_stays_within_its_quotes(value in "[ -~\n]{0,20}") {
            let plain = rendered("JVB_AUTH_USER", "x".to_owned()).lines().count();
            let text = rendered("JVB_AUTH_USER", value);
            prop_assert_eq!(text.lines().count(), plain);
            let line = text.lines().find(|line| line.trim().starts_with("USERNAME")).unwrap();
            let (_, quoted) = line.split_once(" = ").unwrap();
            let read: Result<String, _> = serde_json::from_str(quoted);
            prop_assert!(read.is_ok(), "{}", quoted);
        }
    }

    #[test]
    fn servers_have_ports_of_their_own() {
        for (server, expected) in [
            ("one", ("one", None)),
            ("one:7", ("one", Some("7"))),
            ("[::1]:7", ("::1", Some("7"))),
            ("[::1]", ("::1", None)),
            ("2001:db8::3", ("2001:db8::3", None)),
        ] {
            assert_eq!(host_and_port(server), expected, "{server}");
        }
    }
}
