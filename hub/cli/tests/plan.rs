//! `driftless plan` from the built program, over repositories that git itself made.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use driftless_render::plan::{Action, ClusterChange, Plan, WarningCode};
use tempfile::TempDir;

/// A repository of three clusters: `dev` and `prod` share a base, `lone` has an app of its own.
struct Repo {
    dir: TempDir,
}

impl Repo {
    fn new() -> Self {
        let repo = Self { dir: tempfile::tempdir().unwrap() };
        repo.git(&["init", "--quiet", "--initial-branch=main"]);
        for cluster in ["dev", "prod", "lone"] {
            let app = if cluster == "lone" { "lone" } else { "web" };
            repo.write(&format!("clusters/{cluster}/app.yaml"), &unit("app", &format!("./apps/{app}"), ""));
        }
        repo.write("apps/web/kustomization.yaml", "namespace: shop\nresources: [deploy.yaml, config.yaml]\n");
        repo.write("apps/web/deploy.yaml", &deployment("web:1"));
        repo.write("apps/web/config.yaml", &config("settings", "colour: blue\nsize: 1\n"));
        repo.write("apps/lone/kustomization.yaml", "namespace: lone\nresources: [config.yaml]\n");
        repo.write("apps/lone/config.yaml", &config("lone", "x: y\n"));
        repo.commit("first");
        repo
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn remove(&self, path: &str) {
        let path = self.path().join(path);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }

    fn git(&self, args: &[&str]) {
        let done = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"])
            .args(args)
            .current_dir(self.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .output()
            .unwrap();
        assert!(done.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn commit(&self, message: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", message]);
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_driftless")).arg("plan").args(args).arg(self.path()).output().unwrap()
    }

    /// Text on stdout, and the exit code.
    fn plan(&self, args: &[&str]) -> (String, i32) {
        let done = self.run(args);
        (String::from_utf8(done.stdout).unwrap(), done.status.code().unwrap())
    }

    /// The plan of the last commit.
    fn json(&self, more: &[&str]) -> Plan {
        let (text, _) = self.plan(&[&["--base", "HEAD~1", "-o", "json"], more].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }
}

fn unit(name: &str, path: &str, more: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata:\n  name: {name}\n  namespace: flux-system\nspec:\n  \
         interval: 10m\n  prune: true\n  path: {path}\n  sourceRef:\n    kind: GitRepository\n    name: flux-system\n{more}"
    )
}

fn deployment(image: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  selector:\n    matchLabels:\n      app: web\n  template:\n    \
         metadata:\n      labels:\n        app: web\n    spec:\n      containers:\n        - name: main\n          image: {image}\n"
    )
}

fn config(name: &str, text: &str) -> String {
    let lines: String = text.lines().map(|l| format!("    {l}\n")).collect();
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n  file: |\n{lines}")
}

#[test]
fn a_change_of_a_base_is_said_once_for_all_clusters() {
    let repo = Repo::new();
    repo.write("apps/web/deploy.yaml", &deployment("web:2"));
    repo.write("apps/web/config.yaml", &config("settings", "colour: red\nsize: 1\n"));
    repo.commit("bump");
    let (text, code) = repo.plan(&["--base", "HEAD~1"]);
    let lines: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(
        lines.join("\n"),
        "\
2 of 3 clusters changed: ~4

unit flux-system/app
  in dev, prod; ~2
  ~ Deployment.apps shop/web  (apps/web/deploy.yaml:1)
      spec.template.spec.containers[name=main].image: web:1 -> web:2
  ~ ConfigMap shop/settings  (apps/web/config.yaml:1)
      data.file:
        -colour: blue
        +colour: red
         size: 1

Not affected: lone"
    );
    assert_eq!(code, 0);
    let (markdown, _) = repo.plan(&["--base", "HEAD~1", "-o", "markdown"]);
    for part in [
        "**2 of 3 clusters changed**; 4 objects changed.",
        "| dev, prod | 1 |  | 2 |",
        "<summary><b>dev, prod</b>",
        "@@ spec.template.spec.containers[name=main].image @@\n-   web:1\n+   web:2",
        "Not affected: lone.",
    ] {
        assert!(markdown.contains(part), "{part} in {markdown}");
    }
}

#[test]
fn the_base_is_where_the_branch_left_the_default_branch() {
    let repo = Repo::new();
    repo.git(&["switch", "--quiet", "--create", "topic"]);
    repo.write("apps/lone/config.yaml", &config("lone", "x: z\n"));
    repo.commit("topic");
    repo.git(&["switch", "--quiet", "main"]);
    repo.write("apps/web/deploy.yaml", &deployment("web:9"));
    repo.commit("main goes on");
    // What is checked out passes for the default branch where no remote says another.
    let (text, code) = repo.plan(&["--head", "topic"]);
    assert!(text.contains("in lone; ~1") && !text.contains("web:9"), "{text}");
    assert_eq!(code, 0);
    let done = repo.run(&[]);
    let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("part of main already") && stderr.contains("--base HEAD~1"), "{stderr}");
}

#[test]
fn the_own_repository_at_a_tag_is_read_from_the_clone() {
    let repo = Repo::new();
    let source = |tag: &str| {
        let object = |name: &str, reference: &str| {
            format!(
                "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: {name}, namespace: flux-system}}\nspec: \
                 {{interval: 1m, url: 'https://example.org/fleet', ref: {{{reference}}}}}\n---\n"
            )
        };
        let pinned = unit("pinned", "./apps/pinned", "").replace("    name: flux-system\n", "    name: pinned\n");
        format!("{}{}{pinned}", object("flux-system", "branch: main"), object("pinned", &format!("tag: {tag}")))
    };
    let promoted = |text: &str| {
        let wanted = config("promoted", text).replace("name: promoted", "name: promoted\n  namespace: shop");
        repo.write("apps/pinned/config.yaml", &wanted);
    };
    promoted("one\n");
    repo.commit("one");
    repo.git(&["tag", "v1"]);
    promoted("two\n");
    repo.commit("two");
    repo.git(&["tag", "v2"]);
    repo.write("clusters/lone/pinned.yaml", &source("v1"));
    repo.commit("at v1");
    repo.write("clusters/lone/pinned.yaml", &source("v2"));
    repo.commit("at v2");
    let (text, code) = repo.plan(&["--base", "HEAD~1", "--cluster", "lone"]);
    for part in ["~ ConfigMap shop/promoted", r#"data.file: "one\n" -> "two\n""#] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(code, 0);
    // A tag that the clone lacks: what is not known is not called unchanged.
    repo.git(&["tag", "--delete", "v1", "v2"]);
    let (text, _) = repo.plan(&["--base", "HEAD~1", "--cluster", "lone"]);
    assert!(text.contains("Nothing changes in 1 cluster, as far as is known"), "{text}");
}

#[test]
fn what_is_not_committed_can_be_planned() {
    let repo = Repo::new();
    let (text, code) = repo.plan(&["--head", "worktree"]);
    assert!(text.contains("Nothing changes in 3 clusters."), "{text}");
    assert_eq!(code, 0);
    repo.write("apps/lone/config.yaml", &config("lone", "x: z\n"));
    let (text, _) = repo.plan(&["--head", "worktree"]);
    assert!(text.contains("to the files on disk") && text.contains("in lone; ~1"), "{text}");
    let (text, _) = repo.plan(&["--head", "worktree", "--cluster", "dev"]);
    assert!(text.contains("Nothing changes in 1 cluster."), "{text}");
}

#[test]
fn a_unit_that_breaks_fails_the_plan_and_hides_no_other() {
    let repo = Repo::new();
    repo.write("apps/web/config.yaml", "a: [\n");
    repo.write("apps/lone/config.yaml", &config("lone", "x: z\n"));
    repo.commit("broken");
    let done = repo.run(&["--base", "HEAD~1"]);
    let (text, stderr) = (String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap());
    assert_eq!(done.status.code(), Some(1));
    assert!(stderr.contains("cannot be built now: flux-system/app"), "{stderr}");
    assert!(text.contains("! dev, prod: unit flux-system/app cannot be built: BuildFailed"), "{text}");
    assert!(text.contains("apps/web/config.yaml"), "{text}");
    assert!(text.contains("becomes held: the cluster keeps what it has"), "{text}");
    assert!(text.contains("in lone; ~1"), "{text}");
    let plan = repo.json(&[]);
    assert_eq!(plan.counts.deletes, 0, "nothing is deleted for what cannot be built");
    // Broken before and after is said, and no failure.
    repo.write("apps/lone/config.yaml", &config("lone", "x: y\n"));
    repo.commit("still broken");
    let (text, code) = repo.plan(&["--base", "HEAD~1"]);
    assert!(
        text.contains(
            "Held before and after (BuildFailed), so whether they change is not known: flux-system/app in dev, prod"
        ),
        "{text}"
    );
    assert_eq!(code, 0);
}

#[test]
fn moves_renames_and_folders_that_leave_are_told_apart() {
    let repo = Repo::new();
    // The ConfigMap of `web` moves to a unit of its own.
    repo.write("apps/web/kustomization.yaml", "namespace: shop\nresources: [deploy.yaml]\n");
    repo.write("apps/settings/kustomization.yaml", "namespace: shop\nresources: [config.yaml]\n");
    repo.git(&["mv", "apps/web/config.yaml", "apps/settings/config.yaml"]);
    repo.write("clusters/dev/settings.yaml", &unit("settings", "./apps/settings", ""));
    repo.write("clusters/prod/settings.yaml", &unit("settings", "./apps/settings", ""));
    repo.commit("move");
    let plan = repo.json(&[]);
    assert_eq!((plan.counts.moves, plan.counts.deletes, plan.counts.creates), (2, 0, 0));
    let (text, _) = repo.plan(&["--base", "HEAD~1", "--fail-on", "deletes"]);
    assert!(text.contains("> ConfigMap shop/settings  moves here from unit flux-system/app"), "{text}");
    // A Kustomization gets another name.
    repo.remove("clusters/dev/app.yaml");
    repo.write("clusters/dev/shop.yaml", &unit("shop", "./apps/web", ""));
    repo.commit("rename");
    let plan = repo.json(&[]);
    assert_eq!((plan.counts.moves, plan.counts.deletes, plan.counts.creates), (1, 0, 0));
    assert!(plan.groups[0].plan.units.iter().any(|u| u.renamed_from.is_some()));
    // A folder leaves, and the unit that names it stays: that is no delete.
    repo.remove("apps/lone");
    repo.commit("folder");
    let (text, code) = repo.plan(&["--base", "HEAD~1"]);
    assert!(text.contains("PathNotFound") && !text.contains("deleted  ("), "{text}");
    assert_eq!(code, 1);
    // The unit leaves: that is one.
    repo.remove("clusters/lone/app.yaml");
    repo.write("clusters/lone/kustomization.yaml", "resources: []\n");
    repo.commit("unit");
    let plan = repo.json(&[]);
    assert!(plan.groups[0].plan.warnings.iter().any(|w| w.code == WarningCode::UnknownDeletes), "{plan:?}");
    let (text, _) = repo.plan(&["--base", "HEAD~2"]);
    assert!(text.contains("- ConfigMap lone/lone  deleted"), "{text}");
}

#[test]
fn pipelines_choose_what_they_do_not_let_pass() {
    let repo = Repo::new();
    repo.write("apps/web/kustomization.yaml", "namespace: shop\nresources: [deploy.yaml]\n");
    repo.commit("one less");
    for (condition, code) in [("deletes", 1), ("held", 0), ("warnings", 0), ("held,deletes", 1)] {
        assert_eq!(repo.plan(&["--base", "HEAD~1", "--fail-on", condition]).1, code, "{condition}");
    }
    repo.write("apps/lone/ns.yaml", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: lone\n");
    repo.write("apps/lone/kustomization.yaml", "namespace: lone\nresources: [config.yaml, ns.yaml]\n");
    repo.commit("a namespace");
    for condition in ["deletes", "held", "warnings"] {
        assert_eq!(repo.plan(&["--base", "HEAD", "--head", "HEAD~1", "--fail-on", condition]).1, 1, "{condition}");
        assert_eq!(repo.plan(&["--base", "HEAD~1", "--fail-on", condition]).1, 0, "{condition}");
    }
}

#[test]
fn a_variable_changes_every_object_that_uses_it() {
    let repo = Repo::new();
    let settings = |value: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\n  namespace: flux-system\ndata:\n  tag: \"{value}\"\n"
        )
    };
    let from = "  postBuild:\n    substituteFrom:\n      - kind: ConfigMap\n        name: settings\n";
    repo.write("clusters/prod/settings.yaml", &settings("5"));
    repo.write("clusters/prod/app.yaml", &unit("app", "./apps/web", from));
    repo.write("clusters/dev/app.yaml", &unit("app", "./apps/web", from));
    repo.write("apps/web/deploy.yaml", &deployment("web:${tag}"));
    repo.commit("variables");
    repo.write("clusters/prod/settings.yaml", &settings("6"));
    repo.commit("another value");
    // `dev` gets its value from the cluster alone.
    let (text, code) = repo.plan(&["--base", "HEAD~1"]);
    assert!(text.contains("image: web:5 -> web:6"), "{text}");
    assert!(text.contains("Not affected: dev, lone"), "{text}");
    assert_eq!(code, 0);
    let facts = tempfile::tempdir().unwrap();
    let file = |tag: &str| format!("configMaps:\n  flux-system/settings:\n    tag: \"{tag}\"\n");
    fs::write(facts.path().join("dev.yaml"), file("8")).unwrap();
    repo.write("apps/web/deploy.yaml", &deployment("other:${tag}"));
    repo.commit("image");
    let (text, _) = repo.plan(&["--base", "HEAD~1"]);
    assert!(text.contains("web:${tag} -> other:${tag}"), "{text}");
    let (text, _) = repo.plan(&["--base", "HEAD~1", "--facts", facts.path().to_str().unwrap()]);
    assert!(text.contains("web:8 -> other:8") && text.contains("web:6 -> other:6"), "{text}");
}

#[test]
fn clusters_come_and_go() {
    let repo = Repo::new();
    repo.write("clusters/fresh/app.yaml", &unit("app", "./apps/lone", ""));
    repo.remove("clusters/prod");
    repo.commit("clusters");
    let plan = repo.json(&[]);
    let change = |name: &str| {
        let group = plan.groups.iter().find(|g| g.clusters.iter().any(|c| c.as_str() == name)).unwrap();
        (group.plan.change, group.plan.counts.deletes)
    };
    assert_eq!(change("fresh"), (ClusterChange::New, 0));
    assert_eq!(change("prod"), (ClusterChange::Gone, 0));
    let (text, code) = repo.plan(&["--base", "HEAD~1"]);
    assert!(text.contains("its root clusters/prod left Git: nothing is deleted for that"), "{text}");
    assert_eq!(code, 0);
    let (text, _) = repo.plan(&["--base", "HEAD~1", "--cluster", "fresh", "--objects"]);
    assert!(text.contains("+ ConfigMap lone/lone") && text.contains("+kind: ConfigMap"), "{text}");
}

#[test]
fn no_secret_is_printed_in_any_format() {
    let repo = Repo::new();
    let secret = |value: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\n  annotations:\n    note: CANARY-note-{value}\nstringData:\n  password: CANARY-{value}\n"
        )
    };
    repo.write("apps/web/kustomization.yaml", "namespace: shop\nresources: [deploy.yaml, secret.yaml]\nsecretGenerator:\n  - name: made\n    literals: [k=CANARY-one]\n");
    repo.write("apps/web/secret.yaml", &secret("one"));
    repo.commit("secrets");
    repo.write("apps/web/kustomization.yaml", "namespace: shop\nresources: [deploy.yaml, secret.yaml]\nsecretGenerator:\n  - name: made\n    literals: [k=CANARY-two]\n");
    repo.write("apps/web/secret.yaml", &secret("two"));
    repo.commit("other secrets");
    for base in ["HEAD~1", "HEAD~2"] {
        for format in ["table", "markdown", "json", "yaml"] {
            let done = repo.run(&["--base", base, "-o", format, "--objects"]);
            for text in [&done.stdout, &done.stderr] {
                let text = String::from_utf8_lossy(text);
                // Plain, and the head of its base64 form.
                assert!(!text.contains("CANARY") && !text.contains("Q0FOQVJZ"), "{base} {format}: {text}");
            }
            assert!(String::from_utf8_lossy(&done.stdout).contains("redacted:"), "{base} {format}");
        }
    }
    let plan = repo.json(&[]);
    let objects = plan.groups.iter().flat_map(|g| &g.plan.units).flat_map(|u| &u.objects);
    let mut actions: Vec<(Action, &str)> = objects.map(|o| (o.action, o.key.kind.as_str())).collect();
    actions.sort();
    assert_eq!(actions, [(Action::Change, "Secret"), (Action::Replace, "Secret")]);
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    let repo = Repo::new();
    for (args, code, words) in [
        (&["--base", "nowhere"][..], 4, "nowhere"),
        (&["--base", "HEAD", "--cluster", "nope"], 4, "found were: dev (clusters/dev)"),
        (&["--base", "HEAD", "--fail-on", "anything"], 2, "possible values"),
        (&["--base", "HEAD", "--head", "HEAD", "-o", "markdown", "--max-length", "x"], 2, "--max-length"),
    ] {
        let done = repo.run(args);
        let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(words), "{args:?}: {stderr}");
    }
    let plain = tempfile::tempdir().unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_driftless"))
        .args(["plan", "--base", "HEAD"])
        .arg(plain.path())
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(2), "{}", String::from_utf8_lossy(&done.stderr));
    let (text, code) = repo.plan(&["--base", "HEAD", "--head", "HEAD"]);
    assert!(text.contains("Nothing changes in 3 clusters."), "{text}");
    assert_eq!(code, 0);
}

/// A folder that comes with the change holds nothing before it.
#[test]
fn a_folder_that_the_base_lacks_is_new() {
    let repo = Repo::new();
    for folder in ["clusters", "apps"] {
        fs::create_dir_all(repo.path().join("new")).unwrap();
        let to = format!("new/{folder}");
        let copy = Command::new("cp").args(["-r", folder, &to]).current_dir(repo.path()).status();
        assert!(copy.unwrap().success());
    }
    repo.commit("second");
    let run = |args: &[&str]| {
        let folder = repo.path().join("new");
        Command::new(env!("CARGO_BIN_EXE_driftless")).arg("plan").args(args).arg(folder).output().unwrap()
    };
    let done = run(&["--base", "HEAD~1", "-o", "json"]);
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    let plan: Plan = serde_json::from_slice(&done.stdout).unwrap();
    assert!(plan.groups.iter().all(|g| g.plan.change == ClusterChange::New), "{plan:?}");
    assert_eq!((plan.counts.deletes, plan.groups.iter().map(|g| g.clusters.len()).sum::<usize>()), (0, 3));
    // A revision that is not there is no folder that is not there.
    assert_eq!(run(&["--base", "nowhere"]).status.code(), Some(4));
}

/// What pipelines clone: the newest commit only. And a repository that is not read is no hindrance to its files.
#[test]
fn clones_that_lack_something_say_what() {
    let repo = Repo::new();
    repo.write("apps/lone/config.yaml", &config("lone", "x: z\n"));
    repo.commit("second");
    let place = tempfile::tempdir().unwrap();
    let git = |args: &[&str]| {
        assert!(Command::new("git").args(args).current_dir(place.path()).status().unwrap().success(), "{args:?}");
    };
    let driftless = |args: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_driftless")).args(args).current_dir(place.path()).output().unwrap();
        (String::from_utf8(done.stderr).unwrap(), done.status.code().unwrap())
    };
    git(&["clone", "-q", "--depth", "1", &format!("file://{}", repo.path().display()), "shallow"]);
    for args in [&["plan", "shallow"][..], &["plan", "--base", "HEAD~1", "shallow"]] {
        let (text, code) = driftless(args);
        assert!(code != 0 && text.contains("shallow") && text.contains("fetch-depth: 0"), "{text}");
    }
    git(&["init", "-q", "--object-format=sha256", "other"]);
    for folder in ["clusters", "apps"] {
        let copy = Command::new("cp").arg("-r").arg(repo.path().join(folder)).arg(place.path().join("other")).status();
        assert!(copy.unwrap().success());
    }
    let (text, code) = driftless(&["validate", "--namespace", "shop", "--namespace", "lone", "other"]);
    assert_eq!(code, 0, "{text}");
    let (text, code) = driftless(&["validate", "--rev", "HEAD", "other"]);
    assert!(code == 1 && text.contains("SHA-256") && text.contains("files on disk"), "{text}");
}
