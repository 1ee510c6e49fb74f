//! Courier's POP3 server with its authentication daemon, as Debian ships them; it knows Maildir only.

use super::{Server, command, write};
use crate::Outcome;
use crate::accounts::COURIER_ID;
use crate::machine::Machine;
use crate::mail::Format;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

/// PAM, a process per connection.
pub static COURIER: Server = Server {
    name: "courier",
    about: "Courier 1.0.16 as Debian ships it: PAM, Maildir only",
    package: Some("courier-pop"),
    formats: &[Format::Maildir],
    one_owner: false,
    rest: Duration::ZERO,
    configure: |site| {
        write(
            "/etc/pam.d/pop3",
            "auth required pam_unix.so nullok\naccount required pam_unix.so\nsession required pam_unix.so\n",
        )?;
        if !site.default_limits {
            let settings = fs::read_to_string("/etc/courier/pop3d")?;
            let raised = "MAXDAEMONS=20000\nMAXPERIP=20000\n";
            write("/etc/courier/pop3d", &(settings + "\n" + raised))?;
        }
        runtime_directories()?;
        certificate()?;
        Ok(vec![
            command(&["/usr/sbin/authdaemond", "start"]),
            command(&["/usr/sbin/pop3d", "start"]),
            command(&["/usr/sbin/pop3d-ssl", "start"]),
        ])
    },
};

/// Key and certificate in one file, as it wants them.
fn certificate() -> Outcome<()> {
    let file = |name: &str| fs::read_to_string(Path::new(Machine::FILES).join(name));
    let path = "/etc/courier/pop3d.pem";
    write(path, &(file("key.pem")? + &file("certificate.pem")?))?;
    chown(path, Some(COURIER_ID), Some(COURIER_ID))?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o600))?)
}

/// What Debian's start script makes.
fn runtime_directories() -> Outcome<()> {
    for directory in [
        "/run/courier",
        "/run/courier/authdaemon",
        "/var/lib/courier",
    ] {
        fs::create_dir_all(directory)?;
        chown(directory, Some(COURIER_ID), Some(COURIER_ID))?;
    }
    Ok(())
}
