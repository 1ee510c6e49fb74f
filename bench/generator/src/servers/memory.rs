//! The ceiling: a server that does nothing but send what it holds in memory, by the fewest system calls. What it
//! reaches is what the load generator, the kernel and the machine allow.

use super::{BOTH, Server, command};
use crate::Outcome;
use crate::machine::Machine;
use crate::mail::{Contents, on_the_wire};
use crate::setup;
use crate::transport::{self, Stream, Transport};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// This program with another command line.
pub static CEILING: Server = Server {
    name: super::CEILING,
    about: "a server without authentication, privilege separation or files, that sends what it has in memory",
    package: None,
    formats: BOTH,
    one_owner: false,
    rest: Duration::ZERO,
    configure: |_site| {
        let program = format!("{}/bench", Machine::FILES);
        Ok(vec![command(&[&program, "serve-from-memory"])])
    },
};

/// Replies of a mailbox, ready to be sent.
struct Replies {
    stat: Vec<u8>,
    uidl: Vec<u8>,
    list: Vec<u8>,
    messages: Vec<Vec<u8>>,
}

type Mailboxes = Arc<Mutex<HashMap<Contents, Arc<Replies>>>>;

/// Serves for ever, a thread per connection, with TLS on the port for that.
///
/// # Errors
/// It cannot listen.
pub fn serve() -> Outcome<()> {
    let mailboxes = Mailboxes::default();
    let tls = transport::server_configuration()?;
    let accept = |transport: Transport| -> Outcome<()> {
        for socket in TcpListener::bind(transport.address())?.incoming() {
            let (socket, mailboxes, tls) = (socket?, Arc::clone(&mailboxes), Arc::clone(&tls));
            // A client that goes away ends its thread.
            std::thread::spawn(move || drop(begin(socket, transport, tls, &mailboxes)));
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let secure = scope.spawn(|| accept(Transport::Tls));
        accept(Transport::Plain)?;
        secure.join().map_err(|_| "the thread for TLS failed")?
    })
}

fn begin(
    socket: TcpStream,
    transport: Transport,
    tls: Arc<ServerConfig>,
    mailboxes: &Mailboxes,
) -> Outcome<()> {
    socket.set_nodelay(true)?;
    session(
        match transport {
            Transport::Plain => Stream::Plain(socket),
            Transport::Tls => {
                let tls = ServerConnection::new(tls)?;
                Stream::TlsServer(Box::new(StreamOwned::new(tls, socket)))
            }
        },
        mailboxes,
    )
}

fn session(mut stream: Stream, mailboxes: &Mailboxes) -> Outcome<()> {
    stream.write_all(b"+OK\r\n")?;
    let mut user = String::new();
    let mut replies = None;
    let mut input = vec![0; 64 * 1024];
    let mut held = 0;
    loop {
        let octets = stream.read(&mut input[held..])?;
        if octets == 0 {
            return Ok(());
        }
        held += octets;
        let whole = memchr::memrchr(b'\n', &input[..held]).map_or(0, |end| end + 1);
        for line in input[..whole].split_inclusive(|octet| *octet == b'\n') {
            let line = str::from_utf8(line)?.trim_end();
            let (name, argument) = line.split_once(' ').unwrap_or((line, ""));
            let mailbox = || replies.as_deref().ok_or("no mailbox");
            match name {
                "USER" => {
                    argument.clone_into(&mut user);
                    stream.write_all(b"+OK\r\n")?;
                }
                "PASS" => {
                    replies = Some(of_user(&user, mailboxes)?);
                    stream.write_all(b"+OK\r\n")?;
                }
                "STAT" => stream.write_all(&mailbox()?.stat)?,
                "UIDL" => stream.write_all(&mailbox()?.uidl)?,
                "LIST" => stream.write_all(&mailbox()?.list)?,
                "RETR" => {
                    let number: usize = argument.parse()?;
                    let message = mailbox()?.messages.get(number.wrapping_sub(1));
                    stream.write_all(message.ok_or("no such message")?)?;
                }
                _ => {
                    stream.write_all(b"+OK\r\n")?;
                    if name == "QUIT" {
                        return Ok(());
                    }
                }
            }
        }
        input.copy_within(whole..held, 0);
        held -= whole;
    }
}

fn of_user(user: &str, mailboxes: &Mailboxes) -> Outcome<Arc<Replies>> {
    let contents = setup::everyday_contents(user);
    let mut mailboxes = mailboxes.lock().map_err(|_| "another thread failed")?;
    Ok(Arc::clone(mailboxes.entry(contents).or_insert_with_key(
        |contents| Arc::new(replies(contents)),
    )))
}

fn replies(contents: &Contents) -> Replies {
    let mut replies = Replies {
        stat: Vec::new(),
        uidl: b"+OK\r\n".to_vec(),
        list: b"+OK\r\n".to_vec(),
        messages: Vec::new(),
    };
    let mut total = 0;
    for (index, message) in contents.messages().enumerate() {
        let (number, octets) = (index + 1, message.len());
        total += octets;
        replies
            .uidl
            .extend(format!("{number} {number:016x}\r\n").bytes());
        replies
            .list
            .extend(format!("{number} {octets}\r\n").bytes());
        replies
            .messages
            .push([b"+OK\r\n", on_the_wire(&message).as_slice()].concat());
    }
    replies.stat = format!("+OK {} {total}\r\n", replies.messages.len()).into_bytes();
    replies.uidl.extend(b".\r\n");
    replies.list.extend(b".\r\n");
    replies
}
