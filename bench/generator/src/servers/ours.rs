//! This project's server.

use super::{BOTH, Server, Site, command, write};
use crate::Outcome;
use crate::machine::Machine;
use crate::mail::Format;
use std::time::Duration;

/// With the shadow back end.
pub static OURS: Server = Server {
    name: super::OURS,
    about: "this project's popa3d, a uid per user, shadow back end",
    package: None,
    formats: BOTH,
    one_owner: false,
    rest: Duration::ZERO,
    configure: |site| configure(site, super::OURS, "shadow"),
};

/// Another build, as `--other` says.
pub static OTHER: Server = Server {
    name: super::OTHER,
    about: "another build of this project's popa3d, as --other says",
    configure: |site| configure(site, super::OTHER, "shadow"),
    ..OURS
};

/// With the back end that it has by default.
pub static WITH_PAM: Server = Server {
    name: super::WITH_PAM,
    about: "this project's popa3d, a uid per user, PAM back end (its default)",
    configure: |site| configure(site, super::OURS, "pam"),
    ..OURS
};

fn configure(site: &Site, build: &str, backend: &str) -> Outcome<Vec<Vec<String>>> {
    let location = match site.format {
        Format::Mbox => "mbox:/var/mail/%u",
        Format::Maildir => "maildir:%h/Maildir",
    };
    let limits = if site.default_limits {
        ""
    } else {
        "[limits]\nsessions = 20000\nsessions_per_source = 20000\n"
    };
    let files = Machine::FILES;
    let text = format!(
        "listen = [\"0.0.0.0:110\"]\nlisten_tls = [\"0.0.0.0:995\"]\n\
         [tls]\ncertificate = \"{files}/certificate.pem\"\nkey = \"{files}/key.pem\"\n\
         handshakes_per_second = 20000\n\
         [auth]\nbackends = [\"{backend}\"]\n\
         [maildrop]\nlocation = \"{location}\"\n{limits}"
    );
    write("/etc/popa3d/popa3d.toml", &text)?;
    write(
        "/etc/pam.d/popa3d",
        "auth required pam_unix.so\naccount required pam_unix.so\n",
    )?;
    let program = format!("{files}/{build}/sbin/popa3d");
    Ok(vec![command(&[
        &program,
        "-D",
        "-f",
        "-c",
        "/etc/popa3d/popa3d.toml",
    ])])
}
