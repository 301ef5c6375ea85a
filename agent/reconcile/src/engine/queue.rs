//! The objects that need a request, in the order in which they came, and whose turn it is.
//!
//! No kind takes more than half of the requests under way while others wait, and never all of them: where the requests of one
//! kind are slow (a webhook that hardly answers), those of the others go on. What is beyond its share stands aside, and goes
//! when one of its kind is done, or when nothing else waits.

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
        let (share, most) = (all.div_ceil(2), all - all / 4);
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
        let least = self.aside.keys().min_by_key(|kind| under_way.of(kind)).cloned();
        let least = least.filter(|kind| under_way.of(kind) < most)?;
        self.next_of(&least)
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
        let next = queue.next(kind, under_way, 4)?;
        if let Some(kind) = kind(next) {
            under_way.add(kind);
        }
        Some(next)
    }

    #[test]
    fn a_kind_has_its_share_while_others_wait_and_all_when_none_does() {
        let (mut queue, mut under_way) = (RunQueue::default(), UnderWay::default());
        for ix in [1, 2, 3, 4, 101, 5, 102, 999] {
            queue.push(ix);
        }
        let mut turns = Vec::new();
        while let Some(ix) = take(&mut queue, &mut under_way) {
            turns.push(ix);
        }
        // Nothing waits any more, and one place is kept for what may come.
        assert_eq!(turns, [1, 2, 101, 102, 999, 3]);
        queue.push(103);
        assert_eq!(
            [take(&mut queue, &mut UnderWay::default()), take(&mut queue, &mut under_way)],
            [Some(4), Some(103)]
        );
        assert_eq!([take(&mut queue, &mut under_way), take(&mut queue, &mut UnderWay::default())], [None, Some(5)]);
        assert!(queue.is_empty());
    }

    #[test]
    fn what_stands_aside_goes_when_one_of_its_kind_is_done() {
        let (mut queue, mut under_way) = (RunQueue::default(), UnderWay::default());
        for ix in [1, 2, 3, 101] {
            queue.push(ix);
        }
        assert_eq!([take(&mut queue, &mut under_way), take(&mut queue, &mut under_way)], [Some(1), Some(2)]);
        assert_eq!(take(&mut queue, &mut under_way), Some(101));
        for ix in [102, 103] {
            queue.push(ix);
        }
        // One of the slow ones is done.
        let mut less = UnderWay::default();
        less.add(kind(2).unwrap_or_else(|| unreachable!()));
        less.add(kind(101).unwrap_or_else(|| unreachable!()));
        assert_eq!(take(&mut queue, &mut less), Some(3));
        queue.push(4);
        queue.remove(102);
        queue.remove(4);
        assert_eq!([take(&mut queue, &mut less), take(&mut queue, &mut less)], [Some(103), None]);
        assert!(queue.is_empty());
    }
}
