//! More connections than there may be sessions.

use system_tests::certificates::Kind;
use system_tests::pop::Pop;
use system_tests::users::{ALICE, BOB};

use super::{Openssl, setup, tls_address, with_server};

#[test]
fn the_relay_of_one_that_has_logged_in_is_not_ended_for_a_newcomer() {
    let setup = setup().set("limits", "sessions", "3");
    with_server(setup, Kind::P256, |site, server| {
        let mut logged_in = Openssl::to(tls_address()).greeted();
        logged_in.pop.login(ALICE.name, ALICE.password);
        // It has shaken hands and no more, and is the only one there that may go.
        let mut stranger = Openssl::by_stls(site.address).connect();
        stranger.pop.ok("CAPA");
        stranger.pop.lines();
        let dial = |n| Pop::dial_from([127, 0, 0, n].into(), site.address);
        let mut held: Vec<Pop> = Vec::new();
        for n in 10..20 {
            let mut pop = dial(n);
            assert!(pop.reply().ok, "newcomer {n}");
            pop.ok("USER nobody");
            held.push(pop);
        }
        stranger.pop.expect_closed();
        logged_in.pop.ok("NOOP");
        let mut last = dial(20);
        assert!(last.reply().ok);
        last.login(BOB.name, BOB.password);
        last.ok("QUIT");
        logged_in.pop.ok("STAT");
        logged_in.pop.ok("QUIT");
        assert!(!server.log().contains("session died"), "{}", server.log());
    });
}
