//! The checks, in order: what fails fast comes first.

use anyhow::{Result, ensure};

/// What a step needs to have been prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing but cargo.
    Nothing,
    /// The programs and services that tests run.
    TestPrograms,
    /// cargo-deny.
    CargoDeny,
}

/// One check: commands that all have to succeed.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: &'static str,
    /// Program and arguments of each.
    pub(super) commands: &'static [&'static [&'static str]],
    /// Environment variables on top of those for all.
    pub(super) env: &'static [(&'static str, &'static str)],
    pub(super) needs: Needs,
}

pub(super) const STEPS: &[Step] = &[
    Step { name: "format", commands: &[&["cargo", "fmt", "--all", "--check"]], env: &[], needs: Needs::Nothing },
    Step {
        name: "lint",
        commands: &[&[
            "cargo",
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--",
            "-D",
            "warnings",
        ]],
        env: &[],
        needs: Needs::Nothing,
    },
    Step {
        name: "test",
        // All test programs, also after one failed.
        // The end-to-end tests run the programs; `cargo test` alone builds those of crates with integration tests only.
        commands: &[
            &["cargo", "build", "--locked", "--workspace", "--bins"],
            &["cargo", "test", "--locked", "--workspace", "--no-fail-fast"],
        ],
        env: &[],
        needs: Needs::TestPrograms,
    },
    // Alone and without features: in the workspace a crate is given the features that others ask for, which hides
    // that it does not compile by itself, or that it is pure only by their grace.
    Step {
        name: "pure",
        commands: &[
            &["cargo", "check", "--locked", "--no-default-features", "-p", "driftless-protocol"],
            &["cargo", "check", "--locked", "--no-default-features", "-p", "driftless-yaml"],
            &["cargo", "check", "--locked", "--no-default-features", "-p", "driftless-subst"],
            &["cargo", "check", "--locked", "--no-default-features", "-p", "driftless-render"],
            &["cargo", "check", "--locked", "--no-default-features", "-p", "driftless-rollout"],
            &["cargo", "check", "--locked", "--no-default-features", "-p", "driftless-reconcile"],
        ],
        env: &[],
        needs: Needs::Nothing,
    },
    Step {
        name: "docs",
        commands: &[&["cargo", "doc", "--locked", "--workspace", "--no-deps"]],
        env: &[("RUSTDOCFLAGS", "-D warnings")],
        needs: Needs::Nothing,
    },
    Step {
        name: "deny",
        commands: &[&["cargo", "deny", "--offline", "check", "bans", "licenses", "sources"]],
        env: &[],
        needs: Needs::CargoDeny,
    },
];

/// The steps with these names, in their own order; all without names.
pub(super) fn choose(names: &[String]) -> Result<Vec<&'static Step>> {
    for name in names {
        let known: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        ensure!(known.contains(&name.as_str()), "there is no step {name:?}; the steps are {}", known.join(", "));
    }
    Ok(STEPS.iter().filter(|step| names.is_empty() || names.iter().any(|name| name == step.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_chosen_by_name_in_their_order() {
        let names = |only: &[&str]| {
            let only: Vec<String> = only.iter().map(ToString::to_string).collect();
            choose(&only).map(|steps| steps.iter().map(|step| step.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["test", "format"]).unwrap(), ["format", "test"]);
        assert_eq!(names(&[]).unwrap().len(), STEPS.len());
        assert!(names(&["tests"]).unwrap_err().to_string().contains("format, lint, test"));
    }
}
