//! Replica counts.

use super::fieldspec::{Create, FieldSpec, visit, wrong_shape};
use super::res::Objects;
use driftless_yaml::{Kind, Node};
use std::sync::Arc;

/// Sets the count on every object that has or had this name, of the kinds the specs name. Says whether any matched.
pub(crate) fn set_replicas(
    objects: &mut Objects,
    name: &str,
    count: i64,
    specs: &[FieldSpec],
) -> Result<bool, (usize, String)> {
    let text: Arc<str> = count.to_string().into();
    let mut found = false;
    for at in 0..objects.len() {
        let res = objects.get(at);
        let now = res.id();
        let mut ids: Vec<_> = res.former_ids().filter(|id| &*id.name == name).collect();
        if &*now.name == name {
            ids.push(now.clone());
        }
        if ids.is_empty() {
            continue;
        }
        for spec in specs {
            if !ids.iter().any(|id| spec.matches(id.group(), id.version(), &id.kind)) {
                continue;
            }
            found = true;
            if !spec.matches(now.group(), now.version(), &now.kind) {
                continue;
            }
            let create = if spec.create { Create::Scalar } else { Create::Nothing };
            let res = objects.get_mut_same_id(at);
            visit(&mut res.node, spec.path.parts(), create, &mut |node| match node {
                Node::Scalar(s) => {
                    // A count in quotes stays in quotes, as the real program has it.
                    s.kind = if s.quoted { Kind::Str } else { Kind::Int };
                    s.text = text.clone();
                    Ok(())
                }
                other => Err(wrong_shape(other, "a number")),
            })
            .map_err(|why| (at, format!("field {}: {why}", spec.path)))?;
        }
    }
    Ok(found)
}
