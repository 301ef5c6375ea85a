//! What one object needs now: a pure function of what is declared, owned and live. And [`plan`], the same for a whole
//! cluster at one moment.

use driftless_protocol::bundle::{ApplyMode, Blobs, DriftMode, UnitSpec};
use driftless_protocol::report::UnitReport;
use serde_json::Value;

use crate::drift::Baseline;
use crate::engine::Engine;
use crate::fold::Folded;
use crate::input::{Desired, GroupKind, Millis, Observation, ServedKind};
use crate::mark::Mark;
use crate::rules::Rules;
use crate::step::{Purpose, Step, TakeOver};

/// One declared object, as the decision sees it.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Mark of the declared content.
    pub desired: Mark,
    /// What the last apply left; `None` before the first.
    pub baseline: Option<&'a Baseline>,
    /// `None`: its kind has not been listed.
    pub live: Option<Option<&'a Folded>>,
    /// What was found when the live object was compared: fields that drifted (empty: explained), by class and whether
    /// they were added. `None`: nothing to compare, or in sync.
    pub drift: Option<DriftView>,
    /// An autoscaler targets it, so its live replicas must be known before it is written.
    pub autoscaled: bool,
    /// How its unit treats drift.
    pub mode: DriftMode,
    /// The unit's settings.
    pub spec: &'a UnitSpec,
    /// Whether the unit is healthy now.
    pub unit_healthy: bool,
    /// When it was last healed.
    pub last_heal: Option<Millis>,
    /// Pause that a contest asks for, in milliseconds.
    pub damping: Millis,
    /// A dry run has looked at exactly this.
    pub probed: bool,
    /// It was read for a comparison in exactly this state.
    pub looked: bool,
    /// How Git wants it applied.
    pub apply: ApplyMode,
    /// It must be read again: nothing else would tell how it is.
    pub recheck: bool,
    /// It was there when it was first applied, and other tools own fields of it.
    pub adopt: bool,
    /// Another incarnation than the one applied last is there, with our mark: a backup brought it back.
    pub anew: bool,
    /// Its unit was taken over from Flux: what Flux applied becomes ours before our first apply.
    pub take_over: bool,
    /// Since when it drifts.
    pub drifts_since: Millis,
    /// When its unit may heal again, by its limit per hour.
    pub heals_again: Millis,
    /// It is there without our mark, found when it was about to be created as [`ApplyMode::IfNotPresent`].
    pub elsewhere: bool,
}

/// Drift of one object, in short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriftView {
    /// How many fields that are to be healed.
    pub fields: usize,
    /// Some were added by people: an apply alone does not remove them.
    pub added: bool,
    /// No manager claims any of them.
    pub unclaimed: bool,
    /// Others besides, that Git says are left.
    pub left: bool,
}

/// What an object needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: as declared.
    Nothing,
    /// Its kind must be listed first.
    Listing,
    /// A value that only the cluster has and that is not there; see the unit.
    Input,
    /// It is being deleted; it is made anew once it is gone.
    Gone,
    /// An apply.
    Apply(Purpose, TakeOver),
    /// A dry run: the live object differs, and nobody claims the difference.
    DryRun,
    /// It changed while its content was not compared (its unit was held or suspended): it is read first, so that what is
    /// healed can be told.
    Read,
    /// It drifted, and its unit's mode says to leave it.
    Leave,
    /// It drifted, and is healed at this time, or when the unit is healthy (`None`).
    Later(Option<Millis>),
    /// Nothing, whatever differs: a mark says so.
    Alone(Alone),
    /// A write, and a `Pause` holds it back.
    Paused(Purpose),
    /// Nothing: Flux acts on its unit, or on the object itself.
    Theirs,
}

impl Need {
    /// The same while a `Pause` covers the object: nothing is sent but reads.
    #[must_use]
    pub const fn paused(self) -> Self {
        match self {
            Self::Apply(purpose, _) => Self::Paused(purpose),
            // A dry run writes nothing, but admission webhooks would see it; what it would settle is drift until then.
            Self::DryRun | Self::Later(_) => Self::Paused(Purpose::Heal),
            other => other,
        }
    }
}

/// The mark by which an object is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alone {
    /// `ssa: Ignore` or `reconcile: disabled` in Git.
    Declared,
    /// `reconcile: disabled` on the live object alone: break-glass.
    Paused,
    /// `ssa: Ignore` on the live object alone.
    Ignored,
    /// `ssa: IfNotPresent`, and it is there.
    Present,
}

impl Alone {
    /// Stable code and words for people.
    #[must_use]
    pub const fn shown(self) -> (&'static str, &'static str) {
        match self {
            Self::Declared => {
                ("IgnoredInGit", "left alone, as its declaration says (ssa: Ignore, or reconcile: disabled)")
            }
            Self::Paused => (
                "ReconcileDisabled",
                "kustomize.toolkit.fluxcd.io/reconcile: disabled on the live object: neither applied nor healed until somebody \
                 removes that mark",
            ),
            Self::Ignored => (
                "IgnoredLive",
                "kustomize.toolkit.fluxcd.io/ssa: Ignore on the live object: neither applied nor healed until somebody removes \
                 that mark",
            ),
            Self::Present => ("IfNotPresent", "ssa: IfNotPresent, and it is there: left as it is"),
        }
    }
}

/// Decides.
#[must_use]
pub fn need(view: &View<'_>, now: Millis) -> Need {
    if let Some(alone) = alone(view) {
        return Need::Alone(alone);
    }
    let current = view.baseline.filter(|baseline| baseline.desired == view.desired);
    if let Some(Some(live)) = view.live
        && live.deleting
    {
        return Need::Gone;
    }
    if view.recheck && (current.is_some() || view.live.flatten().is_some()) {
        return Need::Read;
    }
    let Some(baseline) = current else {
        // New content. What is live matters only where a live value goes into the request.
        return match (view.live, view.autoscaled) {
            (None, true) => Need::Listing,
            (Some(None), _) => Need::Apply(Purpose::Create, first_contact(view)),
            _ => Need::Apply(Purpose::Change, first_contact(view)),
        };
    };
    let Some(live) = view.live else { return Need::Listing };
    if view.adopt && live.is_some() {
        return Need::Apply(Purpose::Change, TakeOver::HumansAndTools);
    }
    if view.anew {
        // Adopted as at first contact: what the restore wrote becomes ours.
        return Need::Apply(Purpose::Change, TakeOver::HumansAndTools);
    }
    let merge = mode(view) == ApplyMode::Merge;
    let take_over = match live {
        None => TakeOver::No,
        // Where nothing of ours differs there is nothing to heal, but for what an autoscaler left behind.
        Some(live)
            if live.owned == baseline.owned
                && (live.added() == Mark::NONE || merge)
                && view.drift.is_none_or(|drift| drift.fields == 0) =>
        {
            return in_sync(view);
        }
        Some(live) => match view.drift {
            None if !view.looked => return Need::Read,
            // The declared bytes were not at hand: the apply settles it.
            None if merge => TakeOver::No,
            None => TakeOver::Humans,
            Some(drift) if drift.fields == 0 && live.applied_by_us => return in_sync(view),
            Some(drift) if drift.unclaimed && !drift.added && !view.probed && live.applied_by_us => {
                return Need::DryRun;
            }
            Some(drift) if drift.added => TakeOver::Humans,
            Some(_) => TakeOver::No,
        },
    };
    if view.mode != DriftMode::Correct {
        return Need::Leave;
    }
    if view.spec.remediate_only_when_healthy && !view.unit_healthy {
        return Need::Later(None);
    }
    let pause = view.spec.remediation_interval_seconds.saturating_mul(1000).max(view.damping);
    let paced = view.last_heal.map_or(0, |last| last.saturating_add(pause));
    let delayed = view.drifts_since.saturating_add(view.spec.remediation_delay_seconds.saturating_mul(1000));
    match paced.max(delayed).max(view.heals_again) {
        at if at > now => Need::Later(Some(at)),
        _ => Need::Apply(Purpose::Heal, take_over),
    }
}

/// Nothing is to be healed; what Git says is left may differ.
fn in_sync(view: &View<'_>) -> Need {
    if view.drift.is_some_and(|drift| drift.left) { Need::Leave } else { Need::Nothing }
}

/// How it is applied: as Git says, or a mark on the live object.
fn mode(view: &View<'_>) -> ApplyMode {
    let live = view.live.flatten().map(|live| live.controls.apply).unwrap_or_default();
    if view.apply == ApplyMode::Override { live } else { view.apply }
}

/// The mark by which it is left alone, if there is one.
pub(crate) fn alone(view: &View<'_>) -> Option<Alone> {
    let live = view.live.flatten();
    if view.apply == ApplyMode::Ignore {
        return Some(Alone::Declared);
    }
    if live.is_some_and(|live| live.controls.paused) {
        return Some(Alone::Paused);
    }
    match mode(view) {
        ApplyMode::Ignore => Some(Alone::Ignored),
        ApplyMode::IfNotPresent if live.is_some() || view.elsewhere => Some(Alone::Present),
        _ => None,
    }
}

/// The first time we meet an object that is there, fields that kubectl, Helm or Flux wrote become ours, so that they
/// leave the cluster when they leave Git.
fn first_contact(view: &View<'_>) -> TakeOver {
    match view.live {
        _ if mode(view) == ApplyMode::Merge => TakeOver::No,
        // A watch by our mark does not show what is there without it.
        None | Some(None) if view.take_over => TakeOver::HumansAndTools,
        Some(Some(live)) if !live.applied_by_us => TakeOver::HumansAndTools,
        Some(Some(live)) if live.added() != Mark::NONE => TakeOver::Humans,
        _ => TakeOver::No,
    }
}

/// The world at one moment: what [`plan`] looks at.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// What is wanted.
    pub desired: Desired<'a>,
    /// The objects' bytes.
    pub blobs: &'a dyn Blobs,
    /// Stored inventory shards.
    pub inventory: &'a [(u32, String)],
    /// All kinds the cluster serves.
    pub served: &'a [ServedKind],
    /// All live objects that carry our label, and all autoscalers.
    pub live: &'a [Value],
}

/// What to do first, and how things stand.
#[derive(Debug)]
pub struct Plan {
    /// Steps that can start now.
    pub steps: Vec<Step>,
    /// All units.
    pub report: Vec<UnitReport>,
}

/// What the engine would do first in this world. For a world in sync there are no steps.
#[must_use]
pub fn plan(world: &World<'_>, rules: &Rules, now: Millis) -> Plan {
    let mut engine = Engine::new(rules.clone());
    engine.set_inventory(world.inventory, now);
    engine.set_discovery(world.served, &std::collections::BTreeSet::new(), now);
    engine.set_bundle(world.desired, world.blobs, now);
    let kinds: Vec<GroupKind> = engine.wanted().into_iter().map(|wanted| wanted.kind).collect();
    for kind in &kinds {
        engine.observe(Observation::ListBegin(kind), world.blobs, now);
    }
    for live in world.live {
        engine.observe(Observation::Object(live), world.blobs, now);
    }
    for kind in &kinds {
        engine.observe(Observation::ListEnd(kind), world.blobs, now);
    }
    let steps = engine.poll(now);
    Plan { steps, report: engine.reports(now) }
}
