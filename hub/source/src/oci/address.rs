//! Addresses of OCI repositories: `oci://host[:port]/name`.

use std::fmt;

use driftless_protocol::id::Revision;

use crate::url::UrlError;

/// The address of a repository in a registry. Shows no secret: it has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OciUrl {
    host: String,
    name: String,
}

impl OciUrl {
    /// Reads `oci://host[:port]/name`, without tag or digest.
    ///
    /// # Errors
    /// [`UrlError`], without the text.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(UrlError::Malformed);
        }
        let Some(rest) = text.strip_prefix("oci://") else {
            let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
            return Err(UrlError::Scheme { scheme: scheme.to_owned() });
        };
        let (host, name) = rest.split_once('/').ok_or(UrlError::Missing { part: "path" })?;
        let name = name.trim_end_matches('/');
        if host.is_empty() {
            return Err(UrlError::Missing { part: "host" });
        }
        if host.contains(['@', '?', '#', '\\']) || host.starts_with('-') {
            return Err(UrlError::Unsafe { part: "host" });
        }
        // The distribution specification's names: what leads elsewhere in a URL is none.
        let piece = |piece: &str| {
            let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
            piece.starts_with(|c: char| c.is_ascii_alphanumeric()) && piece.chars().all(inside)
        };
        if name.is_empty() {
            return Err(UrlError::Missing { part: "path" });
        }
        if !name.split('/').all(piece) || name.len() > 255 {
            return Err(UrlError::Unsafe { part: "path" });
        }
        Ok(Self { host: host.to_ascii_lowercase(), name: name.to_owned() })
    }

    /// The host, with its port where one is written.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The repository's name in the registry.
    #[must_use]
    pub fn name(&self) -> String {
        // Docker's own registry has names of one part under `library/`.
        if self.is_docker() && !self.name.contains('/') { format!("library/{}", self.name) } else { self.name.clone() }
    }

    fn is_docker(&self) -> bool {
        matches!(self.host.as_str(), "docker.io" | "index.docker.io")
    }

    /// Where the registry answers: `https://host`.
    pub(super) fn base(&self, insecure: bool) -> String {
        let scheme = if insecure { "http" } else { "https" };
        let host = if self.is_docker() { "registry-1.docker.io" } else { &self.host };
        format!("{scheme}://{host}/v2/{}", self.name())
    }

    /// Whether the host is this machine itself.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = match self.host.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => &self.host,
        };
        is_loopback(host)
    }
}

pub(super) fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl fmt::Display for OciUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci://{}/{}", self.host, self.name)
    }
}

/// Which artifact of the repository is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OciReference {
    /// A tag.
    Tag(String),
    /// The tag with the highest version in a range.
    Semver {
        /// Such as `>=1.0.0`.
        range: String,
        /// Tags that do not match this regular expression are no candidates.
        filter: Option<String>,
    },
    /// A digest, `sha256:` and 64 hex digits.
    Digest(String),
}

impl fmt::Display for OciReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OciReference::Tag(tag) => write!(f, "tag {tag}"),
            OciReference::Semver { range, filter: None } => write!(f, "a tag in the range {range}"),
            OciReference::Semver { range, filter: Some(filter) } => {
                write!(f, "a tag in the range {range} that matches {filter}")
            }
            OciReference::Digest(digest) => write!(f, "digest {digest}"),
        }
    }
}

/// Hex digits of a sha256 digest. `None`: it is none.
pub(super) fn sha256_of(digest: &str) -> Option<&str> {
    let hex = digest.strip_prefix("sha256:")?;
    (hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))).then_some(hex)
}

/// `tag@sha256:...`, as Flux writes it; only the digest where that was asked for.
pub(super) fn revision(tag: Option<&str>, hex: &str) -> Revision {
    Revision { reference: tag.unwrap_or_default().to_owned(), commit: hex.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused() {
        for (text, expected) in [
            ("oci://ghcr.io/org/manifests/pod", Ok("https://ghcr.io/v2/org/manifests/pod")),
            ("oci://LocalHost:5000/a", Ok("https://localhost:5000/v2/a")),
            ("oci://docker.io/nginx", Ok("https://registry-1.docker.io/v2/library/nginx")),
            ("https://ghcr.io/a", Err(UrlError::Scheme { scheme: "https".into() })),
            ("oci://ghcr.io", Err(UrlError::Missing { part: "path" })),
            ("oci:///a", Err(UrlError::Missing { part: "host" })),
            ("oci://user:canary@ghcr.io/a", Err(UrlError::Unsafe { part: "host" })),
            ("oci://ghcr.io/a:v1", Err(UrlError::Unsafe { part: "path" })),
            ("oci://ghcr.io/a@sha256:x", Err(UrlError::Unsafe { part: "path" })),
            ("oci://ghcr.io/../x", Err(UrlError::Unsafe { part: "path" })),
            ("oci://ghcr.io/a?b", Err(UrlError::Unsafe { part: "path" })),
            ("oci://ghcr.io/a b", Err(UrlError::Malformed)),
        ] {
            assert_eq!(OciUrl::parse(text).map(|u| u.base(false)), expected.map(str::to_owned), "{text}");
        }
        let loopback = |text: &str| OciUrl::parse(text).unwrap().is_loopback();
        assert!(loopback("oci://localhost:5000/a") && loopback("oci://127.0.0.1/a") && loopback("oci://[::1]:5/a"));
        assert!(!loopback("oci://example.org:5000/a"));
    }
}
