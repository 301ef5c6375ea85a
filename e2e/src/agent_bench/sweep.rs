//! B7: a full comparison of what is declared with what is there.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::audit::{AGENT, PEER};
use super::lab::{CLUSTER, Lab, files, unit};
use super::objects::{Workload, file};
use crate::table::{Report, seconds};
use crate::wait;
use crate::world::Content;

const NAMESPACE: &str = "bench-sweep";
/// Objects changed by hand in the second half.
const DRIFTED: usize = 10;
/// Long enough for the agent to be done with a look, and short beside kubectl.
const QUIET: Duration = Duration::from_secs(2);

/// What one comparison cost.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    cpu: f64,
    requests: usize,
    found: usize,
}

pub(super) async fn run(lab: &mut Lab, sizes: &[usize], kubectl: bool) -> Result<Report> {
    let namespaces = [NAMESPACE.to_owned()];
    lab.namespaces(&namespaces).await?;
    let (mut rows, mut equal) = (Vec::new(), true);
    for &size in sizes {
        let all = Workload::ConfigMaps.objects(NAMESPACE, size, |_| 0);
        // What is changed by hand must stay, to be found again.
        let warn = "  remediation:\n    remediate: false\n";
        let content = files(unit(Content::new().root(CLUSTER), "sweep", "sweep", warn), "sweep", &all);
        let (commit, _) = lab.push(&content, "to be compared").await?;
        lab.at(&commit, 1).await?;
        lab.check(&all, true).await?;
        for drifted in [0, DRIFTED.min(size)] {
            edit(lab, &all.iter().take(drifted).map(|o| o.name().to_owned()).collect::<Vec<_>>()).await?;
            wait_drift(lab, drifted).await?;
            let records = look(lab).await?;
            let anew = restart(lab, drifted).await?;
            let mut row = vec![
                format!("{size}, {drifted} changed"),
                seconds(records.cpu),
                records.requests.to_string(),
                seconds(anew.cpu),
                anew.requests.to_string(),
                anew.found.to_string(),
            ];
            equal &= records.found == drifted && anew.found == drifted;
            if kubectl {
                lab.forget()?;
                let diff = lab.kubectl(&["diff"], &file(&all)).await?;
                let patches = lab.news()?.iter().filter(|a| a.user == PEER && a.verb == "patch" && a.dry_run).count();
                equal &= diff.diffs == drifted;
                row.extend([seconds(diff.wall), patches.to_string(), diff.diffs.to_string()]);
            } else {
                row.extend(["-", "-", "-"].map(str::to_owned));
            }
            rows.push(row);
        }
        lab.clear(&namespaces).await?;
    }
    Ok(Report {
        title: "B7: a full comparison".into(),
        equal,
        gate: format!(
            "All contestants found exactly the objects that were changed. Records: `driftless reconcile`, which has the agent \
             compare everything with what its watches told, requests and CPU within {} s, less what it costs idle. Anew: a \
             restarted agent, from its start until it says how many drifted, everything listed again. kubectl is \
             `kubectl diff --server-side`.",
            QUIET.as_secs()
        ),
        columns: vec![
            "objects",
            "records: CPU",
            "requests",
            "anew: CPU",
            "requests",
            "found",
            "kubectl diff",
            "dry runs",
            "found",
        ],
        rows,
        notes: Vec::new(),
    })
}

async fn edit(lab: &Lab, names: &[String]) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(lab.admin(), NAMESPACE);
    let params = PatchParams { field_manager: Some("kubectl-edit".into()), ..PatchParams::default() };
    for name in names {
        let patch = json!({ "data": { "version": "by hand" } });
        maps.patch(name, &params, &Patch::Merge(&patch)).await.with_context(|| format!("edit {name}"))?;
    }
    Ok(())
}

async fn drifted(lab: &Lab) -> Result<usize> {
    Ok(lab.world.unit(CLUSTER, "sweep").await?.drifted as usize)
}

async fn wait_drift(lab: &Lab, count: usize) -> Result<()> {
    wait::until(Duration::from_secs(120), format!("{count} drifted objects"), || async {
        match drifted(lab).await {
            Ok(seen) if seen == count => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    })
    .await?;
    Ok(())
}

/// A look at everything, by what is known.
async fn look(lab: &mut Lab) -> Result<Cost> {
    tokio::time::sleep(QUIET).await;
    let idle = lab.agent_idle(QUIET).await?;
    lab.forget()?;
    let (before, begin) = (lab.agent_cpu()?, Instant::now());
    lab.world.text(&["reconcile", "sweep", "--cluster", CLUSTER]).await?;
    tokio::time::sleep(QUIET).await;
    let cpu = lab.agent_cpu()? - before - idle * begin.elapsed().as_secs_f64();
    let requests = lab.news()?.iter().filter(|a| a.user == AGENT && a.resource != "leases").count();
    Ok(Cost { cpu: cpu.max(0.0), requests, found: drifted(lab).await? })
}

/// An agent that starts and reads everything.
async fn restart(lab: &mut Lab, expected: usize) -> Result<Cost> {
    let cluster = lab.world.cluster_mut(CLUSTER);
    cluster.stop_agent().await?;
    lab.forget()?;
    lab.world.cluster_mut(CLUSTER).start_agent_again()?;
    let since = Instant::now();
    wait::until(Duration::from_secs(120), "the restarted agent to report", || async {
        let row = lab.world.unit(CLUSTER, "sweep").await.map_err(|e| format!("{e:#}"))?;
        let connected = lab.world.status().await.map_err(|e| format!("{e:#}"))?.clusters.iter().all(|c| c.connected);
        let there = connected && !row.stale && row.drifted as usize == expected && since.elapsed() > QUIET;
        if there { Ok(()) } else { Err(format!("{row:?}")) }
    })
    .await?;
    let requests = lab.news()?.iter().filter(|a| a.user == AGENT && a.resource != "leases").count();
    Ok(Cost { cpu: lab.agent_cpu()?, requests, found: drifted(lab).await? })
}
