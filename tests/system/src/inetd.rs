//! One session as inetd starts it: the program with a socket, or a pair of pipes, as its standard input and output.

use crate::poll;
use crate::pop::Pop;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};

/// A session under way.
pub struct Session {
    /// The client's side.
    pub pop: Pop,
    /// The server's side.
    pub server: Child,
}

/// Starts `command` on a socket pair.
///
/// # Panics
/// When it cannot be started.
pub fn start(command: Command) -> Session {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    let output: OwnedFd = theirs.try_clone().expect("a second descriptor").into();
    let server = spawn(command, OwnedFd::from(theirs).into(), output.into());
    Session {
        pop: Pop::over(ours.into()),
        server,
    }
}

/// Starts `command` on two pipes.
///
/// # Panics
/// When it cannot be started.
pub fn start_on_pipes(command: Command) -> Session {
    let (input, to_server) = std::io::pipe().expect("a pipe");
    let (from_server, output) = std::io::pipe().expect("a pipe");
    let server = spawn(command, input.into(), output.into());
    Session {
        pop: Pop::over_pair(from_server.into(), to_server.into()),
        server,
    }
}

/// Takes the command, because it keeps the server's ends open as long as it lives.
fn spawn(mut command: Command, input: Stdio, output: Stdio) -> Child {
    command
        .stdin(input)
        .stdout(output)
        // Its log; a test that wants it configures another target.
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program()))
}

impl Session {
    /// Waits for the server to end.
    ///
    /// # Panics
    /// When it does not.
    pub fn end(mut self) -> ExitStatus {
        drop(self.pop);
        poll::until("the session's end", || {
            self.server.try_wait().expect("the state of a child")
        })
    }
}
