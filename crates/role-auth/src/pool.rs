//! The worker processes, seen from auth: how many there are, who is busy with what since when, and who waits.
//!
//! A worker is killed when it is not needed any more or takes too long: it holds nothing that could be lost.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use confine::channel::{Channel, Received};
use confine::process::{Pid, Signal};
use rustix::process::kill_process;

use crate::sessions::Token;
use crate::work::{Outcome, Refusal, Request};
use crate::worker::Lifetime;

/// Attempts that wait for a worker; more would not be served before their clients' time is over, with hashes of 50 ms and the
/// default of one minute. Each holds a password in memory.
const MAX_WAITING: usize = 1024;

/// The longest a password hash may take: far more than any sane cost.
const MAX_HASHING: Duration = Duration::from_secs(30);

/// The longest PAM modules may take: some wait for a network.
const MAX_PAM: Duration = Duration::from_secs(60);

/// Names a worker within this process.
pub type Number = u64;

/// A worker that was just forked.
pub struct Forked {
    /// Its process.
    pub pid: Pid,
    /// Our end of its channel.
    pub channel: Channel,
}

/// All workers, and the attempts that wait for one.
#[derive(Debug)]
pub struct Pool {
    workers: Vec<Worker>,
    waiting: VecDeque<(Token, Request)>,
    maximum: usize,
    lifetime: Lifetime,
    next: Number,
}

#[derive(Debug)]
struct Worker {
    number: Number,
    pid: Pid,
    channel: Channel,
    task: Option<Task>,
    /// Its stores are those of an older configuration: this task is its last.
    outdated: bool,
    /// It has been waited for: its number may be somebody else's by now.
    ended: bool,
}

#[derive(Clone, Copy, Debug)]
struct Task {
    token: Token,
    deadline: Instant,
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.ended {
            let _ = kill_process(self.pid, Signal::KILL);
        }
    }
}

impl Pool {
    /// An empty pool.
    pub fn new(maximum: u32, lifetime: Lifetime) -> Self {
        Self {
            workers: Vec::new(),
            waiting: VecDeque::new(),
            maximum: at_least_one(maximum),
            lifetime,
            next: 0,
        }
    }

    /// From now on by another configuration. Idle workers end; busy ones after their attempt.
    pub fn reconfigure(&mut self, maximum: u32, lifetime: Lifetime) {
        self.maximum = at_least_one(maximum);
        self.lifetime = lifetime;
        self.workers.retain_mut(|worker| {
            worker.outdated = true;
            worker.task.is_some()
        });
    }

    /// Puts an attempt at the end of the queue; `false` if the queue is full.
    pub fn submit(&mut self, token: Token, request: Request) -> bool {
        if self.waiting.len() >= MAX_WAITING {
            return false;
        }
        self.waiting.push_back((token, request));
        true
    }

    /// Forgets an attempt that still waits; `false` if it is being verified.
    pub fn withdraw(&mut self, token: Token) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|(waiting, _)| *waiting != token);
        self.waiting.len() != before
    }

    /// Wipes what waits: the first thing in a forked worker, whom other people's passwords do not concern.
    pub fn forget_waiting(&mut self) {
        self.waiting.clear();
    }

    /// Whether an attempt waits that a new worker could take.
    pub fn wants_worker(&self) -> bool {
        !self.waiting.is_empty()
            && self.workers.len() < self.maximum
            && self.workers.iter().all(|worker| worker.task.is_some())
    }

    /// The number that the next worker gets.
    pub fn next_number(&self) -> Number {
        self.next
    }

    /// Adds a worker.
    pub fn add(&mut self, forked: Forked) {
        self.workers.push(Worker {
            number: self.next,
            pid: forked.pid,
            channel: forked.channel,
            task: None,
            outdated: false,
            ended: false,
        });
        self.next = self.next.wrapping_add(1);
    }

    /// How the next worker is to live.
    pub fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// Gives waiting attempts to idle workers. Those that could not be handed over have failed.
    pub fn dispatch(&mut self, now: Instant) -> Vec<(Token, Outcome)> {
        let mut failed = Vec::new();
        let patience = match self.lifetime {
            Lifetime::Many => MAX_HASHING,
            Lifetime::One => MAX_PAM,
        };
        while let Some(index) = self.idle() {
            let Some((token, request)) = self.waiting.pop_front() else {
                break;
            };
            let deadline = now.checked_add(patience).unwrap_or(now);
            let Some(worker) = self.workers.get_mut(index) else {
                break;
            };
            // The channel of an idle worker is empty: there is room.
            match worker.channel.try_send(&request, &[]) {
                Ok(()) => worker.task = Some(Task { token, deadline }),
                Err(error) => {
                    self.workers.swap_remove(index);
                    failed.push((token, failure(format!("worker: {error}"))));
                }
            }
        }
        failed
    }

    /// Fails everything that waits, for want of workers.
    pub fn fail_waiting(&mut self, error: &io::Error) -> Vec<(Token, Outcome)> {
        self.waiting
            .drain(..)
            .map(|(token, _)| (token, failure(format!("no worker: {error}"))))
            .collect()
    }

    /// Whether no worker exists that could still take what waits.
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// Receives what a worker has to say: its answer, or that it has died.
    pub fn receive(&mut self, number: Number) -> Option<(Token, Outcome)> {
        let index = self
            .workers
            .iter()
            .position(|worker| worker.number == number)?;
        let worker = self.workers.get_mut(index)?;
        let received = match worker.channel.try_receive::<Outcome>() {
            Ok(None) => return None,
            Ok(Some(Received::Message(outcome, _))) => Ok(outcome),
            Ok(Some(Received::Closed)) => Err("worker died".to_owned()),
            Err(error) => Err(format!("worker: {error}")),
        };
        let task = worker.task.take();
        let spent = worker.outdated || self.lifetime == Lifetime::One;
        // An answer to nothing comes from a worker that is not itself any more.
        if spent || received.is_err() || task.is_none() {
            self.workers.swap_remove(index);
        }
        let outcome = received.unwrap_or_else(failure);
        Some((task?.token, outcome))
    }

    /// A child has been waited for.
    pub fn reaped(&mut self, pid: Pid) -> Option<(Token, Outcome)> {
        let worker = self.workers.iter_mut().find(|worker| worker.pid == pid)?;
        worker.ended = true;
        // It may have answered before it ended. Behind an answer, the end of file is seen by the next look.
        let number = worker.number;
        let last_words = self.receive(number);
        self.workers.retain(|worker| worker.number != number);
        last_words
    }

    /// Kills the workers whose time is over; their attempts have failed.
    pub fn expire(&mut self, now: Instant) -> Vec<(Token, Outcome)> {
        let mut failed = Vec::new();
        self.workers.retain_mut(|worker| match worker.task {
            Some(task) if task.deadline <= now => {
                failed.push((task.token, failure("verification took too long".to_owned())));
                false
            }
            _ => true,
        });
        failed
    }

    /// When the next busy worker's time is over.
    pub fn next_deadline(&self) -> Option<Instant> {
        let tasks = self.workers.iter().filter_map(|worker| worker.task);
        tasks.map(|task| task.deadline).min()
    }

    fn idle(&self) -> Option<usize> {
        self.workers
            .iter()
            .position(|worker| worker.task.is_none() && !worker.outdated)
    }
}

fn failure(reason: String) -> Outcome {
    Outcome::unknown(Refusal::unavailable(reason))
}

fn at_least_one(maximum: u32) -> usize {
    usize::try_from(maximum.max(1)).unwrap_or(1)
}
