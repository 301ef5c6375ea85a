//! The objects that need a request, in the order in which they came, and whose turn it is.
//!
//! No kind takes more than half of the applies under way while others wait, and the last eighth is for kinds of which none
//! is: where the requests of some kinds are slow (a webhook that hardly answers), those of the others go on. What is beyond
//! its share stands aside, and goes when one of its kind is done, or when nothing else waits.

use std::collections::{BTreeMap, VecDeque};

use super::state::Ix;
use crate::input::GroupKind;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct RunQueue {
    queue: VecDeque<Ix>,
    /// None of them is empty.
    aside: BTreeMap<GroupKind, VecDeque<Ix>>,
}

/// How many requests of each kind are under way.
#[derive(Debug, Default)]
pub(super) struct UnderWay(BTreeMap<GroupKind, usize>);

impl UnderWay {
    /// One more.
    pub(super) fn add(&mut self, kind: GroupKind) {
        *self.0.entry(kind).or_default() += 1;
    }

    fn all(&self) -> usize {
        self.0.values().sum()
    }

    fn of(&self, kind: &GroupKind) -> usize {
        self.0.get(kind).copied().unwrap_or(0)
    }
}

impl RunQueue {
    pub(super) fn push(&mut self, ix: Ix) {
        self.queue.push_back(ix);
    }

    /// Whose turn it is. `kind` of an object; `None`: it is gone, and left to the caller. `all`: how many may be under way.
    pub(super) fn next(
        &mut self,
        kind: impl Fn(Ix) -> Option<GroupKind>,
        under_way: &UnderWay,
        all: usize,
    ) -> Option<Ix> {
        // Few places are for whoever comes first.
        let crowded = under_way.all() >= all - all / 8;
        let share = if crowded { 1 } else { all.div_ceil(2) };
        let due = self.aside.keys().find(|kind| under_way.of(kind) < share).cloned();
        if let Some(due) = due {
            return self.next_of(&due);
        }
        while let Some(ix) = self.queue.pop_front() {
            match kind(ix) {
                Some(kind) if under_way.of(&kind) >= share => self.aside.entry(kind).or_default().push_back(ix),
                _ => return Some(ix),
            }
        }
        let least = self.aside.keys().min_by_key(|kind| under_way.of(kind)).filter(|_| !crowded).cloned();
        self.next_of(&least?)
    }

    fn next_of(&mut self, kind: &GroupKind) -> Option<Ix> {
        let queue = self.aside.get_mut(kind)?;
        let next = queue.pop_front();
        if queue.is_empty() {
            self.aside.remove(kind);
        }
        next
    }

    /// Takes one out, wherever it stands.
    pub(super) fn remove(&mut self, ix: Ix) {
        self.queue.retain(|queued| *queued != ix);
        self.aside.retain(|_, queue| {
            queue.retain(|queued| *queued != ix);
            !queue.is_empty()
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.aside.is_empty()
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.queue.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(ix: Ix) -> Option<GroupKind> {
        let name = match ix {
            0..100 => "Slow",
            100..200 => "Quick",
            _ => return None,
        };
        Some(GroupKind { group: "".into(), kind: name.into() })
    }

    fn take(queue: &mut RunQueue, under_way: &mut UnderWay) -> Option<Ix> {
        let next = queue.next(kind, under_way, 8)?;
        if let Some(kind) = kind(next) {
            under_way.add(kind);
        }
        Some(next)
    }

    fn queue(all: impl IntoIterator<Item = Ix>) -> RunQueue {
        let mut queue = RunQueue::default();
        all.into_iter().for_each(|ix| queue.push(ix));
        queue
    }

    #[test]
    fn a_kind_has_its_share_while_others_wait_and_more_when_none_does() {
        let (mut queue, mut under_way) = (queue((0..8).chain([101, 999])), UnderWay::default());
        let mut turns = Vec::new();
        while let Some(ix) = take(&mut queue, &mut under_way) {
            turns.push(ix);
        }
        // Nothing else waits: all but one of eight. What is gone is the caller's.
        assert_eq!(turns, [0, 1, 2, 3, 101, 999, 4, 5]);
        // A kind of which nothing is under way has a place.
        let mut under_way = UnderWay::default();
        (0..7).for_each(|_| under_way.add(kind(0).unwrap_or_else(|| unreachable!())));
        queue.push(102);
        assert_eq!([take(&mut queue, &mut under_way), take(&mut queue, &mut under_way)], [Some(102), None]);
        let rest: Vec<Ix> = std::iter::from_fn(|| take(&mut queue, &mut UnderWay::default())).collect();
        assert_eq!(rest, [6, 7]);
        assert!(queue.is_empty());
    }

    #[test]
    fn what_stands_aside_goes_when_one_of_its_kind_is_done_and_can_be_taken_out() {
        let (mut queue, mut under_way) = (queue((0..6).chain(100..103)), UnderWay::default());
        let first: Vec<Ix> = (0..5).filter_map(|_| take(&mut queue, &mut under_way)).collect();
        assert_eq!(first, [0, 1, 2, 3, 100]);
        let mut less = UnderWay::default();
        less.add(kind(0).unwrap_or_else(|| unreachable!()));
        assert_eq!(take(&mut queue, &mut less), Some(4));
        queue.remove(5);
        queue.remove(102);
        assert_eq!([take(&mut queue, &mut less), take(&mut queue, &mut less)], [Some(101), None]);
        assert!(queue.is_empty());
    }
}
