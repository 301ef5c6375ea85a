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
    Arc::new(ObjectKey { group, kind, namespace: namespace.into(), name: format!("{n:0150}").into() })
}

fn fill(inventory: &mut Inventory, range: std::ops::Range<usize>) {
    for n in range {
        let unit = Arc::new(UnitId::kustomization("flux-system", format!("u{}", n % 5)));
        let account = ServiceAccount { namespace: "flux-system".into(), name: "deployer".into() };
        let record = UnitRecord {
            account: Some(account),
            prune: true,
            deletion_policy: DeletionPolicy::Orphan,
            suspended: true,
            flux: None,
        };
        inventory.put_unit(&unit, record);
        let uid = (n % 3 > 0).then(|| Uid::from(format!("00000000-0000-4000-8000-{n:012x}").as_str()));
        inventory.put(
            &key(n),
            Entry {
                unit,
                api_version: Arc::new("apps/v1".into()),
                uid,
                baseline: None,
                restored: n % 11 == 0,
                adopted: n % 13 == 0,
            },
        );
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
    inventory.count_delete(false, 90_000_000);
    assert!(!inventory.take_writes(&none).is_empty());
    inventory.stored();
    for write in inventory.take_writes(&none) {
        assert!(write.text.as_ref().is_some_and(|text| text.len() <= SHARD_BYTES));
        store(&mut stored, &write);
    }
    let (mut read, errors) = load(&stored);
    assert_eq!(errors, []);
    same(&inventory, &read);
    assert_eq!(read.deletes_in_last_hour(90_060_000), (1, 0));
    assert_eq!(read.deletes_in_last_hour(90_000_000 + 7_200_000), (0, 0));
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
    inventory.stored();
    inventory.take_writes(&none).iter().for_each(|write| store(&mut stored, write));
    for (to, order) in [(2000, vec![1, 0]), (9000, vec![1, 2, 3, 4, 5, 6, 7, 0])] {
        let mut grown = inventory.clone();
        fill(&mut grown, 400..to);
        let writes = grown.take_writes(&none);
        assert_eq!(writes.iter().map(|w| w.shard).collect::<Vec<_>>(), order);
        for cut in 0..=writes.len() {
            let mut partly = stored.clone();
            writes[..cut].iter().for_each(|write| store(&mut partly, write));
            let (mut read, errors) = load(&partly);
            assert_eq!(errors, [], "after {cut} writes");
            if cut == 0 {
                assert_eq!(read.len(), 400);
                continue;
            }
            // What was there before is there in any case.
            assert!(inventory.iter().all(|(key, _)| read.get(key).is_some()), "after {cut} writes");
            read.take_writes(&none).iter().for_each(|write| store(&mut partly, write));
            let (again, errors) = load(&partly);
            assert_eq!(errors, []);
            same(&again, &read);
        }
    }
}

#[test]
fn the_first_write_may_be_cut_off_and_a_lost_shard_after_it_is_seen() {
    let none = BTreeSet::new();
    let (mut inventory, mut stored) = (Inventory::default(), Stored::new());
    fill(&mut inventory, 0..9000);
    let writes = inventory.take_writes(&none);
    assert_eq!(writes.len(), 8);
    for cut in 0..=writes.len() {
        let mut partly = Stored::new();
        writes[..cut].iter().for_each(|write| store(&mut partly, write));
        assert_eq!(load(&partly).1, [], "after {cut} writes");
    }
    writes.iter().for_each(|write| store(&mut stored, write));
    inventory.stored();
    inventory.take_writes(&none).iter().for_each(|write| store(&mut stored, write));
    stored.remove(&5);
    assert_eq!(load(&stored).1, [InventoryError::Missing { shard: 5, of: 8 }]);
}

#[test]
fn damage_is_an_error_and_never_a_smaller_inventory() {
    let none = BTreeSet::new();
    let (mut inventory, mut whole) = (Inventory::default(), Stored::new());
    fill(&mut inventory, 0..3000);
    inventory.take_writes(&none).iter().for_each(|write| store(&mut whole, write));
    inventory.stored();
    inventory.take_writes(&none).iter().for_each(|write| store(&mut whole, write));
    let last = inventory.shards() - 1;
    type Harm = fn(&mut Stored, u32);
    let cases: [(&str, Harm, &str); 6] = [
        ("missing", |s, n| drop(s.remove(&n)), "is missing"),
        ("emptied", |s, n| drop(s.insert(n, String::new())), "has no first line"),
        ("cut", |s, n| s.get_mut(&n).expect("there").truncate(1000), "the digest"),
        ("edited", |s, n| drop(s.insert(n, s[&n].replacen("apps/v1", "apps/v2", 1))), "the digest"),
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
