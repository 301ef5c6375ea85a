//! The ledger against an API server that dies at every write, and against everybody who can write there.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::sync::Arc;

use base64::Engine as _;
use common::Records;
use common::fleet::{self, KUBE_UID, Made, START, cluster, make, root, sign_trust, signer, trust_document, trust_one};
use driftless_agent::ledger::{Ledger, LedgerError, Owner, TrustRecord};
use driftless_protocol::bundle::{Blobs, Bundle};
use driftless_protocol::head::Head;
use driftless_protocol::id::{ClusterId, Digest};
use driftless_protocol::message::RefusalCode;
use driftless_protocol::session::Ratchet;
use driftless_protocol::signing::{self, Purpose, SecretKey, Verified};
use driftless_protocol::trust;
use driftless_protocol::wire::transfer::Blob;

const LIMIT: u64 = 16 << 20;

fn owner(limit: u64) -> Owner {
    Owner { cluster: cluster(), kube_uid: KUBE_UID.into(), root_keys: vec![root().public().id()], limit }
}

async fn enrolled() -> Records {
    let records = Records::default();
    TrustRecord::replace(&records.api(), vec![trust_one()]).await.unwrap();
    records
}

async fn load(records: &Records) -> Result<Ledger, LedgerError> {
    Ledger::load_as(records.api(), owner(LIMIT)).await
}

fn verified(made: &Made) -> Verified<Head> {
    signing::verify(Purpose::Head, made.signed.clone(), &trust_one().signer_ring(), 1 << 20).unwrap()
}

/// What a session would fetch: everything the ledger does not hold.
fn fetched(ledger: &Ledger, made: &Made) -> Vec<Blob> {
    let current = ledger.current();
    let held = |d: &Digest| current.as_ref().is_some_and(|s| s.blobs.get(d).is_some());
    made.blobs.iter().filter(|(d, _)| !held(d)).map(|(d, b)| (*d, Arc::clone(b))).collect()
}

async fn store(ledger: &mut Ledger, made: &Made) -> Result<(), LedgerError> {
    let blobs = fetched(ledger, made);
    ledger.store(&verified(made), blobs, START * 1000).await.map(drop)
}

fn ratchet(made: &Made) -> Ratchet {
    Ratchet { generation: made.head.generation, head: made.head_digest() }
}

/// Every object of the bundle is there with its bytes.
fn whole(ledger: &Ledger, made: &Made) -> bool {
    let Some(stored) = ledger.current() else { return false };
    let bodies = stored.bundle.read_bodies(&*stored.blobs).unwrap();
    let objects = bodies.iter().flat_map(|b| &b.objects);
    stored.bundle.head().signed() == &made.signed
        && objects.clone().all(|o| Bundle::object(o, &*stored.blobs).is_ok())
        && objects.count() > 0
}

#[tokio::test]
async fn what_is_stored_is_read_back_and_verified() {
    let records = enrolled().await;
    let mut ledger = load(&records).await.unwrap();
    assert!(ledger.current().is_none() && ledger.ratchet().is_none());
    let made = make(1, 10, 20, "a");
    store(&mut ledger, &made).await.unwrap();
    let ledger = load(&records).await.unwrap();
    assert!(whole(&ledger, &made));
    assert_eq!(ledger.ratchet(), Some(ratchet(&made)));
    assert_eq!(ledger.trust().newest().version, 1);
    assert!(ledger.problem().is_none());
}

#[tokio::test]
async fn a_generation_costs_packs_for_its_change_only_and_two_are_kept() {
    let records = enrolled().await;
    let mut ledger = load(&records).await.unwrap();
    let change = |sequence: u64, text: &str| {
        let mut units = vec![vec!["same".to_owned(); 50]; 10];
        units[3][7] = text.into();
        fleet::make_of(sequence, &units)
    };
    store(&mut ledger, &change(1, "first")).await.unwrap();
    assert_eq!(records.packs().len(), 1);
    let first = records.packs();
    for sequence in 2..30 {
        let before = records.writes();
        store(&mut ledger, &change(sequence, &format!("change {sequence}"))).await.unwrap();
        assert!(records.writes() - before <= 5, "note, pack, head, and what was left over");
        assert!(records.packs().len() <= 3, "{:?}", records.packs());
        assert!(records.packs().contains(&first[0]), "the pack with what did not change stays");
    }
    let mut ledger = load(&records).await.unwrap();
    assert!(whole(&ledger, &change(29, "change 29")));
    // The same content again: no new pack, only the head moves.
    let before = records.packs().len();
    store(&mut ledger, &change(30, "change 29")).await.unwrap();
    assert!(records.packs().len() <= before);
}

#[tokio::test]
async fn packs_that_are_mostly_dead_are_written_anew() {
    let records = enrolled().await;
    let mut ledger = load(&records).await.unwrap();
    store(&mut ledger, &make(1, 40, 20, "a")).await.unwrap();
    let first = records.packs();
    // A quarter of it is left.
    store(&mut ledger, &make(2, 10, 20, "a")).await.unwrap();
    store(&mut ledger, &make(3, 10, 20, "a")).await.unwrap();
    assert!(!records.packs().contains(&first[0]));
    assert!(whole(&load(&records).await.unwrap(), &make(3, 10, 20, "a")));
}

#[tokio::test]
async fn dying_at_any_write_loses_nothing_and_leaves_nothing() {
    let (one, two) = (make(1, 6, 30, "one"), make(2, 6, 30, "two"));
    let mut moments = 0;
    for writes in 0.. {
        let records = enrolled().await;
        let mut ledger = load(&records).await.unwrap();
        store(&mut ledger, &one).await.unwrap();
        store(&mut ledger, &make(1, 0, 0, "x").sign(|h| h.generation.sequence = 1)).await.ok();
        let mut ledger = load(&records).await.unwrap();
        store(&mut ledger, &one).await.unwrap();

        records.die_after(writes);
        let stored = store(&mut ledger, &two).await;
        records.revive();
        let mut again = load(&records).await.unwrap();
        match again.ratchet() {
            Some(r) if r == ratchet(&two) => assert!(whole(&again, &two), "dead after {writes} writes"),
            Some(r) if r == ratchet(&one) => {
                assert!(stored.is_err(), "dead after {writes} writes: a store that said yes is kept");
                assert!(whole(&again, &one), "dead after {writes} writes");
            }
            other => panic!("dead after {writes} writes: {other:?}"),
        }
        // Whoever leads next can go on, and nothing is left lying about.
        store(&mut again, &two).await.unwrap();
        assert!(whole(&load(&records).await.unwrap(), &two), "dead after {writes} writes");
        assert!(records.packs().len() <= 3, "dead after {writes} writes: {:?}", records.packs());
        moments += 1;
        if stored.is_ok() && writes > 8 {
            break;
        }
    }
    assert!(moments > 4);
}

#[tokio::test]
async fn two_pods_cannot_both_write() {
    let records = enrolled().await;
    let mut first = load(&records).await.unwrap();
    let mut second = load(&records).await.unwrap();
    store(&mut first, &make(1, 2, 2, "a")).await.unwrap();
    let error = store(&mut second, &make(2, 2, 2, "b")).await.unwrap_err();
    assert!(error.is_race() && error.code() == RefusalCode::LedgerFailed, "{error}");
    let loaded = load(&records).await.unwrap();
    assert!(whole(&loaded, &make(1, 2, 2, "a")));
    assert_eq!(records.packs().len(), 1, "the loser created nothing");
}

#[tokio::test]
async fn whoever_writes_into_the_ledger_gains_a_refusal() {
    type Change = Box<dyn Fn(&Records)>;
    let pack = |records: &Records| records.packs().remove(0);
    let state = |change: fn(&mut serde_json::Value)| -> Change {
        Box::new(move |records| {
            records.edit("configmaps", "driftless-head", |map| {
                let mut state = serde_json::from_str(map["data"]["state.json"].as_str().unwrap()).unwrap();
                change(&mut state);
                map["data"]["state.json"] = state.to_string().into();
            });
        })
    };
    let cases: Vec<(&str, Change)> = vec![
        ("a pack is gone", Box::new(move |r| r.remove("secrets", &pack(r)))),
        (
            "a pack has other bytes",
            Box::new(move |r| {
                r.edit("secrets", &pack(r), |secret| {
                    let engine = base64::engine::general_purpose::STANDARD;
                    let mut body = engine.decode(secret["data"]["pack"].as_str().unwrap()).unwrap();
                    let at = body.len() / 2;
                    body[at] ^= 1;
                    secret["data"]["pack"] = engine.encode(body).into();
                });
            }),
        ),
        ("a pack has no data", Box::new(move |r| r.edit("secrets", &pack(r), |s| s["data"] = serde_json::json!({})))),
        (
            "the head has other bytes",
            state(|s| {
                let text = s["current"]["head"]["bytes"].as_str().unwrap().replace("\"sequence\":5", "\"sequence\":6");
                s["current"]["head"]["bytes"] = text.into();
            }),
        ),
        ("a pack is not listed", state(|s| s["current"]["packs"] = serde_json::json!([]))),
    ];
    for (name, change) in cases {
        let records = enrolled().await;
        let mut ledger = load(&records).await.unwrap();
        let made = make(5, 5, 5, "a");
        store(&mut ledger, &made).await.unwrap();
        change(&records);
        let mut ledger = load(&records).await.unwrap();
        assert!(ledger.current().is_none(), "{name}");
        assert!(ledger.problem().is_some(), "{name}");
        assert_eq!(ledger.ratchet(), Some(ratchet(&made)), "{name}: the ratchet stays");
        // The hub sends it once more.
        store(&mut ledger, &made).await.unwrap();
        assert!(whole(&load(&records).await.unwrap(), &made), "{name}");
    }
}

#[tokio::test]
async fn a_head_of_a_copy_is_not_enforced_and_an_earlier_life_holds_nothing_back() {
    let records = enrolled().await;
    let mut ledger = load(&records).await.unwrap();
    store(&mut ledger, &make(57, 2, 2, "a")).await.unwrap();
    let copy = Owner { kube_uid: "a restored copy".into(), ..owner(LIMIT) };
    let ledger = Ledger::load_as(records.api(), copy).await.unwrap();
    assert!(ledger.current().is_none());
    assert!(ledger.problem().unwrap().contains("it is for cluster"), "{:?}", ledger.problem());

    // Enrolled anew under another id: its generations begin at one, and the old packs go.
    let reborn = || Owner { cluster: ClusterId::from_bytes([9; 16]), ..owner(LIMIT) };
    let mut ledger = Ledger::load_as(records.api(), reborn()).await.unwrap();
    assert!(ledger.current().is_none() && ledger.ratchet().is_none() && ledger.problem().is_none());
    assert!(records.packs().is_empty());
    let made = make(1, 0, 0, "b").sign(|h| h.cluster = ClusterId::from_bytes([9; 16]));
    // Its index names the old cluster: refused, as it must be.
    assert_eq!(store(&mut ledger, &made).await.unwrap_err().code(), RefusalCode::BadBundle);
    assert!(Ledger::load_as(records.api(), reborn()).await.unwrap().ratchet().is_none());
}

#[tokio::test]
async fn many_small_packs_are_merged() {
    let records = enrolled().await;
    let mut ledger = load(&records).await.unwrap();
    let mut units = vec![vec!["same".to_owned(); 3]; 120];
    store(&mut ledger, &fleet::make_of(1, &units)).await.unwrap();
    let mut most = 0;
    for (i, sequence) in (2..122).enumerate() {
        // Large enough that its pack stays mostly alive although the index in it does not.
        units[i][0] = format!("{i}").repeat(20_000);
        store(&mut ledger, &fleet::make_of(sequence, &units)).await.unwrap();
        most = most.max(records.packs().len());
    }
    assert!((20..=70).contains(&most), "{most} packs");
    assert!(whole(&load(&records).await.unwrap(), &fleet::make_of(121, &units)));
}

#[tokio::test]
async fn a_state_that_cannot_be_read_is_never_begun_anew() {
    let records = enrolled().await;
    let mut ledger = load(&records).await.unwrap();
    store(&mut ledger, &make(5, 2, 2, "a")).await.unwrap();
    records.edit("configmaps", "driftless-head", |map| map["data"]["state.json"] = "{".into());
    let error = load(&records).await.unwrap_err().to_string();
    assert!(error.contains("driftless-head"), "{error}");
    records.edit("configmaps", "driftless-head", |map| map["data"] = serde_json::json!({}));
    assert!(load(&records).await.is_err());
}

#[tokio::test]
async fn trust_documents_are_kept_and_a_retired_signers_head_goes_on() {
    let records = enrolled().await;
    let mut ledger = load(&records).await.unwrap();
    let made = make(1, 2, 2, "a");
    store(&mut ledger, &made).await.unwrap();
    let mut two = trust_document(2);
    two.signers = vec![SecretKey::from_seed(&[7; 32]).public()];
    two.expires = START + 1;
    let two = trust::verify_next(&trust_one(), sign_trust(&two)).unwrap();
    ledger.store_trust(&two).await.unwrap();
    ledger.store_trust(&two).await.unwrap();
    let ledger = load(&records).await.unwrap();
    assert_eq!(ledger.trust().newest().version, 2);
    assert!(whole(&ledger, &made), "enforcing goes on although its signer was retired since");

    // Another root's documents are not believed at all.
    let foreign = Owner { root_keys: vec![signer().public().id()], ..owner(LIMIT) };
    assert!(matches!(Ledger::load_as(records.api(), foreign).await, Err(LedgerError::Trust(_))));
    records.edit("configmaps", "driftless-trust", |map| {
        map["data"].as_object_mut().unwrap().remove("1.json");
    });
    assert!(matches!(load(&records).await, Err(LedgerError::Trust(_))));
    records.remove("configmaps", "driftless-trust");
    assert!(load(&records).await.unwrap_err().to_string().contains("enrol anew"));
}

#[tokio::test]
async fn packs_stay_below_the_limit_of_a_secret_and_the_whole_below_the_chart_value() {
    let records = enrolled().await;
    let mut ledger = load(&records).await.unwrap();
    // 3 MiB that do not compress.
    let noise = |n: u64, len: usize| {
        let mut state = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let text: String = (0..len)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[(state % 64) as usize])
            })
            .collect();
        text
    };
    let made = with_data(1, (0..24).map(|n| noise(n, 170_000)).collect());
    store(&mut ledger, &made).await.unwrap();
    assert!(records.packs().len() >= 4, "{}", records.packs().len());
    assert!(records.most_bytes() < 1_400_000, "a request of {} bytes", records.most_bytes());
    assert!(whole(&load(&records).await.unwrap(), &made));

    // The next does not fit beside it: the previous generation goes.
    let mut small = Ledger::load_as(records.api(), owner(4 << 20)).await.unwrap();
    let next = with_data(2, (100..124).map(|n| noise(n, 170_000)).collect());
    store(&mut small, &next).await.unwrap();
    assert!(whole(&load(&records).await.unwrap(), &next));
    let names = records.packs().len();

    // And what does not fit at all is refused with both numbers, and nothing is lost.
    let mut tiny = Ledger::load_as(records.api(), owner(1 << 20)).await.unwrap();
    let error = store(&mut tiny, &with_data(3, (200..224).map(|n| noise(n, 170_000)).collect())).await.unwrap_err();
    assert_eq!(error.code(), RefusalCode::LedgerFull);
    assert!(error.to_string().contains("1048576"), "{error}");
    assert_eq!(records.packs().len(), names);
    assert!(whole(&load(&records).await.unwrap(), &next));
}

/// A bundle of one unit whose objects carry these texts.
fn with_data(sequence: u64, texts: Vec<String>) -> Made {
    fleet::make_of(sequence, &[texts])
}
