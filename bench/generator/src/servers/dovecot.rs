//! Dovecot 2.3: as Debian ships it, and with the settings its documentation gives for performance.
//!
//! Those are: login processes that serve many connections each instead of one ("high-performance mode"), users looked
//! up in a file that the auth process keeps in memory, and, where all mail has one owner, mail processes that are used
//! again and serve several sessions.

use super::{BOTH, Server, Site, command, write};
use crate::accounts::{COMMON_OWNER, HASH};
use crate::machine::Machine;
use crate::mail::Format;
use crate::{Outcome, accounts};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// With the configuration files of the package.
pub static SHIPPED: Server = Server {
    name: "dovecot-debian",
    about: "Dovecot 2.3 as Debian ships it: PAM, a login process per connection, a uid per user",
    package: Some("dovecot-pop3d"),
    formats: BOTH,
    one_owner: false,
    rest: Duration::ZERO,
    configure: |site| {
        shipped_configuration()?;
        let location = match site.format {
            Format::Mbox => "mbox:~/mail:INBOX=/var/mail/%u",
            Format::Maildir => "maildir:~/Maildir",
        };
        let limits = limits(site);
        write(
            "/etc/dovecot/local.conf",
            &format!(
                "protocols = pop3\ndisable_plaintext_auth = no\nmail_location = {location}\n{limits}"
            ),
        )?;
        Ok(start())
    },
};

/// Fast, with a uid per user.
pub static UIDS: Server = Server {
    name: "dovecot-uids",
    about: "Dovecot 2.3, high-performance login processes, passwd-file, a uid per user",
    configure: |site| fast(site, false),
    ..SHIPPED
};

/// Fast, with one uid for all mail and shared mail processes.
pub static ONE_UID: Server = Server {
    name: "dovecot-one",
    about: "Dovecot 2.3, high-performance login processes, passwd-file, one uid, shared mail processes",
    one_owner: true,
    configure: |site| fast(site, true),
    ..SHIPPED
};

fn fast(site: &Site, one_uid: bool) -> Outcome<Vec<Vec<String>>> {
    shipped_configuration()?;
    write(
        "/etc/dovecot/conf.d/auth-system.conf.ext",
        "passdb {\n driver = passwd-file\n args = scheme=CRYPT /etc/dovecot/users\n}\n\
         userdb {\n driver = passwd-file\n args = /etc/dovecot/users\n}\n",
    )?;
    let mut users = String::new();
    for account in accounts_of_passwd()? {
        let uid = if one_uid { COMMON_OWNER } else { account.uid };
        let name = account.name;
        writeln!(users, "{name}:{HASH}:{uid}:{uid}::/home/{name}::")?;
    }
    write("/etc/dovecot/users", &users)?;
    let location = match site.format {
        Format::Mbox => "mbox:~/mail:INBOX=/var/mail/%u",
        Format::Maildir => "maildir:~/Maildir",
    };
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    let shared = match (one_uid, site.format) {
        (false, _) => String::new(),
        // Dovecot serves one mbox at a time in a process.
        (true, Format::Mbox) => reused(processors, 1),
        (true, Format::Maildir) => reused(processors, 100),
    };
    let limits = limits(site);
    write(
        "/etc/dovecot/local.conf",
        &format!(
            "protocols = pop3\ndisable_plaintext_auth = no\nmail_location = {location}\n\
             service pop3-login {{\n service_count = 0\n process_min_avail = {processors}\n}}\n\
             {shared}{limits}"
        ),
    )?;
    Ok(start())
}

/// What the package's installation script would put into place.
fn shipped_configuration() -> Outcome<()> {
    let (from, to) = (Path::new("/usr/share/dovecot"), Path::new("/etc/dovecot"));
    fs::create_dir_all(to.join("conf.d"))?;
    fs::copy(from.join("dovecot.conf"), to.join("dovecot.conf"))?;
    for entry in fs::read_dir(from.join("conf.d"))? {
        let entry = entry?;
        fs::copy(entry.path(), to.join("conf.d").join(entry.file_name()))?;
    }
    // The package's includes files that depend on the machine; these are their first lines.
    write(
        "/etc/pam.d/dovecot",
        "auth required pam_unix.so nullok\naccount required pam_unix.so\nsession required pam_unix.so\n",
    )?;
    fs::create_dir_all("/etc/dovecot/private")?;
    for (file, name) in [
        ("certificate.pem", "dovecot.pem"),
        ("key.pem", "dovecot.key"),
    ] {
        let private = Path::new("/etc/dovecot/private").join(name);
        fs::copy(Path::new(Machine::FILES).join(file), private)?;
    }
    fs::create_dir_all("/var/lib/dovecot")?;
    // Each process keeps its settings there.
    fs::create_dir_all("/run/dovecot")?;
    Ok(())
}

/// Mail processes that are used again.
fn reused(processors: usize, clients: usize) -> String {
    format!(
        "service pop3 {{\n service_count = 0\n client_limit = {clients}\n \
         process_min_avail = {processors}\n}}\n"
    )
}

/// Raises what limits how many may connect; the mail itself is served as before.
fn limits(site: &Site) -> &'static str {
    if site.default_limits {
        return "";
    }
    "default_process_limit = 6000\ndefault_client_limit = 19000\n\
     protocol pop3 {\n mail_max_userip_connections = 0\n}\n\
     service pop3 {\n process_limit = 6000\n}\n"
}

fn start() -> Vec<Vec<String>> {
    vec![command(&["/usr/sbin/dovecot", "-F"])]
}

fn accounts_of_passwd() -> Outcome<Vec<accounts::Account>> {
    let passwd = fs::read_to_string("/etc/passwd")?;
    let account = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let uid = fields.nth(1)?.parse().ok()?;
        (uid >= accounts::FIRST_UID).then_some(accounts::Account { name, uid })
    };
    Ok(passwd.lines().filter_map(account).collect())
}
