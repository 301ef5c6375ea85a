//! What a scalar is once it leaves us: the value JSON and kustomize's output agree on.

use std::borrow::Cow;

use crate::base64;
use crate::error::WriteError;
use crate::node::{Kind, Scalar};
use crate::number::Number;
use crate::time;

/// A scalar as JSON knows it.
pub(crate) enum Value<'s> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'s, str>),
}

impl Scalar {
    /// The value to write. Dates become RFC 3339 text, `!!binary` its bytes as text.
    pub(crate) fn value(&self) -> Result<Value<'_>, WriteError> {
        let wrong = |kind| WriteError::Kind { text: shown(&self.text), kind, line: self.line };
        Ok(match self.kind {
            Kind::Str => Value::Text(Cow::Borrowed(&self.text)),
            Kind::Null if self.is_flow_null() => Value::Text(Cow::Borrowed("")),
            Kind::Null => Value::Null,
            Kind::Bool => Value::Bool(self.boolean().ok_or_else(|| wrong("true or false"))?),
            Kind::Int => Value::Number(self.number().ok_or_else(|| wrong("an integer"))?),
            Kind::Float => match self.number().ok_or_else(|| wrong("a number"))? {
                Number::Float(f) if !f.is_finite() => {
                    return Err(WriteError::NotFinite { text: shown(&self.text), line: self.line });
                }
                number => Value::Number(number),
            },
            Kind::Timestamp => {
                let text = time::rfc3339(&self.text).ok_or_else(|| wrong("a date"))?;
                Value::Text(Cow::Owned(text))
            }
            Kind::Binary => {
                let bytes = base64::decode(&self.text).ok_or_else(|| wrong("base64"))?;
                Value::Text(Cow::Owned(base64::lossy(&bytes)))
            }
        })
    }
}

/// A text for a message, cut when long.
fn shown(text: &str) -> String {
    text.chars().take(60).collect()
}
