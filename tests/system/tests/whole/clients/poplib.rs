//! Python's poplib hands on lines without their ends. Its limit of 2048 octets a line is its own (cpython issue
//! 16041); a server that cut lines for its sake would change everybody's mail.

use super::{Client, Reader, from_the_daemon};
use system_tests::run;
use system_tests::users::ALICE;

/// Every method that answers something is held against the others.
const SCRIPT: &str = r#"
import poplib, sys
host, port, user, password = sys.argv[1:]
poplib._MAXLINE = 64 * 1024 * 1024
pop = poplib.POP3(host, int(port), timeout=60)
pop.user(user)
pop.pass_(password)
count, total = pop.stat()
sizes = [int(line.split()[1]) for line in pop.list()[1]]
ids = [line.split()[1] for line in pop.uidl()[1]]
assert len(sizes) == len(ids) == len(set(ids)) == count and sum(sizes) == total
for number in range(1, count + 1):
    lines, octets = pop.retr(number)[1:]
    assert octets == sizes[number - 1], (number, octets, sizes[number - 1])
    whole_by_top = pop.top(number, 2**31 - 1)[1]
    assert whole_by_top == lines, number
    with open(f"message-{number}", "wb") as file:
        file.write(b"".join(line + b"\r\n" for line in lines))
pop.quit()
"#;

pub const POPLIB: Client = Client {
    program: "python3",
    package: "python3",
    fetch,
    hands_on: |message| message.sent.clone(),
    rewrites: &[],
};

fn fetch(reader: &Reader) -> Vec<Vec<u8>> {
    let mut python = reader.command("/usr/bin/python3");
    python
        .args([
            "-c",
            SCRIPT,
            &reader.server.ip().to_string(),
            &reader.server.port().to_string(),
        ])
        .args([ALICE.name, ALICE.password]);
    run::to_end(&mut python, b"").expect_success("poplib");
    reader.numbered_files("message-")
}

#[test]
fn poplib_fetches_the_corpus() {
    from_the_daemon(&POPLIB);
}
