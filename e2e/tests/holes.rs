//! What the hub builds with a value and what the agent makes of the hole that stands for it are the same bytes, or neither
//! builds anything: for values through one unit, through the unit above, and through two units above.

use std::collections::BTreeMap;
use std::sync::Arc;

use driftless_protocol::bundle::LateKind;
use driftless_protocol::id::{Revision, UnitId};
use driftless_reconcile::fill::{Fill, InputData, InputState, Reader};
use driftless_render::flux::{RenderState, RenderedCluster, render_cluster};
use driftless_render::target::{Facts, GitRef, SourceSet, SourceTree, Target};
use driftless_render::tree::MemTree;

/// Values that mean something to YAML, to Flux's expressions, or to neither.
const VALUES: &[&str] = &[
    "example.org",
    "5",
    "-5",
    "0x1F",
    "1e3",
    "1.5",
    "true",
    "yes",
    "on",
    "null",
    "~",
    "",
    " ",
    " lead",
    "trail ",
    "a: b",
    "a:b",
    "a #b",
    "#b",
    "\"5\"",
    "'true'",
    "'x",
    "\"x",
    "x\"",
    "- a",
    "[a]",
    "[a",
    "{a: b}",
    "{a",
    "a, b",
    "*x",
    "&x y",
    "!!str 5",
    "!x y",
    "one\ntwo",
    "one\n",
    "\n",
    "2020-01-01",
    "2020-01-01T00:00:00Z",
    "%a",
    "@a",
    "`a",
    "| x",
    "> x",
    "? x",
    ": ",
    "---",
    "é",
    "${other}",
    "$${x}",
    "$5",
    "\\",
    "\\n",
    "\ttab",
    "a\tb",
    "<<",
    "=",
    ".inf",
    ".nan",
    "1_000",
    "0o7",
    "07",
    "1:30",
];

fn unit(name: &str, post_build: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: flux-system}}\nspec:\n  \
         interval: 10m\n  prune: true\n  path: ./{name}\n  sourceRef: {{kind: GitRepository, name: flux-system}}\n  \
         postBuild: {post_build}\n"
    )
}

/// Three units above each other; the first takes `value` from a ConfigMap.
fn render(facts: Option<Facts>) -> RenderedCluster {
    let from = "{substituteFrom: [{kind: ConfigMap, name: settings}]}";
    let files = [
        ("clusters/c/top.yaml", unit("top", from)),
        (
            "top/middle.yaml",
            unit("middle", "{substitute: {zone: '${value}', known: a, both: 'x.${value}-${known:=k}'}}"),
        ),
        ("middle/web.yaml", unit("web", "{substitute: {host: 'web.${zone}', zone: '${zone}', own: '5'}}")),
        ("top/top.yaml", config("top", "one: '${value}'\n  two: 'a ${value} b'")),
        ("middle/middle.yaml", config("middle", "one: '${zone}'\n  two: 'a ${both} b'\n  three: '${known}'")),
        ("web/web.yaml", config("web", "one: '${host}'\n  two: '${zone} ${own}'\n  three: 'x'")),
    ];
    let mut tree = MemTree::new();
    for (path, text) in files {
        tree.insert(path, text.into_bytes());
    }
    let source = SourceTree {
        id: "flux-system/flux-system".into(),
        tree: Arc::new(tree),
        revision: Revision { reference: "main".into(), commit: "1".repeat(40) },
        url: "https://example.org/fleet".into(),
        reference: GitRef::Branch("main".into()),
    };
    let target = Target::new("c".parse().expect("a name")).with_facts(facts);
    render_cluster(&SourceSet::new(source), &target)
}

fn config(name: &str, data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  namespace: default\ndata:\n  {data}\n")
}

/// The bytes of each unit's ConfigMap by unit; a unit that builds nothing is not among them.
type Built = BTreeMap<&'static str, Vec<u8>>;

const UNITS: [&str; 3] = ["top", "middle", "web"];

fn of_hub(value: &str) -> Built {
    let config_maps = [("flux-system/settings".to_owned(), [("value".to_owned(), value.to_owned())].into())].into();
    let rendered = render(Some(Facts { config_maps, ..Facts::default() }));
    let mut out = Built::new();
    for name in UNITS {
        let Some(unit) = rendered.unit(&UnitId::kustomization("flux-system", name)) else { continue };
        let object = unit.objects().iter().find(|object| object.key.kind == "ConfigMap");
        if let (RenderState::Full { .. }, Some(object)) = (&unit.state, object) {
            assert!(object.holes.is_none(), "the facts know every value");
            out.insert(name, object.bytes.to_vec());
        }
    }
    out
}

fn of_agent(value: &str, rendered: &RenderedCluster, said: &mut BTreeMap<&'static str, String>) -> Built {
    let values = [("value".to_owned(), value.to_owned().into())].into();
    let state = InputState::Found(Arc::new(InputData { values, ..InputData::default() }));
    let mut out = Built::new();
    for name in UNITS {
        let unit = rendered.unit(&UnitId::kustomization("flux-system", name)).expect("it is defined");
        let late = Arc::new(unit.late.clone().expect("it has late inputs"));
        let fill = Fill::new(&late, &Reader { unit: unit.id.clone(), account: None }, &|input| {
            assert_eq!((input.kind, &*input.name), (LateKind::ConfigMap, "settings"));
            Some(&state)
        });
        let object = unit.objects().iter().find(|object| object.key.kind == "ConfigMap").expect("its ConfigMap");
        let filled = fill.and_then(|fill| match object.holes {
            Some(_) => Ok(fill.object(&object.key, &object.api_version, &object.bytes)?.bytes.to_vec()),
            None => Ok(object.bytes.to_vec()),
        });
        match filled {
            Ok(bytes) => drop(out.insert(name, bytes)),
            Err(why) => drop(said.insert(name, why.0)),
        }
    }
    out
}

#[test]
fn a_hole_filled_in_the_cluster_gives_what_a_known_value_gives() {
    let rendered = render(None);
    let holes = rendered.units.iter().filter(|unit| unit.late.is_some()).count();
    assert_eq!(holes, 3, "{:?}", rendered.all_problems().map(ToString::to_string).collect::<Vec<_>>());
    let (mut built, mut refused) = (0, 0);
    for value in VALUES {
        let mut said = BTreeMap::new();
        let (hub, agent) = (of_hub(value), of_agent(value, &rendered, &mut said));
        for name in UNITS {
            let shown = |of: &Built| of.get(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            // A unit that Flux does not build leaves those below it as they were: the agent, which does not know what was,
            // refuses them.
            let above = UNITS.iter().take_while(|unit| **unit != name).all(|unit| hub.contains_key(unit));
            let expected = shown(&hub).filter(|_| above);
            if agent.contains_key(name) || expected.is_some() {
                assert_eq!(shown(&agent), expected, "{name} with {value:?}: {said:?}");
                built += 1;
            } else {
                refused += 1;
            }
        }
    }
    assert!(built > VALUES.len() && refused > VALUES.len() / 2, "{built} built, {refused} refused");
}
