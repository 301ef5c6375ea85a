//! B8: how soon an edit is undone, and what events cost that change nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::audit::AGENT;
use super::lab::{CLUSTER, Lab, files, unit};
use super::objects::{Object, Workload, app_part, file};
use crate::table::{Report, middle, seconds, times};
use crate::world::Content;

const NAMESPACE: &str = "bench-heal";
/// Services whose status is written.
const SERVICES: usize = 100;
/// For the last edit to be undone.
const PATIENCE: Duration = Duration::from_secs(60);
/// The peer: `kubectl apply` in a loop, once in this time, as the shortest interval that Flux advises.
const LOOP: f64 = 60.0;

pub(super) async fn run(lab: &mut Lab, edits: usize, every: u64, events: usize) -> Result<Report> {
    let namespaces = [NAMESPACE.to_owned()];
    lab.namespaces(&namespaces).await?;
    let maps = Workload::ConfigMaps.objects(NAMESPACE, edits.max(1), |_| 0);
    let services: Vec<Object> = (0..SERVICES).map(|n| app_part(NAMESPACE, &format!("service-{n:03}"), 1, 0)).collect();
    let content = unit(unit(Content::new().root(CLUSTER), "heal", "heal", ""), "storm", "storm", "");
    let content = files(files(content, "heal", &maps), "storm", &services);
    let (commit, _) = lab.push(&content, "to be edited").await?;
    lab.at(&commit, 2).await?;
    lab.check(&maps, true).await?;

    let mut healed = heals(lab, &maps, Duration::from_millis(every)).await?;
    lab.check(&maps, true).await.context("after the edits")?;
    healed.sort_by(f64::total_cmp);
    let at =
        |percent: usize| healed.get((healed.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0.0);
    let mut peer = Vec::new();
    for _ in 0..3 {
        peer.push(lab.kubectl(&["apply"], &file(&maps)).await?.wall);
    }
    let pass = middle(&peer);
    // An edit happens at any moment between two passes, and is undone somewhere in the next.
    let (peer_middle, peer_worst) = (LOOP / 2.0 + pass / 2.0, LOOP + pass);
    let (cost, writes) = storm(lab, events).await?;
    lab.clear(&namespaces).await?;
    Ok(Report {
        title: "B8: heals, and events that change nothing".into(),
        equal: writes == 0,
        gate: format!(
            "{} edits, each of another ConfigMap of one unit, one every {every} ms; all undone in the end. Measured from the \
             answer to the edit until a watch showed the declared value. The peer is `kubectl apply --server-side` of the same \
             objects every {LOOP:.0} s: its pass was measured here, when an edit falls is arithmetic. Writes of the agent \
             during {events} writes to status: {writes}.",
            healed.len()
        ),
        columns: vec!["contestant", "p50", "p99", "worst"],
        rows: vec![
            vec!["Driftless".into(), seconds(at(50)), seconds(at(99)), seconds(at(100))],
            vec!["kubectl apply every 60 s".into(), seconds(peer_middle), "-".into(), seconds(peer_worst)],
            vec!["ratio".into(), times(peer_middle / at(50)), "-".into(), times(peer_worst / at(100))],
        ],
        notes: vec![format!(
            "CPU of the agent per event that changes status only: {:.0} us, of {events} events on {SERVICES} Services, less \
             what it costs idle.",
            cost * 1e6
        )],
    })
}

/// Seconds from each edit to its end.
async fn heals(lab: &Lab, maps: &[Object], every: Duration) -> Result<Vec<f64>> {
    let api: Api<ConfigMap> = Api::namespaced(lab.admin(), NAMESPACE);
    let version = api.list_metadata(&ListParams::default()).await?.metadata.resource_version.context("a version")?;
    let (back, mut restored) = mpsc::channel::<(String, Instant)>(maps.len().max(1));
    let watching = {
        let api = api.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut events = std::pin::pin!(api.watch(&WatchParams::default(), &version).await?);
            while let Some(event) = events.try_next().await? {
                let WatchEvent::Modified(map) = event else { continue };
                let declared = map.data.as_ref().and_then(|d| d.get("version")).is_some_and(|v| v == "0");
                if declared && back.send((map.name_any(), Instant::now())).await.is_err() {
                    break;
                }
            }
            anyhow::Ok(())
        }))
    };
    let params = PatchParams { field_manager: Some("kubectl-edit".into()), ..PatchParams::default() };
    let mut edited: BTreeMap<String, Instant> = BTreeMap::new();
    let mut pace = tokio::time::interval(every.max(Duration::from_millis(1)));
    for (n, map) in maps.iter().enumerate() {
        pace.tick().await;
        let patch = json!({ "data": { "version": format!("by hand {n}") } });
        api.patch(map.name(), &params, &Patch::Merge(&patch)).await.with_context(|| format!("edit {}", map.name()))?;
        edited.insert(map.name().to_owned(), Instant::now());
    }
    let mut took = Vec::with_capacity(edited.len());
    while !edited.is_empty() {
        match tokio::time::timeout(PATIENCE, restored.recv()).await {
            Ok(Some((name, at))) => {
                if let Some(begin) = edited.remove(&name) {
                    took.push(at.saturating_duration_since(begin).as_secs_f64());
                }
            }
            Ok(None) => {
                watching.await.context("the watch")??;
                bail!("the watch ended");
            }
            Err(_) => bail!("{} edits were not undone, among them {:?}", edited.len(), edited.keys().next()),
        }
    }
    Ok(took)
}

/// CPU of the agent per event in seconds, and how often it wrote.
async fn storm(lab: &mut Lab, events: usize) -> Result<(f64, usize)> {
    let api: Api<Service> = Api::namespaced(lab.admin(), NAMESPACE);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = lab.agent_idle(Duration::from_secs(3)).await?;
    lab.forget()?;
    let (before, begin) = (lab.agent_cpu()?, Instant::now());
    let params = PatchParams { field_manager: Some("bench-controller".into()), ..PatchParams::default() };
    for n in 0..events {
        let status = json!({ "status": { "conditions": [{
            "type": "BenchReady", "status": "True", "reason": "Storm", "message": format!("event {n}"),
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }] } });
        let name = format!("service-{:03}", n % SERVICES);
        api.patch_status(&name, &params, &Patch::Merge(&status)).await.with_context(|| format!("status of {name}"))?;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let cpu = lab.agent_cpu()? - before - idle * begin.elapsed().as_secs_f64();
    let asked = lab.news()?;
    let writes = asked.iter().filter(|a| a.user == AGENT && a.writes_in(NAMESPACE)).count();
    ensure!(events > 0, "no events");
    Ok((cpu.max(0.0) / events as f64, writes))
}
