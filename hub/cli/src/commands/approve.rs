//! `driftless get deletes` and `driftless approve`: what waits for a person, and the person's word.

use std::process::ExitCode;

use driftless_protocol::api::{ApproveRequest, DeleteList, Done, List};

use super::steer::{cluster_name, print_done};
use super::unit::line;
use crate::args::{Approve, Output};
use crate::client::{Client, escape};
use crate::error::{CliError, Kind};
use crate::ui;

async fn lists(client: &Client, cluster: Option<&str>) -> Result<Vec<DeleteList>, CliError> {
    let path = cluster.map_or_else(|| "/deletes".to_owned(), |name| format!("/deletes?cluster={}", escape(name)));
    Ok(client.get::<List<DeleteList>>(&path).await?.items)
}

/// `driftless get deletes`.
pub async fn deletes(client: &Client, output: Output, cluster: Option<&str>) -> Result<ExitCode, CliError> {
    let lists = lists(client, cluster).await?;
    ui::print(output, &lists, || lists.iter().map(text).collect())?;
    if lists.is_empty() && output == Output::Table {
        ui::note("no delete waits for approval");
    }
    Ok(ExitCode::SUCCESS)
}

fn text(list: &DeleteList) -> String {
    let clusters: Vec<&str> = list.clusters.iter().map(|name| name.as_str()).collect();
    let mut text = format!(
        "LIST {}   unit {}   {} objects   {} cluster(s): {}\n",
        list.list,
        list.unit,
        list.objects.len(),
        clusters.len(),
        clusters.join(", ")
    );
    // Most objects of a list are held for one reason: it is said once.
    let mut last = None;
    for object in &list.objects {
        if last != Some(&object.why) {
            text.push_str(&format!("  {}:\n", line(&object.why)));
            last = Some(&object.why);
        }
        text.push_str(&format!("    {}\n", line(&object.key.to_string())));
    }
    if list.more > 0 {
        text.push_str(&format!("  and {} more, listed when these are gone\n", list.more));
    }
    text.push_str(&format!("  to let them go: driftless approve {} {} --reason TEXT\n\n", list.list, scope(list)));
    text
}

fn scope(list: &DeleteList) -> String {
    match list.clusters.as_slice() {
        [only] => format!("--cluster {only}"),
        _ => "--all-clusters".to_owned(),
    }
}

/// `driftless approve`.
pub async fn approve(client: &Client, output: Output, which: &Approve) -> Result<ExitCode, CliError> {
    if which.reason.trim().is_empty() {
        return Err(CliError::new(Kind::Usage, "--reason is empty: say why these objects may be deleted"));
    }
    let cluster = match (&which.cluster, which.all_clusters) {
        (Some(name), _) => Some(cluster_name(name)?),
        (None, true) => None,
        (None, false) => only_cluster(&lists(client, None).await?, &which.list)?,
    };
    let request =
        ApproveRequest { cluster, list: Some(which.list.clone()), keys: Vec::new(), reason: which.reason.clone() };
    let done: Done = client.post("/approve", &request).await?;
    print_done(output, &done)
}

/// The cluster that holds the list. Deleting in several is said, never meant by leaving something out.
fn only_cluster(lists: &[DeleteList], id: &str) -> Result<Option<driftless_protocol::id::ClusterName>, CliError> {
    let Some(list) = lists.iter().find(|list| list.list == id) else {
        return Err(CliError::new(
            Kind::NotFound,
            format!("no cluster holds the delete list {id}; nothing was approved"),
        )
        .hint("`driftless get deletes` shows those that wait; a list whose objects change is another list"));
    };
    match list.clusters.as_slice() {
        [only] => Ok(Some(only.clone())),
        clusters => {
            let names: Vec<&str> = clusters.iter().map(|name| name.as_str()).collect();
            let message = format!("{} clusters hold the delete list {id}: {}", names.len(), names.join(", "));
            Err(CliError::new(Kind::Usage, message).hint("name one with --cluster, or say --all-clusters"))
        }
    }
}

#[cfg(test)]
mod tests {
    use driftless_protocol::api::DeleteListObject;
    use driftless_protocol::id::UnitId;
    use driftless_protocol::object::ObjectKey;

    use super::*;

    fn list(clusters: &[&str]) -> DeleteList {
        let object = |name: &str, why: &str| DeleteListObject {
            key: ObjectKey { group: "".into(), kind: "ConfigMap".into(), namespace: "a".into(), name: name.into() },
            why: why.into(),
        };
        DeleteList {
            list: "0123456789abcdef".into(),
            unit: UnitId::kustomization("flux-system", "apps"),
            clusters: clusters.iter().map(|name| name.parse().unwrap()).collect(),
            objects: vec![object("x", "too many"), object("y", "too many"), object("z", "it is\x1b[2J odd")],
            more: 0,
        }
    }

    #[test]
    fn a_list_shows_every_object_and_the_command_that_lets_it_go() {
        assert_eq!(
            text(&list(&["prod"])),
            "LIST 0123456789abcdef   unit flux-system/apps   3 objects   1 cluster(s): prod\n  too many:\n    ConfigMap a/x\n    \
             ConfigMap a/y\n  it is [2J odd:\n    ConfigMap a/z\n  to let them go: driftless approve 0123456789abcdef --cluster \
             prod --reason TEXT\n\n"
        );
        assert!(text(&list(&["a", "b"])).contains("--all-clusters"));
    }

    #[test]
    fn several_clusters_are_named_and_never_meant_by_silence() {
        assert_eq!(only_cluster(&[list(&["prod"])], "0123456789abcdef").unwrap().unwrap().as_str(), "prod");
        assert!(only_cluster(&[list(&["a", "b"])], "0123456789abcdef").unwrap_err().message.contains("a, b"));
        assert!(only_cluster(&[], "0123456789abcdef").is_err());
    }
}
