//! What a hub does with a commit, without network and database: which clusters it touches, their renders, bundles and
//! signed heads.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use driftless_protocol::bundle::FORMAT;
use driftless_protocol::head::{Head, SourceRevision};
use driftless_protocol::id::{ClusterId, Digest, Generation, Revision};
use driftless_protocol::signing::{Purpose, SecretKey, Signed};
use driftless_render::assemble::{Intents, assemble};
use driftless_render::flux::{Basis, Cache, RenderedCluster, Shelf, render_cluster, render_cluster_on_basis};
use driftless_render::target::{GitRef, SourceSet, SourceTree, Target};
use driftless_source::Mirror;

use super::repo::cluster_name;

/// How many clusters are rendered at a time.
const WORKERS: usize = 2;

/// A fleet of clusters over one repository.
pub(super) struct Fleet {
    mirror: Mirror,
    pub(super) cache: Cache,
    key: SecretKey,
    members: Vec<Member>,
}

struct Member {
    id: ClusterId,
    target: Target,
    basis: Option<Basis>,
    revisions: Vec<SourceRevision>,
    content: Digest,
    sequence: u64,
}

impl Fleet {
    pub(super) fn new(mirror: Mirror, clusters: usize, cache: Cache) -> Result<Self> {
        let member = |number: usize| -> Result<Member> {
            let name = cluster_name(number).parse().context("a cluster's name")?;
            let mut id = [0; 16];
            id[..8].copy_from_slice(&(number as u64).to_le_bytes());
            Ok(Member {
                id: ClusterId::from_bytes(id),
                target: Target::new(name),
                basis: None,
                revisions: Vec::new(),
                content: Digest::of(b""),
                sequence: 0,
            })
        };
        let members = (0..clusters).map(member).collect::<Result<_>>()?;
        Ok(Self { mirror, cache, key: SecretKey::from_seed(&[7; 32]), members })
    }

    /// Everything from a commit to the signed heads of the clusters whose content it changed.
    pub(super) fn follow(&mut self, commit: &str) -> Result<Vec<Signed>> {
        let sources = SourceSet::new(self.source(commit)?);
        let mut open = Vec::new();
        for member in &mut self.members {
            let held = member.basis.as_ref().and_then(|b| b.still_holds(&sources, &member.target, &self.cache));
            match held {
                Some((basis, revisions)) => (member.basis, member.revisions) = (Some(basis), revisions),
                None => open.push(member),
            }
        }
        let (cache, key) = (&self.cache, &self.key);
        let heads = Mutex::new(Vec::new());
        let work = |members: &mut [&mut Member]| -> Result<()> {
            for member in members {
                let head = member.render(&sources, cache, key)?;
                heads.lock().unwrap_or_else(PoisonError::into_inner).extend(head);
            }
            Ok(())
        };
        if let [_] = open.as_slice() {
            work(&mut open)?;
        } else {
            let share = open.len().div_ceil(WORKERS).max(1);
            std::thread::scope(|scope| {
                let running: Vec<_> = open.chunks_mut(share).map(|part| scope.spawn(|| work(part))).collect();
                running.into_iter().try_for_each(|w| w.join().unwrap_or_else(|_| anyhow::bail!("a worker panicked")))
            })?;
        }
        Ok(heads.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn source(&self, commit: &str) -> Result<SourceTree> {
        let revision = Revision { reference: "main".into(), commit: commit.into() };
        let tree = self.mirror.tree(&revision)?;
        Ok(SourceTree {
            id: "flux-system/flux-system".into(),
            tree: Arc::new(tree),
            revision,
            url: "https://git.example.org/fleet".into(),
            reference: GitRef::Branch("main".into()),
        })
    }

    /// A cluster rendered from nothing at a commit, and the digest of its content.
    pub(super) fn clean(&self, cluster: usize, commit: &str) -> Result<(RenderedCluster, Digest)> {
        let member = self.members.get(cluster).context("no such cluster")?;
        let rendered = render_cluster(&SourceSet::new(self.source(commit)?), &member.target);
        let content = assemble(member.id, &rendered, &Intents::default())?.index.digest;
        Ok((rendered, content))
    }

    /// The digest of what a cluster has now.
    pub(super) fn content(&self, cluster: usize) -> Option<Digest> {
        self.members.get(cluster).map(|m| m.content)
    }
}

impl Member {
    /// The new head; nothing when the content is what it was.
    fn render(&mut self, sources: &SourceSet, cache: &Cache, key: &SecretKey) -> Result<Option<Signed>> {
        let (rendered, basis) = render_cluster_on_basis(sources, &self.target, cache);
        let bundle = assemble(self.id, &rendered, &Intents::default())?;
        (self.basis, self.revisions) = (basis, rendered.revisions);
        if bundle.index.digest == self.content {
            return Ok(None);
        }
        (self.content, self.sequence) = (bundle.index.digest, self.sequence + 1);
        let head = Head {
            format: FORMAT,
            cluster: self.id,
            kube_uid: String::new(),
            generation: Generation { trust_epoch: 1, epoch: 1, sequence: self.sequence },
            trust_version: 1,
            index: bundle.index,
            raw_total: bundle.raw_total,
            revisions: self.revisions.clone(),
            issued: 1,
            expires: 2,
        };
        Ok(Some(key.sign(Purpose::Head, &head)?))
    }
}

/// Renders kept in a folder, for the measured restart.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    fn file(&self, key: &[u8; 32]) -> PathBuf {
        self.0.join(blake3::Hash::from_bytes(*key).to_hex().as_str())
    }
}

impl Shelf for Folder {
    fn get(&self, key: &[u8; 32]) -> Option<Vec<u8>> {
        fs::read(self.file(key)).ok()
    }

    fn put(&self, key: &[u8; 32], bytes: Vec<u8>) {
        if let Err(error) = fs::write(self.file(key), bytes) {
            eprintln!("a render is not kept: {error}");
        }
    }
}
