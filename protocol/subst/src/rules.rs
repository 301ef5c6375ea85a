//! Flux's rules around a substitution: which names and values it takes, which objects it leaves alone.

use std::borrow::Cow;

use crate::{Error, ErrorKind};

/// The label or annotation that switches substitution off for one object, with the value `disabled`.
pub const SUBSTITUTE_KEY: &str = "kustomize.toolkit.fluxcd.io/substitute";

/// Whether Flux accepts a variable of this name: `^[_[:alpha:]][_[:alpha:][:digit:]]*$`.
#[must_use]
pub fn is_valid_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b == b'_' || b.is_ascii_alphabetic())
        && bytes.all(|b| b == b'_' || b.is_ascii_alphanumeric())
}

/// Checks the names of all variables given; one bad name fails the unit, used or not.
///
/// # Errors
/// [`ErrorKind::InvalidName`] for the first bad name. Its line is 0: it is no place in the text.
pub fn check_names<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<(), Error> {
    match names.into_iter().find(|name| !is_valid_name(name)) {
        Some(name) => Err(Error { line: 0, kind: ErrorKind::InvalidName { name: name.to_owned() } }),
        None => Ok(()),
    }
}

/// A variable's value as Flux uses it: without line feeds.
#[must_use]
pub fn value_of(text: &str) -> Cow<'_, str> {
    if text.contains('\n') { Cow::Owned(text.replace('\n', "")) } else { Cow::Borrowed(text) }
}

/// Whether an object is left alone: the value of [`SUBSTITUTE_KEY`] among its labels and among its annotations.
#[must_use]
pub fn is_disabled(label: Option<&str>, annotation: Option<&str>) -> bool {
    label == Some("disabled") || annotation == Some("disabled")
}
