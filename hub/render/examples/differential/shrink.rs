//! Makes an input smaller for as long as it still shows the same kind of difference.

use crate::case::Case;

/// How many builds shrinking may cost.
const TRIES: usize = 1500;

/// The smallest input found for which `same` still holds.
pub(crate) fn shrink(case: &Case, same: &mut dyn FnMut(&Case) -> bool) -> Case {
    let mut best = case.clone();
    let mut tries = 0;
    loop {
        let before = size(&best);
        for path in best.files.keys().cloned().collect::<Vec<_>>() {
            let mut smaller = best.clone();
            smaller.files.remove(&path);
            if try_one(&smaller, &mut tries, same) {
                best = smaller;
            }
        }
        for path in best.files.keys().cloned().collect::<Vec<_>>() {
            shrink_lines(&mut best, &path, &mut tries, same);
        }
        if size(&best) == before || tries >= TRIES {
            return best;
        }
    }
}

fn size(case: &Case) -> usize {
    case.files.iter().map(|(path, bytes)| path.len() + bytes.len()).sum()
}

fn try_one(case: &Case, tries: &mut usize, same: &mut dyn FnMut(&Case) -> bool) -> bool {
    if *tries >= TRIES {
        return false;
    }
    *tries += 1;
    same(case)
}

/// Takes out runs of lines: long ones first, then with what is indented below a line, then single lines.
fn shrink_lines(best: &mut Case, path: &str, tries: &mut usize, same: &mut dyn FnMut(&Case) -> bool) {
    let Some(bytes) = best.files.get(path) else { return };
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    let attempt = |lines: &[Vec<u8>], best: &mut Case, tries: &mut usize, same: &mut dyn FnMut(&Case) -> bool| {
        let mut smaller = best.clone();
        smaller.files.insert(path.to_owned(), lines.concat());
        let good = try_one(&smaller, tries, same);
        if good {
            *best = smaller;
        }
        good
    };
    let mut at = 0;
    while at < lines.len() {
        let indent = |line: &[u8]| line.iter().take_while(|b| **b == b' ').count();
        let own = indent(&lines[at]);
        let mut end = at + 1;
        while end < lines.len() && indent(&lines[end]) > own {
            end += 1;
        }
        let mut done = false;
        for end in [end, at + 1] {
            let mut fewer = lines.clone();
            fewer.drain(at..end);
            if attempt(&fewer, best, tries, same) {
                lines = fewer;
                done = true;
                break;
            }
        }
        if !done {
            at += 1;
        }
    }
}
