//! Of which generation and revision a unit's report speaks: an agent does not repeat a report when a new generation changes
//! nothing of its unit, it says once for all of them which generation they hold for.

use driftless_protocol::id::Generation;
use driftless_protocol::report::UnitReport;

/// How the agent's words about a unit at rest begin; the revision follows.
pub(crate) const APPLIED: &str = "Applied revision: ";

/// Names the generation that the report speaks of. `units_at`: what the agent said last for all units.
pub(crate) fn generation(report: &mut UnitReport, units_at: Option<Generation>) {
    report.generation = report.generation.max(units_at);
}

/// Names the revision that the unit is at: that of its source in the generation the report speaks of, where what that wants
/// is what was applied.
pub(crate) fn revision(report: &mut UnitReport, revision: &str) {
    if report.applied.is_none() || report.applied != report.desired {
        return;
    }
    if let Some(message) = at_revision(report, revision) {
        report.message = message;
    }
    report.applied_revision = Some(revision.to_owned());
}

/// The agent's words with another revision in the place of the one at which this content came.
pub(crate) fn at_revision(report: &UnitReport, revision: &str) -> Option<String> {
    let applied = report.applied_revision.as_deref()?;
    let rest = report.message.strip_prefix(APPLIED)?.strip_prefix(applied)?;
    Some(format!("{APPLIED}{revision}{rest}"))
}

#[cfg(test)]
mod tests {
    use driftless_protocol::id::{Digest, UnitId};
    use driftless_protocol::report::Ready;

    use super::*;

    fn at(sequence: u64) -> Generation {
        Generation { trust_epoch: 1, epoch: 1, sequence }
    }

    fn report() -> UnitReport {
        let mut report = UnitReport::unreadable(UnitId::kustomization("flux-system", "apps"), "");
        (report.ready, report.generation) = (Ready::True, Some(at(3)));
        (report.desired, report.applied) = (Some(Digest::of(b"a")), Some(Digest::of(b"a")));
        report.applied_revision = Some("main@sha1:old".into());
        report.message = "Applied revision: main@sha1:old; 1 objects withheld".into();
        report
    }

    #[test]
    fn the_newest_generation_counts_and_none_is_made_up() {
        for (own, all, expected) in [
            (Some(at(3)), Some(at(5)), Some(at(5))),
            (Some(at(5)), Some(at(3)), Some(at(5))),
            (Some(at(3)), None, Some(at(3))),
            (None, Some(at(3)), Some(at(3))),
            (None, None, None),
        ] {
            let mut report = UnitReport { generation: own, ..report() };
            generation(&mut report, all);
            assert_eq!(report.generation, expected, "{own:?} {all:?}");
        }
    }

    #[test]
    fn what_was_applied_is_at_the_revision_of_its_generation() {
        let mut there = report();
        revision(&mut there, "main@sha1:new");
        assert_eq!(there.applied_revision.as_deref(), Some("main@sha1:new"));
        assert_eq!(there.message, "Applied revision: main@sha1:new; 1 objects withheld");
        // Other content is wanted, and not there yet.
        let mut moving = UnitReport { desired: Some(Digest::of(b"b")), message: "applying".into(), ..report() };
        revision(&mut moving, "main@sha1:new");
        assert_eq!((moving.applied_revision.as_deref(), &*moving.message), (Some("main@sha1:old"), "applying"));
        // A held unit wants nothing.
        let mut held = UnitReport { desired: None, ..report() };
        revision(&mut held, "main@sha1:new");
        assert_eq!(held.applied_revision.as_deref(), Some("main@sha1:old"));
    }
}
