//! Files being put on disk while others are still being written.
//!
//! Waiting for one file after the other would take most of the time of a run: file systems put several on disk in one go, if they
//! are asked to at the same time.

use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Files asked for at the same time. More gain little, and a disk has other users.
const THREADS: usize = 8;

/// Threads that wait for the disk.
pub struct Syncers {
    files: Sender<File>,
    results: Receiver<io::Result<()>>,
    under_way: usize,
}

impl Syncers {
    /// The threads end with this value.
    pub fn start() -> Syncers {
        let (files, waiting) = channel::<File>();
        let (done, results) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..THREADS {
            let (waiting, done) = (waiting.clone(), done.clone());
            thread::spawn(move || {
                loop {
                    let next = waiting
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .recv();
                    let Ok(file) = next else { return };
                    // Whoever does not wait does not want to know.
                    if done.send(file.sync_data()).is_err() {
                        return;
                    }
                }
            });
        }
        Syncers {
            files,
            results,
            under_way: 0,
        }
    }

    /// Puts a file on disk, sooner or later.
    pub fn sync(&mut self, file: File) -> io::Result<()> {
        self.files
            .send(file)
            .map_err(|_| io::Error::other("no thread to wait for the disk"))?;
        self.under_way += 1;
        Ok(())
    }

    /// Waits until all are on disk.
    ///
    /// # Errors
    /// One file's, if there is one; all have been waited for nevertheless.
    pub fn wait(&mut self) -> io::Result<()> {
        let mut result = Ok(());
        for _ in 0..std::mem::take(&mut self.under_way) {
            let gone = || Err(io::Error::other("no thread to wait for the disk"));
            result = result.and(self.results.recv().unwrap_or_else(|_| gone()));
        }
        result
    }
}
