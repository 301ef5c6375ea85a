//! Renders on disk, so that a restart does not begin from nothing.
//!
//! A folder of files beside the Git mirrors, one per unit, named by what the unit was made from. It may be deleted at any
//! time, also while the hub runs: what is not there is rendered. Nothing in it is believed unseen: the renderer checks a
//! digest over everything it reads back, and each program has a folder of its own, named by the digest of the program,
//! since another one may render differently. Files are their owner's only: Git may hold Secrets in plain.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::SystemTime;

use driftless_protocol::id::hex;
use driftless_render::flux::Shelf;

/// Bytes on disk; beyond them the oldest files go.
const LIMIT: u64 = 1 << 30;
/// Files that wait to be written. More are not kept: a render is never held up by a disk.
const WAITING: usize = 1024;
/// The longest file read back: far beyond any unit.
const LONGEST: u64 = 1 << 28;

/// See the module.
#[derive(Debug)]
pub(crate) struct FolderShelf {
    folder: PathBuf,
    /// `None` once it is being dropped.
    waiting: Option<SyncSender<(PathBuf, Vec<u8>)>>,
    writer: Option<JoinHandle<()>>,
}

impl FolderShelf {
    /// Opens the shelf of this program below `parent`, and removes those of others. Also answers with the identity of the
    /// program.
    pub(crate) fn open(parent: &Path) -> io::Result<(Arc<Self>, [u8; 32])> {
        Self::of_program(parent, program()?, LIMIT)
    }

    fn of_program(parent: &Path, program: [u8; 32], limit: u64) -> io::Result<(Arc<Self>, [u8; 32])> {
        let name = hex(&program);
        let folder = parent.join(&name);
        make(&folder)?;
        for entry in fs::read_dir(parent)? {
            let entry = entry?;
            if entry.file_name() != name.as_str() {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let (sender, inbox) = sync_channel(WAITING);
        let writer = Writer { folder: folder.clone(), limit, bytes: 0 };
        let writer = std::thread::Builder::new().name("shelf".into()).spawn(move || writer.run(&inbox))?;
        Ok((Arc::new(Self { folder, waiting: Some(sender), writer: Some(writer) }), program))
    }

    fn file(&self, key: &[u8; 32]) -> PathBuf {
        self.folder.join(hex(key))
    }
}

impl Shelf for FolderShelf {
    fn get(&self, key: &[u8; 32]) -> Option<Vec<u8>> {
        let file = self.file(key);
        let known = fs::metadata(&file).ok()?;
        if known.len() > LONGEST {
            return None;
        }
        fs::read(&file).ok()
    }

    fn put(&self, key: &[u8; 32], bytes: Vec<u8>) {
        if let Some(waiting) = &self.waiting
            && waiting.try_send((self.file(key), bytes)).is_err()
        {
            tracing::debug!("a render is not kept on disk: the writer has fallen behind");
        }
    }
}

impl Drop for FolderShelf {
    fn drop(&mut self) {
        self.waiting = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the writer of renders broke off");
        }
    }
}

/// The identity of the program that runs: the digest of its file.
fn program() -> io::Result<[u8; 32]> {
    // On Linux this is the file that runs, also when it was replaced on disk meanwhile.
    let file = fs::File::open("/proc/self/exe").or_else(|_| fs::File::open(std::env::current_exe()?))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(*hasher.finalize().as_bytes())
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The one thread that writes.
struct Writer {
    folder: PathBuf,
    limit: u64,
    /// On disk, as far as it knows.
    bytes: u64,
}

impl Writer {
    fn run(mut self, inbox: &Receiver<(PathBuf, Vec<u8>)>) {
        let mut told = false;
        let swept = self.sweep();
        for (file, bytes) in inbox {
            let written = swept.as_ref().map_or_else(|e| Err(io::Error::new(e.kind(), e.to_string())), |()| Ok(()));
            let written = written.and_then(|()| self.write(&file, &bytes));
            if let Err(error) = written
                && !told
            {
                told = true;
                tracing::warn!(file = %file.display(), %error, "renders cannot be kept on disk; a restart renders everything again");
            }
        }
    }

    fn write(&mut self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        let partial = self.folder.join("partial");
        let open = || OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial);
        let mut out = match open() {
            // Somebody deleted the folder, as they may.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                make(&self.folder)?;
                self.bytes = 0;
                open()?
            }
            other => other?,
        };
        out.write_all(bytes)?;
        drop(out);
        let before = fs::metadata(file).map_or(0, |m| m.len());
        fs::rename(&partial, file)?;
        self.bytes = (self.bytes + bytes.len() as u64).saturating_sub(before);
        if self.bytes > self.limit { self.sweep() } else { Ok(()) }
    }

    /// Counts what is there, and removes the oldest files until a quarter of the limit is free, when there is too much.
    fn sweep(&mut self) -> io::Result<()> {
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        let entries = match fs::read_dir(&self.folder) {
            // Deleted meanwhile, as anybody may: the next write makes it anew.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.bytes = 0;
                return Ok(());
            }
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            let Ok(known) = entry.metadata() else { continue };
            files.push((known.modified().unwrap_or(SystemTime::UNIX_EPOCH), known.len(), entry.path()));
        }
        self.bytes = files.iter().map(|(_, len, _)| len).sum();
        if self.bytes <= self.limit {
            return Ok(());
        }
        files.sort();
        for (_, len, file) in files {
            if self.bytes <= self.limit / 4 * 3 {
                break;
            }
            match fs::remove_file(&file) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => self.bytes -= len,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn key(n: u8) -> [u8; 32] {
        [n; 32]
    }

    #[test]
    fn what_is_put_is_there_after_a_restart_of_the_same_program_only() {
        let dir = tempfile::tempdir().unwrap();
        let parent = dir.path().join("renders");
        let (shelf, _) = FolderShelf::of_program(&parent, key(1), LIMIT).unwrap();
        assert_eq!(shelf.get(&key(7)), None);
        shelf.put(&key(7), b"first".to_vec());
        shelf.put(&key(7), b"second".to_vec());
        drop(shelf);
        let (shelf, _) = FolderShelf::of_program(&parent, key(1), LIMIT).unwrap();
        assert_eq!(shelf.get(&key(7)).as_deref(), Some(&b"second"[..]));
        let mode = fs::metadata(shelf.file(&key(7))).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "others can read it: {mode:o}");
        drop(shelf);
        let (shelf, _) = FolderShelf::of_program(&parent, key(2), LIMIT).unwrap();
        assert_eq!(shelf.get(&key(7)), None);
        drop(shelf);
        let (shelf, _) = FolderShelf::of_program(&parent, key(1), LIMIT).unwrap();
        assert_eq!(shelf.get(&key(7)), None, "the folder of a program that is gone is removed");
    }

    #[test]
    fn it_stays_below_its_limit_and_survives_its_deletion() {
        let dir = tempfile::tempdir().unwrap();
        let (shelf, _) = FolderShelf::of_program(dir.path(), key(1), 1000).unwrap();
        for n in 0..50 {
            shelf.put(&key(n), vec![n; 100]);
        }
        drop(shelf);
        let folder = dir.path().join(hex(&key(1)));
        let bytes: u64 = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!((100..=1000).contains(&bytes), "{bytes}");
        let (shelf, _) = FolderShelf::of_program(dir.path(), key(1), 1000).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        shelf.put(&key(9), b"again".to_vec());
        drop(shelf);
        assert_eq!(fs::read(folder.join(hex(&key(9)))).unwrap(), b"again");
    }

    #[test]
    fn the_program_has_one_identity() {
        assert_eq!(program().unwrap(), program().unwrap());
        assert_ne!(program().unwrap(), [0; 32]);
    }
}
