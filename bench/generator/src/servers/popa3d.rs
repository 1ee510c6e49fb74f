//! popa3d 1.0.3: as Debian builds it, and built from the same source with what its INSTALL tells to set in params.h.

use super::{Server, command, write};
use crate::mail::Format;
use std::time::Duration;

/// Debian's executable. It serves no more than 500 sessions in ten seconds, a limit that is compiled in.
pub static DEBIAN: Server = Server {
    name: "popa3d-debian",
    about: "popa3d 1.0.3 as Debian builds it: PAM",
    package: Some("popa3d"),
    formats: &[Format::Mbox],
    one_owner: false,
    rest: Duration::from_secs(11),
    configure: |_site| {
        // As the package has it, but for common-auth, whose modules depend on the machine.
        write(
            "/etc/pam.d/popa3d",
            "auth required pam_unix.so\naccount required pam_unix.so\n",
        )?;
        Ok(vec![command(&["/usr/sbin/popa3d", "-D"])])
    },
};

/// The same version with the shadow file read directly, and larger limits.
pub static SHADOW: Server = Server {
    name: "popa3d",
    about: "popa3d 1.0.3 built from Debian's source: AUTH_SHADOW, POP_STANDALONE, limits on sessions raised",
    package: Some("popa3d-shadow"),
    rest: Duration::ZERO,
    configure: |site| {
        let program = if site.default_limits {
            "/usr/sbin/popa3d-limits"
        } else {
            "/usr/sbin/popa3d"
        };
        Ok(vec![command(&[program, "-D"])])
    },
    ..DEBIAN
};
