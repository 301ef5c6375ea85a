//! Which objects somebody declares or we own: for questions about a cluster, not for deciding.

use std::collections::BTreeSet;

use driftless_protocol::id::UnitId;
use driftless_protocol::object::ObjectKey;

use super::Engine;
use super::state::State;

impl Engine {
    /// For each key: whether Git declares it (also what is withheld, and the Flux objects that are units), or the inventory
    /// has it.
    #[must_use]
    pub fn known(&self, keys: &[ObjectKey]) -> Vec<bool> {
        let withheld: BTreeSet<&ObjectKey> = self
            .units
            .iter()
            .filter_map(|slot| match &slot.state {
                State::Full(full) => Some(full),
                _ => None,
            })
            .flat_map(|full| full.withheld.iter().map(|(key, _)| key))
            .collect();
        let declared =
            |key: &ObjectKey| self.by_key.get(key).and_then(|ix| self.obj(*ix)).is_some_and(|o| o.want.is_some());
        let unit = |key: &ObjectKey| {
            (key.group.as_str(), key.kind.as_str()) == ("kustomize.toolkit.fluxcd.io", "Kustomization")
                && self.by_unit.contains_key(&UnitId::kustomization(key.namespace.as_str(), key.name.as_str()))
        };
        keys.iter()
            .map(|key| declared(key) || self.inventory.get(key).is_some() || withheld.contains(key) || unit(key))
            .collect()
    }

    /// Whether a bundle and the inventory are at hand: before that nothing can be said of what nobody declares.
    #[must_use]
    pub fn knows(&self) -> bool {
        self.generation.is_some() && self.inventory_read && self.inventory_errors.is_empty()
    }
}
