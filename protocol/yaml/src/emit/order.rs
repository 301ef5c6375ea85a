//! go-yaml v2's order of keys: digits by their value, letters after everything else.

use std::cmp::Ordering;

/// So many are sorted by insertion, as Go does.
const FEW: usize = 12;

/// Sorts by key. A merge sort of our own: go-yaml's comparison has cycles (`9` < `110` < `1a` < `9`), which the standard
/// sort may answer with a panic. For such keys kustomize's own output changes from run to run.
pub(super) fn sort<T: Copy>(items: &mut [T], key: impl Fn(&T) -> &str + Copy) {
    if items.len() <= FEW {
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

/// Whether keys stand in an order that sorting by bytes and then by [`sort`] leaves as it is. Only asked of a few: among
/// many, cycles let even keys that follow each other well change places.
pub(super) fn is_sorted<T>(items: &[T], key: impl Fn(&T) -> &str) -> bool {
    items.len() <= FEW
        && items.windows(2).all(|pair| key(&pair[0]) < key(&pair[1]) && !less(key(&pair[1]), key(&pair[0])))
}

/// Whether key `a` comes before `b`. Letters and digits beyond ASCII are told by Rust's tables, which call a few more
/// signs letters than Go's. Source: go-yaml v2 `sorter.go`.
fn less(a: &str, b: &str) -> bool {
    // Nearly always two letters decide, and what stands around them does not matter.
    if let Some((x, y)) = a.bytes().zip(b.bytes()).find(|(x, y)| x != y)
        && x.is_ascii_alphabetic()
        && y.is_ascii_alphabetic()
    {
        return x < y;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Every list of four of these keys: what is said to be sorted comes out of sorting as it is, and of two keys the same
    /// one comes first whether letters decide or not.
    #[test]
    fn what_is_sorted_stays_as_it_is() {
        let keys = ["a", "A", "b", "_", "9", "110", "1a", "a-b", "a_b", "aB", "a1", "a10", "a9", "", "é", "z"];
        let mut sorted = 0;
        for n in 0..keys.len().pow(4) {
            let list: Vec<&str> = (0..4).map(|at| keys[n / keys.len().pow(at) % keys.len()]).collect();
            let mut after = list.clone();
            after.sort_unstable();
            sort(&mut after, |k| k);
            if is_sorted(&list, |k| k) {
                assert_eq!(after, list);
                sorted += 1;
            }
        }
        assert!(sorted > 1000, "{sorted}");
        for a in keys {
            for b in keys {
                let slowly = before(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
                assert_eq!(less(a, b), slowly, "{a} {b}");
            }
        }
    }
}
