//! Where messages go: an mbox, a command, LMTP, JSON.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;

use scripted_server::{Mailbox, Message};

use crate::site::{Site, code, said, with_lf};

#[test]
fn an_mbox_gets_all_messages_quoted() {
    let message = |id: &str, octets: &[u8]| Message {
        unique_id: id.to_owned(),
        octets: octets.to_vec(),
    };
    let mailbox = Mailbox::new(vec![
        message("1", b"Subject: a\r\n\r\nFrom here\r\n>From there\r\n"),
        message("2", b"Subject: b\r\n\r\nno end"),
    ]);
    let site = Site::new(&mailbox.start());
    let mbox = site.path("mbox");
    let output = site.popget("fetch", &["--mbox", mbox.to_str().unwrap()]);
    assert_eq!(code(&output), 0, "{output:?}");
    let text = fs::read_to_string(&mbox).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("From popget-") && lines[6].starts_with("From popget-"),
        "{text}"
    );
    assert_eq!(
        lines[1..6],
        ["Subject: a", "", ">From here", ">>From there", ""]
    );
    assert_eq!(lines[7..], ["Subject: b", "", "no end", ""]);
    assert!(!site.path("mbox.lock").exists());
}

#[test]
fn a_command_gets_each_message_and_may_refuse_it() {
    let mailbox = Mailbox::many(3, 100);
    let site = Site::new(&mailbox.start());
    let script = "cat > \"$HOME/$POPGET_UNIQUE_ID\"; test \"$POPGET_UNIQUE_ID\" != uid-2";
    let output = site.popget("fetch", &["--mda", script, "--delete"]);
    assert_eq!(code(&output), 1, "{output:?}");
    assert_eq!(
        fs::read(site.path("uid-3")).unwrap(),
        with_lf(&Mailbox::many(3, 100).messages()[2].octets)
    );
    assert_eq!(mailbox.messages()[0].unique_id, "uid-2");
}

#[test]
fn lmtp_gets_each_message_and_may_refuse_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let agent = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        let mut say = |text: &str| stream.write_all(text.as_bytes()).unwrap();
        let mut messages: Vec<String> = Vec::new();
        say("220 ready\r\n");
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap() == 0 {
                return messages;
            }
            match line.split(' ').next().unwrap().trim_end() {
                "LHLO" => say("250-here\r\n250 PIPELINING\r\n"),
                "DATA" => {
                    say("354 go on\r\n");
                    let mut message = String::new();
                    while !message.ends_with("\r\n.\r\n") {
                        reader.read_line(&mut message).unwrap();
                    }
                    let is_wanted = !message.contains("message 2");
                    messages.push(message);
                    say(if is_wanted {
                        "250 kept\r\n"
                    } else {
                        "550 no\r\n"
                    });
                }
                _ => say("250 fine\r\n"),
            }
        }
    });
    let mailbox = Mailbox::many(3, 100);
    let site = Site::new(&mailbox.start());
    let output = site.popget("fetch", &["--lmtp", &address, "--delete"]);
    assert_eq!(code(&output), 1, "{output:?}");
    assert!(said(&output).contains("550 no"), "{output:?}");
    let messages = agent.join().unwrap();
    assert_eq!(messages.len(), 3);
    let sent = String::from_utf8(Mailbox::many(3, 100).messages()[2].octets.clone()).unwrap();
    assert_eq!(messages[2], sent.replace("\r\n.", "\r\n..") + ".\r\n");
    assert_eq!(mailbox.messages()[0].unique_id, "uid-2");
}

#[test]
fn a_message_comes_in_json_too() {
    let mailbox = Mailbox::sample();
    let site = Site::new(&mailbox.start());
    let json = |action: &str, number: &str| -> serde_json::Value {
        let output = site.popget(action, &[number, "--json"]);
        assert_eq!(code(&output), 0, "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let one = json("retr", "1");
    let text = String::from_utf8(mailbox.messages()[0].octets.clone()).unwrap();
    assert_eq!(
        (&one["number"], &one["octets"]),
        (&1.into(), &text.len().into())
    );
    assert_eq!(one["text"], text);
    // Not UTF-8, so JSON cannot have it as it is.
    assert_eq!(
        json("retr", "2")["base64"],
        "U3ViamVjdDogdHdvDQoNCi4uDQrkIAANCg=="
    );
    assert_eq!(json("top", "2")["text"], "Subject: two\r\n\r\n");
}
