//! What an API server's answer to a dry run says.

use driftless_protocol::ask::{DryRunOutcome, FieldTaken};

use crate::refusal::{self, Refusal};

/// What a refusal comes to. `reason`: of the Status.
#[must_use]
pub fn outcome(status: Option<u16>, reason: &str, message: &str) -> DryRunOutcome {
    use DryRunOutcome as O;
    match refusal::read(message) {
        Refusal::Quota(_) | Refusal::QuotaNeeds(..) | Refusal::LimitRange => O::Quota,
        Refusal::PodSecurity(_)
        | Refusal::Webhook(_)
        | Refusal::Policy(_)
        | Refusal::NoServiceAccount(_)
        | Refusal::NoPriorityClass(_) => O::Denied,
        Refusal::WebhookDown(_) | Refusal::WebhookNoDryRun(_) => O::WebhookFailed,
        Refusal::Rights => O::Forbidden,
        Refusal::Impersonation => O::NoSuchAccount,
        Refusal::NoNamespace => O::NoNamespace,
        Refusal::NotServed => O::NotServed,
        Refusal::Immutable => O::Immutable,
        Refusal::Other => match (status, reason) {
            (Some(404), _) => O::NotServed,
            (Some(409), _) => O::Conflict,
            (Some(400 | 413 | 415 | 422), _) => O::Invalid,
            // What goes wrong while an apply is merged has no reason: the object cannot be read as its kind.
            (Some(500), "") => O::Invalid,
            (Some(403), _) => O::Denied,
            _ => O::Failed,
        },
    }
}

/// The fields of others that an apply with force would take, from a refusal of one without: `causes` are field and words of
/// the Status.
#[must_use]
pub fn takes(causes: &[(String, String)]) -> Vec<FieldTaken> {
    let mut all: Vec<FieldTaken> = causes
        .iter()
        .filter_map(|(field, words)| {
            let manager = words.strip_prefix("conflict with \"")?.split('"').next()?;
            Some(FieldTaken { field: field.clone(), manager: manager.to_owned() })
        })
        .collect();
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_classed() {
        use DryRunOutcome as O;
        for (status, reason, message, want) in [
            (
                422,
                "Invalid",
                "Deployment.apps \"w\" is invalid: spec.selector: Invalid value: {}: field is immutable",
                O::Immutable,
            ),
            (422, "Invalid", "Service \"w\" is invalid: spec.ports: Required value", O::Invalid),
            (403, "Forbidden", "admission webhook \"p\" denied the request: no", O::Denied),
            (
                403,
                "Forbidden",
                "configmaps \"a\" is forbidden: exceeded quota: q, requested: count/configmaps=1, used: 1, limited: 1",
                O::Quota,
            ),
            (
                403,
                "Forbidden",
                "deployments.apps \"w\" is forbidden: User \"x\" cannot patch resource \"deployments\"",
                O::Forbidden,
            ),
            (
                403,
                "Forbidden",
                "serviceaccounts \"x\" is forbidden: User \"y\" cannot impersonate resource \"serviceaccounts\"",
                O::NoSuchAccount,
            ),
            (404, "NotFound", "namespaces \"nope\" not found", O::NoNamespace),
            (404, "NotFound", "the server could not find the requested resource", O::NotServed),
            (
                500,
                "InternalError",
                "Internal error occurred: failed calling webhook \"p\": no endpoints",
                O::WebhookFailed,
            ),
            (
                500,
                "",
                "failed to create typed patch object (a/b; apps/v1, Kind=Deployment): .spec.x: field not declared",
                O::Invalid,
            ),
            (409, "Conflict", "the object has been modified", O::Conflict),
            (500, "InternalError", "etcd is sad", O::Failed),
        ] {
            assert_eq!(outcome(Some(status), reason, message), want, "{message}");
        }
        assert_eq!(outcome(None, "", "no answer"), O::Failed);
    }

    #[test]
    fn conflicts_name_field_and_manager() {
        let causes = [
            (
                ".spec.replicas".to_owned(),
                "conflict with \"kubectl\" with subresource \"scale\" using apps/v1".to_owned(),
            ),
            (".data.key".to_owned(), "conflict with \"helm\" using v1 at 2026-01-01T00:00:00Z".to_owned()),
            (".data.key".to_owned(), "something else".to_owned()),
        ];
        let found = takes(&causes);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].field.as_str(), found[0].manager.as_str()), (".data.key", "helm"));
    }
}
