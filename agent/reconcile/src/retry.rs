//! A request failed: when is it tried again, and what is a person told.

use driftless_protocol::object::ObjectKey;

use crate::fill::Fill;
use crate::input::Millis;
use crate::step::Failure;

/// What kind of failure it is; decides when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// 429, or any answer with Retry-After: when the server says.
    Throttled,
    /// No answer, or 5xx: soon, then slower.
    Unavailable,
    /// 409, or 404 of the object itself: somebody wrote between; at once.
    Conflict,
    /// 401, 403: rights change by hand; at the unit's retry interval.
    Forbidden,
    /// A namespace that does not exist: when it appears.
    NamespaceMissing,
    /// The cluster does not serve the kind (any more): when it does.
    NotServed,
    /// 400, 413, 422 and an admission refusal: when the content changes, or at the unit's retry interval, since rules in
    /// the cluster change too.
    Refused,
    /// The same about a field that cannot be changed: only re-creation helps, and that needs a person or `force`.
    Immutable,
}

/// First pause after [`Class::Unavailable`]; doubles up to [`SLOWEST`].
const FIRST: Millis = 500;
/// Longest pause between two tries of something the cluster itself will mend.
const SLOWEST: Millis = 60_000;
/// The pause while waiting for an event that may be missed.
const MISSED_EVENT: Millis = 60_000;

/// Classes a failure.
#[must_use]
pub fn class(failure: &Failure) -> Class {
    if let Some(class) = failure.class {
        return class;
    }
    let message = failure.message.as_str();
    match failure.status {
        Some(429) => Class::Throttled,
        _ if failure.retry_after.is_some() => Class::Throttled,
        // Wrong types in the object: the server answers 500 although nothing of it is the server's.
        Some(500) if message.starts_with("failed to create typed patch object") => Class::Refused,
        None | Some(408 | 500..) => {
            // A webhook that cannot be reached comes as a 500; it is as temporary as the server itself.
            Class::Unavailable
        }
        Some(409) if failure.reason != "AlreadyExists" => Class::Conflict,
        Some(401 | 403) if failure.reason == "Forbidden" && message.contains("is being terminated") => {
            // The namespace is on its way out: nothing can be created until it is gone and back.
            Class::NamespaceMissing
        }
        Some(400 | 403 | 422) if is_immutable(message) => Class::Immutable,
        Some(403) if message.contains("admission webhook") || message.contains("violates PodSecurity") => {
            Class::Refused
        }
        Some(401 | 403) => Class::Forbidden,
        Some(404) if message.starts_with("namespaces ") => Class::NamespaceMissing,
        Some(404) if failure.reason == NOT_SERVED || UNKNOWN_PATHS.iter().any(|words| message.contains(words)) => {
            Class::NotServed
        }
        // A webhook may deny with any code.
        Some(404) if message.contains("admission webhook") => Class::Refused,
        // Somebody deleted the object between two requests about it.
        Some(404) => Class::Conflict,
        Some(_) => Class::Refused,
    }
}

/// The reason of a failure that is found out here: discovery lists no such kind.
pub const NOT_SERVED: &str = "KindNotServed";
/// What an API server says of a path it does not know.
const UNKNOWN_PATHS: [&str; 2] = ["the server could not find the requested resource", "404 page not found"];

/// Whether a refusal is about a field that cannot be changed. There is no better mark than the words, which kubectl and Flux
/// read as well; these are those of the API server's own validation, of CEL rules and webhooks as they are usually put.
#[must_use]
pub fn is_immutable(message: &str) -> bool {
    const WORDS: [&str; 7] = [
        "immutable",
        "cannot change roleRef",
        "may not change once set",
        "may not be changed",
        "can not be changed",
        "updates to statefulset spec for fields other than",
        "pod updates may not change",
    ];
    // As of a StorageClass: "updates to parameters are forbidden".
    let forbidden = message.contains("updates to ") && message.contains("are forbidden");
    forbidden || WORDS.iter().any(|words| message.contains(words))
}

/// When to try again, after the `tries`th failure in a row (1 the first). `spread` is any number that differs between
/// objects: it keeps those that failed together from coming back together.
#[must_use]
pub fn next(
    class: Class,
    retry_after: Option<u64>,
    tries: u32,
    retry_interval_seconds: u64,
    spread: u64,
    now: Millis,
) -> Millis {
    let backoff = |first: Millis, most: Millis| {
        let pause = first.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(most.max(first));
        pause + pause / 4 * (spread % 1024) / 1024
    };
    let interval = retry_interval_seconds.saturating_mul(1000).max(1000);
    let pause = match class {
        // Not sooner than it says, and slower each time: it says the same to all who ask.
        Class::Throttled => {
            let least = retry_after.unwrap_or(1).clamp(1, 300) * 1000;
            backoff(least, SLOWEST)
        }
        Class::Unavailable => backoff(FIRST, SLOWEST),
        // The first conflict is tried again at once, since the cause is over; a repeated one backs off.
        Class::Conflict if tries <= 1 => 0,
        Class::Conflict => backoff(FIRST, SLOWEST),
        Class::NamespaceMissing | Class::NotServed => backoff(5_000, MISSED_EVENT.min(interval)),
        // At first quickly, as much of what is refused now (a webhook that starts, a quota) is allowed a moment later.
        Class::Forbidden | Class::Refused => backoff(5_000, interval),
        Class::Immutable => interval,
    };
    now.saturating_add(pause)
}

/// A failure of an object that values of Secrets went into, with the API server's words taken out where they may quote the
/// object. `fields`: the paths it complains of.
#[must_use]
pub fn hide(mut failure: Failure, fields: &[String], fill: &Fill) -> Failure {
    let class = class(&failure);
    failure.class = Some(class);
    let quotes = match class {
        // Of accounts, kinds, namespaces and load; nothing of the object but its name.
        Class::Throttled | Class::Conflict | Class::Forbidden | Class::NamespaceMissing | Class::NotServed => false,
        Class::Unavailable => failure.status.is_some(),
        Class::Refused | Class::Immutable => true,
    };
    if !quotes {
        failure.message = fill.scrub(&failure.message);
        return failure;
    }
    let status = failure.status.map(|s| s.to_string()).unwrap_or_default();
    let at = match fields {
        [] => String::new(),
        fields => format!(" at {}", fill.scrub(&fields.join(", "))),
    };
    failure.message = format!(
        "{status} {}{at}; its words are not shown, as they may quote values of Secret {}",
        failure.reason,
        fill.secrets()
    );
    failure
}

/// The same of a heal that was refused. What it sends was taken before, so that Git is not what is wrong.
#[must_use]
pub fn explain_heal(class: Class, failure: &Failure, key: &ObjectKey) -> (&'static str, String) {
    match class {
        Class::Refused => (
            "Refused",
            format!(
                "the API server refused it: {}; the same was taken before: either the cluster has a new rule (a policy, a \
                 schema), or it does not go with what others changed in the object",
                failure.message
            ),
        ),
        _ => explain(class, failure, key),
    }
}

/// Stable reason code and message of a failure, for the object's report.
#[must_use]
pub fn explain(class: Class, failure: &Failure, key: &ObjectKey) -> (&'static str, String) {
    let said = if failure.message.is_empty() { "no answer" } else { failure.message.as_str() };
    if let Some(explained) = definition(failure, key) {
        return explained;
    }
    match class {
        Class::Throttled => ("Throttled", format!("the API server asks to slow down: {said}")),
        Class::Unavailable => {
            ("ApiUnavailable", format!("the API server could not answer: {said}; tried again by itself"))
        }
        Class::Conflict => ("Conflict", format!("somebody else wrote at the same time: {said}; tried again by itself")),
        Class::Forbidden => (
            "Forbidden",
            format!(
                "the account has no right to write it: {said}; grant the right, or set the unit's serviceAccountName"
            ),
        ),
        Class::NamespaceMissing => (
            "NamespaceMissing",
            format!(
                "namespace {} does not exist or is being deleted: {said}; declare it, or create it, and this goes on by itself",
                key.namespace
            ),
        ),
        Class::NotServed => ("KindNotServed", format!("the cluster does not serve {}: {said}", key.kind)),
        Class::Refused => ("Refused", format!("the API server refused it: {said}; correct it in Git")),
        Class::Immutable => (
            "ImmutableField",
            format!(
                "a field that cannot be changed differs: {said}; take the change back in Git, delete the object so that it is \
                 made anew, or say kustomize.toolkit.fluxcd.io/force: enabled on it"
            ),
        ),
    }
}

/// What goes wrong when CustomResourceDefinitions are upgraded; the server's own words do not say what to do.
fn definition(failure: &Failure, key: &ObjectKey) -> Option<(&'static str, String)> {
    let said = failure.message.as_str();
    if said.contains("conversion webhook for") || said.contains("conversion webhook failed") {
        return Some((
            "ConversionWebhook",
            format!(
                "the webhook that converts {} between its versions does not answer: {said}; tried again by itself",
                key.kind
            ),
        ));
    }
    if key.kind != "CustomResourceDefinition" {
        return None;
    }
    if said.contains("storedVersions") {
        return Some((
            "StoredVersion",
            format!(
                "objects may still be stored in a version that the new definition does not have: {said}; keep that version in \
                 spec.versions (served or not) until all objects were written anew, then remove it from status.storedVersions"
            ),
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_definitions_say_what_to_do() {
        let key =
            |kind: &str| ObjectKey { group: "".into(), kind: kind.into(), namespace: "".into(), name: "x".into() };
        let failure = |status: u16, message: &str| Failure {
            status: Some(status),
            message: message.into(),
            ..Failure::default()
        };
        let stored =
            failure(422, "status.storedVersions[0]: Invalid value: \"v1alpha1\": must appear in spec.versions");
        let (code, text) = explain(class(&stored), &stored, &key("CustomResourceDefinition"));
        assert_eq!(code, "StoredVersion");
        assert!(text.contains("keep that version in spec.versions"), "{text}");
        let webhook =
            failure(500, "conversion webhook for acme.example/v1, Kind=Widget failed: Post \"https://x\": refused");
        assert_eq!(class(&webhook), Class::Unavailable);
        assert_eq!(explain(class(&webhook), &webhook, &key("Widget")).0, "ConversionWebhook");
    }

    #[test]
    fn failures_are_classed_by_what_makes_them_go_away() {
        let failure = |status: u16, reason: &str, message: &str| Failure {
            status: (status > 0).then_some(status),
            reason: reason.into(),
            message: message.into(),
            ..Failure::default()
        };
        for (failure, want) in [
            (failure(0, "", ""), Class::Unavailable),
            (failure(503, "ServiceUnavailable", ""), Class::Unavailable),
            (failure(500, "InternalError", "failed calling webhook \"x\""), Class::Unavailable),
            (
                failure(500, "", "failed to create typed patch object (a/b; apps/v1, Kind=Deployment): x"),
                Class::Refused,
            ),
            (failure(429, "TooManyRequests", ""), Class::Throttled),
            (failure(409, "Conflict", "the object has been modified"), Class::Conflict),
            (failure(403, "Forbidden", "deployments.apps is forbidden: User \"x\" cannot patch"), Class::Forbidden),
            (failure(403, "Forbidden", "admission webhook \"p\" denied the request: no"), Class::Refused),
            (failure(403, "Forbidden", "x because it is being terminated"), Class::NamespaceMissing),
            (failure(404, "NotFound", "namespaces \"nope\" not found"), Class::NamespaceMissing),
            (failure(404, "NotFound", "the server could not find the requested resource"), Class::NotServed),
            (failure(422, "Invalid", "spec.selector: Invalid value: {}: field is immutable"), Class::Immutable),
            (failure(422, "Invalid", "spec.replicas: Invalid value"), Class::Refused),
            (failure(400, "BadRequest", "strict decoding error"), Class::Refused),
        ] {
            assert_eq!(class(&failure), want, "{failure:?}");
        }
    }

    #[test]
    fn pauses_grow_and_stay_within_the_retry_interval() {
        let at = |class, tries| next(class, None, tries, 120, 0, 1000) - 1000;
        assert_eq!(at(Class::Conflict, 1), 0);
        assert_eq!(
            [at(Class::Unavailable, 1), at(Class::Unavailable, 2), at(Class::Unavailable, 30)],
            [500, 1000, 60_000]
        );
        assert_eq!([at(Class::Refused, 1), at(Class::Refused, 9)], [5_000, 120_000]);
        assert_eq!(at(Class::Immutable, 1), 120_000);
        assert_eq!(next(Class::Throttled, Some(7), 1, 120, 0, 0), 7000);
    }
}
