//! Reading and matching, as tables.

use serde_json::json;

use super::*;

const OWN: &str = "driftless-system";
const NOW: Millis = 1_795_260_000_000;

fn pause(namespace: &str, spec: &Value) -> Result<Pause, Unusable> {
    let live = json!({
        "apiVersion": "driftless.dev/v1alpha1",
        "kind": "Pause",
        "metadata": {
            "namespace": namespace, "name": "p", "uid": format!("{namespace}-{spec}"), "generation": 3,
            "creationTimestamp": "2026-11-21T11:00:00Z",
        },
        "spec": spec,
    });
    read(&live, OWN)
}

fn spec(more: Value) -> Value {
    let mut spec = json!({"reason": "migration", "expires": "2026-11-21T12:00:00Z"});
    let (Some(into), Value::Object(more)) = (spec.as_object_mut(), more) else { panic!("maps") };
    into.extend(more);
    spec
}

fn web() -> ObjectKey {
    ObjectKey { group: "apps".into(), kind: "Deployment".into(), namespace: "shop".into(), name: "web".into() }
}

#[test]
fn what_a_pause_covers_depends_on_its_namespace() {
    let unit = UnitId::kustomization;
    let deployment = json!({"group": "apps", "kind": "Deployment", "name": "web"});
    let role = json!({"group": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"});
    let role_key = ObjectKey {
        group: "rbac.authorization.k8s.io".into(),
        kind: "ClusterRole".into(),
        namespace: "".into(),
        name: "r".into(),
    };
    for (namespace, more, want) in [
        (OWN, json!({"cluster": true}), Ok(Covers::Cluster)),
        ("shop", json!({"cluster": true}), Err("spec.cluster is for a Pause in driftless-system")),
        (OWN, json!({"unit": {"name": "a"}}), Ok(Covers::Unit(unit("flux-system", "a")))),
        (OWN, json!({"unit": {"name": "a", "namespace": "team"}}), Ok(Covers::Unit(unit("team", "a")))),
        ("team", json!({"unit": {"name": "a"}}), Ok(Covers::Unit(unit("team", "a")))),
        ("team", json!({"unit": {"name": "a", "namespace": "team"}}), Ok(Covers::Unit(unit("team", "a")))),
        ("team", json!({"unit": {"name": "a", "namespace": "flux-system"}}), Err("covers only what is in team")),
        ("shop", json!({"object": deployment}), Ok(Covers::Object(web()))),
        (OWN, json!({"object": role}), Ok(Covers::Object(role_key))),
        (OWN, json!({"object": {"kind": "Pod", "name": ""}}), Err("spec.object.name is missing")),
        (OWN, json!({"unit": {"kind": "Deployment", "name": "a"}}), Err("spec.unit.kind is Deployment")),
        (OWN, json!({}), Err("exactly one of")),
        (OWN, json!({"cluster": false}), Err("exactly one of")),
        (OWN, json!({"cluster": true, "unit": {"name": "a"}}), Err("exactly one of")),
        (OWN, json!({"unit": "a"}), Err("spec.unit is no map")),
        (OWN, json!({"cluster": true, "reason": " "}), Err("spec.reason is missing")),
        (OWN, json!({"cluster": true, "expires": null}), Err("spec.expires is missing")),
        (OWN, json!({"cluster": true, "expires": "tomorrow"}), Err("write a time such as")),
    ] {
        let read = pause(namespace, &spec(more.clone()));
        match (read, want) {
            (Ok(read), Ok(covers)) => {
                assert_eq!(read.covers, covers, "{namespace} {more}");
                assert_eq!((read.generation, read.expires), (3, NOW + 2_400_000), "{namespace} {more}");
            }
            (Err(unusable), Err(part)) => assert!(unusable.why.contains(part), "{namespace} {more}: {}", unusable.why),
            (read, want) => panic!("{namespace} {more}: {read:?}, not {want:?}"),
        }
    }
}

#[test]
fn a_zone_other_than_utc_is_understood() {
    for expires in ["2026-11-21T12:00:00Z", "2026-11-21T13:00:00+01:00", "2026-11-21T06:30:00.5-05:30"] {
        let read = pause(OWN, &spec(json!({"cluster": true, "expires": expires}))).expect(expires);
        assert_eq!(read.expires / 1000, NOW / 1000 + 2_400, "{expires}");
    }
}

#[test]
fn objects_are_held_back_by_the_cluster_their_unit_or_by_name() {
    let shop = UnitId::kustomization("flux-system", "shop");
    let other = UnitId::kustomization("flux-system", "other");
    let object = json!({"object": {"group": "apps", "kind": "Deployment", "name": "web", "namespace": "shop"}});
    let second = ObjectKey { name: "second".into(), ..web() };
    // Per pause: web of shop, web of another unit, another object of shop, web as nobody's.
    for (more, held) in [
        (json!({"cluster": true}), [true, true, true, true]),
        (json!({"unit": {"name": "shop"}}), [true, false, true, false]),
        (object, [true, true, false, true]),
    ] {
        let pauses = Pauses::new(vec![pause(OWN, &spec(more.clone()))], OWN, NOW);
        let seen = [(Some(&shop), web()), (Some(&other), web()), (Some(&shop), second.clone()), (None, web())]
            .map(|(unit, key)| pauses.holding(unit, &key).is_some());
        assert_eq!(seen, held, "{more}");
        let over = pauses.at_time(NOW + 2_400_000);
        assert!(over.is_empty() && over.holding(Some(&shop), &web()).is_none(), "{more}");
        assert_eq!(pauses.ended(&over).len(), 1, "{more}");
        assert_eq!((pauses.next_end(), over.next_end()), (Some(NOW + 2_400_000), None), "{more}");
    }
}

#[test]
fn a_pause_of_everything_leaves_pauses_alone() {
    let pauses = Pauses::new(vec![pause(OWN, &spec(json!({"cluster": true})))], OWN, NOW);
    let of =
        |group: &str| ObjectKey { group: group.into(), kind: "Pause".into(), namespace: OWN.into(), name: "p".into() };
    assert!(pauses.holding(None, &of("driftless.dev")).is_none());
    assert!(pauses.holding(None, &of("example.com")).is_some());
}

#[test]
fn the_longest_speaks_and_a_changed_reason_is_no_end() {
    let short = pause(OWN, &spec(json!({"cluster": true})));
    let mut long = pause(OWN, &spec(json!({"cluster": true, "expires": "2026-11-21T14:00:00Z"})));
    let all = Pauses::new(vec![short.clone(), long.clone(), pause(OWN, &json!({}))], OWN, NOW);
    let shop = UnitId::kustomization("flux-system", "shop");
    assert_eq!(all.holding_unit(&shop), long.as_ref().ok());
    assert_eq!((all.active().len(), all.unusable().len()), (2, 1));
    if let Ok(long) = &mut long {
        long.reason = "still".into();
    }
    let later = Pauses::new(vec![long], OWN, NOW);
    let ended = all.ended(&later);
    assert_eq!(ended.iter().collect::<Vec<_>>(), short.iter().collect::<Vec<_>>());
}

#[test]
fn a_flood_of_them_does_not_displace_those_of_the_agents_namespace() {
    let mut all: Vec<_> =
        (0..MOST + 5).map(|n| pause("team", &spec(json!({"unit": {"name": format!("u{n}")}})))).collect();
    all.push(pause(OWN, &spec(json!({"cluster": true}))));
    let pauses = Pauses::new(all, OWN, NOW);
    assert_eq!(pauses.active().len(), MOST);
    assert!(pauses.holding_unit(&UnitId::kustomization("x", "y")).is_some());
    assert!(pauses.problem().is_some_and(|p| p.code == "TooManyPauses"));
}
