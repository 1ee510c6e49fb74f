//! What a user at a terminal sees while mail comes in.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The bars of all accounts.
#[derive(Debug)]
pub struct Bars {
    all: MultiProgress,
}

/// The bar of one account.
#[derive(Clone, Debug)]
pub struct Bar {
    bar: ProgressBar,
    /// Octets of the messages before the one that is coming.
    done: Arc<AtomicU64>,
}

impl Bars {
    /// Shown on a terminal only.
    pub fn new(is_quiet: bool) -> Bars {
        let target = if is_quiet || !std::io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        Bars {
            all: MultiProgress::with_draw_target(target),
        }
    }

    /// Adds one.
    pub fn add(&self, account: &str) -> Bar {
        let bar = self.all.add(ProgressBar::no_length());
        bar.set_prefix(account.to_owned());
        Bar {
            bar,
            done: Arc::default(),
        }
    }
}

impl Bar {
    /// So many octets are still to come.
    pub fn begin(&self, octets: u64) {
        const FORM: &str = "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
        if let Ok(style) = ProgressStyle::with_template(FORM) {
            self.bar.set_style(style);
        }
        let done = self.done.load(Ordering::Relaxed);
        self.bar.set_length(done.saturating_add(octets));
    }

    /// So many octets of a message are there.
    pub fn message(&self, octets: u64) {
        if self.bar.is_hidden() {
            return;
        }
        let done = self.done.load(Ordering::Relaxed);
        self.bar.set_position(done.saturating_add(octets));
    }

    /// A message of that size is there.
    pub fn message_done(&self, octets: u64) {
        let before = self.done.fetch_add(octets, Ordering::Relaxed);
        self.bar.set_position(before.saturating_add(octets));
    }

    /// Nothing more will come.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
