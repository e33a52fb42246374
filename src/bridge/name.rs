//! Names of rooms.

/// Whether this is a bare JID with a local part (RFC 7622 section 3.1), without preparing it.
pub(crate) fn is_bare_jid(name: &str) -> bool {
    let Some((local, domain)) = name.split_once('@') else { return false };
    let part = |part: &str| !part.is_empty() && part.len() <= 1023;
    let forbidden = |c: char| c.is_control() || c.is_whitespace() || "\"&'/:<>@".contains(c);
    part(local)
        && part(domain)
        && !local.contains(forbidden)
        && !domain.contains(|c: char| c.is_control() || c.is_whitespace() || "/@".contains(c))
}

#[cfg(test)]
mod tests {
    use super::is_bare_jid;

    #[test]
    fn tells_rooms_from_other_addresses() {
        assert!(is_bare_jid("room@conference.example.org"));
        assert!(is_bare_jid("räume@muc.meet.jitsi"));
        for bad in ["room", "@domain", "room@", "a@b/resource", "a b@c", "a@b@c", ""] {
            assert!(!is_bare_jid(bad), "{bad}");
        }
    }
}
