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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::Credential;
    use confine::channel::ChannelError;
    use messages::Secret;
    use std::process::{Child, Command};

    /// A process that does nothing, in the place of a worker; the test answers for it.
    fn sleeper() -> (Child, Forked, Channel) {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let (channel, theirs) = Channel::pair().unwrap();
        (child, Forked { pid, channel }, theirs)
    }

    fn request() -> Request {
        Request {
            user: b"joe".to_vec(),
            credential: Credential::Password(Secret::copied_from(b"secret")),
            tls: false,
            local: None,
            peer: None,
        }
    }

    fn unknown() -> Outcome {
        Outcome::unknown(Refusal::UnknownUser)
    }

    /// A pool with one worker, busy with attempt 1 since `now`.
    fn busy_pool(lifetime: Lifetime, now: Instant) -> (Pool, Child, Channel) {
        let mut pool = Pool::new(1, lifetime);
        assert!(pool.submit(1, request()));
        assert!(pool.wants_worker());
        let (child, forked, theirs) = sleeper();
        pool.add(forked);
        assert_eq!(pool.dispatch(now), []);
        assert!(matches!(
            theirs.receive::<Request>(),
            Ok(Received::Message(..))
        ));
        (pool, child, theirs)
    }

    /// Waits for a process that must have been killed.
    fn assert_killed(mut child: Child) {
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }

    #[test]
    fn a_worker_takes_one_attempt_at_a_time_and_lives_on() {
        let now = Instant::now();
        let (mut pool, child, theirs) = busy_pool(Lifetime::Many, now);
        assert!(pool.submit(2, request()));
        assert_eq!(pool.dispatch(now), []);
        assert!(!pool.wants_worker());
        assert!(matches!(theirs.try_receive::<Request>(), Ok(None)));
        assert_eq!(pool.receive(0), None);
        theirs.send(&unknown(), &[]).unwrap();
        assert_eq!(pool.receive(0), Some((1, unknown())));
        assert_eq!(pool.dispatch(now), []);
        assert!(matches!(
            theirs.receive::<Request>(),
            Ok(Received::Message(..))
        ));
        drop(pool);
        assert_killed(child);
    }

    #[test]
    fn where_modules_run_a_worker_ends_with_its_attempt() {
        let (mut pool, child, theirs) = busy_pool(Lifetime::One, Instant::now());
        theirs.send(&unknown(), &[]).unwrap();
        assert_eq!(pool.receive(0), Some((1, unknown())));
        assert!(pool.is_empty());
        assert_killed(child);
    }

    #[test]
    fn a_worker_that_takes_too_long_is_killed() {
        let now = Instant::now();
        let (mut pool, child, _theirs) = busy_pool(Lifetime::Many, now);
        let deadline = pool.next_deadline().unwrap();
        assert_eq!(deadline, now + MAX_HASHING);
        assert_eq!(pool.expire(deadline - Duration::from_nanos(1)), []);
        let [(1, outcome)] = &pool.expire(deadline)[..] else {
            panic!("nothing expired")
        };
        assert!(matches!(
            outcome,
            Outcome::Refused {
                refusal: Refusal::Unavailable(_),
                ..
            }
        ));
        assert_eq!(pool.next_deadline(), None);
        assert_killed(child);
    }

    #[test]
    fn a_worker_that_dies_or_talks_nonsense_fails_its_attempt_only() {
        let (mut pool, child, theirs) = busy_pool(Lifetime::Many, Instant::now());
        assert!(pool.submit(2, request()));
        drop(theirs);
        assert!(matches!(
            pool.receive(0),
            Some((
                1,
                Outcome::Refused {
                    user: None,
                    refusal: Refusal::Unavailable(_)
                }
            ))
        ));
        assert!(pool.wants_worker());
        assert_killed(child);

        let (mut pool, child, theirs) = busy_pool(Lifetime::Many, Instant::now());
        rustix::net::send(&theirs, &[0xFF; 9], rustix::net::SendFlags::empty()).unwrap();
        assert!(matches!(
            pool.receive(0),
            Some((1, Outcome::Refused { .. }))
        ));
        assert!(pool.is_empty());
        assert_killed(child);
    }

    #[test]
    fn an_answer_that_nobody_asked_for_ends_the_worker() {
        let (mut pool, child, theirs) = busy_pool(Lifetime::Many, Instant::now());
        theirs.send(&unknown(), &[]).unwrap();
        theirs.send(&unknown(), &[]).unwrap();
        assert!(pool.receive(0).is_some());
        assert_eq!(pool.receive(0), None);
        assert!(pool.is_empty());
        assert_killed(child);
    }

    #[test]
    fn a_process_that_has_been_waited_for_is_not_killed_by_number() {
        let (mut pool, mut child, theirs) = busy_pool(Lifetime::Many, Instant::now());
        theirs.send(&unknown(), &[]).unwrap();
        let pid = pool.workers[0].pid;
        // As if it had ended: its last answer counts, and nothing happens to who has the number now.
        assert_eq!(pool.reaped(pid), Some((1, unknown())));
        assert!(pool.is_empty());
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn after_a_change_of_configuration_old_workers_end() {
        let now = Instant::now();
        let (mut pool, child, theirs) = busy_pool(Lifetime::Many, now);
        pool.reconfigure(1, Lifetime::Many);
        assert!(!pool.is_empty());
        theirs.send(&unknown(), &[]).unwrap();
        assert_eq!(pool.receive(0), Some((1, unknown())));
        assert!(pool.is_empty());
        assert_killed(child);

        let (mut pool, child, theirs) = busy_pool(Lifetime::Many, now);
        theirs.send(&unknown(), &[]).unwrap();
        assert!(pool.receive(0).is_some());
        pool.reconfigure(1, Lifetime::Many);
        assert!(pool.is_empty());
        assert!(matches!(
            theirs.send(&unknown(), &[]),
            Err(ChannelError::Closed)
        ));
        assert_killed(child);
    }

    #[test]
    fn the_queue_is_bounded_and_what_waits_can_be_withdrawn() {
        let (mut pool, child, _theirs) = busy_pool(Lifetime::Many, Instant::now());
        for token in 0..MAX_WAITING {
            assert!(pool.submit(100 + u64::try_from(token).unwrap(), request()));
        }
        assert!(!pool.submit(9, request()));
        assert!(pool.withdraw(100));
        assert!(!pool.withdraw(100));
        assert!(!pool.withdraw(1), "it is being verified");
        assert!(pool.submit(9, request()));
        let failed = pool.fail_waiting(&io::Error::from_raw_os_error(libc::EAGAIN));
        assert_eq!(failed.len(), MAX_WAITING);
        drop(pool);
        assert_killed(child);
    }
}
