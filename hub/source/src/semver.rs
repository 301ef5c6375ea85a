//! Version ranges over tags, as Flux reads `ref.semver`: comma or space means and, `||` means or, `^ ~ x * -` as usual.

use std::cmp::Ordering;

/// One version, compared as Semantic Versioning 2 says. Build metadata plays no part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    core: [u64; 3],
    pre: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Text(String),
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.core.cmp(&other.core).then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => self.pre.cmp(&other.pre),
        })
    }
}

/// `1.2.3-rc.1+build` with optional `v`; missing or wildcard numbers make it partial.
fn parse(text: &str) -> Option<(Version, usize)> {
    let text = text.trim();
    let text = text.strip_prefix('v').unwrap_or(text);
    let text = text.split_once('+').map_or(text, |(before, _)| before);
    let (core, pre) = text.split_once('-').map_or((text, ""), |(core, pre)| (core, pre));
    let mut numbers = [0; 3];
    let mut given = 0;
    for (at, part) in core.split('.').enumerate() {
        if at == 3 {
            return None;
        }
        if matches!(part, "x" | "X" | "*") {
            break;
        }
        if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        numbers[at] = part.parse().ok()?;
        given = at + 1;
    }
    let mut parts = Vec::new();
    if !pre.is_empty() {
        for part in pre.split('.') {
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                return None;
            }
            parts.push(part.parse().map_or_else(|_| Part::Text(part.to_owned()), Part::Number));
        }
    }
    Some((Version { core: numbers, pre: parts }, given))
}

/// From one version up to, not including, another.
#[derive(Clone, Debug)]
struct Span {
    low: Option<(Version, bool)>,
    high: Option<(Version, bool)>,
    not: Option<Version>,
    /// Whether the text names a pre-release: only then are pre-releases taken.
    pre: bool,
}

impl Span {
    fn any() -> Self {
        Span { low: None, high: None, not: None, pre: false }
    }

    fn holds(&self, version: &Version) -> bool {
        let above = self.low.as_ref().is_none_or(|(low, with)| version > low || (*with && version == low));
        let below = self.high.as_ref().is_none_or(|(high, with)| version < high || (*with && version == high));
        above && below && self.not.as_ref() != Some(version) && (version.pre.is_empty() || self.pre)
    }
}

/// A range: any of the lists, and all of each.
#[derive(Clone, Debug)]
pub(crate) struct Range(Vec<Vec<Span>>);

impl Range {
    /// # Errors
    /// What cannot be read, in words.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not a version range such as \">=1.2.0 <2.0.0\" or \"1.x\"");
        let mut any = Vec::new();
        for list in text.split("||") {
            let mut all = Vec::new();
            if let Some((low, high)) = list.split_once(" - ") {
                all.push(span(">=", low).ok_or_else(bad)?);
                all.push(span("<=", high).ok_or_else(bad)?);
            } else {
                let spaced = list.replace(',', " ");
                let mut operator = String::new();
                for word in spaced.split_whitespace() {
                    let at = word.find(|c: char| !"<>=!~^".contains(c)).unwrap_or(word.len());
                    operator.push_str(&word[..at]);
                    if at == word.len() {
                        continue; // `>= 1.2`: the operator stands alone
                    }
                    all.push(span(&operator, &word[at..]).ok_or_else(bad)?);
                    operator.clear();
                }
                if !operator.is_empty() || all.is_empty() {
                    return Err(bad());
                }
            }
            any.push(all);
        }
        Ok(Range(any))
    }

    fn holds(&self, version: &Version) -> bool {
        self.0.iter().any(|all| all.iter().all(|span| span.holds(version)))
    }
}

/// The version after all that begin with the first `given` numbers.
fn after(version: &Version, given: usize) -> Version {
    let mut core = [0; 3];
    let last = given.clamp(1, 3) - 1;
    core[..last].copy_from_slice(&version.core[..last]);
    core[last] = version.core[last].saturating_add(1);
    Version { core, pre: Vec::new() }
}

fn span(operator: &str, text: &str) -> Option<Span> {
    let (version, given) = parse(text)?;
    let pre = !version.pre.is_empty();
    let from = |v: Version, with| Span { low: Some((v, with)), pre, ..Span::any() };
    let to = |v: Version, with| Span { high: Some((v, with)), pre, ..Span::any() };
    let between = |given: usize| {
        let high = after(&version, given);
        Span { low: Some((version.clone(), true)), high: Some((high, false)), not: None, pre }
    };
    Some(match operator {
        _ if given == 0 => Span { pre, ..Span::any() },
        "" | "=" | "==" if given == 3 => {
            Span { low: Some((version.clone(), true)), high: Some((version, true)), not: None, pre }
        }
        "" | "=" | "==" => between(given),
        "!=" => Span { not: Some(version), pre, ..Span::any() },
        ">=" | "=>" => from(version, true),
        ">" if given < 3 => from(after(&version, given), true),
        ">" => from(version, false),
        "<" => to(version, false),
        "<=" | "=<" if given < 3 => to(after(&version, given), false),
        "<=" | "=<" => to(version, true),
        "~" | "~>" => between(given.min(2)),
        "^" => {
            let first = version.core.iter().position(|n| *n != 0).map_or(given, |at| at + 1);
            between(first.min(given).max(1))
        }
        _ => return None,
    })
}

/// The tag with the highest version in the range; of equal ones the last by name. A tag is a version only with all three
/// numbers.
pub(crate) fn newest<'a>(range: &str, tags: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let range = Range::parse(range).ok()?;
    let versions = tags.filter_map(|tag| parse(tag).filter(|(_, given)| *given == 3).map(|(v, _)| (v, tag)));
    versions.filter(|(v, _)| range.holds(v)).max().map(|(_, tag)| tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_tag_in_the_range_wins() {
        let tags = [
            "v1.0.0",
            "1.1.0",
            "v1.10.0",
            "v1.9.3",
            "v2.0.0-rc.1",
            "v2.0.0-rc.10",
            "0.3.1",
            "0.3.9",
            "0.4.0",
            "latest",
            "v1.2.x",
        ];
        let check = |range: &str, want: Option<&str>| assert_eq!(newest(range, tags.into_iter()), want, "{range}");
        check("*", Some("v1.10.0"));
        check(">=1.0.0", Some("v1.10.0"));
        check("1.x", Some("v1.10.0"));
        check("1", Some("v1.10.0"));
        check("~1.9", Some("v1.9.3"));
        check("^1.0.0", Some("v1.10.0"));
        check("^0.3.0", Some("0.3.9"));
        check("~0.3.1", Some("0.3.9"));
        check("<1.10.0", Some("v1.9.3"));
        check(">= 1.0.0, < 1.2", Some("1.1.0"));
        check(">=1.0.0 <1.1.0", Some("v1.0.0"));
        check("1.0.0 - 1.1.0", Some("1.1.0"));
        check("=0.4.0 || ^0.3", Some("0.4.0"));
        check("!=v1.10.0", Some("v1.9.3"));
        check(">1", None);
        check(">=2.0.0-rc.1", Some("v2.0.0-rc.10"));
        check(">=3.0.0", None);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for bad in ["", "main", ">=", "1.2.3.4", "1.a", "<>1"] {
            assert!(Range::parse(bad).is_err(), "{bad:?}");
        }
    }
}
