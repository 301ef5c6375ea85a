//! Late inputs: what units wait for in the cluster, and what their objects become with it.

use std::collections::BTreeSet;
use std::sync::Arc;

use driftless_protocol::bundle::{BlobRef, Blobs, UnitBody};
use driftless_protocol::id::Digest;
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{InputReport, InputStatus};
use serde_json::Value;

use super::Engine;
use super::autoscale::{autoscaler_kinds, scale_target};
use super::state::{Full, Ix, LateUnit, Open, UnitIx, Want};
use crate::edit;
use crate::fill::{self, Fill, Hidden, InputState, Reader};
use crate::input::{GroupKind, InputRef, Millis};
use crate::mark::Mark;
use crate::step::Edit;

impl Engine {
    /// The ConfigMaps and Secrets that units take variables from: to be read and kept an eye on, each told by
    /// [`Engine::set_input`]. Changes with [`Engine::set_bundle`] only.
    #[must_use]
    pub fn wanted_inputs(&self) -> BTreeSet<InputRef> {
        self.units
            .iter()
            .filter_map(|slot| slot.full()?.late.as_ref())
            .flat_map(|late| late.refs.iter().cloned())
            .collect()
    }

    /// What is known of an input now. Units that use it are looked at again; their objects are written where the change makes
    /// a difference to them.
    pub fn set_input(&mut self, input: &InputRef, state: InputState, blobs: &dyn Blobs, now: Millis) {
        let users: Vec<UnitIx> = (0..)
            .zip(&self.units)
            .filter(|(_, slot)| {
                slot.full().and_then(|full| full.late.as_ref()).is_some_and(|late| late.refs.contains(input))
            })
            .map(|(unit, _)| unit)
            .collect();
        if users.is_empty() || self.inputs.get(input) == Some(&state) {
            return;
        }
        self.inputs.insert(input.clone(), state);
        for unit in users {
            if self.fill_unit(unit, true, blobs, now)
                && let Some(slot) = self.unit_mut(unit)
            {
                slot.settled = None;
                slot.validated = false;
            }
        }
    }

    /// Forgets inputs that no unit names any more.
    pub(super) fn forget_inputs(&mut self) {
        let wanted = self.wanted_inputs();
        self.inputs.retain(|input, _| wanted.contains(input));
    }

    /// What a unit's body says of late inputs.
    pub(super) fn late_of(body: &UnitBody) -> Option<LateUnit> {
        let late = body.late.as_ref()?;
        let of = Reader { unit: body.id.clone(), account: body.spec.service_account.clone() };
        let fill = Err("its inputs to be read".into());
        let refs = fill::refs(&late.inputs, &of);
        Some(LateUnit { refs, of, late: Arc::new(late.clone()), fill, partly: None })
    }

    /// Fills the objects of a unit with what is known of its inputs; whether any became other than it was. `fresh`: nobody else
    /// compares with what it was before.
    pub(super) fn fill_unit(&mut self, unit: UnitIx, fresh: bool, blobs: &dyn Blobs, now: Millis) -> bool {
        let Some(slot) = self.unit(unit) else { return false };
        let Some((late, ixs)) = slot.full().and_then(|full| Some((full.late.as_ref()?, full.objects.clone()))) else {
            return false;
        };
        let fill = Fill::new(&late.late, &late.of, &|input| self.inputs.get(input));
        let fill: Result<Arc<Fill>, Arc<str>> = fill.map(Arc::new).map_err(|e| e.0.into());
        let mut first_error: Option<Arc<str>> = None;
        let mut changed = false;
        for ix in ixs {
            let Some(obj) = self.obj(ix) else { continue };
            let Some(want) = obj.want.as_ref().filter(|want| want.open.is_some()) else { continue };
            let (blob, api_version) = (want.blob, Arc::clone(&want.api_version));
            let key = Arc::clone(&obj.key);
            let filled = match (&fill, blobs.get(&blob.digest)) {
                (Ok(fill), Some(text)) => fill.object(&key, &api_version, &text).map_err(|e| Arc::<str>::from(e.0)),
                (Err(why), _) => Err(Arc::clone(why)),
                (Ok(_), None) => Err("its text is not at hand".into()),
            };
            let (mark, open) = match &filled {
                Ok(filled) => {
                    let options = self.obj(ix).and_then(|obj| obj.want.as_ref()?.options.clone()).unwrap_or_default();
                    let mark = self.mark_of(&Digest::of(&filled.bytes), &options);
                    (mark, Open::Filled { secret: filled.secret })
                }
                Err(why) => (Mark::NONE, Open::Waits(Arc::clone(why))),
            };
            if let (Err(why), None) = (&filled, &first_error) {
                first_error = Some(Arc::clone(why));
            }
            if let Ok(filled) = &filled
                && autoscaler_kinds().contains(&GroupKind::of(&key))
                && let Some(target) = serde_json::from_slice(&filled.bytes).ok().as_ref().and_then(scale_target)
            {
                self.autoscalers.insert((*key).clone(), target);
                self.retarget();
            }
            let Some(obj) = self.obj_mut(ix) else { continue };
            let Some(want) = &mut obj.want else { continue };
            want.open = Some(Box::new(open));
            if want.mark != mark {
                want.mark = mark;
                // As with new content of a new bundle: tried at once, whatever failed before.
                if fresh {
                    obj.renewed(now);
                }
                changed = true;
            }
        }
        let Some(slot) = self.unit_mut(unit) else { return false };
        if let super::state::State::Full(full) = &mut slot.state
            && let Some(late) = &mut full.late
        {
            // One object that cannot be finished holds up the whole unit, as with Flux; each of them says so.
            late.partly = None;
            late.fill = match (fill, first_error) {
                (Ok(fill), Some(why)) => {
                    late.partly = Some(fill);
                    Err(why)
                }
                (fill, _) => fill,
            };
        }
        self.touch(unit);
        changed
    }

    /// Why a unit cannot be applied for want of an input.
    pub(super) fn missing_input(full: &Full) -> Option<String> {
        full.late.as_ref()?.fill.as_ref().err().map(|why| why.to_string())
    }

    /// What fills an object that has holes, when it is filled.
    pub(super) fn fill_of(&self, want: &Want) -> Option<Arc<Fill>> {
        match want.open.as_deref() {
            Some(Open::Filled { .. }) => self.unit(want.unit)?.full()?.late.as_ref()?.fill(),
            _ => None,
        }
    }

    /// The declared object, filled and edited; `None` where its bytes or its inputs are not at hand.
    pub(super) fn declared_of(
        (key, api_version): (&ObjectKey, &str),
        blob: &BlobRef,
        (open, fill): (bool, Option<&Fill>),
        edits: &[Edit],
        blobs: &dyn Blobs,
    ) -> Option<Value> {
        if open && fill.is_none() {
            return None;
        }
        edit::declared(&blobs.get(&blob.digest)?, (key, api_version), fill, edits)
    }

    /// What may be shown of an object.
    pub(super) fn hidden(&self, key: &ObjectKey, want: &Want, blobs: &dyn Blobs) -> Hidden {
        match (want.open.as_deref(), self.fill_of(want)) {
            (Some(Open::Filled { secret: true }), Some(fill)) => {
                blobs.get(&want.blob.digest).map_or(Hidden::All, |text| fill.hidden(key, &text))
            }
            (Some(Open::Waits(_)), _) => Hidden::All,
            _ => Hidden::Nothing,
        }
    }

    /// Somebody's words about a live object, without values of Secrets that went into it.
    pub(super) fn scrubbed(&self, ix: Ix, words: Box<str>) -> Box<str> {
        let Some(want) = self.obj(ix).and_then(|obj| obj.want.as_ref()) else { return words };
        match want.open.as_deref() {
            None | Some(Open::Filled { secret: false }) => words,
            Some(Open::Filled { secret: true }) => match self.fill_of(want) {
                Some(fill) => fill.scrub(&words).into(),
                None => UNSEEN.into(),
            },
            Some(Open::Waits(_)) => UNSEEN.into(),
        }
    }

    /// How a unit's inputs stand, for its report.
    pub(super) fn input_reports(&self, full: &Full) -> Vec<InputReport> {
        let Some(late) = &full.late else { return Vec::new() };
        late.refs
            .iter()
            .map(|input| {
                let (status, message) = match self.inputs.get(input) {
                    None => (InputStatus::Unread, String::new()),
                    Some(InputState::Found(_)) => (InputStatus::Found, String::new()),
                    Some(InputState::Missing) => (InputStatus::Missing, String::new()),
                    Some(InputState::Failed(why)) => (InputStatus::Failed, why.clone()),
                };
                // Those of a unit above may be elsewhere.
                let elsewhere = input.namespace != late.of.unit.namespace;
                let namespace = if elsewhere { input.namespace.clone() } else { String::new() };
                InputReport { kind: input.kind, name: input.name.clone(), namespace, status, message }
            })
            .collect()
    }

    /// A keyed mark over what a unit's objects with holes became; `None` where none is filled.
    pub(super) fn filled_mark(&self, full: &Full) -> Option<String> {
        let mut marks: Vec<(&ObjectKey, Mark)> = full
            .objects
            .iter()
            .filter_map(|ix| self.obj(*ix))
            .filter_map(|obj| Some((&*obj.key, obj.want.as_ref()?)))
            .filter(|(_, want)| matches!(want.open.as_deref(), Some(Open::Filled { .. })))
            .map(|(key, want)| (key, want.mark))
            .collect();
        if marks.is_empty() {
            return None;
        }
        marks.sort_unstable();
        let text: String = marks.iter().map(|(key, mark)| format!("{key} {mark}\n")).collect();
        Some(Mark::of_bytes(&self.rules.hash_key, text.as_bytes()).to_string())
    }
}

/// What is said of an object while the values that may stand in its status are not known.
const UNSEEN: &str = "not healthy; the words are shown once the inputs of its unit were read";
