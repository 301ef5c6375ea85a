//! Names of objects in the fields of other objects, made to follow when an object is renamed.

use super::config::Config;
use super::error::{BuildError, ErrorKind};
use super::fieldspec::{Create, rewrite, set_text, visit, wrong_shape};
use super::referrers::{DEFAULT, Field, References};
use super::res::{Id, NO_NAMESPACE, Objects, Res};
use driftless_yaml::Node;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What of an object matters when it may be referred to.
struct Candidate {
    now: Id,
    namespace: Arc<str>,
    original_namespace: Arc<str>,
    former: Vec<Id>,
    prefixes: Vec<Arc<str>>,
    suffixes: Vec<Arc<str>>,
}

struct Candidates {
    all: Vec<Candidate>,
    by_former_name: HashMap<Arc<str>, Vec<usize>>,
    by_original_namespace: HashMap<Arc<str>, Vec<usize>>,
}

/// Follows all names.
pub(crate) fn follow(objects: &mut Objects, config: &Config) -> Result<(), BuildError> {
    if std::ptr::eq(config, super::config::defaults()) {
        return follow_by(objects, &DEFAULT);
    }
    follow_by(objects, &References::new(config))
}

fn follow_by(objects: &mut Objects, references: &References<'_>) -> Result<(), BuildError> {
    let candidates = Candidates::new(objects);
    for at in 0..objects.len() {
        let res = objects.get(at);
        // The field specs are matched against what the object was when it was read.
        let original = res.original_id();
        let test = |value: &Node| candidates.may_mean(value);
        let due = |node: &Node, from: usize| references.due(node, &original, from, &test);
        let no_api = res.node.as_map().and_then(|m| m.get("apiVersion")).is_some_and(Node::is_null);
        if no_api && references.any_for(&original.kind) {
            let attempt = format!("{} has an empty apiVersion, so its references cannot be followed", res.id());
            return Err(BuildError::new(ErrorKind::Target, res.origin.clone(), attempt));
        }
        let mut next = due(&res.node, 0);
        // A binding is looked at in any case: its subjects may be wrong.
        let binding = &*candidates.all[at].now.kind == "RoleBinding" && references.any_for(&original.kind);
        if next.is_none() && !binding {
            continue;
        }
        let referrer = Referrer::new(res, at, &candidates)
            .map_err(|why| BuildError::new(ErrorKind::Target, res.origin.clone(), format!("{}: {why}", res.id())))?;
        let mut node: Option<Node> = None;
        while let Some((place, field)) = next {
            let here = node.get_or_insert_with(|| res.node.clone());
            visit(here, field.path, Create::Nothing, &mut |value| referrer.update(value, field)).map_err(|why| {
                BuildError::new(
                    ErrorKind::Target,
                    res.origin.clone(),
                    format!("the name in {} of {}: {why}", field.path.join("/"), referrer.now),
                )
            })?;
            // What has changed may be what a later field looks at.
            next = due(here, place + 1);
        }
        if let Some(node) = node {
            objects.get_mut_same_id(at).node = node;
        }
    }
    Ok(())
}

impl Candidates {
    fn new(objects: &Objects) -> Self {
        let mut out = Self { all: Vec::new(), by_former_name: HashMap::new(), by_original_namespace: HashMap::new() };
        for (at, res) in objects.iter().enumerate() {
            let former: Vec<Id> = res.former_ids().collect();
            for id in &former {
                let named = out.by_former_name.entry(id.name.clone()).or_default();
                if named.last() != Some(&at) {
                    named.push(at);
                }
            }
            let now = res.id();
            let original_namespace = res.original_id().shared_namespace();
            out.by_original_namespace.entry(original_namespace.clone()).or_default().push(at);
            out.all.push(Candidate {
                namespace: now.shared_namespace(),
                now,
                original_namespace,
                former,
                prefixes: res.prefixes.clone(),
                suffixes: res.suffixes.clone(),
            });
        }
        out
    }
}

impl Candidates {
    /// Whether a value holds a name that some object once had, or is of a shape that is worth an error.
    fn may_mean(&self, node: &Node) -> bool {
        match node {
            n if n.is_null() => false,
            Node::Scalar(s) => self.by_former_name.contains_key(&s.text),
            Node::Map(map) => match map.get("name") {
                Some(Node::Scalar(s)) => self.by_former_name.contains_key(&s.text),
                _ => true,
            },
            Node::Seq(seq) => seq.iter().any(|item| matches!(item, Node::Seq(_)) || self.may_mean(item)),
        }
    }
}

/// The object whose fields are followed.
struct Referrer<'c> {
    candidates: &'c Candidates,
    now: Id,
    namespace: Arc<str>,
    prefixes: Vec<Arc<str>>,
    suffixes: Vec<Arc<str>>,
    /// Namespaces of the service accounts that a RoleBinding names.
    subject_namespaces: HashSet<Arc<str>>,
    /// Group and kind of `roleRef`.
    role: Option<(Arc<str>, Arc<str>)>,
}

impl<'c> Referrer<'c> {
    fn new(res: &Res, at: usize, candidates: &'c Candidates) -> Result<Self, String> {
        let known = &candidates.all[at];
        let mut subject_namespaces = HashSet::new();
        if &*known.now.kind == "RoleBinding" {
            let subjects = res.node.as_map().and_then(|m| m.get("subjects")).and_then(Node::as_seq);
            for subject in subjects.into_iter().flatten() {
                let Some(subject) = subject.as_map() else { return Err("a subject is not a map".to_owned()) };
                let (Some(namespace), Some(kind)) = (subject.get("namespace"), subject.get("kind")) else { continue };
                let Some(kind) = kind.as_str() else { return Err("a subject has a kind that is no text".to_owned()) };
                if kind != "ServiceAccount" {
                    continue;
                }
                match namespace.as_str() {
                    Some(namespace) => subject_namespaces.insert(namespace.into()),
                    None => return Err("a subject has a namespace that is no text".to_owned()),
                };
            }
        }
        let role = res.node.at(&["roleRef"]).and_then(|r| {
            let text = |key: &str| r.as_map()?.get(key)?.as_scalar().map(|s| s.text.clone());
            Some((text("apiGroup")?, text("kind")?))
        });
        Ok(Self {
            candidates,
            now: known.now.clone(),
            namespace: known.namespace.clone(),
            prefixes: res.prefixes.clone(),
            suffixes: res.suffixes.clone(),
            subject_namespaces,
            role,
        })
    }

    /// Whether this object may refer to that one at all: cluster-scoped, in the same namespace, or a service account in a
    /// namespace that a RoleBinding names.
    fn may_refer(&self, c: &Candidate) -> bool {
        &*self.namespace == NO_NAMESPACE
            || &*c.namespace == NO_NAMESPACE
            || c.namespace == self.namespace
            || (self.subject_namespaces.contains(&c.now.namespace) && &*c.now.kind == "ServiceAccount")
    }

    /// Whether it would be looked at before kinds are: as above, but for any kind in those namespaces.
    fn in_reach(&self, c: &Candidate) -> bool {
        self.may_refer(c) || self.subject_namespaces.contains(&c.now.namespace)
    }

    fn update(&self, node: &mut Node, field: &Field<'_>) -> Result<(), String> {
        match node {
            n if n.is_null() => Ok(()),
            Node::Scalar(s) => {
                let Some(found) = self.select(&s.text, None, field, false)? else { return Ok(()) };
                if *found.now.name != *s.text {
                    rewrite(s, found.now.name.clone());
                }
                Ok(())
            }
            Node::Map(_) => self.update_map(node, field),
            Node::Seq(seq) => {
                // Lists of lists do not occur; the real program refuses them.
                for item in seq.items_mut() {
                    match item {
                        n if n.is_null() => {}
                        Node::Seq(_) => return Err(wrong_shape(item, "a name or a map with a name")),
                        item => self.update(item, field)?,
                    }
                }
                Ok(())
            }
        }
    }

    fn update_map(&self, node: &mut Node, field: &Field<'_>) -> Result<(), String> {
        let Node::Map(map) = node else { return Ok(()) };
        let Some(name) = map.get("name") else {
            return Err("the map there has no field \"name\"; check the configuration of this path".to_owned());
        };
        let name = super::res::text_of(name);
        let namespace = map.get("namespace").map(super::res::text_of);
        let Some(found) = self.select(&name, namespace.as_deref(), field, true)? else { return Ok(()) };
        if found.now.name == name && found.now.namespace.is_empty() {
            return Ok(());
        }
        set_text(map, "name", &found.now.name);
        if !found.now.namespace.is_empty() {
            set_text(map, "namespace", &found.now.namespace);
        }
        Ok(())
    }

    /// The object meant by a name; `None` when it is nobody's, an error when it is several's.
    fn select(
        &self,
        name: &str,
        namespace: Option<&str>,
        field: &Field<'_>,
        with_namespace: bool,
    ) -> Result<Option<&'c Candidate>, String> {
        let all = &self.candidates.all;
        let Some(named) = self.candidates.by_former_name.get(name) else { return Ok(None) };
        let mut left: Vec<&Candidate> = named.iter().map(|&i| &all[i]).filter(|c| self.may_refer(c)).collect();
        if let Some(namespace) = namespace
            && with_namespace
        {
            let was_there = namespace != NO_NAMESPACE
                && self
                    .candidates
                    .by_original_namespace
                    .get(namespace)
                    .is_some_and(|list| list.iter().any(|&i| self.in_reach(&all[i])));
            left.retain(|c| match was_there {
                true => *c.original_namespace == *namespace,
                false => *c.namespace == *namespace && namespace != NO_NAMESPACE,
            });
        }
        let target = field.target;
        left.retain(|c| {
            c.former.iter().any(|id| {
                (target.group.is_empty() || *target.group == *id.group())
                    && (target.version.is_empty() || *target.version == *id.version())
                    && (target.kind.is_empty() || target.kind == id.kind)
            })
        });
        if field.role_reference
            && let Some((group, kind)) = &self.role
        {
            left.retain(|c| {
                c.former
                    .iter()
                    .any(|id| (group.is_empty() || **group == *id.group()) && (kind.is_empty() || *kind == id.kind))
            });
        }
        if let [one] = left.as_slice() {
            return Ok(Some(one));
        }
        left.retain(|c| same_end_or_none(&c.prefixes, &self.prefixes) && same_end_or_none(&c.suffixes, &self.suffixes));
        if left.len() > 1 {
            left.retain(|c| same_end(&c.prefixes, &self.prefixes) && same_end(&c.suffixes, &self.suffixes));
        }
        let Some((first, rest)) = left.split_first() else { return Ok(None) };
        let same = |c: &&Candidate| {
            c.now.name == first.now.name && (!with_namespace || c.now.namespace == first.now.namespace)
        };
        if rest.iter().all(same) {
            return Ok(Some(first));
        }
        let shown: Vec<String> = left.iter().map(|c| c.now.to_string()).collect();
        Err(format!("{name:?} could mean several objects: {}", shown.join(", ")))
    }
}

fn same_end_or_none(a: &[Arc<str>], b: &[Arc<str>]) -> bool {
    a.is_empty() || b.is_empty() || same_end(a, b)
}

/// Whether the shorter list is the end of the longer one; an empty list is the end of an empty one only.
fn same_end(a: &[Arc<str>], b: &[Arc<str>]) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    if short.is_empty() { long.is_empty() } else { long.ends_with(short) }
}
