//! Facts files: what a cluster would tell its hub, for commands that have neither.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use driftless_protocol::id::ClusterName;
use driftless_render::check::Input;
use driftless_render::target::Facts;

use crate::error::{CliError, Kind};

/// What stands for a cluster's name in a file name.
const NAME: &str = "{name}";

/// Reads a facts file: YAML or JSON, no unknown keys.
///
/// # Errors
/// When the file cannot be read or is no facts file.
pub fn read(file: &Path) -> Result<Facts, CliError> {
    let text = std::fs::read_to_string(file)
        .map_err(|e| CliError::new(Kind::NotFound, format!("cannot read the facts in {}: {e}", file.display())))?;
    let wrong = |e: &dyn std::fmt::Display| {
        CliError::new(Kind::Usage, format!("{} is no facts file: {e}", file.display()))
            .hint("`driftless check repo --facts-template FILE` writes one to fill in")
    };
    // A key written wrong must not pass for a fact nobody told.
    let keys: BTreeMap<String, serde_json::Value> = serde_saphyr::from_str(&text).map_err(|e| wrong(&e))?;
    // With a format: it is left out where it is not said.
    let known = serde_json::to_value(Facts { body_format: 1, ..Facts::default() }).map_err(|e| wrong(&e))?;
    let known: BTreeSet<&str> = known.as_object().into_iter().flatten().map(|(k, _)| k.as_str()).collect();
    if let Some(unknown) = keys.keys().find(|k| !known.contains(k.as_str())) {
        let known: Vec<&str> = known.into_iter().collect();
        return Err(wrong(&format!("it has the key {unknown:?}; known are {}", known.join(", "))));
    }
    let facts: Facts = serde_saphyr::from_str(&text).map_err(|e| wrong(&e))?;
    for (name, data) in &facts.config_maps {
        if let Some((key, _)) = data.iter().find(|(_, value)| *value == FILL_IN) {
            return Err(CliError::new(
                Kind::Usage,
                format!("{}: {key} of ConfigMap {name} is not filled in", file.display()),
            )
            .hint("remove what the ConfigMap does not have"));
        }
    }
    Ok(facts)
}

/// Writes a facts file to fill in for each cluster that needs a ConfigMap which only it has, and gives their names. A file
/// that is there is never written over.
///
/// # Errors
/// When several clusters need one and `pattern` has no `{name}`, or a file is there or cannot be written.
pub fn write_templates(pattern: &Path, clusters: &[&ClusterName], inputs: &[Input]) -> Result<Vec<PathBuf>, CliError> {
    let needs = |c: &&&ClusterName| inputs.iter().any(|i| i.kind == "ConfigMap" && i.clusters.contains(**c));
    let in_need: Vec<&&ClusterName> = clusters.iter().filter(needs).collect();
    if in_need.len() > 1 && !is_pattern(pattern) {
        return Err(CliError::new(Kind::Usage, format!("{} clusters need a facts file each", in_need.len()))
            .hint("as in --facts-template 'facts/{name}.yaml'"));
    }
    let mut out = Vec::new();
    for cluster in in_need {
        let file = file_of(pattern, cluster);
        let failed = |e: std::io::Error| CliError::new(Kind::Failed, format!("cannot write {}: {e}", file.display()));
        if let Some(folder) = file.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let opened = std::fs::OpenOptions::new().write(true).create_new(true).open(&file);
        let mut opened = opened.map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => {
                CliError::new(Kind::Failed, format!("{} is there already and is not written over", file.display()))
                    .hint("name another file, or use this one: --facts")
            }
            _ => failed(e),
        })?;
        opened.write_all(template(cluster, inputs).as_bytes()).map_err(failed)?;
        out.push(file);
    }
    Ok(out)
}

/// What stands for a value that nobody has filled in yet.
const FILL_IN: &str = "FILL_IN";

fn template(cluster: &ClusterName, inputs: &[Input]) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut out = format!(
        "# What cluster {cluster} would tell its hub. Put in the values it has, and remove what it has not (a variable that\n\
         # several sources may hold stands under each); then use it with\n\
         # `driftless check repo`, `validate`, `plan` or `build`: --facts FILE.\nkubernetesVersion: \"\" # such as v1.36.1\nconfigMaps:\n"
    );
    let of_kind = |kind: &'static str| inputs.iter().filter(move |i| i.kind == kind && i.clusters.contains(cluster));
    for input in of_kind("ConfigMap") {
        out.push_str(&format!("  # {}\n", read_by(cluster, input)));
        if input.variables.is_empty() {
            out.push_str(&format!("  {}: {{}}\n", quoted(&input.name)));
            continue;
        }
        out.push_str(&format!("  {}:\n", quoted(&input.name)));
        for variable in &input.variables {
            out.push_str(&format!("    {}: {FILL_IN}\n", quoted(variable)));
        }
    }
    for input in of_kind("Secret").filter(|input| !input.variables.is_empty()) {
        let variables: Vec<&str> = input.variables.iter().map(String::as_str).collect();
        out.push_str(&format!(
            "# Secret {}, {}; may hold {}: the agent reads it, it is no fact.\n",
            input.name,
            read_by(cluster, input),
            variables.join(", ")
        ));
    }
    out
}

/// Which units read an input, and where that is written.
fn read_by(cluster: &ClusterName, input: &Input) -> String {
    let units: Vec<String> = input.units.iter().take(4).map(ToString::to_string).collect();
    let more = input.units.len().saturating_sub(units.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let optional = if input.optional { "; may be absent" } else { "" };
    let at = input.at.get(cluster).map(|at| format!(" ({at})")).unwrap_or_default();
    format!("for unit {}{more}{at}{optional}", units.join(", "))
}

/// Reads the facts of clusters: from one file for all, or, where `pattern` has `{name}` in it, from one file each. A
/// cluster whose file is not there has told nothing.
///
/// # Errors
/// When a file cannot be read or is no facts file, or not one file of the pattern is there.
pub fn read_for(pattern: &Path, clusters: &[&ClusterName]) -> Result<BTreeMap<ClusterName, Facts>, CliError> {
    let mut out = BTreeMap::new();
    for cluster in clusters {
        let file = file_of(pattern, cluster);
        if file != pattern && !file.exists() {
            continue;
        }
        out.insert((*cluster).clone(), read(&file)?);
    }
    if out.is_empty() && !clusters.is_empty() {
        return Err(CliError::new(
            Kind::NotFound,
            format!("cannot read the facts in {}: there is no such file for any cluster", pattern.display()),
        ));
    }
    Ok(out)
}

/// The file a pattern means for a cluster.
#[must_use]
pub fn file_of(pattern: &Path, cluster: &ClusterName) -> PathBuf {
    match pattern.to_str() {
        Some(text) => PathBuf::from(text.replace(NAME, cluster.as_str())),
        None => pattern.to_path_buf(),
    }
}

/// Whether a pattern means a file for each cluster.
#[must_use]
pub fn is_pattern(pattern: &Path) -> bool {
    pattern.to_str().is_some_and(|text| text.contains(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_facts_file_is_read_strictly() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("facts.yaml");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            super::read(&file).map_err(|e| e.message)
        };
        let facts = read("kubernetesVersion: v1.36.1\nconfigMaps:\n  flux-system/a:\n    REGION: eu\n").unwrap();
        assert_eq!(facts.kubernetes_version, "v1.36.1");
        assert_eq!(facts.config_maps["flux-system/a"]["REGION"], "eu");
        let facts = read("configMaps:\n  flux-system/a:\n    REPLICAS: 3\n").unwrap();
        assert_eq!(facts.config_maps["flux-system/a"]["REPLICAS"], "3", "a number is the text it is written as");
        for (text, part) in [
            ("configmaps: {}\n", "\"configmaps\""),
            ("configMaps:\n  flux-system/a:\n    REGION: [eu]\n", "no facts file"),
            ("configMaps:\n  flux-system/a:\n    REGION: FILL_IN\n", "not filled in"),
            ("- a\n", "no facts file"),
            ("a: [\n", "no facts file"),
        ] {
            let message = read(text).unwrap_err();
            assert!(message.contains(part), "{text:?}: {message}");
        }
    }

    #[test]
    fn a_pattern_means_a_file_for_each_cluster() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.yaml"), "kubernetesVersion: v1.35.0\n").unwrap();
        let clusters: Vec<ClusterName> = ["a", "b"].iter().map(|n| n.parse().unwrap()).collect();
        let clusters: Vec<&ClusterName> = clusters.iter().collect();
        let found = read_for(&dir.path().join("{name}.yaml"), &clusters).unwrap();
        assert_eq!(found.keys().map(ClusterName::as_str).collect::<Vec<_>>(), ["a"]);
        assert_eq!(read_for(&dir.path().join("a.yaml"), &clusters).unwrap().len(), 2);
        assert_eq!(read_for(&dir.path().join("{name}.json"), &clusters).unwrap_err().kind, Kind::NotFound);
    }
}
