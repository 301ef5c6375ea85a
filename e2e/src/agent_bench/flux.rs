//! The workload of flux-benchmark: units of four objects that are waited for, from the push to the last object.

use anyhow::{Context, Result};

use super::audit::{AGENT, Span, now};
use super::ceiling;
use super::lab::{CLUSTER, Lab, unit};
use super::objects::{Object, app_part};
use crate::table::{Report, seconds};
use crate::world::Content;

/// Where the flood goes.
const RAW: &str = "flux-raw";
/// The namespace of all units, as flux-benchmark has it.
const OURS: &str = "kustomize-benchmark";

/// Its units.
#[derive(Debug)]
pub(super) struct Fleet {
    units: usize,
}

impl Fleet {
    pub(super) async fn start(lab: &Lab, units: usize) -> Result<Self> {
        lab.namespaces(&[OURS.to_owned()]).await?;
        Ok(Self { units })
    }

    /// One folder for all units, each with an index of its own; `version` is in a label of every object.
    pub(super) fn content(&self, version: usize) -> Content {
        let mut content = Content::new().root(CLUSTER);
        for n in 0..self.units {
            let more = format!(
                "  wait: true\n  timeout: 1m\n  targetNamespace: {OURS}\n  postBuild:\n    substitute:\n      INDEX: \"{n}\"\n"
            );
            content = unit(content, &name(n), "manifests/podinfo", &more);
        }
        for (part, file) in ["account", "service", "deployment", "ingress"].iter().enumerate() {
            let mut object = app_part("", "podinfo-${INDEX}app", part, version).value;
            if let Some(metadata) = object.get_mut("metadata").and_then(|m| m.as_object_mut()) {
                metadata.remove("namespace");
            }
            content = content.with(&format!("manifests/podinfo/{file}.yaml"), format!("{object}\n"));
        }
        content
    }

    /// What all units declare together.
    fn objects(&self, namespace: &str, version: usize) -> Vec<Object> {
        let of = |n: usize| (0..4).map(move |part| app_part(namespace, &format!("podinfo-{n}app"), part, version));
        (0..self.units).flat_map(of).collect()
    }

    pub(super) async fn end(&self, lab: &mut Lab) -> Result<()> {
        lab.clear(&[OURS.to_owned()]).await
    }
}

fn name(n: usize) -> String {
    format!("podinfo-{n:04}")
}

/// One turn of the agent.
struct Turn {
    pushed: f64,
    span: Span,
    ready: f64,
    cpu: f64,
}

pub(super) async fn run(lab: &mut Lab, units: usize, connections: usize) -> Result<Report> {
    let fleet = Fleet::start(lab, units).await?;
    lab.namespaces(&[RAW.to_owned()]).await?;
    let (mut rows, mut equal) = (Vec::new(), true);
    for (version, what) in [(0, "install"), (1, "change of everything")] {
        let raw = fleet.objects(RAW, version);
        let ceiling = ceiling::flood(&lab.peer, &raw, connections).await?.seconds();
        lab.check(&raw, false).await.context("after the flood")?;
        let turn = turn(lab, &fleet, version).await?;
        let wanted = fleet.objects(OURS, version);
        lab.check(&wanted, true).await?;
        let more = lab.news()?.iter().filter(|a| a.user == AGENT && a.writes_in(OURS)).count();
        let writes = turn.span.count + more;
        equal &= writes == wanted.len();
        let whole = turn.span.last - turn.pushed;
        eprintln!("{what}: ceiling {}, push to last object {}", seconds(ceiling), seconds(whole));
        rows.push(vec![
            what.to_owned(),
            seconds(ceiling),
            seconds(turn.span.first - turn.pushed),
            seconds(whole),
            format!("{:.0} %", ceiling / whole * 100.0),
            seconds(turn.ready - turn.pushed),
            seconds(turn.cpu),
            writes.to_string(),
            wanted.len().to_string(),
        ]);
    }
    lab.delete(&[RAW.to_owned()]).await?;
    fleet.end(lab).await?;
    Ok(Report {
        title: format!("The workload of flux-benchmark: {units} units of 4 objects, wait: true"),
        equal,
        gate: format!(
            "All objects as declared after each turn, each written once. The ceiling is the same server-side applies over \
             {connections} connections, just before, with the controllers at work as well. Everything is counted from the end \
             of the push."
        ),
        columns: vec![
            "what",
            "ceiling",
            "first write after",
            "last object after",
            "of the ceiling",
            "all units ready after",
            "CPU of the agent",
            "writes",
            "needed",
        ],
        rows,
        notes: vec![],
    })
}

async fn turn(lab: &mut Lab, fleet: &Fleet, version: usize) -> Result<Turn> {
    lab.forget()?;
    let before = lab.agent_cpu()?;
    let (commit, pushed) = lab.push(&fleet.content(version), &format!("version {version}")).await?;
    let span = lab.written(|namespace| namespace == OURS, fleet.units * 4).await?;
    lab.at(&commit, fleet.units).await?;
    let ready = now();
    Ok(Turn { pushed, span, ready, cpu: lab.agent_cpu()? - before })
}
