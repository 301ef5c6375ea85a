//! Service, Namespace, PodDisruptionBudget, CustomResourceDefinition, APIService, and every kind by its conditions.

use super::{Object, Verdict, because};

/// A controller that reports generations has not seen the newest.
pub(super) fn stale(o: Object<'_>) -> Option<Verdict> {
    o.stale()
}

pub(super) fn service(o: Object<'_>) -> Verdict {
    if o.text("/spec/type") == Some("LoadBalancer") && o.text("/spec/clusterIP").unwrap_or_default().is_empty() {
        return Verdict::in_progress("the load balancer has no cluster IP yet");
    }
    Verdict::current()
}

pub(super) fn namespace(o: Object<'_>) -> Verdict {
    match o.text("/status/phase") {
        Some("Terminating") => Verdict::in_progress("the namespace is terminating"),
        _ => Verdict::current(),
    }
}

pub(super) fn disruption_budget(o: Object<'_>) -> Verdict {
    o.unseen().unwrap_or_else(Verdict::current)
}

pub(super) fn definition(o: Object<'_>) -> Verdict {
    if let Some(("False", reason @ ("MultipleNamesNotAllowed" | "NameConflict" | "ListKindConflict"), message)) =
        o.condition("NamesAccepted")
    {
        return Verdict::failed(because(reason, message));
    }
    match o.condition("Established") {
        Some(("True", ..)) => Verdict::current(),
        Some(("False", reason, message)) if reason != "Installing" => Verdict::failed(because(reason, message)),
        Some((_, reason, message)) => Verdict::in_progress(because(reason, message)),
        None => Verdict::in_progress("the kind is not established yet"),
    }
}

pub(super) fn api_service(o: Object<'_>) -> Verdict {
    match o.condition("Available") {
        Some(("True", ..)) => Verdict::current(),
        Some((_, reason, message)) => Verdict::in_progress(because(reason, message)),
        None => Verdict::in_progress("the API service has no status yet"),
    }
}

/// Any kind: observedGeneration, then the conditions that say by convention what is wrong, then Ready. An object without
/// any of them is current as soon as it exists.
pub(super) fn any(o: Object<'_>) -> Verdict {
    if let Some(wait) = o.stale() {
        return wait;
    }
    if let Some(("True", reason, message)) = o.condition("Stalled") {
        return Verdict::failed(because(reason, message));
    }
    if let Some(("True", reason, message)) = o.condition("Reconciling") {
        return Verdict::in_progress(because(reason, message));
    }
    match o.condition("Ready") {
        Some(("False" | "Unknown", reason, message)) => Verdict::in_progress(because(reason, message)),
        _ => Verdict::current(),
    }
}

/// Kinds that are healthy by `Ready: True` only (HelmRelease and the like).
pub(super) fn ready_only(o: Object<'_>) -> Verdict {
    if let Some(wait) = o.stale() {
        return wait;
    }
    if let Some(("True", reason, message)) = o.condition("Stalled") {
        return Verdict::failed(because(reason, message));
    }
    match o.condition("Ready") {
        Some(("True", ..)) => Verdict::current(),
        Some((_, reason, message)) => Verdict::in_progress(because(reason, message)),
        None => Verdict::in_progress("its controller has not looked at it yet"),
    }
}
