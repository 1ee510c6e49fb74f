//! fetchmail pipes each message into a delivery agent.

use super::{Client, Reader, from_the_daemon};
use system_tests::corpus::Message;
use system_tests::run;
use system_tests::users::ALICE;

pub const FETCHMAIL: Client = Client {
    program: "fetchmail",
    package: "fetchmail",
    fetch,
    hands_on: without_cr,
    // It puts octets of its own into lines of more than 8 KiB (6.4.37), and a header on mail that has none.
    rewrites: &["long-line", "no-header"],
};

/// `stripcr`, its default for a delivery agent, removes bare CRs too.
fn without_cr(message: &Message) -> Vec<u8> {
    message
        .sent
        .iter()
        .copied()
        .filter(|octet| *octet != b'\r')
        .collect()
}

fn fetch(reader: &Reader) -> Vec<Vec<u8>> {
    let configuration = reader.write(
        "fetchmailrc",
        &format!(
            "set invisible\n\
             poll {} service {} protocol pop3 auth password no dns\n\
             user \"{}\" password \"{}\" fetchall keep no rewrite stripcr pass8bits sslproto \"\"\n\
             mda \"/bin/sh -c 'cat > message-$(ls | grep -c message- | xargs expr 1 +)'\"\n",
            reader.server.ip(),
            reader.server.port(),
            ALICE.name,
            ALICE.password,
        ),
    );
    let mut fetchmail = reader.command("fetchmail");
    fetchmail.arg("--fetchmailrc").arg(configuration).args([
        "--idfile",
        "ids",
        "--pidfile",
        "pid",
        "-v",
        "-v",
    ]);
    run::to_end(&mut fetchmail, b"").expect_success("fetchmail");
    reader.numbered_files("message-")
}

#[test]
fn fetchmail_fetches_the_corpus() {
    from_the_daemon(&FETCHMAIL);
}
