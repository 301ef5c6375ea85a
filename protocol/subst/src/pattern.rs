//! Shell patterns of the prefix and suffix operators.
//!
//! `*` is any text (slashes too), `?` one character, `[a-z]` and `[^a-z]` classes, `\` escapes. A pattern is only looked
//! at as far as the text goes, so a malformed end may go unnoticed; a malformed one that is noticed changes nothing.

/// How many steps are left.
pub(crate) struct Budget(u64);

/// Why nothing was trimmed.
pub(crate) enum TrimError {
    /// The budget is used up.
    TooManySteps,
    /// The match ends inside a character.
    CutsCharacter,
}

impl Budget {
    pub(crate) fn new(steps: u64) -> Self {
        Self(steps)
    }

    fn spend(&mut self) -> Result<(), Stop> {
        self.0 = self.0.checked_sub(1).ok_or(Stop::TooManySteps)?;
        Ok(())
    }
}

enum Stop {
    BadPattern,
    TooManySteps,
}

/// Takes the shortest or longest prefix that matches off a text; the empty prefix never counts.
pub(crate) fn trim_prefix<'v>(
    value: &'v str,
    pattern: &str,
    longest: bool,
    budget: &mut Budget,
) -> Result<&'v str, TrimError> {
    let mut found = None;
    for end in (1..=value.len()).rev() {
        match matches(pattern.as_bytes(), &value.as_bytes()[..end], budget) {
            Ok(true) => {
                found = Some(end);
                if longest {
                    break;
                }
            }
            Ok(false) => {}
            Err(Stop::BadPattern) => return Ok(value),
            Err(Stop::TooManySteps) => return Err(TrimError::TooManySteps),
        }
    }
    match found {
        None => Ok(value),
        // `?` takes one byte of a character that the length tried cuts in two.
        Some(end) => value.get(end..).ok_or(TrimError::CutsCharacter),
    }
}

fn matches(mut pattern: &[u8], mut name: &[u8], budget: &mut Budget) -> Result<bool, Stop> {
    'pattern: while !pattern.is_empty() {
        let (star, chunk, rest) = next_chunk(pattern);
        pattern = rest;
        if star && chunk.is_empty() {
            return Ok(true);
        }
        if let Some(left) = match_chunk(chunk, name, budget)?
            && (left.is_empty() || !pattern.is_empty())
        {
            name = left;
            continue;
        }
        if star {
            for skip in 1..=name.len() {
                if let Some(left) = match_chunk(chunk, &name[skip..], budget)? {
                    if pattern.is_empty() && !left.is_empty() {
                        continue;
                    }
                    name = left;
                    continue 'pattern;
                }
            }
        }
        return Ok(false);
    }
    Ok(name.is_empty())
}

/// The next part of a pattern up to a star, and whether a star stood before it.
fn next_chunk(mut pattern: &[u8]) -> (bool, &[u8], &[u8]) {
    let stars = pattern.iter().take_while(|b| **b == b'*').count();
    pattern = &pattern[stars..];
    let mut in_class = false;
    let mut at = 0;
    while let Some(b) = pattern.get(at) {
        match b {
            b'\\' if at + 1 < pattern.len() => at += 1,
            b'[' => in_class = true,
            b']' => in_class = false,
            b'*' if !in_class => break,
            _ => {}
        }
        at += 1;
    }
    let (chunk, rest) = pattern.split_at(at.min(pattern.len()));
    (stars > 0, chunk, rest)
}

/// What is left of `name` when `chunk`, which has no star, matches its beginning.
fn match_chunk<'n>(mut chunk: &[u8], mut name: &'n [u8], budget: &mut Budget) -> Result<Option<&'n [u8]>, Stop> {
    while let [first, rest @ ..] = chunk {
        budget.spend()?;
        if name.is_empty() {
            return Ok(None);
        }
        match first {
            b'[' => {
                let (c, width) = character(name);
                name = &name[width..];
                let (negated, mut class) = match rest {
                    [b'^', rest @ ..] => (true, rest),
                    _ => (false, rest),
                };
                let mut matched = false;
                let mut ranges = 0;
                loop {
                    budget.spend()?;
                    if let [b']', after @ ..] = class
                        && ranges > 0
                    {
                        chunk = after;
                        break;
                    }
                    let (low, after) = class_character(class)?;
                    let (high, after) = match after {
                        [b'-', after @ ..] => class_character(after)?,
                        _ => (low, after),
                    };
                    class = after;
                    matched |= low <= c && c <= high;
                    ranges += 1;
                }
                if matched == negated {
                    return Ok(None);
                }
            }
            b'?' => {
                name = &name[character(name).1..];
                chunk = rest;
            }
            _ => {
                let (wanted, after) = match (first, rest) {
                    (b'\\', [escaped, after @ ..]) => (escaped, after),
                    (b'\\', []) => return Err(Stop::BadPattern),
                    (plain, after) => (plain, after),
                };
                if name[0] != *wanted {
                    return Ok(None);
                }
                name = &name[1..];
                chunk = after;
            }
        }
    }
    Ok(Some(name))
}

/// One character of a class, escaped or not; something must follow it.
fn class_character(class: &[u8]) -> Result<(u32, &[u8]), Stop> {
    let class = match class {
        [] | [b'-' | b']', ..] | [b'\\'] => return Err(Stop::BadPattern),
        [b'\\', rest @ ..] => rest,
        plain => plain,
    };
    let (c, width) = character(class);
    let rest = &class[width..];
    if rest.is_empty() || (c == REPLACEMENT && width == 1) {
        return Err(Stop::BadPattern);
    }
    Ok((c, rest))
}

const REPLACEMENT: u32 = 0xFFFD;

/// The character a text starts with and its width; half a character is U+FFFD of one byte.
fn character(text: &[u8]) -> (u32, usize) {
    let head = &text[..text.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(valid) => valid,
        Err(e) => std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or_default(),
    };
    valid.chars().next().map_or((REPLACEMENT, 1), |c| (c.into(), c.len_utf8()))
}
