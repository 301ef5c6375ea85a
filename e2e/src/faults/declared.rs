//! What Git says at each step of a run: ConfigMaps of two units in one namespace, as a value.

use std::collections::BTreeMap;

use crate::world::Content;

/// The namespace of all objects.
pub const NAMESPACE: &str = "subject";

/// One of the two units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// `first`.
    First,
    /// `second`.
    Second,
}

impl Unit {
    /// Both.
    pub const ALL: [Self; 2] = [Self::First, Self::Second];

    /// Its name, and that of its folder.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// One declared object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Who declares it.
    pub unit: Unit,
    /// Its content.
    pub value: String,
}

/// What the next commit does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Objects that were not there.
    Create,
    /// Every object's content.
    Change,
    /// Objects leave.
    Prune,
    /// Objects go from one unit to the other.
    Move,
    /// A little of each.
    Mixed,
}

impl Step {
    /// Objects that leave at it.
    #[must_use]
    pub const fn prunes(self) -> usize {
        match self {
            Self::Prune => 3,
            Self::Mixed => 2,
            Self::Create | Self::Change | Self::Move => 0,
        }
    }
}

/// Objects by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared(pub BTreeMap<String, Item>);

/// Objects that come at a step that creates.
const COMING: usize = 6;
/// Objects that go to the other unit at a step that moves.
const MOVING: usize = 4;

impl Declared {
    /// So many objects to begin with, which never leave.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let item = |n: usize| Item { unit: Unit::ALL[n % 2], value: "0".to_owned() };
        Self((0..count).map(|n| (format!("stays-{n:04}"), item(n))).collect())
    }

    /// After a step; `serial` makes what is new differ from all before.
    #[must_use]
    pub fn after(&self, step: Step, serial: usize) -> Self {
        let mut next = self.clone();
        match step {
            Step::Create => next.come(COMING, serial),
            Step::Change => next.change(1, serial),
            Step::Prune => next.leave(step.prunes()),
            Step::Move => next.wander(MOVING, serial),
            Step::Mixed => {
                next.leave(step.prunes());
                next.change(3, serial);
                next.wander(2, serial);
                next.come(COMING, serial);
            }
        }
        next
    }

    fn come(&mut self, count: usize, serial: usize) {
        for n in 0..count {
            let item = Item { unit: Unit::ALL[n % 2], value: serial.to_string() };
            self.0.insert(format!("comes-{serial:05}-{n}"), item);
        }
    }

    fn change(&mut self, one_of: usize, serial: usize) {
        for item in self.0.values_mut().step_by(one_of) {
            item.value = serial.to_string();
        }
    }

    fn leave(&mut self, count: usize) {
        let going: Vec<String> = self.0.keys().filter(|name| name.starts_with("comes-")).take(count).cloned().collect();
        for name in going {
            self.0.remove(&name);
        }
    }

    fn wander(&mut self, count: usize, serial: usize) {
        let len = self.0.len().max(1);
        for item in self.0.values_mut().cycle_from(serial % len).take(count) {
            item.unit = item.unit.other();
        }
    }

    /// As files for the mono-repo of this cluster.
    #[must_use]
    pub fn content(&self, cluster: &str) -> Content {
        let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n");
        let mut content = Content::new().with("namespaces/namespace.yaml", namespace).root(cluster).unit(
            cluster,
            "namespaces",
            "./namespaces",
            "  wait: true\n",
        );
        for unit in Unit::ALL {
            let more = format!("  targetNamespace: {NAMESPACE}\n  dependsOn:\n    - name: namespaces\n");
            content = content.unit(cluster, unit.name(), &format!("./{}", unit.name()), &more);
            // A unit is never empty, so that what leaves it is pruned without asking.
            content = content.with(&format!("{}/anchor.yaml", unit.name()), config_map(unit.name(), "0"));
        }
        for (name, Item { unit, value }) in &self.0 {
            content = content.with(&format!("{}/{name}.yaml", unit.name()), config_map(name, value));
        }
        content
    }
}

fn config_map(name: &str, value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n  value: \"{value}\"\n")
}

/// The values from the nth on, and then those before it.
trait CycleFrom<'a> {
    fn cycle_from(self, from: usize) -> std::vec::IntoIter<&'a mut Item>;
}

impl<'a, I: Iterator<Item = &'a mut Item>> CycleFrom<'a> for I {
    fn cycle_from(self, from: usize) -> std::vec::IntoIter<&'a mut Item> {
        let mut all: Vec<&'a mut Item> = self.collect();
        let at = from.min(all.len());
        all.rotate_left(at);
        all.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_does_what_it_says() {
        let start = Declared::new(10).after(Step::Create, 1);
        assert_eq!(start.0.len(), 16);
        assert_eq!(start.after(Step::Prune, 2).0.len(), 13);
        let moved = start.after(Step::Move, 3);
        let differ = start.0.iter().filter(|(name, item)| moved.0[*name].unit != item.unit).count();
        assert_eq!((moved.0.len(), differ), (16, 4));
        assert!(start.after(Step::Change, 4).0.values().all(|item| item.value == "4"));
        let mixed = start.after(Step::Mixed, 5);
        assert_eq!(mixed.0.len(), 16 - 2 + 6);
        assert!(start.0.keys().filter(|name| name.starts_with("stays-")).all(|name| mixed.0.contains_key(name)));
    }
}
