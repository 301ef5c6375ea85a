//! What Git may hold besides ConfigMaps of one unit: kinds that behave otherwise when they come, change, go, or are made anew.

use super::declared::{NAMESPACE, Unit};

/// Whom the finalizers wait for.
pub const FINALIZER: &str = "faults.example/slow";
/// The namespace that comes and goes with what is in it.
pub const SPACE: &str = "extra";
/// Where the value of an object stands that is no ConfigMap.
pub const VALUE: &str = "faults.example/value";
/// What only the cluster knows, and what it is there.
pub const LATE: (&str, &str) = ("late", "from-the-cluster");

/// Something that comes and goes as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A CustomResourceDefinition, and an object of its kind in the same commit.
    Definition,
    /// A Namespace, and what is in it.
    Space,
    /// A Deployment: the API server sets half of its fields, and a controller writes to it.
    Workload,
    /// A Secret, written as `stringData`.
    Secret,
    /// A Job, whose template cannot be changed: it is made anew (`force`) when that is approved.
    Job,
    /// A ConfigMap with a value that only the cluster has.
    Holes,
    /// A ConfigMap with a finalizer: its delete takes long.
    Slow,
}

impl Thing {
    /// All.
    pub const ALL: [Self; 7] =
        [Self::Definition, Self::Space, Self::Workload, Self::Secret, Self::Job, Self::Holes, Self::Slow];

    /// Its objects: ConfigMaps by their name, others with their resource before it.
    #[must_use]
    pub const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Definition => &["customresourcedefinitions/widgets.faults.example", "widgets/one"],
            Self::Space => &["namespaces/extra", "inside"],
            Self::Workload => &["deployments/web"],
            Self::Secret => &["secrets/sealed"],
            Self::Job => &["jobs/once"],
            Self::Holes => &["holes"],
            Self::Slow => &["slow"],
        }
    }

    /// Who declares it first.
    #[must_use]
    pub const fn unit(self) -> Unit {
        match self {
            Self::Space | Self::Holes => Unit::Apart,
            _ => Unit::First,
        }
    }

    /// Its objects that are deleted only when approved.
    #[must_use]
    pub const fn protected(self) -> usize {
        match self {
            Self::Definition | Self::Space => 1,
            _ => 0,
        }
    }
}

/// The value of an object at a step.
#[must_use]
pub fn value(name: &str, serial: usize) -> String {
    if name == "holes" { format!("{}-{serial}", LATE.1) } else { serial.to_string() }
}

/// A kind whose objects are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// API group.
    pub group: &'static str,
    /// Its name.
    pub kind: &'static str,
    /// As addresses name it.
    pub plural: &'static str,
    /// Where its objects are looked for; `None`: they have no namespace.
    pub namespace: Option<&'static str>,
    /// Controllers write to its objects, so that their version tells nothing.
    pub shared: bool,
}

/// Every kind.
pub const KINDS: [Kind; 8] = [
    Kind { group: "", kind: "ConfigMap", plural: "configmaps", namespace: Some(NAMESPACE), shared: false },
    Kind { group: "", kind: "ConfigMap", plural: "configmaps", namespace: Some(SPACE), shared: false },
    Kind { group: "", kind: "Secret", plural: "secrets", namespace: Some(NAMESPACE), shared: false },
    Kind { group: "", kind: "Namespace", plural: "namespaces", namespace: None, shared: true },
    Kind { group: "apps", kind: "Deployment", plural: "deployments", namespace: Some(NAMESPACE), shared: true },
    Kind { group: "batch", kind: "Job", plural: "jobs", namespace: Some(NAMESPACE), shared: true },
    Kind { group: "faults.example", kind: "Widget", plural: "widgets", namespace: Some(NAMESPACE), shared: false },
    Kind {
        group: "apiextensions.k8s.io",
        kind: "CustomResourceDefinition",
        plural: "customresourcedefinitions",
        namespace: None,
        shared: true,
    },
];

/// The name by which an object is declared.
#[must_use]
pub fn name_of(plural: &str, name: &str) -> String {
    if plural == "configmaps" { name.to_owned() } else { format!("{plural}/{name}") }
}

/// The file of an object that is no plain ConfigMap; `None`: it is one.
#[must_use]
pub fn file(name: &str, value: &str) -> Option<String> {
    let metadata =
        |name: &str, more: &str| format!("metadata:\n  name: {name}\n  annotations:\n    {VALUE}: \"{value}\"\n{more}");
    let template = format!(
        "  template:
    metadata:
      labels:
        app: web
      annotations:
        {VALUE}: \"{value}\"
    spec:
"
    );
    let container = "      containers:
        - name: web
          image: nginx:1.29.3
          ports:
            - containerPort: 80
";
    Some(match name {
        "customresourcedefinitions/widgets.faults.example" => format!(
            "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
{}spec:
  group: faults.example
  scope: Namespaced
  names:
    kind: Widget
    plural: widgets
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              properties:
                size:
                  type: integer
                  default: 3
",
            metadata("widgets.faults.example", "")
        ),
        "widgets/one" => {
            format!("apiVersion: faults.example/v1\nkind: Widget\n{}spec: {{}}\n", metadata("one", ""))
        }
        "namespaces/extra" => format!("apiVersion: v1\nkind: Namespace\n{}", metadata(SPACE, "")),
        "inside" => format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: inside\n  namespace: {SPACE}\ndata:\n  value: \"{value}\"\n"
        ),
        "deployments/web" => format!(
            "apiVersion: apps/v1\nkind: Deployment\n{}spec:\n  replicas: 1\n  selector:\n    matchLabels:\n      app: web\n{template}{container}",
            metadata("web", "")
        ),
        "secrets/sealed" => {
            format!("apiVersion: v1\nkind: Secret\n{}stringData:\n  value: \"{value}\"\n", metadata("sealed", ""))
        }
        "jobs/once" => format!(
            "apiVersion: batch/v1\nkind: Job\n{}spec:\n{template}      restartPolicy: Never\n{container}",
            metadata("once", "    kustomize.toolkit.fluxcd.io/force: enabled\n")
        ),
        "holes" => format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: holes\n  namespace: {NAMESPACE}\ndata:\n  value: \"{}\"\n",
            value.replacen(LATE.1, &format!("${{{}}}", LATE.0), 1)
        ),
        "slow" => format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: slow\n  finalizers:\n    - {FINALIZER}\ndata:\n  value: \"{value}\"\n"
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_object_has_a_file_of_its_kind() {
        for thing in Thing::ALL {
            for name in thing.names() {
                let text = file(name, &value(name, 7)).unwrap_or_else(|| panic!("no file of {name}"));
                let object: Value = serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}\n{text}"));
                let kind = object["kind"].as_str().unwrap();
                let known = KINDS.iter().find(|known| known.kind == kind).unwrap_or_else(|| panic!("{kind}"));
                assert_eq!(name_of(known.plural, object["metadata"]["name"].as_str().unwrap()), *name);
            }
            assert!(thing.protected() < thing.names().len() || thing.protected() == 0);
        }
        assert!(file("stays-0001", "1").is_none());
        assert!(file("holes", &value("holes", 7)).unwrap().contains("value: \"${late}-7\""));
    }
}
