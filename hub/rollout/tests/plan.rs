//! The rules, case by case, and what holds for every history of a fleet.
#![allow(clippy::unwrap_used)] // the helpers are tests as well

use std::collections::BTreeMap;

use driftless_protocol::head::SourceRevision;
use driftless_protocol::id::{ClusterId, Digest, Revision};
use driftless_rollout::{
    ActionKind, ClusterView, Code, Content, FleetView, Freeze, Health, Offered, Plan, Policy, State, plan,
};
use proptest::prelude::*;

const NOW: u64 = 1_800_000_000;

fn content(cluster: u8, commit: u32) -> Content {
    let revision = Revision { reference: "main".into(), commit: format!("{commit:040x}") };
    Content {
        id: Digest::of(format!("{cluster} {commit}").as_bytes()),
        revisions: vec![SourceRevision { source: "flux-system/flux-system".into(), revision }],
    }
}

fn offered(cluster: u8, commit: u32) -> Option<Offered> {
    let content = content(cluster, commit).id;
    Some(Offered { content, taken: true, refused: None, expires: NOW + 86_400 })
}

fn cluster(n: u8, canary: bool, desired: u32, has: u32, health: Health) -> ClusterView {
    ClusterView {
        id: ClusterId::from_bytes([n; 16]),
        name: format!("c{n}").parse().expect("a cluster name"),
        canary,
        frozen: None,
        desired: (desired > 0).then(|| content(n, desired)),
        offered: if has > 0 { offered(n, has) } else { None },
        health,
        connected: true,
    }
}

fn fleet(clusters: Vec<ClusterView>) -> FleetView {
    FleetView { frozen: None, clusters }
}

fn failed() -> Health {
    Health::Failed { what: "unit a/b: boom".into() }
}

fn progressing() -> Health {
    Health::Progressing { what: "unit a/b: applying".into() }
}

fn freeze() -> Option<Freeze> {
    Some(Freeze { actor: "ann".into(), reason: "black friday".into() })
}

#[track_caller]
fn check(what: &str, view: &FleetView, cluster: u8, state: State, code: Code) -> Plan {
    let plan = plan(&Policy::default(), view, NOW);
    let id = ClusterId::from_bytes([cluster; 16]);
    let verdict = plan.verdicts.iter().find(|v| v.cluster == id).expect("a verdict for every cluster");
    assert_eq!((verdict.state, verdict.reasons[0].code), (state, code), "{what}: {:?}", verdict.reasons);
    let moves = plan.actions.iter().any(|a| a.cluster == id && matches!(a.kind, ActionKind::Offer { .. }));
    assert_eq!(moves, state == State::Moves, "{what}: what is said is what is done");
    plan
}

#[test]
fn each_rule_by_name() {
    let alone = |desired, has| fleet(vec![cluster(1, false, desired, has, Health::Healthy)]);
    check("first offer", &alone(1, 0), 1, State::Moves, Code::NoCanary);
    check("new commit", &alone(2, 1), 1, State::Moves, Code::NoCanary);
    check("same content", &alone(1, 1), 1, State::UpToDate, Code::UpToDate);
    check("not rendered", &alone(0, 1), 1, State::Waits, Code::NotRendered);

    let pair = |canary: ClusterView| fleet(vec![canary, cluster(2, false, 2, 1, Health::Healthy)]);
    let canary = |desired, has, health| cluster(1, true, desired, has, health);
    let first = pair(canary(2, 1, Health::Healthy));
    let plan = check("canary moves", &first, 1, State::Moves, Code::CanaryFirst);
    assert_eq!(plan.actions.len(), 1, "the other waits");
    check("until it has it", &first, 2, State::Waits, Code::CanaryProgressing);
    check("on the way", &pair(canary(2, 2, progressing())), 2, State::Waits, Code::CanaryProgressing);
    check("silent", &pair(canary(2, 2, Health::Unknown)), 2, State::Waits, Code::CanaryProgressing);
    check("passed", &pair(canary(2, 2, Health::Healthy)), 2, State::Moves, Code::CanaryPassed);
    check("older render", &pair(canary(1, 1, Health::Healthy)), 2, State::Waits, Code::CanaryNotRendered);
    check("no render", &pair(canary(0, 1, Health::Healthy)), 2, State::Waits, Code::CanaryNotRendered);
    let plan = check("failed", &pair(canary(2, 2, failed())), 2, State::Halted, Code::CanaryFailed);
    assert!(plan.halts[0].message.contains("boom"), "the halt is visible: {:?}", plan.halts);

    let mut away = canary(2, 2, progressing());
    away.connected = false;
    check("away", &pair(away), 2, State::Waits, Code::CanaryAway);
    let mut refused = canary(2, 2, Health::Healthy);
    refused.offered.as_mut().unwrap().refused = Some(("Expired".into(), "clock".into()));
    check("refused", &pair(refused.clone()), 2, State::Halted, Code::CanaryFailed);
    check("refused itself", &pair(refused), 1, State::Halted, Code::Refused);
    let mut frozen = canary(2, 1, Health::Healthy);
    frozen.frozen = freeze();
    check("canary frozen", &pair(frozen.clone()), 1, State::Halted, Code::Frozen);
    check("behind a frozen canary", &pair(frozen), 2, State::Waits, Code::CanaryFrozen);

    let mut still = pair(canary(2, 1, Health::Healthy));
    still.frozen = freeze();
    for n in [1, 2] {
        let plan = check("fleet frozen", &still, n, State::Halted, Code::FleetFrozen);
        assert!(plan.halts[0].message.contains("ann") && plan.halts[0].message.contains("black friday"));
        assert_eq!(plan.halts.iter().filter(|h| h.code == Code::FleetFrozen).count(), 1, "said once: {:?}", plan.halts);
    }

    let mut other = canary(9, 1, failed());
    other.desired.as_mut().unwrap().revisions[0].source = "other/repository".into();
    check("a canary of other sources", &pair(other), 2, State::Moves, Code::NoCanary);
}

#[test]
fn a_head_is_signed_anew_before_it_expires_whatever_holds_the_content() {
    let mut view = fleet(vec![cluster(1, false, 2, 1, Health::Healthy)]);
    view.frozen = freeze();
    for (left, wanted) in [(86_400, 0), (12 * 3600, 0), (12 * 3600 - 1, 1), (0, 1)] {
        view.clusters[0].offered.as_mut().unwrap().expires = NOW + left;
        let plan = plan(&Policy::default(), &view, NOW);
        let refreshes = plan.actions.iter().filter(|a| a.kind == ActionKind::Refresh).count();
        assert_eq!(refreshes, wanted, "{left} s before the end");
        assert_eq!(plan.actions.len(), wanted, "nothing else");
    }
}

/// What can happen to a fleet.
#[derive(Clone, Debug)]
enum Event {
    Commit,
    Render(u8),
    Plan,
    Report(u8, u8),
    Freeze(bool),
    FreezeCluster(u8, bool),
    Connect(u8, bool),
}

fn event(clusters: u8) -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Commit),
        (0..clusters).prop_map(Event::Render),
        Just(Event::Plan),
        (0..clusters, 0..4u8).prop_map(|(c, h)| Event::Report(c, h)),
        any::<bool>().prop_map(Event::Freeze),
        (0..clusters, any::<bool>()).prop_map(|(c, f)| Event::FreezeCluster(c, f)),
        (0..clusters, any::<bool>()).prop_map(|(c, f)| Event::Connect(c, f)),
    ]
}

/// A fleet whose truth is kept apart from what the planner sees.
struct Sim {
    view: FleetView,
    commit: u32,
    rendered: Vec<u32>,
    has: Vec<u32>,
    /// Per canary: commits on which it was seen healthy.
    proven: BTreeMap<usize, Vec<u32>>,
}

impl Sim {
    fn new(canaries: &[bool]) -> Self {
        let clusters =
            canaries.iter().zip(0u8..).map(|(canary, n)| cluster(n, *canary, 0, 0, Health::Unknown)).collect();
        let count = canaries.len();
        Self {
            view: fleet(clusters),
            commit: 1,
            rendered: vec![0; count],
            has: vec![0; count],
            proven: BTreeMap::new(),
        }
    }

    fn render(&mut self, n: usize) {
        self.rendered[n] = self.commit;
        self.view.clusters[n].desired = Some(content(u8::try_from(n).expect("few clusters"), self.commit));
    }

    fn report(&mut self, n: usize, health: Health) {
        if self.has[n] == 0 {
            return;
        }
        if health == Health::Healthy {
            self.proven.entry(n).or_default().push(self.has[n]);
        }
        self.view.clusters[n].health = health;
    }

    fn plan(&mut self) -> usize {
        let plan = plan(&Policy::default(), &self.view, NOW);
        for action in &plan.actions {
            let ActionKind::Offer { .. } = action.kind else { continue };
            let n = usize::from(action.cluster.as_bytes()[0]);
            assert!(self.view.frozen.is_none() && self.view.clusters[n].frozen.is_none(), "a frozen cluster moved");
            assert!(self.rendered[n] > self.has[n], "cluster {n} went from {} to {}", self.has[n], self.rendered[n]);
            if !self.view.clusters[n].canary {
                for (at, canary) in self.view.clusters.iter().enumerate().filter(|(_, c)| c.canary) {
                    let proven = self.proven.get(&at).is_some_and(|p| p.contains(&self.rendered[n]));
                    assert!(proven, "cluster {n} got commit {} ahead of canary {}", self.rendered[n], canary.name);
                }
            }
            self.has[n] = self.rendered[n];
            self.view.clusters[n].offered = offered(action.cluster.as_bytes()[0], self.has[n]);
            self.view.clusters[n].health = Health::Unknown;
        }
        plan.actions.len()
    }

    fn event(&mut self, event: &Event) {
        match *event {
            Event::Commit => self.commit += 1,
            Event::Render(n) => self.render(usize::from(n)),
            Event::Plan => drop(self.plan()),
            Event::Report(n, health) => {
                let health = match health {
                    0 => Health::Unknown,
                    1 => progressing(),
                    2 => failed(),
                    _ => Health::Healthy,
                };
                self.report(usize::from(n), health);
            }
            Event::Freeze(on) => self.view.frozen = if on { freeze() } else { None },
            Event::FreezeCluster(n, on) => {
                self.view.clusters[usize::from(n)].frozen = if on { freeze() } else { None };
            }
            Event::Connect(n, on) => self.view.clusters[usize::from(n)].connected = on,
        }
    }

    /// Everything goes well from here on: in how many plans everybody has the newest commit.
    fn settle(&mut self) -> Option<usize> {
        self.view.frozen = None;
        let count = self.view.clusters.len();
        for n in 0..count {
            self.view.clusters[n].frozen = None;
            self.view.clusters[n].connected = true;
            self.render(n);
        }
        for round in 1..=5 {
            self.plan();
            for n in 0..count {
                self.report(n, Health::Healthy);
            }
            if self.has.iter().all(|has| *has == self.commit) {
                assert_eq!(self.plan(), 0, "nothing is left to do");
                return Some(round);
            }
        }
        None
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn never_ahead_of_a_canary_never_backwards_never_while_frozen_and_always_ends(
        canaries in prop::collection::vec(any::<bool>(), 1..6),
        events in prop::collection::vec(event(5), 0..80),
    ) {
        let mut sim = Sim::new(&canaries);
        let count = u8::try_from(canaries.len()).unwrap();
        for event in &events {
            let inside = match event {
                Event::Render(n) | Event::Report(n, _) | Event::FreezeCluster(n, _) | Event::Connect(n, _) => *n < count,
                _ => true,
            };
            if inside {
                sim.event(event);
            }
        }
        prop_assert!(sim.settle().is_some_and(|rounds| rounds <= 2), "the rollout does not end");
    }
}
