//! Job.

use super::{Object, Verdict, because};

/// A Job is current once it has started, and failed when it says so; Flux counts it done only when it is complete, and
/// so do we: a unit that waits for a migration Job must not go on while it runs. One that is suspended by its spec is as it is
/// meant to be, for Flux too.
pub(super) fn job(o: Object<'_>) -> Verdict {
    if o.0.pointer("/spec/suspend") == Some(&serde_json::Value::Bool(true)) {
        return Verdict::current();
    }
    if let Some(("True", reason, message)) = o.condition("Failed") {
        return Verdict::failed(because(reason, message));
    }
    if let Some(("True", ..)) = o.condition("Complete") {
        return Verdict::current();
    }
    if let Some(("True", reason, message)) = o.condition("Suspended") {
        return Verdict::in_progress(because(reason, message));
    }
    let count = |field: &str| o.int(&format!("/status/{field}")).unwrap_or(0);
    let want = o.int("/spec/completions").or_else(|| o.int("/spec/parallelism")).unwrap_or(1);
    if o.text("/status/startTime").is_none() {
        return Verdict::in_progress("the job has not started yet");
    }
    let (active, done, failed) = (count("active"), count("succeeded"), count("failed"));
    Verdict::in_progress(format!("{done} of {want} pods are done, {active} run, {failed} failed"))
}
