//! GNU mailutils' POP3 server as Debian ships it, a process per connection.

use super::{BOTH, Server, command, write};
use crate::machine::Machine;
use crate::mail::Format;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

/// As a daemon.
pub static MAILUTILS: Server = Server {
    name: "mailutils",
    about: "GNU mailutils 3.15 as Debian ships it, shadow file",
    package: Some("mailutils-pop3d"),
    formats: BOTH,
    one_owner: false,
    rest: Duration::ZERO,
    configure: |site| {
        // Where it locks a Maildir; it takes for granted that somebody has made it.
        fs::create_dir_all("/run/lock/subsys/mail")?;
        symlink("/run/lock", "/var/lock")?;
        fs::set_permissions("/run/lock/subsys/mail", Permissions::from_mode(0o1777))?;
        let pattern = match site.format {
            Format::Mbox => "mbox:///var/mail/${user}",
            Format::Maildir => "maildir:///home/${user}/Maildir",
        };
        write(
            "/etc/mailutils.conf",
            &format!(
                "mailbox {{\n  mailbox-pattern \"{pattern}\";\n}};\n\
                 tls-file-checks {{\n  key-file none;\n  cert-file none;\n}};\n\
                 program pop3d {{\n  mode daemon;\n  max-children 20000;\n\
                 server 0.0.0.0:110 {{\n}};\n\
                 server 0.0.0.0:995 {{\n  tls-mode connection;\n  tls {{\n\
                 ssl-certificate-file {files}/certificate.pem;\n\
                 ssl-key-file {files}/key.pem;\n  }};\n}};\n}};\n",
                files = Machine::FILES
            ),
        )?;
        Ok(vec![command(&[
            "/usr/sbin/pop3d",
            "--foreground",
            "--daemon=20000",
        ])])
    },
};
