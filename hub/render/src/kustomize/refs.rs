//! Names of objects in the fields of other objects, made to follow when an object is renamed.

use super::config::Config;
use super::error::{BuildError, ErrorKind};
use super::fieldspec::{Create, rewrite, set_text, visit, wrong_shape};
use super::referrers::{DEFAULT, Field, References};
use super::res::{Id, IdRef, NO_NAMESPACE, Objects, Places, Res};
use driftless_yaml::Node;
use foldhash::fast::RandomState;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What of an object matters when it may be referred to.
struct Candidate<'o> {
    /// Without its node.
    res: &'o Res,
    now: Id,
    /// In comparable form.
    namespace: Arc<str>,
}

struct Candidates<'o> {
    all: Vec<Candidate<'o>>,
    by_former_name: HashMap<&'o str, Places, RandomState>,
    by_original_namespace: HashMap<Arc<str>, Vec<usize>, RandomState>,
}

impl Candidate<'_> {
    /// Who it was when it was read.
    fn original(&self) -> IdRef<'_> {
        self.res.former.first().map_or(self.now.borrowed(), |former| former.with_api(&self.now.api))
    }

    /// Who it was, oldest first.
    fn former(&self) -> impl Iterator<Item = IdRef<'_>> {
        self.res.former.iter().map(|former| former.with_api(&self.now.api))
    }
}

/// Follows all names.
pub(crate) fn follow(objects: &mut Objects, config: &Config) -> Result<(), BuildError> {
    if std::ptr::eq(config, super::config::defaults()) {
        return follow_by(objects, &DEFAULT);
    }
    follow_by(objects, &References::new(config))
}

fn follow_by(objects: &mut Objects, references: &References<'_>) -> Result<(), BuildError> {
    // Who is who is settled before any name changes; the nodes are changed where they are.
    let ids: Vec<Id> = objects.iter().map(Res::id).collect();
    let mut nodes = objects.take_nodes();
    let candidates = Candidates::new(objects, ids);
    for (candidate, node) in candidates.all.iter().zip(&mut nodes) {
        follow_from(candidate, node, &candidates, references)?;
    }
    drop(candidates);
    objects.put_nodes(nodes);
    Ok(())
}

/// Follows the names that one object holds.
fn follow_from<'c>(
    candidate: &'c Candidate<'c>,
    node: &mut Node,
    candidates: &'c Candidates<'c>,
    references: &References<'_>,
) -> Result<(), BuildError> {
    let error = |attempt: String| BuildError::new(ErrorKind::Target, candidate.res.origin.clone(), attempt);
    // The field specs are matched against what the object was when it was read.
    let original = candidate.original();
    let no_api = node.as_map().and_then(|m| m.get("apiVersion")).is_some_and(Node::is_null);
    if no_api && references.any_for(original.kind) {
        let id = &candidate.now;
        return Err(error(format!("{id} has an empty apiVersion, so its references cannot be followed")));
    }
    let test = |value: &Node| candidates.may_mean(value);
    let due = |node: &Node, from: usize| references.due(node, original, from, &test);
    let mut next = due(node, 0);
    // A binding is looked at in any case: its subjects may be wrong.
    let binding = &*candidate.now.kind == "RoleBinding" && references.any_for(original.kind);
    if next.is_none() && !binding {
        return Ok(());
    }
    let referrer =
        Referrer::new(candidate, node, candidates).map_err(|why| error(format!("{}: {why}", candidate.now)))?;
    while let Some((place, field)) = next {
        visit(node, field.path, Create::Nothing, &mut |value| referrer.update(value, field))
            .map_err(|why| error(format!("the name in {} of {}: {why}", field.path.join("/"), candidate.now)))?;
        // What has changed may be what a later field looks at.
        next = due(node, place + 1);
    }
    Ok(())
}

impl<'o> Candidates<'o> {
    /// `ids` are those of the objects, in order.
    fn new(objects: &'o Objects, ids: Vec<Id>) -> Self {
        let mut out = Self {
            all: Vec::with_capacity(objects.len()),
            by_former_name: HashMap::with_capacity_and_hasher(objects.len(), RandomState::default()),
            by_original_namespace: HashMap::default(),
        };
        for (at, (res, now)) in objects.iter().zip(ids).enumerate() {
            for former in &res.former {
                let at = at as u32;
                out.by_former_name.entry(&former.name).and_modify(|places| places.add(at)).or_insert(Places::One(at));
            }
            let candidate = Candidate { res, namespace: now.shared_namespace(), now };
            let original = candidate.original().effective_namespace();
            match out.by_original_namespace.get_mut(original) {
                Some(there) => there.push(at),
                None => _ = out.by_original_namespace.insert(original.into(), vec![at]),
            }
            out.all.push(candidate);
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
    candidate: &'c Candidate<'c>,
    prefixes: &'c [Arc<str>],
    suffixes: &'c [Arc<str>],
    /// Namespaces of the service accounts that a RoleBinding names.
    subject_namespaces: HashSet<Arc<str>>,
    /// Group and kind of `roleRef`.
    role: Option<(Arc<str>, Arc<str>)>,
}

impl<'c> Referrer<'c> {
    fn new(candidate: &'c Candidate<'c>, node: &Node, candidates: &'c Candidates<'c>) -> Result<Self, String> {
        let mut subject_namespaces = HashSet::new();
        if &*candidate.now.kind == "RoleBinding" {
            let subjects = node.as_map().and_then(|m| m.get("subjects")).and_then(Node::as_seq);
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
        let role = node.at(&["roleRef"]).and_then(|r| {
            let text = |key: &str| r.as_map()?.get(key)?.as_scalar().map(|s| s.text.clone());
            Some((text("apiGroup")?, text("kind")?))
        });
        Ok(Self {
            candidates,
            candidate,
            prefixes: &candidate.res.prefixes,
            suffixes: &candidate.res.suffixes,
            subject_namespaces,
            role,
        })
    }

    /// Whether this object may refer to that one at all: cluster-scoped, in the same namespace, or a service account in a
    /// namespace that a RoleBinding names.
    fn may_refer(&self, c: &Candidate<'_>) -> bool {
        let own = &self.candidate.namespace;
        &**own == NO_NAMESPACE
            || &*c.namespace == NO_NAMESPACE
            || c.namespace == *own
            || (self.subject_namespaces.contains(&c.now.namespace) && &*c.now.kind == "ServiceAccount")
    }

    /// Whether it would be looked at before kinds are: as above, but for any kind in those namespaces.
    fn in_reach(&self, c: &Candidate<'_>) -> bool {
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
        if *found.now.name == *name && found.now.namespace.is_empty() {
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
                true => c.original().effective_namespace() == namespace,
                false => *c.namespace == *namespace && namespace != NO_NAMESPACE,
            });
        }
        let target = field.target;
        left.retain(|c| {
            c.former().any(|id| {
                (target.group.is_empty() || *target.group == *id.group())
                    && (target.version.is_empty() || *target.version == *id.version())
                    && (target.kind.is_empty() || *target.kind == *id.kind)
            })
        });
        if field.role_reference
            && let Some((group, kind)) = &self.role
        {
            left.retain(|c| {
                c.former()
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
