//! The inventory as text: round trips, doubling cut off at every point, damage.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driftless_protocol::bundle::{DeletionPolicy, ServiceAccount};
use driftless_protocol::id::UnitId;
use driftless_protocol::object::ObjectKey;
use driftless_reconcile::inventory::{Entry, Inventory, InventoryError, SHARD_BYTES, UnitRecord, decode};
use driftless_reconcile::mark::Uid;
use driftless_reconcile::step::ShardWrite;

fn key(n: usize) -> Arc<ObjectKey> {
    let (group, kind, namespace) = ("apps".into(), "Deployment".into(), format!("namespace-{}", n % 7));
    Arc::new(ObjectKey { group, kind, namespace, name: format!("{n:0150}") })
}

fn fill(inventory: &mut Inventory, range: std::ops::Range<usize>) {
    for n in range {
        let unit = Arc::new(UnitId::kustomization("flux-system", format!("u{}", n % 5)));
        let account = ServiceAccount { namespace: "flux-system".into(), name: "deployer".into() };
        let record = UnitRecord { account: Some(account), prune: true, deletion_policy: DeletionPolicy::Orphan };
        inventory.put_unit(&unit, record);
        let uid = (n % 3 > 0).then(|| Uid::from(format!("00000000-0000-4000-8000-{n:012x}").as_str()));
        inventory.put(&key(n), Entry { unit, api_version: "apps/v1".into(), uid, baseline: None });
    }
}

type Stored = BTreeMap<u32, String>;

fn store(stored: &mut Stored, write: &ShardWrite) {
    match &write.text {
        Some(text) => stored.insert(write.shard, text.clone()),
        None => stored.remove(&write.shard),
    };
}

fn load(stored: &Stored) -> (Inventory, Vec<InventoryError>) {
    decode(&stored.iter().map(|(n, text)| (*n, text.clone())).collect::<Vec<_>>())
}

fn same(a: &Inventory, b: &Inventory) {
    assert!(a.iter().eq(b.iter()), "{} and {} entries", a.len(), b.len());
    assert!(a.units().eq(b.units()));
}

#[test]
fn what_is_written_reads_back_and_only_touched_shards_are_written_again() {
    let none = BTreeSet::new();
    let (mut inventory, mut stored) = (Inventory::default(), Stored::new());
    fill(&mut inventory, 0..3000);
    inventory.count_delete(90_000_000);
    for write in inventory.take_writes(&none) {
        assert!(write.text.as_ref().is_some_and(|text| text.len() <= SHARD_BYTES));
        store(&mut stored, &write);
    }
    let (mut read, errors) = load(&stored);
    assert_eq!(errors, []);
    same(&inventory, &read);
    assert_eq!(read.deletes_in_last_hour(90_060_000), 1);
    assert_eq!(read.deletes_in_last_hour(90_000_000 + 7_200_000), 0);
    assert!(!read.is_dirty(&none) && read.shards() > 1);
    read.remove(&key(7));
    let writes = read.take_writes(&none);
    assert_eq!(writes.iter().map(|w| w.shard).collect::<Vec<_>>(), [read.shard_of(&key(7))]);
    // The same value again is no write.
    fill(&mut read, 8..9);
    assert!(!read.is_dirty(&none));
    assert_eq!(decode(&[]).0.len(), 0);
}

#[test]
fn doubling_may_be_cut_off_anywhere_and_goes_on() {
    let none = BTreeSet::new();
    let (mut inventory, mut stored) = (Inventory::default(), Stored::new());
    fill(&mut inventory, 0..400);
    inventory.take_writes(&none).iter().for_each(|write| store(&mut stored, write));
    assert_eq!(inventory.shards(), 1);
    let before = stored.clone();
    let mut grown = inventory.clone();
    fill(&mut grown, 400..2500);
    let writes = grown.take_writes(&none);
    assert!(writes.len() >= 4, "{}", writes.len());
    // Twice doubled at once is allowed only as a whole; a single doubling may stop after any write.
    let mut once = inventory.clone();
    let mut n = 400;
    while once.shards() == 1 {
        fill(&mut once, n..n + 50);
        n += 50;
        let writes = once.take_writes(&none);
        if once.shards() == 1 {
            writes.iter().for_each(|write| store(&mut stored, write));
            continue;
        }
        assert_eq!(writes.iter().map(|w| w.shard).collect::<Vec<_>>(), [1, 0]);
        for cut in 0..=writes.len() {
            let mut partly = stored.clone();
            writes[..cut].iter().for_each(|write| store(&mut partly, write));
            let (mut read, errors) = load(&partly);
            assert_eq!(errors, [], "after {cut} writes");
            if cut == 0 {
                assert_eq!(read.len(), n - 50);
                continue;
            }
            // With the first write the new half is there, the old half as it was before.
            assert!(read.len() >= n - 50, "after {cut} writes");
            read.take_writes(&none).iter().for_each(|write| store(&mut partly, write));
            let (again, errors) = load(&partly);
            assert_eq!(errors, []);
            same(&again, &read);
        }
    }
    assert!(before.len() == 1);
}

#[test]
fn damage_is_an_error_and_never_a_smaller_inventory() {
    let none = BTreeSet::new();
    let (mut inventory, mut whole) = (Inventory::default(), Stored::new());
    fill(&mut inventory, 0..3000);
    inventory.take_writes(&none).iter().for_each(|write| store(&mut whole, write));
    let last = inventory.shards() - 1;
    type Harm = fn(&mut Stored, u32);
    let cases: [(&str, Harm, &str); 6] = [
        ("missing", |s, n| drop(s.remove(&n)), "is missing"),
        ("emptied", |s, n| drop(s.insert(n, String::new())), "has no first line"),
        ("cut", |s, n| s.get_mut(&n).expect("there").truncate(1000), "the digest"),
        ("edited", |s, n| drop(s.insert(n, s[&n].replacen("true", "tru3", 1))), "the digest"),
        ("swapped", |s, n| drop(s.insert(n, s[&0].clone())), "it says it is shard 0"),
        ("newer", |s, n| drop(s.insert(n, s[&n].replace("driftless-inventory/1", "driftless-inventory/9"))), "format"),
    ];
    for (name, harm, says) in cases {
        let mut stored = whole.clone();
        harm(&mut stored, last);
        let (read, errors) = load(&stored);
        assert_eq!(errors.len(), 1, "{name}: {errors:?}");
        assert_eq!(errors[0].shard(), last, "{name}");
        assert!(errors[0].to_string().contains(says), "{name}: {}", errors[0]);
        assert!(read.len() < inventory.len() && !read.is_empty(), "{name}: what can be read is read");
    }
}
