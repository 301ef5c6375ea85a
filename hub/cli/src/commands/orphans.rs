//! `driftless orphans`: what is in the clusters that nobody declares.

use std::process::ExitCode;

use driftless_protocol::api::{ClusterRow, List};
use driftless_protocol::ask::{Orphan, OrphansAnswer};
use driftless_protocol::id::ClusterName;
use serde::Serialize;

use super::unit::line;
use crate::args::{Orphans, Output};
use crate::client::{Client, escape};
use crate::error::{CliError, Kind};
use crate::ui::{self, Progress, Table, ago};

/// One cluster, looked at or not.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OfCluster {
    cluster: ClusterName,
    /// What its agent found.
    #[serde(flatten)]
    answer: Option<OrphansAnswer>,
    /// Why it could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Asks the agents, one after the other, and prints.
pub async fn run(client: &Client, output: Output, args: &Orphans, now: u64) -> Result<ExitCode, CliError> {
    let rows: List<ClusterRow> = client.get("/clusters").await?;
    let names: Vec<ClusterName> = rows.items.into_iter().map(|row| row.name).collect();
    if let Some(unknown) = args.clusters.iter().find(|want| !names.iter().any(|name| name.as_str() == *want)) {
        return Err(CliError::new(Kind::NotFound, format!("no cluster named {unknown} is enrolled"))
            .hint("`driftless cluster list` shows those that are"));
    }
    let wanted: Vec<ClusterName> = names
        .into_iter()
        .filter(|name| args.clusters.is_empty() || args.clusters.iter().any(|want| name.as_str() == want))
        .collect();
    let query = format!(
        "namespaces={}&kinds={}&system={}",
        escape(&args.namespaces.join(",")),
        escape(&args.kinds.join(",")),
        args.system
    );
    let progress = Progress::new("asking the clusters", wanted.len());
    let mut all: Vec<OfCluster> = Vec::new();
    for cluster in wanted {
        let asked = client.get(&format!("/clusters/{}/orphans?{query}", escape(cluster.as_str()))).await;
        all.push(match asked {
            Ok(answer) => OfCluster { cluster, answer: Some(answer), problem: None },
            // One that is away must not hide the others; a hub that is away is another matter.
            Err(error) if error.kind == Kind::Unreachable => return Err(error),
            Err(error) => OfCluster { cluster, answer: None, problem: Some(error.message) },
        });
        progress.step();
    }
    drop(progress);
    ui::print(output, &all, || text(&all, now))?;
    judge(&all, args.check)
}

fn judge(all: &[OfCluster], check: bool) -> Result<ExitCode, CliError> {
    let partly: Vec<&str> = all
        .iter()
        .filter(|of| of.answer.as_ref().is_none_or(|answer| !answer.not_looked.is_empty()))
        .map(|of| of.cluster.as_str())
        .collect();
    if !partly.is_empty() {
        return Err(CliError::new(Kind::Failed, format!("not wholly looked at: {}", partly.join(", ")))
            .hint("what stood in the way is said with each cluster"));
    }
    let found: u64 = all.iter().filter_map(|of| of.answer.as_ref()).map(|answer| answer.found).sum();
    if check && found > 0 {
        return Err(CliError::new(Kind::Failed, format!("--check: there are {found} objects that nobody declares")));
    }
    Ok(ExitCode::SUCCESS)
}

fn text(all: &[OfCluster], now: u64) -> String {
    let mut out = String::new();
    for (n, of) in all.iter().enumerate() {
        if n > 0 {
            out.push('\n');
        }
        match (&of.answer, &of.problem) {
            (Some(answer), _) => of_cluster(&of.cluster, answer, now, &mut out),
            (None, problem) => {
                let why = problem.as_deref().unwrap_or("it was not asked");
                out.push_str(&format!("cluster {}: {}\n", of.cluster, line(why)));
            }
        }
    }
    out
}

fn of_cluster(cluster: &ClusterName, answer: &OrphansAnswer, now: u64, out: &mut String) {
    let skipped = answer.skipped;
    out.push_str(&format!(
        "cluster {cluster}: {} objects that nobody declares, of {} in {} kinds ({} declared, {} made for another object, {} of the \
         cluster itself)\n",
        answer.found, answer.looked, answer.kinds, skipped.declared, skipped.owned, skipped.system
    ));
    for not in &answer.not_looked {
        out.push_str(&format!("  not looked at: {}: {}\n", line(&not.kind), line(&not.why)));
    }
    let mut rest = answer.orphans.as_slice();
    while let Some(first) = rest.first() {
        let namespace = &first.key.namespace;
        let count = rest.iter().take_while(|o| o.key.namespace == *namespace).count();
        let (here, others) = rest.split_at(count);
        rest = others;
        let title =
            if namespace.is_empty() { "without namespace".to_owned() } else { format!("namespace {namespace}") };
        out.push_str(&format!("\n{} ({count})\n", line(&title)));
        out.push_str(&table(here, now));
    }
    let listed = answer.orphans.len() as u64;
    if answer.found > listed {
        out.push_str(&format!(
            "\nand {} more that are not listed; ask for namespaces or kinds alone\n",
            answer.found - listed
        ));
    }
}

fn table(orphans: &[Orphan], now: u64) -> String {
    let mut table = Table::new(&["  KIND", "NAME", "AGE", "SEEMS TO BE OF"]);
    for orphan in orphans {
        let kind = match orphan.key.group.as_str() {
            "" => orphan.key.kind.to_string(),
            group => format!("{}.{group}", orphan.key.kind),
        };
        let owner = match (&orphan.system, &orphan.owner, &orphan.manager) {
            (Some(system), ..) => system.clone(),
            (None, Some(owner), _) => owner.clone(),
            (None, None, Some(manager)) => format!("(made by manager {manager})"),
            (None, None, None) => String::new(),
        };
        let age = orphan.created.map(|at| ago(now, at)).unwrap_or_default();
        table.row(vec![format!("  {kind}"), orphan.key.name.to_string(), age, owner]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use driftless_protocol::ask::{NotLooked, SkippedObjects};
    use driftless_protocol::object::ObjectKey;

    use super::*;

    fn orphan(namespace: &str, name: &str, owner: Option<&str>) -> Orphan {
        let key =
            ObjectKey { group: "".into(), kind: "ConfigMap".into(), namespace: namespace.into(), name: name.into() };
        Orphan { key, created: Some(0), owner: owner.map(str::to_owned), manager: Some("kubectl".into()), system: None }
    }

    #[test]
    fn orphans_are_grouped_by_namespace_with_counts() {
        let answer = OrphansAnswer {
            orphans: vec![orphan("a", "x", None), orphan("a", "y", Some("Helm release a/y")), orphan("b", "z", None)],
            found: 5,
            looked: 30,
            kinds: 4,
            skipped: SkippedObjects { declared: 20, owned: 3, system: 2 },
            not_looked: Vec::new(),
        };
        let text = text(&[OfCluster { cluster: "prod".parse().unwrap(), answer: Some(answer), problem: None }], 60_000);
        for wanted in [
            "cluster prod: 5 objects that nobody declares, of 30 in 4 kinds (20 declared, 3 made for another object, 2 of",
            "namespace a (2)\n",
            "namespace b (1)\n",
            "  ConfigMap   x      1m0s   (made by manager kubectl)\n",
            "Helm release a/y\n",
            "and 2 more that are not listed",
        ] {
            assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
        }
    }

    #[test]
    fn what_was_not_looked_at_fails_and_orphans_only_when_asked() {
        let of = |found, not_looked: Vec<NotLooked>| OfCluster {
            cluster: "prod".parse().unwrap(),
            answer: Some(OrphansAnswer { found, not_looked, ..OrphansAnswer::default() }),
            problem: None,
        };
        let away = OfCluster { cluster: "far".parse().unwrap(), answer: None, problem: Some("away".into()) };
        assert!(judge(&[of(3, Vec::new())], false).is_ok());
        assert!(judge(&[of(3, Vec::new())], true).is_err());
        assert!(judge(&[of(0, Vec::new())], true).is_ok());
        assert!(judge(&[of(0, vec![NotLooked::default()])], false).is_err());
        assert!(judge(&[of(0, Vec::new()), away], false).is_err());
    }
}
