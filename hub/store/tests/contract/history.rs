//! Random histories: the database must answer every question as the model does.

use std::collections::BTreeSet;

use driftless_protocol::id::{Generation, UnitId};
use driftless_protocol::report::UnitReport;
use driftless_store::*;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::suite::{act, certificate, cluster_id, digest, enrollment, offer, token, told, write};

#[derive(Clone, Debug)]
enum Step {
    Token(u8, u8),
    Fail(u8),
    Redeem(u8, u8, u64),
    Issue(u8, u64),
    Admit(u8, u64),
    Unseen(u8, u64),
    Revoke(u8),
    Offer(u8, u8, u64),
    Settle(u8, u64, bool),
    Collect,
    Report(u8, u64, u64, u8, u8),
    Freeze(Option<u8>),
    Unfreeze(Option<u8>),
    Epoch(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let c = 0..3u8;
    prop_oneof![
        2 => (0..5u8, c.clone()).prop_map(|(t, n)| Step::Token(t, n)),
        1 => (0..5u8).prop_map(Step::Fail),
        4 => (0..5u8, c.clone(), prop_oneof![9 => Just(10u64), 1 => Just(2000)]).prop_map(|(t, c, now)| Step::Redeem(t, c, now)),
        3 => (c.clone(), 0..4u64).prop_map(|(c, n)| Step::Issue(c, n)),
        3 => (c.clone(), 0..4u64).prop_map(|(c, n)| Step::Admit(c, n)),
        2 => (c.clone(), 0..4u64).prop_map(|(c, n)| Step::Unseen(c, n)),
        1 => c.clone().prop_map(Step::Revoke),
        6 => (c.clone(), 0..6u8, 0..5u64).prop_map(|(c, o, n)| Step::Offer(c, o, n)),
        2 => (c.clone(), 0..5u64, any::<bool>()).prop_map(|(c, n, ok)| Step::Settle(c, n, ok)),
        2 => Just(Step::Collect),
        8 => (c.clone(), 0..3u64, 0..9u64, 0..4u8, 0..4u8).prop_map(|(c, s, n, k, u)| Step::Report(c, s, n, k, u)),
        1 => prop::option::of(c.clone()).prop_map(Step::Freeze),
        1 => prop::option::of(c).prop_map(Step::Unfreeze),
        1 => (0..3_000_000_000u64).prop_map(Step::Epoch),
    ]
}

/// Plays one random history on both and compares every answer and, at the end, everything.
pub(crate) async fn compare(seed: u8, real: &Store, model: &Store) {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let steps = prop::collection::vec(step(), 120).new_tree(&mut runner).unwrap().current();
    for (at, step) in steps.iter().enumerate() {
        let (wanted, got) = (play(model, step).await, play(real, step).await);
        assert_eq!(got, wanted, "seed {seed}, step {at}: {step:?}");
    }
    assert_eq!(everything(real).await, everything(model).await, "seed {seed}: the end");
}

/// The answer as text; of an error only its kind, since its words may differ.
async fn play(store: &Store, step: &Step) -> String {
    fn show<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> String {
        match answer {
            Ok(answer) => format!("{answer:?}"),
            Err(StoreError::Conflict { .. }) => "conflict".into(),
            Err(other) => format!("{other:?}"),
        }
    }
    let freeze = |c: &Option<u8>| Intent::Freeze { cluster: c.map(cluster_id) };
    match step {
        Step::Token(t, n) => show(store.create_token(token(*t, &format!("n{n}")), act("joinToken")).await),
        Step::Fail(t) => show(store.token_failed(token(*t, "x").id).await),
        Step::Redeem(t, c, now) => show(store.redeem(enrollment(*t, *c, &format!("u{c}"), *now)).await),
        Step::Issue(c, n) => {
            show(store.issued(cluster_id(*c), digest(*n), certificate(*n), n.to_le_bytes().to_vec()).await)
        }
        Step::Admit(c, n) => show(store.admit(cluster_id(*c), digest(*n), *n).await),
        Step::Unseen(c, n) => show(store.unseen_certificate(cluster_id(*c), digest(*n)).await),
        Step::Revoke(c) => show(store.revoke(cluster_id(*c), act("revoke")).await),
        Step::Offer(c, o, n) => {
            let objects = [format!("o{o}"), format!("o{}", o / 2)];
            show(store.offer(offer(cluster_id(*c), n.checked_sub(1), &[&objects[0], &objects[1]])).await)
        }
        Step::Settle(c, n, ok) => {
            let generation = Generation { trust_epoch: 1, epoch: 7, sequence: *n };
            let refused = (!ok).then(|| ("Older".into(), "words".into()));
            show(store.settle(cluster_id(*c), generation, refused, 44).await)
        }
        Step::Collect => show(store.collect_blobs().await),
        Step::Report(c, session, n, kind, unit) => {
            let unit_id = UnitId::kustomization("ns", format!("u{unit}"));
            let content = match kind {
                0 => ReportContent::Cluster(Box::default()),
                1 => ReportContent::Gone(vec![unit_id]),
                2 => ReportContent::Snapshot(BTreeSet::from([unit_id])),
                _ => ReportContent::Units(vec![UnitReport {
                    message: format!("{session}.{n}"),
                    ..told(&format!("u{unit}"), &[(n % 5, "a"), (n / 2, "b")])
                }]),
            };
            show(store.write_reports(vec![write(cluster_id(*c), *session, *n, content)]).await)
        }
        Step::Freeze(c) => {
            let record = IntentRecord { intent: freeze(c), actor: "ann".into(), at: 1, reason: String::new() };
            show(store.put_intent(record, act("freeze")).await)
        }
        Step::Unfreeze(c) => show(store.remove_intent(freeze(c), act("unfreeze")).await),
        Step::Epoch(now) => show(store.bump_epoch(*now, act("bumpEpoch")).await),
    }
}

async fn everything(store: &Store) -> Vec<String> {
    vec![
        format!("{:?}", store.clusters().await.unwrap()),
        format!("{:?}", store.tokens().await.unwrap()),
        format!("{:?}", store.heads().await.unwrap()),
        format!("{:?}", store.intents().await.unwrap()),
        format!("{:?}", store.cluster_reports().await.unwrap()),
        format!("{:?}", store.unit_reports(None).await.unwrap()),
        format!("{:?}", store.fact_digests().await.unwrap()),
        format!("{:?}", store.history(HistoryQuery { limit: 100, ..HistoryQuery::default() }).await.unwrap()),
        format!("{:?}", store.audit_rows(0, 10_000).await.unwrap()),
        format!("{:?}", store.verify_audit().await.unwrap()),
    ]
}
