//! What a process costs, as the kernel tells.

use std::time::Duration;

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident.
    pub all: u64,
    /// Of that, anonymous: not backed by a file.
    pub anonymous: u64,
    /// The most that was ever resident.
    pub peak: u64,
}

/// Memory of a process; `None` when there is no such process, or the system does not tell.
#[must_use]
pub fn memory(process: u32) -> Option<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|l| l.strip_prefix(name))?;
        line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
    };
    Some(Memory { all: field("VmRSS:")?, anonymous: field("RssAnon:")?, peak: field("VmHWM:")? })
}

/// CPU time of a process so far, all its threads, exact to a microsecond or so; `None` as for [`memory`].
#[must_use]
pub fn cpu(process: u32) -> Option<Duration> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let mut sum = 0;
    for task in tasks {
        // A thread that ends meanwhile takes little with it.
        let Ok(text) = std::fs::read_to_string(task.ok()?.path().join("schedstat")) else { continue };
        sum += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_uses_cpu() {
        let me = std::process::id();
        let Some(memory) = memory(me) else { return }; // not Linux
        assert!(memory.all > 0 && memory.anonymous <= memory.all && memory.all <= memory.peak);
        // Threads of other tests end meanwhile and take theirs with them, so the sum may fall between two looks.
        let mut last = cpu(me).unwrap();
        let grows = (0..1 << 20).any(|_| {
            let now = cpu(me).unwrap();
            let more = now > last;
            last = now;
            more
        });
        assert!(grows);
    }
}
