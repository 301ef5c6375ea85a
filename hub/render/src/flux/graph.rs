//! Who waits for whom: `dependsOn`, its cycles, and the edges that follow from it.

use std::collections::{BTreeMap, BTreeSet};

use driftless_protocol::id::UnitId;

/// Edges from a unit to those it waits for.
pub(crate) type Edges = BTreeMap<UnitId, BTreeSet<UnitId>>;

/// The cycles: for every unit on one, the way round from it back to itself.
pub(crate) fn cycles(edges: &Edges) -> BTreeMap<UnitId, Vec<UnitId>> {
    let (_, tangled) = layers(edges);
    tangled.into_iter().filter_map(|start| Some((start.clone(), way(edges, start, start)?))).collect()
}

/// Takes away, layer by layer, the units that wait for nothing that is left. Gives the layer of each, and the units that
/// are never taken: those on a cycle or waiting for one.
fn layers(edges: &Edges) -> (BTreeMap<&UnitId, usize>, BTreeSet<&UnitId>) {
    let mut waiting_for: BTreeMap<&UnitId, usize> = edges.iter().map(|(id, to)| (id, to.len())).collect();
    let mut waited_by: BTreeMap<&UnitId, Vec<&UnitId>> = BTreeMap::new();
    for (from, to) in edges {
        for to in to {
            waited_by.entry(to).or_default().push(from);
            waiting_for.entry(to).or_insert(0);
        }
    }
    let mut layers = BTreeMap::new();
    let mut layer: Vec<&UnitId> = waiting_for.iter().filter(|(_, n)| **n == 0).map(|(id, _)| *id).collect();
    let mut depth = 0;
    while !layer.is_empty() {
        let mut next = Vec::new();
        for id in layer {
            layers.insert(id, depth);
            for from in waited_by.get(id).into_iter().flatten() {
                if let Some(left) = waiting_for.get_mut(from) {
                    *left -= 1;
                    if *left == 0 {
                        next.push(*from);
                    }
                }
            }
        }
        layer = next;
        depth += 1;
    }
    let tangled = waiting_for.into_keys().filter(|id| !layers.contains_key(id)).collect();
    (layers, tangled)
}

/// The shortest way from one unit to another over at least one edge, both ends included.
pub(crate) fn way(edges: &Edges, from: &UnitId, to: &UnitId) -> Option<Vec<UnitId>> {
    let mut came_from: BTreeMap<&UnitId, &UnitId> = BTreeMap::new();
    let mut front = vec![from];
    while !front.is_empty() {
        let mut next = Vec::new();
        for at in front {
            for step in edges.get(at).into_iter().flatten() {
                if came_from.contains_key(step) {
                    continue;
                }
                came_from.insert(step, at);
                if step == to {
                    let mut way = vec![step.clone()];
                    let mut here = at;
                    while here != from {
                        way.push(here.clone());
                        here = came_from.get(here)?;
                    }
                    way.push(from.clone());
                    way.reverse();
                    return Some(way);
                }
                next.push(step);
            }
        }
        front = next;
    }
    None
}

/// Adds edges that follow from others. Where they would close circles, those between the units concerned are left out.
pub(crate) fn extend(edges: &mut Edges, extra: BTreeSet<(UnitId, UnitId)>) {
    let mut all = edges.clone();
    for (from, to) in extra.iter().filter(|(from, to)| from != to) {
        all.entry(from.clone()).or_default().insert(to.clone());
    }
    // What waits for a circle is not on it: take such units away from the other end.
    let (_, stuck) = layers(&all);
    let mut backwards = Edges::new();
    for from in &stuck {
        backwards.entry((*from).clone()).or_default();
        for to in all.get(*from).into_iter().flatten().filter(|to| stuck.contains(to)) {
            backwards.entry(to.clone()).or_default().insert((*from).clone());
        }
    }
    let tangled: BTreeSet<UnitId> = layers(&backwards).1.into_iter().cloned().collect();
    for (from, to) in extra {
        if from != to && !(tangled.contains(&from) && tangled.contains(&to)) {
            edges.entry(from).or_default().insert(to);
        }
    }
}

/// How far down each unit stands: 0 without dependencies, else one more than the deepest it waits for. Units on a cycle,
/// or waiting for one, have none.
pub(crate) fn ranks(edges: &Edges) -> BTreeMap<UnitId, usize> {
    layers(edges).0.into_iter().map(|(id, depth)| (id.clone(), depth)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> UnitId {
        UnitId::kustomization("n", name)
    }

    fn edges(list: &[(&str, &str)]) -> Edges {
        let mut out = Edges::new();
        for (from, to) in list {
            out.entry(id(from)).or_default().insert(id(to));
        }
        out
    }

    #[test]
    fn a_cycle_is_told_from_each_of_its_units() {
        let found = cycles(&edges(&[("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")]));
        assert_eq!(found.keys().cloned().collect::<Vec<_>>(), [id("a"), id("b"), id("c")]);
        assert_eq!(found[&id("b")], [id("b"), id("c"), id("a"), id("b")]);
        assert_eq!(cycles(&edges(&[("a", "a")]))[&id("a")], [id("a"), id("a")]);
        assert!(cycles(&edges(&[("a", "b"), ("a", "c"), ("b", "c")])).is_empty());
    }

    #[test]
    fn edges_that_close_a_circle_are_left_out() {
        let mut given = edges(&[("a", "b"), ("b", "c"), ("d", "a")]);
        let extra = [("c", "a"), ("a", "a"), ("d", "c"), ("e", "d")].map(|(from, to)| (id(from), id(to)));
        extend(&mut given, extra.into());
        assert_eq!(given, edges(&[("a", "b"), ("b", "c"), ("d", "a"), ("d", "c"), ("e", "d")]));
        let mut given = edges(&[("a", "b"), ("b", "c")]);
        extend(&mut given, [(id("a"), id("c"))].into());
        assert_eq!(ranks(&given)[&id("a")], 2);
        assert!(given[&id("a")].contains(&id("c")));
    }
}
