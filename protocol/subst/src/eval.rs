//! Substitution: the pieces of a text, put together with the values.

use crate::parse::{Call, Operator, Part, parse};
use crate::pattern::{self, Budget, TrimError};
use crate::{Error, ErrorKind};

/// How much one substitution may do. Counted, never timed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the result.
    pub output: usize,
    /// Steps of pattern matching, over the whole text: the prefix and suffix operators try every length of a value.
    pub steps: u64,
}

impl Default for Limits {
    /// 16 MiB, ten times what the API server takes for one object, and 50 million steps.
    fn default() -> Self {
        Self { output: 16 << 20, steps: 50_000_000 }
    }
}

/// Replaces every `${...}` of a text as Flux does, with the default [`Limits`].
///
/// `lookup` gives the value of a name. Where it gives none: in strict mode an error, unless the expression has a default
/// (`=`, `:=`, `:-`, and `:+`, `:?`, which Flux treats alike); otherwise the empty text. A default is used for an empty
/// value too. Expressions in a default are evaluated even when it is not used, so a variable missing there is an error.
///
/// # Errors
/// The first expression that cannot be read or evaluated, with its line.
pub fn substitute<'v>(text: &str, lookup: &dyn Fn(&str) -> Option<&'v str>, strict: bool) -> Result<String, Error> {
    substitute_with(text, lookup, strict, &Limits::default())
}

/// As [`substitute`], with other limits.
///
/// # Errors
/// As [`substitute`].
pub fn substitute_with<'v>(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<&'v str>,
    strict: bool,
    limits: &Limits,
) -> Result<String, Error> {
    let mut evaluator = Evaluator { lookup, strict, limits, budget: Budget::new(limits.steps) };
    let mut out = String::with_capacity(text.len());
    for part in &parse(text)? {
        evaluator.part(part, &mut out)?;
    }
    Ok(out)
}

struct Evaluator<'e, 'v> {
    lookup: &'e dyn Fn(&str) -> Option<&'v str>,
    strict: bool,
    limits: &'e Limits,
    budget: Budget,
}

impl Evaluator<'_, '_> {
    fn part(&mut self, part: &Part, out: &mut String) -> Result<(), Error> {
        match part {
            Part::Text(text) => self.push(text, 1, out),
            Part::Call(call) => {
                let value = self.call(call)?;
                self.push(&value, call.line, out)
            }
        }
    }

    fn push(&self, text: &str, line: u32, out: &mut String) -> Result<(), Error> {
        if out.len().saturating_add(text.len()) > self.limits.output {
            return Err(Error { line, kind: ErrorKind::TooLong(self.limits.output) });
        }
        out.push_str(text);
        Ok(())
    }

    fn call(&mut self, call: &Call) -> Result<String, Error> {
        let error = |kind| Error { line: call.line, kind };
        let mut operands = Vec::with_capacity(call.operands.len());
        for part in &call.operands {
            let mut text = String::new();
            self.part(part, &mut text)?;
            operands.push(text);
        }
        let value = match (self.lookup)(&call.name) {
            Some(value) => value,
            None if self.strict && call.operator != Operator::Default => {
                return Err(error(ErrorKind::NotSet { name: call.name.clone() }));
            }
            None => "",
        };
        let first = operands.first().map_or("", String::as_str);
        let second = operands.get(1).map(String::as_str);
        let trimmed = |r: Result<&str, TrimError>| {
            r.map(str::to_owned).map_err(|e| {
                let name = call.name.clone();
                error(match e {
                    TrimError::TooManySteps => ErrorKind::TooManySteps { name, limit: self.limits.steps },
                    TrimError::CutsCharacter => ErrorKind::CutsCharacter { name },
                })
            })
        };
        Ok(match call.operator {
            Operator::Value => value.to_owned(),
            Operator::Length => value.len().to_string(),
            Operator::Default if value.is_empty() => operands.concat(),
            Operator::Default => value.to_owned(),
            Operator::Slice => slice(value, first, second)
                .ok_or_else(|| error(ErrorKind::CutsCharacter { name: call.name.clone() }))?
                .to_owned(),
            Operator::UpperFirst => first_character(value, upper),
            Operator::Upper => value.chars().map(upper).collect(),
            Operator::LowerFirst => first_character(value, lower),
            Operator::Lower => value.chars().map(lower).collect(),
            Operator::TrimShortestPrefix => trimmed(pattern::trim_prefix(value, first, false, &mut self.budget))?,
            Operator::TrimLongestPrefix => trimmed(pattern::trim_prefix(value, first, true, &mut self.budget))?,
            Operator::TrimShortestSuffix | Operator::TrimLongestSuffix => {
                // Both texts are turned round, pattern included: a class such as `[ab]` is broken by it, in Flux too.
                let longest = call.operator == Operator::TrimLongestSuffix;
                let (value, pattern) = (reversed(value), reversed(first));
                reversed(&trimmed(pattern::trim_prefix(&value, &pattern, longest, &mut self.budget))?)
            }
            Operator::ReplaceFirst => self.replace(value, first, second.unwrap_or(""), 1, call.line)?,
            Operator::ReplaceAll => self.replace(value, first, second.unwrap_or(""), usize::MAX, call.line)?,
            // Without a replacement these two do nothing.
            Operator::ReplacePrefix => match second {
                Some(with) if value.starts_with(first) => self.replace(value, first, with, 1, call.line)?,
                _ => value.to_owned(),
            },
            Operator::ReplaceSuffix => match (second, value.strip_suffix(first)) {
                (Some(with), Some(rest)) => format!("{rest}{with}"),
                _ => value.to_owned(),
            },
        })
    }

    fn replace(&self, value: &str, from: &str, with: &str, times: usize, line: u32) -> Result<String, Error> {
        // Counted before it is made: every place costs the replacement's length.
        let places = if from.is_empty() { value.chars().count() + 1 } else { value.matches(from).count() };
        let length = places.min(times).saturating_mul(with.len()).saturating_add(value.len());
        if length > self.limits.output.saturating_add(value.len()) {
            return Err(Error { line, kind: ErrorKind::TooLong(self.limits.output) });
        }
        Ok(if times == usize::MAX { value.replace(from, with) } else { value.replacen(from, with, times) })
    }
}

/// `${value:offset:length}` in bytes; a negative offset or length counts from the end, and an offset that is no number
/// leaves the value whole. `None` where it would cut a character.
fn slice<'v>(value: &'v str, offset: &str, length: Option<&str>) -> Option<&'v str> {
    let size = i64::try_from(value.len()).ok()?;
    let Some(offset) = number(offset) else { return Some(value) };
    let from = if offset < 0 { (size + offset.max(-size)).max(0) } else { offset };
    let to = match length {
        None => size,
        Some(length) => match number(length) {
            None => return Some(value),
            Some(n) if n < 0 => size + n.max(-size - 1),
            Some(n) => from.saturating_add(n).min(size),
        },
    };
    if from >= size || to < from {
        return Some("");
    }
    value.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
}

/// As Go's `Atoi`: an optional sign and digits, nothing else, within 64 bits.
fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn first_character(value: &str, change: fn(char) -> char) -> String {
    let mut chars = value.chars();
    chars.next().map(change).into_iter().chain(chars).collect()
}

/// One character for one, as Go does: `ß` stays.
fn upper(c: char) -> char {
    single(c.to_uppercase(), c)
}

fn lower(c: char) -> char {
    if c == '\u{130}' { 'i' } else { single(c.to_lowercase(), c) }
}

fn single(mut mapped: impl Iterator<Item = char>, otherwise: char) -> char {
    match (mapped.next(), mapped.next()) {
        (Some(c), None) => c,
        _ => otherwise,
    }
}

fn reversed(text: &str) -> String {
    text.chars().rev().collect()
}
