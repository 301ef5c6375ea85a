//! Renders every cluster that a change touches, on a bounded pool of blocking threads. Of the others only the revision
//! moves on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use driftless_protocol::facts::Facts;
use driftless_protocol::id::{ClusterId, Digest, Revision};
use driftless_render::flux::render_cluster_on_basis;
use driftless_render::target::{GitRef, RootSpec, SourceDecl, SourceState, SourceTree, Sources, Target, normal_url};
use driftless_render::tree::Entry;
use driftless_store::{Cluster, ClusterState};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::clock;
use crate::loops::sources::{Handle, UNWANTED};
use crate::rendered::ClusterRender;
use crate::shared::Shared;

/// Looks again by itself: nothing depends on having been woken.
const EVERY: Duration = Duration::from_secs(60);

pub(crate) async fn run(shared: Arc<Shared>) {
    let workers = match shared.config.render_workers {
        0 => std::thread::available_parallelism().map_or(2, usize::from),
        workers => workers,
    };
    let slots = Arc::new(Semaphore::new(workers));
    loop {
        if let Err(error) = pass(&shared, &slots).await {
            tracing::error!(error = %crate::chain(&error), "the clusters cannot be rendered");
        }
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = shared.wake.render.notified() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn pass(shared: &Arc<Shared>, slots: &Arc<Semaphore>) -> Result<(), driftless_store::StoreError> {
    let clusters = shared.store.clusters().await?;
    let active: Vec<Cluster> = clusters.into_iter().filter(|c| c.state == ClusterState::Active).collect();
    shared.keep_renders(|id| active.iter().any(|c| c.id == id));
    let ids: Vec<ClusterId> = active.iter().map(|c| c.id).collect();
    let taker = shared.clone();
    let Ok(snapshot) = tokio::task::spawn_blocking(move || Arc::new(Snapshot::take(&taker))).await else {
        tracing::error!("the sources cannot be opened; tried again");
        return Ok(());
    };
    let told: BTreeMap<ClusterId, Digest> = shared.store.fact_digests().await?.into_iter().collect();
    let mut wanted = Vec::with_capacity(active.len());
    for cluster in active {
        let facts = facts_of(shared, cluster.id, told.get(&cluster.id).copied()).await?;
        wanted.push((cluster, facts));
    }
    let (sifter, trees) = (shared.clone(), snapshot.clone());
    let sifted = tokio::task::spawn_blocking(move || {
        wanted.retain(|(cluster, facts)| !unchanged(&sifter, &trees, cluster, facts.as_deref()));
        wanted
    });
    let changed = match sifted.await {
        Ok(changed) => changed,
        Err(error) => {
            finished(Err(error));
            return Ok(());
        }
    };
    let mut tasks = JoinSet::new();
    for (cluster, facts) in changed {
        let Ok(slot) = slots.clone().acquire_owned().await else { break };
        if shared.stop.is_cancelled() {
            break;
        }
        let (shared, snapshot) = (shared.clone(), snapshot.clone());
        tasks.spawn_blocking(move || {
            let _slot = slot;
            render(&shared, &snapshot, &cluster, facts.as_deref())
        });
        while let Some(done) = tasks.try_join_next() {
            finished(done);
        }
    }
    while let Some(done) = tasks.join_next().await {
        finished(done);
    }
    forget(shared, &ids);
    shared.wake.rollout.notify_one();
    Ok(())
}

/// Lets go of declared sources that no cluster's tree declares any more. Only when all of them are known.
fn forget(shared: &Shared, clusters: &[ClusterId]) {
    let renders = shared.renders();
    if clusters.iter().all(|id| renders.contains_key(id)) {
        let wanted: Vec<SourceDecl> = renders.values().flat_map(|r| r.wanted.iter().cloned()).collect();
        shared.sources.forget(&wanted, Instant::now(), UNWANTED);
    }
}

/// What a cluster told, as far as rendering reads it. Read from the store only when it changed.
async fn facts_of(
    shared: &Shared,
    cluster: ClusterId,
    digest: Option<Digest>,
) -> Result<Option<Arc<Facts>>, driftless_store::StoreError> {
    let Some(digest) = digest else { return Ok(None) };
    if let Some(known) = shared.facts_of(cluster, digest) {
        return Ok(Some(known));
    }
    let Some(stored) = shared.store.facts(cluster).await? else { return Ok(None) };
    let facts = Arc::new(Facts { apis: Vec::new(), ..stored.facts });
    shared.put_facts(cluster, stored.digest, facts.clone());
    Ok(Some(facts))
}

fn finished(done: Result<(), tokio::task::JoinError>) {
    if let Err(error) = done {
        tracing::error!(%error, "a render broke off; the cluster keeps what it has");
    }
}

/// Every source at one moment, so that all clusters of a pass see the same revisions.
struct Snapshot {
    sources: BTreeMap<String, Found>,
}

struct Found {
    handle: Arc<Handle>,
    tree: Result<(SourceTree, Digest), String>,
}

impl Snapshot {
    fn take(shared: &Shared) -> Self {
        let sources = shared
            .sources
            .all()
            .into_iter()
            .map(|handle| {
                let tree = tree_of(&handle);
                (handle.id.clone(), Found { handle, tree })
            })
            .collect();
        Self { sources }
    }

    /// The same one for all clusters of a pass: what came since is for the next.
    fn find(&self, shared: &Shared, wanted: &SourceDecl) -> Option<&Found> {
        self.sources.get(&shared.sources.find(wanted)?.id)
    }
}

fn tree_of(handle: &Handle) -> Result<(SourceTree, Digest), String> {
    let not_ready = || {
        let status = handle.status();
        format!("it has not been fetched yet ({}): {}", status.code, status.message)
    };
    let revision: Revision = handle.copy().current().ok_or_else(not_ready)?;
    let tree = handle.copy().tree(&revision).map_err(|e| crate::chain(&e))?;
    let id = match tree.entry("").map_err(|e| e.to_string())? {
        Some(Entry::Folder { id }) => Digest::from_bytes(id.0),
        // Not a tree the renderer can name: the commit serves as well.
        _ => Digest::of(revision.commit.as_bytes()),
    };
    let tree = SourceTree {
        id: handle.id.clone(),
        tree,
        revision,
        url: handle.url.clone(),
        reference: handle.reference.clone(),
    };
    Ok((tree, id))
}

/// Why there is no copy of a declared source.
fn not_fetched(shared: &Shared, wanted: &SourceDecl) -> String {
    match shared.sources.refusal(wanted) {
        Some(refused) => refused.reason,
        None => "the hub begins to fetch it".to_owned(),
    }
}

struct View<'a> {
    shared: &'a Shared,
    root: &'a SourceTree,
    handle: &'a Handle,
    snapshot: &'a Snapshot,
}

impl Sources for View<'_> {
    fn root(&self) -> &SourceTree {
        self.root
    }

    fn find(&self, wanted: &SourceDecl) -> SourceState {
        match self.snapshot.find(self.shared, wanted).map(|f| &f.tree) {
            Some(Ok((tree, _))) => SourceState::Ready(SourceTree { id: wanted.id.clone(), ..tree.clone() }),
            Some(Err(why)) => SourceState::Missing(why.clone()),
            None => SourceState::Missing(not_fetched(self.shared, wanted)),
        }
    }

    fn root_is_verified(&self) -> bool {
        self.handle.verified
    }

    fn is_alias(&self, wanted: &SourceDecl) -> bool {
        let url = normal_url(&wanted.url);
        let same = |reference: &Option<GitRef>| reference.as_ref().is_none_or(|r| *r == wanted.reference);
        self.handle.aliases.iter().any(|(alias, reference)| *alias == url && same(reference))
    }
}

/// The root and variables of a cluster by the start file. The source is the first one where nothing is said.
pub(crate) fn target_of(shared: &Shared, cluster: &Cluster) -> (Option<String>, Target) {
    let clusters = &shared.config.clusters;
    let own = clusters.named.get(&cluster.name);
    let source = own
        .and_then(|c| c.source.clone())
        .or_else(|| clusters.common.source.clone())
        .or_else(|| shared.config.sources.first().map(|s| s.name.clone()));
    let mut target = Target::new(cluster.name.clone());
    if let Some(root) = own.and_then(|c| c.root.as_ref()).or(clusters.common.root.as_ref()) {
        target.root = RootSpec::Pattern(root.clone());
    }
    for (label, variable) in &clusters.label_variables {
        if let Some(value) = cluster.labels.get(label) {
            target.variables.insert(variable.clone(), value.clone());
        }
    }
    target.variables.extend(clusters.common.variables.clone());
    target.variables.extend(own.map(|c| c.variables.clone()).unwrap_or_default());
    target.expected_facts.extend(clusters.common.expect_facts.iter().cloned());
    target.expected_facts.extend(own.into_iter().flat_map(|c| c.expect_facts.iter().cloned()));
    (source, target)
}

/// Whether nothing that a cluster's render rests on has changed, or nothing can be rendered. The revisions it stands for
/// are then the new ones.
fn unchanged(shared: &Shared, snapshot: &Snapshot, cluster: &Cluster, facts: Option<&Facts>) -> bool {
    let (source, target) = target_of(shared, cluster);
    let target = target.told(facts.cloned());
    let Some(found) = source.as_ref().and_then(|s| snapshot.sources.get(s)) else { return true };
    // Not fetched yet: the source's status says why.
    let Ok((root, tree)) = &found.tree else { return true };
    let Some(before) = shared.render_of(cluster.id) else { return false };
    let Some(basis) = &before.basis else {
        // Of sources that are made of others nothing finer is known than whether any of them moved on.
        let inputs = inputs_of(shared, snapshot, &target, &root.id, *tree, Some(&before.wanted));
        let moved = before.revisions.iter().any(|r| r.source == root.id && r.revision != root.revision);
        return before.inputs == inputs && !moved;
    };
    let view = View { shared, root, handle: &found.handle, snapshot };
    let Some((basis, revisions)) = basis.still_holds(&view, &target, &shared.cache) else { return false };
    for wanted in &*before.wanted {
        shared.sources.want(wanted);
    }
    if revisions != before.revisions {
        let render = ClusterRender { basis: Some(basis), revisions, ..(*before).clone() };
        shared.put_render(cluster.id, Arc::new(render));
    }
    true
}

fn render(shared: &Shared, snapshot: &Snapshot, cluster: &Cluster, facts: Option<&Facts>) {
    let (source, target) = target_of(shared, cluster);
    let target = target.told(facts.cloned());
    let Some(found) = source.as_ref().and_then(|s| snapshot.sources.get(s)) else { return };
    let Ok((root, tree)) = &found.tree else { return };
    let started = Instant::now();
    let view = View { shared, root, handle: &found.handle, snapshot };
    let (rendered, basis) = render_cluster_on_basis(&view, &target, &shared.cache);
    for wanted in &rendered.wanted_sources {
        shared.sources.want(wanted);
    }
    let inputs = inputs_of(shared, snapshot, &target, &root.id, *tree, Some(&rendered.wanted_sources));
    match ClusterRender::new(cluster.id, inputs, basis, root.id.clone(), &rendered, clock::millis()) {
        Ok(render) => {
            let held = rendered.units.iter().filter(|u| u.held().is_some()).count();
            tracing::info!(cluster = %cluster.name, revision = %root.revision, units = rendered.units.len(), held,
                content = %render.content.blob.digest.short(), ms = started.elapsed().as_millis(), "rendered");
            for unit in &rendered.units {
                if let Some(why) = unit.held() {
                    tracing::warn!(cluster = %cluster.name, unit = %unit.id, revision = %root.revision, reason = %why, "a unit is held");
                }
            }
            shared.put_render(cluster.id, Arc::new(render));
        }
        Err(error) => {
            tracing::error!(cluster = %cluster.name, error = %crate::chain(&error), "a render has no canonical form");
        }
    }
}

/// What a render depends on: the target, the root's tree, and every other source it asked for.
fn inputs_of(
    shared: &Shared,
    snapshot: &Snapshot,
    target: &Target,
    root: &str,
    tree: Digest,
    wanted: Option<&[SourceDecl]>,
) -> Digest {
    let others: Vec<(String, String)> = wanted
        .unwrap_or_default()
        .iter()
        .map(|w| {
            let state = match snapshot.find(shared, w).map(|f| &f.tree) {
                Some(Ok((tree, id))) => format!("{} {id}", tree.revision),
                Some(Err(why)) => why.clone(),
                None => not_fetched(shared, w),
            };
            (format!("{} {}", w.label(), w.fetch_key()), state)
        })
        .collect();
    // Of the facts only what rendering looks at: a new kind or version renders nothing anew.
    let facts = target.facts.as_ref().map(|f| (&f.config_maps, f.not_told.keys().collect::<Vec<_>>()));
    let given = (&target.cluster, &target.root, &target.variables, facts, &target.expected_facts, target.agent_reads);
    let text = format!("{:?}", (given, root, tree, others));
    Digest::of(text.as_bytes())
}
