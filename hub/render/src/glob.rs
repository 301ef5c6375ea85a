//! Patterns on names and paths, as the Go programs around Flux read them.
//!
//! Two dialects: Go's own `path.Match` (gitignore rules, copy operations) and doublestar's, which adds `**` for any number
//! of folders and `{a,b}` for alternatives (excludes of copy operations, archives to extract).

/// More alternatives than this, multiplied over all groups of a pattern, are refused: each is matched on its own.
const ALTERNATIVES: usize = 1024;

/// What differs between the dialects inside one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    /// `[^a]` negates; `]` and `-` at the start of a range are errors.
    Go,
    /// `[!a]` negates too.
    Doublestar,
}

/// Why a pattern matches nothing at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadPattern;

/// One name against `*`, `?`, `[a-z]`, `[^a]` and `\` before a character taken as it is.
pub(crate) fn name(pattern: &str, name: &str) -> Result<bool, BadPattern> {
    segment(&pattern.chars().collect::<Vec<_>>(), name, Dialect::Go)
}

fn segment(pattern: &[char], name: &str, dialect: Dialect) -> Result<bool, BadPattern> {
    check(pattern, dialect)?;
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // Where to go on after the last `*`: names are short, so going back costs at most their length squared.
    let mut back: Option<(usize, usize)> = None;
    while n < name.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                back = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('[') => class(&pattern[p..], name[n], dialect)?.0,
            Some('\\') => (pattern.get(p + 1) == Some(&name[n])).then_some(2),
            Some(c) => (*c == name[n]).then_some(1),
            None => None,
        };
        match (step, back) {
            (Some(length), _) => {
                p += length;
                n += 1;
            }
            (None, Some((after, from))) => {
                p = after;
                n = from + 1;
                back = Some((after, from + 1));
            }
            (None, None) => return Ok(false),
        }
    }
    Ok(pattern[p..].iter().all(|c| *c == '*'))
}

/// Whether a pattern of one name can be read at all.
fn check(pattern: &[char], dialect: Dialect) -> Result<(), BadPattern> {
    let mut at = 0;
    while let Some(c) = pattern.get(at) {
        at += match c {
            '\\' if at + 1 == pattern.len() => return Err(BadPattern),
            '\\' => 2,
            '[' => class(&pattern[at..], '\0', dialect)?.1,
            _ => 1,
        };
    }
    Ok(())
}

/// Reads `[...]` at the start of a pattern: its length when the character is in it, and its length.
fn class(pattern: &[char], c: char, dialect: Dialect) -> Result<(Option<usize>, usize), BadPattern> {
    let negates = |c: &char| *c == '^' || (*c == '!' && dialect == Dialect::Doublestar);
    let negated = pattern.get(1).is_some_and(negates);
    let mut at = 1 + usize::from(negated);
    let mut found = false;
    let mut ranges = 0;
    let one = |at: &mut usize| -> Result<char, BadPattern> {
        let c = *pattern.get(*at).ok_or(BadPattern)?;
        if matches!(c, '-' | ']') {
            return Err(BadPattern);
        }
        *at += 1;
        if c != '\\' {
            return Ok(c);
        }
        let escaped = *pattern.get(*at).ok_or(BadPattern)?;
        *at += 1;
        Ok(escaped)
    };
    loop {
        if ranges > 0 && pattern.get(at) == Some(&']') {
            break;
        }
        let low = one(&mut at)?;
        let high = if pattern.get(at) == Some(&'-') {
            at += 1;
            one(&mut at)?
        } else {
            low
        };
        found |= (low..=high).contains(&c);
        ranges += 1;
    }
    let length = at + 1;
    Ok(((found != negated).then_some(length), length))
}

/// Whether a text has a character that makes it a pattern of a copy operation.
pub(crate) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', ']'])
}

/// A pattern over whole paths in doublestar's dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathPattern {
    /// As written.
    text: String,
    /// Alternatives without groups, as names.
    alternatives: Vec<Vec<Vec<char>>>,
}

impl PathPattern {
    /// Reads a pattern.
    pub(crate) fn read(text: &str) -> Result<Self, BadPattern> {
        let mut alternatives = Vec::new();
        for one in expand(text)? {
            let names: Vec<Vec<char>> = one.split('/').map(|n| n.chars().collect()).collect();
            names.iter().try_for_each(|n| check(n, Dialect::Doublestar))?;
            alternatives.push(names);
        }
        Ok(Self { text: text.to_owned(), alternatives })
    }

    /// Whether it has a `/`: then it is about a place, else about a name.
    pub(crate) fn has_slash(&self) -> bool {
        self.text.contains('/')
    }

    /// Whether it matches this path.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let names: Vec<&str> = path.split('/').collect();
        self.alternatives.iter().any(|pattern| path_matches(pattern, &names))
    }
}

/// `**` as a whole name stands for any number of folders, none too.
fn path_matches(pattern: &[Vec<char>], names: &[&str]) -> bool {
    // Row by row: which beginnings of the path the pattern so far can have used up.
    let mut reached = vec![false; names.len() + 1];
    reached[0] = true;
    for part in pattern {
        let mut next = vec![false; names.len() + 1];
        if part.as_slice() == ['*', '*'] {
            let mut open = false;
            for at in 0..=names.len() {
                open |= reached[at];
                next[at] = open;
            }
        } else {
            for (at, name) in names.iter().enumerate() {
                next[at + 1] = reached[at] && segment(part, name, Dialect::Doublestar) == Ok(true);
            }
        }
        reached = next;
    }
    reached[names.len()]
}

/// Writes out `{a,b}`. Nested groups are written out from the inside.
fn expand(text: &str) -> Result<Vec<String>, BadPattern> {
    let mut done = Vec::new();
    let mut open = vec![text.to_owned()];
    while let Some(text) = open.pop() {
        let Some((start, commas, end)) = innermost(&text)? else {
            done.push(text);
            if done.len() > ALTERNATIVES {
                return Err(BadPattern);
            }
            continue;
        };
        let mut from = start + 1;
        for to in commas.into_iter().chain([end]) {
            open.push(format!("{}{}{}", &text[..start], &text[from..to], &text[end + 1..]));
            from = to + 1;
        }
        if open.len() > ALTERNATIVES {
            return Err(BadPattern);
        }
    }
    Ok(done)
}

/// The first group without another one in it: where it starts, its commas, where it ends.
fn innermost(text: &str) -> Result<Option<(usize, Vec<usize>, usize)>, BadPattern> {
    let mut open: Option<(usize, Vec<usize>)> = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        match c {
            '\\' => escaped = true,
            '{' => open = Some((at, Vec::new())),
            ',' => {
                if let Some((_, commas)) = &mut open {
                    commas.push(at);
                }
            }
            '}' => match open {
                Some((start, commas)) => return Ok(Some((start, commas, at))),
                None => return Err(BadPattern),
            },
            _ => {}
        }
    }
    if open.is_some() { Err(BadPattern) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_go_matches_them() {
        for (pattern, text, expected) in [
            ("*.yaml", "a.yaml", Ok(true)),
            ("a*b*c", "aXbYbc", Ok(true)),
            ("a?c", "abc", Ok(true)),
            ("a?c", "ac", Ok(false)),
            ("[a-c]x", "bx", Ok(true)),
            ("[^a-c]x", "bx", Ok(false)),
            ("[!a]", "!", Ok(true)),
            ("[!a]", "b", Ok(false)),
            ("[\\]]", "]", Ok(true)),
            ("\\*", "*", Ok(true)),
            ("\\*", "a", Ok(false)),
            ("**", "any", Ok(true)),
            ("*", "", Ok(true)),
            ("", "", Ok(true)),
            ("", "a", Ok(false)),
            ("ä?", "äö", Ok(true)),
            ("[", "[", Err(BadPattern)),
            ("[]a]", "a", Err(BadPattern)),
            ("[-a]", "a", Err(BadPattern)),
            ("[a", "x", Err(BadPattern)),
            ("a\\", "a", Err(BadPattern)),
        ] {
            assert_eq!(name(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn paths_match_as_doublestar_matches_them() {
        for (pattern, path, expected) in [
            ("*.md", "README.md", true),
            ("*.md", "docs/a.md", false),
            ("**/*.md", "docs/deep/a.md", true),
            ("**/*.md", "a.md", true),
            ("**/testdata/**", "x/testdata/y/z", true),
            ("**/testdata/**", "x/testdata", true),
            ("**/testdata/**", "x/testdatas/y", false),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**b", "a/xb", true),
            ("a/**b", "a/x/b", false),
            ("{a,b}/*.{yaml,yml}", "b/x.yml", true),
            ("{a,{b,c}}x", "cx", true),
            ("{a,b}", "c", false),
            ("[!a]", "b", true),
            ("\\{a\\}", "{a}", true),
            ("**", "a/b/c", true),
        ] {
            assert_eq!(PathPattern::read(pattern).unwrap().matches(path), expected, "{pattern} on {path}");
        }
        for bad in ["{a", "a}", "a[", "a\\"] {
            assert!(PathPattern::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pattern_cannot_explode() {
        let many = "{a,b}".repeat(11);
        assert!(PathPattern::read(&many).is_err(), "2048 alternatives");
        let some = "{a,b}".repeat(9);
        assert!(PathPattern::read(&some).unwrap().matches("abababab a".replace(' ', "").as_str()));
        let stars = "**/".repeat(200) + "x";
        assert!(!PathPattern::read(&stars).unwrap().matches(&"a/".repeat(200)));
    }
}
