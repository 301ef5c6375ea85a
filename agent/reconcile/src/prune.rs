//! May this object be deleted, and if not, why not: each rule one small named filter, asked in order.
//!
//! An object comes here when the inventory holds it and no unit declares it. The first filter with an opinion decides.
//! What is not certain is kept: a missing source, an empty render, a lost list or a damaged record never means "delete".

use std::collections::BTreeSet;
use std::sync::Arc;

use driftless_protocol::bundle::DeletionPolicy;
use driftless_protocol::guard;
pub use driftless_protocol::guard::is_protected;
use driftless_protocol::id::UnitId;
use driftless_protocol::object::ObjectKey;

use crate::fold::Folded;
use crate::inventory::{Entry, UnitRecord};
use crate::pause::Pause;
use crate::rules::Rules;

/// Everything the filters look at, for one object.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The object.
    pub key: &'a ObjectKey,
    /// Its inventory entry.
    pub entry: &'a Entry,
    /// How its unit wants deletes; `None`: nobody knows.
    pub record: Option<&'a UnitRecord>,
    /// The live object, or that there is none.
    pub live: Seen<'a>,
    /// How its unit stands in the index.
    pub standing: Standing<'a>,
    /// Whether the whole inventory could be read.
    pub inventory_whole: bool,
    /// Units the hub could not build that may declare it now: they became unbuildable, or what their builds read changed,
    /// as it left its own.
    pub suspects: &'a BTreeSet<Arc<UnitId>>,
    /// The suspended unit that declares it now.
    pub moved_to: Option<&'a UnitId>,
    /// Somebody holds back everything that would be done to it.
    pub paused: Option<&'a Pause>,
    /// The operator approved this key and UID.
    pub approved: bool,
}

/// What is known of the live object.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// Its kind has not been listed (yet).
    Unknown,
    /// Its kind was listed without it.
    Absent,
    /// There.
    Live(&'a Folded),
}

/// How a unit stands in the index.
#[derive(Clone, Copy, Debug)]
pub enum Standing<'a> {
    /// Built, and all of it applied; what it does not declare left Git.
    Applied,
    /// Built, but not all of it is applied yet: deletes come last.
    Applying,
    /// Built, and what it depends on is not ready.
    Waiting,
    /// Built without a single object.
    Empty,
    /// The hub could not build it.
    Held(&'a str),
    /// Suspended.
    Suspended,
    /// Flux acts on it in this cluster, or may still.
    Theirs,
    /// Not in the index, and the index is whole: the unit left Git.
    Left,
    /// Not in the index, which is not whole.
    Unclear,
}

/// What is to be done with a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Delete it (within the budget).
    Delete,
    /// It is gone, or no longer ours: forget it.
    Forget {
        /// Why, for people; `None`: it is simply gone.
        why: Option<String>,
    },
    /// Keep it, and its entry, until something changes.
    Keep {
        /// Stable code.
        reason: &'static str,
        /// For people.
        why: String,
    },
    /// Keep it until an operator approves.
    Hold {
        /// For people.
        why: String,
    },
}

type Filter = fn(&Candidate<'_>, &Rules) -> Option<Verdict>;

/// The rules, in the order they are asked. The first half is about what is certain, the second about what is allowed.
pub const FILTERS: [(&str, Filter); 19] = [
    ("inventory whole", inventory_whole),
    ("unit held", unit_held),
    ("unit suspended", unit_suspended),
    ("unit of Flux", unit_of_flux),
    ("paused", paused),
    ("index whole", index_whole),
    ("live known", live_known),
    ("already gone", already_gone),
    ("same incarnation", same_incarnation),
    ("still ours", still_ours),
    ("opted out", opted_out),
    ("our own", our_own),
    ("moved", moved),
    ("policy", policy),
    ("apply first", apply_first),
    ("made anew", made_anew),
    ("perhaps moved", perhaps_moved),
    ("protected kind", protected_kind),
    ("empty render", empty_render),
];

/// Asks the filters in order.
#[must_use]
pub fn judge(candidate: &Candidate<'_>, rules: &Rules) -> Verdict {
    FILTERS.iter().find_map(|(_, filter)| filter(candidate, rules)).unwrap_or(Verdict::Delete)
}

fn keep(reason: &'static str, why: impl Into<String>) -> Option<Verdict> {
    Some(Verdict::Keep { reason, why: why.into() })
}

fn forget(why: impl Into<String>) -> Option<Verdict> {
    Some(Verdict::Forget { why: Some(why.into()) })
}

fn inventory_whole(c: &Candidate<'_>, _: &Rules) -> Option<Verdict> {
    (!c.inventory_whole)
        .then(|| keep("InventoryDamaged", "the inventory could not be read whole; nothing is deleted"))?
}

fn unit_held(c: &Candidate<'_>, _: &Rules) -> Option<Verdict> {
    match c.standing {
        Standing::Held(reason) => keep("Held", format!("its unit could not be built: {reason}")),
        _ => None,
    }
}

fn unit_suspended(c: &Candidate<'_>, _: &Rules) -> Option<Verdict> {
    matches!(c.standing, Standing::Suspended).then(|| keep("Suspended", "its unit is suspended"))?
}

fn paused(c: &Candidate<'_>, _: &Rules) -> Option<Verdict> {
    keep("Paused", format!("held back by {}", c.paused?.shown()))
}

fn unit_of_flux(c: &Candidate<'_>, _: &Rules) -> Option<Verdict> {
    matches!(c.standing, Standing::Theirs).then(|| keep("FluxActs", "Flux acts on its unit in this cluster"))?
}

fn index_whole(c: &Candidate<'_>, _: &Rules) -> Option<Verdict> {
    let why =
        "its unit is not in the bundle, but the hub could not build everything that defines units; nothing is deleted";
    matches!(c.standing, Standing::Unclear).then(|| keep("IndexNotWhole", why))?
}

/// A suspended unit applies nothing, and takes over what moved to it when it is resumed.
fn moved(c: &Candidate<'_>, _: &Rules) -> Option<Verdict> {
    let to = c.moved_to?;
    keep("Moved", format!("{to}, which is suspended, declares it now; it becomes that unit's when it is resumed"))
}

/// An object that moves to a unit which cannot be built looks as if it had left Git.
fn perhaps_moved(c: &Candidate<'_>, _: &Rules) -> Option<Verdict> {
    if c.approved || c.suspects.is_empty() {
        return None;
    }
    let units: Vec<String> = c.suspects.iter().take(3).map(ToString::to_string).collect();
    let why =
        format!("{} cannot be built and may declare it now; deleted when that is clear, or approved", units.join(", "));
    Some(Verdict::Hold { why })
}

fn live_known(c: &Candidate<'_>, _: &Rules) -> Option<Verdict> {
    let why = match c.entry.adopted {
        true => {
            "it was adopted from Flux's inventory and has not been read again, so it is not known whether it exists"
        }
        false => "its kind has not been listed, so it is not known whether it exists",
    };
    matches!(c.live, Seen::Unknown).then(|| keep("NotListed", why))?
}

/// Gone, or without our label, which a watch cannot tell apart; both mean that it is not ours to delete.
fn already_gone(c: &Candidate<'_>, _: &Rules) -> Option<Verdict> {
    matches!(c.live, Seen::Absent).then_some(Verdict::Forget { why: None })
}

fn live<'a>(c: &Candidate<'a>) -> Option<&'a Folded> {
    match c.live {
        Seen::Live(folded) => Some(folded),
        _ => None,
    }
}

/// Another object of the name than the one we applied.
fn is_anew(c: &Candidate<'_>) -> bool {
    live(c).zip(c.entry.uid.as_ref()).is_some_and(|(folded, owned)| folded.uid != *owned)
}

fn same_incarnation(c: &Candidate<'_>, _: &Rules) -> Option<Verdict> {
    let (folded, owned) = (live(c)?, c.entry.uid.as_ref()?);
    if !is_anew(c) || folded.labelled {
        return None;
    }
    forget(format!("somebody re-created it (UID {} and not {owned}): left alone", folded.uid))
}

/// Also what makes pruning an intent safe: without our apply on it, it is somebody else's object of that name.
fn still_ours(c: &Candidate<'_>, _: &Rules) -> Option<Verdict> {
    let folded = live(c)?;
    if !folded.labelled && c.entry.adopted {
        return forget(format!("it no longer carries Flux's owner labels of {}: left alone", c.entry.unit));
    }
    if !folded.labelled {
        return forget("it no longer carries our owner label: left alone");
    }
    // A backup brings our mark back, and not always who wrote which field: `made_anew` has a word on that.
    if !folded.applied_by_us && !is_anew(c) && !c.entry.adopted {
        return forget("none of its fields are ours any more: left alone");
    }
    None
}

fn opted_out(c: &Candidate<'_>, _: &Rules) -> Option<Verdict> {
    live(c)?.keep().map(|mark| forget(format!("{mark}: disabled: left alone")))?
}

fn our_own(c: &Candidate<'_>, rules: &Rules) -> Option<Verdict> {
    never(c.key, live(c), rules).map(|why| forget(format!("{why}: left alone")))?
}

/// Why an object is never deleted, not even to be made anew: what the agent or Flux's installation runs on, whatever the
/// bundle or an approval says.
#[must_use]
pub fn never(key: &ObjectKey, live: Option<&Folded>, rules: &Rules) -> Option<&'static str> {
    if let Some(why) = guard::part_of_agent(key, &rules.agent_namespace) {
        return Some(why);
    }
    let namespace = guard::is_namespace(key);
    if namespace && rules.protected_namespaces.iter().any(|name| *name == key.name) {
        return Some("a namespace of Kubernetes itself");
    }
    (namespace && live?.part_of_flux).then_some("Flux's own namespace")
}

fn policy(c: &Candidate<'_>, _: &Rules) -> Option<Verdict> {
    let Some(record) = c.record else {
        return keep("NoRecord", "nothing is recorded about its unit, so it is not known whether to prune");
    };
    if record.suspended && matches!(c.standing, Standing::Left) {
        return forget("its unit was suspended when it left Git: left alone, as Flux does");
    }
    let delete = match (c.standing, record.deletion_policy) {
        (Standing::Left, DeletionPolicy::Delete | DeletionPolicy::WaitForTermination) => true,
        (Standing::Left, DeletionPolicy::Orphan) => return forget("deletionPolicy Orphan: left alone"),
        _ => record.prune,
    };
    (!delete).then(|| forget("prune is off: left alone"))?
}

/// Deletes come last, so that nothing goes before what takes its place is there.
fn apply_first(c: &Candidate<'_>, _: &Rules) -> Option<Verdict> {
    match c.standing {
        Standing::Applying => keep("ApplyFirst", "deleted once everything its unit declares is applied"),
        Standing::Waiting => keep("ApplyFirst", "deleted once what its unit depends on is ready"),
        _ => None,
    }
}

/// With our mark and another UID: a backup brought it back, perhaps on purpose.
fn made_anew(c: &Candidate<'_>, _: &Rules) -> Option<Verdict> {
    if c.approved || !(is_anew(c) || c.entry.restored) {
        return None;
    }
    if c.entry.restored {
        let why = "it left Git after it was made anew by the restore of a backup: kept until approved";
        return Some(Verdict::Hold { why: why.into() });
    }
    let (now, then) = (live(c)?.uid.to_string(), c.entry.uid.as_ref()?.to_string());
    let why = format!(
        "it left Git, and was made anew by somebody (UID {now}, and {then} before), as the restore of a backup does: kept until \
         approved"
    );
    Some(Verdict::Hold { why })
}

fn protected_kind(c: &Candidate<'_>, _: &Rules) -> Option<Verdict> {
    if c.approved || !is_protected(c.key) {
        return None;
    }
    Some(Verdict::Hold { why: format!("a {} is deleted only when approved: what it holds goes with it", c.key.kind) })
}

fn empty_render(c: &Candidate<'_>, _: &Rules) -> Option<Verdict> {
    if c.approved || !matches!(c.standing, Standing::Empty) {
        return None;
    }
    let why = "its unit has no objects at all any more; if that is meant, approve, or remove the unit from Git";
    Some(Verdict::Hold { why: why.into() })
}

/// How many deletes an hour may see without approval.
#[must_use]
pub fn budget(inventory: usize, rules: &Rules) -> u32 {
    guard::budget(inventory, rules.delete_budget_min, rules.delete_budget_percent)
}
