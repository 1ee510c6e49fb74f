//! App passwords: further passwords of a user, one for each client, each with what it may do, until when and from where.
//!
//! The file's format, for auth, which reads it, and for `popa3ctl`, which writes it (docs/users-file.md). One a line:
//!
//! ```text
//! user:label:hash:rights:expires:networks
//! ```
//!
//! Values only; nothing here opens a file, asks for the time or draws a random number. Lines are the administrator's, passwords
//! are anybody's.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod day;
pub mod fuzz;
mod hash;

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

pub use day::Day;
pub use hash::{Hash, PASSWORD_RANDOM_OCTETS, SALT_OCTETS, generate, is_generated};

/// App passwords of one user. Auth compares with so many, whatever a user has, so that the number cannot be told by the time.
pub const MAX_PER_USER: usize = 16;

/// Characters of a label: it stands in log lines.
pub const MAX_LABEL: usize = 64;

/// Networks of one app password.
pub const MAX_NETWORKS: usize = 32;

/// One app password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppPassword {
    /// Whose, as the users' own store spells the name.
    pub user: String,
    /// What the user calls it, for the log: 1 to [`MAX_LABEL`] ASCII letters, digits and `._-`.
    pub label: String,
    /// What is kept of the password.
    pub hash: Hash,
    /// What it may not do; `None` where it may do everything.
    pub restriction: Option<Restriction>,
    /// It is refused from the beginning of this day on (UTC).
    pub expires: Option<Day>,
    /// It is taken from these networks only; from everywhere if there are none.
    pub networks: Vec<IpNet>,
}

/// What an app password may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restriction {
    /// Delete messages.
    NoDelete,
    /// Change anything.
    ReadOnly,
}

impl Restriction {
    /// The name in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Restriction::NoDelete => "no-delete",
            Restriction::ReadOnly => "read-only",
        }
    }

    /// The one with this name.
    pub fn of_name(name: &str) -> Option<Self> {
        [Restriction::NoDelete, Restriction::ReadOnly]
            .into_iter()
            .find(|restriction| restriction.name() == name)
    }
}

/// Why the right app password is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objection {
    /// Its day has come.
    Expired,
    /// The client is in none of its networks.
    Network,
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Objection::Expired => "has expired",
            Objection::Network => "is not for this network",
        })
    }
}

impl AppPassword {
    /// Parses a line without its end; `None` for one that says nothing (empty, or beginning with `#`).
    ///
    /// # Errors
    /// What is wrong with it, as the rest of a sentence that begins with the line's number.
    pub fn parse(line: &str) -> Result<Option<Self>, &'static str> {
        if line.trim_ascii().is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        // IPv6 networks have colons of their own; they come last.
        let mut fields = line.splitn(6, ':');
        let mut next = || fields.next().unwrap_or_default();
        let (user, label, hash, rights, expires, networks) =
            (next(), next(), next(), next(), next(), next());
        if user.is_empty() {
            return Err("has no user");
        }
        if !is_label(label) {
            return Err("has no label of letters, digits and `._-`, 64 at most");
        }
        let restriction = match rights {
            "" => None,
            name => Some(
                Restriction::of_name(name)
                    .ok_or("has rights that are neither `read-only` nor `no-delete`")?,
            ),
        };
        let expires = match expires {
            "" => None,
            day => Some(Day::parse(day).ok_or("expires on no day of the form 2027-01-31")?),
        };
        Ok(Some(Self {
            user: user.to_owned(),
            label: label.to_owned(),
            hash: Hash::parse(hash).ok_or("has a hash that is not of the form `sha256$…$…`")?,
            restriction,
            expires,
            networks: networks_of(networks)?,
        }))
    }

    /// Why it cannot be used on this day by a client with this address. A client without an address is in no network.
    pub fn objection(&self, today: Day, peer: Option<IpAddr>) -> Option<Objection> {
        if self.expires.is_some_and(|expires| today >= expires) {
            return Some(Objection::Expired);
        }
        // An IPv4 client on an IPv6 socket is an IPv4 client.
        let peer = peer.map(|peer| peer.to_canonical());
        let is_within = |network: &IpNet| peer.is_some_and(|peer| network.contains(&peer));
        let is_allowed = self.networks.is_empty() || self.networks.iter().any(is_within);
        (!is_allowed).then_some(Objection::Network)
    }
}

impl fmt::Display for AppPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rights = self.restriction.map_or("", Restriction::name);
        write!(f, "{}:{}:{}:{rights}:", self.user, self.label, self.hash)?;
        if let Some(expires) = self.expires {
            write!(f, "{expires}")?;
        }
        for (number, network) in self.networks.iter().enumerate() {
            let separator = if number == 0 { ':' } else { ',' };
            write!(f, "{separator}{network}")?;
        }
        Ok(())
    }
}

/// Whether it can be an app password's label.
pub fn is_label(text: &str) -> bool {
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"._-".contains(&octet);
    (1..=MAX_LABEL).contains(&text.len()) && text.bytes().all(is_plain)
}

/// Networks as the file has them, separated by commas; a single address is a network too.
///
/// # Errors
/// As [`AppPassword::parse`].
pub fn networks_of(text: &str) -> Result<Vec<IpNet>, &'static str> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut networks = Vec::new();
    for part in text.split(',') {
        let network: IpNet = match part.parse::<IpAddr>() {
            Ok(address) => address.into(),
            Err(_) => part
                .parse()
                .map_err(|_| "has networks that are not of the form 192.0.2.0/24,2001:db8::/32")?,
        };
        if networks.len() == MAX_NETWORKS {
            return Err("has more than 32 networks");
        }
        networks.push(network);
    }
    Ok(networks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: &str =
        "sha256$AAECAwQFBgcICQoLDA0ODw==$kZn2CKxPp5Zj4YHlPzRVYJbBWnVkRjdAyxT3a3Vh0ro=";

    fn parse(line: &str) -> AppPassword {
        AppPassword::parse(line).unwrap().unwrap()
    }

    fn day(text: &str) -> Day {
        Day::parse(text).unwrap()
    }

    #[test]
    fn every_field_is_read_and_the_last_keeps_its_colons() {
        let line = format!(
            "joe@example.org:phone:{HASH}:read-only:2027-01-31:192.0.2.0/24,2001:db8::/32,::1"
        );
        let password = parse(&line);
        assert_eq!(
            (&*password.user, &*password.label),
            ("joe@example.org", "phone")
        );
        assert_eq!(password.restriction, Some(Restriction::ReadOnly));
        assert_eq!(password.expires, Some(day("2027-01-31")));
        let networks: Vec<String> = password.networks.iter().map(IpNet::to_string).collect();
        assert_eq!(networks, ["192.0.2.0/24", "2001:db8::/32", "::1/128"]);
    }

    #[test]
    fn user_label_and_hash_are_enough() {
        for end in ["", ":", "::", ":::"] {
            let password = parse(&format!("joe:phone:{HASH}{end}"));
            assert_eq!((password.restriction, password.expires), (None, None));
            assert!(password.networks.is_empty());
        }
        for line in ["", "  ", "# joe:phone"] {
            assert_eq!(AppPassword::parse(line), Ok(None));
        }
    }

    #[test]
    fn bad_lines_are_refused() {
        for line in [
            "joe",
            "joe:phone",
            "joe:phone:x",
            "joe:phone:sha256$AAAA$AAAA",
            &format!(":phone:{HASH}"),
            &format!("joe::{HASH}"),
            &format!("joe:my phone:{HASH}"),
            &format!("joe:{}:{HASH}", "a".repeat(MAX_LABEL + 1)),
            &format!("joe:phone:{HASH}:readonly"),
            &format!("joe:phone:{HASH}:full"),
            &format!("joe:phone:{HASH}::2027-02-29"),
            &format!("joe:phone:{HASH}::soon"),
            &format!("joe:phone:{HASH}:::192.0.2.0/33"),
            &format!("joe:phone:{HASH}:::192.0.2.0/24,"),
            &format!("joe:phone:{HASH}:::{}::1", "::1,".repeat(MAX_NETWORKS)),
        ] {
            assert!(AppPassword::parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn it_is_refused_from_its_day_on() {
        let password = parse(&format!("joe:phone:{HASH}::2027-01-31"));
        assert_eq!(password.objection(day("2027-01-30"), None), None);
        for late in ["2027-01-31", "2027-02-01", "2100-01-01"] {
            let objection = password.objection(day(late), None);
            assert_eq!(objection, Some(Objection::Expired), "{late}");
        }
    }

    #[test]
    fn it_is_taken_from_its_networks_only() {
        let password = parse(&format!(
            "joe:phone:{HASH}:::192.0.2.0/24,2001:db8::/32,198.51.100.7"
        ));
        for (peer, allowed) in [
            ("192.0.2.1", true),
            ("::ffff:192.0.2.1", true),
            ("192.0.3.1", false),
            ("::ffff:192.0.3.1", false),
            ("2001:db8::5", true),
            ("2001:db9::5", false),
            ("198.51.100.7", true),
            ("198.51.100.8", false),
            ("::1", false),
        ] {
            let objection = password.objection(day("2027-01-01"), Some(peer.parse().unwrap()));
            assert_eq!(objection.is_none(), allowed, "{peer}");
        }
        assert_eq!(
            password.objection(day("2027-01-01"), None),
            Some(Objection::Network)
        );
    }

    proptest! {
        #[test]
        fn any_line_parses_or_is_refused(line in "\\PC*") {
            fuzz::line(line.as_bytes());
        }

        #[test]
        fn what_is_written_is_read(
            user in "[a-z]{1,8}(@[a-z]{1,8}\\.org)?",
            label in "[A-Za-z0-9._-]{1,64}",
            password in "\\PC{1,40}",
            salt in any::<[u8; SALT_OCTETS]>(),
            restriction in prop_oneof![
                Just(None), Just(Some(Restriction::NoDelete)), Just(Some(Restriction::ReadOnly)),
            ],
            days in proptest::option::of(0..100_000_u32),
            networks in proptest::collection::vec(any::<(std::net::IpAddr, u8)>(), 0..4),
        ) {
            let networks = networks.into_iter().filter_map(|(address, length)| {
                IpNet::new(address, length % 33).ok()
            }).collect();
            let password = AppPassword {
                user, label, hash: Hash::of(password.as_bytes(), &salt), restriction,
                expires: days.map(Day), networks,
            };
            let line = password.to_string();
            prop_assert_eq!(AppPassword::parse(&line), Ok(Some(password)));
        }
    }
}
