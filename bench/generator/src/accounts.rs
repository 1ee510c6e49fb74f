//! The users of a private machine, in `/etc/passwd`, `/etc/shadow` and `/etc/group` as every server reads them.

use crate::Outcome;
use std::fmt::Write;
use std::fs;

/// Everybody's password. Eight octets: the traditional crypt(3) looks at no more.
pub const PASSWORD: &str = "postcard";

/// crypt(3) of [`PASSWORD`] in its traditional, cheapest form, so that the table shows servers and not the hash.
pub const HASH: &str = "bebCfmrs8EJMI";

/// The first uid of mailbox owners.
pub const FIRST_UID: u32 = 6000;

/// Owns all mail where a server keeps it under one uid.
pub const COMMON_OWNER: u32 = 5999;

/// Courier runs as this user.
pub const COURIER_ID: u32 = 5107;

/// Users that servers run as, and the groups they are in beside their own.
const SERVICE: [(&str, u32, &[&str]); 8] = [
    ("popa3d", 5101, &[]),
    ("popa3d-auth", 5102, &["shadow"]),
    ("popa3d-spawn", 5103, &[]),
    ("popa3d-key", 5104, &[]),
    ("dovecot", 5105, &[]),
    ("dovenull", 5106, &[]),
    ("courier", COURIER_ID, &[]),
    ("vmail", COMMON_OWNER, &[]),
];

/// A mailbox owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User and group number.
    pub uid: u32,
}

/// One account for each name, each with a uid of its own.
pub fn named(names: impl IntoIterator<Item = String>) -> Vec<Account> {
    (FIRST_UID..)
        .zip(names)
        .map(|(uid, name)| Account { name, uid })
        .collect()
}

/// Adds the accounts and the servers' own users to the files in `/etc`, which is the private machine's already.
///
/// # Errors
/// The files cannot be read or written.
pub fn install(accounts: &[Account]) -> Outcome<()> {
    let mut added: Vec<(&str, u32, &str)> = accounts
        .iter()
        .map(|account| (account.name.as_str(), account.uid, HASH))
        .collect();
    added.extend(SERVICE.map(|(name, uid, _)| (name, uid, "*")));
    let (mut passwd, mut shadow, mut group) = (
        others("/etc/passwd", &added)?,
        others("/etc/shadow", &added)?,
        others("/etc/group", &added)?,
    );
    for (name, uid, hash) in added {
        writeln!(passwd, "{name}:x:{uid}:{uid}:{name}:/home/{name}:/bin/sh")?;
        writeln!(shadow, "{name}:{hash}:19700:0:99999:7:::")?;
        writeln!(group, "{name}:x:{uid}:")?;
    }
    let group: String = group
        .lines()
        .map(|line| with_members(line) + "\n")
        .collect();
    fs::write("/etc/passwd", passwd)?;
    fs::write("/etc/shadow", shadow)?;
    fs::write("/etc/group", group)?;
    Ok(())
}

/// The lines of a file that are not about those who are to be added.
fn others(path: &str, added: &[(&str, u32, &str)]) -> Outcome<String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let names: std::collections::HashSet<_> = added.iter().map(|(name, ..)| *name).collect();
    let is_other = |line: &&str| !names.contains(line.split(':').next().unwrap_or_default());
    Ok(text
        .lines()
        .filter(is_other)
        .map(|line| format!("{line}\n"))
        .collect())
}

fn with_members(line: &str) -> String {
    let group = line.split(':').next().unwrap_or_default();
    SERVICE
        .iter()
        .filter(|(_, _, groups)| groups.contains(&group))
        .fold(line.to_owned(), |line, (name, ..)| {
            let comma = if line.ends_with(':') { "" } else { "," };
            format!("{line}{comma}{name}")
        })
}

/// The number of group mail.
///
/// # Errors
/// There is none.
pub fn mail_group() -> Outcome<u32> {
    let groups = fs::read_to_string("/etc/group")?;
    let gid = groups.lines().find_map(|line| {
        line.strip_prefix("mail:x:")?
            .split(':')
            .next()?
            .parse()
            .ok()
    });
    Ok(gid.ok_or("no group mail")?)
}
