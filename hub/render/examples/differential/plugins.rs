//! Transformers and generators given as objects.

use crate::fields::{
    FIELD_PATHS, SPEC_PATHS, field_specs, generator as map_generator, image, pairs, replacement, selector,
};
use crate::grammar::Maker;
use crate::patches::{json_patch, merge_patch};
use crate::value::{Value, map, quoted, raw, text};
use crate::words::NAMESPACES;

/// An entry of `transformers` and the like: a file or a text.
pub(crate) fn list(m: &mut Maker<'_>, dir: &str, make: fn(&mut Maker<'_>, &str) -> Value) -> Value {
    let value = make(m, dir);
    let entry = if m.rng.chance(60) {
        text(&m.yaml(dir, "plugin", &value))
    } else {
        raw(format!("|\n{}", value.write(m.rng).trim_end()))
    };
    Value::Seq(vec![entry])
}

fn object(kind: &str, fields: Vec<(&str, Value)>) -> Value {
    let mut out = vec![
        ("apiVersion".to_owned(), text("builtin")),
        ("kind".to_owned(), text(kind)),
        ("metadata".to_owned(), map([("name", text("notImportantHere"))])),
    ];
    out.extend(fields.into_iter().map(|(k, v)| (k.to_owned(), v)));
    Value::Map(out)
}

/// A transformer of a random kind.
pub(crate) fn transformer(m: &mut Maker<'_>, dir: &str) -> Value {
    match m.rng.below(17) {
        0 => object("AnnotationsTransformer", vec![("annotations", pairs(m)), ("fieldSpecs", field_specs(m))]),
        1 => object("LabelTransformer", vec![("labels", pairs(m)), ("fieldSpecs", field_specs(m))]),
        2 => {
            let patch = if m.rng.chance(50) { merge_patch(m) } else { json_patch(m) };
            let mut fields = vec![("patch", quoted(&patch))];
            if m.rng.chance(60) {
                fields.push(("target", selector(m, true)));
            }
            if m.rng.chance(20) {
                fields.push(("options", map([("allowNameChange", raw("true")), ("allowKindChange", raw("true"))])));
            }
            object("PatchTransformer", fields)
        }
        3 => {
            let patch = merge_patch(m);
            if m.rng.chance(50) {
                object("PatchStrategicMergeTransformer", vec![("patches", quoted(&patch))])
            } else {
                let name = m.file(dir, "tpatch", "yaml", patch);
                object("PatchStrategicMergeTransformer", vec![("paths", Value::Seq(vec![text(&name)]))])
            }
        }
        4 => {
            let patch = json_patch(m);
            let target = selector(m, true);
            object("PatchJson6902Transformer", vec![("target", target), ("jsonOp", quoted(&patch))])
        }
        5 | 6 => {
            let mut out = object("NamespaceTransformer", vec![]);
            if let Some(Value::Map(meta)) = out.get_mut("metadata") {
                meta.push(("namespace".into(), text(m.rng.pick(NAMESPACES))));
            }
            if let Value::Map(entries) = &mut out {
                if m.rng.chance(40) {
                    entries.push(("unsetOnly".into(), raw("true")));
                }
                if m.rng.chance(50) {
                    let which = m.rng.pick(&["defaultOnly", "allServiceAccounts", "none", "odd"]);
                    entries.push(("setRoleBindingSubjects".into(), text(which)));
                }
                if m.rng.chance(50) {
                    entries.push(("fieldSpecs".into(), field_specs(m)));
                }
            }
            out
        }
        7 => object("PrefixTransformer", vec![("prefix", text("pre-")), ("fieldSpecs", names(m))]),
        8 => object("SuffixTransformer", vec![("suffix", text("-suf")), ("fieldSpecs", names(m))]),
        9 => object(
            "PrefixSuffixTransformer",
            vec![("prefix", text("p-")), ("suffix", text("-s")), ("fieldSpecs", names(m))],
        ),
        10 => {
            let name = m.name();
            let count = map([("name", text(&name)), ("count", raw("7"))]);
            object("ReplicaCountTransformer", vec![("replica", count), ("fieldSpecs", field_specs(m))])
        }
        11 => object("ImageTagTransformer", vec![("imageTag", image(m)), ("fieldSpecs", field_specs(m))]),
        12 => object("ReplacementTransformer", vec![("replacements", Value::Seq(vec![replacement(m)]))]),
        13 | 14 => value_add(m),
        15 => object("HashTransformer", vec![]),
        _ => {
            let order = map([("order", text(m.rng.pick(&["legacy", "fifo"])))]);
            object(m.rng.pick(&["SortOrderTransformer", "NothingTransformer"]), vec![("sortOptions", order)])
        }
    }
}

fn names(m: &mut Maker<'_>) -> Value {
    if m.rng.chance(70) { Value::Seq(vec![map([("path", text("metadata/name"))])]) } else { field_specs(m) }
}

fn value_add(m: &mut Maker<'_>) -> Value {
    let path = if m.rng.chance(80) { m.rng.pick(SPEC_PATHS) } else { m.rng.pick(FIELD_PATHS) };
    let mut target = vec![("fieldPath".to_owned(), text(path))];
    if m.rng.chance(70) {
        target.push(("selector".into(), selector(m, true)));
    }
    if m.rng.chance(40) {
        target.push(("filePathPosition".into(), raw(m.rng.pick(&["0", "1", "2", "9", "-1"]))));
    }
    let value = text(m.rng.pick(&["v", "/a/b", "x y", "1"]));
    object("ValueAddTransformer", vec![("value", value), ("targets", Value::Seq(vec![Value::Map(target)]))])
}

/// A generator of a random kind.
pub(crate) fn generator(m: &mut Maker<'_>, dir: &str) -> Value {
    let which = m.rng.below(5);
    if which == 4 {
        let account = map([("name", text("gsa")), ("projectId", text("project"))]);
        let own = map([("namespace", text("prod")), ("name", text("ksa"))]);
        let cloud = m.rng.pick(&["gke", "gke", "other"]);
        return object(
            "IAMPolicyGenerator",
            vec![("cloud", text(cloud)), ("kubernetesService", own), ("serviceAccount", account)],
        );
    }
    let secret = which % 2 == 1;
    let Value::Map(mut fields) = map_generator(m, dir, secret) else { return object("ConfigMapGenerator", vec![]) };
    let name = fields.iter().find(|(k, _)| k == "name").map_or_else(|| text("g"), |(_, v)| v.clone());
    let mut out = object(if secret { "SecretGenerator" } else { "ConfigMapGenerator" }, vec![]);
    if m.rng.chance(60) {
        fields.retain(|(k, _)| k != "name");
        if let Some(meta) = out.get_mut("metadata") {
            *meta = map([("name", name)]);
        }
    }
    if let Value::Map(entries) = &mut out {
        entries.extend(fields);
    }
    out
}
