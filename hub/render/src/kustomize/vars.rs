//! Variables: values of fields put in place of `$(NAME)` in other fields.

use super::accumulate::Result;
use super::config::Config;
use super::error::{BuildError, ErrorKind, Warning};
use super::file::Var;
use super::res::Objects;

/// Adds a variable; refuses a name that is there already.
pub(crate) fn add(vars: &mut Vec<Var>, var: Var) -> Result<()> {
    if let Some(first) = vars.iter().find(|v| v.name == var.name) {
        return Err(BuildError::new(ErrorKind::Conflict, var.place.clone(), format!("the variable {:?} is defined twice", var.name))
            .help(format!("the other definition is at {}", first.place)));
    }
    vars.push(var);
    Ok(())
}

/// Marks the object that a variable reads from.
pub(crate) fn note(objects: &mut Objects, var: &Var) -> Result<()> {
    let _ = (objects, var);
    Ok(())
}

/// Puts the values in place.
pub(crate) fn resolve(objects: &mut Objects, vars: &[Var], config: &Config, warnings: &mut Vec<Warning>) -> Result<()> {
    let _ = (objects, config, warnings);
    match vars.first() {
        None => Ok(()),
        Some(var) => Err(BuildError::new(ErrorKind::Refused, var.place.clone(), "vars are not rendered yet").help("use replacements")),
    }
}
