//! Flux source objects: what is declared, and which declaration is the root's own repository.

use driftless_yaml::Node;

use super::fields::{Fields, Note};
use super::place::Place;
use crate::report::Code;
use crate::target::{GitRef, SourceDecl};

/// API group of Flux's sources.
pub(crate) const GROUP: &str = "source.toolkit.fluxcd.io";

const GIT: &[&str] = &[
    "gitImplementation",
    "ignore",
    "include",
    "interval",
    "provider",
    "proxySecretRef",
    "recurseSubmodules",
    "ref",
    "secretRef",
    "serviceAccountName",
    "sparseCheckout",
    "suspend",
    "timeout",
    "url",
    "verify",
    "accessFrom",
];

/// Reads a source object. `notes` says what of it is not honoured yet.
pub(crate) fn read(
    node: &Node,
    place: &Place,
    kind: &str,
    id: String,
    notes: &mut Vec<Note>,
) -> Result<SourceDecl, Note> {
    let object = Fields::of(node, place);
    let spec = object.map("spec")?;
    let mut decl = SourceDecl {
        id,
        kind: kind.to_owned(),
        url: without_credentials(spec.text("url")?.unwrap_or_default()),
        reference: GitRef::default(),
        secret: spec.map("secretRef")?.filled("name")?,
        interval_seconds: spec.seconds("interval")?.unwrap_or(60),
        ignore: spec.filled("ignore")?,
        suspend: spec.flag("suspend")?.unwrap_or(false),
        declared_at: place.at.clone(),
    };
    if kind != "GitRepository" {
        return Ok(decl);
    }
    spec.unknown(GIT, notes);
    spec.required("url")?;
    let reference = spec.map("ref")?;
    reference.unknown(&["branch", "commit", "name", "semver", "tag"], notes);
    // Flux's precedence.
    decl.reference = if let Some(commit) = reference.filled("commit")? {
        GitRef::Commit(commit)
    } else if let Some(name) = reference.filled("name")? {
        GitRef::Name(name)
    } else if let Some(range) = reference.filled("semver")? {
        GitRef::Semver(range)
    } else if let Some(tag) = reference.filled("tag")? {
        GitRef::Tag(tag)
    } else if let Some(branch) = reference.filled("branch")? {
        GitRef::Branch(branch)
    } else {
        GitRef::default()
    };
    for (key, effect) in [
        ("include", "other repositories are not laid over this one"),
        ("verify", "commit signatures are not checked"),
        ("recurseSubmodules", "submodules stay empty"),
        ("sparseCheckout", "the whole repository is read"),
    ] {
        let off = spec.get(key).and_then(|n| n.as_scalar()).and_then(driftless_yaml::Scalar::boolean) == Some(false);
        if spec.has(key) && !off {
            notes.push(spec.note(Code::FieldNotHonoured, key, format!("spec.{key} is not honoured yet: {effect}")));
        }
    }
    Ok(decl)
}

/// An address without user, password and query, which may hold tokens.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let web = matches!(scheme, "http" | "https");
    let authority = match authority.rsplit_once('@') {
        Some((_, host)) if web => host,
        Some((user, host)) => {
            // The user of ssh is part of the address, its password is not.
            let user = user.split(':').next().unwrap_or_default();
            return format!("{scheme}://{user}@{host}{path}");
        }
        None => authority,
    };
    let path = if web { path.split(['?', '#']).next().unwrap_or_default() } else { path };
    format!("{scheme}://{authority}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_what_is_secret() {
        for (given, expected) in [
            ("https://user:pw@example.org/a?token=1", "https://example.org/a"),
            ("ssh://git:pw@example.org/a", "ssh://git@example.org/a"),
            ("ssh://git@example.org/a", "ssh://git@example.org/a"),
            ("git@example.org:a/b", "git@example.org:a/b"),
        ] {
            assert_eq!(without_credentials(given), expected);
        }
    }
}
