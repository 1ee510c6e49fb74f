//! The sessions' processes: whose they are, and the leases of their connections.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use confine::process::{self, Pid, Signal};
use messages::session::SessionId;

#[derive(Debug)]
struct Child {
    id: SessionId,
    /// Held so that the listener counts the connection until the process has ended.
    _lease: OwnedFd,
    /// The listener wanted it gone.
    was_ended: bool,
}

/// Every child that has not been waited for.
#[derive(Debug, Default)]
pub struct Children {
    by_pid: HashMap<Pid, Child>,
    by_id: HashMap<SessionId, Pid>,
}

impl Children {
    /// How many.
    pub fn len(&self) -> usize {
        self.by_pid.len()
    }

    /// Adds one.
    pub fn insert(&mut self, pid: Pid, id: SessionId, lease: OwnedFd) {
        let child = Child {
            id,
            _lease: lease,
            was_ended: false,
        };
        self.by_pid.insert(pid, child);
        self.by_id.insert(id, pid);
    }

    /// Kills the process of a session. Nobody is killed by mistake: a number in this table is that of a child which has
    /// not been waited for, and is given to no other process before that. None there: it has ended by itself, or has logged in and
    /// given its client away.
    ///
    /// A session that has logged in by TLS in this very moment, before the listener knew, is ended all the same. That
    /// loses nothing: for the maildrop process it is a client that went without QUIT, and there is no UPDATE.
    pub fn end(&mut self, id: SessionId) {
        if let Some(&pid) = self.by_id.get(&id)
            && let Some(child) = self.by_pid.get_mut(&pid)
        {
            child.was_ended = process::kill(pid, Signal::KILL).is_ok();
        }
    }

    /// Lets go of a child that has been waited for. True: it was ended from here, so how it ended tells nothing.
    pub fn bury(&mut self, pid: Pid) -> bool {
        let Some(child) = self.by_pid.remove(&pid) else {
            return false;
        };
        self.by_id.remove(&child.id);
        child.was_ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child as Process, Command, Stdio};

    /// A process that lasts until its input is closed.
    fn process() -> Process {
        let mut command = Command::new("cat");
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        command.spawn().unwrap()
    }

    fn pid(process: &Process) -> Pid {
        Pid::from_child(process)
    }

    fn lease() -> OwnedFd {
        std::io::pipe().unwrap().1.into()
    }

    #[test]
    fn the_session_that_is_named_is_ended_and_no_other() {
        let (mut first, mut second) = (process(), process());
        let mut children = Children::default();
        children.insert(pid(&first), SessionId(1), lease());
        children.insert(pid(&second), SessionId(2), lease());
        children.end(SessionId(3));
        children.end(SessionId(2));
        assert_eq!(
            second.wait().unwrap().signal(),
            Some(Signal::KILL.as_raw()),
            "the second"
        );
        assert!(children.bury(pid(&second)));
        drop(first.stdin.take());
        assert!(first.wait().unwrap().success(), "the first");
        assert!(!children.bury(pid(&first)), "it has ended by itself");
        assert_eq!((children.len(), children.by_id.len()), (0, 0));
    }

    #[test]
    fn a_process_that_has_been_waited_for_is_not_signalled() {
        // Its number is as good as anybody's.
        let mut other = process();
        let mut children = Children::default();
        children.insert(pid(&other), SessionId(1), lease());
        children.bury(pid(&other));
        children.end(SessionId(1));
        drop(other.stdin.take());
        assert!(other.wait().unwrap().success());
    }

    #[test]
    fn a_lease_is_held_until_the_child_is_buried() {
        let mut child = process();
        let (listener, lease) = std::io::pipe().unwrap();
        let mut children = Children::default();
        children.insert(pid(&child), SessionId(1), lease.into());
        rustix::io::ioctl_fionbio(&listener, true).unwrap();
        let read = || rustix::io::read(&listener, &mut [0]);
        assert_eq!(read(), Err(rustix::io::Errno::AGAIN));
        children.end(SessionId(1));
        child.wait().unwrap();
        assert_eq!(read(), Err(rustix::io::Errno::AGAIN));
        children.bury(pid(&child));
        // Another test may be about to start a process, which has a copy for a moment.
        let mut polled = [PollFd::new(&listener, PollFlags::IN)];
        let ten_seconds = Timespec {
            tv_sec: 10,
            tv_nsec: 0,
        };
        poll(&mut polled, Some(&ten_seconds)).unwrap();
        assert_eq!(read(), Ok(0));
    }
}
