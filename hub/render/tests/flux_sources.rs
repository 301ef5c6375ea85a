//! Sources beside the root's own: what they consist of, and what happens when they are not there.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex};

use driftless_protocol::id::Revision;
use driftless_render::flux::{Cache, RenderedCluster, render_cluster, render_cluster_cached};
use driftless_render::report::Code;
use driftless_render::target::{GitRef, SourceDecl, SourceState, SourceTree, Sources, Target, VerifyMode};
use driftless_render::tree::{MemTree, Tree};

fn tree(files: &[(&str, &str)]) -> Arc<dyn Tree> {
    let mut tree = MemTree::new();
    for (path, text) in files {
        match text.strip_prefix("-> ") {
            Some(target) => tree.insert_link(*path, target),
            None => tree.insert(*path, text.as_bytes().to_vec()),
        }
    }
    Arc::new(tree)
}

fn source(id: &str, tree: Arc<dyn Tree>) -> SourceTree {
    SourceTree {
        id: id.into(),
        tree,
        revision: Revision { reference: "main".into(), commit: "1".repeat(40) },
        url: "https://example.org/fleet".into(),
        reference: GitRef::Branch("main".into()),
    }
}

/// Sources by label; remembers what was asked for.
struct Given {
    root: SourceTree,
    others: BTreeMap<String, SourceTree>,
    asked: Mutex<Vec<SourceDecl>>,
}

impl Sources for Given {
    fn root(&self) -> &SourceTree {
        &self.root
    }

    fn find(&self, wanted: &SourceDecl) -> SourceState {
        self.asked.lock().unwrap().push(wanted.clone());
        match self.others.get(&wanted.label()) {
            Some(source) => SourceState::Ready(source.clone()),
            None => SourceState::Missing("not fetched yet".into()),
        }
    }
}

type Files<'a> = &'a [(&'a str, &'a str)];

fn given(root: Files<'_>, others: &[(&str, Files<'_>)]) -> Given {
    let others = others.iter().map(|(id, files)| ((*id).to_owned(), source(id, tree(files)))).collect();
    Given { root: source("flux-system/flux-system", tree(root)), others, asked: Mutex::default() }
}

fn target() -> Target {
    Target::new("c".parse().unwrap())
}

fn render(root: Files<'_>, others: &[(&str, Files<'_>)]) -> RenderedCluster {
    render_cluster(&given(root, others), &target())
}

/// The names of the objects of a unit, or why it is held.
fn outcome(rendered: &RenderedCluster, unit: &str) -> String {
    let unit = rendered.units.iter().find(|u| u.id.name == unit).unwrap_or_else(|| panic!("no unit {unit}"));
    match unit.held() {
        Some(why) => {
            let at = why.at.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("{} {at} {}", why.code, why.message)
        }
        None => unit.objects().iter().map(|o| o.key.name.as_str()).collect::<Vec<_>>().join(" "),
    }
}

fn config(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: default}}\ndata: {{k: v}}\n")
}

/// A Kustomization called `web` of a source.
fn unit(kind: &str, name: &str, path: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: web, namespace: flux-system}}\n\
         spec: {{interval: 10m, prune: true, path: '{path}', sourceRef: {{kind: {kind}, name: {name}}}}}\n"
    )
}

fn git(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: {name}, namespace: flux-system}}\n\
         spec: {{interval: 1m, url: 'https://example.org/{name}', ref: {{branch: main}}{spec}}}\n"
    )
}

#[track_caller]
fn held(rendered: &RenderedCluster, unit: &str, code: Code, words: &[&str]) {
    let said = outcome(rendered, unit);
    assert!(said.starts_with(code.as_str()), "{said}");
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
}

#[test]
fn a_sparse_checkout_takes_what_begins_so_and_nothing_else() {
    let files = [("apps/a.yaml", &*config("a")), ("apps-more/b.yaml", &*config("b")), ("lib/c.yaml", &*config("c"))];
    for (sparse, path, expected) in [
        ("[apps]", "./", "a b"),
        ("[./apps/]", "./", "a"),
        ("[apps/, lib]", "./", "a c"),
        ("[lib]", "./apps", "PathNotFound"),
        ("[nothing]", "./", "IncludeFailed"),
    ] {
        let root = [
            ("clusters/c/git.yaml", &*git("other", &format!(", sparseCheckout: {sparse}"))),
            ("clusters/c/web.yaml", &*unit("GitRepository", "other", path)),
        ];
        let got = outcome(&render(&root, &[("flux-system/other", &files)]), "web");
        assert!(
            got == expected || got.starts_with(expected) && expected.ends_with(char::is_lowercase),
            "{sparse}: {got}"
        );
    }
}

#[test]
fn an_include_is_part_of_the_source() {
    let root = |include: &str| {
        [
            (
                "clusters/c/git.yaml".to_owned(),
                format!(
                    "{}---\n{}",
                    git("main", &format!(", ignore: /none, include: {include}")),
                    git("lib", ", ignore: '*.txt'")
                ),
            ),
            ("clusters/c/web.yaml".to_owned(), unit("GitRepository", "main", "./apps")),
        ]
    };
    let main = [
        (
            "apps/kustomization.yaml",
            "resources: [a.yaml, ../lib/base]\nconfigMapGenerator: [{name: g, namespace: default, files: [../lib/base/x.png]}]\n",
        ),
        ("apps/a.yaml", &*config("a")),
        ("taken/x", ""),
    ];
    let lib = [
        ("base/kustomization.yaml", "resources: [b.yaml]\n"),
        ("base/b.yaml", &*config("b")),
        ("base/x.png", "picture"),
        ("base/notes.txt", "n"),
    ];
    let of = |include: &str, others: &[(&str, Files<'_>)]| {
        let root = root(include);
        let root: Vec<(&str, &str)> = root.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
        render(&root, others)
    };
    let both: &[(&str, Files<'_>)] = &[("flux-system/main", &main), ("flux-system/lib", &lib)];
    let rendered = of("[{repository: {name: lib}}]", both);
    assert!(outcome(&rendered, "web").starts_with("a b g-"), "{}", outcome(&rendered, "web"));
    let web = rendered.units.iter().find(|u| u.id.name == "web").unwrap();
    let b = web.objects().iter().find(|o| o.key.name == "b").unwrap();
    assert_eq!((&*b.origin.source, &*b.origin.file), ("flux-system/lib", "base/b.yaml"), "where its author wrote it");
    assert!(web.reads.paths().any(|read| read == ("flux-system/lib", "base/b.yaml")), "{:?}", web.reads);
    let revisions: Vec<&str> = rendered.revisions.iter().map(|r| r.source.as_str()).collect();
    assert_eq!(revisions, ["flux-system/flux-system", "flux-system/lib", "flux-system/main"]);
    let wanted: Vec<&str> = rendered.wanted_sources.iter().map(|w| w.id.as_str()).collect();
    assert_eq!(wanted, ["flux-system/lib", "flux-system/main"], "an include is fetched too");

    let moved = of("[{repository: {name: lib}, fromPath: base, toPath: lib/base}]", both);
    assert!(outcome(&moved, "web").starts_with("a b g-"));
    for (include, code, words) in [
        ("[{repository: {name: lib}, toPath: taken}]", Code::IncludeFailed, "something is already"),
        ("[{repository: {name: lib}, fromPath: nothing}]", Code::IncludeFailed, "fromPath"),
        ("[{repository: {name: lib}, fromPath: base/notes.txt}]", Code::IncludeFailed, "fromPath"),
        ("[{repository: {name: other}}]", Code::SourceNotDeclared, "flux-system/other, which is declared nowhere"),
        ("[{repository: {name: main}}]", Code::SourceCycle, "flux-system/main -> flux-system/main"),
    ] {
        held(&of(include, both), "web", code, &[words, "clusters/c/git.yaml"]);
    }
    let alone = of("[{repository: {name: lib}}]", &both[..1]);
    held(
        &alone,
        "web",
        Code::SourceNotReady,
        &["includes flux-system/lib", "not fetched yet", "clusters/c/git.yaml:4"],
    );
}

#[test]
fn sources_that_include_each_other_hold_their_units() {
    let root = [
        ("clusters/c/a.yaml", &*git("a", ", include: [{repository: {name: b}}]")),
        ("clusters/c/b.yaml", &*git("b", ", include: [{repository: {name: a}}]")),
        ("clusters/c/web.yaml", &*unit("GitRepository", "a", "./")),
    ];
    let rendered = render(&root, &[("flux-system/a", &[]), ("flux-system/b", &[])]);
    held(&rendered, "web", Code::SourceCycle, &["flux-system/a -> flux-system/b -> flux-system/a"]);
}

const GENERATOR: &str = "apiVersion: source.extensions.fluxcd.io/v1beta1\nkind: ArtifactGenerator\nmetadata:\n  name: g\n  namespace: flux-system\n\
    spec:\n  sources:\n  - {alias: mono, kind: GitRepository, name: flux-system}\n  artifacts:\n  - name: web\n    originRevision: '@mono'\n    \
    copy:\n    - {from: '@mono/apps/base/**', to: '@artifact/base/'}\n    - {from: '@mono/apps/prod/**', to: '@artifact/prod/'}\n";

#[test]
fn a_unit_renders_from_what_a_generator_makes() {
    let root = [
        ("clusters/c/generator.yaml", GENERATOR),
        ("clusters/c/web.yaml", &*unit("ExternalArtifact", "web", "./prod")),
        ("apps/base/kustomization.yaml", "resources: [a.yaml]\n"),
        ("apps/base/a.yaml", &*config("a")),
        ("apps/prod/kustomization.yaml", "resources: [../base]\nnamePrefix: prod-\n"),
        ("unrelated/x.yaml", "x"),
    ];
    let rendered = render(&root, &[]);
    assert_eq!(outcome(&rendered, "web"), "prod-a");
    let web = rendered.units.iter().find(|u| u.id.name == "web").unwrap();
    assert_eq!(
        (web.source.as_str(), &*web.objects()[0].origin.file),
        ("ExternalArtifact/flux-system/web", "apps/base/a.yaml")
    );
    assert!(rendered.wanted_sources.is_empty(), "all of it is the root's own");
    assert!(rendered.whole);
    let root_unit = rendered.units.iter().find(|u| u.id.name == "flux-system").unwrap();
    assert!(root_unit.objects().is_empty(), "the generator is not sent: nothing in the cluster needs it");
    let revision = rendered.revisions.iter().find(|r| r.source == web.source).unwrap().revision.to_string();
    assert!(revision.starts_with("latest@sha256:"), "{revision}");
    assert!(web.reads.paths().any(|read| read == ("flux-system/flux-system", "apps/base/a.yaml")));

    // An artifact keeps its revision until its own content changes, and a commit elsewhere builds nothing.
    let cache = Cache::new(1 << 20);
    let cached = |files: Files<'_>| render_cluster_cached(&given(files, &[]), &target(), &cache);
    cached(&root);
    let built = cache.stats().builds;
    let mut other = root;
    other[5].1 = "y";
    let again = cached(&other);
    assert_eq!(cache.stats().builds, built, "nothing that a unit reads has changed");
    assert!(again.revisions.iter().any(|r| r.source == web.source && r.revision.to_string() == revision));
    let changed = config("b");
    let mut edited = root;
    edited[3].1 = &changed;
    let edited = cached(&edited);
    assert_eq!((outcome(&edited, "web"), cache.stats().builds), ("prod-b".into(), built + 1));
    assert!(!edited.revisions.iter().any(|r| r.revision.to_string() == revision));
}

#[test]
fn a_generator_is_sent_when_something_in_the_cluster_needs_it() {
    let release = "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: r, namespace: flux-system}\n\
                   spec: {interval: 1h, chartRef: {kind: ExternalArtifact, name: chart}}\n";
    let generator = "apiVersion: source.extensions.fluxcd.io/v1beta1\nkind: ArtifactGenerator\nmetadata: {name: g, namespace: flux-system}\n\
        spec: {sources: [{alias: c, kind: GitRepository, name: charts}], artifacts: [{name: chart, copy: [{from: '@c/**', to: '@artifact/'}]}]}\n";
    let include = git("charts", ", include: [{repository: {name: lib}}]");
    let root = [
        ("clusters/c/r.yaml", release),
        ("clusters/c/g.yaml", generator),
        ("clusters/c/charts.yaml", &*include),
        ("clusters/c/lib.yaml", &*git("lib", "")),
        ("clusters/c/unused.yaml", &*git("unused", "")),
    ];
    let rendered = render(&root, &[]);
    let sent: Vec<String> =
        rendered.units[0].objects().iter().map(|o| format!("{} {}", o.key.kind, o.key.name)).collect();
    for one in ["HelmRelease r", "ArtifactGenerator g", "GitRepository charts", "GitRepository lib"] {
        assert!(sent.iter().any(|s| s == one), "{one} is not sent: {sent:?}");
    }
    assert_eq!(sent.len(), 4, "{sent:?}");
}

#[test]
fn what_a_generator_cannot_make_holds_the_units_of_it() {
    let web = unit("ExternalArtifact", "web", "./");
    let of = |generator: &str, more: Files<'_>| {
        let mut root = vec![("clusters/c/g.yaml", generator), ("clusters/c/web.yaml", web.as_str())];
        root.extend_from_slice(more);
        render(&root, &[])
    };
    held(
        &of(GENERATOR, &[]),
        "web",
        Code::ArtifactFailed,
        &["artifact web", "@mono/apps/base/**", "clusters/c/g.yaml:13"],
    );
    let paused = GENERATOR
        .replace("  name: g\n", "  name: g\n  annotations: {source.extensions.fluxcd.io/reconcile: disabled}\n");
    held(&of(&paused, &[]), "web", Code::SourceNotReady, &["reconcile: disabled", "keep what they have"]);
    let other = GENERATOR.replace("name: flux-system}", "name: other}");
    held(&of(&other, &[]), "web", Code::SourceNotDeclared, &["flux-system/other", "declared nowhere"]);
    held(&of(&other, &[("clusters/c/o.yaml", &git("other", ""))]), "web", Code::SourceNotReady, &["not fetched yet"]);
    let chart = GENERATOR.replace("kind: GitRepository, name: flux", "kind: HelmChart, name: flux");
    held(&of(&chart, &[]), "web", Code::SourceKindUnsupported, &["HelmChart"]);
    let named = GENERATOR.replace("- name: web", "- name: other");
    held(&of(&named, &[]), "web", Code::SourceNotDeclared, &["ExternalArtifact"]);
    let made = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: ExternalArtifact\nmetadata: {name: web, namespace: flux-system}\nspec: {}\n";
    held(&of("", &[("clusters/c/e.yaml", made)]), "web", Code::SourceRefused, &["another controller"]);
    let loops = GENERATOR.replace("kind: GitRepository, name: flux-system}", "kind: ExternalArtifact, name: web}");
    held(&of(&loops, &[]), "web", Code::SourceCycle, &["web -> ExternalArtifact/flux-system/web"]);
}

#[test]
fn a_path_pattern_fans_out() {
    let generator = "apiVersion: source.extensions.fluxcd.io/v1beta1\nkind: ArtifactGenerator\nmetadata: {name: g, namespace: flux-system}\n\
        spec:\n  sources: [{alias: m, kind: GitRepository, name: flux-system}]\n  pathPattern: '@m/apps/{app}/envs/{env}'\n  \
        artifacts:\n  - {name: '{app}-{env}', revision: '@m', copy: [{from: '@m/apps/{app}/envs/{env}/**', to: '@artifact/'}]}\n";
    let root = |name: &str| {
        render(
            &[
                ("clusters/c/g.yaml", generator),
                ("clusters/c/web.yaml", &unit("ExternalArtifact", name, "./")),
                ("apps/Auth/envs/prod/a.yaml", &config("auth")),
                ("apps/web/envs/dev/a.yaml", &config("web")),
            ],
            &[],
        )
    };
    assert_eq!(outcome(&root("auth-prod"), "web"), "auth");
    let web = root("web-dev");
    assert_eq!(outcome(&web, "web"), "web");
    assert!(
        web.revisions
            .iter()
            .any(|r| r.source == "ExternalArtifact/flux-system/web-dev" && r.revision.reference == "main")
    );
    held(&root("web-prod"), "web", Code::SourceNotDeclared, &["ExternalArtifact"]);
}

#[test]
fn an_archive_is_extracted() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let text = config("packed");
    let mut block = vec![0_u8; 512];
    block[..10].copy_from_slice(b"chart/a.ym");
    block[..12].copy_from_slice(b"chart/a.yaml");
    block[124..135].copy_from_slice(format!("{:011o}", text.len()).as_bytes());
    block[156] = b'0';
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block.extend_from_slice(text.as_bytes());
    block.resize(1024, 0);
    gzip.write_all(&block).unwrap();
    gzip.write_all(&[0; 1024]).unwrap();
    let packed = gzip.finish().unwrap();
    let generator = "apiVersion: source.extensions.fluxcd.io/v1beta1\nkind: ArtifactGenerator\nmetadata: {name: g, namespace: flux-system}\n\
        spec: {sources: [{alias: m, kind: GitRepository, name: flux-system}], artifacts: [{name: web, copy: [{from: '@m/releases/**/*.tgz', to: '@artifact/out/', strategy: Extract}]}]}\n";
    let of = |bytes: Vec<u8>| {
        let mut tree = MemTree::new();
        tree.insert("clusters/c/g.yaml", generator.as_bytes().to_vec());
        tree.insert("clusters/c/web.yaml", unit("ExternalArtifact", "web", "./out/chart").into_bytes());
        tree.insert("releases/deep/x.tgz", bytes);
        tree.insert("releases/deep/notes.txt", b"n".to_vec());
        let root = source("flux-system/flux-system", Arc::new(tree));
        render_cluster(&Given { root, others: BTreeMap::new(), asked: Mutex::default() }, &target())
    };
    assert_eq!(outcome(&of(packed), "web"), "packed");
    held(&of(b"no archive".to_vec()), "web", Code::ArtifactFailed, &["releases/deep/x.tgz", "gzip"]);
}

#[test]
fn an_oci_artifact_is_a_source_and_what_cannot_be_checked_is_refused() {
    let oci = |spec: &str| {
        format!(
            "apiVersion: source.toolkit.fluxcd.io/v1\nkind: OCIRepository\nmetadata: {{name: pod, namespace: flux-system}}\n\
             spec:\n  interval: 5m\n  url: oci://example.org/manifests/pod\n{spec}"
        )
    };
    let files: Files<'_> =
        &[("a.yaml", &config("a")), ("b.png", "x"), (".sourceignore", "/c.yaml\n"), ("c.yaml", "broken: [\n")];
    let of = |spec: &str| {
        let given = given(
            &[("clusters/c/oci.yaml", &oci(spec)), ("clusters/c/web.yaml", &unit("OCIRepository", "pod", "./"))],
            &[("OCIRepository/flux-system/pod", files)],
        );
        let rendered = render_cluster(&given, &target());
        let asked = given.asked.into_inner().unwrap();
        (rendered, asked)
    };
    let (rendered, asked) =
        of("  ref: {semver: '>=1.0.0', semverFilter: '.*-rc.*', tag: x}\n  insecure: true\n  timeout: 90s\n");
    assert_eq!(outcome(&rendered, "web"), "a");
    let web = rendered.units.iter().find(|u| u.id.name == "web").unwrap();
    assert_eq!(
        (web.source.as_str(), &*web.objects()[0].origin.source),
        ("OCIRepository/flux-system/pod", "OCIRepository/flux-system/pod")
    );
    assert_eq!((&asked[0].reference, asked[0].timeout_seconds), (&GitRef::Semver(">=1.0.0".into()), 90));
    let artifact = asked[0].artifact.clone().unwrap();
    assert_eq!((artifact.semver_filter.as_deref(), artifact.insecure, artifact.copy), (Some(".*-rc.*"), true, false));
    for (spec, reference) in [
        ("", GitRef::Tag("latest".into())),
        ("  ref: {tag: v1, semverFilter: x}\n", GitRef::Tag("v1".into())),
        ("  ref: {tag: v1, digest: 'sha256:aa'}\n", GitRef::Digest("sha256:aa".into())),
    ] {
        assert_eq!(of(spec).1[0].reference, reference, "{spec}");
    }
    // Taken as it is: nothing is excluded, so the broken file is seen.
    let (copied, _) = of("  layerSelector: {mediaType: application/x, operation: copy}\n");
    held(&copied, "web", Code::BuildFailed, &["c.yaml"]);
    for (spec, words) in [
        ("  verify: {provider: cosign}\n", "cosign"),
        ("  verify: {provider: notation, secretRef: {name: x}}\n", "notation"),
    ] {
        let (rendered, asked) = of(spec);
        held(&rendered, "web", Code::SourceRefused, &[words, "clusters/c/oci.yaml:7"]);
        assert!(asked.is_empty() && rendered.wanted_sources.is_empty(), "it is not even fetched");
    }
    let bucket = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: Bucket\nmetadata: {name: b, namespace: flux-system}\nspec: {interval: 1m, bucketName: x, endpoint: y}\n";
    let rendered = render(&[("clusters/c/b.yaml", bucket), ("clusters/c/web.yaml", &unit("Bucket", "b", "./"))], &[]);
    held(
        &rendered,
        "web",
        Code::SourceKindUnsupported,
        &["Bucket/flux-system/b", "flux push artifact", "clusters/c/b.yaml:1"],
    );
}

#[test]
fn keys_for_signatures_come_from_the_secret_that_git_holds() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: keys, namespace: flux-system}\nstringData: {ada.asc: KEY, bob.sshpub: ssh-ed25519 X}\n";
    let sops = "apiVersion: v1\nkind: Secret\nmetadata: {name: keys, namespace: flux-system}\nstringData: {a: 'ENC[AES256_GCM,data:x,type:str]'}\nsops: {mac: 'ENC[AES256_GCM,data:y,type:str]'}\n";
    let of = |secret: &str, verify: &str, reference: &str| {
        let git = git("other", verify).replace("branch: main", reference);
        let given = given(
            &[
                // The unit comes before the Secret in every order.
                ("clusters/c/a-git.yaml", &git),
                ("clusters/c/a-web.yaml", &unit("GitRepository", "other", "./")),
                (
                    "clusters/c/z.yaml",
                    &unit("GitRepository", "flux-system", "./secrets").replace("name: web", "name: zz"),
                ),
                ("secrets/secret.yaml", secret),
            ],
            &[("flux-system/other", &[("a.yaml", &config("a"))])],
        );
        let rendered = render_cluster(&given, &target());
        (rendered, given.asked.into_inner().unwrap())
    };
    let (rendered, asked) = of(secret, ", verify: {secretRef: {name: keys}}", "branch: main");
    assert_eq!(outcome(&rendered, "web"), "a");
    let verify = asked.last().unwrap().verify.clone().unwrap();
    assert_eq!(verify.mode, VerifyMode::Head);
    assert_eq!(verify.keys.unwrap().into_keys().collect::<Vec<_>>(), ["ada.asc", "bob.sshpub"]);
    assert_eq!(rendered.wanted_sources[0].verify.as_ref().unwrap().keys.as_ref().unwrap().len(), 2);
    let json = serde_json::to_string(&rendered.wanted_sources).unwrap();
    assert!(json.contains("\"secret\":\"keys\"") && !json.contains("KEY"), "{json}");

    let (_, asked) = of("", ", verify: {mode: TagAndHEAD, secretRef: {name: keys}}", "tag: v1");
    let verify = asked.last().unwrap().verify.clone().unwrap();
    assert_eq!((verify.mode, verify.keys), (VerifyMode::TagAndHead, None), "the hub's configuration has to give them");
    assert_eq!(
        of(sops, ", verify: {secretRef: {name: keys}}", "branch: main").1.last().unwrap().verify.as_ref().unwrap().keys,
        None
    );
    let (rendered, _) = of(secret, ", verify: {mode: Tag, secretRef: {name: keys}}", "branch: main");
    held(&rendered, "web", Code::SourceRefused, &["names none"]);
    let (rendered, _) = of(secret, ", verify: {mode: Sometimes, secretRef: {name: keys}}", "branch: main");
    assert!(rendered.all_problems().any(|p| p.code == Code::InvalidSpec && p.message.contains("Sometimes")));
}

#[test]
fn the_roots_own_source_says_when_its_signatures_are_not_checked() {
    let sync = git("flux-system", ", verify: {secretRef: {name: keys}}").replace("/flux-system'", "/fleet'");
    let rendered = render(&[("clusters/c/sync.yaml", &sync), ("clusters/c/a.yaml", &config("a"))], &[]);
    let said: Vec<String> = rendered.all_problems().map(ToString::to_string).collect();
    assert!(
        said.iter().any(|s| s.contains("FieldNotHonoured") && s.contains("spec.verify of flux-system/flux-system")),
        "{said:?}"
    );
    // Another declaration of the same repository that asks for signatures is not given the root's unchecked tree.
    let signed = git("fleet", ", verify: {secretRef: {name: keys}}");
    let rendered = render(
        &[
            ("clusters/c/sync.yaml", &sync),
            ("clusters/c/s.yaml", &signed),
            ("clusters/c/web.yaml", &unit("GitRepository", "fleet", "./")),
        ],
        &[],
    );
    held(&rendered, "web", Code::SourceNotReady, &["flux-system/fleet"]);
}

#[test]
fn submodules_are_refused_where_there_are_any() {
    let of = |files: Files<'_>| {
        let git = git("other", ", recurseSubmodules: true");
        render(
            &[("clusters/c/git.yaml", &git), ("clusters/c/web.yaml", &unit("GitRepository", "other", "./"))],
            &[("flux-system/other", files)],
        )
    };
    assert_eq!(outcome(&of(&[("a.yaml", &config("a"))]), "web"), "a");
    held(
        &of(&[("a.yaml", &config("a")), (".gitmodules", "[submodule]\n")]),
        "web",
        Code::SourceRefused,
        &["spec.include"],
    );
}

#[test]
fn the_roots_own_source_honours_sparse_checkout_and_include() {
    let sync = git("flux-system", ", sparseCheckout: [clusters/, apps/], include: [{repository: {name: lib}}]")
        .replace("/flux-system'", "/fleet'");
    let root = [
        ("clusters/c/sync.yaml", &*sync),
        ("clusters/c/lib.yaml", &*git("lib", "")),
        ("clusters/c/web.yaml", &*unit("GitRepository", "flux-system", "./apps")),
        ("apps/kustomization.yaml", "resources: [../lib/b.yaml]\n"),
        ("other/a.yaml", "broken: [\n"),
    ];
    let rendered = render(&root, &[("flux-system/lib", &[("b.yaml", &config("b"))])]);
    assert_eq!(outcome(&rendered, "web"), "b");
    let mut outside = root;
    let elsewhere = unit("GitRepository", "flux-system", "./other");
    outside[2].1 = &elsewhere;
    held(&render(&outside, &[("flux-system/lib", &[])]), "web", Code::PathNotFound, &["other"]);
}
