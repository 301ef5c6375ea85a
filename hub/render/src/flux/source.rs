//! Flux source objects: what is declared, and what of it Driftless cannot do.

use driftless_yaml::Node;

use super::fields::{Fields, Note};
use super::path;
use super::place::Place;
use crate::report::Code;
use crate::target::{ArtifactDecl, GitRef, Include, SourceDecl, Verify, VerifyMode};

/// API group of Flux's sources.
pub(crate) const GROUP: &str = "source.toolkit.fluxcd.io";

const GIT: &[&str] = &[
    "accessFrom",
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
];

const OCI: &[&str] = &[
    "certSecretRef",
    "ignore",
    "insecure",
    "interval",
    "layerSelector",
    "provider",
    "proxySecretRef",
    "ref",
    "secretRef",
    "serviceAccountName",
    "suspend",
    "timeout",
    "url",
    "verify",
];

/// Reads a source object. `notes` says what of it changes nothing here.
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
        secret: spec.map("secretRef")?.filled("name")?,
        interval_seconds: spec.seconds("interval")?.unwrap_or(60),
        timeout_seconds: spec.seconds("timeout")?.unwrap_or(60),
        ignore: spec.filled("ignore")?,
        suspend: spec.flag("suspend")?.unwrap_or(false),
        declared_at: place.at.clone(),
        ..SourceDecl::default()
    };
    match kind {
        "GitRepository" => git(&spec, &mut decl, notes)?,
        "OCIRepository" => oci(&spec, &mut decl, notes)?,
        "Bucket" => {
            let why = "the hub does not read buckets; publish the same files as an OCI artifact (`flux push artifact`) or in a \
                       Git repository, and refer to that";
            decl.refused = Some((why.to_owned(), place.at.clone()));
        }
        _ => {
            let why = "it is made by another controller in the cluster, out of the hub's sight; only what an ArtifactGenerator in \
                       Git makes can be rendered";
            decl.refused = Some((why.to_owned(), place.at.clone()));
        }
    }
    Ok(decl)
}

fn git(spec: &Fields<'_>, decl: &mut SourceDecl, notes: &mut Vec<Note>) -> Result<(), Note> {
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
    decl.sparse = spec.texts("sparseCheckout")?;
    decl.submodules = spec.flag("recurseSubmodules")?.unwrap_or(false);
    for entry in spec.maps("include")? {
        entry.unknown(&["fromPath", "repository", "toPath"], notes);
        let repository = entry.map("repository")?.required("name")?.to_owned();
        let to = entry.filled("toPath")?.unwrap_or_else(|| repository.clone());
        let from = path::clamped(&entry.filled("fromPath")?.unwrap_or_default());
        decl.include.push(Include { repository, from, to: path::clamped(&to), at: entry.at("") });
    }
    if spec.has("verify") {
        decl.verify = Some(verify(&spec.map("verify")?, notes)?);
        let tagged = match &decl.reference {
            GitRef::Tag(_) | GitRef::Semver(_) => true,
            GitRef::Name(name) => name.starts_with("refs/tags/"),
            _ => false,
        };
        if decl.verify.as_ref().is_some_and(|v| v.mode != VerifyMode::Head) && !tagged {
            let why = "spec.verify.mode asks for the signature of a tag, but spec.ref names none; name a tag or a range of tags, or use \
                       mode HEAD";
            decl.refused = Some((why.to_owned(), spec.at("verify")));
        }
    }
    Ok(())
}

fn verify(spec: &Fields<'_>, notes: &mut Vec<Note>) -> Result<Verify, Note> {
    spec.unknown(&["mode", "secretRef"], notes);
    let mode = match spec.filled("mode")?.as_deref() {
        None | Some("HEAD" | "head") => VerifyMode::Head,
        Some("Tag") => VerifyMode::Tag,
        Some("TagAndHEAD") => VerifyMode::TagAndHead,
        Some(other) => {
            let message = format!("{} is {other:?}, which is none of HEAD, Tag, TagAndHEAD", spec.name("mode"));
            return Err(spec.note(Code::InvalidSpec, "mode", message));
        }
    };
    Ok(Verify { mode, secret: spec.map("secretRef")?.required("name")?.to_owned(), keys: None })
}

fn oci(spec: &Fields<'_>, decl: &mut SourceDecl, notes: &mut Vec<Note>) -> Result<(), Note> {
    spec.unknown(OCI, notes);
    let url = spec.required("url")?;
    if !url.starts_with("oci://") {
        return Err(spec.note(Code::InvalidSpec, "url", "spec.url of an OCIRepository must begin with oci://"));
    }
    let reference = spec.map("ref")?;
    reference.unknown(&["digest", "semver", "semverFilter", "tag"], notes);
    let semver = reference.filled("semver")?;
    let semver_filter = reference.filled("semverFilter")?.filter(|_| semver.is_some());
    // Flux's precedence.
    decl.reference = match (reference.filled("digest")?, semver, reference.filled("tag")?) {
        (Some(digest), _, _) => GitRef::Digest(digest),
        (None, Some(range), _) => GitRef::Semver(range),
        (None, None, tag) => GitRef::Tag(tag.unwrap_or_else(|| "latest".to_owned())),
    };
    let layer = spec.map("layerSelector")?;
    layer.unknown(&["mediaType", "operation"], notes);
    let copy = match layer.filled("operation")?.as_deref() {
        None | Some("extract") => false,
        Some("copy") => true,
        Some(other) => {
            let message = format!("{} is {other:?}, which is neither extract nor copy", layer.name("operation"));
            return Err(layer.note(Code::InvalidSpec, "operation", message));
        }
    };
    decl.artifact = Some(ArtifactDecl {
        semver_filter,
        media_type: layer.filled("mediaType")?,
        copy,
        insecure: spec.flag("insecure")?.unwrap_or(false),
    });
    if spec.has("verify") {
        // Never passed over: whoever wrote it wants nothing unsigned in the cluster.
        let provider = spec.map("verify")?.filled("provider")?.unwrap_or_else(|| "cosign".to_owned());
        let why = format!(
            "spec.verify asks for signatures of {provider}, which the hub cannot check yet, so nothing of it is used; remove \
             spec.verify if the digest in spec.ref is enough, or keep this source with Flux"
        );
        decl.refused = Some((why, spec.at("verify")));
    }
    Ok(())
}

/// An address without user, password and query, which may hold tokens.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let web = matches!(scheme, "http" | "https" | "oci");
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
            ("oci://user:pw@example.org/a", "oci://example.org/a"),
        ] {
            assert_eq!(without_credentials(given), expected);
        }
    }
}
