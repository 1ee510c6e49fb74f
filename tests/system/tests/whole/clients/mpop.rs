//! mpop delivers into a Maildir with LF line ends.

use super::{Client, Reader, from_the_daemon, with_lf};
use system_tests::run;
use system_tests::users::ALICE;

pub const MPOP: Client = Client {
    program: "mpop",
    package: "mpop",
    fetch,
    hands_on: with_lf,
    rewrites: &[],
};

fn fetch(reader: &Reader) -> Vec<Vec<u8>> {
    // Without `only_new` and `keep` mpop would look for what it has fetched before and delete.
    let configuration = reader.write(
        "mpoprc",
        &format!(
            "account default\nhost {}\nport {}\ntls off\nauth user\nuser {}\npassword {}\n\
             keep on\nonly_new off\nreceived_header off\nuidls_file {1}.uidls\n\
             delivery mda \"/bin/sh -c 'cat > message-$(ls | grep -c message- | xargs expr 1 +)'\"\n",
            reader.server.ip(),
            reader.server.port(),
            ALICE.name,
            ALICE.password,
        ),
    );
    let mut mpop = reader.command("mpop");
    mpop.arg("-C").arg(configuration);
    run::to_end(&mut mpop, b"").expect_success("mpop");
    reader.numbered_files("message-")
}

#[test]
fn mpop_fetches_the_corpus() {
    from_the_daemon(&MPOP);
}
