//! How many requests may be under way at once: fewer while the API server says that there are too many.

use crate::input::Millis;
use crate::retry::{self, Class};
use crate::step::Outcome;

/// Refusals of one burst count once.
const BURST: Millis = 1_000;

/// Half as many after each burst of refusals, and one more after as many answers: as TCP finds what a path takes.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Taken off what the rules allow.
    less: usize,
    /// Answers since the last change.
    answers: usize,
    halved: Millis,
}

impl Window {
    /// How many of these may be under way; never none.
    pub(super) fn size(&self, most: usize) -> usize {
        most.saturating_sub(self.less).max(1)
    }

    /// An answer came.
    pub(super) fn answered(&mut self, outcome: &Outcome<'_>, most: usize, now: Millis) {
        let throttled = matches!(outcome, Outcome::Failed(failure) if retry::class(failure) == Class::Throttled);
        let size = self.size(most);
        if throttled {
            self.answers = 0;
            if now >= self.halved.saturating_add(BURST) || now < self.halved {
                self.halved = now;
                self.less = most.saturating_sub(size / 2).min(most.saturating_sub(1));
            }
            return;
        }
        self.answers += 1;
        if self.less > 0 && self.answers >= size {
            self.answers = 0;
            self.less -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::Failure;

    #[test]
    fn a_server_that_asks_for_less_gets_less_and_then_more_again() {
        let throttled = || Outcome::Failed(Failure { status: Some(429), ..Failure::default() });
        let mut window = Window::default();
        assert_eq!(window.size(32), 32);
        for _ in 0..32 {
            window.answered(&throttled(), 32, 5_000);
        }
        assert_eq!(window.size(32), 16, "one burst");
        for burst in 1..10 {
            window.answered(&throttled(), 32, 5_000 + burst * BURST);
        }
        assert_eq!(window.size(32), 1, "never none");
        let mut answers = 0;
        while window.size(32) < 32 {
            window.answered(&Outcome::Ok, 32, 20_000);
            answers += 1;
        }
        assert!((400..600).contains(&answers), "{answers}");
    }
}
