//! Flags of Flux's controllers that lock a cluster down: the defaults of its units.

use driftless_yaml::Node;

use crate::target::{Location, Lockdown};

/// Flags of kustomize-controller that change nothing here, since Driftless does its own scheduling, events and caching.
const WITHOUT_EFFECT: &[&str] = &[
    "concurrent",
    "default-decryption-service-account",
    "default-kubeconfig-service-account",
    "enable-leader-election",
    "events-addr",
    "graceful-shutdown-timeout",
    "health-addr",
    "http-retry",
    "insecure-kubeconfig-exec",
    "insecure-kubeconfig-tls",
    "interval-jitter-percentage",
    "kube-api-burst",
    "kube-api-qps",
    "leader-election-lease-duration",
    "leader-election-release-on-cancel",
    "leader-election-renew-deadline",
    "leader-election-retry-period",
    "log-encoding",
    "log-level",
    "max-retry-delay",
    "metrics-addr",
    "min-retry-delay",
    "override-manager",
    "requeue-dependency",
    "storage-adv-addr",
    "token-cache-max-size",
    "watch-all-namespaces",
    "watch-configs-label-selector",
    "watch-label-selector",
    "sops-age-secret",
];

/// The gate that decides what becomes of variables without value.
pub(crate) const STRICT: &str = "StrictPostBuildSubstitutions";

/// kustomize-controller has that gate on by default since this version, which came with Flux 2.9.
const STRICT_SINCE: [u64; 2] = [1, 9];
const STRICT_SINCE_FLUX: [u64; 2] = [2, 9];

/// Reads the flags of built controllers and instances. Only kustomize-controller's count: the others' units are not ours.
pub(crate) fn read<'a>(controllers: impl Iterator<Item = &'a (Node, Location)>) -> Lockdown {
    let mut out = Lockdown::default();
    // Said to be so old that the gate is off unless a flag says otherwise.
    let mut lax = None;
    for (node, at) in controllers {
        match node.at(&["kind"]).and_then(Node::as_str) {
            Some("Deployment") if name(node) == Some("kustomize-controller") => {
                for arg in arguments(node) {
                    flag(arg, at, &mut out);
                }
                if version_of_image(node).is_some_and(|version| version < STRICT_SINCE) {
                    lax = Some(at);
                }
            }
            Some(kind @ ("FluxInstance" | "HelmRelease")) => {
                let path: &[&str] = if kind == "FluxInstance" { &["spec"] } else { &["spec", "values", "instance"] };
                let spec = node.at(path);
                instance(spec, at, &mut out);
                let wanted = spec.and_then(|spec| spec.at(&["distribution", "version"])).and_then(Node::scalar_text);
                if wanted.and_then(version).is_some_and(|version| version < STRICT_SINCE_FLUX) {
                    lax = Some(at);
                }
            }
            _ => {}
        }
    }
    if let Some(at) = lax {
        out.feature_gates.entry(STRICT.to_owned()).or_insert_with(|| {
            out.found_at.get_or_insert_with(|| at.clone());
            false
        });
    }
    out.other_flags.sort();
    out.other_flags.dedup();
    out
}

fn name(node: &Node) -> Option<&str> {
    node.at(&["metadata", "name"]).and_then(Node::as_str)
}

/// Of the container that is the controller.
fn version_of_image(deployment: &Node) -> Option<[u64; 2]> {
    let containers = deployment.at(&["spec", "template", "spec", "containers"])?.as_seq()?;
    let images = containers.iter().filter_map(|c| c.at(&["image"])?.as_str());
    let image =
        images.map(|image| image.split('@').next().unwrap_or(image)).find(|i| i.contains("kustomize-controller"))?;
    let (_, tag) = image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))?;
    version(tag)
}

/// Major and minor of `v1.8.5` or `2.7.x`; a range, or `2.x`, says nothing.
fn version(text: &str) -> Option<[u64; 2]> {
    let mut parts = text.strip_prefix('v').unwrap_or(text).split('.');
    Some([parts.next()?.parse().ok()?, parts.next()?.parse().ok()?])
}

fn arguments(deployment: &Node) -> impl Iterator<Item = &str> {
    let containers = deployment.at(&["spec", "template", "spec", "containers"]).and_then(Node::as_seq);
    containers.into_iter().flatten().filter_map(|c| c.at(&["args"])?.as_seq()).flatten().filter_map(Node::scalar_text)
}

/// One flag as written, `--name`, `--name=value`.
fn flag(text: &str, at: &Location, out: &mut Lockdown) {
    let Some(rest) = text.strip_prefix("--") else { return };
    let (name, value) = rest.split_once('=').unwrap_or((rest, "true"));
    let on = value == "true";
    let mut found = true;
    match name {
        "default-service-account" => out.default_service_account = Some(value.to_owned()).filter(|v| !v.is_empty()),
        "no-cross-namespace-refs" => out.no_cross_namespace_refs = on,
        "no-remote-bases" => out.no_remote_bases = on,
        "feature-gates" => {
            for gate in value.split(',') {
                let (gate, value) = gate.split_once('=').unwrap_or((gate, "true"));
                out.feature_gates.insert(gate.trim().to_owned(), value.trim() == "true");
            }
        }
        known if WITHOUT_EFFECT.contains(&known) => found = false,
        _ => {
            out.other_flags.push(text.to_owned());
            found = false;
        }
    }
    if found && out.found_at.is_none() {
        out.found_at = Some(at.clone());
    }
}

/// The spec of a FluxInstance, its own or in the values of its chart: the multi-tenancy switch, and flags its patches add
/// to kustomize-controller.
fn instance(spec: Option<&Node>, at: &Location, out: &mut Lockdown) {
    let Some(spec) = spec else { return };
    let cluster = |key: &str| spec.at(&["cluster", key]).and_then(Node::as_scalar);
    if cluster("multitenant").and_then(driftless_yaml::Scalar::boolean) == Some(true) {
        let account = cluster("tenantDefaultServiceAccount").map_or("default", |s| &s.text);
        flag(&format!("--default-service-account={account}"), at, out);
        flag("--no-cross-namespace-refs=true", at, out);
        flag("--no-remote-bases=true", at, out);
    }
    for patch in spec.at(&["kustomize", "patches"]).and_then(Node::as_seq).into_iter().flatten() {
        let target = patch.at(&["target", "name"]).and_then(Node::as_str).unwrap_or_default();
        if !target.is_empty() && !target.contains("kustomize-controller") {
            continue;
        }
        let text = patch.at(&["patch"]).and_then(Node::as_str).unwrap_or_default();
        for word in text.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')) {
            flag(word, at, out);
        }
    }
}
