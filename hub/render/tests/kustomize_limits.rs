//! Limits at the limit and one beyond, links, and what a Flux Kustomization adds to the file at the top.
#![allow(clippy::unwrap_used)] // helpers of tests

use driftless_render::kustomize::{
    BuildError, ErrorKind, Image, Limits, Options, Order, Origin, Overlay, Patch, Selector, build, build_generated,
    generate,
};
use driftless_render::tree::MemTree;

fn tree(files: &[(&str, &str)]) -> MemTree {
    let mut tree = MemTree::new();
    for (path, text) in files {
        match text.strip_prefix("-> ") {
            Some(target) => tree.insert_link(*path, target),
            None => tree.insert(*path, text.as_bytes()),
        }
    }
    tree
}

fn config_map(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n")
}

fn text(tree: &MemTree, dir: &str, options: &Options) -> Result<String, BuildError> {
    let built = build(tree, dir, options)?;
    Ok(driftless_yaml::to_stream(built.resources.iter().map(|r| &r.node)).unwrap())
}

/// Builds with these limits; the class of the failure, if it fails.
fn failure(tree: &MemTree, limits: Limits) -> Option<ErrorKind> {
    build(tree, "", &Options { limits, ..Options::default() }).err().map(|e| e.kind)
}

#[test]
fn limits_hold_at_the_limit_and_stop_one_beyond() {
    let documents: Vec<String> = (0..10).map(|i| config_map(&format!("c{i}"))).collect();
    let file = documents.join("---\n");
    let flat = tree(&[("kustomization.yaml", "resources: [a.yaml]\n"), ("a.yaml", &file)]);
    let mut deep = MemTree::new();
    let mut dir = String::new();
    for i in 0..5 {
        let below = format!("d{i}");
        deep.insert(format!("{dir}kustomization.yaml"), format!("resources: [{below}]\n").as_bytes());
        dir = format!("{dir}{below}/");
    }
    deep.insert(format!("{dir}kustomization.yaml"), b"resources: [a.yaml]\n".as_slice());
    deep.insert(format!("{dir}a.yaml"), config_map("a").as_bytes());
    let len = file.len() as u64;
    let all = len + "resources: [a.yaml]\n".len() as u64;
    let base = Limits::default();
    for (what, tree, at, beyond) in [
        ("objects", &flat, Limits { objects: 10, ..base }, Limits { objects: 9, ..base }),
        ("bytes of a file", &flat, Limits { file_bytes: len, ..base }, Limits { file_bytes: len - 1, ..base }),
        ("bytes of a build", &flat, Limits { read_bytes: all, ..base }, Limits { read_bytes: all - 1, ..base }),
        ("depth", &deep, Limits { base_depth: 5, ..base }, Limits { base_depth: 4, ..base }),
    ] {
        assert_eq!(failure(tree, at), None, "{what} at the limit");
        assert_eq!(failure(tree, beyond), Some(ErrorKind::Limit), "{what} beyond the limit");
    }
}

/// Ten objects, and what is done to them.
fn amplified(file: &str, extra: &[(&str, &str)]) -> MemTree {
    let documents: Vec<String> = (0..10).map(|i| config_map(&format!("c{i}"))).collect();
    let (file, documents) = (format!("resources: [a.yaml]\n{file}"), documents.join("---\n"));
    let mut files = vec![("kustomization.yaml", file.as_str()), ("a.yaml", documents.as_str())];
    files.extend_from_slice(extra);
    tree(&files)
}

#[test]
fn a_long_text_for_every_object_is_bounded() {
    let long = "x".repeat(1000);
    let labels = format!("commonLabels: {{l: {long}}}\n");
    let annotations = format!("commonAnnotations: {{l: {long}}}\n");
    let prefix = format!("namePrefix: {long}\n");
    let patch = format!(
        "patches:\n- target: {{kind: ConfigMap}}\n  patch: |\n    - {{op: add, path: /data, value: {{l: {long}}}}}\n"
    );
    let replacement = format!(
        "replacements:\n- sourceValue: {long}\n  targets:\n  - select: {{kind: ConfigMap}}\n    fieldPaths: [data.x]\n    options: {{create: true, delimiter: \"-\", index: 9}}\n"
    );
    let base = Limits::default();
    // Each new text counts 64 bytes beside its own; a name is joined to what was there.
    for (what, file, made) in [
        ("labels", &labels, 10 * 1064),
        ("annotations", &annotations, 10 * 1064),
        ("prefix", &prefix, 10 * 1066),
        ("replacement", &replacement, 10 * 1065),
    ] {
        let tree = amplified(file, &[]);
        assert_eq!(failure(&tree, Limits { made_bytes: made, ..base }), None, "{what} at the limit");
        let beyond = failure(&tree, Limits { made_bytes: made - 1, ..base });
        assert_eq!(beyond, Some(ErrorKind::Limit), "{what} beyond the limit");
    }
    // `{op: add, path: /data, value: {l: xxx}}` puts a map, a key and a text into each object.
    let tree = amplified(&patch, &[]);
    let made = 10 * (64 + 1 + 64 + 1000);
    assert_eq!(failure(&tree, Limits { made_bytes: made, ..base }), None, "JSON patch at the limit");
    let beyond = failure(&tree, Limits { made_bytes: made - 1, ..base });
    assert_eq!(beyond, Some(ErrorKind::Limit), "JSON patch beyond the limit");
    // `apiVersion: v1`, `kind: ConfigMap`, `metadata: {name: cN}`, `data: {l: xxx}`.
    let each = "apiVersionv1kindConfigMapmetadatanamec0datal".len() as u64 + 1000;
    let tree = amplified(&patch, &[]);
    assert_eq!(failure(&tree, Limits { output_bytes: 10 * each, ..base }), None, "output at the limit");
    let beyond = failure(&tree, Limits { output_bytes: 10 * each - 1, ..base });
    assert_eq!(beyond, Some(ErrorKind::Limit), "output beyond the limit");
}

#[test]
fn a_merge_patch_counts_for_every_object_it_selects() {
    let texts: String = (0..100).map(|i| format!("k{i:02}: v, ")).collect();
    let patch = format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: any}}, data: {{{texts}}}}}");
    let file = format!("patches:\n- target: {{kind: ConfigMap}}\n  patch: '{patch}'\n");
    // Three maps, their keys and texts; a hundred keys and texts.
    let fixed = 3 * 64 + "apiVersionv1kindConfigMapmetadatanameanydata".len() as u64 + 3 * 64;
    let made = 10 * (fixed + 100 * ("k00v".len() as u64 + 64));
    let tree = amplified(&file, &[]);
    let base = Limits::default();
    assert_eq!(failure(&tree, Limits { made_bytes: made, ..base }), None, "at the limit");
    let beyond = failure(&tree, Limits { made_bytes: made - 1, ..base });
    assert_eq!(beyond, Some(ErrorKind::Limit), "beyond the limit");
}

#[test]
fn variables_and_texts_inside_texts_count() {
    let long = "x".repeat(1000);
    let holder = |name: &str, data: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, args: [{data}]}}]}}\n"
        )
    };
    let pods: Vec<String> = (0..10).map(|i| holder(&format!("p{i}"), "a-$(LONG)")).collect();
    let source = format!("{}data: {{l: {long}}}\n", config_map("source"));
    let files = [source, pods.join("---\n")].join("---\n");
    let vars = "resources: [a.yaml]\nvars:\n- {name: LONG, objref: {apiVersion: v1, kind: ConfigMap, name: source}, \
                fieldref: {fieldPath: data.l}}\n";
    let variables = tree(&[("kustomization.yaml", vars), ("a.yaml", &files)]);
    let inside: Vec<String> =
        (0..10).map(|i| format!("{}data: {{f: '{{\"a\":\"b\"}}'}}\n", config_map(&format!("c{i}")))).collect();
    let replacement = format!(
        "resources: [a.yaml]\nreplacements:\n- sourceValue: {long}\n  targets:\n  - select: {{kind: ConfigMap}}\n    fieldPaths: [data.f.a]\n"
    );
    let inside = tree(&[("kustomization.yaml", &replacement), ("a.yaml", &inside.join("---\n"))]);
    let base = Limits::default();
    for (what, tree, made) in [
        ("variables", &variables, 10 * ("a-".len() as u64 + 1064)),
        ("JSON in a text", &inside, 10 * ("{\"a\":\"\"}".len() as u64 + 1064)),
    ] {
        assert_eq!(failure(tree, Limits { made_bytes: made, ..base }), None, "{what} at the limit");
        let beyond = failure(tree, Limits { made_bytes: made - 1, ..base });
        assert_eq!(beyond, Some(ErrorKind::Limit), "{what} beyond the limit");
    }
}

#[test]
fn lists_that_merge_by_key_are_bounded() {
    let items = |from: usize, n: usize| -> String {
        (from..from + n).map(|i| format!("{{name: n{i}, value: v}}, ")).collect::<String>()
    };
    let pod = |n: usize, list: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{{name: c, env: [{list}]}}]}}\n# {n}\n"
        )
    };
    let build_with = |n: usize| {
        let (object, patch) = (pod(n, &items(0, n)), pod(n, &items(n, n)));
        let files = [
            ("kustomization.yaml", "resources: [a.yaml]\npatches: [{path: p.yaml}]\n"),
            ("a.yaml", object.as_str()),
            ("p.yaml", patch.as_str()),
        ];
        failure(&tree(&files), Limits::default())
    };
    assert_eq!(build_with(50), None);
    assert_eq!(build_with(20_000), Some(ErrorKind::Limit));
}

#[test]
fn anchors_that_multiply_and_deep_nesting_end_in_an_error() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..9 {
        let uses = vec![format!("*a{}", i - 1); 10].join(", ");
        bomb.push_str(&format!("a{i}: &a{i} [{uses}]\n"));
    }
    let object = format!("{}{bomb}", config_map("a"));
    let deep = format!("{}x: {}{}\n", config_map("a"), "[".repeat(5000), "]".repeat(5000));
    for (what, text) in [("anchors", &object), ("nesting", &deep)] {
        let resource = tree(&[("kustomization.yaml", "resources: [a.yaml]\n"), ("a.yaml", text)]);
        let error = build(&resource, "", &Options::default()).unwrap_err();
        assert_eq!(&*error.place.file, "a.yaml", "{what}: {error}");
        let itself = tree(&[("kustomization.yaml", text)]);
        let error = build(&itself, "", &Options::default()).unwrap_err();
        assert_eq!(&*error.place.file, "kustomization.yaml", "{what}: {error}");
    }
}

#[test]
fn nothing_leaves_the_tree() {
    let kustomization = |resource: &str| format!("resources:\n- {resource}\n");
    for (resource, extra, kind) in [
        ("../../x.yaml", None, ErrorKind::Refused),
        ("/etc/passwd", None, ErrorKind::Refused),
        ("link.yaml", Some(("d/link.yaml", "-> ../../x.yaml")), ErrorKind::Refused),
        ("link.yaml", Some(("d/link.yaml", "-> /etc/passwd")), ErrorKind::Refused),
        ("link.yaml", Some(("d/link.yaml", "-> link.yaml")), ErrorKind::Refused),
        ("link.yaml", Some(("d/link.yaml", "-> nothing.yaml")), ErrorKind::Missing),
    ] {
        let file = kustomization(resource);
        let mut files = vec![("d/kustomization.yaml", file.as_str())];
        files.extend(extra);
        let error = build(&tree(&files), "d", &Options::default()).unwrap_err();
        assert_eq!(error.kind, kind, "{resource} {extra:?}: {error}");
        assert_eq!(error.place, Origin::new("d/kustomization.yaml", 2), "{resource}");
    }
}

#[test]
fn a_path_leads_through_so_many_links_and_no_more() {
    let chain = |count: usize| {
        let mut tree = tree(&[("kustomization.yaml", "resources: [l0]\n"), ("a.yaml", &config_map("a"))]);
        for at in 0..count {
            let next = if at + 1 == count { "a.yaml".to_owned() } else { format!("l{}", at + 1) };
            tree.insert_link(format!("l{at}"), next);
        }
        tree
    };
    assert_eq!(failure(&chain(32), Limits::default()), None);
    assert_eq!(failure(&chain(33), Limits::default()), Some(ErrorKind::Refused));
}

#[test]
fn bases_that_lead_back_to_themselves_end_in_an_error() {
    for files in [
        &[("a/kustomization.yaml", "resources: [.]\n")][..],
        &[("a/kustomization.yaml", "resources: [..]\n"), ("kustomization.yaml", "resources: [a]\n")],
        &[("a/kustomization.yaml", "resources: [../b]\n"), ("b/kustomization.yaml", "resources: [../a]\n")],
        &[("a/kustomization.yaml", "resources: [../b]\n"), ("b/kustomization.yaml", "components: [../a]\n")],
    ] {
        let error = build(&tree(files), "a", &Options::default()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Target, "{files:?}: {error}");
        assert!(error.attempt.contains("never end"), "{files:?}: {error}");
    }
}

/// A text becomes at most 16 MiB long, an object holds at most a million values: at it, and one beyond.
#[test]
fn what_copies_make_of_one_object_is_bounded() {
    let object = "apiVersion: x.org/v1\nkind: Any\nmetadata: {name: a}\nspec: {}\n";
    // The object, four at its top, the name, annotations that are there for a while, and the list.
    let values = |count: usize| {
        let list = format!("[{}]", vec!["1"; count - 8].join(","));
        let patch = format!(
            "[{{\"op\":\"add\",\"path\":\"/spec/l\",\"value\":{list}}},{{\"op\":\"copy\",\"from\":\"/kind\",\"path\":\"/kind\"}}]"
        );
        let file = "resources: [a.yaml]\npatches: [{path: p.json, target: {kind: Any}}]\n";
        let files = [("kustomization.yaml", file), ("a.yaml", object), ("p.json", patch.as_str())];
        build(&tree(&files), "", &Options::default()).err().map(|e| e.attempt)
    };
    assert_eq!(values(1_000_000), None);
    assert!(values(1_000_001).is_some_and(|why| why.contains("more than 1000000 values")));
    let text = |len: usize| {
        let (long, object) = ("x".repeat(len - 2), object.replace("{}", "{t: a-b}"));
        let file = "resources: [a.yaml]\nreplacements:\n- source: {kind: ConfigMap, fieldPath: data.l}\n  targets:\n  - select: {kind: Any}\n    \
                    fieldPaths: [spec.t]\n    options: {delimiter: \"-\", index: 0}\n";
        let (half, files) = (long, [("kustomization.yaml", file), ("a.yaml", object.as_str())]);
        let mut tree = tree(&files);
        tree.insert("kustomization.yaml", file.replace("[a.yaml]", "[a.yaml, c.yaml]").as_bytes());
        tree.insert("c.yaml", format!("{}data: {{l: {half}}}\n", config_map("c")).as_bytes());
        let limits = Limits { file_bytes: 32 << 20, ..Limits::default() };
        build(&tree, "", &Options { limits, ..Options::default() }).err().map(|e| e.attempt)
    };
    // A delimiter counts for each part.
    assert_eq!(text((16 << 20) - 1), None);
    assert!(text(16 << 20).is_some_and(|why| why.contains("16777216 is the most")));
}

#[test]
fn objects_know_where_they_were_written() {
    let tree = tree(&[
        ("o/kustomization.yaml", "resources: [../b]\nnamePrefix: p-\n"),
        ("b/kustomization.yaml", "resources: [a.yaml]\nconfigMapGenerator:\n- name: g\n  literals: [a=b]\n"),
        ("b/a.yaml", &format!("# comment\n{}---\n{}", config_map("one"), config_map("two"))),
    ]);
    let built = build(&tree, "o", &Options::default()).unwrap();
    let found: Vec<String> = built.resources.iter().map(|r| r.origin.to_string()).collect();
    assert_eq!(found, ["b/a.yaml:2", "b/a.yaml:7", "b/kustomization.yaml:3"]);
    assert_eq!(built.resources[2].hashed_base_name.as_deref(), Some("p-g"));
}

#[test]
fn legacy_order_sorts() {
    let file = format!("{}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: z}}\n", config_map("a"));
    let tree = tree(&[("kustomization.yaml", "resources: [a.yaml]\n"), ("a.yaml", &file)]);
    let built = build(&tree, "", &Options { order: Order::Legacy, ..Options::default() }).unwrap();
    assert_eq!(built.resources[0].node.at(&["kind"]).and_then(|n| n.as_str()), Some("Namespace"));
}

#[test]
fn flux_settings_are_merged_into_the_file_at_the_top() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - {name: a, image: nginx:1}\n  - {name: b, image: redis:1}\n";
    let tree = tree(&[
        (
            "app/kustomization.yaml",
            "namespace: file\nnamePrefix: file-\nunknown: 1\nresources: [pod.yaml]\nimages:\n- {name: nginx, newName: mirror/nginx, newTag: 5}\n",
        ),
        ("app/pod.yaml", pod),
        (
            "c/kustomization.yaml",
            "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\ncommonAnnotations: {c: d}\n",
        ),
    ]);
    let overlay = Overlay {
        target_namespace: Some("flux".to_owned()),
        name_suffix: Some("-s".to_owned()),
        patches: vec![Patch {
            patch: Some("[{\"op\": \"add\", \"path\": \"/spec/hostNetwork\", \"value\": true}]".to_owned()),
            target: Some(Selector { kind: "Pod".to_owned(), ..Selector::default() }),
            ..Patch::default()
        }],
        components: vec!["../c".to_owned(), "../gone".to_owned()],
        ignore_missing_components: true,
        images: vec![
            Image { name: "nginx".to_owned(), digest: "sha256:ab".to_owned(), ..Image::default() },
            Image { name: "redis".to_owned(), new_tag: "7".to_owned(), ..Image::default() },
        ],
        place: Origin::new("clusters/a/app.yaml", 3),
        ..Overlay::default()
    };
    let options = Options { overlay, ..Options::default() };
    let built = build(&tree, "app", &options).unwrap();
    assert!(
        built.warnings.iter().any(|w| w.to_string().starts_with("app/kustomization.yaml:3: unknown field")),
        "{:?}",
        built.warnings
    );
    assert_eq!(
        text(&tree, "app", &options).unwrap(),
        "apiVersion: v1\nkind: Pod\nmetadata:\n  annotations:\n    c: d\n  name: file-p-s\n  namespace: flux\nspec:\n  containers:\n  \
         - image: mirror/nginx@sha256:ab\n    name: a\n  - image: redis:7\n    name: b\n  hostNetwork: true\n"
    );
    let strict =
        Options { overlay: Overlay { ignore_missing_components: false, ..options.overlay }, ..Options::default() };
    let error = build(&tree, "app", &strict).unwrap_err();
    assert!(error.attempt.contains("../gone"), "{error}");
}

#[test]
fn a_folder_without_a_kustomization_file_is_walked() {
    let tree = tree(&[
        ("app/b.yaml", &config_map("b")),
        ("app/a/x.yml", &config_map("x")),
        ("app/a/readme.md", "no"),
        ("app/own/kustomization.yaml", "resources: [y.yaml]\nnamePrefix: own-\n"),
        ("app/own/y.yaml", &config_map("y")),
        ("app/skipped/z.yaml", "not: an object\n"),
    ]);
    let file = generate(&tree, "app", &|path, _| path == "app/skipped", &Options::default()).unwrap();
    assert_eq!(file.resources, ["a/x.yml", "b.yaml", "own"]);
    let built = build_generated(&tree, "app", &file, &Options::default()).unwrap();
    assert_eq!(built.resources.len(), 3);
    let error = generate(&tree, "app", &|_, _| false, &Options::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "app/skipped/z.yaml:1: this document has no kind, so it is no Kubernetes object (if it is not meant to be one (values, a patch), do not list it under resources)"
    );
    let nothing = build_generated(&tree, "app", &Default::default(), &Options::default()).unwrap();
    assert!(nothing.resources.is_empty());
}

#[test]
fn copies_within_an_object_end_in_an_error() {
    let round = "- {op: copy, from: /spec, path: /spec/x}\n- {op: copy, from: /spec/x, path: /spec/y}\n";
    let object = "apiVersion: x.org/v1\nkind: Any\nmetadata: {name: a}\nspec: {a: b}\n";
    for (n, fails) in [(3, false), (40, true)] {
        let patch = round.repeat(n);
        let files = [
            ("kustomization.yaml", "resources: [a.yaml]\npatches:\n- path: p.yaml\n  target: {kind: Any}\n"),
            ("a.yaml", object),
            ("p.yaml", patch.as_str()),
        ];
        let built = build(&tree(&files), "", &Options::default());
        assert_eq!(built.is_err(), fails, "{n} rounds: {:?}", built.err());
    }
    let chain = "- source: {kind: Any, fieldPath: spec}\n  targets:\n  - select: {kind: Any}\n    fieldPaths: [spec.x, spec.y]\n    options: {create: true}\n".repeat(40);
    let file = format!("resources: [a.yaml]\nreplacements:\n{chain}");
    let error =
        build(&tree(&[("kustomization.yaml", &file), ("a.yaml", object)]), "", &Options::default()).unwrap_err();
    assert!(error.attempt.contains("copies make it"), "{error}");
}
