//! What the agent does not believe, and what comes of it.

use std::sync::Arc;

use driftless_protocol::head::Head;
use driftless_protocol::id::{ClusterId, Digest};
use driftless_protocol::message::RefusalCode;
use driftless_protocol::signing::{Purpose, SecretKey, Signed};

use crate::common::{Made, START, make, sign_trust, signer, trust_document};
use crate::{Tamper, World};

/// Offers one head to an agent that has generation 5 and expects a refusal.
fn refused(name: &str, made: &Made, trust: &[Signed], expected: RefusalCode) {
    let mut world = World::new();
    world.connect();
    let stored = make(5, 2, 2, "stored");
    world.offer(&stored);
    world.run();
    assert!(world.has(&stored), "{name}");
    world.offer_with(made, trust);
    world.run();
    assert_eq!(world.refused.iter().map(|r| r.1).collect::<Vec<_>>(), [expected], "{name}");
    assert_eq!(world.hub_refused, [expected], "{name}: the hub is told");
    assert!(world.has(&stored), "{name}: what was stored stays");
    assert_eq!(world.bundles.len(), 1, "{name}: nothing else is stored");
    // The agent is not stuck: a good offer still passes.
    let next = make(9, 2, 2, "next");
    world.offer(&next);
    world.run();
    assert!(world.has(&next), "{name}: a good offer passes afterwards");
}

#[test]
fn heads_that_must_not_be_believed_are_refused_with_their_code() {
    let one = [sign_trust(&trust_document(1))];
    let next = || make(6, 2, 2, "next");
    let mut forged = next();
    forged.signed = SecretKey::from_seed(&[66; 32]).sign(Purpose::Head, &forged.head).unwrap();
    let mut flipped = next();
    flipped.signed.bytes[40] ^= 1;
    let mut purpose = next();
    purpose.signed = signer().sign(Purpose::Trust, &purpose.head).unwrap();
    let other = ClusterId::from_bytes([0xee; 16]);
    let cases: Vec<(&str, Made, RefusalCode)> = vec![
        ("unknown signer", forged, RefusalCode::NotTrusted),
        ("tampered head", flipped, RefusalCode::NotTrusted),
        ("another purpose", purpose, RefusalCode::NotTrusted),
        ("another cluster", next().sign(|h| h.cluster = other), RefusalCode::WrongCluster),
        ("a copy of the cluster", next().sign(|h| h.kube_uid = "other".into()), RefusalCode::WrongCluster),
        ("older", make(4, 2, 2, "old"), RefusalCode::Older),
        ("equivocation", make(5, 2, 2, "twin"), RefusalCode::Equivocation),
        ("expired", next().sign(|h| h.expires = START), RefusalCode::Expired),
        ("issued ahead", next().sign(|h| h.issued = START + 400), RefusalCode::Future),
        ("epoch ahead", next().sign(|h| h.generation.epoch = START + 3700), RefusalCode::Future),
        ("stolen key raises the trust epoch", next().sign(|h| h.generation.trust_epoch = 9), RefusalCode::NotTrusted),
        ("newer trust", next().sign(|h| h.trust_version = 2), RefusalCode::TrustChain),
        ("too large", next().sign(|h| h.raw_total = u64::MAX), RefusalCode::BadBundle),
        ("wrong total", next().sign(|h| h.raw_total += 1), RefusalCode::BadBundle),
        ("other format", next().sign(|h| h.format = 2), RefusalCode::BadBundle),
    ];
    for (name, made, expected) in cases {
        refused(name, &made, &one, expected);
    }
    // Just inside the limits of time.
    let inside: [fn(&mut Head); 2] = [|h| h.issued = START + 299, |h| h.generation.epoch = START + 3600];
    for change in inside {
        let mut world = World::new();
        world.connect();
        let made = next().sign(change);
        world.offer(&made);
        world.run();
        assert!(world.has(&made));
    }
}

#[test]
fn tampered_withheld_and_unasked_blobs_end_an_offer_and_nothing_is_stored() {
    let cases: Vec<(&str, Tamper, RefusalCode)> = vec![
        (
            "one byte of every object flipped",
            Box::new(|blobs| {
                for (_, bytes) in blobs.iter_mut() {
                    let mut other = bytes.to_vec();
                    other[0] ^= 1;
                    *bytes = other.into();
                }
            }),
            RefusalCode::BadBundle,
        ),
        ("nothing comes", Box::new(Vec::clear), RefusalCode::Incomplete),
        (
            "other blobs come",
            Box::new(|blobs| *blobs = vec![(Digest::of(b"x"), Arc::from(&b"x"[..]))]),
            RefusalCode::Incomplete,
        ),
    ];
    for (name, tamper, expected) in cases {
        let mut world = World::new();
        world.tamper = Some(tamper);
        world.connect();
        world.offer(&make(1, 2, 2, "a"));
        world.run();
        assert_eq!(world.refused, [(make(1, 2, 2, "a").head.generation, expected)], "{name}");
        assert!(world.bundles.is_empty() && world.agent.ratchet().is_none(), "{name}");
    }
}

#[test]
fn a_refusal_that_time_may_heal_is_offered_again() {
    for (code, pause) in [(RefusalCode::LedgerFailed, 2_000), (RefusalCode::LedgerFull, 30_000)] {
        let mut world = World::new();
        world.fail_store = Some(code);
        world.connect();
        let made = make(1, 2, 2, "a");
        world.offer(&made);
        world.run();
        assert_eq!(world.hub_refused, [code]);
        // Twice as long after the second refusal.
        world.pass(pause + 500);
        assert_eq!(world.hub_refused, [code, code]);
        world.fail_store = None;
        world.pass(2 * pause - 1_000);
        assert!(!world.has(&made), "{code:?}");
        world.pass(1_500);
        assert!(world.has(&made), "{code:?}");
    }
}

#[test]
fn trust_documents_travel_with_the_offer_and_stay_whatever_becomes_of_the_head() {
    let mut two = trust_document(2);
    let new_signer = SecretKey::from_seed(&[7; 32]);
    two.signers = vec![new_signer.public()];
    two.trust_epoch = 2;
    let chain = [sign_trust(&trust_document(1)), sign_trust(&two)];
    let mut world = World::new();
    world.connect();
    // Signed by the old key: refused, but the documents stay.
    world.offer_with(&make(1, 1, 1, "a"), &chain);
    world.run();
    assert_eq!(world.refused.last().map(|r| r.1), Some(RefusalCode::NotTrusted));
    assert_eq!(world.agent.trust().version, 2);
    let mut made = make(1, 1, 1, "b");
    made.head.generation.trust_epoch = 2;
    made.head.trust_version = 2;
    made.signed = new_signer.sign(Purpose::Head, &made.head).unwrap();
    world.offer_with(&made, &chain);
    world.run();
    assert!(world.has(&made));

    // A document that skips a version, or is signed by nobody, changes nothing.
    let mut world = World::new();
    world.connect();
    let skipped = [sign_trust(&trust_document(1)), sign_trust(&trust_document(3))];
    world.offer_with(&make(1, 1, 1, "a"), &skipped);
    world.run();
    assert_eq!(world.refused.last().map(|r| r.1), Some(RefusalCode::TrustChain));
    assert_eq!(world.agent.trust().version, 1);
}

#[test]
fn an_expired_trust_document_refuses_new_work_until_the_next_one() {
    let mut expired = trust_document(2);
    expired.expires = START;
    let two = [sign_trust(&trust_document(1)), sign_trust(&expired)];
    let mut world = World::new();
    world.connect();
    let stored = make(5, 2, 2, "stored");
    world.offer(&stored);
    world.run();
    world.offer_with(&make(6, 1, 1, "a"), &two);
    world.run();
    assert_eq!(world.hub_refused, [RefusalCode::Expired]);
    assert!(world.has(&stored));
    let three = [two[0].clone(), two[1].clone(), sign_trust(&trust_document(3))];
    let next = make(7, 1, 1, "b");
    world.offer_with(&next, &three);
    world.run();
    assert!(world.has(&next));
}
