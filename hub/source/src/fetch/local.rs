//! A repository on this machine, read as an object store: no program is started and nothing of its configuration is
//! executed.
//!
//! Objects that the mirror lacks are written as one pack. Whatever the mirror holds is complete below, because a pack
//! counts only as a whole and is checked: the walk stops at the first object that is there.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use gix::bstr::ByteSlice as _;
use gix::odb::pack;

use super::classify::object_too_large;
use super::{Meter, Outcome, damaged, full_name, missing, peel, shown_name};
use crate::config::{Limits, Reference, SourceConfig};
use crate::error::Cause;
use crate::store::{Repo, open_existing};

pub(super) fn run(config: &SourceConfig, repo: &Repo, seen_before: bool, meter: &Meter) -> Result<Outcome, Cause> {
    let limits = &config.limits;
    let origin = open(Path::new(&config.url.path()), limits)?;
    let names = |prefix: &str| -> Option<Vec<String>> {
        let platform = origin.references().ok()?;
        let found = platform.prefixed(prefix).ok()?.filter_map(Result::ok);
        let names = found.filter_map(|r| r.name().as_bstr().to_str().ok()?.strip_prefix(prefix).map(str::to_owned));
        // One more than the limit tells that there are more.
        Some(names.take(limits.refs.saturating_add(1)).collect())
    };
    let absent = || match seen_before {
        true => Cause::ReferenceVanished { reference: config.reference.to_string() },
        false => missing(&config.reference, names("refs/heads/"), names("refs/tags/")),
    };
    let wanted = match &config.reference {
        Reference::Semver(range) => {
            let tags = names("refs/tags/").unwrap_or_default();
            if tags.len() > limits.refs {
                return Err(Cause::TooManyRefs { limit: limits.refs });
            }
            let tag = crate::semver::newest(range, tags.iter().map(String::as_str)).ok_or_else(absent)?;
            format!("refs/tags/{tag}")
        }
        other => full_name(other),
    };
    let (tip, name) = match &config.reference {
        Reference::Commit { id, branch } => {
            let id =
                gix::ObjectId::from_hex(id.as_bytes()).ok().filter(|id| origin.has_object(id)).ok_or_else(absent)?;
            (id, branch.clone().unwrap_or_default())
        }
        _ => {
            let found =
                origin.try_find_reference(wanted.as_str()).map_err(|_| damaged("a reference cannot be read"))?;
            let mut found = found.ok_or_else(absent)?;
            let id = found.follow_to_object().map_err(|_| absent())?.detach();
            (id, shown_name(&wanted))
        }
    };
    let (commit, tag) = peel(&origin, tip)?;
    meter.phase(limits.pack_bytes, Cause::PackTooLarge { limit: limits.pack_bytes });
    let objects = copy(&origin, repo, commit, tag, limits, meter)?;
    Ok(Outcome { commit, tag, name, objects })
}

fn open(path: &Path, limits: &Limits) -> Result<gix::Repository, Cause> {
    open_existing(path, limits).map(|repo| repo.to_thread_local())
}

/// Copies every object that `commit` needs and the mirror lacks. Returns their number.
fn copy(
    origin: &gix::Repository,
    repo: &Repo,
    commit: gix::ObjectId,
    tag: Option<gix::ObjectId>,
    limits: &Limits,
    meter: &Meter,
) -> Result<u64, Cause> {
    let mut target = repo.local();
    // Nobody else adds packs: a miss need not look at the disk again.
    target.objects.refresh = gix::odb::store::RefreshMode::Never;
    let mut ids = lacking(origin, &target, commit, meter)?;
    // Its signature is looked at; nothing else needs it.
    ids.extend(tag.filter(|tag| !target.has_object(tag)));
    if ids.is_empty() {
        return Ok(0);
    }
    let folder = repo.pack_dir();
    let temporary = folder.join("tmp_driftless.pack");
    let disk = |e: io::Error| Cause::Disk { reason: format!("the pack cannot be written: {e}") };
    let written = write_pack(origin, &ids, &temporary, limits.alloc_bytes, meter);
    let file = match written {
        Ok(file) => file,
        Err(e) => {
            drop(std::fs::remove_file(&temporary));
            return Err(meter.stopped().unwrap_or_else(|| e.cause()));
        }
    };
    let options = pack::bundle::write::Options {
        iteration_mode: pack::data::input::Mode::Verify,
        alloc_limit_bytes: usize::try_from(limits.alloc_bytes).ok(),
        ..Default::default()
    };
    let outcome = pack::Bundle::write_to_directory(
        &mut BufReader::new(file),
        Some(&folder),
        &mut gix::progress::Discard,
        meter.flag(),
        None::<gix::OdbHandle>,
        gix::hash::Kind::Sha1,
        options,
    );
    std::fs::remove_file(&temporary).map_err(disk)?;
    let outcome =
        outcome.map_err(|_| meter.stopped().unwrap_or_else(|| damaged("the copied objects cannot be indexed")))?;
    if let Some(keep) = outcome.keep_path {
        std::fs::remove_file(keep).map_err(disk)?;
    }
    Ok(ids.len() as u64)
}

/// The objects to copy, each once.
fn lacking(
    origin: &gix::Repository,
    target: &gix::Repository,
    commit: gix::ObjectId,
    meter: &Meter,
) -> Result<Vec<gix::ObjectId>, Cause> {
    let mut seen = HashSet::new();
    let mut out = Vec::new();
    let mut commits = VecDeque::from([commit]);
    let ended = |_| meter.stopped().unwrap_or(Cause::Cancelled);
    while let Some(id) = commits.pop_front() {
        meter.check().map_err(ended)?;
        if !seen.insert(id) || target.has_object(id) {
            continue;
        }
        let commit = origin.find_commit(id).map_err(|_| unreadable("commit", id))?;
        out.push(id);
        commits.extend(commit.parent_ids().map(gix::Id::detach));
        let root = commit.tree_id().map_err(|_| unreadable("commit", id))?.detach();
        // Limits are for the commit that is used, and checked there: an old mistake in the history must not block it.
        let mut trees = vec![root];
        while let Some(id) = trees.pop() {
            if !seen.insert(id) || target.has_object(id) {
                continue;
            }
            meter.check().map_err(ended)?;
            let tree = origin.find_tree(id).map_err(|_| unreadable("folder", id))?;
            out.push(id);
            for entry in tree.iter() {
                let entry = entry.map_err(|_| unreadable("folder", id))?;
                let child = entry.oid().to_owned();
                match entry.mode().kind() {
                    gix::object::tree::EntryKind::Tree => trees.push(child),
                    gix::object::tree::EntryKind::Commit => {} // a submodule's commit is not here
                    _ => {
                        if seen.insert(child) && !target.has_object(child) {
                            out.push(child);
                        }
                    }
                }
            }
        }
    }
    Ok(out)
}

fn unreadable(kind: &str, id: gix::ObjectId) -> Cause {
    Cause::Corrupt { reason: format!("{kind} {} of the repository cannot be read", id.to_hex()) }
}

/// Why no pack was written.
enum PackError {
    Disk(io::Error),
    Object(gix::ObjectId),
    TooMany,
    TooLarge(u64),
}

impl From<io::Error> for PackError {
    fn from(e: io::Error) -> Self {
        PackError::Disk(e)
    }
}

impl PackError {
    fn cause(self) -> Cause {
        match self {
            PackError::Disk(e) => Cause::Disk { reason: format!("the pack cannot be written: {e}") },
            PackError::Object(id) => unreadable("object", id),
            PackError::TooLarge(limit) => object_too_large(limit),
            PackError::TooMany => Cause::CommitUnusable { reason: "it needs more than 4 billion objects".to_owned() },
        }
    }
}

/// Writes a pack of whole objects (gitformat-pack, version 2), rewound for reading.
fn write_pack(
    origin: &gix::Repository,
    ids: &[gix::ObjectId],
    path: &Path,
    limit: u64,
    meter: &Meter,
) -> Result<File, PackError> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    let mut out = gix::hash::io::Write::new(BufWriter::with_capacity(64 << 10, file), gix::hash::Kind::Sha1);
    let count = u32::try_from(ids.len()).map_err(|_| PackError::TooMany)?;
    out.write_all(&pack::data::header::encode(pack::data::Version::V2, count))?;
    let mut offset = 12;
    for id in ids {
        let size = origin.find_header(*id).map_err(|_| PackError::Object(*id))?.size();
        if size > limit {
            return Err(PackError::TooLarge(limit));
        }
        let object = origin.find_object(*id).map_err(|_| PackError::Object(*id))?;
        let data = gix::objs::Data { kind: object.kind, object_hash: gix::hash::Kind::Sha1, data: &object.data };
        let entry = pack::data::input::Entry::from_data_obj(&data, offset, gix::zlib::Compression::BEST_SPEED)
            .map_err(|_| PackError::Object(*id))?;
        meter.charge(usize::try_from(entry.bytes_in_pack()).unwrap_or(usize::MAX))?;
        offset += entry.bytes_in_pack();
        entry.header.write_to(entry.decompressed_size, &mut out)?;
        out.write_all(entry.compressed.as_deref().unwrap_or_default())?;
    }
    let digest = out.hash.try_finalize().map_err(io::Error::other)?;
    let mut inner = out.inner;
    inner.write_all(digest.as_slice())?;
    let mut file = inner.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}
