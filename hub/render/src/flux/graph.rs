//! Who waits for whom: `dependsOn`, its cycles, and the edges that follow from it.

use std::collections::{BTreeMap, BTreeSet};

use driftless_protocol::id::UnitId;

/// Edges from a unit to those it waits for.
pub(crate) type Edges = BTreeMap<UnitId, BTreeSet<UnitId>>;

/// The cycles: for every unit on one, the way round from it back to itself.
pub(crate) fn cycles(edges: &Edges) -> BTreeMap<UnitId, Vec<UnitId>> {
    let mut out = BTreeMap::new();
    for start in edges.keys() {
        if let Some(way) = way(edges, start, start) {
            out.insert(start.clone(), way);
        }
    }
    out
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

/// Adds an edge unless it would close a cycle. Returns whether it stands.
pub(crate) fn add(edges: &mut Edges, from: &UnitId, to: &UnitId) -> bool {
    if from == to {
        return false;
    }
    if edges.get(from).is_some_and(|known| known.contains(to)) {
        return true;
    }
    if way(edges, to, from).is_some() {
        return false;
    }
    edges.entry(from.clone()).or_default().insert(to.clone());
    true
}

/// How far down each unit stands: 0 without dependencies, else one more than the deepest it waits for. Cycles count as 0.
pub(crate) fn ranks(edges: &Edges) -> BTreeMap<UnitId, usize> {
    fn rank<'e>(
        id: &'e UnitId,
        edges: &'e Edges,
        out: &mut BTreeMap<UnitId, usize>,
        open: &mut BTreeSet<&'e UnitId>,
    ) -> usize {
        if let Some(known) = out.get(id) {
            return *known;
        }
        // The depth of this recursion is that of the longest chain of dependencies.
        if !open.insert(id) {
            return 0;
        }
        let deepest = edges.get(id).into_iter().flatten().map(|to| rank(to, edges, out, open) + 1).max().unwrap_or(0);
        open.remove(id);
        out.insert(id.clone(), deepest);
        deepest
    }
    let mut out = BTreeMap::new();
    for id in edges.keys() {
        rank(id, edges, &mut out, &mut BTreeSet::new());
    }
    out
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
    fn an_edge_that_closes_a_cycle_is_refused() {
        let mut given = edges(&[("a", "b"), ("b", "c")]);
        assert!(!add(&mut given, &id("c"), &id("a")));
        assert!(!add(&mut given, &id("a"), &id("a")));
        assert!(add(&mut given, &id("a"), &id("c")));
        assert_eq!(ranks(&given)[&id("a")], 2);
    }
}
