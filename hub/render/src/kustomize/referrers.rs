//! Which fields of an object may hold the name of another one.

use super::config::{self, Config, NameReference};
use super::res::IdRef;
use driftless_yaml::Node;
use std::collections::HashMap;
use std::sync::LazyLock;

/// One field that may hold a name.
pub(crate) struct Field<'c> {
    pub(crate) path: &'c [String],
    group: &'c str,
    version: &'c str,
    pub(crate) target: &'c NameReference,
    pub(crate) role_reference: bool,
}

/// The fields of one kind, and the ways to them laid over each other: one walk over an object finds all that matter.
#[derive(Default)]
struct FieldsOfKind<'c> {
    fields: Vec<Field<'c>>,
    ways: Way<'c>,
}

#[derive(Default)]
struct Way<'c> {
    /// Fields that end here.
    ends: Vec<usize>,
    next: Vec<(&'c str, Way<'c>)>,
}

impl<'c> FieldsOfKind<'c> {
    fn push(&mut self, field: Field<'c>) {
        let mut way = &mut self.ways;
        for part in field.path {
            let name = part.strip_suffix("[]").unwrap_or(part);
            let at = way.next.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
                way.next.push((name, Way::default()));
                way.next.len() - 1
            });
            way = &mut way.next[at].1;
        }
        way.ends.push(self.fields.len());
        self.fields.push(field);
    }

    /// The fields that hold a value for which `test` holds, or that something stands in the way to, in their order.
    fn that(&self, node: &Node, test: &dyn Fn(&Node) -> bool) -> Vec<usize> {
        let mut found = Vec::new();
        self.ways.at(node, test, &mut found);
        found.sort_unstable();
        found.dedup();
        found
    }
}

impl Way<'_> {
    fn at(&self, node: &Node, test: &dyn Fn(&Node) -> bool, found: &mut Vec<usize>) {
        if !self.ends.is_empty() && test(node) {
            found.extend_from_slice(&self.ends);
        }
        self.below(node, test, found);
    }

    fn below(&self, node: &Node, test: &dyn Fn(&Node) -> bool, found: &mut Vec<usize>) {
        if self.next.is_empty() {
            return;
        }
        match node {
            n if n.is_null() => {}
            Node::Scalar(_) => self.next.iter().for_each(|(_, way)| way.all(found)),
            Node::Seq(seq) => seq.iter().for_each(|item| self.below(item, test, found)),
            Node::Map(map) => {
                for (name, way) in &self.next {
                    if name.is_empty() {
                        way.all(found);
                    } else if let Some(value) = map.get(name) {
                        way.at(value, test, found);
                    }
                }
            }
        }
    }

    fn all(&self, found: &mut Vec<usize>) {
        found.extend_from_slice(&self.ends);
        self.next.iter().for_each(|(_, way)| way.all(found));
    }
}

/// The fields of every kind.
pub(crate) struct References<'c> {
    by_kind: HashMap<&'c str, FieldsOfKind<'c>>,
    anywhere: FieldsOfKind<'c>,
}

/// Those of the defaults, which nearly every build goes by.
pub(crate) static DEFAULT: LazyLock<References<'static>> = LazyLock::new(|| References::new(config::defaults()));

impl<'c> References<'c> {
    pub(crate) fn new(config: &'c Config) -> Self {
        let mut out = Self { by_kind: HashMap::new(), anywhere: FieldsOfKind::default() };
        for target in &config.name_references {
            for spec in &target.referrers {
                let fields = match &*spec.kind {
                    "" => &mut out.anywhere,
                    kind => out.by_kind.entry(kind).or_default(),
                };
                fields.push(Field {
                    path: spec.path.parts(),
                    group: &spec.group,
                    version: &spec.version,
                    target,
                    role_reference: spec.path.ends_with("roleRef/name"),
                });
            }
        }
        out
    }

    /// Whether any field of a kind may hold a name.
    pub(crate) fn any_for(&self, kind: &str) -> bool {
        self.by_kind.contains_key(kind) || !self.anywhere.fields.is_empty()
    }

    /// The first field of an object from this place on, those of its kind before those of all kinds, that holds a value
    /// for which `test` holds, or that something stands in the way to.
    pub(crate) fn due<'r>(
        &'r self,
        node: &Node,
        original: IdRef<'_>,
        from: usize,
        test: &dyn Fn(&Node) -> bool,
    ) -> Option<(usize, &'r Field<'c>)> {
        let mut before = 0;
        for fields in self.by_kind.get(original.kind).into_iter().chain([&self.anywhere]) {
            let fits = |field: &Field<'_>| {
                (field.group.is_empty() || field.group == original.group())
                    && (field.version.is_empty() || field.version == original.version())
            };
            let found = fields.that(node, test).into_iter().filter(|at| before + at >= from);
            if let Some(found) = found.map(|at| (before + at, &fields.fields[at])).find(|(_, field)| fits(field)) {
                return Some(found);
            }
            before += fields.fields.len();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::fieldspec::any;
    use super::*;
    use driftless_yaml::{Dialect, Limits, parse_one};

    /// One walk finds what a walk for each field finds.
    #[test]
    fn one_walk_finds_what_many_find() {
        let texts = [
            "spec: {template: {spec: {volumes: [{configMap: {name: x}}, {secret: {secretName: y}}], serviceAccountName: x}}}",
            "spec: {template: {spec: {containers: [{envFrom: [{configMapRef: {name: x}}], env: [{valueFrom: {secretKeyRef: {name: x}}}]}]}}}",
            "spec: {template: text}",
            "spec: {template: null}",
            "spec: [{template: {spec: {serviceAccountName: x}}}, text]",
            "{}",
            "spec: {template: {spec: {containers: [[{envFrom: [{configMapRef: {name: x}}]}]], imagePullSecrets: [{name: x}]}}}",
        ];
        let test = |node: &Node| node.as_str() == Some("x");
        let mut hits = 0;
        for text in texts {
            let node = parse_one(text.as_bytes(), Dialect::Resource, &Limits::default()).unwrap().node;
            for (kind, fields) in &DEFAULT.by_kind {
                let expected: Vec<usize> = (0..fields.fields.len())
                    .filter(|at| any(&node, fields.fields[*at].path, &mut |n| test(n)))
                    .collect();
                hits += expected.len();
                assert_eq!(fields.that(&node, &test), expected, "{kind}: {text}");
            }
        }
        assert!(hits > 50, "{hits}");
    }
}
