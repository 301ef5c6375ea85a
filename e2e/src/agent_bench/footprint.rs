//! B9: memory, CPU and requests of an agent that has nothing to do.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::audit::{AGENT, Asked};
use super::flux;
use super::lab::{CLUSTER, Lab, files, unit};
use super::objects::Workload;
use crate::table::{Report, mib};
use crate::world::Content;

const NAMESPACE: &str = "bench-footprint";
/// Objects of a unit.
const PER_UNIT: usize = 100;
/// Until what an apply needed is given back, and the records are written.
const SETTLE: Duration = Duration::from_secs(10);
/// Until what people see of a thousand units must be written: two Events a second are.
const WRITTEN: Duration = Duration::from_secs(900);

pub(super) async fn run(lab: &mut Lab, sizes: &[usize], units: usize, idle_for: u64) -> Result<Report> {
    let idle_for = Duration::from_secs(idle_for.max(1));
    let namespaces = [NAMESPACE.to_owned()];
    lab.namespaces(&namespaces).await?;
    let mut rows = vec![look(lab, "nothing but its own records", idle_for).await?.row];
    for &size in sizes {
        let all = Workload::ConfigMaps.objects(NAMESPACE, size, |_| 0);
        let mut content = Content::new().root(CLUSTER);
        let parts: Vec<_> = all.chunks(PER_UNIT).collect();
        for (n, part) in parts.iter().enumerate() {
            let name = format!("part-{n:03}");
            content = files(unit(content, &name, &name, ""), &name, part);
        }
        let (commit, _) = lab.push(&content, "many objects").await?;
        lab.at(&commit, parts.len()).await?;
        lab.check(&all, true).await?;
        rows.push(look(lab, &format!("{size} ConfigMaps, just applied"), idle_for).await?.row);
        lab.world.cluster_mut(CLUSTER).stop_agent().await?;
        lab.world.cluster_mut(CLUSTER).start_agent_again()?;
        lab.at(&commit, parts.len()).await?;
        rows.push(look(lab, &format!("{size} ConfigMaps, agent restarted"), idle_for).await?.row);
        lab.clear(&namespaces).await?;
    }
    let fleet = flux::Fleet::start(lab, units).await?;
    let (commit, _) = lab.push(&fleet.content(0), "many units").await?;
    lab.at(&commit, units).await?;
    let written = all_written(lab).await?;
    let look = look(lab, &format!("{units} units of 4 objects"), idle_for).await?;
    rows.push(look.row);
    let kinds: Vec<String> = look.requests.iter().map(|(what, n)| format!("{n} {what}")).collect();
    let minutes = idle_for.as_secs_f64() / 60.0;
    fleet.end(lab).await?;
    Ok(Report {
        title: "B9: an agent that has nothing to do".into(),
        equal: true,
        gate: format!(
            "Each line is {} s of doing nothing, {} s after the last write.",
            idle_for.as_secs(),
            SETTLE.as_secs()
        ),
        columns: vec!["cluster", "resident", "of it anonymous", "peak so far", "CPU", "requests a minute"],
        rows,
        notes: vec![format!(
            "The requests of the last line, within {minutes:.1} minutes: {}. It begins when all Unit objects and Events are \
             written, which are paced: {written:.0} s after the last unit was ready.",
            if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") }
        )],
    })
}

/// Waits until the agent writes nothing any more but its lease. Answers how many seconds that took.
async fn all_written(lab: &mut Lab) -> Result<f64> {
    let began = Instant::now();
    loop {
        lab.forget()?;
        tokio::time::sleep(SETTLE).await;
        let of_agent = |asked: &&Asked| asked.user == AGENT && asked.writes() && asked.resource != "leases";
        let writes = lab.news()?.iter().filter(of_agent).count();
        if writes == 0 {
            return Ok((began.elapsed() - SETTLE).as_secs_f64());
        }
        eprintln!("{writes} writes of Unit objects and Events in {} s; waiting for their end", SETTLE.as_secs());
        ensure!(began.elapsed() < WRITTEN, "the agent still writes {} s after all units were ready", WRITTEN.as_secs());
    }
}

struct Look {
    row: Vec<String>,
    requests: BTreeMap<String, usize>,
}

async fn look(lab: &mut Lab, what: &str, time: Duration) -> Result<Look> {
    tokio::time::sleep(SETTLE).await;
    lab.forget()?;
    let cpu = lab.agent_idle(time).await?;
    let mut requests: BTreeMap<String, usize> = BTreeMap::new();
    for asked in lab.news()?.iter().filter(|asked| asked.user == AGENT) {
        *requests.entry(format!("{} {}", asked.verb, asked.resource)).or_default() += 1;
    }
    let memory = lab.agent_memory()?;
    let count: usize = requests.values().sum();
    let row = vec![
        what.to_owned(),
        mib(memory.all),
        mib(memory.anonymous),
        mib(memory.peak),
        format!("{:.2} m", cpu * 1e3),
        format!("{:.0}", count as f64 * 60.0 / time.as_secs_f64()),
    ];
    eprintln!("{}", row.join(", "));
    Ok(Look { row, requests })
}
