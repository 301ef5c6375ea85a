//! What CustomResourceDefinitions say of values beyond their shape.

use regex::Regex;
use serde_json::Value;

use super::formats::Format;
use super::schema::TypeId;

/// Rules on a value.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub(super) minimum: Option<f64>,
    pub(super) maximum: Option<f64>,
    pub(super) exclusive_minimum: bool,
    pub(super) exclusive_maximum: bool,
    pub(super) multiple_of: Option<f64>,
    pub(super) min_length: Option<u64>,
    pub(super) max_length: Option<u64>,
    pub(super) min_items: Option<u64>,
    pub(super) max_items: Option<u64>,
    pub(super) min_properties: Option<u64>,
    pub(super) max_properties: Option<u64>,
    pub(super) pattern: Option<Regex>,
    pub(super) format: Option<Format>,
    pub(super) all_of: Vec<TypeId>,
    pub(super) any_of: Vec<TypeId>,
    pub(super) one_of: Vec<TypeId>,
    pub(super) not: Option<TypeId>,
    pub(super) cel: Vec<super::cel::CelRule>,
}

impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

impl Rules {
    /// Whether there is any.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What of the value breaks a rule; combinations of schemas are not looked at here.
    pub(super) fn broken(&self, value: &Value) -> Option<String> {
        match value {
            Value::Number(number) => {
                let n = number.as_f64()?;
                if let Some(least) = self.minimum.filter(|least| n < *least || (self.exclusive_minimum && n <= *least))
                {
                    let than = if self.exclusive_minimum { "more than" } else { "at least" };
                    return Some(format!("{number} is too small: {than} {least} is needed"));
                }
                if let Some(most) = self.maximum.filter(|most| n > *most || (self.exclusive_maximum && n >= *most)) {
                    let than = if self.exclusive_maximum { "less than" } else { "at most" };
                    return Some(format!("{number} is too large: {than} {most} is allowed"));
                }
                let step = self.multiple_of.filter(|step| *step > 0.0 && (n / step).fract() != 0.0);
                step.map(|step| format!("{number} is no multiple of {step}"))
            }
            Value::String(text) => {
                let length = text.chars().count() as u64;
                if let Some(least) = self.min_length.filter(|least| length < *least) {
                    return Some(format!("{} has {length} characters, at least {least} are needed", short(text)));
                }
                if let Some(most) = self.max_length.filter(|most| length > *most) {
                    return Some(format!("{} has {length} characters, at most {most} are allowed", short(text)));
                }
                if let Some(format) = self.format.filter(|format| !format.fits(text)) {
                    return Some(format!("{} is not {}", short(text), format.wanted()));
                }
                let pattern = self.pattern.as_ref().filter(|p| !p.is_match(text));
                pattern.map(|p| format!("{} does not fit the pattern {}", short(text), p.as_str()))
            }
            Value::Array(items) => count("items", items.len(), self.min_items, self.max_items),
            Value::Object(map) => count("fields", map.len(), self.min_properties, self.max_properties),
            _ => None,
        }
    }
}

fn count(what: &str, count: usize, least: Option<u64>, most: Option<u64>) -> Option<String> {
    let count = count as u64;
    if let Some(least) = least.filter(|least| count < *least) {
        return Some(format!("it has {count} {what}, at least {least} are needed"));
    }
    most.filter(|most| count > *most).map(|most| format!("it has {count} {what}, at most {most} are allowed"))
}

/// A value for a message: quoted, and not too long.
pub(super) fn short(text: &str) -> String {
    let shown: String = text.chars().take(60).collect();
    if shown.len() < text.len() { format!("{shown:?}...") } else { format!("{shown:?}") }
}
