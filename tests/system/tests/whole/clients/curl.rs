//! curl hands on what it is sent, octet by octet.

use super::{Client, Reader, from_the_daemon};
use system_tests::run;
use system_tests::users::ALICE;

pub const CURL: Client = Client {
    program: "curl",
    package: "curl",
    fetch,
    hands_on: |message| message.sent.clone(),
    rewrites: &[],
};

fn fetch(reader: &Reader) -> Vec<Vec<u8>> {
    let mut curl = reader.command("curl");
    curl.args(["--silent", "--show-error", "--user"])
        .arg(format!("{}:{}", ALICE.name, ALICE.password))
        .arg(format!("pop3://{}/[1-{}]", reader.server, reader.messages))
        .args(["--output", "message-#1"]);
    run::to_end(&mut curl, b"").expect_success("curl");
    reader.numbered_files("message-")
}

#[test]
fn curl_fetches_the_corpus() {
    from_the_daemon(&CURL);
}
