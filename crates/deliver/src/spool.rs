//! A message, or several, kept until it is known that they are complete: in memory, and beyond a bound in a file without a name.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Octets kept in memory.
const MAX_MEMORY: usize = 1024 * 1024;

/// Octets written, to be read again.
#[derive(Debug, Default)]
pub struct Spool {
    memory: Vec<u8>,
    /// Holds what comes before `memory`.
    file: Option<File>,
    file_octets: u64,
}

impl Spool {
    /// How many octets there are.
    pub fn octets(&self) -> u64 {
        self.file_octets + self.memory.len() as u64
    }

    /// Forgets all behind the first `octets`.
    ///
    /// # Errors
    /// What the file, or whoever takes them, says.
    pub fn truncate(&mut self, octets: u64) -> io::Result<()> {
        match octets.checked_sub(self.file_octets) {
            Some(in_memory) => self.memory.truncate(in_memory as usize),
            None => {
                self.memory.clear();
                self.file_octets = octets;
                if let Some(file) = &mut self.file {
                    file.set_len(octets)?;
                    file.seek(io::SeekFrom::Start(octets))?;
                }
            }
        }
        Ok(())
    }

    /// Gives all octets to `take`, in pieces.
    ///
    /// # Errors
    /// What the file, or whoever takes them, says.
    pub fn replay(&mut self, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.rewind()?;
            let mut piece = vec![0; 64 * 1024];
            let mut left = Read::by_ref(file).take(self.file_octets);
            loop {
                match left.read(&mut piece)? {
                    0 => break,
                    octets => take(piece.get(..octets).unwrap_or_default())?,
                }
            }
        }
        take(&self.memory)
    }

    /// All of it as a file to be read from its beginning.
    ///
    /// # Errors
    /// What the file, or whoever takes them, says.
    pub fn into_file(mut self) -> io::Result<File> {
        self.move_to_file()?;
        let mut file = match self.file.take() {
            Some(file) => file,
            None => nameless()?,
        };
        file.rewind()?;
        Ok(file)
    }

    fn move_to_file(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(nameless()?),
        };
        file.write_all(&self.memory)?;
        self.file_octets += self.memory.len() as u64;
        self.memory.clear();
        Ok(())
    }
}

impl Write for Spool {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        if self.memory.len() + octets.len() > MAX_MEMORY {
            self.move_to_file()?;
        }
        self.memory.extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A new file in the directory for temporary ones, that nobody else can open.
fn nameless() -> io::Result<File> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("deliver-{}-{count}", std::process::id());
        let path = env::temp_dir().join(name);
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        match opened {
            Ok(file) => {
                fs::remove_file(&path)?;
                return Ok(file);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(spool: &mut Spool) -> Vec<u8> {
        let mut all = Vec::new();
        spool
            .replay(|piece| {
                all.extend_from_slice(piece);
                Ok(())
            })
            .unwrap();
        all
    }

    #[test]
    fn what_was_written_is_read_again_from_memory_and_file() {
        let piece: Vec<u8> = (0..100_000u32).map(|octet| octet as u8).collect();
        let mut spool = Spool::default();
        let mut expected = Vec::new();
        for _ in 0..25 {
            spool.write_all(&piece).unwrap();
            expected.extend_from_slice(&piece);
            assert_eq!(spool.octets(), expected.len() as u64);
        }
        assert!(spool.file.is_some());
        assert_eq!(all(&mut spool), expected);
        for octets in [2_450_000, 1_000_000, 7] {
            spool.truncate(octets as u64).unwrap();
            spool.write_all(b"end").unwrap();
            expected.truncate(octets);
            expected.extend_from_slice(b"end");
            assert_eq!(all(&mut spool), expected);
        }
        let mut read = Vec::new();
        spool.into_file().unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, expected);
    }
}
