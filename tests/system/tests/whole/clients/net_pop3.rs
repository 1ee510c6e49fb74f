//! Perl's Net::POP3 hands on lines ended by LF.

use super::{Client, Reader, from_the_daemon, with_lf};
use system_tests::run;
use system_tests::users::ALICE;

const SCRIPT: &str = r#"
use strict; use warnings; use Net::POP3;
my ($host, $port, $user, $password) = @ARGV;
my $pop = Net::POP3->new($host, Port => $port, Timeout => 60) or die "connect: $@";
my $count = $pop->login($user, $password) // die "login: " . $pop->message;
my ($stated) = $pop->popstat;
my $sizes = $pop->list;
my $ids = $pop->uidl;
die "counts differ" unless $count == $stated && $count == keys %$sizes && $count == keys %$ids;
for my $number (1 .. $count) {
    my $lines = $pop->get($number) or die "RETR $number: " . $pop->message;
    open my $file, '>:raw', "message-$number" or die $!;
    print $file @$lines;
    close $file or die $!;
}
$pop->quit or die "QUIT";
"#;

pub const NET_POP3: Client = Client {
    program: "perl",
    package: "perl",
    fetch,
    hands_on: with_lf,
    rewrites: &[],
};

fn fetch(reader: &Reader) -> Vec<Vec<u8>> {
    let mut perl = reader.command("/usr/bin/perl");
    perl.args([
        "-e",
        SCRIPT,
        &reader.server.ip().to_string(),
        &reader.server.port().to_string(),
    ])
    .args([ALICE.name, ALICE.password]);
    run::to_end(&mut perl, b"").expect_success("Net::POP3");
    reader.numbered_files("message-")
}

#[test]
fn net_pop3_fetches_the_corpus() {
    from_the_daemon(&NET_POP3);
}
