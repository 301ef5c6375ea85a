//! The agent's reports: the newest state of each unit, sent until the hub has it, in bounded memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::facts::Facts;
use crate::id::{Generation, UnitId};
use crate::limits::BUNDLE_UNITS;
use crate::message::{AgentToHub, FACTS_SINCE, UNITS_AT_SINCE};
use crate::report::{ClusterReport, UnitReport};
use crate::wire::limits;

/// JSON bytes of all reports held; beyond it each is cut to [`SMALL_BYTES`].
const TOTAL_BYTES: usize = 32 * 1024 * 1024;
/// JSON bytes of a report while the total is exceeded: reason and message, few objects.
const SMALL_BYTES: usize = 2 * 1024;

/// What the hub should know, and how far it does.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    cluster: Option<Box<ClusterReport>>,
    cluster_due: bool,
    /// What the hub of this session was told of [`ClusterReport::units_at`].
    units_at: Option<Generation>,
    /// Whether it reads that. One that does not is sent every unit report anew.
    reads_units_at: bool,
    units: BTreeMap<UnitId, Entry>,
    bytes: usize,
    /// Units whose newest state was not sent in this session.
    due: BTreeSet<UnitId>,
    /// Units that left in this session and that the hub was not told about.
    gone: BTreeSet<UnitId>,
    /// Whether `units` are all there are.
    known: bool,
    snapshot_sent: bool,
    facts: Option<Box<Facts>>,
    facts_due: bool,
    /// Whether the hub of this session takes facts.
    facts_taken: bool,
    n: u64,
    /// Numbers sent and not answered, rising.
    open: VecDeque<u64>,
}

/// A report as it is kept, for the sessions to come: compressed, since most are never read again.
#[derive(Debug)]
struct Entry {
    packed: Box<[u8]>,
    /// As JSON.
    bytes: usize,
    generation: Option<Generation>,
}

/// Compression: fast.
const LEVEL: i32 = 1;

impl Entry {
    fn of(report: &UnitReport) -> Self {
        // Strings, numbers and lists: writing them down cannot fail, nor can compressing what is in memory. If either did,
        // the hub would be told that the report is unreadable.
        let json = serde_json::to_vec(report).unwrap_or_default();
        let packed = zstd::bulk::compress(&json, LEVEL).unwrap_or_default().into_boxed_slice();
        Self { packed, bytes: json.len(), generation: report.generation }
    }

    fn report(&self, unit: &UnitId) -> UnitReport {
        let json = zstd::bulk::decompress(&self.packed, self.bytes).map_err(|error| error.to_string());
        let read = json.and_then(|json| serde_json::from_slice(&json).map_err(|error| error.to_string()));
        read.unwrap_or_else(|error| UnitReport::unreadable(unit.clone(), &error))
    }
}

impl Outbox {
    pub(super) fn cluster(&mut self, mut report: Box<ClusterReport>) {
        report.fit(limits::CLUSTER_REPORT_BYTES);
        if self.cluster.as_ref() != Some(&report) {
            if !self.reads_units_at {
                let old = self.units.iter().filter(|(_, entry)| entry.generation < report.units_at);
                self.due.extend(old.map(|(unit, _)| unit.clone()));
            }
            self.cluster = Some(report);
            self.cluster_due = true;
        }
    }

    pub(super) fn facts(&mut self, facts: Box<Facts>) {
        if self.facts.as_ref() != Some(&facts) {
            self.facts = Some(facts);
            self.facts_due = true;
        }
    }

    pub(super) fn unit(&mut self, mut report: Box<UnitReport>) {
        let unit = report.unit.clone();
        // More units than a bundle may have cannot come from a bundle; memory stays bounded whatever the caller does.
        if self.units.len() >= BUNDLE_UNITS && !self.units.contains_key(&unit) {
            return;
        }
        report.fit(limits::UNIT_REPORT_BYTES);
        let mut entry = Entry::of(&report);
        let before = self.units.get(&unit).map_or(0, |e| e.bytes);
        if self.bytes - before + entry.bytes > TOTAL_BYTES {
            report.fit(SMALL_BYTES);
            entry = Entry::of(&report);
        }
        if self.units.get(&unit).is_some_and(|known| known.packed == entry.packed) {
            return;
        }
        self.bytes = self.bytes - before + entry.bytes;
        self.gone.remove(&unit);
        self.due.insert(unit.clone());
        self.units.insert(unit, entry);
    }

    pub(super) fn gone(&mut self, unit: UnitId) {
        if let Some(entry) = self.units.remove(&unit) {
            self.bytes -= entry.bytes;
        }
        self.due.remove(&unit);
        self.gone.insert(unit);
    }

    pub(super) fn all_known(&mut self) {
        self.known = true;
    }

    /// A new session: the hub is told everything again, from its own number on.
    pub(super) fn connected(&mut self, reports_taken: u64, wire: u8) {
        self.n = self.n.max(reports_taken);
        self.facts_taken = wire >= FACTS_SINCE;
        self.reads_units_at = wire >= UNITS_AT_SINCE;
        self.units_at = None;
        self.facts_due = self.facts.is_some();
        self.cluster_due = self.cluster.is_some();
        self.due = self.units.keys().cloned().collect();
    }

    pub(super) fn disconnected(&mut self) {
        self.open.clear();
        self.snapshot_sent = false;
        // The snapshot of the next session says it; without one, before all units are known, the hub keeps them.
        if self.known {
            self.gone.clear();
        }
    }

    pub(super) fn taken(&mut self, n: u64) {
        while self.open.front().is_some_and(|first| *first <= n) {
            self.open.pop_front();
        }
    }

    /// Whether the hub has everything.
    pub(super) fn is_settled(&self) -> bool {
        let facts = self.facts_due && self.facts_taken;
        self.open.is_empty() && !self.cluster_due && !facts && self.due.is_empty() && self.gone.is_empty()
    }

    pub(super) fn next_message(&mut self) -> Option<AgentToHub> {
        if self.open.len() >= limits::REPORTS_OPEN {
            return None;
        }
        if self.cluster_due {
            return self.cluster_message();
        }
        // Early: what the hub renders may wait for it.
        if self.facts_due
            && self.facts_taken
            && let Some(facts) = self.facts.clone()
        {
            self.facts_due = false;
            return Some(AgentToHub::Facts { n: self.number(), facts });
        }
        if !self.gone.is_empty() {
            let units: Vec<UnitId> = self.gone.iter().take(limits::UNITS_GONE).cloned().collect();
            for unit in &units {
                self.gone.remove(unit);
            }
            return Some(AgentToHub::UnitsGone { n: self.number(), units });
        }
        let reports = self.batch();
        if !reports.is_empty() {
            return Some(AgentToHub::UnitReports { n: self.number(), reports });
        }
        // All that units have to say is on its way: it holds for the newest generation.
        if self.reads_units_at && self.cluster.as_ref().is_some_and(|report| report.units_at != self.units_at) {
            return self.cluster_message();
        }
        if self.known && !self.snapshot_sent {
            self.snapshot_sent = true;
            return Some(AgentToHub::SnapshotComplete { n: self.number() });
        }
        None
    }

    fn cluster_message(&mut self) -> Option<AgentToHub> {
        self.cluster_due = false;
        let mut report = self.cluster.clone()?;
        if !self.due.is_empty() || !self.gone.is_empty() {
            report.units_at = self.units_at;
        }
        self.units_at = report.units_at;
        if !self.reads_units_at {
            report.units_at = None;
        }
        Some(AgentToHub::ClusterReport { n: self.number(), report })
    }

    fn batch(&mut self) -> Vec<UnitReport> {
        let at = self.cluster.as_ref().and_then(|report| report.units_at);
        let (mut reports, mut bytes) = (Vec::new(), 0);
        while let Some(unit) = self.due.first() {
            if let Some(entry) = self.units.get(unit) {
                if reports.len() >= limits::UNITS_PER_REPORT
                    || (!reports.is_empty() && bytes + entry.bytes > limits::UNIT_REPORTS_BYTES)
                {
                    break;
                }
                bytes += entry.bytes;
                let mut report = entry.report(unit);
                report.generation = report.generation.max(at);
                reports.push(report);
            }
            self.due.pop_first();
        }
        reports
    }

    fn number(&mut self) -> u64 {
        self.n += 1;
        self.open.push_back(self.n);
        self.n
    }
}
