//! Threads that check tokens. Threads and not processes: what they share is the keys and the connections, and the filter of
//! system calls leaves no other way to have company.

use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use confine::channel::Channel;
use messages::token::{Answer, Finding, Question};

use crate::checker::Checker;

/// Tokens that wait for a thread, of at most 64 KiB each.
const MAX_WAITING: usize = 128;

/// Threads, whatever is configured.
const MAX_WORKERS: u32 = 64;

/// Octets of a thread's stack: a TLS handshake and JSON of bounded depth.
const STACK_OCTETS: usize = 512 * 1024;

/// A token to be checked.
pub struct Job {
    /// Of auth.
    pub question: Question,
    /// How.
    pub checker: Arc<Checker>,
    /// Where the answer goes.
    pub auth: Arc<Channel>,
    /// When it came.
    pub received: Instant,
}

/// The threads.
pub struct Workers(SyncSender<Job>);

impl Workers {
    /// Starts them.
    ///
    /// # Errors
    /// The system has no more.
    pub fn start(number: u32) -> io::Result<Self> {
        let (sender, receiver) = mpsc::sync_channel(MAX_WAITING);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..number.clamp(1, MAX_WORKERS) {
            let receiver = Arc::clone(&receiver);
            thread::Builder::new()
                .stack_size(STACK_OCTETS)
                .spawn(move || work(&receiver))?;
        }
        Ok(Self(sender))
    }

    /// Puts a token at the end of the queue; if that is full, it is answered at once.
    pub fn submit(&self, job: Job) {
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) = self.0.try_send(job)
        {
            job.answer(Finding::Unavailable("too many tokens at a time".into()));
        }
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else {
            return;
        };
        let patience = job.checker.configuration().timeout;
        let finding = if job.received.elapsed() >= patience {
            Finding::Unavailable("not checked in time".into())
        } else {
            job.checker.check(job.question.token.expose())
        };
        job.answer(finding);
        job.checker.tend();
    }
}

impl Job {
    /// An auth that has gone, or does not read, has given the login up.
    fn answer(&self, finding: Finding) {
        let answer = Answer {
            number: self.question.number,
            finding,
        };
        drop(self.auth.try_send(&answer, &[]));
    }
}
