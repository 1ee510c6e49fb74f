//! Which networks may connect, and which are not counted by source.

use std::net::IpAddr;

use ipnet::IpNet;
use messages::listener::ListenerConfig;

/// What an address may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Connect, counted by source.
    Counted,
    /// Connect, without a limit per source.
    Exempt,
    /// Not connect.
    Denied,
}

/// Whether connections from this address begin with a PROXY header.
pub fn is_proxy(configuration: &ListenerConfig, address: IpAddr) -> bool {
    within(&configuration.proxies, address.to_canonical())
}

/// Looks an address up; IPv4-mapped addresses are IPv4.
pub fn access(configuration: &ListenerConfig, address: IpAddr) -> Access {
    let address = address.to_canonical();
    if within(&configuration.deny, address)
        || (!configuration.allow.is_empty() && !within(&configuration.allow, address))
    {
        Access::Denied
    } else if within(&configuration.exempt, address) {
        Access::Exempt
    } else {
        Access::Counted
    }
}

fn within(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn configuration(allow: &[&str], deny: &[&str], exempt: &[&str]) -> ListenerConfig {
        let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        ListenerConfig {
            sessions: 1,
            sessions_per_source: 1,
            source_hold: Duration::ZERO,
            login_timeout: Duration::ZERO,
            exempt: networks(exempt),
            allow: networks(allow),
            deny: networks(deny),
            proxies: networks(&["10.0.0.0/24"]),
            apop_host: None,
        }
    }

    fn of(configuration: &ListenerConfig, address: &str) -> Access {
        access(configuration, address.parse().unwrap())
    }

    #[test]
    fn without_networks_everybody_is_counted() {
        assert_eq!(
            of(&configuration(&[], &[], &[]), "192.0.2.1"),
            Access::Counted
        );
    }

    #[test]
    fn a_header_is_believed_from_the_configured_networks_alone() {
        let configuration = configuration(&[], &[], &[]);
        for (address, expected) in [
            ("10.0.0.9", true),
            ("::ffff:10.0.0.9", true),
            ("10.0.1.9", false),
            ("127.0.0.1", false),
            ("::1", false),
        ] {
            assert_eq!(is_proxy(&configuration, address.parse().unwrap()), expected);
        }
    }

    #[test]
    fn who_is_not_allowed_is_denied_and_deny_wins() {
        let configuration = configuration(&["192.0.2.0/24"], &["192.0.2.7/32"], &["192.0.2.0/25"]);
        assert_eq!(of(&configuration, "198.51.100.1"), Access::Denied);
        assert_eq!(of(&configuration, "192.0.2.7"), Access::Denied);
        assert_eq!(of(&configuration, "::ffff:192.0.2.7"), Access::Denied);
        assert_eq!(of(&configuration, "192.0.2.8"), Access::Exempt);
        assert_eq!(of(&configuration, "192.0.2.200"), Access::Counted);
    }
}
