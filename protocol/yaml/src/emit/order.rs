//! go-yaml v2's order of keys: digits by their value, letters after everything else.

use std::cmp::Ordering;

/// Sorts by key. A merge sort of our own: go-yaml's comparison has cycles (`9` < `110` < `1a` < `9`), which the standard
/// sort may answer with a panic. For such keys kustomize's own output changes from run to run.
pub(super) fn sort<T: Copy>(items: &mut [T], key: impl Fn(&T) -> &str + Copy) {
    if items.len() <= 12 {
        // Also what Go does with so few, so that even odd keys come out in its order.
        for end in 1..items.len() {
            let mut at = end;
            while at > 0 && less(key(&items[at]), key(&items[at - 1])) {
                items.swap(at, at - 1);
                at -= 1;
            }
        }
        return;
    }
    let middle = items.len() / 2;
    let (left, right) = items.split_at_mut(middle);
    sort(left, key);
    sort(right, key);
    let mut merged = Vec::with_capacity(items.len());
    let (mut a, mut b) = (0, middle);
    while a < middle && b < items.len() {
        if less(key(&items[b]), key(&items[a])) {
            merged.push(items[b]);
            b += 1;
        } else {
            merged.push(items[a]);
            a += 1;
        }
    }
    merged.extend_from_slice(&items[a..middle]);
    merged.extend_from_slice(&items[b..]);
    items.copy_from_slice(&merged);
}

/// Whether key `a` comes before `b`. Letters and digits beyond ASCII are told by Rust's tables, which call a few more
/// signs letters than Go's. Source: go-yaml v2 `sorter.go`.
fn less(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() {
        return before(a.as_bytes(), b.as_bytes());
    }
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    before(&a, &b)
}

trait Sign: Copy + Ord {
    fn letter(self) -> bool;
    fn digit(self) -> Option<i64>;
}

impl Sign for u8 {
    fn letter(self) -> bool {
        self.is_ascii_alphabetic()
    }
    fn digit(self) -> Option<i64> {
        self.is_ascii_digit().then(|| i64::from(self - b'0'))
    }
}

impl Sign for char {
    fn letter(self) -> bool {
        self.is_alphabetic()
    }
    fn digit(self) -> Option<i64> {
        self.to_digit(10).map(i64::from)
    }
}

fn before<S: Sign>(a: &[S], b: &[S]) -> bool {
    let Some(at) = a.iter().zip(b).position(|(x, y)| x != y) else { return a.len() < b.len() };
    let (x, y) = (a[at], b[at]);
    match (x.letter(), y.letter()) {
        (true, true) => return x < y,
        (true, false) => return false,
        (false, true) => return true,
        (false, false) => {}
    }
    // Behind a digit other than 0 the run of digits is longer than what is compared: both get a 1 in front.
    let zero = x.digit() == Some(0) || y.digit() == Some(0);
    let inside = zero && a[..at].iter().rev().map_while(|s| s.digit()).any(|d| d != 0);
    let start = i64::from(inside);
    let number = |s: &[S]| {
        s[at..]
            .iter()
            .map_while(|s| s.digit())
            .fold((start, 0), |(n, length), digit| (n.wrapping_mul(10).wrapping_add(digit), length + 1))
    };
    let ((an, a_length), (bn, b_length)) = (number(a), number(b));
    an.cmp(&bn).then(a_length.cmp(&b_length)).then(x.cmp(&y)) == Ordering::Less
}
