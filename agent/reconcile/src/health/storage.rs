//! PersistentVolumeClaim, PersistentVolume.

use super::{Object, Verdict};

/// Bound is current. A claim whose class binds at first use stays Pending until a pod wants it; kstatus calls that in
/// progress, and so do we.
pub(super) fn claim(o: Object<'_>) -> Verdict {
    match o.text("/status/phase") {
        Some("Bound") => Verdict::current(),
        Some("Lost") => Verdict::failed("its volume is lost"),
        phase => Verdict::in_progress(format!("the claim is {}, not Bound", phase.unwrap_or("not looked at yet"))),
    }
}

pub(super) fn volume(o: Object<'_>) -> Verdict {
    match o.text("/status/phase") {
        Some("Failed") => Verdict::failed(o.text("/status/message").unwrap_or("the volume failed")),
        _ => Verdict::current(),
    }
}
