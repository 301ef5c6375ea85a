//! Plans of real renders: one rule a case, and a property over random commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driftless_protocol::id::{Revision, UnitId};
use driftless_protocol::marks;
use driftless_protocol::object::ObjectKey;
use proptest::prelude::*;
use serde_json::Value;

use super::testing::apply;
use super::*;
use crate::flux::{RenderState, RenderedCluster, render_cluster};
use crate::target::{GitRef, SourceSet, SourceTree, Target};
use crate::tree::MemTree;

type Files = BTreeMap<String, String>;

fn render(files: &Files) -> RenderedCluster {
    let mut tree = MemTree::new();
    for (path, text) in files {
        tree.insert(path.as_str(), text.as_bytes().to_vec());
    }
    let sources = SourceSet::new(SourceTree {
        id: "flux-system/flux-system".into(),
        tree: Arc::new(tree),
        revision: Revision { reference: "main".into(), commit: "1".repeat(40) },
        url: "https://example.org/fleet".into(),
        reference: GitRef::Branch("main".into()),
    });
    render_cluster(&sources, &Target::new("c".parse().unwrap()))
}

fn plan(base: &Files, head: &Files) -> ClusterPlan {
    plan_cluster(Some(&render(base)), Some(&render(head)), &Redactor::new([1; 32]))
}

fn kustomization(name: &str, more: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: flux-system}}\nspec:\n  \
         interval: 10m\n  prune: true\n  path: ./apps/{name}\n  sourceRef: {{kind: GitRepository, name: flux-system}}\n  {more}\n"
    )
}

fn config(name: &str, value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: shop}}\ndata: {{k: '{value}'}}\n")
}

fn deployment(name: &str, image: &str, app: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  selector: {{matchLabels: {{app: {app}}}}}\n  \
         template:\n    metadata: {{labels: {{app: {app}}}}}\n    spec:\n      containers: [{{name: main, image: '{image}'}}]\n"
    )
}

/// Two units: `a` with a Deployment and a ConfigMap, `b` with a ConfigMap.
fn repository() -> Files {
    let file = |path: &str, text: String| (path.to_owned(), text);
    Files::from([
        file("clusters/c/a.yaml", kustomization("a", "")),
        file("clusters/c/b.yaml", kustomization("b", "")),
        file("apps/a/deploy.yaml", deployment("web", "web:1", "web")),
        file("apps/a/config.yaml", config("one", "1")),
        file("apps/b/config.yaml", config("two", "2")),
    ])
}

fn with(edits: &[(&str, Option<String>)]) -> Files {
    changed(repository(), edits)
}

fn changed(mut files: Files, edits: &[(&str, Option<String>)]) -> Files {
    for (path, text) in edits {
        match text {
            Some(text) => drop(files.insert((*path).to_owned(), text.clone())),
            None => assert!(files.remove(*path).is_some(), "{path} is there"),
        }
    }
    files
}

/// A plan in a few lines: units with states, objects with actions and fields, warnings by code.
fn lines(plan: &ClusterPlan) -> Vec<String> {
    let mut out = Vec::new();
    for unit in &plan.units {
        let mut line = format!("unit {}", unit.unit.name);
        if unit.state.before != unit.state.after {
            line += &format!(" {} > {}", unit.state.before.as_str(), unit.state.after.as_str());
        }
        for (word, other) in [("was", &unit.renamed_from), ("now", &unit.renamed_to)] {
            line += &other.as_ref().map(|o| format!(" {word} {}", o.name)).unwrap_or_default();
        }
        out.push(line);
        for option in &unit.options {
            let side = |v: &Option<Value>| v.as_ref().map_or_else(|| "-".to_owned(), Value::to_string);
            out.push(format!("  {}: {} > {}", option.name, side(&option.old), side(&option.new)));
        }
        for object in &unit.objects {
            let mut line = format!("  {:?} {}", object.action, object.key);
            line += &object.moved_from.as_ref().map(|u| format!(" from {}", u.name)).unwrap_or_default();
            line += &object.options.iter().map(|o| format!(" ({})", o.name)).collect::<String>();
            line += &object.fate.as_ref().map(|f| format!(" {:?}", f.is)).unwrap_or_default();
            for field in &object.fields {
                let ignored = if field.ignored { " (ignored)" } else { "" };
                line += &format!(" {}{}{ignored}", field.path, if field.follows.is_some() { " (follows)" } else { "" });
            }
            for found in &object.immutable {
                line += &format!(" !{} {:?}", found.path, found.outcome);
            }
            out.push(line);
        }
        out.extend(unit.leaving.iter().map(|l| format!("  leaves {} to {}", l.key, l.to.name)));
        out.extend(unit.withheld.iter().map(|w| format!("  withheld {} {:?}", w.key, w.change)));
    }
    out.extend(plan.held_in_both.iter().map(|h| format!("held in both {}", h.unit.name)));
    out.extend(plan.warnings.iter().map(|w| format!("warning {}", w.code.as_str())));
    out
}

#[test]
fn each_kind_of_change_is_planned_as_the_agent_would_act() {
    let config_file = |name: &str, value: &str| Some(config(name, value));
    let broken = Some("a: [".to_owned());
    let cases: &[(&str, Files, Files, &[&str])] = &[
        ("nothing", repository(), with(&[("README.md", Some("x".into()))]), &[]),
        ("a comment", repository(), with(&[("apps/a/config.yaml", Some(format!("# x\n{}", config("one", "1"))))]), &[]),
        (
            "an ignore rule alone",
            repository(),
            with(&[("clusters/c/b.yaml", Some(kustomization("b", "ignore: [{paths: [/data/k]}]")))]),
            &["unit b", "  Change ConfigMap shop/two (ignore)"],
        ),
        (
            "a field that is left to others",
            with(&[("clusters/c/b.yaml", Some(kustomization("b", "ignore: [{paths: [/data/k]}]")))]),
            with(&[
                ("clusters/c/b.yaml", Some(kustomization("b", "ignore: [{paths: [/data/k]}]"))),
                ("apps/b/config.yaml", config_file("two", "3")),
            ]),
            &["unit b", "  Change ConfigMap shop/two data.k (ignored)"],
        ),
        (
            "a field",
            repository(),
            with(&[("apps/a/deploy.yaml", Some(deployment("web", "web:2", "web")))]),
            &["unit a", "  Change Deployment.apps shop/web spec.template.spec.containers[name=main].image"],
        ),
        (
            "an object more, one less",
            repository(),
            with(&[("apps/a/config.yaml", config_file("new", "1"))]),
            &["unit a", "  Create ConfigMap shop/new", "  Delete ConfigMap shop/one Deleted"],
        ),
        (
            "an object moves, and changes",
            repository(),
            with(&[("apps/a/config.yaml", None), ("apps/b/more.yaml", config_file("one", "9"))]),
            &["unit a", "  leaves ConfigMap shop/one to b", "unit b", "  Move ConfigMap shop/one from a data.k"],
        ),
        (
            "a unit is renamed",
            repository(),
            with(&[("clusters/c/b.yaml", Some(kustomization("new", "").replace("./apps/new", "./apps/b")))]),
            &["unit b built > absent now new", "unit new absent > built was b", "  Move ConfigMap shop/two from b"],
        ),
        (
            "a unit leaves",
            repository(),
            with(&[("clusters/c/b.yaml", None)]),
            &["unit b built > absent", "  Delete ConfigMap shop/two Deleted"],
        ),
        (
            "a unit leaves and prunes nothing",
            with(&[("clusters/c/b.yaml", Some(kustomization("b", "").replace("prune: true", "prune: false")))]),
            with(&[("clusters/c/b.yaml", None)]),
            &["unit b built > absent", "  Delete ConfigMap shop/two LeftAlone", "warning orphaned"],
        ),
        (
            "a unit breaks while another loses an object",
            repository(),
            with(&[("apps/b/config.yaml", broken.clone()), ("apps/a/config.yaml", None)]),
            &[
                "unit a",
                "  Delete ConfigMap shop/one Waits",
                "unit b built > held",
                "warning unitBreaks",
                "warning deletesWait",
            ],
        ),
        (
            "a unit stays broken",
            with(&[("apps/b/config.yaml", broken.clone())]),
            with(&[("apps/b/config.yaml", Some("b: [".into()))]),
            &["held in both b"],
        ),
        (
            "a unit is mended",
            with(&[("apps/b/config.yaml", broken.clone())]),
            repository(),
            &["unit b held > built", "  Apply ConfigMap shop/two"],
        ),
        (
            "a broken unit leaves",
            with(&[("apps/b/config.yaml", broken.clone())]),
            with(&[("clusters/c/b.yaml", None), ("apps/b/config.yaml", broken.clone())]),
            &["unit b held > absent", "warning unknownDeletes"],
        ),
        (
            "a new unit is broken",
            repository(),
            with(&[("clusters/c/d.yaml", Some(kustomization("d", "")))]),
            &["unit d absent > held", "warning newUnitHeld"],
        ),
        (
            "a unit is suspended",
            repository(),
            with(&[("clusters/c/b.yaml", Some(kustomization("b", "suspend: true")))]),
            &["unit b built > suspended"],
        ),
        (
            "a unit is resumed",
            with(&[("clusters/c/b.yaml", Some(kustomization("b", "suspend: true")))]),
            repository(),
            &["unit b suspended > built", "  Apply ConfigMap shop/two"],
        ),
        (
            "options",
            repository(),
            with(&[(
                "clusters/c/b.yaml",
                Some(
                    kustomization("b", "dependsOn: [{name: a}]\n  force: true\n  timeout: 1m")
                        .replace("prune: true", "prune: false"),
                ),
            )]),
            &[
                "unit b",
                "  dependsOn: - > [\"flux-system/a\"]",
                "  force: false > true",
                "  prune: true > false",
                "  timeoutSeconds: 570 > 60",
                "warning pruneChanged",
                "warning forceOn",
            ],
        ),
        (
            "an immutable field",
            repository(),
            with(&[("apps/a/deploy.yaml", Some(deployment("web", "web:1", "other")))]),
            &[
                "unit a",
                "  Change Deployment.apps shop/web spec.selector.matchLabels.app spec.template.metadata.labels.app !spec.selector Refused",
                "warning immutableRefused",
            ],
        ),
        (
            "an immutable field, with force on the object",
            repository(),
            with(&[(
                "apps/a/deploy.yaml",
                Some(deployment("web", "web:1", "other").replace(
                    "namespace: shop}",
                    "namespace: shop, annotations: {kustomize.toolkit.fluxcd.io/force: enabled}}",
                )),
            )]),
            &[
                "unit a",
                "  Change Deployment.apps shop/web (force) metadata.annotations spec.selector.matchLabels.app spec.template.metadata.labels.app !spec.selector Recreated",
                "warning immutableRecreated",
            ],
        ),
        (
            "a protected kind leaves",
            with(&[("apps/b/ns.yaml", Some("apiVersion: v1\nkind: Namespace\nmetadata: {name: n}\n".into()))]),
            repository(),
            &["unit b", "  Delete Namespace n NeedsApproval", "warning deletesHeld"],
        ),
        (
            "a unit of nothing",
            repository(),
            with(&[("apps/b/kustomization.yaml", Some("resources: []\n".into()))]),
            &["unit b", "  Delete ConfigMap shop/two NeedsApproval", "warning deletesHeld", "warning newProblem"],
        ),
        (
            "an object becomes encrypted",
            repository(),
            with(&[("apps/b/config.yaml", config_file("two", "ENC[AES256_GCM,data:x]"))]),
            &["unit b", "  withheld ConfigMap shop/two NoLongerSent", "warning notSent"],
        ),
        (
            "an encrypted object changes",
            with(&[("apps/b/config.yaml", config_file("two", "ENC[AES256_GCM,data:x]"))]),
            with(&[("apps/b/config.yaml", config_file("two", "ENC[AES256_GCM,data:y]"))]),
            &["unit b", "  withheld ConfigMap shop/two Content"],
        ),
    ];
    for (name, base, head, expected) in cases {
        assert_eq!(lines(&plan(base, head)), *expected, "{name}");
    }
}

#[test]
fn a_variable_beside_what_only_the_cluster_knows_is_seen() {
    let files = |tag: &str, label: &str| {
        let build = format!(
            "postBuild: {{substituteFrom: [{{kind: ConfigMap, name: only-there}}], substitute: {{tag: '{tag}'}}}}"
        );
        let more = format!("commonMetadata: {{labels: {{l: {label}}}}}\n  {build}");
        with(&[
            ("clusters/c/a.yaml", Some(kustomization("a", &more))),
            ("apps/a/deploy.yaml", Some(deployment("web", "${registry}/web:${tag}", "web"))),
        ])
    };
    let bump = plan(&files("1", "x"), &files("2", "x"));
    assert_eq!(
        lines(&bump),
        [
            "unit a",
            "  variable tag: \"1\" > \"2\"",
            "  Change Deployment.apps shop/web spec.template.spec.containers[name=main].image",
        ]
    );
    let field = &bump.units[0].objects[0].fields[0];
    assert_eq!(field.new, Some("${registry}/web:2".into()));
    let label = plan(&files("1", "x"), &files("1", "y"));
    assert!(label.units[0].objects.iter().any(|o| o.key.name == "web"), "{:?}", lines(&label));
}

#[test]
fn generated_names_are_replaced_and_what_refers_to_them_follows() {
    let files = |value: &str, prune: bool| {
        let kustomize = format!(
            "resources: [deploy.yaml]\nconfigMapGenerator: [{{name: settings, namespace: shop, literals: [k={value}, same=x]}}]\nsecretGenerator: [{{name: key, namespace: shop, literals: [k=CANARY{value}]}}]\n"
        );
        let deploy = deployment("web", "web:1", "web").replace(
            "containers:",
            "volumes: [{name: s, configMap: {name: settings}}, {name: k, secret: {secretName: key}}]\n      containers:",
        );
        let unit = kustomization("a", "").replace("prune: true", &format!("prune: {prune}"));
        with(&[
            ("apps/a/kustomization.yaml", Some(kustomize)),
            ("apps/a/deploy.yaml", Some(deploy)),
            ("clusters/c/a.yaml", Some(unit)),
        ])
    };
    for prune in [true, false] {
        let plan = plan(&files("1", prune), &files("2", prune));
        let unit = &plan.units[0];
        assert_eq!(plan.warnings, [], "an old generated object is nobody's concern");
        assert_eq!((unit.counts.replaces, unit.counts.creates, unit.counts.deletes), (2, 0, 0));
        let object = |kind: &str| unit.objects.iter().find(|o| o.key.kind == kind).unwrap();
        let fields = |kind: &str| object(kind).fields.iter().map(|f| f.path.to_string()).collect::<Vec<_>>();
        assert_eq!(fields("ConfigMap"), ["data.k"]);
        assert_eq!(fields("Secret"), ["data.k"]);
        let web = object("Deployment");
        assert!(web.fields.len() == 2 && web.fields.iter().all(|f| f.follows.is_some()), "{:?}", web.fields);
        let fate = object("ConfigMap").fate.as_ref().unwrap();
        assert_eq!(fate.is, if prune { FateKind::Deleted } else { FateKind::LeftAlone });
        let text = serde_json::to_string(&plan).unwrap();
        assert!(!text.contains("CANARY") && !text.contains("Q0FOQVJZ"), "{text}");
        assert!(text.contains("redacted:"), "{text}");
    }
}

#[test]
fn many_deletes_wait_all_together() {
    let many = |n: usize| {
        let all: Vec<String> = (0..n).map(|i| config(&format!("m{i}"), "x")).collect();
        with(&[("apps/b/many.yaml", Some(all.join("---\n")))])
    };
    for (n, waits) in [(20, false), (21, true)] {
        let plan = plan(&many(n), &repository());
        let expected = if waits { (0, n) } else { (n, 0) };
        assert_eq!((plan.counts.deletes, plan.counts.approvals), expected);
        let codes: Vec<_> = plan.warnings.iter().map(|w| w.code).collect();
        assert_eq!(codes, if waits { vec![WarningCode::DeletesHeld] } else { vec![] });
    }
}

#[test]
fn a_cluster_that_comes_creates_and_one_that_goes_loses_nothing() {
    let rendered = render(&repository());
    let redactor = Redactor::new([1; 32]);
    let new = plan_cluster(None, Some(&rendered), &redactor);
    assert_eq!((new.change, new.counts.creates, new.counts.warnings), (ClusterChange::New, 3, 0));
    let gone = plan_cluster(Some(&rendered), None, &redactor);
    assert_eq!((gone.change, gone.counts.deletes, gone.counts.kept), (ClusterChange::Gone, 0, 3));
    assert_eq!(gone.warnings[0].code, WarningCode::ClusterGone);
}

#[test]
fn equal_plans_are_said_once() {
    let redactor = Redactor::new([1; 32]);
    let plan_of = |head: &Files| plan_cluster(Some(&render(&repository())), Some(&render(head)), &redactor);
    let bump = |image: &str, shift: &str| {
        with(&[("apps/a/deploy.yaml", Some(format!("{shift}{}", deployment("web", image, "web"))))])
    };
    let name = |n: &str| n.parse().unwrap();
    let plan = Plan::of(
        PlanRevision { name: "a".into(), commit: None },
        PlanRevision { name: "b".into(), commit: Some("1".repeat(40)) },
        vec![
            (name("d"), plan_of(&repository())),
            (name("b"), plan_of(&bump("web:2", "# one line down\n"))),
            (name("a"), plan_of(&bump("web:2", ""))),
            (name("c"), plan_of(&bump("web:3", ""))),
        ],
    );
    let groups: Vec<Vec<&str>> = plan.groups.iter().map(|g| g.clusters.iter().map(|c| c.as_str()).collect()).collect();
    assert_eq!(groups, [vec!["a", "b"], vec!["c"]]);
    assert_eq!(plan.unaffected.len(), 1);
    assert_eq!(plan.counts.changes, 3);
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(serde_json::from_value::<Plan>(json).unwrap(), plan, "its JSON reads back");
}

const PATHS: &[&str] = &[
    "clusters/c/a.yaml",
    "clusters/c/b.yaml",
    "clusters/c/d.yaml",
    "apps/a/kustomization.yaml",
    "apps/a/deploy.yaml",
    "apps/a/config.yaml",
    "apps/b/kustomization.yaml",
    "apps/b/config.yaml",
    "apps/d/config.yaml",
];

fn texts() -> Vec<String> {
    vec![
        kustomization("a", ""),
        kustomization("b", "targetNamespace: other"),
        kustomization("d", ""),
        kustomization("d", "").replace("./apps/d", "./apps/b"),
        kustomization("b", "suspend: true"),
        config("one", "7"),
        config("two", "8"),
        format!("{}---\n{}", config("one", "7"), config("three", "9")),
        deployment("web", "web:2", "web"),
        deployment("web", "web:2", "other").replace("[{name: main", "[{name: side, image: s}, {name: main"),
        "resources: [config.yaml]\nconfigMapGenerator: [{name: gen, namespace: shop, literals: [k=1]}]\n".into(),
        "resources: [config.yaml]\nconfigMapGenerator: [{name: gen, namespace: shop, literals: [k=2, l=1]}]\n".into(),
        "resources: []\n".into(),
        "a: [".into(),
    ]
}

fn files() -> impl Strategy<Value = Files> {
    let edit = (0..PATHS.len(), proptest::option::weighted(0.8, 0..texts().len()));
    proptest::collection::vec(edit, 0..7).prop_map(|edits| {
        let mut files = repository();
        for (path, text) in edits {
            match text {
                Some(text) => drop(files.insert(PATHS[path].to_owned(), texts()[text].clone())),
                None => drop(files.remove(PATHS[path])),
            }
        }
        files
    })
}

#[test]
fn a_namespace_that_the_api_server_drops_is_no_other_object() {
    let role = |namespace: &str| {
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: r{namespace}}}\nrules: []\n"
        )
    };
    let before = with(&[("apps/b/r.yaml", Some(role(", namespace: shop")))]);
    let after = with(&[("apps/b/r.yaml", Some(role("")))]);
    assert_eq!(
        lines(&plan(&before, &after)),
        ["unit b", "  Change ClusterRole.rbac.authorization.k8s.io r metadata.namespace"]
    );
}

fn objects(rendered: &RenderedCluster) -> BTreeMap<ObjectKey, Value> {
    let all = rendered.units.iter().flat_map(|u| u.objects());
    all.map(|o| (o.key.clone(), serde_json::from_slice(&o.bytes).unwrap())).collect()
}

fn own(object: &mut Value, unit: &UnitId) {
    let labels = object["metadata"]["labels"].as_object_mut().unwrap();
    for (label, value) in [
        (marks::FLUX_OWNER_NAME, unit.name.clone()),
        (marks::FLUX_OWNER_NAMESPACE, unit.namespace.clone()),
        (marks::UNIT_LABEL, unit.label().to_string()),
    ] {
        labels.insert(label.to_owned(), value.into());
    }
}

/// Does to a set of objects what a plan says, as a cluster that approves everything would.
fn carry_out(plan: &ClusterPlan, objects: &mut BTreeMap<ObjectKey, Value>) {
    for unit in &plan.units {
        for object in &unit.objects {
            match object.action {
                Action::Create | Action::Apply => {
                    objects.insert(object.key.clone(), object.object.as_ref().unwrap().value());
                }
                Action::Change | Action::Move | Action::Replace => {
                    let before = object.was.as_ref().unwrap_or(&object.key);
                    let mut value = objects.remove(before).expect("what changes was there");
                    object.fields.iter().for_each(|change| apply(&mut value, change));
                    value["metadata"]["name"] = object.key.name.as_str().into();
                    own(&mut value, &unit.unit);
                    objects.insert(object.key.clone(), value);
                }
                Action::Delete => assert!(objects.remove(&object.key).is_some(), "what left was there"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn what_the_cluster_has_and_the_plan_give_what_git_wants(before in files(), after in files()) {
        let (base, head) = (render(&before), render(&after));
        let plan = plan_cluster(Some(&base), Some(&head), &Redactor::new([1; 32]));
        let mut have = objects(&base);
        carry_out(&plan, &mut have);
        // Besides what Git wants there is what units keep that are held or suspended now, and what is only withheld.
        let withheld: BTreeSet<&ObjectKey> = head.units.iter().flat_map(|u| u.withheld()).map(|w| &w.key).collect();
        let mut want = objects(&head);
        for unit in &base.units {
            let now = head.unit(&unit.id).map(|u| &u.state);
            let keeps = matches!(now, Some(RenderState::Held { .. } | RenderState::Suspended { .. }));
            for object in unit.objects().iter().filter(|o| keeps || withheld.contains(&o.key)) {
                let value = || serde_json::from_slice(&object.bytes).unwrap();
                want.entry(object.key.clone()).or_insert_with(value);
            }
        }
        prop_assert_eq!(have, want, "{:#?}", lines(&plan));
    }

    #[test]
    fn a_plan_of_equal_revisions_is_empty(files in files()) {
        let rendered = render(&files);
        let plan = plan_cluster(Some(&rendered), Some(&rendered), &Redactor::new([1; 32]));
        prop_assert!(plan.is_empty(), "{:#?}", lines(&plan));
    }
}

/// A version of a definition that ends while Git has objects in it, or while objects are stored in it.
#[test]
fn versions_of_definitions_that_end_are_named() {
    let definition = |versions: &str| {
        format!(
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: foos.x.io}}\n\
             spec: {{group: x.io, names: {{kind: Foo, plural: foos}}, scope: Cluster, versions: [{versions}]}}\n"
        )
    };
    let version = |name: &str, served: bool, stored: bool| {
        format!("{{name: {name}, served: {served}, storage: {stored}, schema: {{openAPIV3Schema: {{type: object}}}}}}")
    };
    let foo = |version: &str| format!("apiVersion: x.io/{version}\nkind: Foo\nmetadata: {{name: foo}}\n");
    let with = |versions: &[String], object: &str| {
        let mut files = repository();
        files.insert("apps/a/definition.yaml".to_owned(), definition(&versions.join(", ")));
        files.insert("apps/b/foo.yaml".to_owned(), foo(object));
        files
    };
    let both = [version("v1", true, true), version("v2", true, false)];
    let found = |versions: &[String], object: &str| -> Vec<String> {
        let plan = plan(&with(&both, "v1"), &with(versions, object));
        plan.warnings.into_iter().filter(|w| w.code == WarningCode::VersionEnds).map(|w| w.message).collect()
    };
    let stored =
        "CustomResourceDefinition.apiextensions.k8s.io foos.x.io: version v1, in which objects are stored, is removed";
    let used = |how: &str| {
        format!(
            "CustomResourceDefinition.apiextensions.k8s.io foos.x.io: version v1 {how}, and 1 object in Git is written in \
             x.io/v1, which the API server refuses then: Foo.x.io foo (apps/b/foo.yaml:1); write them in x.io/v2, or keep \
             the version until they are"
        )
    };
    let gone = found(&[version("v2", true, true)], "v1");
    assert!(gone.len() == 2 && gone[0] == used("is removed") && gone[1].starts_with(stored), "{gone:?}");
    let gone = found(&[version("v2", true, true)], "v2");
    assert!(gone.len() == 1 && gone[0].starts_with(stored), "{gone:?}");
    let off = [version("v1", false, false), version("v2", true, true)];
    assert_eq!(found(&off, "v1"), [used("is no longer served")]);
    assert_eq!(found(&off, "v2"), [""; 0]);
    // The version that objects are not stored in may go once nothing in Git needs it.
    assert_eq!(found(&[version("v1", true, true)], "v1"), [""; 0]);
    assert_eq!(found(&[version("v1", true, true), version("v3", true, false)], "v1"), [""; 0]);
}
