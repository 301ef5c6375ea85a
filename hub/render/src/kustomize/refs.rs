//! Names of objects in the fields of other objects, made to follow when an object is renamed.

use super::config::Config;
use super::error::{BuildError, ErrorKind};
use super::fieldspec::{Create, rewrite, set_text, visit, wrong_shape};
use super::referrers::{DEFAULT, Field, References};
use super::res::{IdRef, NO_NAMESPACE, Objects, Places, Res};
use driftless_yaml::Node;
use foldhash::fast::RandomState;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What of an object matters when it may be referred to.
struct Candidate<'o> {
    res: &'o Res,
    now: IdRef<'o>,
    /// In comparable form, as is the next.
    namespace: &'o str,
    original_namespace: &'o str,
}

struct Candidates<'o> {
    all: Vec<Candidate<'o>>,
    by_former_name: HashMap<&'o str, Places, RandomState>,
    by_original_namespace: HashMap<&'o str, Vec<usize>, RandomState>,
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
    // Who is who was settled before any name changes.
    let mut changed: Vec<(usize, Node)> = Vec::new();
    for (at, candidate) in candidates.all.iter().enumerate() {
        let res = candidate.res;
        // The field specs are matched against what the object was when it was read.
        let original = res.original_ref();
        let test = |value: &Node| candidates.may_mean(value);
        let due = |node: &Node, from: usize| references.due(node, original, from, &test);
        let no_api = res.node.as_map().and_then(|m| m.get("apiVersion")).is_some_and(Node::is_null);
        if no_api && references.any_for(original.kind) {
            let attempt = format!("{} has an empty apiVersion, so its references cannot be followed", res.id());
            return Err(BuildError::new(ErrorKind::Target, res.origin.clone(), attempt));
        }
        let mut next = due(&res.node, 0);
        // A binding is looked at in any case: its subjects may be wrong.
        let binding = candidate.now.kind == "RoleBinding" && references.any_for(original.kind);
        if next.is_none() && !binding {
            continue;
        }
        let referrer = Referrer::new(candidate, &candidates)
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
        changed.extend(node.map(|node| (at, node)));
    }
    drop(candidates);
    for (at, node) in changed {
        objects.get_mut_same_id(at).node = node;
    }
    Ok(())
}

impl<'o> Candidates<'o> {
    fn new(objects: &'o Objects) -> Self {
        let mut out = Self {
            all: Vec::with_capacity(objects.len()),
            by_former_name: HashMap::with_capacity_and_hasher(objects.len(), RandomState::default()),
            by_original_namespace: HashMap::default(),
        };
        for (at, res) in objects.iter().enumerate() {
            for id in res.former_refs() {
                let at = at as u32;
                out.by_former_name.entry(id.name).and_modify(|places| places.add(at)).or_insert(Places::One(at));
            }
            let now = res.id_ref();
            let original_namespace = res.original_ref().effective_namespace();
            out.by_original_namespace.entry(original_namespace).or_default().push(at);
            out.all.push(Candidate { res, now, namespace: now.effective_namespace(), original_namespace });
        }
        out
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &Candidate<'o>> {
        let places = self.by_former_name.get(name).map_or(&[][..], Places::as_slice);
        places.iter().filter_map(|at| self.all.get(*at as usize))
    }
}

impl Candidates<'_> {
    /// Whether a value holds a name that some object once had, or is of a shape that is worth an error.
    fn may_mean(&self, node: &Node) -> bool {
        match node {
            n if n.is_null() => false,
            Node::Scalar(s) => self.by_former_name.contains_key(&*s.text),
            Node::Map(map) => match map.get("name") {
                Some(Node::Scalar(s)) => self.by_former_name.contains_key(&*s.text),
                _ => true,
            },
            Node::Seq(seq) => seq.iter().any(|item| matches!(item, Node::Seq(_)) || self.may_mean(item)),
        }
    }
}

/// The object whose fields are followed.
struct Referrer<'c> {
    candidates: &'c Candidates<'c>,
    now: IdRef<'c>,
    namespace: &'c str,
    prefixes: &'c [Arc<str>],
    suffixes: &'c [Arc<str>],
    /// Namespaces of the service accounts that a RoleBinding names.
    subject_namespaces: HashSet<Arc<str>>,
    /// Group and kind of `roleRef`.
    role: Option<(Arc<str>, Arc<str>)>,
}

impl<'c> Referrer<'c> {
    fn new(known: &'c Candidate<'c>, candidates: &'c Candidates<'c>) -> Result<Self, String> {
        let res = known.res;
        let mut subject_namespaces = HashSet::new();
        if known.now.kind == "RoleBinding" {
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
            now: known.now,
            namespace: known.namespace,
            prefixes: &res.prefixes,
            suffixes: &res.suffixes,
            subject_namespaces,
            role,
        })
    }

    /// Whether this object may refer to that one at all: cluster-scoped, in the same namespace, or a service account in a
    /// namespace that a RoleBinding names.
    fn may_refer(&self, c: &Candidate<'_>) -> bool {
        self.namespace == NO_NAMESPACE
            || c.namespace == NO_NAMESPACE
            || c.namespace == self.namespace
            || (self.subject_namespaces.contains(c.now.namespace) && c.now.kind == "ServiceAccount")
    }

    /// Whether it would be looked at before kinds are: as above, but for any kind in those namespaces.
    fn in_reach(&self, c: &Candidate<'_>) -> bool {
        self.may_refer(c) || self.subject_namespaces.contains(c.now.namespace)
    }

    fn update(&self, node: &mut Node, field: &Field<'_>) -> Result<(), String> {
        match node {
            n if n.is_null() => Ok(()),
            Node::Scalar(s) => {
                let Some(found) = self.select(&s.text, None, field, false)? else { return Ok(()) };
                if *found.now.name != *s.text {
                    rewrite(s, found.res.name());
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
        if *found.now.name == *name && found.now.namespace.is_empty() {
            return Ok(());
        }
        set_text(map, "name", found.now.name);
        if !found.now.namespace.is_empty() {
            set_text(map, "namespace", found.now.namespace);
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
    ) -> Result<Option<&'c Candidate<'c>>, String> {
        let all = &self.candidates.all;
        let mut left: Vec<&Candidate<'_>> = self.candidates.named(name).filter(|c| self.may_refer(c)).collect();
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
            c.res.former_refs().any(|id| {
                (target.group.is_empty() || *target.group == *id.group())
                    && (target.version.is_empty() || *target.version == *id.version())
                    && (target.kind.is_empty() || *target.kind == *id.kind)
            })
        });
        if field.role_reference
            && let Some((group, kind)) = &self.role
        {
            left.retain(|c| {
                c.res
                    .former_refs()
                    .any(|id| (group.is_empty() || **group == *id.group()) && (kind.is_empty() || **kind == *id.kind))
            });
        }
        if let [one] = left.as_slice() {
            return Ok(Some(one));
        }
        left.retain(|c| {
            same_end_or_none(&c.res.prefixes, self.prefixes) && same_end_or_none(&c.res.suffixes, self.suffixes)
        });
        if left.len() > 1 {
            left.retain(|c| same_end(&c.res.prefixes, self.prefixes) && same_end(&c.res.suffixes, self.suffixes));
        }
        let Some((first, rest)) = left.split_first() else { return Ok(None) };
        let same = |c: &&Candidate<'_>| {
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
