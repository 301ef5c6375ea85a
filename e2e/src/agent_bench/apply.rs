//! B6: apply.

use anyhow::{Context, Result};

use super::audit::{AGENT, PEER};
use super::ceiling;
use super::lab::{CLUSTER, Lab, files, unit};
use super::objects::{Object, Workload, file};
use crate::table::{Report, middle, seconds};
use crate::world::Content;

const OURS: &str = "bench-ours";
const RAW: &str = "bench-raw";
const KUBECTL: &str = "bench-kubectl";

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan<'a> {
    pub(super) sizes: &'a [usize],
    pub(super) rounds: usize,
    pub(super) connections: usize,
    pub(super) kubectl: bool,
}

/// What is done with the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Create,
    Percent,
    Nothing,
}

impl Phase {
    const ALL: [Self; 3] = [Self::Create, Self::Percent, Self::Nothing];

    const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Percent => "1 % changed",
            Self::Nothing => "nothing changed",
        }
    }

    /// The version of the nth object.
    fn version(self, n: usize) -> usize {
        match self {
            Self::Create => 0,
            Self::Percent | Self::Nothing => usize::from(n.is_multiple_of(100)),
        }
    }

    /// Whether the nth object is to be written.
    const fn writes(self, n: usize) -> bool {
        match self {
            Self::Create => true,
            Self::Percent => n.is_multiple_of(100),
            Self::Nothing => false,
        }
    }
}

/// Results of one phase over the rounds.
#[derive(Clone, Debug, Default)]
struct Figures {
    raw: Vec<f64>,
    kubectl: Vec<f64>,
    kubectl_patches: usize,
    ours: Vec<f64>,
    whole: Vec<f64>,
    cpu: Vec<f64>,
    patches: usize,
}

pub(super) async fn run(lab: &mut Lab, plan: &Plan<'_>) -> Result<Report> {
    let namespaces = [OURS, RAW, KUBECTL].map(str::to_owned);
    lab.namespaces(&namespaces).await?;
    let (mut rows, mut equal) = (Vec::new(), true);
    for workload in [Workload::ConfigMaps, Workload::Mixed] {
        for &size in plan.sizes {
            let mut figures: [Figures; 3] = Default::default();
            for round in 0..plan.rounds {
                eprintln!("{} {size}, round {}", workload.name(), round + 1);
                // Whose turn is first changes.
                for contestant in 0..3 {
                    match (contestant + round) % 3 {
                        0 => raw(lab, workload, size, plan.connections, &mut figures).await?,
                        1 if plan.kubectl => kubectl(lab, workload, size, &mut figures).await?,
                        1 => {}
                        _ => ours(lab, workload, size, &mut figures).await?,
                    }
                }
                lab.clear(&namespaces).await?;
            }
            for (phase, figures) in Phase::ALL.iter().zip(&figures) {
                let needed = (0..size).filter(|n| phase.writes(*n)).count() * plan.rounds;
                equal &= figures.patches == needed;
                rows.push(row(workload, size, *phase, figures, needed));
            }
        }
    }
    Ok(Report {
        title: "B6: apply".into(),
        equal,
        gate: format!(
            "After every phase all objects were as declared, with each contestant. The middle of {} rounds. The ceiling is \
             the same server-side applies sent over {} connections, without anybody who thinks; kubectl is \
             `kubectl apply --server-side`, start to end; Driftless is the time from its first write to its last answer, and \
             beside it from the push of the commit (hub, render, transport and ledger included).",
            plan.rounds, plan.connections
        ),
        columns: vec![
            "objects",
            "phase",
            "ceiling",
            "kubectl",
            "Driftless",
            "objects/s",
            "of the ceiling",
            "against kubectl",
            "push to last object",
            "CPU of the agent",
            "writes: kubectl",
            "writes: Driftless",
            "needed",
        ],
        rows,
        notes: Vec::new(),
    })
}

fn row(workload: Workload, size: usize, phase: Phase, figures: &Figures, needed: usize) -> Vec<String> {
    let Figures { raw, kubectl, kubectl_patches, ours, whole, cpu, patches } = figures;
    let [raw, kubectl, ours, whole, cpu] = [raw, kubectl, ours, whole, cpu].map(|figures| middle(figures));
    let some = |there: bool, text: String| if there { text } else { "-".to_owned() };
    let rounds = figures.ours.len().max(1);
    vec![
        format!("{size} {}", workload.name()),
        phase.name().to_owned(),
        some(needed > 0, seconds(raw)),
        some(kubectl > 0.0, seconds(kubectl)),
        some(needed > 0, seconds(ours)),
        some(needed > 0, format!("{:.0}", needed as f64 / rounds as f64 / ours)),
        some(needed > 0, format!("{:.0} %", raw / ours * 100.0)),
        some(needed > 0 && kubectl > 0.0, format!("{:.1}x", kubectl / ours)),
        some(needed > 0, seconds(whole)),
        seconds(cpu),
        kubectl_patches.to_string(),
        patches.to_string(),
        needed.to_string(),
    ]
}

fn objects(workload: Workload, namespace: &str, size: usize, phase: Phase) -> Vec<Object> {
    workload.objects(namespace, size, |n| phase.version(n))
}

async fn raw(
    lab: &mut Lab,
    workload: Workload,
    size: usize,
    connections: usize,
    figures: &mut [Figures; 3],
) -> Result<()> {
    for (phase, figures) in Phase::ALL.iter().zip(figures) {
        let all = objects(workload, RAW, size, *phase);
        let some: Vec<Object> =
            all.iter().enumerate().filter(|(n, _)| phase.writes(*n)).map(|(_, object)| object.clone()).collect();
        if some.is_empty() {
            continue;
        }
        let span = ceiling::flood(&lab.peer, &some, connections).await?;
        figures.raw.push(span.seconds());
        lab.check(&all, false).await.context("after the flood")?;
    }
    lab.delete(&[RAW.to_owned()]).await
}

async fn kubectl(lab: &mut Lab, workload: Workload, size: usize, figures: &mut [Figures; 3]) -> Result<()> {
    for (phase, figures) in Phase::ALL.iter().zip(figures) {
        let all = objects(workload, KUBECTL, size, *phase);
        lab.forget()?;
        let done = lab.kubectl(&["apply"], &file(&all)).await?;
        figures.kubectl.push(done.wall);
        figures.kubectl_patches += lab.news()?.iter().filter(|a| a.user == PEER && a.writes_in(KUBECTL)).count();
        lab.check(&all, false).await.context("after kubectl")?;
    }
    lab.delete(&[KUBECTL.to_owned()]).await
}

async fn ours(lab: &mut Lab, workload: Workload, size: usize, figures: &mut [Figures; 3]) -> Result<()> {
    for (phase, figures) in Phase::ALL.iter().zip(figures) {
        let all = objects(workload, OURS, size, *phase);
        let content = files(unit(Content::new().root(CLUSTER), "bench", "bench", ""), "bench", &all);
        // A commit that changes nothing for the cluster, in the last phase.
        let content = content.with("README.md", format!("{}\n", phase.name()));
        let needed = (0..size).filter(|n| phase.writes(*n)).count();
        lab.forget()?;
        let before = lab.agent_cpu()?;
        let (commit, pushed) = lab.push(&content, phase.name()).await?;
        let span = lab.written(|namespace| namespace == OURS, needed).await?;
        lab.at(&commit, 1).await?;
        // The records of a burst are written a moment after it.
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        figures.cpu.push(lab.agent_cpu()? - before);
        if needed > 0 {
            figures.ours.push(span.seconds());
            figures.whole.push(span.last - pushed);
        }
        let more = lab.news()?.iter().filter(|a| a.user == AGENT && a.writes_in(OURS)).count();
        figures.patches += span.count + more;
        lab.check(&all, true).await.context("after Driftless")?;
    }
    Ok(())
}
