//! Prefixes, suffixes and namespaces.

use super::error::{BuildError, ErrorKind};
use super::fieldspec::{Create, FieldSpec, rewrite, set_string, visit, wrong_shape};
use super::res::{Id, Objects, Res, Unique, split_api};
use driftless_yaml::Node;
use std::sync::Arc;

/// Which end of the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Affix {
    Prefix,
    Suffix,
}

/// Kinds whose names are left alone.
fn keeps_name(id: &Id) -> bool {
    matches!(&*id.kind, "CustomResourceDefinition" | "Namespace")
        || (&*id.kind == "APIService" && id.group() == "apiregistration.k8s.io")
}

/// Puts a prefix or suffix on the fields named by the specs, and notes it in the history.
pub(crate) fn affix(
    objects: &mut Objects,
    which: Affix,
    text: &Arc<str>,
    specs: &[FieldSpec],
) -> Result<(), (usize, String)> {
    let mut made = objects.made();
    for (at, res) in objects.list_mut().iter_mut().enumerate() {
        let id = res.original_id();
        if keeps_name(&id) {
            continue;
        }
        for spec in specs {
            if !spec.matches(id.group(), id.version(), &id.kind) {
                continue;
            }
            if &*spec.path == "metadata/name" && !text.is_empty() {
                match which {
                    Affix::Prefix => res.prefixes.push(text.clone()),
                    Affix::Suffix => res.suffixes.push(text.clone()),
                }
                res.remember();
            }
            let (api, kind) = (res.api(), res.kind());
            let (group, version) = split_api(&api);
            if !spec.matches(group, version, &kind) {
                continue;
            }
            let create = if spec.create { Create::Scalar } else { Create::Nothing };
            res.with_annotations(&spec.path, |node| {
                visit(node, spec.path.parts(), create, &mut |node| match node {
                    Node::Scalar(s) => {
                        let joined = match which {
                            Affix::Prefix => format!("{text}{}", s.text),
                            Affix::Suffix => format!("{}{text}", s.text),
                        };
                        made.text(joined.len())?;
                        rewrite(s, joined);
                        Ok(())
                    }
                    other => Err(wrong_shape(other, "a name")),
                })
            })
            .map_err(|why| (at, format!("field {}: {why}", spec.path)))?;
        }
    }
    objects.set_made(made);
    Ok(())
}

/// Which subjects of role bindings get the namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Subjects {
    /// Those named `default`.
    #[default]
    NamedDefault,
    /// All service accounts.
    ServiceAccounts,
    None,
}

/// How to set the namespace.
#[derive(Clone, Debug)]
pub(crate) struct NamespaceArgs<'a> {
    pub(crate) namespace: Arc<str>,
    pub(crate) specs: &'a [FieldSpec],
    pub(crate) unset_only: bool,
    pub(crate) subjects: Subjects,
}

/// Sets the namespace of everything that is not certainly cluster-scoped, and the fields that hold namespaces.
pub(crate) fn set_namespace(objects: &mut Objects, args: &NamespaceArgs<'_>) -> Result<(), BuildError> {
    let mut unique = Unique::of(objects.len());
    for res in objects.list_mut() {
        if res.meta_pair("annotations", "internal.config.kubernetes.io/helm-generated").as_deref() == Some("true") {
            unique.add(res);
            continue;
        }
        res.remember();
        set_on(res, args).map_err(|why| {
            BuildError::new(
                ErrorKind::Field,
                res.origin.clone(),
                format!("setting namespace {:?} on {}: {why}", &*args.namespace, res.id()),
            )
        })?;
        unique.add(res);
    }
    unique.check().map_err(|e| BuildError {
        attempt: format!("after setting namespace {:?}, {}", &*args.namespace, e.attempt),
        ..e
    })
}

/// The same for one object.
pub(crate) fn set_on(res: &mut Res, args: &NamespaceArgs<'_>) -> Result<(), String> {
    let id = res.id();
    let set = &mut |node: &mut Node| -> Result<(), String> {
        if args.unset_only && node.scalar_text().is_some_and(|t| !t.is_empty()) {
            return Ok(());
        }
        set_string(node, &args.namespace)
    };
    if !super::scope::cluster_scoped(&id.api, &id.kind) {
        visit(&mut res.node, &["metadata", "namespace"], Create::Scalar, set)?;
    }
    let binding = matches!(&*id.kind, "RoleBinding" | "ClusterRoleBinding");
    if binding && args.subjects != Subjects::None {
        set_subjects(&mut res.node, args.subjects, set)?;
    }
    for spec in args.specs {
        let skip = &*spec.path == "metadata/namespace"
            || (&*id.api != "v1" && &*spec.path == "metadata/name")
            || (binding
                && matches!(&*spec.kind, "RoleBinding" | "ClusterRoleBinding")
                && &*spec.path == "subjects/namespace");
        if skip || !spec.matches(id.group(), id.version(), &id.kind) {
            continue;
        }
        let create = if spec.create { Create::Scalar } else { Create::Nothing };
        res.with_annotations(&spec.path, |node| visit(node, spec.path.parts(), create, set))
            .map_err(|why| format!("field {}: {why}", spec.path))?;
    }
    Ok(())
}

fn set_subjects(
    node: &mut Node,
    which: Subjects,
    set: &mut dyn FnMut(&mut Node) -> Result<(), String>,
) -> Result<(), String> {
    let Some(subjects) = node.as_map_mut().and_then(|m| m.get_mut("subjects")) else { return Ok(()) };
    if subjects.is_null() {
        return Ok(());
    }
    let Node::Seq(list) = subjects else { return Err(wrong_shape(subjects, "a list of subjects")) };
    for subject in list.items_mut() {
        let map = match subject {
            Node::Map(map) => map,
            other if other.is_null() => continue,
            other => return Err(wrong_shape(other, "a subject")),
        };
        let (key, wanted) = match which {
            Subjects::ServiceAccounts => ("kind", "ServiceAccount"),
            _ => ("name", "default"),
        };
        if map.get(key).and_then(Node::scalar_text) != Some(wanted) {
            continue;
        }
        if map.get("namespace").is_none_or(Node::is_null) {
            map.insert("namespace", Node::string(""));
        }
        if let Some(field) = map.get_mut("namespace") {
            set(field)?;
        }
    }
    Ok(())
}
