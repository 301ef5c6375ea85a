//! Manifests: which layer of an artifact is taken.

use serde::Deserialize;

use super::Layer;
use super::address::sha256_of;
use crate::error::Cause;

/// What may be answered for a manifest, newest forms first.
pub(super) const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// A manifest, or a list of manifests for several platforms.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

/// What a manifest leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Leads {
    /// The layer to take.
    Layer(Descriptor),
    /// Another manifest.
    Manifest(String),
}

pub(super) fn read(bytes: &[u8], wanted: &Layer) -> Result<Leads, Cause> {
    let unusable = |reason: String| Cause::ArtifactUnusable { reason };
    let manifest: Manifest =
        serde_json::from_slice(bytes).map_err(|e| unusable(format!("its manifest cannot be read: {e}")))?;
    if manifest.layers.is_empty() && !manifest.manifests.is_empty() {
        // As Flux does.
        let fits = |d: &&Descriptor| d.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == "amd64");
        let one = manifest.manifests.iter().find(fits);
        let one =
            one.ok_or_else(|| unusable("it is a list of manifests, and none of them is for linux/amd64".into()))?;
        sha256_of(&one.digest).ok_or_else(|| unusable("its list names a manifest by no sha256 digest".into()))?;
        return Ok(Leads::Manifest(one.digest.clone()));
    }
    let layer = match &wanted.media_type {
        Some(wanted) => manifest.layers.iter().find(|l| l.media_type == *wanted).ok_or_else(|| {
            let there: Vec<&str> = manifest.layers.iter().map(|l| l.media_type.as_str()).take(5).collect();
            unusable(format!("it has no layer of the media type {wanted}; it has {}", there.join(", ")))
        })?,
        None => manifest.layers.first().ok_or_else(|| unusable("it has no layer".into()))?,
    };
    sha256_of(&layer.digest)
        .ok_or_else(|| unusable(format!("its layer has the digest {:?}, which is no sha256", layer.digest)))?;
    Ok(Leads::Layer(layer.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_chosen_as_flux_chooses_it() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let other = format!("sha256:{}", "b".repeat(64));
        let two = format!(
            r#"{{"layers":[{{"mediaType":"x","digest":"{digest}","size":1}},{{"mediaType":"y","digest":"{other}","size":2}}]}}"#
        );
        let of = |text: &str, media_type: Option<&str>| {
            let layer = Layer { media_type: media_type.map(str::to_owned) };
            match read(text.as_bytes(), &layer) {
                Ok(Leads::Layer(layer)) => layer.digest,
                Ok(Leads::Manifest(digest)) => format!("manifest {digest}"),
                Err(cause) => cause.to_string(),
            }
        };
        assert_eq!(of(&two, None), digest);
        assert_eq!(of(&two, Some("y")), other);
        assert!(of(&two, Some("z")).contains("no layer of the media type z; it has x, y"));
        assert!(of(r#"{"layers":[]}"#, None).contains("no layer"));
        assert!(of("{", None).contains("cannot be read"));
        assert!(of(r#"{"layers":[{"digest":"sha512:x","size":1}]}"#, None).contains("no sha256"));
        let list =
            |platform: &str| format!(r#"{{"manifests":[{{"digest":"{digest}","size":1,"platform":{platform}}}]}}"#);
        assert_eq!(of(&list(r#"{"architecture":"amd64","os":"linux"}"#), None), format!("manifest {digest}"));
        assert!(of(&list(r#"{"architecture":"arm64","os":"linux"}"#), None).contains("linux/amd64"));
    }
}
