//! The fields of a kustomization file, each with random content that fits the tree it is for.

use crate::grammar::Maker;
use crate::patches::{patches, patches_json, patches_strategic_merge};
use crate::plugins;
use crate::value::{Value, map, quoted, raw, text};
use crate::words::{GROUPS, KINDS, NAMES, NAMESPACES, SCALARS, VERSIONS};

/// Makes a field for a folder.
pub(crate) type Field = fn(&mut Maker<'_>, &str) -> (&'static str, Value);

/// With how often each is wanted.
pub(crate) const FIELDS: &[(usize, Field)] = &[
    (8, namespace),
    (6, |m, _| ("namePrefix", affix(m))),
    (6, |m, _| ("nameSuffix", affix(m))),
    (5, |m, _| ("commonLabels", pairs(m))),
    (5, |m, _| ("commonAnnotations", pairs(m))),
    (8, labels),
    (16, patches),
    (5, patches_strategic_merge),
    (4, patches_json),
    (6, images),
    (4, replicas),
    (14, replacements),
    (6, vars),
    (10, |m, d| ("configMapGenerator", generators(m, d, false))),
    (7, |m, d| ("secretGenerator", generators(m, d, true))),
    (4, |m, _| ("generatorOptions", generator_options(m))),
    (6, configurations),
    (2, crds),
    (9, |m, d| ("transformers", plugins::list(m, d, plugins::transformer))),
    (4, |m, d| ("generators", plugins::list(m, d, plugins::generator))),
    (2, |m, d| ("validators", plugins::list(m, d, plugins::transformer))),
    (4, build_metadata),
    (4, sort_options),
    (1, odd),
];

/// A scalar, seldom a strange one.
pub(crate) fn scalar(m: &mut Maker<'_>) -> Value {
    if m.rng.chance(35) {
        raw(m.rng.pick(SCALARS))
    } else {
        raw(m.rng.pick(&["a", "b", "1", "\"2\"", "x-y", "\"true\""]))
    }
}

/// A text that kustomization files accept.
pub(crate) fn string(m: &mut Maker<'_>) -> Value {
    if m.rng.chance(3) {
        return scalar(m);
    }
    let words = &[
        "a",
        "web",
        "x y",
        "true",
        "123",
        "1.5",
        "",
        "null",
        "yes",
        "a:b",
        "#",
        "a\nb",
        "a\nb\n",
        " a",
        "é",
        "0x1",
        "1e3",
        "~",
        "2020-01-01",
        "$(VAR)",
        "-",
        "[x]",
        "{a}",
        "- a",
        "a: b",
        "'",
        "\"",
    ];
    quoted(m.rng.pick(words))
}

fn affix(m: &mut Maker<'_>) -> Value {
    let list = &["p-", "-s", "dev-", "-v1", "1", "x", "A-", ".", "-"];
    if m.rng.chance(5) { string(m) } else { quoted(m.rng.pick(list)) }
}

pub(crate) fn label_key(m: &mut Maker<'_>) -> &'static str {
    let odd = m.rng.chance(2);
    if odd {
        m.rng.pick(&["1", "true", "~", "yes", "2020-01-01"])
    } else {
        m.rng.pick(&["app", "tier", "env", "a.b/c", "x.y"])
    }
}

pub(crate) fn pairs(m: &mut Maker<'_>) -> Value {
    let n = m.rng.between(0, 3);
    let mut out: Vec<(String, Value)> = Vec::new();
    for _ in 0..n {
        let key = label_key(m).to_owned();
        if !out.iter().any(|(k, _)| *k == key) {
            out.push((key, string(m)));
        }
    }
    Value::Map(out)
}

fn namespace(m: &mut Maker<'_>, _: &str) -> (&'static str, Value) {
    ("namespace", if m.rng.chance(5) { string(m) } else { text(m.rng.pick(NAMESPACES)) })
}

/// Paths as field specs write them.
pub(crate) const SPEC_PATHS: &[&str] = &[
    "metadata/labels",
    "metadata/annotations",
    "metadata/name",
    "metadata/namespace",
    "spec/template/metadata/labels",
    "spec/template/metadata/annotations",
    "spec/selector",
    "spec/selector/matchLabels",
    "spec/replicas",
    "spec/template/spec/containers/image",
    "spec/template/spec/containers[]/image",
    "spec/containers/image",
    "spec/containers[]/name",
    "data/a",
    "data",
    "spec/ref/name",
    "spec/nested/deep",
    "spec/list",
    "spec/list[]",
    "metadata/annotations/example.org\\/x",
    "spec/rules/host",
    "spec/new/field",
    "/spec/nested",
    "kind",
];

pub(crate) fn field_spec(m: &mut Maker<'_>) -> Value {
    let mut out: Vec<(String, Value)> = vec![("path".into(), text(m.rng.pick(SPEC_PATHS)))];
    if m.rng.chance(50) {
        out.push(("create".into(), raw(m.rng.pick(&["true", "false"]))));
    }
    if m.rng.chance(60) {
        let kind = m.one().map_or_else(|| "Widget".to_owned(), |k| k.kind);
        out.push(("kind".into(), text(&kind)));
    }
    if m.rng.chance(10) {
        out.push(("group".into(), text(m.rng.pick(GROUPS))));
    }
    if m.rng.chance(10) {
        out.push(("version".into(), text(m.rng.pick(VERSIONS))));
    }
    Value::Map(out)
}

pub(crate) fn field_specs(m: &mut Maker<'_>) -> Value {
    Value::Seq((0..m.rng.between(1, 3)).map(|_| field_spec(m)).collect())
}

fn labels(m: &mut Maker<'_>, _: &str) -> (&'static str, Value) {
    let n = m.rng.between(1, 2);
    let one = |m: &mut Maker<'_>| {
        let mut out = vec![("pairs".to_owned(), pairs(m))];
        if m.rng.chance(35) {
            out.push(("includeSelectors".into(), raw(m.rng.pick(&["true", "false"]))));
        }
        if m.rng.chance(35) {
            out.push(("includeTemplates".into(), raw(m.rng.pick(&["true", "false"]))));
        }
        if m.rng.chance(25) {
            out.push(("fields".into(), field_specs(m)));
        }
        Value::Map(out)
    };
    ("labels", Value::Seq((0..n).map(|_| one(m)).collect()))
}

/// A selector that finds something more often than not.
pub(crate) fn selector(m: &mut Maker<'_>, regex: bool) -> Value {
    let known = m.one();
    let mut out: Vec<(String, Value)> = Vec::new();
    if m.rng.chance(80) {
        let kind = known.as_ref().map_or("Widget", |k| k.kind.as_str()).to_owned();
        let kind = match m.rng.below(8) {
            0 if regex => format!("{}.*", kind.chars().take(4).collect::<String>()),
            1 if regex => format!("{kind}|Service"),
            2 => m.rng.pick(KINDS).to_owned(),
            _ => kind,
        };
        out.push(("kind".into(), text(&kind)));
    }
    if m.rng.chance(50) {
        let name = known.as_ref().map_or_else(|| "app".to_owned(), |k| k.name.clone());
        let name = match m.rng.below(8) {
            0 if regex => ".*".to_owned(),
            1 if regex => format!("{}.*", name.chars().take(1).collect::<String>()),
            2 if regex => m.rng.pick(&["a|b", "^app$", "[a-z]+", "app(-v1)?", "(", "a{1,2}", "!app"]).to_owned(),
            3 => format!("p-{name}"),
            _ => name,
        };
        out.push(("name".into(), text(&name)));
    }
    if m.rng.chance(15) {
        let list =
            if regex { &["default", "prod", ".*", "^$", "dev|prod", "_non_namespaceable_"][..] } else { NAMESPACES };
        out.push(("namespace".into(), text(m.rng.pick(list))));
    }
    if m.rng.chance(15) {
        let api = known.as_ref().map_or("v1", |k| k.api.as_str()).to_owned();
        let (group, version) = api.split_once('/').unwrap_or(("", &api));
        if m.rng.chance(50) {
            out.push(("group".into(), text(group)));
        } else {
            out.push(("version".into(), text(version)));
        }
    }
    for (name, percent) in [("labelSelector", 10), ("annotationSelector", 6)] {
        if m.rng.chance(percent) {
            let list = &[
                "app=web",
                "app",
                "!app",
                "app in (web, db)",
                "tier notin (a)",
                "app!=a",
                "note",
                "a b",
                "tier=1,app",
            ];
            out.push((name.into(), quoted(m.rng.pick(list))));
        }
    }
    Value::Map(out)
}

pub(crate) fn image(m: &mut Maker<'_>) -> Value {
    let names = [
        "nginx",
        "team/app",
        "registry.example.org:5000/team/app",
        "busybox",
        "docker.io/library/redis",
        "ngin.",
        "(",
        "*",
    ];
    let mut out = vec![("name".to_owned(), text(m.rng.pick(&names)))];
    for (key, percent) in [("newName", 40), ("newTag", 40), ("digest", 20), ("tagSuffix", 15)] {
        if m.rng.chance(percent) {
            let value = match key {
                "newName" => text(m.rng.pick(&["mirror/x", "a", "localhost:5000/x", "123"])),
                "digest" => text("sha256:24a0c4b4a4c0eb97a1aabb8e29f18e917d05abfe1b7a7c07857230879ce7d3d3"),
                _ => string(m),
            };
            out.push((key.into(), value));
        }
    }
    Value::Map(out)
}

fn images(m: &mut Maker<'_>, _: &str) -> (&'static str, Value) {
    let key = if m.rng.chance(92) { "images" } else { "imageTags" };
    (key, Value::Seq(vec![image(m)]))
}

fn replicas(m: &mut Maker<'_>, _: &str) -> (&'static str, Value) {
    let scaled = ["Deployment", "StatefulSet", "ReplicationController"];
    let some: Vec<String> =
        m.known.iter().filter(|k| scaled.contains(&k.kind.as_str())).map(|k| k.name.clone()).collect();
    let name = if some.is_empty() || m.rng.chance(5) { m.name() } else { some[m.rng.below(some.len())].clone() };
    let count = raw(m.rng.pick(&["3", "0", "1", "-1", "10", "5"]));
    ("replicas", Value::Seq(vec![map([("name", text(&name)), ("count", count)])]))
}

/// Paths as replacements write them.
pub(crate) const FIELD_PATHS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.labels.app",
    "metadata.labels",
    "metadata.annotations.note",
    "metadata.annotations.example\\.org/x",
    "metadata.annotations.[example.org/x]",
    "spec.replicas",
    "spec.template.spec.containers.0.image",
    "spec.template.spec.containers.[name=app].image",
    "spec.template.spec.containers.[name=a.*].image",
    "spec.template.spec.containers.*.image",
    "spec.template.spec.containers.*.env.[name=A].value",
    "spec.template.spec.containers.0.env.0.value",
    "spec.template.spec.containers.[image=nginx].name",
    "spec.template.spec.containers",
    "spec.template.spec.containers.5.image",
    "spec.template.spec.containers.-.image",
    "spec.template.spec",
    "spec.rules.0.host",
    "spec.rules.*.host",
    "spec.nested.deep",
    "spec.nested",
    "spec.list.0",
    "spec.list.[=a]",
    "spec.list.-",
    "spec.list",
    "spec.new.field",
    "data.a",
    "data.b",
    "data.new",
    "data",
    "data.conf\\.yaml.a",
    "data.conf\\.yaml.m.k",
    "data.conf\\.yaml.list.0",
    "data.conf\\.json.a.b",
    "data.conf\\.json.l.1",
    "data.[conf.json].a.b",
    "data.conf\\.json.new",
    "kind",
    "webhooks.0.clientConfig.service.name",
    "spec.ports.0.port",
    "spec.ports.[port=80].targetPort",
    "spec.ports.*.port",
    "spec.selector.app",
    "subjects.0.name",
    "spec.volumeClaimTemplates.0.spec.storageClassName",
];

/// A path to a field, as replacements write it.
fn field_path(m: &mut Maker<'_>) -> String {
    let Some(known) = m.one().filter(|_| m.rng.chance(60)) else { return m.rng.pick(FIELD_PATHS).to_owned() };
    let way = known.value.way(m.rng);
    let mut parts: Vec<String> = Vec::new();
    for part in way {
        let index = part.parse::<usize>().is_ok();
        parts.push(match m.rng.below(6) {
            0 if index => "*".to_owned(),
            1 if index => "[name=a.*]".to_owned(),
            _ if part.contains('.') => part.replace('.', "\\."),
            _ => part,
        });
    }
    if m.rng.chance(12) {
        parts.push("new".to_owned());
    }
    parts.join(".")
}

fn options(m: &mut Maker<'_>) -> Value {
    let mut out: Vec<(String, Value)> = Vec::new();
    if m.rng.chance(50) {
        out.push(("delimiter".into(), quoted(m.rng.pick(&[":", "/", ".", "-", "a"]))));
    }
    if m.rng.chance(50) {
        out.push(("index".into(), raw(m.rng.pick(&["0", "1", "2", "-1", "5"]))));
    }
    if m.rng.chance(50) {
        out.push(("create".into(), raw(m.rng.pick(&["true", "false"]))));
    }
    Value::Map(out)
}

pub(crate) fn replacement(m: &mut Maker<'_>) -> Value {
    let mut out: Vec<(String, Value)> = Vec::new();
    if m.rng.chance(85) {
        let Value::Map(mut source) = selector(m, false) else { return Value::Seq(Vec::new()) };
        source.retain(|(k, _)| !k.ends_with("Selector"));
        if m.rng.chance(75) {
            let path = field_path(m);
            source.push(("fieldPath".into(), text(&path)));
        }
        if m.rng.chance(20) {
            source.push(("options".into(), options(m)));
        }
        out.push(("source".into(), Value::Map(source)));
    } else {
        out.push(("sourceValue".into(), string(m)));
    }
    let target = |m: &mut Maker<'_>| {
        let mut out = vec![("select".to_owned(), selector(m, true))];
        if m.rng.chance(20) {
            out.push(("reject".into(), Value::Seq(vec![selector(m, true)])));
        }
        if m.rng.chance(92) {
            let n = m.rng.between(1, 2);
            let paths = (0..n).map(|_| text(&field_path(m))).collect();
            out.push(("fieldPaths".into(), Value::Seq(paths)));
        }
        if m.rng.chance(45) {
            out.push(("options".into(), options(m)));
        }
        Value::Map(out)
    };
    let n = m.rng.between(1, 2);
    out.push(("targets".into(), Value::Seq((0..n).map(|_| target(m)).collect())));
    Value::Map(out)
}

fn replacements(m: &mut Maker<'_>, dir: &str) -> (&'static str, Value) {
    let one = replacement(m);
    let entry = match m.rng.below(5) {
        0 => {
            let value = if m.rng.chance(50) { Value::Seq(vec![one]) } else { one };
            map([("path", text(&m.yaml(dir, "repl", &value)))])
        }
        _ => one,
    };
    ("replacements", Value::Seq(vec![entry]))
}

fn vars(m: &mut Maker<'_>, _: &str) -> (&'static str, Value) {
    let known = m.one();
    let (api, kind, name) = known.map_or_else(Default::default, |k| (k.api, k.kind, k.name));
    let mut out = vec![
        ("name".to_owned(), text(m.rng.pick(&["VAR", "OTHER", "X"]))),
        ("objref".to_owned(), map([("apiVersion", text(&api)), ("kind", text(&kind)), ("name", text(&name))])),
    ];
    if m.rng.chance(50) {
        let path = m.rng.pick(FIELD_PATHS);
        out.push(("fieldref".into(), map([("fieldpath", text(path))])));
    }
    ("vars", Value::Seq(vec![Value::Map(out)]))
}

fn generators(m: &mut Maker<'_>, dir: &str, secret: bool) -> Value {
    Value::Seq(vec![generator(m, dir, secret)])
}

/// One generator; its files are put beside it.
pub(crate) fn generator(m: &mut Maker<'_>, dir: &str, secret: bool) -> Value {
    let kind = if secret { "Secret" } else { "ConfigMap" };
    let same: Vec<String> = m.known.iter().filter(|k| k.kind == kind).map(|k| k.name.clone()).collect();
    let name = match same.as_slice() {
        [] => m.rng.pick(NAMES).to_owned(),
        _ if m.rng.chance(50) => m.rng.pick(NAMES).to_owned(),
        list => list[m.rng.below(list.len())].clone(),
    };
    let mut out = vec![("name".to_owned(), text(&name))];
    if m.rng.chance(15) {
        out.push(("namespace".into(), text(m.rng.pick(NAMESPACES))));
    }
    let there = same.contains(&name);
    if there != m.rng.chance(6) {
        out.push(("behavior".into(), text(m.rng.pick(&["merge", "replace", "merge"]))));
    } else if m.rng.chance(20) {
        out.push(("behavior".into(), text(m.rng.pick(&["create", "unspecified", "odd"]))));
    }
    m.learn(&format!("apiVersion: v1\nkind: {kind}\nmetadata:\n  name: {name}\n"));
    if m.rng.chance(60) {
        let words = &[
            "a=b",
            "k=",
            "x='q'",
            "y=\"q\"",
            "z=a=b",
            "m=a\nb",
            "n= x ",
            "u='a\"",
            "t=true",
            "i=123",
            "e=é",
            "dotted.key=1",
            "d-k=$(VAR)",
            "q='",
            "w=''",
            "long=this is a rather long text with many words in it, so that it must be folded",
        ];
        let n = m.rng.between(1, 3);
        out.push(("literals".into(), Value::Seq((0..n).map(|_| quoted(m.rng.pick(words))).collect())));
    }
    if m.rng.chance(30) {
        let bodies: &[&[u8]] = &[
            b"hello\n",
            b"",
            b"no end",
            b"a: b\nc: d\n",
            b"tab\there \nx",
            b"\xff\xfe binary",
            b"crlf\r\nline\r\n",
            b"  leading\n",
            b"\n\nblank\n\n",
            &[0x80; 60],
            b"long line without any break that goes on and on and on and on and on and on and on and on and on\n",
        ];
        let body = bodies[m.rng.below(bodies.len())];
        let name = m.file(dir, "f", "txt", body);
        let entry = match m.rng.below(4) {
            0 => format!("key.txt={name}"),
            1 => format!("./{name}"),
            2 => format!("k={name}"),
            _ => name,
        };
        out.push(("files".into(), Value::Seq(vec![text(&entry)])));
    }
    if m.rng.chance(30) {
        let bodies = &[
            "A=1\nB=2\n",
            "# c\nA=x\n\n  B = y\n",
            "NOVALUE\n",
            "\u{feff}A=b\n",
            "A='q'\nB=\"q\"\n",
            "A=1\r\nB=2\r\n",
            "=x\n",
            "A=a=b\n",
            "A=1\nA=2\n",
            "export A=1\n",
            "A=b # c\n",
            "A=",
            "HOME\n",
        ];
        let body = m.rng.pick(bodies).to_owned();
        let name = m.file(dir, "e", "env", body);
        if m.rng.chance(30) {
            out.push(("env".into(), text(&name)));
        } else {
            out.push(("envs".into(), Value::Seq(vec![text(&name)])));
        }
    }
    if secret && m.rng.chance(30) {
        out.push(("type".into(), text(m.rng.pick(&["kubernetes.io/tls", "Opaque", "x"]))));
    }
    if m.rng.chance(25) {
        out.push(("options".into(), generator_options(m)));
    }
    Value::Map(out)
}

fn generator_options(m: &mut Maker<'_>) -> Value {
    let mut out: Vec<(String, Value)> = Vec::new();
    if m.rng.chance(50) {
        out.push(("disableNameSuffixHash".into(), raw(m.rng.pick(&["true", "false"]))));
    }
    if m.rng.chance(30) {
        out.push(("labels".into(), pairs(m)));
    }
    if m.rng.chance(30) {
        out.push(("annotations".into(), pairs(m)));
    }
    if m.rng.chance(25) {
        out.push(("immutable".into(), raw(m.rng.pick(&["true", "false"]))));
    }
    Value::Map(out)
}

fn configurations(m: &mut Maker<'_>, dir: &str) -> (&'static str, Value) {
    let sections = [
        "namePrefix",
        "nameSuffix",
        "namespace",
        "commonLabels",
        "labels",
        "templateLabels",
        "commonAnnotations",
        "nameReference",
        "varReference",
        "images",
        "replicas",
    ];
    let n = m.rng.between(1, 2);
    let mut out: Vec<(String, Value)> = Vec::new();
    for _ in 0..n {
        let section = m.rng.pick(&sections);
        let value = if section == "nameReference" {
            let kind = m.one().map_or_else(|| "ConfigMap".to_owned(), |k| k.kind);
            let mut entry = vec![("kind".to_owned(), text(&kind)), ("fieldSpecs".to_owned(), field_specs(m))];
            if m.rng.chance(30) {
                entry.push(("version".into(), text("v1")));
            }
            Value::Seq(vec![Value::Map(entry)])
        } else {
            field_specs(m)
        };
        if !out.iter().any(|(k, _)| k == section) {
            out.push((section.to_owned(), value));
        }
    }
    ("configurations", Value::Seq(vec![text(&m.yaml(dir, "config", &Value::Map(out)))]))
}

fn crds(m: &mut Maker<'_>, dir: &str) -> (&'static str, Value) {
    let body = r##"{"github.com/example/v1.Widget": {"Schema": {"properties": {"apiVersion": {"type": "string"}, "kind": {"type": "string"},
"metadata": {"type": "object"}, "spec": {"$ref": "github.com/example/v1.WidgetSpec"}}}},
"github.com/example/v1.WidgetSpec": {"Schema": {"properties": {"ref": {"x-kubernetes-object-ref-api-version": "v1",
"x-kubernetes-object-ref-kind": "ConfigMap"}, "nested": {"x-kubernetes-annotation": ""}, "labels": {"x-kubernetes-label-selector": ""}}}}}
"##;
    ("crds", Value::Seq(vec![text(&m.file(dir, "crd", "json", body))]))
}

fn build_metadata(m: &mut Maker<'_>, _: &str) -> (&'static str, Value) {
    let all = ["originAnnotations", "transformerAnnotations", "managedByLabel"];
    let list = all.iter().filter(|_| m.rng.chance(60)).map(|t| text(t)).collect();
    ("buildMetadata", Value::Seq(list))
}

fn sort_options(m: &mut Maker<'_>, _: &str) -> (&'static str, Value) {
    let mut out = vec![("order".to_owned(), text(m.rng.pick(&["legacy", "fifo", "legacy", "odd"])))];
    if m.rng.chance(40) {
        let list = |m: &mut Maker<'_>| {
            let n = m.rng.below(4);
            Value::Seq((0..n).map(|_| text(m.rng.pick(KINDS))).collect())
        };
        let (first, last) = (list(m), list(m));
        out.push(("legacySortOptions".into(), map([("orderFirst", first), ("orderLast", last)])));
    }
    ("sortOptions", Value::Map(out))
}

/// Fields that are rare, or wrong.
fn odd(m: &mut Maker<'_>, _: &str) -> (&'static str, Value) {
    let list: [(&'static str, Value); 8] = [
        ("NamePREFIX", text("x-")),
        ("unknownField", raw("1")),
        ("metadata", map([("name", text("x")), ("labels", map([("a", text("b"))]))])),
        ("openapi", map([("version", text("v1.21.2"))])),
        ("helmGlobals", map([("chartHome", text("x"))])),
        ("bases", Value::Seq(vec![text("../nothing")])),
        ("resources", Value::Seq(vec![text("missing.yaml")])),
        ("components", Value::Seq(vec![text("../nothing")])),
    ];
    list[m.rng.below(list.len())].clone()
}
