//! Keys that a server publishes: fetched when first needed, kept, and fetched anew when they are old or a token names one that is
//! not there. A fetch that fails changes nothing: what was known goes on to be used.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use messages::log::{Logger, Record};
use messages::token::{Algorithm, TokenConfig};
use serde_json::{Map, Value};

use crate::client::Client;
use crate::jwt::{self, Invalid};
use crate::keys::KeySet;

/// Keys of a server.
pub struct Published {
    client: Client,
    logger: Arc<Logger>,
    kept: Duration,
    interval: Duration,
    state: Mutex<State>,
    /// Held while fetching, so that one does.
    fetching: Mutex<()>,
}

#[derive(Clone, Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    /// When those were fetched.
    fetched: Option<Instant>,
    /// When a fetch was last begun.
    tried: Option<Instant>,
    /// What has become of that; `None`: it did well.
    problem: Option<String>,
}

/// Why a token is not accepted.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// It is not valid.
    Invalid(&'static str),
    /// Its key is not known, and could not be fetched.
    Unavailable(String),
}

impl Published {
    /// None fetched yet; or those of the same server that were known before.
    pub fn new(
        client: Client,
        configuration: &TokenConfig,
        logger: &Arc<Logger>,
        previous: Option<&Published>,
    ) -> Self {
        let state = previous.map(|previous| State {
            // Old enough to be fetched anew once nobody waits for it.
            fetched: None,
            ..previous.state().clone()
        });
        Self {
            client,
            logger: Arc::clone(logger),
            kept: configuration.keys_kept,
            interval: configuration.refresh_interval,
            state: Mutex::new(state.unwrap_or_default()),
            fetching: Mutex::new(()),
        }
    }

    /// The claims of a token that one of the keys has signed.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn verify(
        &self,
        token: &[u8],
        allowed: &[Algorithm],
    ) -> Result<Map<String, Value>, Failure> {
        let known = self.state().keys.clone();
        if let Some(keys) = known {
            match jwt::verify(token, &keys, allowed) {
                Ok(claims) => return Ok(claims),
                Err(Invalid::Because(reason)) => return Err(Failure::Invalid(reason)),
                Err(Invalid::UnknownKey) => {}
            }
        }
        // Whoever comes second waits for the first one's fetch, and then finds that none is due.
        drop(self.fetch_if_due(self.fetching.lock().unwrap_or_else(PoisonError::into_inner)));
        let State { keys, problem, .. } = self.state().clone();
        let verified = keys.map(|keys| jwt::verify(token, &keys, allowed));
        match (verified, problem) {
            (Some(Ok(claims)), _) => Ok(claims),
            (Some(Err(Invalid::Because(reason))), _) => Err(Failure::Invalid(reason)),
            (_, Some(problem)) => Err(Failure::Unavailable(problem)),
            (_, None) => Err(Failure::Invalid("is signed by an unknown key")),
        }
    }

    /// Fetches anew what is old; called when nobody waits.
    pub fn tend(&self) {
        let is_old = |state: &State| state.fetched.is_none_or(|at| at.elapsed() >= self.kept);
        if is_old(&self.state())
            && let Ok(turn) = self.fetching.try_lock()
        {
            drop(self.fetch_if_due(turn));
        }
    }

    fn fetch_if_due<'a>(&self, turn: MutexGuard<'a, ()>) -> MutexGuard<'a, ()> {
        let began = Instant::now();
        let last = self.state().tried;
        if last.is_some_and(|last| began.duration_since(last) < self.interval) {
            return turn;
        }
        let fetched = self
            .client
            .fetch()
            .and_then(|json| KeySet::parse(&json).map_err(|error| error.to_string()));
        let mut state = self.state();
        state.tried = Some(began);
        match fetched {
            Ok(keys) => {
                let record = Record::info("token keys fetched").with("keys", keys.len());
                self.logger.log(&record);
                state.keys = Some(Arc::new(keys));
                state.fetched = Some(began);
                state.problem = None;
            }
            Err(problem) => {
                let record = Record::warning("token keys not fetched").with("reason", &problem);
                self.logger.log(&record);
                state.problem = Some(problem);
            }
        }
        turn
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
