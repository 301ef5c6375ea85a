//! What holds a unit back, or an object out of it, and that nothing else is touched.

use std::collections::BTreeMap;

use driftless_render::flux::RenderState;
use driftless_render::target::{RootSpec, Target};

use crate::{check, check_with, config, json, problem, render, target, unit};

#[test]
fn a_broken_file_holds_its_unit_and_no_other() {
    let rendered = check(
        &[
            ("clusters/c/web.yaml", &unit("web", "")),
            ("clusters/c/db.yaml", &unit("db", "")),
            ("apps/web/a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a\ndata: [\n"),
            ("apps/db/b.yaml", &config("b")),
        ],
        "
        flux-system/db
          ConfigMap default/b
        flux-system/flux-system
        flux-system/web held BuildFailed apps/web/a.yaml:4
        not whole
        ",
    );
    problem(&rendered, "apps/web/a.yaml:4");
}

#[test]
fn a_kustomization_that_names_a_missing_file_is_held_at_its_line() {
    check(
        &[
            ("clusters/c/web.yaml", &unit("web", "")),
            ("apps/web/kustomization.yaml", "resources:\n- a.yaml\n- gone.yaml\n"),
            ("apps/web/a.yaml", &config("a")),
        ],
        "
        flux-system/flux-system
        flux-system/web held BuildFailed apps/web/kustomization.yaml:3
        not whole
        ",
    );
}

#[test]
fn a_missing_path_is_held_never_empty() {
    check(
        &[("clusters/c/web.yaml", &unit("web", ""))],
        "
        flux-system/flux-system
        flux-system/web held PathNotFound clusters/c/web.yaml:9
        not whole
        ",
    );
}

#[test]
fn a_folder_without_manifests_is_held_and_an_explicitly_empty_one_is_empty() {
    check(
        &[
            ("clusters/c/web.yaml", &unit("web", "")),
            ("clusters/c/db.yaml", &unit("db", "")),
            ("apps/web/README.md", "nothing here\n"),
            ("apps/db/kustomization.yaml", "resources: []\n"),
        ],
        "
        flux-system/db
          ! EmptyRender clusters/c/db.yaml:9
        flux-system/flux-system
        flux-system/web held EmptyRender clusters/c/web.yaml:9
        not whole
        ",
    );
}

#[test]
fn a_dependency_that_does_not_exist_is_named() {
    let rendered = check(
        &[("clusters/c/web.yaml", &unit("web", "dependsOn:\n- name: gone")), ("apps/web/a.yaml", &config("a"))],
        "
        flux-system/flux-system
        flux-system/web held DependencyNotFound clusters/c/web.yaml:12
        ",
    );
    problem(&rendered, "unit flux-system/web depends on flux-system/gone");
}

#[test]
fn a_dependency_cycle_holds_every_unit_of_it_and_names_it() {
    let rendered = check(
        &[
            ("clusters/c/a.yaml", &unit("a", "dependsOn: [{name: b}]")),
            ("clusters/c/b.yaml", &unit("b", "dependsOn: [{name: a}]")),
            ("clusters/c/d.yaml", &unit("d", "dependsOn: [{name: a}]")),
            ("apps/a/a.yaml", &config("a")),
            ("apps/b/b.yaml", &config("b")),
            ("apps/d/d.yaml", &config("d")),
        ],
        "
        flux-system/a held DependencyCycle clusters/c/a.yaml:11
        flux-system/b held DependencyCycle clusters/c/b.yaml:11
        flux-system/d
          ConfigMap default/d
        flux-system/flux-system
        ",
    );
    problem(&rendered, "flux-system/b -> flux-system/a -> flux-system/b");
}

#[test]
fn children_wait_for_what_their_parent_waits_for_and_waiting_parents_for_their_children() {
    let rendered = check(
        &[
            ("clusters/c/infra.yaml", &unit("infra", "wait: true")),
            ("clusters/c/all.yaml", &unit("all", "dependsOn: [{name: infra}]")),
            ("apps/infra/crds.yaml", &unit("crds", "")),
            ("apps/crds/a.yaml", &config("a")),
            ("apps/all/web.yaml", &unit("web", "")),
            ("apps/web/b.yaml", &config("b")),
        ],
        "
        flux-system/all
        flux-system/crds
          ConfigMap default/a
        flux-system/flux-system
        flux-system/infra
        flux-system/web
          ConfigMap default/b
        ",
    );
    let names = |at: usize| rendered.units[at].spec.depends_on.iter().map(|u| u.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(0), ["crds", "infra"]);
    assert_eq!(names(4), ["crds", "infra"]);
    assert!(names(1).is_empty());
}

#[test]
fn one_object_of_two_units_is_sent_by_one_and_told_to_both() {
    let rendered = check(
        &[
            ("clusters/c/a.yaml", &unit("a", "dependsOn: [{name: z}]")),
            ("clusters/c/z.yaml", &unit("z", "")),
            ("apps/a/x.yaml", &config("same")),
            ("apps/z/y.yaml", &config("same")),
        ],
        "
        flux-system/a
          - ConfigMap default/same DuplicateObject
          ! DuplicateObject apps/a/x.yaml:1
        flux-system/flux-system
        flux-system/z
          ConfigMap default/same
          ! DuplicateObject apps/z/y.yaml:1
        ",
    );
    problem(&rendered, "also held by unit flux-system/a (apps/a/x.yaml:1); this one is applied");
}

#[test]
fn one_unit_defined_twice_keeps_its_first_definition() {
    check(
        &[
            ("clusters/c/one.yaml", &unit("one", "")),
            ("clusters/c/web.yaml", &unit("web", "")),
            ("apps/one/web.yaml", &unit("web", "suspend: true")),
            ("apps/web/a.yaml", &config("a")),
        ],
        "
        flux-system/flux-system
        flux-system/one
          ! DuplicateUnit apps/one/web.yaml:1
        flux-system/web
          ConfigMap default/a
        ",
    );
}

#[test]
fn units_that_define_each_other_end() {
    check(
        &[("clusters/c/a.yaml", &unit("a", "")), ("apps/a/b.yaml", &unit("b", "")), ("apps/b/a.yaml", &unit("a", ""))],
        "
        flux-system/a
        flux-system/b
          ! DuplicateUnit apps/b/a.yaml:1
        flux-system/flux-system
        ",
    );
}

#[test]
fn an_object_beyond_the_limit_is_withheld() {
    let big = config("big").replace("k: v", &format!("k: {}", "x".repeat(1_600_000)));
    let rendered = check_with(
        &[("somewhere/a.yaml", &config("a")), ("somewhere/big.yaml", &big)],
        &Target { root: RootSpec::Path("./somewhere/".into()), ..target() },
        "
        flux-system/flux-system
          ConfigMap default/a
          - ConfigMap default/big TooLarge
          ! TooLarge somewhere/big.yaml:1
        ",
    );
    assert!(rendered.whole);
}

#[test]
fn encrypted_objects_are_withheld_and_the_rest_of_the_unit_is_sent() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: default}\nstringData: {a: 'ENC[AES256_GCM,data:x,type:str]'}\n\
                  sops: {mac: 'ENC[AES256_GCM,data:y,type:str]', lastmodified: '2024-01-01T00:00:00Z'}\n";
    let rendered = check(
        &[
            ("clusters/c/web.yaml", &unit("web", "decryption: {provider: sops, secretRef: {name: age}}")),
            ("apps/web/a.yaml", &config("a")),
            ("apps/web/s.yaml", secret),
        ],
        "
        flux-system/flux-system
        flux-system/web
          ConfigMap default/a
          - Secret default/s Encrypted
          ! Encrypted apps/web/s.yaml:1
        ",
    );
    assert!(!json(&rendered, "a").contains("ENC["));
}

#[test]
fn a_secret_generated_from_an_encrypted_file_has_no_known_name() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: default}\nspec: {containers: [{name: c, image: i, envFrom: [{secretRef: {name: gen}}]}]}\n";
    check(
        &[
            ("clusters/c/web.yaml", &unit("web", "")),
            (
                "apps/web/kustomization.yaml",
                "namespace: default\nresources: [p.yaml]\nsecretGenerator: [{name: gen, envs: [e.env]}]\n",
            ),
            ("apps/web/e.env", "A=ENC[AES256_GCM,data:x,type:str]\nsops_mac=ENC[AES256_GCM,data:y,type:str]\n"),
            ("apps/web/p.yaml", pod),
        ],
        "
        flux-system/flux-system
        flux-system/web
          - Pod default/p Encrypted
          - Secret default/gen Encrypted
          ! Encrypted apps/web/p.yaml:1
          ! Encrypted apps/web/kustomization.yaml:3
        ",
    );
}

#[test]
fn a_namespace_that_the_api_server_drops_makes_no_second_object() {
    let role = |namespace: &str| {
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: r{namespace}}}\nrules: []\n"
        )
    };
    check(
        &[
            ("clusters/c/a.yaml", &unit("a", "")),
            ("clusters/c/b.yaml", &unit("b", "")),
            ("apps/a/r.yaml", &role(", namespace: shop")),
            ("apps/b/r.yaml", &role("")),
        ],
        "
        flux-system/a
          ClusterRole.rbac.authorization.k8s.io shop/r
          ! DuplicateObject apps/a/r.yaml:1
        flux-system/b
          - ClusterRole.rbac.authorization.k8s.io r DuplicateObject
          ! DuplicateObject apps/b/r.yaml:1
        flux-system/flux-system
        ",
    );
}

/// What a held unit's build read tells whether something may have come to it, whatever else a commit changed.
#[test]
fn what_a_broken_build_read_has_a_digest() {
    let broken = |more: &[(&str, &str)], other: &str| {
        let kustomization = "resources: [../base, a.yaml, late.yaml, ../late]\n";
        let mut files = BTreeMap::from([
            ("clusters/c/web.yaml", unit("web", "")),
            ("clusters/c/other.yaml", unit("other", "")),
            ("apps/other/o.yaml", config(other)),
            ("apps/base/kustomization.yaml", "resources: [b.yaml]\n".to_owned()),
            ("apps/base/b.yaml", config("b")),
            ("apps/web/kustomization.yaml", kustomization.to_owned()),
            ("apps/web/a.yaml", "kind: [\n".to_owned()),
            ("apps/web/late.yaml", config("late")),
            ("apps/late/kustomization.yaml", "resources: [l.yaml]\n".to_owned()),
            ("apps/late/l.yaml", config("l")),
        ]);
        files.extend(more.iter().map(|(path, text)| (*path, (*text).to_owned())));
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        let rendered = render(&files);
        let web = rendered.units.iter().find(|unit| unit.id.name == "web").unwrap();
        assert!(web.held().is_some(), "{:?}", web.state);
        web.reads.digest().unwrap()
    };
    let before = broken(&[], "o");
    assert_eq!(before, broken(&[], "o"), "the same in another process");
    assert_eq!(before, broken(&[], "other"), "a commit elsewhere");
    let other = config("another");
    for (what, more) in [
        ("a file behind what is broken", ("apps/web/late.yaml", other.as_str())),
        ("a base behind what is broken", ("apps/late/l.yaml", other.as_str())),
    ] {
        assert_ne!(before, broken(&[more], "o"), "{what}");
    }
    for (what, more) in [
        ("its list", ("apps/web/kustomization.yaml", "resources: [../base, a.yaml, late.yaml, ../late, x.yaml]\n")),
        ("what is broken", ("apps/web/a.yaml", "kind: {\n")),
        ("a base of it", ("apps/base/kustomization.yaml", "resources: [b.yaml, x.yaml]\n")),
    ] {
        let x = config("x");
        let more = [more, ("apps/web/x.yaml", x.as_str()), ("apps/base/x.yaml", x.as_str())];
        assert_ne!(before, broken(&more, "o"), "{what}");
    }
}

/// What a suspended unit declares is known where it can be built.
#[test]
fn a_suspended_unit_says_what_it_declares() {
    let declares = |a: &str| {
        let rendered = render(&[
            ("clusters/c/web.yaml", &unit("web", "suspend: true")),
            ("apps/web/z.yaml", &config("z")),
            ("apps/web/a.yaml", a),
        ]);
        let web = rendered.units.into_iter().find(|unit| unit.id.name == "web").unwrap();
        match web.state {
            RenderState::Suspended { declares } => declares,
            other => panic!("{other:?}"),
        }
    };
    let keys = |a: &str| declares(a).map(|keys| keys.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(keys(&config("a")), Some(vec!["ConfigMap default/a".to_owned(), "ConfigMap default/z".to_owned()]));
    assert_eq!(keys("kind: [\n"), None);
}
