//! What Git says at each step of a run, as a value: ConfigMaps of two units in one namespace, and what [`super::things`] has.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::things::{self, Thing};
use crate::world::Content;

/// The namespace of all objects.
pub const NAMESPACE: &str = "subject";

/// One of the units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// `first`.
    First,
    /// `second`.
    Second,
    /// `apart`: its objects say themselves where they are, and it takes a variable that only the cluster has.
    Apart,
}

impl Unit {
    /// All.
    pub const ALL: [Self; 3] = [Self::First, Self::Second, Self::Apart];
    /// Those that share the ConfigMaps.
    const TWO: [Self; 2] = [Self::First, Self::Second];

    /// Its name, and that of its folder.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
            Self::Apart => "apart",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
            Self::Apart => Self::Apart,
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
    /// It was not there.
    Come(Thing),
    /// Its content.
    Alter(Thing),
    /// It goes to the other unit.
    Carry(Thing),
    /// It leaves.
    Leave(Thing),
    /// A unit that Flux had is taken over: one of its objects changes, and one had left Git before.
    TakeOver,
}

impl Step {
    /// Objects that leave at it.
    #[must_use]
    pub const fn prunes(self) -> usize {
        match self {
            Self::Prune => 3,
            Self::Mixed => 2,
            Self::TakeOver => 1,
            Self::Leave(thing) => thing.names().len() - thing.protected(),
            _ => 0,
        }
    }

    /// Objects whose delete waits for approval at it.
    #[must_use]
    pub const fn held(self) -> usize {
        match self {
            Self::Leave(thing) => thing.protected(),
            Self::Alter(Thing::Job) => 1,
            _ => 0,
        }
    }

    /// What must be there before it, or must not.
    #[must_use]
    pub const fn needs(self) -> Option<(Thing, bool)> {
        match self {
            Self::Come(thing) => Some((thing, false)),
            Self::Alter(thing) | Self::Carry(thing) | Self::Leave(thing) => Some((thing, true)),
            _ => None,
        }
    }

    /// Objects that are deleted and made anew at it.
    #[must_use]
    pub const fn made_anew(self) -> &'static [&'static str] {
        match self {
            Self::Alter(Thing::Job) => Thing::Job.names(),
            _ => &[],
        }
    }
}

/// Objects by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared(pub BTreeMap<String, Item>);

/// How the object is called that Flux has and Git has not.
const LEFT: &str = "left";
/// Objects that come at a step that creates.
const COMING: usize = 6;
/// Objects that go to the other unit at a step that moves.
const MOVING: usize = 4;

impl Declared {
    /// So many objects to begin with, which never leave.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let item = |n: usize| Item { unit: Unit::TWO[n % 2], value: "0".to_owned() };
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
            Step::Come(thing) => {
                for name in thing.names() {
                    let item = Item { unit: thing.unit(), value: things::value(name, serial) };
                    next.0.insert((*name).to_owned(), item);
                }
            }
            Step::Alter(thing) => next.of(thing, |name, item| item.value = things::value(name, serial)),
            Step::Carry(thing) => next.of(thing, |_, item| item.unit = item.unit.other()),
            Step::Leave(thing) => next.0.retain(|name, _| !thing.names().contains(&name.as_str())),
            Step::TakeOver => {
                for (name, item) in next.left_by_flux(serial).0 {
                    if !name.ends_with(LEFT) {
                        next.0.insert(name, Item { value: serial.to_string(), ..item });
                    }
                }
            }
        }
        next
    }

    /// What Flux has in the cluster before it is taken over: with what Git has dropped meanwhile.
    #[must_use]
    pub fn left_by_flux(&self, serial: usize) -> Self {
        let item = || Item { unit: Unit::First, value: "of-flux".to_owned() };
        Self(["kept", LEFT].into_iter().map(|name| (format!("adopt-{serial:05}-{name}"), item())).collect())
    }

    /// Whether it is declared.
    #[must_use]
    pub fn holds(&self, thing: Thing) -> bool {
        thing.names().iter().any(|name| self.0.contains_key(*name))
    }

    fn of(&mut self, thing: Thing, change: impl Fn(&str, &mut Item)) {
        for name in thing.names() {
            if let Some(item) = self.0.get_mut(*name) {
                change(name, item);
            }
        }
    }

    /// The ConfigMaps that all other steps are about.
    fn plain(&mut self) -> impl Iterator<Item = &mut Item> {
        let plain = |name: &str| name.starts_with("stays-") || name.starts_with("comes-");
        self.0.iter_mut().filter(move |(name, _)| plain(name)).map(|(_, item)| item)
    }

    fn come(&mut self, count: usize, serial: usize) {
        for n in 0..count {
            let item = Item { unit: Unit::TWO[n % 2], value: serial.to_string() };
            self.0.insert(format!("comes-{serial:05}-{n}"), item);
        }
    }

    fn change(&mut self, one_of: usize, serial: usize) {
        for item in self.plain().step_by(one_of) {
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
        let len = self.plain().count().max(1);
        for item in self.plain().cycle_from(serial % len).take(count) {
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
            let more = match unit {
                Unit::Apart => format!(
                    "  postBuild:\n    substituteFrom:\n      - kind: Secret\n        name: {}\n",
                    things::LATE.0
                ),
                _ => format!("  targetNamespace: {NAMESPACE}\n"),
            };
            let more = format!("{more}  dependsOn:\n    - name: namespaces\n");
            content = content.unit(cluster, unit.name(), &format!("./{}", unit.name()), &more);
            if unit == Unit::First {
                // Handed over, whenever Flux has something of it.
                let file = format!("clusters/{cluster}/{}.yaml", unit.name());
                let marked = "  namespace: flux-system\n  annotations:\n    driftless.dev/take-over: enabled\nspec:\n  suspend: true";
                content = content.replace(&file, "  namespace: flux-system\nspec:", marked);
            }
            // A unit is never empty, so that what leaves it is pruned without asking.
            content = content.with(&format!("{}/anchor.yaml", unit.name()), config_map(unit.name(), "0"));
        }
        for (name, Item { unit, value }) in &self.0 {
            let path = format!("{}/{}.yaml", unit.name(), name.replace('/', "-"));
            content = content.with(&path, things::file(name, value).unwrap_or_else(|| config_map(name, value)));
        }
        content
    }
}

/// A ConfigMap as Flux applies it.
#[must_use]
pub fn object(name: &str, value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": NAMESPACE}, "data": {"value": value},
    })
}

fn config_map(name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  namespace: {NAMESPACE}\ndata:\n  value: \"{value}\"\n"
    )
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
        for thing in Thing::ALL {
            let there = start.after(Step::Come(thing), 6);
            assert!(there.holds(thing) && !start.holds(thing));
            assert_eq!(there.after(Step::Leave(thing), 7), start);
            assert_eq!(there.after(Step::Change, 8).after(Step::Leave(thing), 9), start.after(Step::Change, 8));
            let differ = |other: &Declared| there.0.iter().filter(|(name, item)| other.0[*name] != **item).count();
            assert_eq!(differ(&there.after(Step::Alter(thing), 10)), thing.names().len());
        }
        let taken = start.after(Step::TakeOver, 11);
        assert_eq!(taken.0.len(), start.0.len() + 1);
        assert!(start.left_by_flux(11).0.contains_key("adopt-00011-left") && taken.0.contains_key("adopt-00011-kept"));
        assert_eq!(
            start.after(Step::Come(Thing::Workload), 6).after(Step::Carry(Thing::Workload), 7).0["deployments/web"]
                .unit,
            Unit::Second
        );
    }
}
