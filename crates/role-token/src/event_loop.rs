//! The one loop: the master, auth, and the end of the dialer. Tokens go to the workers, who answer by themselves.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use confine::Descriptors;
use confine::channel::{Channel, Received};
use messages::log::{Logger, Record};
use messages::token::{Question, ToToken};
use rustix::event::{PollFd, PollFlags, poll};

use crate::checker::Checker;
use crate::dialer::Dialer;
use crate::workers::{Job, Workers};

/// Questions taken before the master is looked at again.
const MAX_QUESTIONS_IN_A_ROW: usize = 64;

/// All that the role holds.
pub struct EventLoop<'a> {
    control: &'a Channel,
    /// The master is there.
    governed: bool,
    logger: Arc<Logger>,
    dialer: Option<Arc<Dialer>>,
    checker: Arc<Checker>,
    workers: Workers,
    auth: Option<Arc<Channel>>,
}

impl<'a> EventLoop<'a> {
    /// Nobody has asked anything yet.
    pub fn new(
        control: &'a Channel,
        logger: Arc<Logger>,
        dialer: Option<Arc<Dialer>>,
        checker: Arc<Checker>,
        workers: Workers,
    ) -> Self {
        Self {
            control,
            governed: true,
            logger,
            dialer,
            checker,
            workers,
            auth: None,
        }
    }

    /// Serves until the master has gone *and* auth, in which somebody may just be logging in.
    ///
    /// # Errors
    /// The dialer has ended, poll fails, or the master says something that cannot be understood.
    pub fn run(&mut self) -> io::Result<()> {
        while self.governed || self.auth.is_some() {
            let (control, auth) = self.wait()?;
            if control {
                self.obey()?;
            }
            if auth {
                self.take_questions();
            }
        }
        Ok(())
    }

    /// Whether the master, and whether auth has something to say.
    fn wait(&self) -> io::Result<(bool, bool)> {
        let fds = [
            self.dialer.as_ref().map(|dialer| dialer.end().as_fd()),
            self.governed.then(|| self.control.as_fd()),
            self.auth.as_ref().map(|auth| auth.as_fd()),
        ];
        let mut polled: Vec<PollFd<'_>> = fds
            .iter()
            .flatten()
            .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
            .collect();
        match poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = polled.iter().map(|polled| !polled.revents().is_empty());
        let [dialer, control, auth] = fds.map(|fd| fd.is_some() && ready.next().unwrap_or(false));
        if dialer {
            return Err(io::Error::other("dialer ended"));
        }
        Ok((control, auth))
    }

    fn obey(&mut self) -> io::Result<()> {
        match self.control.try_receive::<ToToken>() {
            Ok(None) => {}
            Ok(Some(Received::Message(message, descriptors))) => self.follow(message, descriptors),
            Ok(Some(Received::Closed)) => self.governed = false,
            Err(error) => return Err(io::Error::other(error)),
        }
        Ok(())
    }

    fn follow(&mut self, message: ToToken, mut descriptors: Descriptors) {
        match message {
            ToToken::Auth => {
                let channel = descriptors.next().and_then(|fd| Channel::from_fd(fd).ok());
                self.auth = channel.map(Arc::new);
            }
            ToToken::Load(configuration) => {
                let (dialer, previous) = (self.dialer.as_ref(), Some(&*self.checker));
                let loaded =
                    Checker::load(*configuration, descriptors, dialer, &self.logger, previous);
                match loaded {
                    Ok(checker) => self.checker = checker,
                    Err(reason) => self.logger.log(
                        &Record::error("configuration kept")
                            .with("role", "token")
                            .with("reason", reason),
                    ),
                }
            }
        }
    }

    fn take_questions(&mut self) {
        for _ in 0..MAX_QUESTIONS_IN_A_ROW {
            let Some(auth) = &self.auth else {
                return;
            };
            match auth.try_receive::<Question>() {
                Ok(None) => return,
                Ok(Some(Received::Message(question, _))) => self.workers.submit(Job {
                    question,
                    checker: Arc::clone(&self.checker),
                    auth: Arc::clone(auth),
                    received: Instant::now(),
                }),
                Ok(Some(Received::Closed)) => self.auth = None,
                Err(error) => {
                    self.logger.log(
                        &Record::error("bad message")
                            .with("from", "auth")
                            .with("reason", error),
                    );
                    self.auth = None;
                }
            }
        }
    }
}
