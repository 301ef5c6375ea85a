//! Who refused, and over what: read from the words of an API server, as they stand in answers, conditions and Events.

use crate::retry;

/// Who refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A quota is used up: its name.
    Quota(String),
    /// A quota counts what the pod does not say: the quota's name and what is missing.
    QuotaNeeds(String, String),
    /// Pod Security: the level.
    PodSecurity(String),
    /// A webhook said no: its name.
    Webhook(String),
    /// A webhook could not be asked: its name.
    WebhookDown(String),
    /// A webhook that cannot be asked in a dry run: its name.
    WebhookNoDryRun(String),
    /// A ValidatingAdmissionPolicy: its name.
    Policy(String),
    /// A LimitRange.
    LimitRange,
    /// The pod's service account is not there: its name.
    NoServiceAccount(String),
    /// The pod's PriorityClass is not there: its name.
    NoPriorityClass(String),
    /// RBAC: the account has no right.
    Rights,
    /// RBAC: no right to act as the account.
    Impersonation,
    /// The namespace is not there, or on its way out.
    NoNamespace,
    /// The kind is not served, or not in that version.
    NotServed,
    /// A field that cannot be changed.
    Immutable,
    /// Something else.
    Other,
}

/// Reads what an API server said.
#[must_use]
pub fn read(message: &str) -> Refusal {
    let has = |text: &str| message.contains(text);
    if has("cannot impersonate resource") {
        return Refusal::Impersonation;
    }
    if has("is forbidden: User ") && has(" cannot ") {
        return Refusal::Rights;
    }
    if let Some(name) = between(message, "admission webhook \"", "\"") {
        if has("does not support dry run") {
            return Refusal::WebhookNoDryRun(name);
        }
        if has("denied the request") {
            return Refusal::Webhook(name);
        }
    }
    if let Some(name) = between(message, "failed calling webhook \"", "\"") {
        return Refusal::WebhookDown(name);
    }
    if let Some(name) = between(message, "ValidatingAdmissionPolicy '", "'") {
        return Refusal::Policy(name);
    }
    if let Some(level) = between(message, "violates PodSecurity \"", "\"") {
        return Refusal::PodSecurity(level);
    }
    if let Some(name) = between(message, "exceeded quota: ", ",") {
        return Refusal::Quota(name);
    }
    if let Some((_, rest)) = message.split_once("failed quota: ") {
        let (name, needs) = rest.split_once(": ").unwrap_or((rest, ""));
        return Refusal::QuotaNeeds(name.to_owned(), needs.trim_start_matches("must specify ").to_owned());
    }
    if let Some(name) = between(message, "error looking up service account ", ":") {
        return Refusal::NoServiceAccount(name);
    }
    if let Some(name) = between(message, "no PriorityClass with name ", " was found") {
        return Refusal::NoPriorityClass(name);
    }
    let limits = ["maximum ", "minimum "].iter().any(|word| has(word))
        && [" per Container", " per Pod", " per Persist"].iter().any(|w| has(w));
    if limits {
        return Refusal::LimitRange;
    }
    if (has("namespaces \"") && has("\" not found")) || has("because it is being terminated") {
        return Refusal::NoNamespace;
    }
    if has("the server could not find the requested resource") || has("no matches for kind") {
        return Refusal::NotServed;
    }
    if retry::is_immutable(message) {
        return Refusal::Immutable;
    }
    Refusal::Other
}

fn between(text: &str, before: &str, after: &str) -> Option<String> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after).map_or(rest, |(name, _)| name).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_api_servers_are_read() {
        let name = |n: &str| n.to_owned();
        for (message, want) in [
            (
                "pods \"web-7d9c\" is forbidden: exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2",
                Refusal::Quota(name("small")),
            ),
            (
                "pods \"web-7d9c\" is forbidden: failed quota: compute: must specify limits.cpu for: web; requests.cpu for: web",
                Refusal::QuotaNeeds(name("compute"), name("limits.cpu for: web; requests.cpu for: web")),
            ),
            (
                "pods \"web-7d9c\" is forbidden: violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"web\" must set securityContext.allowPrivilegeEscalation=false)",
                Refusal::PodSecurity(name("restricted:latest")),
            ),
            (
                "admission webhook \"deny.acme.example\" denied the request: no",
                Refusal::Webhook(name("deny.acme.example")),
            ),
            (
                "admission webhook \"old.acme.example\" does not support dry run",
                Refusal::WebhookNoDryRun(name("old.acme.example")),
            ),
            (
                "Internal error occurred: failed calling webhook \"down.acme.example\": failed to call webhook: Post \"https://hook.a.svc:443/\": no endpoints available for service \"hook\"",
                Refusal::WebhookDown(name("down.acme.example")),
            ),
            (
                "deployments.apps \"web\" is forbidden: ValidatingAdmissionPolicy 'owners' with binding 'all' denied request: no owner",
                Refusal::Policy(name("owners")),
            ),
            (
                "pods \"web-7d9c\" is forbidden: error looking up service account shop/robot: serviceaccount \"robot\" not found",
                Refusal::NoServiceAccount(name("shop/robot")),
            ),
            (
                "pods \"web-7d9c\" is forbidden: no PriorityClass with name urgent was found",
                Refusal::NoPriorityClass(name("urgent")),
            ),
            ("pods \"w\" is forbidden: maximum cpu usage per Container is 1, but limit is 2", Refusal::LimitRange),
            (
                "deployments.apps \"web\" is forbidden: User \"system:serviceaccount:a:b\" cannot patch resource \"deployments\" in API group \"apps\" in the namespace \"shop\"",
                Refusal::Rights,
            ),
            (
                "serviceaccounts \"b\" is forbidden: User \"system:serviceaccount:driftless-system:driftless-agent\" cannot impersonate resource \"serviceaccounts\" in API group \"\" in the namespace \"a\"",
                Refusal::Impersonation,
            ),
            ("namespaces \"shop\" not found", Refusal::NoNamespace),
            ("the server could not find the requested resource", Refusal::NotServed),
            (
                "Deployment.apps \"web\" is invalid: spec.selector: Invalid value: {\"matchLabels\":{}}: field is immutable",
                Refusal::Immutable,
            ),
            (
                "StatefulSet.apps \"db\" is invalid: spec: Forbidden: updates to statefulset spec for fields other than 'replicas' are forbidden",
                Refusal::Immutable,
            ),
            (
                "Service \"api\" is invalid: spec.ports[0].port: Invalid value: 0: must be between 1 and 65535",
                Refusal::Other,
            ),
        ] {
            assert_eq!(read(message), want, "{message}");
        }
    }
}
