//! Which objects a patch or replacement is for.

use super::Selector;
use super::res::{Id, Res};
use driftless_protocol::object::ObjectKey;
use regex::Regex;

/// A pattern over one part of an identity.
#[derive(Clone, Debug)]
pub(crate) enum Pattern {
    Any,
    Literal(String),
    Expression(Regex),
}

impl Pattern {
    /// An anchored regular expression; empty text matches everything.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::Any);
        }
        if text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'/' || b == b'_') {
            return Ok(Self::Literal(text.to_owned()));
        }
        regex(&format!("^(?:{text})$"))
            .map(Self::Expression)
            .ok_or_else(|| format!("{text:?} is no regular expression"))
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Literal(literal) => literal == text,
            Self::Expression(regex) => regex.is_match(text),
        }
    }
}

/// A regular expression as Go reads it: a brace that starts no repetition, and a bracket inside brackets, are themselves.
pub(crate) fn regex(text: &str) -> Option<Regex> {
    let mut out = String::with_capacity(text.len() + 8);
    let mut in_class = false;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let mut taken = c.len_utf8();
        match c {
            '\\' => {
                taken += after.chars().next().map_or(0, char::len_utf8);
                out.push_str(&rest[..taken]);
            }
            '{' if !in_class && !is_repetition(after) => out.push_str("\\{"),
            '[' if in_class && !after.starts_with(':') => out.push_str("\\["),
            '&' | '~' | '-' if in_class && after.starts_with(c) => {
                out.push('\\');
                out.push(c);
            }
            '[' if !in_class => {
                in_class = true;
                out.push(c);
                // A bracket right at the start of a class belongs to it.
                for lead in ['^', ']'] {
                    if rest[taken..].starts_with(lead) {
                        if lead == ']' {
                            out.push('\\');
                        }
                        out.push(lead);
                        taken += 1;
                    }
                }
            }
            ']' if in_class => {
                in_class = false;
                out.push(c);
            }
            c => out.push(c),
        }
        if in_class && rest.starts_with("[:") {
            // A named class inside brackets, as it stands.
            if let Some(end) = rest.find(":]") {
                out.push_str(&rest[taken..end + 2]);
                taken = end + 2;
            }
        }
        rest = &rest[taken..];
    }
    Regex::new(&out).ok()
}

/// Whether what follows a brace makes it a repetition: `3}`, `3,}`, `3,5}`.
fn is_repetition(after: &str) -> bool {
    let Some((inner, _)) = after.split_once('}') else { return false };
    let (low, high) = inner.split_once(',').unwrap_or((inner, "0"));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    !low.is_empty() && digits(low) && digits(high)
}

/// A selector made ready.
#[derive(Clone, Debug)]
pub(crate) struct Matcher {
    group: Pattern,
    version: Pattern,
    kind: Pattern,
    name: Pattern,
    namespace: Pattern,
    labels: Result<Vec<Requirement>, String>,
    annotations: Result<Vec<Requirement>, String>,
}

impl Matcher {
    pub(crate) fn new(s: &Selector) -> Result<Self, String> {
        Ok(Self {
            group: Pattern::new(&s.group)?,
            version: Pattern::new(&s.version)?,
            kind: Pattern::new(&s.kind)?,
            name: Pattern::new(&s.name)?,
            namespace: Pattern::new(&s.namespace)?,
            labels: parse_requirements(&s.label_selector),
            annotations: parse_requirements(&s.annotation_selector),
        })
    }

    fn gvk(&self, id: &Id) -> bool {
        self.kind.matches(&id.kind) && self.group.matches(id.group()) && self.version.matches(id.version())
    }

    /// Whether it selects this object. A broken label selector is an error only when an object gets as far as it.
    pub(crate) fn selects(&self, res: &Res) -> Result<bool, String> {
        let now = res.id_ref();
        if !(self.kind.matches(now.kind) && self.group.matches(now.group()) && self.version.matches(now.version())) {
            return Ok(false);
        }
        let original = res.original_ref();
        if !(self.namespace.matches(original.effective_namespace())
            || self.namespace.matches(now.effective_namespace()))
        {
            return Ok(false);
        }
        if !(self.name.matches(original.name) || self.name.matches(now.name)) {
            return Ok(false);
        }
        Ok(self.labels_match(res)? && self.annotations_match(res)?)
    }

    /// Whether it selects a finished object; `meta` reads one of its labels or annotations.
    pub(crate) fn selects_object(
        &self,
        key: &ObjectKey,
        version: &str,
        meta: &dyn Fn(&str, &str) -> Option<String>,
    ) -> Result<bool, String> {
        let identity = self.kind.matches(&key.kind)
            && self.group.matches(&key.group)
            && self.version.matches(version)
            && self.namespace.matches(&key.namespace)
            && self.name.matches(&key.name);
        if !identity {
            return Ok(false);
        }
        let (labels, annotations) = (self.labels.clone()?, self.annotations.clone()?);
        Ok(labels.iter().all(|r| r.holds(meta("labels", &r.key).as_deref()))
            && annotations.iter().all(|r| r.holds(meta("annotations", &r.key).as_deref())))
    }

    /// Whether group, version, kind, name and namespace (as written) match this id.
    pub(crate) fn selects_id(&self, id: &Id) -> bool {
        self.gvk(id) && self.name.matches(&id.name) && self.namespace.matches(&id.namespace)
    }

    pub(crate) fn labels_match(&self, res: &Res) -> Result<bool, String> {
        matches(&self.labels, res, "labels")
    }

    pub(crate) fn annotations_match(&self, res: &Res) -> Result<bool, String> {
        matches(&self.annotations, res, "annotations")
    }
}

fn matches(requirements: &Result<Vec<Requirement>, String>, res: &Res, field: &str) -> Result<bool, String> {
    let requirements = requirements.as_ref().map_err(Clone::clone)?;
    Ok(requirements.iter().all(|r| r.holds(res.meta_pair(field, &r.key).as_deref())))
}

/// One requirement of a Kubernetes label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Exists,
    Absent,
    In(Vec<String>),
    /// Holds also when the key is absent.
    NotIn(Vec<String>),
    Above(i64),
    Below(i64),
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match &self.test {
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::In(list) => value.is_some_and(|v| list.iter().any(|x| x == v)),
            Test::NotIn(list) => value.is_none_or(|v| !list.iter().any(|x| x == v)),
            Test::Above(n) => number().is_some_and(|v| v > *n),
            Test::Below(n) => number().is_some_and(|v| v < *n),
        }
    }
}

/// Parses a Kubernetes label selector: `a=b, c!=d, e in (f, g), h notin (i), j, !k, l > 3`.
pub(crate) fn parse_requirements(text: &str) -> Result<Vec<Requirement>, String> {
    let mut parser = Parser { text, rest: text };
    let mut out = Vec::new();
    parser.space();
    if parser.rest.is_empty() {
        return Ok(out);
    }
    loop {
        out.push(parser.requirement()?);
        parser.space();
        if parser.rest.is_empty() {
            return Ok(out);
        }
        if !parser.eat(",") {
            return Err(parser.error("expected a comma"));
        }
        parser.space();
        if parser.rest.is_empty() {
            return Err(parser.error("something must follow the last comma"));
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn error(&self, what: &str) -> String {
        format!("label selector {:?}: {what} at {:?}", self.text, self.rest)
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    fn eat(&mut self, token: &str) -> bool {
        self.space();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> &'a str {
        self.space();
        let end = self.rest.find([' ', '\t', '\r', '\n', '=', '!', '(', ')', ',', '>', '<']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let absent = self.eat("!");
        let key = self.word().to_owned();
        if !valid_key(&key) {
            return Err(self.error(&format!("{key:?} is no label key")));
        }
        self.space();
        if absent {
            return Ok(Requirement { key, test: Test::Absent });
        }
        let test = if self.rest.is_empty() || self.rest.starts_with(',') {
            Test::Exists
        } else if self.eat("==") || self.eat("=") {
            Test::In(vec![self.value()?])
        } else if self.eat("!=") {
            Test::NotIn(vec![self.value()?])
        } else if self.eat(">") {
            Test::Above(self.number()?)
        } else if self.eat("<") {
            Test::Below(self.number()?)
        } else {
            match self.word() {
                "in" => Test::In(self.list()?),
                "notin" => Test::NotIn(self.list()?),
                other => return Err(self.error(&format!("{other:?} is no operator"))),
            }
        };
        Ok(Requirement { key, test })
    }

    fn value(&mut self) -> Result<String, String> {
        let value = self.word();
        if valid_value(value) { Ok(value.to_owned()) } else { Err(self.error(&format!("{value:?} is no label value"))) }
    }

    fn number(&mut self) -> Result<i64, String> {
        let word = self.word();
        word.parse().map_err(|_| self.error(&format!("{word:?} is no number")))
    }

    fn list(&mut self) -> Result<Vec<String>, String> {
        if !self.eat("(") {
            return Err(self.error("expected an opening parenthesis"));
        }
        let mut out = Vec::new();
        loop {
            out.push(self.value()?);
            if self.eat(")") {
                return Ok(out);
            }
            if !self.eat(",") {
                return Err(self.error("expected a comma or a closing parenthesis"));
            }
        }
    }
}

fn valid_name(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn valid_key(text: &str) -> bool {
    match text.split_once('/') {
        None => valid_name(text),
        Some((prefix, name)) => {
            !prefix.is_empty()
                && prefix.len() <= 253
                && prefix.split('.').all(|part| {
                    !part.is_empty()
                        && !part.starts_with('-')
                        && !part.ends_with('-')
                        && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                })
                && valid_name(name)
        }
    }
}

fn valid_value(text: &str) -> bool {
    text.is_empty() || valid_name(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_as_go_reads_them() {
        for (text, subject, expected) in [
            ("${.*", "$", false),
            (r"\${APP}", "${APP}", true),
            ("a{2}", "aa", true),
            ("[[a]", "[", true),
            ("[[:alpha:]]x", "bx", true),
            ("[]a]", "]", true),
            ("[^]a]", "b", true),
            ("[a&&b]", "&", true),
        ] {
            let regex = regex(&format!("^(?:{text})$"));
            assert_eq!(regex.is_some_and(|r| r.is_match(subject)), expected, "{text} on {subject}");
        }
    }

    #[test]
    fn selectors_hold_or_not() {
        for (selector, value, expected) in [
            ("app=web", Some("web"), true),
            ("app==web", Some("db"), false),
            ("app!=web", None, true),
            ("app in (web, db)", Some("db"), true),
            ("app notin (web)", Some("web"), false),
            ("app", Some(""), true),
            ("!app", Some("x"), false),
            ("app>3", Some("4"), true),
            ("app=", Some(""), true),
        ] {
            let parsed = parse_requirements(selector).unwrap();
            assert_eq!(parsed[0].holds(value), expected, "{selector} on {value:?}");
        }
        for broken in ["a b", "=x", "a in x", "a in (b", "-a=b", "a=b c", "a=-"] {
            assert!(parse_requirements(broken).is_err(), "{broken}");
        }
    }
}
