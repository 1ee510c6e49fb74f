//! Before a server is measured: does it serve what it was given? A fast server that sends something else would win.

use crate::Outcome;
use crate::client::Client;
use crate::mail::on_the_wire;
use crate::setup::{Instance, POLLED, SetUp, everyday_contents, mixed, polled};
use crate::transport::Transport;
use crate::work::in_parallel;

/// Fetches the realistic mix and compares every octet; a rival may differ in header lines that it adds or hides, so
/// for a rival it is the body that counts. Afterwards every user has logged in once: what a server makes at a user's
/// first login is made.
///
/// # Errors
/// Something else was served; names the message.
pub fn check(instance: &Instance, set_up: SetUp) -> Outcome<()> {
    if set_up != SetUp::Everyday {
        return Ok(());
    }
    let is_rival = instance.server.package.is_some();
    let name = instance.server.name;
    instance.machine.run(move || {
        let user = mixed(0);
        let mut client = Client::login(Transport::Plain, &user)?;
        for (index, message) in everyday_contents(&user).messages().enumerate() {
            let expected = on_the_wire(&message);
            let mut served = Vec::with_capacity(expected.len());
            client.send(format!("RETR {}\r\n", index + 1).as_bytes())?;
            client.multiline_into(|part| served.extend_from_slice(part))?;
            let (expected, served) = if is_rival {
                (body(&expected), body(&served))
            } else {
                (expected.as_slice(), served.as_slice())
            };
            if expected != served {
                let number = index + 1;
                return Err(format!("{name} serves message {number} changed").into());
            }
        }
        client.ask("QUIT")?;
        in_parallel(8, |client| {
            let mut users = (client..POLLED).step_by(8).map(polled);
            users.try_for_each(|user| Client::login(Transport::Plain, &user)?.poll())
        })
    })
}

fn body(message: &[u8]) -> &[u8] {
    let end = memchr::memmem::find(message, b"\r\n\r\n");
    end.map_or(message, |end| &message[end + 4..])
}
