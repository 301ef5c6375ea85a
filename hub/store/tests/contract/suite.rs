//! The cases: each gets an empty store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driftless_protocol::bundle::{BlobRef, DriftMode};
use driftless_protocol::facts::Facts;
use driftless_protocol::head::SourceRevision;
use driftless_protocol::id::{ClusterId, Digest, Generation, KeyId, Revision, TokenId, UnitId};
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{ClusterReport, Counts, EventKind, Ready, RecentEvent, UnitReport};
use driftless_protocol::signing::{KeySignature, Signed};
use driftless_store::*;

pub(crate) const CASES: &[&str] =
    &["tokens", "clusters", "trust", "sources", "offers", "intents", "reports", "history", "audit", "epoch"];

pub(crate) async fn run(case: &str, store: Store) {
    match case {
        "tokens" => tokens(&store).await,
        "clusters" => clusters(&store).await,
        "trust" => trust(&store).await,
        "sources" => sources(&store).await,
        "offers" => offers(&store).await,
        "intents" => intents(&store).await,
        "reports" => reports(&store).await,
        "history" => history(&store).await,
        "audit" => audit(&store).await,
        "epoch" => epoch(&store).await,
        other => panic!("no case {other}"),
    }
    assert_eq!(store.verify_audit().await.unwrap(), None, "{case}: the audit chain holds");
    store.close().await;
}

pub(crate) fn act(action: &str) -> Act {
    Act { at: 5, actor: "ann".into(), action: action.into(), target: "x".into(), detail: String::new() }
}

pub(crate) fn cluster_id(n: u8) -> ClusterId {
    ClusterId::from_bytes([n; 16])
}

pub(crate) fn digest(n: u64) -> Digest {
    Digest::of(&n.to_le_bytes())
}

pub(crate) fn token(n: u8, name: &str) -> Token {
    Token {
        id: TokenId::from_bytes([n; 8]),
        hash: [n; 32],
        name: name.parse().unwrap(),
        labels: BTreeMap::from([("env".into(), "prod".into())]),
        created: 1,
        created_by: "ann".into(),
        expires: 1000,
    }
}

pub(crate) fn enrollment(token: u8, cluster: u8, uid: &str, now: u64) -> Enrollment {
    Enrollment {
        token: TokenId::from_bytes([token; 8]),
        cluster: cluster_id(cluster),
        kube_uid: uid.into(),
        agent_key: digest(u64::from(cluster)),
        now,
    }
}

pub(crate) fn certificate(n: u64) -> Certificate {
    Certificate { digest: digest(n), serial: format!("{n:x}"), not_after: n }
}

pub(crate) async fn enrol(store: &Store, n: u8) -> ClusterId {
    store.create_token(token(n, &format!("c{n}")), act("joinToken")).await.unwrap();
    let outcome = store.redeem(enrollment(n, n, &format!("uid-{n}"), 10)).await.unwrap();
    assert!(matches!(outcome, Enrolled::Granted { new: true, .. }), "{outcome:?}");
    cluster_id(n)
}

pub(crate) async fn put_something(store: &Store) {
    store.create_token(token(1, "one"), act("joinToken")).await.unwrap();
}

async fn tokens(store: &Store) {
    let check = async |what: &str, enrollment: Enrollment, wanted: fn(&Enrolled) -> bool| {
        let outcome = store.redeem(enrollment).await.unwrap();
        assert!(wanted(&outcome), "{what}: {outcome:?}");
    };
    check("unknown", enrollment(1, 1, "u1", 10), |o| *o == Enrolled::Unknown).await;
    store.create_token(token(1, "one"), act("joinToken")).await.unwrap();
    assert!(store.create_token(token(1, "again"), act("joinToken")).await.is_err(), "an id is given once");
    check("expired", enrollment(1, 1, "u1", 1000), |o| *o == Enrolled::Expired).await;
    check("in time", enrollment(1, 1, "u1", 999), |o| matches!(o, Enrolled::Granted { new: true, .. })).await;
    check("answer lost", enrollment(1, 1, "u1", 999), |o| matches!(o, Enrolled::Granted { new: false, .. })).await;
    check("other key", enrollment(1, 2, "u1", 999), |o| *o == Enrolled::Used).await;
    check("other cluster", enrollment(1, 1, "u2", 999), |o| *o == Enrolled::Used).await;
    store.issued(cluster_id(1), digest(1), certificate(1), vec![1]).await.unwrap();
    store.admit(cluster_id(1), digest(1), 999).await.unwrap();
    check("once it has connected", enrollment(1, 1, "u1", 999), |o| *o == Enrolled::Used).await;

    store.create_token(token(2, "one"), act("joinToken")).await.unwrap();
    check("name taken", enrollment(2, 2, "u2", 10), |o| matches!(o, Enrolled::NameTaken(n) if n.as_str() == "one"))
        .await;
    store.create_token(token(3, "three"), act("joinToken")).await.unwrap();
    check("cluster taken", enrollment(3, 3, "u1", 10), |o| matches!(o, Enrolled::UidTaken(n) if n.as_str() == "one"))
        .await;
    assert_eq!(store.token(token(3, "three").id).await.unwrap().unwrap().used, None, "a refusal uses nothing up");
    for _ in 0..TOKEN_FAILURES {
        store.token_failed(token(3, "three").id).await.unwrap();
    }
    check("guessed too often", enrollment(3, 3, "u3", 10), |o| *o == Enrolled::Unknown).await;

    assert!(store.revoke(cluster_id(1), act("revoke")).await.unwrap());
    check("name free again", enrollment(2, 2, "u1", 10), |o| matches!(o, Enrolled::Granted { new: true, .. })).await;
    assert_eq!(store.forget_tokens(1001).await.unwrap(), 3);
    assert_eq!(store.clusters().await.unwrap().len(), 2);
}

async fn clusters(store: &Store) {
    let id = enrol(store, 1).await;
    let admit = async |certificate| store.admit(id, certificate, 20).await.unwrap();
    let session = |a: Admission| match a {
        Admission::Admitted { session, .. } => session,
        other => panic!("{other:?}"),
    };
    assert_eq!(admit(digest(1)).await, Admission::Superseded, "nothing was issued yet");
    assert_eq!(store.admit(cluster_id(9), digest(1), 20).await.unwrap(), Admission::Unknown);
    assert!(store.issued(id, digest(1), certificate(1), vec![1]).await.unwrap());
    assert_eq!(session(admit(digest(1)).await), 1);
    assert!(store.issued(id, digest(2), certificate(2), vec![2]).await.unwrap());
    let unseen = async |key| store.unseen_certificate(id, key).await.unwrap();
    let second = UnseenCertificate { der: vec![2], not_after: 2 };
    assert_eq!(unseen(digest(2)).await, Some(second.clone()));
    assert_eq!(unseen(digest(1)).await, None, "for another key");
    assert_eq!(session(admit(digest(1)).await), 2, "the one before is good until the new one is seen");
    assert_eq!(unseen(digest(2)).await, Some(second), "the one before was shown, not the new one");
    assert_eq!(session(admit(digest(2)).await), 3);
    assert_eq!(unseen(digest(2)).await, None, "seen");
    assert_eq!(admit(digest(1)).await, Admission::Superseded, "two holders of one identity");
    let cluster = store.cluster(id).await.unwrap().unwrap();
    assert_eq!((cluster.certificate_count, cluster.last_seen, cluster.agent_key), (2, Some(20), digest(2)));
    assert!(store.set_labels(id, BTreeMap::from([("a".into(), "b".into())]), act("label")).await.unwrap());
    assert_eq!(store.cluster(id).await.unwrap().unwrap().labels["a"], "b");
    assert!(store.issued(id, digest(3), certificate(3), vec![3]).await.unwrap());
    assert!(store.revoke(id, act("revoke")).await.unwrap());
    assert_eq!(unseen(digest(3)).await, None, "a revoked cluster has none");
    assert!(!store.revoke(id, act("revoke")).await.unwrap(), "once");
    assert_eq!(admit(digest(2)).await, Admission::Revoked);
    assert!(!store.issued(id, digest(4), certificate(4), vec![4]).await.unwrap(), "a revoked cluster gets none");
}

fn signed(n: u8) -> Signed {
    Signed {
        bytes: vec![n, 0, 255],
        signatures: vec![KeySignature { key: KeyId::from_bytes([n; 16]), signature: [n; 64] }],
    }
}

async fn trust(store: &Store) {
    assert!(store.add_trust_document(2, signed(2)).await.is_err(), "no gaps");
    store.add_trust_document(1, signed(1)).await.unwrap();
    store.add_trust_document(2, signed(2)).await.unwrap();
    assert!(store.add_trust_document(2, signed(3)).await.is_err(), "never replaced");
    assert_eq!(store.trust_documents().await.unwrap(), [signed(1), signed(2)]);
}

fn revision(n: u8) -> Revision {
    Revision { reference: "main".into(), commit: format!("{n:040x}") }
}

async fn sources(store: &Store) {
    let put = async |url: &str, code: &str, good: Option<u8>, at: u64| {
        let status = SourceStatus {
            id: "a/b".into(),
            url: url.into(),
            reference: "branch main".into(),
            last_good: good.map(|n| (revision(n), at)),
            code: code.into(),
            message: "m".into(),
            attempted_at: at,
            since: 0,
        };
        store.put_source(status).await.unwrap();
        store.sources().await.unwrap().remove(0)
    };
    let first = put("https://x/1", "Ready", Some(1), 10).await;
    assert_eq!((first.last_good, first.since), (Some((revision(1), 10)), 10));
    let down = put("https://x/1", "HostDown", None, 20).await;
    assert_eq!((down.last_good, down.since, down.attempted_at), (Some((revision(1), 10)), 20, 20));
    let still = put("https://x/1", "HostDown", None, 30).await;
    assert_eq!((still.since, still.attempted_at), (20, 30));
    let other = put("https://x/2", "HostDown", None, 40).await;
    assert_eq!(other.last_good, None, "another repository has no good revision yet");
    store.remove_source("a/b".into()).await.unwrap();
    assert!(store.sources().await.unwrap().is_empty());
}

fn node(bytes: &[u8], children: &[Digest]) -> BundleBlob {
    BundleBlob { blob: BlobRef::of(bytes), bytes: Arc::from(bytes), children: children.iter().copied().collect() }
}

/// An offer of one unit with these objects.
pub(crate) fn offer(cluster: ClusterId, after: Option<u64>, objects: &[&str]) -> Offer {
    let generation = |sequence| Generation { trust_epoch: 1, epoch: 7, sequence };
    let objects: BTreeMap<Digest, Arc<[u8]>> =
        objects.iter().map(|o| (Digest::of(o.as_bytes()), Arc::from(o.as_bytes()))).collect();
    let children: Vec<Digest> = objects.keys().copied().collect();
    let body = node(format!("body {children:?}").as_bytes(), &children);
    let index = node(format!("index {cluster} {:?}", body.blob.digest).as_bytes(), &[body.blob.digest]);
    let sequence = after.map_or(1, |n| n + 1);
    Offer {
        cluster,
        after: after.map(generation),
        generation: generation(sequence),
        head: signed(u8::try_from(sequence % 250).unwrap()),
        content: index.clone(),
        index,
        bodies: vec![body],
        objects,
        revisions: vec![SourceRevision { source: "a/b".into(), revision: revision(1) }],
        now: sequence,
        expires: 100,
    }
}

async fn offers(store: &Store) {
    let id = enrol(store, 1).await;
    assert!(store.offer(offer(cluster_id(9), None, &["x"])).await.is_err(), "not enrolled");
    let first = offer(id, None, &["a", "b"]);
    store.offer(first.clone()).await.unwrap();
    assert!(matches!(store.offer(first.clone()).await, Err(StoreError::Conflict { .. })), "a second writer loses");
    let mut backwards = offer(id, Some(1), &["x"]);
    backwards.generation.epoch = 1;
    assert!(store.offer(backwards).await.is_err(), "never backwards");
    let mut hollow = offer(id, Some(1), &["x", "y"]);
    hollow.objects.pop_first();
    assert!(store.offer(hollow).await.is_err(), "an object is missing");
    assert_eq!(store.heads_of(id).await.unwrap().len(), 1, "a refused offer leaves nothing");

    let a = Digest::of(b"a");
    let closure = store.closure(first.index.blob.digest).await.unwrap();
    let body = first.bodies[0].blob.digest;
    assert_eq!(closure, BTreeSet::from([first.index.blob.digest, body, a, Digest::of(b"b")]));
    assert!(store.closure(digest(77)).await.unwrap().is_empty());
    let blobs = store.blobs(vec![a, digest(77), body]).await.unwrap();
    assert_eq!(blobs, [(a, b"a".to_vec()), (body, first.bodies[0].bytes.to_vec())]);

    // A body that is in the store need not bring its objects again.
    let mut known = offer(id, Some(1), &["a", "b"]);
    known.objects.clear();
    store.offer(known).await.unwrap();
    store.offer(offer(id, Some(2), &["b", "c"])).await.unwrap();
    assert_eq!(store.collect_blobs().await.unwrap(), 0, "the last two are kept");
    store.offer(offer(id, Some(3), &["c"])).await.unwrap();
    let heads = store.heads_of(id).await.unwrap();
    assert_eq!(heads.iter().map(|h| h.generation.sequence).collect::<Vec<_>>(), [4, 3], "newest first, two of them");
    assert_eq!(heads[0].head, signed(4));
    // Index, body and object a of the first; b is in the third.
    assert_eq!(store.collect_blobs().await.unwrap(), 3);
    assert!(store.blobs(vec![a]).await.unwrap().is_empty());
    assert_eq!(store.blobs(vec![Digest::of(b"b")]).await.unwrap().len(), 1);

    store.settle(id, heads[0].generation, None, 50).await.unwrap();
    store.settle(id, heads[1].generation, Some(("Older".into(), "w".into())), 50).await.unwrap();
    let heads = store.heads().await.unwrap();
    assert_eq!((heads[0].taken_at, heads[0].refused.as_ref()), (Some(50), None));
    assert_eq!((heads[1].taken_at, heads[1].refused.clone()), (None, Some(("Older".into(), "w".into()))));
    store.revoke(id, act("revoke")).await.unwrap();
    assert!(store.heads().await.unwrap().is_empty());
    assert_eq!(store.collect_blobs().await.unwrap(), 6, "nobody references anything");
}

async fn intents(store: &Store) {
    let (one, two) = (enrol(store, 1).await, enrol(store, 2).await);
    let unit = UnitId::kustomization("flux-system", "apps");
    let record =
        |intent: Intent, reason: &str| IntentRecord { intent, actor: "ann".into(), at: 3, reason: reason.into() };
    let suspend = |cluster| Intent::Suspend { cluster, unit: unit.clone() };
    store.put_intent(record(suspend(Some(one)), "r1"), act("suspend")).await.unwrap();
    store.put_intent(record(suspend(Some(one)), "r2"), act("suspend")).await.unwrap();
    store.put_intent(record(suspend(None), ""), act("suspend")).await.unwrap();
    store.put_intent(record(Intent::Freeze { cluster: Some(two) }, ""), act("freeze")).await.unwrap();
    let mode = |mode| Intent::DriftMode { cluster: Some(one), unit: Some(unit.clone()), mode };
    store.put_intent(record(mode(DriftMode::Warn), ""), act("drift")).await.unwrap();
    store.put_intent(record(mode(DriftMode::Observe), ""), act("drift")).await.unwrap();
    let all = store.intents().await.unwrap();
    assert_eq!(all.len(), 4, "one id, one intent: {all:?}");
    assert!(all.iter().any(|r| r.intent == mode(DriftMode::Observe)) && all.iter().any(|r| r.reason == "r2"));
    assert!(store.remove_intent(suspend(None), act("resume")).await.unwrap());
    assert!(!store.remove_intent(suspend(None), act("resume")).await.unwrap());
    store.revoke(two, act("revoke")).await.unwrap();
    assert_eq!(store.intents().await.unwrap().len(), 2, "a revoked cluster's intents go with it");
}

pub(crate) fn report(name: &str, message: &str) -> UnitReport {
    UnitReport {
        unit: UnitId::kustomization("ns", name),
        ready: Ready::True,
        reason: "r".into(),
        message: message.into(),
        generation: None,
        desired: Some(digest(1)),
        applied: None,
        last_applied: Some(3),
        applied_revision: None,
        suspended: false,
        drift_mode: DriftMode::Warn,
        counts: Counts::default(),
        objects: vec![],
        drift: vec![],
        recent: vec![],
        waiting: None,
        held_deletes: vec![],
        approved_deletes: vec![],
        contests: vec![],
        additions: vec![],
        inputs: vec![],
        filled: None,
        pauses: vec![],
        pause_ended: None,
        flux: None,
        shadow: None,
        observed_at: 9,
    }
}

pub(crate) fn write(cluster: ClusterId, session: u64, n: u64, content: ReportContent) -> ReportWrite {
    ReportWrite { cluster, session, n, received: n, content }
}

/// A report that tells of these deeds, as `(time, words)`.
pub(crate) fn told(name: &str, deeds: &[(u64, &str)]) -> UnitReport {
    let event = |(at, detail): &(u64, &str)| RecentEvent {
        at: *at,
        what: EventKind::Healed,
        key: ObjectKey { group: "".into(), kind: "ConfigMap".into(), namespace: "a".into(), name: "x".into() },
        detail: (*detail).to_owned(),
        took_ms: Some(3),
    };
    UnitReport { recent: deeds.iter().map(event).collect(), ..report(name, "m") }
}

async fn history(store: &Store) {
    let (one, two) = (enrol(store, 1).await, enrol(store, 2).await);
    let of = async |query: HistoryQuery| -> Vec<(ClusterId, String, u64, String)> {
        let rows = store.history(query).await.unwrap();
        rows.into_iter().map(|e| (e.cluster, e.unit.name, e.event.at, e.event.detail)).collect()
    };
    let all = HistoryQuery { limit: 5000, ..HistoryQuery::default() };
    let units = |reports: Vec<UnitReport>| ReportContent::Units(reports);
    // The last deeds come again with every report; each is kept once. Two in one moment are two.
    let batch = vec![
        write(one, 1, 1, units(vec![told("a", &[(5, "first")]), told("b", &[])])),
        write(one, 1, 2, units(vec![told("a", &[(7, "third"), (7, "second"), (5, "first")])])),
        write(two, 1, 1, units(vec![told("a", &[(6, "other")])])),
        write(one, 1, 3, units(vec![told("a", &[(7, "third"), (7, "second"), (5, "first")])])),
        write(one, 1, 2, units(vec![told("a", &[(9, "of an older report")])])),
    ];
    store.write_reports(batch).await.unwrap();
    let words = |rows: Vec<(ClusterId, String, u64, String)>| -> Vec<String> {
        let mut rows: Vec<String> = rows.into_iter().map(|(_, _, at, words)| format!("{at} {words}")).collect();
        let moment = rows.len().min(2);
        rows[..moment].sort(); // two of one moment have no order
        rows
    };
    assert_eq!(words(of(all.clone()).await), ["7 second", "7 third", "6 other", "5 first"]);
    assert_eq!(of(HistoryQuery { cluster: Some(two), ..all.clone() }).await.len(), 1);
    let unit = Some(UnitId::kustomization("ns", "a"));
    assert_eq!(of(HistoryQuery { unit: unit.clone(), since: 6, ..all.clone() }).await.len(), 3);
    assert_eq!(of(HistoryQuery { unit: Some(UnitId::kustomization("ns", "b")), ..all.clone() }).await, []);
    assert_eq!(of(HistoryQuery { limit: 3, ..all.clone() }).await.len(), 3);
    // One that an agent with a wrong clock tells hides nothing that comes after.
    store.write_reports(vec![write(two, 1, 2, units(vec![told("a", &[(900_000_000, "future")])]))]).await.unwrap();
    assert_eq!(of(all.clone()).await.len(), 4);
    // A unit that is gone keeps its history; time ends it.
    let gone = ReportContent::Gone(vec![UnitId::kustomization("ns", "a")]);
    store.write_reports(vec![write(one, 1, 4, gone)]).await.unwrap();
    assert_eq!(of(all.clone()).await.len(), 4);
    assert_eq!(store.forget_history(6).await.unwrap(), 1);
    assert_eq!(of(all.clone()).await.len(), 3);
    // So many of a unit at most, the newest.
    for n in 0..60 {
        let deeds: Vec<(u64, String)> = (0..20).map(|i| (100 + n * 20 + i, format!("deed {i}"))).collect();
        let deeds: Vec<(u64, &str)> = deeds.iter().map(|(at, words)| (*at, words.as_str())).collect();
        store.write_reports(vec![write(two, 2, n + 1, units(vec![told("a", &deeds)]))]).await.unwrap();
    }
    let rows = of(HistoryQuery { cluster: Some(two), ..all }).await;
    assert_eq!((rows.len(), rows[0].2, rows[999].2), (1000, 1299, 300));
}

async fn reports(store: &Store) {
    let (one, two) = (enrol(store, 1).await, enrol(store, 2).await);
    let units =
        |names: &[&str], message: &str| ReportContent::Units(names.iter().map(|n| report(n, message)).collect());
    let of = async |cluster| -> Vec<(String, String)> {
        let rows = store.unit_reports(Some(cluster)).await.unwrap();
        rows.into_iter().map(|r| (r.report.unit.name, r.report.message)).collect()
    };
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    };
    let taken = store
        .write_reports(vec![
            write(one, 1, 2, units(&["b"], "second")), // out of order in the batch: sorted before it is written
            write(two, 1, 1, units(&["x"], "other")),
            write(one, 1, 1, units(&["a", "b"], "first")),
            write(cluster_id(9), 1, 1, units(&["a"], "nobody")),
        ])
        .await
        .unwrap();
    assert_eq!(taken, [true, true, true, false]);
    assert_eq!(of(one).await, pairs(&[("a", "first"), ("b", "second")]));
    let late = store.write_reports(vec![write(one, 1, 2, units(&["a"], "late"))]).await.unwrap();
    assert_eq!((late, of(one).await), (vec![false], pairs(&[("a", "first"), ("b", "second")])));
    let next = write(one, 2, 3, ReportContent::Gone(vec![UnitId::kustomization("ns", "b")]));
    assert_eq!(store.write_reports(vec![next]).await.unwrap(), [true]);
    let old = store.write_reports(vec![write(one, 1, 9, units(&["b"], "resurrected"))]).await.unwrap();
    assert_eq!((old, of(one).await), (vec![false], pairs(&[("a", "first")])), "an older session never wins");
    let snapshot = ReportContent::Snapshot(BTreeSet::from([UnitId::kustomization("ns", "c")]));
    let both = vec![write(one, 2, 4, units(&["c"], "new")), write(one, 2, 5, snapshot)];
    store.write_reports(both).await.unwrap();
    assert_eq!(of(one).await, pairs(&[("c", "new")]));
    assert_eq!(of(two).await, pairs(&[("x", "other")]));
    let whole = ClusterReport { leader: "pod".into(), inventory: 7, ..ClusterReport::default() };
    store.write_reports(vec![write(one, 2, 6, ReportContent::Cluster(Box::new(whole.clone())))]).await.unwrap();
    assert_eq!(store.cluster_reports().await.unwrap()[0].report, whole);
    assert_eq!(store.unit_reports(None).await.unwrap().len(), 2);
    assert_eq!((store.fact_digests().await.unwrap(), store.facts(one).await.unwrap()), (vec![], None));
    let mut facts = Facts { kubernetes_version: "v1.36.0".into(), ..Facts::default() };
    facts.config_maps.insert("a/b".into(), [("region".to_owned(), "n\u{f6}rd".to_owned())].into());
    let told = |n, facts: &Facts| write(one, 2, n, ReportContent::Facts(Box::new(facts.clone())));
    assert_eq!(store.write_reports(vec![told(7, &Facts::default()), told(8, &facts)]).await.unwrap(), [true, true]);
    assert_eq!(
        store.write_reports(vec![told(7, &Facts::default())]).await.unwrap(),
        [false],
        "an older one changes nothing"
    );
    let stored = store.facts(one).await.unwrap().unwrap();
    assert_eq!((&stored.facts, stored.digest, stored.received), (&facts, facts.digest(), 8));
    assert_eq!(store.fact_digests().await.unwrap(), [(one, facts.digest())]);
    store.issued(one, digest(1), certificate(1), vec![1]).await.unwrap();
    match store.admit(one, digest(1), 30).await.unwrap() {
        Admission::Admitted { reports_taken, .. } => assert_eq!(reports_taken, 8),
        other => panic!("{other:?}"),
    }
    store.revoke(one, act("revoke")).await.unwrap();
    assert!(store.cluster_reports().await.unwrap().is_empty() && of(one).await.is_empty());
    assert!(store.fact_digests().await.unwrap().is_empty() && store.facts(one).await.unwrap().is_none());
}

async fn audit(store: &Store) {
    for n in 0..5 {
        store.audit(act(&format!("act {n}"))).await.unwrap();
    }
    let rows = store.audit_rows(2, 2).await.unwrap();
    assert_eq!(rows.iter().map(|r| (r.n, r.act.action.as_str())).collect::<Vec<_>>(), [(3, "act 2"), (4, "act 3")]);
    assert_eq!(store.verify_audit().await.unwrap(), None);
}

async fn epoch(store: &Store) {
    assert_eq!(store.epoch().await.unwrap(), super::BORN);
    assert_eq!(store.bump_epoch(super::BORN + 60, act("bumpEpoch")).await.unwrap(), super::BORN + 60);
    assert_eq!(store.bump_epoch(5, act("bumpEpoch")).await.unwrap(), super::BORN + 61, "a clock that went back");
}

/// A hundred agents, some hubs, one token.
pub(crate) async fn one_token_many_agents(hubs: &[Store]) {
    hubs[0].create_token(token(1, "one"), act("joinToken")).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..100u8 {
        let hub = hubs[usize::from(n) % hubs.len()].clone();
        tasks.spawn(async move { hub.redeem(enrollment(1, n, &format!("uid-{n}"), 10)).await });
    }
    let outcomes = tasks.join_all().await;
    let won = outcomes.iter().filter(|o| matches!(o, Ok(Enrolled::Granted { .. }))).count();
    assert_eq!(won, 1, "{outcomes:?}");
    assert_eq!(hubs[0].clusters().await.unwrap().len(), 1);
    for outcome in outcomes {
        let lost = matches!(outcome, Ok(Enrolled::Granted { .. } | Enrolled::Used | Enrolled::NameTaken(_)));
        assert!(lost || matches!(outcome, Err(StoreError::Conflict { .. })), "{outcome:?}");
    }
}

pub(crate) async fn audit_of_several_hubs(hubs: &[Store]) {
    let before = hubs[0].audit_rows(0, 1000).await.unwrap().len();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..60 {
        let hub = hubs[n % hubs.len()].clone();
        tasks.spawn(async move { hub.audit(act(&format!("act {n}"))).await.unwrap() });
    }
    tasks.join_all().await;
    assert_eq!(hubs[0].audit_rows(0, 1000).await.unwrap().len(), before + 60, "each exactly once");
    assert_eq!(hubs[1].verify_audit().await.unwrap(), None);
}

/// Offers that share objects while garbage is collected: what a head references is there.
pub(crate) async fn offers_and_garbage(hubs: &[Store]) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 50..56u8 {
        let hub = hubs[usize::from(n) % hubs.len()].clone();
        tasks.spawn(async move {
            let id = enrol(&hub, n).await;
            for sequence in 0..12u64 {
                let shared = format!("shared {}", sequence % 4);
                let offer = offer(id, (sequence > 0).then_some(sequence), &[&shared, "base"]);
                hub.offer(offer.clone()).await.unwrap();
                assert_eq!(hub.closure(offer.index.blob.digest).await.unwrap().len(), 4, "a blob is missing");
            }
        });
    }
    for hub in hubs {
        let hub = hub.clone();
        tasks.spawn(async move {
            for _ in 0..20 {
                hub.collect_blobs().await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    for head in hubs[0].heads().await.unwrap() {
        let closure: Vec<Digest> = hubs[0].closure(head.index).await.unwrap().into_iter().collect();
        assert_eq!(hubs[0].blobs(closure).await.unwrap().len(), 4);
    }
}
