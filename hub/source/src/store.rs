//! The mirror's folder, and what makes it safe to stop at any moment.
//!
//! ```text
//! <dir>/state.json   which repository folder counts, and the last good revision; replaced atomically
//! <dir>/r<n>/        bare repositories; all but the one named by state.json are leftovers
//! <dir>/keys/        the ssh key and known hosts of a running fetch
//! ```
//! A revision counts once state.json names it, which is written after its objects are synced. Whatever a crash leaves
//! besides is removed when the mirror is opened.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use driftless_protocol::id::Revision;
use serde::{Deserialize, Serialize};

use crate::config::Limits;
use crate::error::Cause;
use crate::tree::Cache;

/// The format of state.json. An unknown one is treated as a mirror to make anew: a mirror holds nothing that Git has not.
const FORMAT: u32 = 1;

/// The reference that holds the last good commit: what a fetch tells the host we already have.
pub(crate) const CURRENT_REF: &str = "refs/driftless/current";
/// Where a fetch puts the commit it brought, before it is checked.
pub(crate) const INCOMING_REF: &str = "refs/driftless/incoming";

/// What state.json holds. The address is only its digest: the file must not be one more place with host names and users.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) format: u32,
    pub(crate) repository: String,
    pub(crate) url_digest: String,
    pub(crate) wanted: String,
    pub(crate) revision: Option<Revision>,
}

impl Saved {
    pub(crate) fn new(repository: &str, url_digest: &str, wanted: &str) -> Self {
        Saved {
            format: FORMAT,
            repository: repository.to_owned(),
            url_digest: url_digest.to_owned(),
            wanted: wanted.to_owned(),
            revision: None,
        }
    }

    /// Reads state.json. `Ok(None)`: there is none.
    pub(crate) fn load(dir: &Path) -> Result<Option<Self>, String> {
        let bytes = match fs::read(dir.join("state.json")) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(format!("state.json cannot be read: {e}")),
        };
        let saved: Saved = serde_json::from_slice(&bytes).map_err(|e| format!("state.json is damaged: {e}"))?;
        if saved.format != FORMAT {
            return Err(format!("state.json has format {}, this program writes {FORMAT}", saved.format));
        }
        let digits = saved.repository.strip_prefix('r').unwrap_or_default();
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err("state.json names no repository folder".to_owned());
        }
        Ok(Some(saved))
    }

    /// Replaces state.json; after it returns the new one survives a power cut.
    pub(crate) fn store(&self, dir: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec(self).map_err(io::Error::other)?;
        let temporary = dir.join("state.json.new");
        let mut file = File::create(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, dir.join("state.json"))?;
        sync_dir(dir)
    }
}

/// Makes the names in a folder survive a power cut.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// How every repository of this crate is opened: no configuration but its own, no environment, no helpers.
pub(crate) fn open_options(limits: &Limits) -> gix::open::Options {
    gix::open::Options::isolated()
        .with(gix::sec::Trust::Full)
        .open_path_as_is(true)
        // A handle lives while packs are added; the default leaves no slot for them.
        .object_store_slots(gix::odb::store::init::Slots::Given(
            u16::try_from(limits.packs.saturating_mul(4).saturating_add(64)).unwrap_or(u16::MAX),
        ))
        .config_overrides([format!("gitoxide.objects.allocLimit={}", limits.alloc_bytes)])
}

/// Opens a bare repository, a work tree, or the repository a `.git` file leads to, made by whatever program.
pub(crate) fn open_existing(path: &Path, limits: &Limits) -> Result<gix::ThreadSafeRepository, Cause> {
    if !path.exists() {
        return Err(Cause::RepositoryNotFound);
    }
    let dot_git = path.join(".git");
    let git_dir: PathBuf = if dot_git.exists() { dot_git } else { path.to_path_buf() };
    if !git_dir.is_file() && !git_dir.join("objects").is_dir() {
        return Err(Cause::ProtocolUnsupported { reason: "the folder holds no Git repository".to_owned() });
    }
    let options = open_options(limits).open_path_as_is(!git_dir.is_file());
    let sha256 = || {
        let reason = "it names its objects by SHA-256 (extensions.objectFormat), which is not supported yet".to_owned();
        Cause::ProtocolUnsupported { reason }
    };
    let repo = options.open(git_dir.clone()).map_err(|e| {
        tracing::debug!(error = %e, "a file repository cannot be opened");
        if says_sha256(&git_dir) {
            return sha256();
        }
        Cause::ProtocolUnsupported { reason: "the folder cannot be opened as a Git repository".to_owned() }
    })?;
    if repo.to_thread_local().object_hash() != gix::hash::Kind::Sha1 {
        return Err(sha256());
    }
    Ok(repo)
}

/// Whether the configuration of a repository that cannot be opened tells its object format to be the reason.
fn says_sha256(git_dir: &Path) -> bool {
    let Ok(file) = std::fs::File::open(git_dir.join("config")) else { return false };
    let mut text = String::new();
    // A configuration is small.
    let read = std::io::Read::read_to_string(&mut std::io::Read::take(file, 1 << 20), &mut text);
    let format = |line: &str| {
        let (key, value) = line.split_once('=')?;
        key.trim().eq_ignore_ascii_case("objectformat").then(|| value.trim().eq_ignore_ascii_case("sha256"))
    };
    read.is_ok() && text.lines().filter_map(format).any(|sha256| sha256)
}

/// One bare repository on disk, shared by everything that reads it. Its folder is removed when it was condemned and the
/// last reader is gone: a running render never loses its files.
#[derive(Debug)]
pub(crate) struct Repo {
    pub(crate) name: String,
    path: PathBuf,
    handle: Mutex<gix::ThreadSafeRepository>,
    condemned: AtomicBool,
    suspect: AtomicBool,
    pub(crate) cache: Cache,
}

impl Repo {
    /// Makes an empty bare repository.
    pub(crate) fn create(dir: &Path, name: &str, limits: &Limits) -> Result<Self, gix::Error> {
        let path = dir.join(name);
        let options = gix::create::Options { destination_must_be_empty: Some(true), ..Default::default() };
        gix::ThreadSafeRepository::init_opts(&path, gix::create::Kind::Bare, options, open_options(limits))?;
        Self::open(dir, name, limits)
    }

    /// Opens the one in `dir/name`.
    pub(crate) fn open(dir: &Path, name: &str, limits: &Limits) -> Result<Self, gix::Error> {
        let path = dir.join(name);
        let handle = open_options(limits).open(&path)?;
        Ok(Self::of(name, path, handle))
    }

    /// Somebody else's repository: only ever read.
    pub(crate) fn foreign(dir: &Path, limits: &Limits) -> Result<Self, Cause> {
        Ok(Self::of("", dir.to_path_buf(), open_existing(dir, limits)?))
    }

    fn of(name: &str, path: PathBuf, handle: gix::ThreadSafeRepository) -> Self {
        Repo {
            name: name.to_owned(),
            path,
            handle: Mutex::new(handle),
            condemned: AtomicBool::new(false),
            suspect: AtomicBool::new(false),
            cache: Cache::default(),
        }
    }

    /// A handle for one thread.
    pub(crate) fn local(&self) -> gix::Repository {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner).to_thread_local()
    }

    /// Looks at the disk again, after packs were added or removed.
    pub(crate) fn reopen(&self, limits: &Limits) -> Result<(), gix::Error> {
        let fresh = open_options(limits).open(&self.path)?;
        *self.handle.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// The folder goes with the last reader.
    pub(crate) fn condemn(&self) {
        self.condemned.store(true, Ordering::Release);
    }

    /// A reader met damage: the next fetch looks closer.
    pub(crate) fn suspect(&self) {
        self.suspect.store(true, Ordering::Release);
    }

    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Acquire)
    }

    /// A closer look found nothing.
    pub(crate) fn trust_again(&self) {
        self.suspect.store(false, Ordering::Release);
    }

    /// Sets the reference that tells the next fetch what we have.
    pub(crate) fn point_at(&self, commit: gix::ObjectId) -> Result<(), gix::Error> {
        use gix::refs::transaction::{Change, LogChange, PreviousValue, RefEdit, RefLog};
        let log = LogChange { mode: RefLog::AndReference, force_create_reflog: false, message: "fetch".into() };
        let change = Change::Update { log, expected: PreviousValue::Any, new: gix::refs::Target::Object(commit) };
        let name = CURRENT_REF.try_into().map_err(gix::Error::from_error)?;
        self.local().edit_references_as([RefEdit { change, name, deref: false }], None)?;
        Ok(())
    }

    /// Drops the reference a fetch wrote: what it names may be about to go.
    pub(crate) fn forget_incoming(&self) -> Result<(), gix::Error> {
        use gix::refs::transaction::{Change, PreviousValue, RefEdit, RefLog};
        let change = Change::Delete { expected: PreviousValue::Any, log: RefLog::AndReference };
        let name = INCOMING_REF.try_into().map_err(gix::Error::from_error)?;
        self.local().edit_references_as([RefEdit { change, name, deref: false }], None)?;
        Ok(())
    }

    pub(crate) fn pack_dir(&self) -> PathBuf {
        self.path.join("objects").join("pack")
    }

    /// The packs with an index, by path without extension.
    pub(crate) fn packs(&self) -> io::Result<HashSet<PathBuf>> {
        let mut out = HashSet::new();
        for entry in fs::read_dir(self.pack_dir())? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "pack") && path.with_extension("idx").exists() {
                out.insert(path.with_extension(""));
            }
        }
        Ok(out)
    }

    /// Removes every file of the pack folder that does not belong to one of `keep`: packs of a refused fetch, temporary
    /// files of an interrupted one.
    pub(crate) fn keep_only(&self, keep: &HashSet<PathBuf>) -> io::Result<()> {
        for entry in fs::read_dir(self.pack_dir())? {
            let path = entry?.path();
            let ours =
                path.extension().is_some_and(|e| e == "pack" || e == "idx") && keep.contains(&path.with_extension(""));
            if !ours {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Makes new packs survive a power cut, before anything names them.
    pub(crate) fn sync(&self, before: &HashSet<PathBuf>) -> io::Result<()> {
        for stem in self.packs()?.difference(before) {
            File::open(stem.with_extension("pack"))?.sync_all()?;
            File::open(stem.with_extension("idx"))?.sync_all()?;
        }
        sync_dir(&self.pack_dir())
    }

    /// Whether each pack is as long as when it was written: its trailer must be the one its index remembers. Finds a cut
    /// off file without reading the whole.
    pub(crate) fn check_packs(&self) -> Result<(), String> {
        let packs = self.packs().map_err(|e| format!("the pack folder cannot be read: {e}"))?;
        for stem in packs {
            let name = stem.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let tail = |extension: &str, len: usize| -> io::Result<Vec<u8>> {
                let mut file = File::open(stem.with_extension(extension))?;
                let size = file.metadata()?.len();
                let len64 = len as u64;
                if size < len64 + 12 {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "cut off"));
                }
                file.seek(SeekFrom::Start(size - len64))?;
                let mut bytes = vec![0; len];
                file.read_exact(&mut bytes)?;
                Ok(bytes)
            };
            let pack = tail("pack", 20).map_err(|e| format!("{name}.pack: {e}"))?;
            let index = tail("idx", 40).map_err(|e| format!("{name}.idx: {e}"))?;
            if index[..20] != pack[..] {
                return Err(format!("{name}.pack does not end as its index says"));
            }
        }
        Ok(())
    }
}

impl Drop for Repo {
    fn drop(&mut self) {
        if self.condemned.load(Ordering::Acquire)
            && let Err(e) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(error = %e, "cannot remove a replaced Git mirror; it is tried again at the next start");
        }
    }
}
