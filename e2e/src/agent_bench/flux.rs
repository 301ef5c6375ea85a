//! The workload of flux-benchmark: units of four objects that are waited for, from the push to the last object. Driftless
//! first, and then, with the agent stopped, Flux's own kustomize-controller with the same units on the same cluster.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt as _, TryStreamExt as _};

use super::audit::{AGENT, PEER, Span, now};
use super::ceiling;
use super::lab::{CLUSTER, Lab, unit};
use super::objects::{Object, app_part};
use crate::flux::Flux;
use crate::table::{Report, middle, seconds};
use crate::usage;
use crate::wait;
use crate::world::Content;

/// Where the flood goes.
const RAW: &str = "flux-raw";
/// The namespace of all units, as flux-benchmark has it.
const OURS: &str = "kustomize-benchmark";
/// And of Flux's.
const THEIRS: &str = "flux-peer";
/// What flux-benchmark gives the controller, and no limit of requests that would be felt.
const ARGUMENTS: [&str; 4] =
    ["--concurrent=20", "--requeue-dependency=5s", "--kube-api-qps=1000", "--kube-api-burst=2000"];
/// For Flux to have all units ready.
const PATIENCE: Duration = Duration::from_secs(900);

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
        self.content_of("podinfo", OURS, version)
    }

    fn content_of(&self, prefix: &str, namespace: &str, version: usize) -> Content {
        let mut content = Content::new().root(CLUSTER);
        for n in 0..self.units {
            let more = format!(
                "  wait: true\n  timeout: 1m\n  targetNamespace: {namespace}\n  postBuild:\n    substitute:\n      INDEX: \"{n}\"\n"
            );
            content = unit(content, &format!("{prefix}-{n:04}"), "manifests/podinfo", &more);
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

/// One turn of the agent.
struct Turn {
    pushed: f64,
    span: Span,
    ready: f64,
    cpu: f64,
}

/// What both turns of a contestant came to, over the rounds.
#[derive(Default)]
struct Figures {
    raw: Vec<f64>,
    first: Vec<f64>,
    whole: Vec<f64>,
    ready: Vec<f64>,
    cpu: Vec<f64>,
    writes: usize,
}

pub(super) async fn run(lab: &mut Lab, units: usize, rounds: usize, connections: usize, peer: bool) -> Result<Report> {
    let fleet = Fleet::start(lab, units).await?;
    lab.namespaces(&[RAW.to_owned()]).await?;
    let mut figures: [Figures; 2] = Default::default();
    for round in 0..rounds {
        // Whose turn is first changes. Each finds the cluster empty: what an API server takes for a Service grows with those
        // that there are.
        for contestant in 0..2 {
            if (contestant + round) % 2 == 0 {
                raw(lab, &fleet, round, connections, &mut figures).await?;
            } else {
                ours(lab, &fleet, round, &mut figures).await?;
            }
        }
    }
    let needed = fleet.units * 4;
    let equal = figures.iter().all(|figures| figures.writes == needed * rounds);
    let mut rows: Vec<Vec<String>> = TURNS
        .iter()
        .zip(&figures)
        .map(|((_, what), figures)| {
            let [raw, first, whole, ready, cpu] =
                [&figures.raw, &figures.first, &figures.whole, &figures.ready, &figures.cpu].map(|all| middle(all));
            vec![
                (*what).to_owned(),
                seconds(raw),
                seconds(first),
                seconds(whole),
                format!("{:.0} %", raw / whole * 100.0),
                seconds(ready),
                seconds(cpu),
                figures.writes.to_string(),
                (needed * rounds).to_string(),
            ]
        })
        .collect();
    let mut columns = vec![
        "what",
        "ceiling",
        "first write after",
        "last object after",
        "of the ceiling",
        "all units ready after",
        "CPU of the agent",
        "writes",
        "needed",
    ];
    let mut notes = Vec::new();
    if peer {
        lab.world.cluster_mut(CLUSTER).stop_agent().await?;
        columns.extend(["Flux: last object after", "all units ready after", "CPU", "Flux takes"]);
        let (name, turns) = flux_turns(lab, &fleet, connections).await?;
        notes.push(format!("Flux is {name} with {}, one round", ARGUMENTS.join(" ")));
        for ((row, figures), turn) in rows.iter_mut().zip(&figures).zip(turns) {
            let theirs = turn.span.last - turn.pushed;
            let times = format!("{:.1} times as long", theirs / middle(&figures.whole));
            row.extend([seconds(theirs), seconds(turn.ready - turn.pushed), seconds(turn.cpu), times]);
        }
        lab.world.cluster_mut(CLUSTER).start_agent_again()?;
    }
    Ok(Report {
        title: format!("The workload of flux-benchmark: {units} units of 4 objects, wait: true"),
        equal,
        gate: format!(
            "All objects as declared after each turn, each written once. The middle of {rounds} rounds, each with an empty \
             cluster. The ceiling is the same server-side applies over {connections} connections, with the controllers at work \
             as well. Everything is counted from the end of the push; for Flux from the moment before its source names the new \
             artifact."
        ),
        columns,
        rows,
        notes,
    })
}

/// Both turns of the flood.
async fn raw(lab: &Lab, fleet: &Fleet, round: usize, connections: usize, figures: &mut [Figures; 2]) -> Result<()> {
    for ((turn, what), figures) in TURNS.iter().zip(figures) {
        let objects = fleet.objects(RAW, version(round, *turn));
        let span = ceiling::flood(&lab.peer, &objects, connections).await?;
        lab.check(&objects, false).await.context("after the flood")?;
        eprintln!("round {}, {what}: ceiling {}", round + 1, seconds(span.seconds()));
        figures.raw.push(span.seconds());
    }
    lab.delete(&[RAW.to_owned()]).await?;
    lab.gone(RAW).await
}

/// Both turns of the agent.
async fn ours(lab: &mut Lab, fleet: &Fleet, round: usize, figures: &mut [Figures; 2]) -> Result<()> {
    for ((of, what), figures) in TURNS.iter().zip(figures) {
        let version = version(round, *of);
        let turn = turn(lab, fleet, version).await?;
        let wanted = fleet.objects(OURS, version);
        lab.check(&wanted, true).await?;
        let more = lab.news()?.iter().filter(|a| a.user == AGENT && a.writes_in(OURS)).count();
        let whole = turn.span.last - turn.pushed;
        eprintln!("round {}, {what}: push to last object {}", round + 1, seconds(whole));
        figures.writes += turn.span.count + more;
        figures.first.push(turn.span.first - turn.pushed);
        figures.whole.push(whole);
        figures.ready.push(turn.ready - turn.pushed);
        figures.cpu.push(turn.cpu);
    }
    fleet.end(lab).await?;
    lab.gone(OURS).await
}

/// No round has content of another, so that nothing is known of it anywhere.
fn version(round: usize, turn: usize) -> usize {
    round * TURNS.len() + turn
}

/// What is pushed in turn: the version, and what that is.
const TURNS: [(usize, &str); 2] = [(0, "install"), (1, "change of everything")];

/// The same by Flux.
async fn flux_turns(lab: &mut Lab, fleet: &Fleet, connections: usize) -> Result<(String, Vec<Turn>)> {
    lab.namespaces(&[THEIRS.to_owned()]).await?;
    let plane = &lab.cluster().plane;
    let mut flux = Flux::start(plane, &lab.kubeconfig, lab.folder.path(), &ARGUMENTS).await?;
    let mut turns = Vec::new();
    for (version, what) in TURNS {
        // As flux-benchmark has it: the units are made by hand, and the artifact holds what they build and nothing else. With
        // the units in it, each of them would unpack a thousand files.
        let content = fleet.content_of("peer", THEIRS, version);
        let artifact = content.only("manifests");
        let commit = format!("{version:040}");
        lab.forget()?;
        let before = usage::cpu(flux.id()).context("the CPU time of Flux")?;
        let pushed = now();
        if version == 0 {
            flux.follow().await?;
        }
        flux.pull(&commit, &artifact).await?;
        if version == 0 {
            let folder = format!("clusters/{CLUSTER}");
            let units = content.under(&folder).filter(|(path, _)| path.contains("/peer-"));
            let made = futures::stream::iter(units).map(|(_, text)| flux.create(text)).buffer_unordered(connections);
            made.try_collect::<Vec<()>>().await.context("make the units")?;
        }
        let span = lab.written_by(PEER, |namespace| namespace == THEIRS, fleet.units * 4).await?;
        wait::until(PATIENCE, format!("Flux to have {} units ready", fleet.units), || async {
            let all = flux.ready("peer-").await.map_err(|e| format!("{e:#}"))?;
            let there = all.values().filter(|(ready, revision)| *ready && revision.ends_with(&commit)).count();
            if there == fleet.units { Ok(()) } else { Err(format!("{there} of {}", all.len())) }
        })
        .await
        .with_context(|| flux.log(20))?;
        let ready = now();
        let cpu = usage::cpu(flux.id()).context("the CPU time of Flux")?.saturating_sub(before).as_secs_f64();
        lab.check(&fleet.objects(THEIRS, version), false).await.context("after Flux")?;
        eprintln!("{what}, Flux: to the last object {}", seconds(span.last - pushed));
        turns.push(Turn { pushed, span, ready, cpu });
    }
    let name = flux.name().to_owned();
    flux.stop().await?;
    lab.delete(&[THEIRS.to_owned()]).await?;
    Ok((name, turns))
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
