//! How every role begins, and what the master hears of its end.
//!
//! Every role links this crate, the master does not. A role is told its part of the configuration, opens and compiles what it
//! will not be able to later, enters its sandbox, and reports; each role writes down those steps itself, so that what it gives
//! up, and when, is read in its own crate. What is here is the same for all of them. It trusts the master.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

#[cfg(feature = "test-support")]
pub mod testing;

use std::error::Error;
use std::marker::PhantomData;
use std::process::ExitCode;

use confine::channel::{Channel, ChannelError, Message, Received};
use confine::sandbox::Sandbox;
use confine::seccomp::Program;
use messages::log::Logger;
use messages::role::{Confinement, Report, Start};

/// Why a role ends before its time: one sentence for the log.
pub type Failure = Box<dyn Error>;

/// Octets of that sentence, so that it fits into a [`Report`] whatever it quotes; the log cuts it shorter.
const MAX_REASON_OCTETS: usize = 2 * 1024;

/// A role that knows its part and has given nothing up yet.
///
/// `M` is what it says to the master: a [`Report`], or that among other things.
pub struct Starting<'a, C, M = Report> {
    /// Where it hears from the master.
    pub control: &'a Channel,
    /// Where it says how it gets on.
    pub master: Master<'a, M>,
    /// Its own log channel; its panics are logged from now on.
    pub logger: Logger,
    /// What it is to give up.
    pub confinement: Confinement,
    /// Its part of the configuration.
    pub configuration: C,
}

/// Runs a role on its control channel, and tells the master why if it fails. A master that has gone before it said anything is
/// no failure.
pub fn run<C, M>(
    control: Channel,
    role: impl FnOnce(Starting<'_, C, M>) -> Result<(), Failure>,
) -> ExitCode
where
    Start<C>: Message,
    M: Message + From<Report>,
{
    let done = match Starting::receive(&control) {
        Ok(Some(starting)) => role(starting),
        Ok(None) => Ok(()),
        Err(failure) => Err(failure),
    };
    let Err(failure) = done else {
        return ExitCode::SUCCESS;
    };
    let mut reason = failure.to_string();
    while reason.len() > MAX_REASON_OCTETS {
        reason.pop();
    }
    // If the master has gone, nobody wants to know.
    drop(Master::<M>::at(&control).say(Report::Failed { reason }));
    ExitCode::FAILURE
}

impl<'a, C, M> Starting<'a, C, M>
where
    Start<C>: Message,
{
    fn receive(control: &'a Channel) -> Result<Option<Self>, Failure> {
        let (start, mut descriptors) = match control.receive::<Start<C>>()? {
            Received::Message(start, descriptors) => (start, descriptors),
            Received::Closed => return Ok(None),
        };
        let log = descriptors.next().ok_or("no log channel")?;
        Ok(Some(Self {
            control,
            master: Master::at(control),
            logger: Logger::new(Channel::from_fd(log)?),
            confinement: start.confinement,
            configuration: start.configuration,
        }))
    }
}

/// The strictest sandbox, as the identity that the master has chosen, in the directory that it has chosen. What a role is to
/// have besides, the role adds.
pub fn sandbox<'a>(program: &'a Program, confinement: &'a Confinement) -> Sandbox<'a> {
    let mut sandbox = Sandbox::new(program).required(confinement.required);
    if let Some(identity) = &confinement.identity {
        sandbox = sandbox.identity(identity);
    }
    if let Some(root) = &confinement.chroot {
        sandbox = sandbox.root(root);
    }
    sandbox
}

/// The master, to whom a role reports.
pub struct Master<'a, M = Report> {
    control: &'a Channel,
    says: PhantomData<fn(M)>,
}

impl<'a, M> Master<'a, M> {
    fn at(control: &'a Channel) -> Self {
        Self {
            control,
            says: PhantomData,
        }
    }
}

impl<M: Message + From<Report>> Master<'_, M> {
    /// The role is confined and at work, but for these protections, which the kernel does not have.
    ///
    /// # Errors
    /// [`ChannelError`]: the master has gone.
    pub fn ready<T: Into<String>>(
        &self,
        missing: impl IntoIterator<Item = T>,
    ) -> Result<(), ChannelError> {
        let missing = missing.into_iter().map(Into::into).collect();
        self.say(Report::Ready { missing })
    }

    fn say(&self, report: Report) -> Result<(), ChannelError> {
        self.control.send(&M::from(report), &[])
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::thread;

    use super::*;

    fn start() -> Start<u8> {
        Start {
            confinement: Confinement {
                identity: None,
                chroot: None,
                required: false,
            },
            configuration: 7,
        }
    }

    /// What `role` says after it has been started, and how it ends. An order that comes with its start stays unread.
    fn said(role: fn(Starting<'_, u8>) -> Result<(), Failure>) -> (Option<Report>, ExitCode) {
        let (master, control) = Channel::pair().unwrap();
        let (_log, theirs) = Channel::pair().unwrap();
        master.send(&start(), &[theirs.as_fd()]).unwrap();
        let missing = Vec::new();
        master.send(&Report::Ready { missing }, &[]).unwrap();
        let code = thread::spawn(move || run(control, role)).join().unwrap();
        match master.receive().unwrap() {
            Received::Message(report, _) => (Some(report), code),
            Received::Closed => (None, code),
        }
    }

    #[test]
    fn a_role_gets_its_part_and_reports_what_is_missing() {
        let (report, code) = said(|role| {
            assert_eq!(role.configuration, 7);
            Ok(role.master.ready(["Landlock"])?)
        });
        let missing = vec!["Landlock".to_owned()];
        assert_eq!(report, Some(Report::Ready { missing }));
        assert_eq!(code, ExitCode::SUCCESS);
    }

    #[test]
    fn the_master_hears_why_a_role_fails_however_long_the_reason_is() {
        let (report, code) = said(|_| Err("no such file".into()));
        let reason = "no such file".to_owned();
        assert_eq!(report, Some(Report::Failed { reason }));
        assert_eq!(code, ExitCode::FAILURE);

        let (report, _) = said(|_| Err("é".repeat(10_000).into()));
        let Some(Report::Failed { reason }) = report else {
            panic!("{report:?}");
        };
        assert_eq!(reason.len(), MAX_REASON_OCTETS);
    }

    #[test]
    fn a_master_that_has_gone_is_no_failure() {
        let (master, control) = Channel::pair().unwrap();
        drop(master);
        let role = |_: Starting<'_, u8>| unreachable!("it has not been started");
        assert_eq!(run(control, role), ExitCode::SUCCESS);
    }
}
