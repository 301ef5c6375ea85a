//! Names, labels and keys that the API server refuses whatever a schema says.
//!
//! The rules are those of Kubernetes' documentation ("Object Names and IDs", "Labels and Selectors", "Annotations",
//! "ConfigMaps").

use driftless_protocol::object::ObjectKey;

/// Groups and kinds whose names are anything that may stand in a path.
const PATH_NAMES: &[&str] = &["rbac.authorization.k8s.io"];
/// Kinds with rules of their own for names, which are left to the API server.
const OTHER_NAMES: &[&str] = &["APIService", "ClusterTrustBundle", "ComponentStatus", "IPAddress"];

fn alphanumeric(b: u8) -> bool {
    b.is_ascii_alphanumeric()
}

fn lower(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// Ends of one class of characters, inside another.
fn made_of(text: &str, end: impl Fn(u8) -> bool, inside: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    let ends = bytes.first().is_some_and(|b| end(*b)) && bytes.last().is_some_and(|b| end(*b));
    ends && bytes.iter().all(|b| inside(*b))
}

fn is_label(text: &str) -> bool {
    text.len() <= 63 && made_of(text, lower, |b| lower(b) || b == b'-')
}

fn is_subdomain(text: &str) -> bool {
    let part = |part: &str| made_of(part, lower, |b| lower(b) || b == b'-');
    text.len() <= 253 && text.split('.').all(part)
}

/// What is wrong with the name of an object. `minor` is Kubernetes' version, where it is known.
pub(super) fn name(key: &ObjectKey, minor: Option<u32>) -> Option<String> {
    let name = key.name.as_str();
    if OTHER_NAMES.contains(&key.kind.as_str()) {
        return None;
    }
    if PATH_NAMES.contains(&key.group.as_str()) {
        let wrong = matches!(name, "." | "..") || name.contains(['/', '%']);
        return wrong.then(|| format!("{name:?} is no name: it may hold neither / nor %"));
    }
    let wanted = match (key.group.as_str(), key.kind.as_str()) {
        ("", "Namespace") | ("apps", "StatefulSet") => Wanted::Label,
        // From 1.36 on the name of a Service may begin with a digit.
        ("", "Service") if minor.is_some_and(|minor| minor < 36) => Wanted::LabelOfLetter,
        ("", "Service") => Wanted::Label,
        _ => Wanted::Subdomain,
    };
    let fits = match wanted {
        Wanted::Subdomain => is_subdomain(name),
        Wanted::Label => is_label(name),
        Wanted::LabelOfLetter => is_label(name) && !name.starts_with(|c: char| c.is_ascii_digit()),
    };
    let rule = match wanted {
        Wanted::Subdomain => {
            "lower-case letters, digits, - and ., at most 253, a letter or digit at both ends of each part"
        }
        Wanted::Label => "lower-case letters, digits and -, at most 63, a letter or digit at both ends",
        Wanted::LabelOfLetter => "lower-case letters, digits and -, at most 63, a letter first, a letter or digit last",
    };
    (!fits).then(|| format!("{} is no name of a {}: {rule}", super::rules::short(name), key.kind))
}

enum Wanted {
    Subdomain,
    Label,
    LabelOfLetter,
}

/// What is wrong with the namespace of an object.
pub(crate) fn namespace(name: &str) -> Option<String> {
    (!name.is_empty() && !is_label(name)).then(|| {
        let shown = super::rules::short(name);
        format!("{shown} is no name of a namespace: lower-case letters, digits and -, at most 63, a letter or digit at both ends")
    })
}

/// What is wrong with the key of a label or annotation.
pub(super) fn qualified(key: &str) -> Option<&'static str> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if prefix.is_some_and(|prefix| !is_subdomain(&prefix.to_ascii_lowercase())) {
        return Some("before the / of a key stands a domain name in lower case, at most 253 characters");
    }
    let fits = name.len() <= 63 && made_of(name, alphanumeric, |b| alphanumeric(b) || matches!(b, b'-' | b'_' | b'.'));
    (!fits).then_some("a key has letters, digits, -, _ and ., at most 63, a letter or digit at both ends")
}

/// What is wrong with the key of a label: its prefix has no capitals.
pub(super) fn label_key(key: &str) -> Option<&'static str> {
    match key.split_once('/') {
        Some((prefix, _)) if !is_subdomain(prefix) => {
            Some("before the / of a key stands a domain name in lower case, at most 253 characters")
        }
        _ => qualified(key),
    }
}

/// What is wrong with the value of a label.
pub(super) fn label_value(value: &str) -> Option<&'static str> {
    let inside = |b: u8| alphanumeric(b) || matches!(b, b'-' | b'_' | b'.');
    let fits = value.is_empty() || (value.len() <= 63 && made_of(value, alphanumeric, inside));
    (!fits).then_some("a label's value has letters, digits, -, _ and ., at most 63, a letter or digit at both ends")
}

/// What is wrong with a key in `data` of a ConfigMap or Secret.
pub(super) fn data_key(key: &str) -> Option<&'static str> {
    let inside = |b: u8| alphanumeric(b) || matches!(b, b'-' | b'_' | b'.');
    let fits = !key.is_empty() && key.len() <= 253 && key.bytes().all(inside) && key != "." && !key.starts_with("..");
    (!fits).then_some("a key has letters, digits, -, _ and ., at most 253, and does not begin with ..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_the_api_server_takes() {
        let long = "a".repeat(64);
        for (group, kind, given, minor, good) in [
            ("", "ConfigMap", "a.b-c.0", 36, true),
            ("", "ConfigMap", long.as_str(), 36, true),
            ("", "ConfigMap", "Bad_Name", 36, false),
            ("", "ConfigMap", "a..b", 36, false),
            ("", "ConfigMap", "-a", 36, false),
            ("", "Namespace", "a.b", 36, false),
            ("", "Namespace", &long, 36, false),
            ("", "Service", "1a", 36, true),
            ("", "Service", "1a", 35, false),
            ("", "Service", "a.b", 36, false),
            ("apps", "StatefulSet", "a.b", 36, false),
            ("apps", "Deployment", "a.b", 36, true),
            ("rbac.authorization.k8s.io", "ClusterRole", "system:Node_x", 36, true),
            ("rbac.authorization.k8s.io", "ClusterRole", "a/b", 36, false),
            ("apiregistration.k8s.io", "APIService", "v1.", 36, true),
            ("example.org", "Thing", "Thing", 36, false),
        ] {
            let key = ObjectKey { group: group.into(), kind: kind.into(), namespace: "".into(), name: given.into() };
            assert_eq!(name(&key, Some(minor)).is_none(), good, "{kind} {given} in 1.{minor}");
        }
        assert!(namespace("").is_none() && namespace("a-b").is_none() && namespace("a.b").is_some());
    }

    #[test]
    fn keys_and_values_are_those_the_api_server_takes() {
        let long = "a".repeat(64);
        for (key, label, annotation) in [
            ("a", true, true),
            ("app.kubernetes.io/Name_1", true, true),
            ("A.io/x", false, true),
            ("a b", false, false),
            ("a/b/c", false, false),
            ("/a", false, false),
            ("a/", false, false),
            ("", false, false),
            (long.as_str(), false, false),
        ] {
            assert_eq!((label_key(key).is_none(), qualified(key).is_none()), (label, annotation), "{key:?}");
        }
        for (value, good) in
            [("", true), ("a.b_c-D", true), ("x y", false), ("-a", false), (&*long, false), ("é", false)]
        {
            assert_eq!(label_value(value).is_none(), good, "{value:?}");
        }
        for (key, good) in
            [("a", true), (".a", true), ("-", true), (".", false), ("..a", false), ("a/b", false), ("", false)]
        {
            assert_eq!(data_key(key).is_none(), good, "{key:?}");
        }
    }
}
