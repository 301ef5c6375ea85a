//! Reading the fields of a Flux object, each with its type, its place, and none overlooked.

use driftless_yaml::{Map, Node, Seq};

use super::place::{Place, Step};
use crate::report::Code;
use crate::target::Location;

/// A problem before it is known whose it is.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) code: Code,
    pub(crate) at: Location,
    pub(crate) message: String,
}

/// A map of an object, and the way to it.
#[derive(Clone)]
pub(crate) struct Fields<'a> {
    map: Option<&'a Map>,
    path: Vec<Step<'a>>,
    place: &'a Place,
}

impl<'a> Fields<'a> {
    /// The object itself.
    pub(crate) fn of(node: &'a Node, place: &'a Place) -> Self {
        Self { map: node.as_map(), path: Vec::new(), place }
    }

    /// `spec.postBuild.substituteFrom[1]`.
    pub(crate) fn name(&self, key: &str) -> String {
        let mut out = String::new();
        for step in &self.path {
            match step {
                Step::Key(key) => {
                    if !out.is_empty() {
                        out.push('.');
                    }
                    out.push_str(key);
                }
                Step::At(index) => out.push_str(&format!("[{index}]")),
            }
        }
        if !key.is_empty() {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(key);
        }
        out
    }

    /// Where a field of this map is written.
    pub(crate) fn at(&self, key: &'a str) -> Location {
        let mut path = self.path.clone();
        if !key.is_empty() {
            path.push(Step::Key(key));
        }
        self.place.field(&path)
    }

    /// A note on a field of this map.
    pub(crate) fn note(&self, code: Code, key: &'a str, message: impl Into<String>) -> Note {
        Note { code, at: self.at(key), message: message.into() }
    }

    /// The value of a field; null counts as not set.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Node> {
        self.map?.get(key).filter(|n| !n.is_null())
    }

    /// Whether a field is set.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    fn wrong(&self, key: &'a str, expected: &str) -> Note {
        self.note(
            Code::InvalidSpec,
            key,
            format!("{} is not {expected}; the API server would refuse the object", self.name(key)),
        )
    }

    /// Text. A number or Boolean without quotes is refused, as the API server does.
    pub(crate) fn text(&self, key: &'a str) -> Result<Option<&'a str>, Note> {
        match self.get(key) {
            None => Ok(None),
            Some(node) => {
                let wrong = || self.wrong(key, &format!("text ({})", self.advice(key)));
                node.as_text().map(Some).ok_or_else(wrong)
            }
        }
    }

    /// Text that is not empty, as an owned value.
    pub(crate) fn filled(&self, key: &'a str) -> Result<Option<String>, Note> {
        Ok(self.text(key)?.filter(|t| !t.is_empty()).map(str::to_owned))
    }

    /// Text that must be there.
    pub(crate) fn required(&self, key: &'a str) -> Result<&'a str, Note> {
        self.text(key)?.filter(|t| !t.is_empty()).ok_or_else(|| {
            self.note(Code::InvalidSpec, key, format!("{} is required and missing; add it", self.name(key)))
        })
    }

    /// A Boolean.
    pub(crate) fn flag(&self, key: &'a str) -> Result<Option<bool>, Note> {
        match self.get(key) {
            None => Ok(None),
            Some(node) => match node.as_scalar().and_then(|s| s.boolean()) {
                Some(value) => Ok(Some(value)),
                None => Err(self.wrong(key, "true or false")),
            },
        }
    }

    /// A duration as Go writes it (`1h30m`, `10m0s`, `500ms`), in whole seconds, rounded up.
    pub(crate) fn seconds(&self, key: &'a str) -> Result<Option<u64>, Note> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        match go_seconds(text) {
            Some(seconds) => Ok(Some(seconds)),
            None => Err(self.wrong(key, "a duration such as 10m or 1h30m")),
        }
    }

    /// A map. Missing gives one without fields.
    pub(crate) fn map(&self, key: &'a str) -> Result<Fields<'a>, Note> {
        let mut path = self.path.clone();
        path.push(Step::Key(key));
        match self.get(key) {
            None => Ok(Fields { map: None, path, place: self.place }),
            Some(Node::Map(map)) => Ok(Fields { map: Some(map), path, place: self.place }),
            Some(_) => Err(self.wrong(key, "a map")),
        }
    }

    /// A list of maps.
    pub(crate) fn maps(&self, key: &'a str) -> Result<Vec<Fields<'a>>, Note> {
        let Some(items) = self.list(key)? else { return Ok(Vec::new()) };
        let mut out = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let Some(map) = item.as_map() else { return Err(self.wrong(key, "a list of maps")) };
            let mut path = self.path.clone();
            path.extend([Step::Key(key), Step::At(index)]);
            out.push(Fields { map: Some(map), path, place: self.place });
        }
        Ok(out)
    }

    /// A list of texts.
    pub(crate) fn texts(&self, key: &'a str) -> Result<Vec<String>, Note> {
        let Some(items) = self.list(key)? else { return Ok(Vec::new()) };
        items
            .iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or_else(|| self.wrong(key, "a list of texts")))
            .collect()
    }

    /// A map of texts, in the order written; a null is an empty text.
    pub(crate) fn text_map(&self, key: &'a str) -> Result<Vec<(String, String)>, Note> {
        self.texts_of_map(key, true)
    }

    /// A map of texts, in the order written. Without `nulls` a null is refused too, as the API server does.
    pub(crate) fn texts_of_map(&self, key: &'a str, nulls: bool) -> Result<Vec<(String, String)>, Note> {
        let fields = self.map(key)?;
        let Some(map) = fields.map else { return Ok(Vec::new()) };
        map.iter()
            .map(|entry| match entry.value.as_text() {
                Some(text) => Ok((entry.key.to_string(), text.to_owned())),
                None if entry.value.is_null() && nulls => Ok((entry.key.to_string(), String::new())),
                None => Err(Note {
                    code: Code::InvalidSpec,
                    at: fields.place_of(&entry.key),
                    message: format!("{} is not text; {}", fields.name(&entry.key), fields.advice(&entry.key)),
                }),
            })
            .collect()
    }

    fn advice(&self, key: &str) -> String {
        let mut path: Vec<Step<'_>> = self.path.clone();
        path.push(Step::Key(key));
        self.place.advice(&path, true)
    }

    fn place_of(&self, key: &str) -> Location {
        let mut path: Vec<Step<'_>> = self.path.clone();
        path.push(Step::Key(key));
        self.place.field(&path)
    }

    fn list(&self, key: &'a str) -> Result<Option<&'a Seq>, Note> {
        match self.get(key) {
            None => Ok(None),
            Some(Node::Seq(seq)) => Ok(Some(seq)),
            Some(_) => Err(self.wrong(key, "a list")),
        }
    }

    /// The names of the fields set, in the order written.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.map.into_iter().flat_map(|m| m.iter().filter(|e| !e.value.is_null()).map(|e| &*e.key))
    }

    /// Notes every field that is not among the known ones.
    pub(crate) fn unknown(&self, known: &[&str], notes: &mut Vec<Note>) {
        for key in self.keys().filter(|key| !known.contains(key)) {
            let message = format!("{} is not a field of any version of this API; it changes nothing", self.name(key));
            notes.push(Note { code: Code::UnknownField, at: self.place_of(key), message });
        }
    }
}

/// A Go duration in whole seconds, rounded up. Negative durations and empty texts are none.
pub(crate) fn go_seconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0.0_f64;
    if rest.is_empty() {
        return None;
    }
    if rest == "0" {
        return Some(0);
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|n| *n > 0)?;
        let (number, tail) = rest.split_at(digits);
        let number: f64 = number.parse().ok()?;
        let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        total += number
            * match unit {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = tail;
    }
    // A hundred years is beyond any interval and well within the cast.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (total.is_finite() && total < 3.2e9).then(|| total.ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (given, expected) in [
            ("10m0s", Some(600)),
            ("1h30m", Some(5400)),
            ("1.5h", Some(5400)),
            ("720m0s", Some(43_200)),
            ("500ms", Some(1)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("", None),
            ("10", None),
            ("m", None),
            ("-1m", None),
            ("1d", None),
            ("1m ", None),
        ] {
            assert_eq!(go_seconds(given), expected, "of {given:?}");
        }
    }
}
