//! mutt needs a terminal; it copies every message into an mbox.

use super::{Client, Reader, from_the_daemon, with_lf};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use system_tests::corpus::Message;
use system_tests::run;
use system_tests::users::ALICE;

pub const MUTT: Client = Client {
    program: "mutt",
    package: "mutt",
    fetch,
    hands_on: as_copied,
    rewrites: &[],
};

fn fetch(reader: &Reader) -> Vec<Vec<u8>> {
    let commands = "<tag-pattern>.<enter><tag-prefix><copy-message>copy<enter><exit>";
    let configuration = reader.write(
        "muttrc",
        &format!(
            "set pop_host=\"pop://{}@{}\" pop_pass=\"{}\" pop_authenticators=user\n\
             set folder=\"{4}\" spoolfile=\"pop://{0}@{1}\" mbox_type=Maildir confirmcreate=no confirmappend=no\n\
             set ssl_starttls=no ssl_force_tls=no copy=yes sort=mailbox-order delete=no quit=yes wait_key=no move=no\n\
             push \"{}\"\n",
            ALICE.name, reader.server, ALICE.password, commands, reader.directory.display()
        ),
    );
    let mut mutt = reader.command("script");
    mutt.env("TERM", "vt100")
        .args(["--quiet", "--return", "--command"])
        .arg(format!(
            "mutt -n -F {} -f pop://{}@{}",
            configuration.display(),
            ALICE.name,
            reader.server
        ))
        .arg("typescript");
    run::to_end(&mut mutt, b"").expect_success("mutt");
    let copy = fs::read_dir(reader.directory.join("copy/new")).expect("mutt's copy");
    let mut paths: Vec<_> = copy.map(|entry| entry.expect("a message").path()).collect();
    paths.sort_by_key(|path| sequence_number(path));
    paths
        .iter()
        .map(|path| fs::read(path).expect("a message"))
        .collect()
}

/// The N of `TIME.PID_N.HOST`, which counts up as mutt copies.
fn sequence_number(path: &Path) -> usize {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let number = name
        .split('_')
        .nth(1)
        .and_then(|rest| rest.split('.').next());
    number
        .and_then(|number| number.parse().ok())
        .expect("a sequence number")
}

/// LF line ends; each line ends at its first NUL, because mutt reads it as a C string; two header fields are added.
fn as_copied(message: &Message) -> Vec<u8> {
    let lines = with_lf(message);
    let lines = lines.split_inclusive(|octet| *octet == b'\n').map(|line| {
        let text = line.split(|octet| *octet == 0 || *octet == b'\n').next();
        [text.unwrap_or_default(), b"\n"].concat()
    });
    let (mut header, mut body) = (Vec::new(), Vec::new());
    let mut is_body = false;
    for line in lines {
        match (is_body, line.as_slice()) {
            (false, b"\n") => is_body = true,
            (false, line) => header.extend_from_slice(line),
            (true, line) => body.push(line.to_vec()),
        }
    }
    let octets: usize = body.iter().map(Vec::len).sum();
    // It reads through a buffer of 1024 octets and counts every fill as a line.
    let fills: usize = body.iter().map(|line| line.len().div_ceil(1023)).sum();
    let added = format!("Content-Length: {octets}\nLines: {fills}\n\n");
    [header, added.into_bytes(), body.concat()].concat()
}

#[test]
fn mutt_fetches_the_corpus() {
    from_the_daemon(&MUTT);
}
