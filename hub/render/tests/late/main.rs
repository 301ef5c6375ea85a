//! Units whose variables only the cluster has: what is sent plain, what with holes, what not at all.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod texts;

use std::fmt::Write as _;
use std::sync::Arc;

use driftless_protocol::bundle::{LATE_FORMAT, LateInput, UnitBody};
use driftless_protocol::canonical;
use driftless_protocol::id::{ClusterId, Revision, UnitId};
use driftless_render::assemble::{Intents, assemble};
use driftless_render::flux::{RenderState, RenderedCluster, RenderedUnit, render_cluster};
use driftless_render::report::Severity;
use driftless_render::target::{Facts, GitRef, SourceSet, SourceTree, Target};
use driftless_render::tree::MemTree;

fn render_for(files: &[(&str, &str)], target: &Target) -> RenderedCluster {
    let mut tree = MemTree::new();
    for (path, text) in files {
        tree.insert(*path, text.as_bytes().to_vec());
    }
    render_cluster(
        &SourceSet::new(SourceTree {
            id: "flux-system/flux-system".into(),
            tree: Arc::new(tree),
            revision: Revision { reference: "main".into(), commit: "1".repeat(40) },
            url: "https://example.org/fleet".into(),
            reference: GitRef::Branch("main".into()),
        }),
        target,
    )
}

fn render(files: &[(&str, &str)]) -> RenderedCluster {
    render_for(files, &Target::new("c".parse().unwrap()))
}

fn unit(name: &str, post_build: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: flux-system}}\nspec:\n  \
         interval: 10m\n  prune: true\n  path: ./apps/{name}\n  sourceRef: {{kind: GitRepository, name: flux-system}}\n  \
         commonMetadata: {{labels: {{team: a}}, annotations: {{note: b}}}}\n  postBuild: {post_build}\n"
    )
}

fn config(namespace: &str, name: &str, data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata: {{{data}}}\n")
}

fn web(rendered: &RenderedCluster) -> &RenderedUnit {
    rendered.unit(&UnitId::kustomization("flux-system", "web")).unwrap()
}

/// `name: plain`, `name: holes a, b`, `- name: why`, `held: why`; then the inputs.
fn shown(unit: &RenderedUnit) -> String {
    let mut out = String::new();
    match &unit.state {
        RenderState::Full { objects, withheld } => {
            for o in objects {
                let how = o.holes.as_ref().map_or("plain".to_owned(), |h| format!("holes {}", h.join(", ")));
                writeln!(out, "{}: {}", o.key.name, how.trim()).unwrap();
            }
            for w in withheld {
                writeln!(out, "- {}: {}", w.key.name, w.code).unwrap();
            }
        }
        RenderState::Held { why } => writeln!(out, "held: {}", why.code).unwrap(),
        RenderState::Suspended { .. } => writeln!(out, "suspended").unwrap(),
    }
    if let Some(late) = &unit.late {
        out.push_str(&shown_inputs(&late.inputs));
        writeln!(out, "always {}", late.always).unwrap();
    }
    out
}

fn shown_inputs(inputs: &[LateInput]) -> String {
    let mut out = String::new();
    for input in inputs {
        match input {
            LateInput::Values { values } => writeln!(out, "values {values:?}").unwrap(),
            LateInput::Object(r) => {
                writeln!(out, "{} {}{}", r.kind, r.name, if r.optional { " optional" } else { "" }).unwrap();
            }
            LateInput::Text(t) => {
                let open: Vec<&str> = t.open.keys().map(String::as_str).collect();
                let inputs = shown_inputs(&t.inputs).replace('\n', ", ");
                writeln!(out, "text of {} for {}: {inputs}always {}", t.by.name, open.join(" "), t.always).unwrap();
            }
        }
    }
    out
}

#[track_caller]
fn check(post_build: &str, files: &[(&str, &str)], expected: &str) -> RenderedCluster {
    let web_file = unit("web", post_build);
    let mut all = vec![("clusters/c/web.yaml", web_file.as_str())];
    all.extend_from_slice(files);
    let rendered = render(&all);
    let want: String = expected.lines().map(str::trim).filter(|l| !l.is_empty()).map(|l| format!("{l}\n")).collect();
    let said: Vec<String> = rendered.all_problems().map(ToString::to_string).collect();
    assert_eq!(shown(web(&rendered)), want, "{}", said.join("\n"));
    rendered
}

const SECRET: &str = "{substituteFrom: [{kind: Secret, name: s}]}";

#[test]
fn only_objects_that_need_an_unknown_value_have_holes() {
    let rendered = check(
        "{substituteFrom: [{kind: ConfigMap, name: settings}, {kind: Secret, name: s}, {kind: ConfigMap, name: last}], substitute: {own: mine, unused: x}}",
        &[
            ("clusters/c/settings.yaml", &config("flux-system", "settings", "region: north, other: x")),
            ("clusters/c/last.yaml", &config("flux-system", "last", "zone: a")),
            ("apps/web/a.yaml", &config("default", "a", "k: none")),
            ("apps/web/b.yaml", &config("default", "b", "k: '${own} ${zone}'")),
            ("apps/web/c.yaml", &config("default", "c", "k: '${password} ${own}'")),
            // The Secret comes after the ConfigMap and may override it.
            ("apps/web/d.yaml", &config("default", "d", "k: '${region}'")),
            ("apps/web/e.yaml", &config("default", "e", "k: '$${password}'")),
        ],
        r#"
        a: plain
        b: plain
        c: holes password
        d: holes region
        e: plain
        values {"region": "north"}
        Secret s
        values {"own": "mine"}
        always true
        "#,
    );
    let bytes = |name: &str| {
        let object = web(&rendered).objects().iter().find(|o| o.key.name == name).unwrap();
        String::from_utf8(object.bytes.to_vec()).unwrap()
    };
    assert!(bytes("b").contains(r#""k":"mine a""#), "{}", bytes("b"));
    assert!(bytes("e").contains(r#""k":"${password}""#), "{}", bytes("e"));
    // The text as kustomize emits it: what Flux substitutes in.
    assert_eq!(
        bytes("c"),
        "apiVersion: v1\ndata:\n  k: ${password} ${own}\nkind: ConfigMap\nmetadata:\n  name: c\n  namespace: default\n"
    );
    let late = web(&rendered).late.clone().unwrap();
    assert_eq!(late.labels["team"], "a");
    assert_eq!(late.labels["kustomize.toolkit.fluxcd.io/name"], "web");
    assert_eq!(late.labels["driftless.dev/unit"], web(&rendered).id.label().to_string());
    assert_eq!(late.annotations["note"], "b");
    assert!(late.strict);
    // Nothing to worry about: everything is as Flux would have it.
    let worse: Vec<_> = rendered.all_problems().filter(|p| p.severity() != Severity::Info).collect();
    assert!(worse.is_empty(), "{worse:?}");
}

#[test]
fn inline_values_are_certain_and_a_unit_without_holes_still_waits_for_its_inputs() {
    check(
        "{substituteFrom: [{kind: Secret, name: s}], substitute: {k: v}}",
        &[("apps/web/a.yaml", &config("default", "a", "k: '${k}'"))],
        "
        a: plain
        Secret s
        always true
        ",
    );
}

#[test]
fn whether_substitution_runs_at_all_may_depend_on_the_cluster() {
    let files = [
        ("apps/web/a.yaml", &*config("default", "a", "k: '$${x}'")),
        ("apps/web/b.yaml", &*config("default", "b", "k: 'costs $5'")),
        ("apps/web/c.yaml", &*config("default", "c", "k: '${broken'")),
    ];
    check(
        "{substituteFrom: [{kind: Secret, name: s, optional: true}]}",
        &files,
        "
        a: holes
        b: plain
        c: holes
        Secret s optional
        always false
        ",
    );
    check(
        "{substituteFrom: [{kind: Secret, name: s, optional: true}], substituteStrategy: Always}",
        &files[..2],
        "
        a: plain
        b: plain
        Secret s optional
        always true
        ",
    );
    // Where it runs for certain, what Flux cannot read fails here and now, with its place.
    let rendered = check(
        "{substituteFrom: [{kind: Secret, name: s}], substitute: {a: b}}",
        &files,
        "
        held: SubstitutionFailed
        ",
    );
    let why = web(&rendered).held().unwrap().to_string();
    assert!(why.starts_with("apps/web/c.yaml:1: "), "{why}");
}

#[test]
fn objects_that_opt_out_have_no_holes() {
    let off = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: off, namespace: default, annotations: {kustomize.toolkit.fluxcd.io/substitute: disabled}}\n\
               data: {k: \"${password}\"}\n";
    check(
        SECRET,
        &[("apps/web/off.yaml", off)],
        "
        off: plain
        Secret s
        always false
        ",
    );
}

#[test]
fn a_hole_in_what_names_an_object_is_refused_and_the_rest_goes() {
    let rendered = check(
        SECRET,
        &[
            ("apps/web/a.yaml", &config("default", "'${name}'", "k: v")),
            ("apps/web/b.yaml", &config("'${space}'", "b", "k: v")),
            ("apps/web/c.yaml", &config("default", "c", "k: '${password}'")),
        ],
        "
        c: holes password
        - ${name}: HoleRefused
        - b: HoleRefused
        Secret s
        always false
        ",
    );
    let said: Vec<String> = web(&rendered).problems.iter().map(ToString::to_string).collect();
    let names =
        |words: &str| said.iter().any(|m| m.starts_with("apps/web/a.yaml:1: HoleRefused: ") && m.contains(words));
    assert!(names("needs ${name}, which only the cluster has"), "{said:#?}");
}

#[test]
fn a_name_of_known_values_is_filled_here_though_the_rest_has_holes() {
    let rendered = check(
        "{substituteFrom: [{kind: Secret, name: s}], substitute: {stage: prod}}",
        &[("apps/web/a.yaml", &config("'${stage}'", "'a-${stage}'", "k: '${password}'"))],
        r#"
        a-prod: holes password
        Secret s
        values {"stage": "prod"}
        always true
        "#,
    );
    assert_eq!(web(&rendered).objects()[0].key.namespace, "prod");
}

#[test]
fn secrets_that_git_holds_are_references_and_never_values() {
    let plain = "apiVersion: v1\nkind: Secret\nmetadata: {name: known, namespace: flux-system}\nstringData: {user: canary-value}\n";
    let encrypted = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: flux-system}\nstringData: {password: 'ENC[AES256_GCM,data:x,type:str]'}\n\
                     sops: {mac: 'ENC[AES256_GCM,data:y,type:str]'}\n";
    let rendered = check(
        "{substituteFrom: [{kind: Secret, name: s}, {kind: Secret, name: known}]}",
        &[
            ("clusters/c/known.yaml", plain),
            ("clusters/c/s.yaml", encrypted),
            ("apps/web/a.yaml", &config("default", "a", "k: '${user} ${password}'")),
        ],
        "
        a: holes password
        Secret s
        Secret known
        always true
        ",
    );
    let late = serde_json::to_string(&web(&rendered).late).unwrap();
    assert!(!late.contains("canary"), "{late}");
    assert!(late.contains("Git holds it encrypted in clusters/c/s.yaml"), "{late}");
}

#[test]
fn a_config_map_with_holes_is_itself_a_late_input_of_others() {
    let rendered = render(&[
        ("clusters/c/first.yaml", &unit("first", SECRET)),
        ("clusters/c/web.yaml", &unit("web", "{substituteFrom: [{kind: ConfigMap, name: made}]}")),
        ("apps/first/made.yaml", &config("flux-system", "made", "host: '${domain}'")),
        ("apps/web/a.yaml", &config("default", "a", "k: '${host}'")),
    ]);
    assert_eq!(shown(web(&rendered)), "a: holes host\nConfigMap made\nalways false\n");
}

#[test]
fn a_kustomization_whose_name_has_a_hole_keeps_the_cluster_from_being_whole() {
    let rendered =
        render(&[("clusters/c/all.yaml", &unit("all", SECRET)), ("apps/all/x.yaml", &unit("'${name}'", "{}"))]);
    assert!(!rendered.whole);
    assert_eq!(rendered.units.len(), 2);
}

#[test]
fn a_source_with_holes_holds_the_units_that_use_it() {
    let git = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: other, namespace: flux-system}\n\
               spec: {interval: 1h, url: 'https://${host}/x'}\n";
    let rendered = render(&[
        ("clusters/c/all.yaml", &unit("all", SECRET)),
        ("apps/all/git.yaml", git),
        ("apps/all/web.yaml", &unit("web", "{}").replace("name: flux-system}\n  common", "name: other}\n  common")),
    ]);
    let why = web(&rendered).held().unwrap();
    assert!(why.message.contains("GitRepository flux-system/other needs ${host}"), "{why}");
    assert!(rendered.wanted_sources.is_empty());
}

#[test]
fn facts_resolve_what_would_be_a_hole() {
    let mut facts = Facts::default();
    facts.config_maps.insert("flux-system/settings".into(), [("region".to_owned(), "north".to_owned())].into());
    let target = Target { facts: Some(facts), ..Target::new("c".parse().unwrap()) };
    let files = [
        ("clusters/c/web.yaml", &*unit("web", "{substituteFrom: [{kind: ConfigMap, name: settings}]}")),
        ("apps/web/a.yaml", &*config("default", "a", "k: '${region}'")),
    ];
    assert_eq!(shown(web(&render(&files))), "a: holes region\nConfigMap settings\nalways false\n");
    assert_eq!(shown(web(&render_for(&files, &target))), "a: plain\n");
}

#[test]
fn the_bundle_carries_text_references_and_format() {
    let rendered = check(
        SECRET,
        &[
            ("apps/web/a.yaml", &config("default", "a", "k: '${password}'")),
            ("apps/web/b.yaml", &config("default", "b", "k: v")),
        ],
        "
        a: holes password
        b: plain
        Secret s
        always false
        ",
    );
    let assembled = assemble(ClusterId::from_bytes([1; 16]), &rendered, &Intents::default()).unwrap();
    let body = assembled.bodies.iter().find(|b| b.id.name == "web").unwrap();
    let label = web(&rendered).id.label();
    let a = &web(&rendered).objects()[0];
    let b = &web(&rendered).objects()[1];
    // Golden: what is signed.
    assert_eq!(
        String::from_utf8(body.bytes.to_vec()).unwrap(),
        format!(
            r#"{{"format":2,"id":{{"kind":"Kustomization","name":"web","namespace":"flux-system"}},"late":{{"always":false,"annotations":{{"note":"b"}},"inputs":[{{"from":"object","kind":"Secret","name":"s"}}],"labels":{{"driftless.dev/unit":"{label}","kustomize.toolkit.fluxcd.io/name":"web","kustomize.toolkit.fluxcd.io/namespace":"flux-system","team":"a"}},"strict":true}},"objects":[{{"apiVersion":"v1","blob":{{"digest":"{}","len":{}}},"holes":["password"],"key":{{"group":"","kind":"ConfigMap","name":"a","namespace":"default"}}}},{{"apiVersion":"v1","blob":{{"digest":"{}","len":{}}},"key":{{"group":"","kind":"ConfigMap","name":"b","namespace":"default"}}}}],"path":"apps/web","source":"flux-system/flux-system","spec":"#,
            a.digest,
            a.bytes.len(),
            b.digest,
            b.bytes.len()
        ) + &spec(body)
    );
    // Without late inputs nothing changes: the format and the bytes are those of before.
    let root = assembled.bodies.iter().find(|b| b.id.name == "flux-system").unwrap();
    assert!(root.bytes.starts_with(br#"{"format":1,"#));
    let parsed: UnitBody = canonical::from_slice(&body.bytes).unwrap();
    assert_eq!(parsed.format, LATE_FORMAT);
}

/// The end of a body, which other tests hold.
fn spec(body: &driftless_render::assemble::AssembledBody) -> String {
    let text = String::from_utf8(body.bytes.to_vec()).unwrap();
    text.split_once(r#""spec":"#).unwrap().1.to_owned()
}

#[test]
fn a_generated_name_has_the_hash_of_the_content_with_holes() {
    // Flux builds, and hashes, before it substitutes.
    let data = [("k", "${password}")].into();
    let name = format!("gen-{}", driftless_subst::content_hash_configmap::<_, &str>(Some(&data), None));
    let generator = "namespace: default\nconfigMapGenerator: [{name: gen, literals: ['k=${password}']}]\n";
    let expected = format!("{name}: holes password\nSecret s\nalways false\n");
    check(SECRET, &[("apps/web/kustomization.yaml", generator)], &expected);
}

/// SOPS leaves keys as they are, so it is known which variables an encrypted Secret cannot override.
#[test]
fn what_an_encrypted_secret_has_no_key_for_stays_known() {
    let secret = |key: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: secrets, namespace: flux-system}}\nstringData:\n  \
             {key}: ENC[AES256_GCM,data:abc=,iv:abc=,tag:abc=,type:str]\nsops: {{mac: x, version: 3.8.1, lastmodified: '2024-01-01T00:00:00Z'}}\n"
        )
    };
    let from = "{substituteFrom: [{kind: ConfigMap, name: settings}, {kind: Secret, name: secrets}]}";
    for (key, expected) in [
        ("DOMAIN", "info-eu1: plain\nhost: holes DOMAIN\nvalues {\"CLUSTER\": \"eu1\"}\nSecret secrets\nalways true\n"),
        (
            "CLUSTER",
            "host: holes CLUSTER, DOMAIN\n- info-${CLUSTER}: HoleRefused\nvalues {\"CLUSTER\": \"eu1\"}\nSecret secrets\nalways true\n",
        ),
    ] {
        let rendered = render(&[
            ("clusters/c/settings.yaml", &config("flux-system", "settings", "CLUSTER: eu1")),
            ("clusters/c/secret.yaml", &secret(key)),
            ("clusters/c/web.yaml", &unit("web", from)),
            ("apps/web/1.yaml", &config("default", "'info-${CLUSTER}'", "k: v")),
            ("apps/web/2.yaml", &config("default", "host", "k: '${CLUSTER}.${DOMAIN}'")),
        ]);
        assert_eq!(shown(web(&rendered)), expected, "{key}");
    }
}
