//! `check repo` and `validate` as their users run them: the built program on small repositories.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::path::Path;
use std::process::{Command, Output};

const SYNC: &str = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: flux-system, namespace: flux-system}\n\
    spec: {interval: 1m, url: 'https://example.org/fleet', ref: {branch: main}}\n---\n";

fn kustomization(name: &str, path: &str, more: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: flux-system}}\nspec:\n  \
         interval: 1m\n  prune: true\n  path: {path}\n  sourceRef: {{kind: GitRepository, name: flux-system}}\n{more}"
    )
}

/// A repository with the clusters `a` and `b`, which share `apps`, and these files besides.
fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for cluster in ["a", "b"] {
        let sync = format!("{SYNC}{}", kustomization("flux-system", &format!("./clusters/{cluster}"), ""));
        write(dir.path(), &format!("clusters/{cluster}/flux-system/gotk-sync.yaml"), &sync);
        write(dir.path(), &format!("clusters/{cluster}/apps.yaml"), &kustomization("apps", "./apps", ""));
    }
    write(
        dir.path(),
        "apps/map.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, namespace: default}\ndata: {a: b}\n",
    );
    for (path, text) in files {
        write(dir.path(), path, text);
    }
    dir
}

fn write(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn driftless(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_driftless")).args(args).current_dir(dir).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_repository_in_order_passes() {
    let dir = repository(&[]);
    for args in
        [&["check", "repo"][..], &["check", "repo", "--fail-on", "warning"], &["validate", "--fail-on", "warning"]]
    {
        let output = driftless(dir.path(), args);
        assert_eq!(code(&output), 0, "{args:?}: {}{}", out(&output), err(&output));
    }
    let text = out(&driftless(dir.path(), &["check", "repo"]));
    assert!(text.contains("2 clusters, 4 units") && text.contains("0 distinct errors"), "{text}");
}

#[test]
fn what_both_clusters_have_is_said_once_with_file_and_line() {
    let dir = repository(&[("apps/kustomization.yaml", "resources: [map.yaml]\npatches:\n- path: gone.yaml\n")]);
    let output = driftless(dir.path(), &["check", "repo"]);
    let text = out(&output);
    assert_eq!(code(&output), 1, "{text}");
    assert_eq!(text.matches("gone.yaml").count(), 1, "{text}");
    assert!(
        text.contains("ERROR BuildFailed in all 2 clusters") && text.contains("apps/kustomization.yaml:"),
        "{text}"
    );
    let json: serde_json::Value =
        serde_json::from_slice(&driftless(dir.path(), &["check", "repo", "-o", "json"]).stdout).unwrap();
    let finding = &json["findings"][0];
    assert_eq!((finding["code"].as_str(), finding["severity"].as_str()), (Some("BuildFailed"), Some("error")));
    assert_eq!(finding["clusters"], serde_json::json!(["a", "b"]));
    assert_eq!(finding["places"][0]["at"]["file"], "apps/kustomization.yaml");
    assert_eq!(code(&driftless(dir.path(), &["check", "repo", "--fail-on", "never"])), 0);
    assert_eq!(code(&driftless(dir.path(), &["validate"])), 1, "what was not built was not validated");
}

#[test]
fn clusters_are_chosen_by_name_folder_and_pattern() {
    let dir = repository(&[]);
    let clusters = |args: &[&str]| -> Vec<String> {
        let all: Vec<&str> = ["check", "repo", "-o", "json"].iter().chain(args).copied().collect();
        let output = driftless(dir.path(), &all);
        let json: serde_json::Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", err(&output)));
        json["clusters"].as_array().unwrap().iter().map(|c| c["cluster"].as_str().unwrap().to_owned()).collect()
    };
    for (args, expected) in [
        (&[][..], &["a", "b"][..]),
        (&["--cluster", "b"], &["b"]),
        (&["--path", "clusters/a"], &["a"]),
        (&["--path", "clusters/{name}"], &["a", "b"]),
        (&["--path", "clusters/{name}", "--cluster", "b"], &["b"]),
        (&["--path", "clusters/a", "--cluster", "prod"], &["prod"]),
    ] {
        assert_eq!(clusters(args), expected, "{args:?}");
    }
}

#[test]
fn wrong_usage_says_what_is_there() {
    let dir = repository(&[]);
    for (args, expected, part) in [
        (&["check", "repo", "nowhere"][..], 4, "cannot read the folder nowhere"),
        (&["check", "repo", "--cluster", "c"], 4, "found were: a (clusters/a), b (clusters/b)"),
        (&["check", "repo", "--path", "other"], 4, "has no folder \"other\""),
        (&["check", "repo", "--path", "../x"], 2, "leads out of the repository"),
        (&["check", "repo", "--rev", "main"], 2, "lies in no Git repository"),
        (&["check", "repo", "clusters/a/flux-system", "--path", "x/{name}"], 4, "fits no folder"),
        (&["check", "repo", "--source", "x=y"], 2, "NAMESPACE/NAME=FOLDER"),
        (&["check", "repo", "--facts", "facts.yaml"], 4, "cannot read the facts in facts.yaml"),
        (&["check", "repo", "-o", "sarif"], 2, "check repo prints table, json or yaml, not sarif"),
        (&["validate", "-o", "markdown"], 2, "validate prints table, json, yaml, junit or sarif, not markdown"),
        (&["plan", "-o", "sarif"], 2, "plan prints table, json, yaml or markdown, not sarif"),
        (&["build", "-o", "junit", "apps"], 2, "build prints table, json or yaml, not junit"),
        (&["build", "--cluster", "c"], 4, "clusters/a"),
        (&["check", "repo", "--explain", "Nothing"], 2, "there is no code \"Nothing\""),
        (&["validate", "--kubernetes-version", "1.99"], 2, "known are 1.36, 1.35"),
        (&["validate", "--crds", "apps"], 2, "holds no CustomResourceDefinition"),
    ] {
        let output = driftless(dir.path(), args);
        assert_eq!(code(&output), expected, "{args:?}: {}{}", out(&output), err(&output));
        assert!(err(&output).contains(part), "{args:?}: {}", err(&output));
    }
    let empty = tempfile::tempdir().unwrap();
    let output = driftless(empty.path(), &["check", "repo"]);
    assert!(
        code(&output) == 4 && err(&output).contains("no folder that looks like a cluster's root"),
        "{}",
        err(&output)
    );
}

#[test]
fn a_built_folder_is_printed_as_asked() {
    let dir = repository(&[("apps/kustomization.yaml", "resources: [map.yaml]\n")]);
    let output = driftless(dir.path(), &["build", "--root", ".", "-o", "json", "apps"]);
    let json: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", err(&output)));
    let map = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "default"}, "data": {"a": "b"}});
    assert_eq!(json, serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [map]}));
    for format in ["yaml", "table"] {
        assert!(
            out(&driftless(dir.path(), &["build", "--root", ".", "-o", format, "apps"]))
                .starts_with("apiVersion: v1\n")
        );
    }
}

/// What shows findings beside a change knows files from the top of the work tree, wherever the clusters lie.
#[test]
fn sarif_and_junit_name_files_from_the_top_of_the_work_tree() {
    let dir = tempfile::tempdir().unwrap();
    let repository = repository(&[(
        "apps/map.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, namespace: default}\ndata: {a: 5}\n",
    )]);
    std::fs::rename(repository.path(), dir.path().join("gitops")).unwrap();
    let init = Command::new("git").args(["init", "-q", "-b", "main"]).current_dir(dir.path()).status().unwrap();
    assert!(init.success());
    let sarif = out(&driftless(dir.path(), &["validate", "-o", "sarif", "gitops"]));
    assert!(sarif.contains("\"uri\": \"gitops/apps/map.yaml\""), "{sarif}");
    let junit = out(&driftless(dir.path(), &["validate", "-o", "junit", "gitops"]));
    assert!(junit.contains("gitops/apps/map.yaml:4: SchemaWrongType"), "{junit}");
    // For people, as the folder was named.
    let table = out(&driftless(&dir.path().join("gitops"), &["validate"]));
    assert!(table.contains("      apps/map.yaml:4"), "{table}");
}

#[test]
fn handed_through_objects_that_cannot_work_are_errors() {
    let release = "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: r, namespace: default}\nspec:\n  interval: 1m\n  \
        chart: {spec: {chart: c, sourceRef: {kind: HelmRepository, name: charts}}}\n  valuesFrom: [{kind: Secret, name: values}]\n";
    let updates = "apiVersion: image.toolkit.fluxcd.io/v1\nkind: ImageUpdateAutomation\nmetadata: {name: i, namespace: flux-system}\nspec:\n  \
        interval: 1m\n  sourceRef: {kind: GitRepository, name: flux-system}\n  update: {path: ./gone, strategy: Setters}\n  git: {push: {branch: other}}\n";
    let alert = "apiVersion: notification.toolkit.fluxcd.io/v1beta3\nkind: Alert\nmetadata: {name: n, namespace: flux-system}\nspec:\n  \
        providerRef: {name: slack}\n  eventSources: [{kind: Kustomization, name: '*'}]\n---\n\
        apiVersion: notification.toolkit.fluxcd.io/v1beta3\nkind: Provider\nmetadata: {name: slack, namespace: flux-system}\nspec: {type: slack, secretRef: {name: slack-url}}\n";
    let dir = repository(&[("apps/release.yaml", release), ("apps/updates.yaml", updates), ("apps/alert.yaml", alert)]);
    let output = driftless(dir.path(), &["check", "repo"]);
    let text = out(&output);
    assert_eq!(code(&output), 1, "{text}");
    for part in [
        "refers to HelmRepository.source.toolkit.fluxcd.io default/charts (spec.chart.spec.sourceRef), which nothing in Git declares",
        "updates files below \"gone\" (spec.update.path), which is no folder of the source",
        "pushes to branch \"other\", and unit flux-system/apps reads branch \"main\"",
        "listens to Kustomization *",
        "Secret default/values  for HelmRelease, in all 2 clusters",
        "Secret flux-system/slack-url  for Provider",
        "helm-controller",
    ] {
        assert!(text.contains(part), "{part} not in:\n{text}");
    }
    let marked = "a: 1 # {\"$imagepolicy\": \"flux-system:gone\"}\n";
    write(dir.path(), "gone/values.yaml", marked);
    let text = out(&driftless(dir.path(), &["check", "repo"]));
    assert!(text.contains("name ImagePolicy flux-system:gone, which no cluster has"), "{text}");
    let repository = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmRepository\nmetadata: {name: charts, namespace: default}\nspec: {url: 'https://example.org'}\n";
    write(dir.path(), "apps/charts.yaml", repository);
    assert!(
        !out(&driftless(dir.path(), &["check", "repo"]))
            .contains("HelmRepository.source.toolkit.fluxcd.io default/charts")
    );
}

#[test]
fn fields_beyond_flux_are_named_with_what_they_do() {
    let more =
        "  syncInterval: 5m\n  validation: client\n  remediation: {remediate: false, remediationInterval: 10m}\n";
    let dir = repository(&[("clusters/a/apps.yaml", &kustomization("apps", "./apps", more))]);
    let output = driftless(dir.path(), &["check", "repo"]);
    let text = out(&output);
    assert_eq!(code(&output), 0, "{text}");
    for part in [
        "spec.syncInterval is no field of Flux; here it bounds",
        "spec.validation left Flux",
        "drift is shown and left",
        "clusters/a/apps.yaml:9, unit flux-system/apps, a",
    ] {
        assert!(text.contains(part), "{part} not in:\n{text}");
    }
}

#[test]
fn inputs_that_only_a_cluster_has_are_named_and_come_from_a_facts_file() {
    let more = "  postBuild:\n    substituteFrom:\n    - {kind: ConfigMap, name: cluster}\n    - {kind: Secret, name: keys, optional: true}\n";
    let dir = repository(&[
        ("clusters/a/apps.yaml", &kustomization("apps", "./apps", more)),
        (
            "apps/map.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, namespace: default}\ndata: {a: '${REGION}'}\n",
        ),
    ]);
    let run = |args: &[&str]| driftless(dir.path(), &[&["check", "repo", "--cluster", "a"], args].concat());
    let text = out(&run(&[]));
    for part in ["ConfigMap flux-system/cluster", "clusters/a/apps.yaml:11"] {
        assert!(text.contains(part), "{part} not in:\n{text}");
    }
    let output = run(&["--facts-template", "facts/{name}.yaml"]);
    assert!(err(&output).contains("wrote facts/a.yaml"), "{}", err(&output));
    let again = run(&["--facts-template", "facts/{name}.yaml"]);
    assert!(
        code(&again) == 1 && err(&again).contains("facts/a.yaml is there already and is not written over"),
        "{}",
        err(&again)
    );
    let file = dir.path().join("facts/a.yaml");
    let template = std::fs::read_to_string(&file).unwrap();
    for part in [
        "  # for unit flux-system/apps (clusters/a/apps.yaml:11)\n  \"flux-system/cluster\":\n    \"REGION\": FILL_IN\n",
        "# Secret flux-system/keys, for unit flux-system/apps (clusters/a/apps.yaml:12); may be absent; may hold REGION: ",
    ] {
        assert!(template.contains(part), "{part:?} not in:\n{template}");
    }
    let unfilled = run(&["--facts", "facts/{name}.yaml"]);
    assert!(
        code(&unfilled) == 2 && err(&unfilled).contains("REGION of ConfigMap flux-system/cluster is not filled in"),
        "{}",
        err(&unfilled)
    );
    std::fs::write(&file, template.replace("FILL_IN", "north")).unwrap();
    let told = out(&run(&["--facts", "facts/{name}.yaml"]));
    assert!(!told.contains("ConfigMap flux-system/cluster") && told.contains("Secret flux-system/keys"), "{told}");
}

#[test]
fn codes_are_explained_and_their_list_is_the_one_in_the_repository() {
    let dir = tempfile::tempdir().unwrap();
    let one = out(&driftless(dir.path(), &["check", "repo", "--explain", "encrypted"]));
    assert!(one.starts_with("Encrypted (warning)\n  An object that Git holds encrypted"), "{one}");
    let all = out(&driftless(dir.path(), &["check", "repo", "--explain", "-o", "json"]));
    let all: serde_json::Value = serde_json::from_str(&all).unwrap();
    assert!(all.as_array().unwrap().iter().all(|c| c["meaning"].as_str().is_some_and(|m| !m.is_empty())));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("CODES.md");
    let now = driftless_cli::commands::check::explain::markdown();
    if std::env::var_os("UPDATE_CODES").is_some() {
        std::fs::write(&file, &now).unwrap();
    }
    assert!(
        std::fs::read_to_string(&file).unwrap() == now,
        "hub/cli/CODES.md is old: run this test with UPDATE_CODES=1"
    );
}

#[test]
fn findings_of_validate_come_as_junit_and_sarif() {
    let bad = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, namespace: default}\ndata:\n  a: 1\n";
    let thing = "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: t, namespace: default}\n";
    let dir = repository(&[("apps/map.yaml", bad), ("apps/thing.yaml", thing)]);
    let output = driftless(dir.path(), &["validate"]);
    let text = out(&output);
    assert_eq!(code(&output), 1, "{text}");
    assert!(text.contains("apps/map.yaml:5, unit flux-system/apps, all 2 clusters"), "{text}");
    assert!(text.contains("2 objects of 1 kinds were not checked") && text.contains("example.org/v1 Thing"), "{text}");

    let sarif: serde_json::Value =
        serde_json::from_slice(&driftless(dir.path(), &["validate", "-o", "sarif"]).stdout).unwrap();
    let run = &sarif["runs"][0];
    let result = &run["results"][0];
    assert_eq!((sarif["version"].as_str(), result["ruleId"].as_str()), (Some("2.1.0"), Some("SchemaWrongType")));
    assert_eq!(run["tool"]["driver"]["rules"][result["ruleIndex"].as_u64().unwrap() as usize]["id"], "SchemaWrongType");
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(
        (place["artifactLocation"]["uri"].as_str(), place["region"]["startLine"].as_u64()),
        (Some("apps/map.yaml"), Some(5))
    );
    assert_eq!(run["results"][1]["level"], "note");

    let junit = out(&driftless(dir.path(), &["validate", "-o", "junit"]));
    assert!(junit.contains("<testsuites name=\"driftless validate\" tests=\"4\" failures=\"2\""), "{junit}");
    assert!(
        junit.contains("type=\"SchemaWrongType\">apps/map.yaml:5: SchemaWrongType: ConfigMap default/m: data.a"),
        "{junit}"
    );
}

#[test]
fn a_revision_is_checked_without_touching_the_files() {
    let dir = repository(&[]);
    let git = |args: &[&str]| {
        let output = Command::new("git")
            .args(args)
            .current_dir(dir.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("HOME", dir.path())
            .envs([
                ("GIT_AUTHOR_NAME", "a"),
                ("GIT_AUTHOR_EMAIL", "a@b"),
                ("GIT_COMMITTER_NAME", "a"),
                ("GIT_COMMITTER_EMAIL", "a@b"),
            ])
            .output()
            .unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "one"]);
    write(dir.path(), "apps/map.yaml", "kind: [\n");
    assert_eq!(code(&driftless(dir.path(), &["check", "repo"])), 1, "the file on disk is broken");
    let output = driftless(dir.path(), &["check", "repo", "--rev", "HEAD"]);
    assert_eq!(code(&output), 0, "{}{}", out(&output), err(&output));
    assert!(out(&output).contains(" at HEAD@sha1:"), "{}", out(&output));
    assert_eq!(code(&driftless(dir.path(), &["validate", "--rev", "main", "."])), 0);
    let output = driftless(dir.path(), &["check", "repo", "--rev", "gone"]);
    assert!(code(&output) == 4 && err(&output).contains("its branches are main"), "{}", err(&output));
    // A folder inside the work tree is a repository of its own, at a revision too.
    let output = driftless(dir.path(), &["check", "repo", "clusters", "--rev", "HEAD", "--path", "{name}"]);
    assert!(out(&output).contains("2 clusters"), "{}{}", out(&output), err(&output));
}
