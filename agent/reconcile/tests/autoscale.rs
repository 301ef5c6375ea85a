//! Autoscalers that come and go.
#![allow(clippy::unwrap_used)] // a panic here is a failed test

mod world;

use serde_json::json;
use world::*;

/// Git drops an autoscaler: what it had made of the replicas is the declared number again.
#[test]
fn replicas_are_the_declared_ones_again_when_the_autoscaler_goes() {
    for (foreign, image) in [(false, "nginx"), (true, "nginx"), (false, "nginx:2"), (true, "nginx:2")] {
        let mut w = World::new();
        w.cluster.served.push(served("autoscaling", "HorizontalPodAutoscaler", true));
        w.discover();
        let hpa = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "maxReplicas": 10}});
        let web = key("apps", "Deployment", "default", "web");
        let declared = |image: &str| {
            let mut web = deployment("web", 3);
            web["spec"]["template"]["spec"]["image"] = image.into();
            unit("a", vec![web])
        };
        let with = |image: &str| match foreign {
            true => vec![declared(image)],
            false => vec![declared(image), unit("b", vec![hpa.clone()])],
        };
        if foreign {
            w.cluster.apply(&hpa, "kubectl").unwrap();
        }
        w.commit(&with("nginx"));
        w.settle();
        w.cluster.update_through(&web, "kube-controller-manager", "scale", &[("spec|replicas", Some(json!(10)))]);
        w.settle();
        // Perhaps applied once more meanwhile, then without the replicas.
        w.commit(&with(image));
        w.settle();
        assert_eq!(w.cluster.get(&web).unwrap()["spec"]["replicas"], 10);
        match foreign {
            // While the watch was cut: only a list tells.
            true => {
                let gone = key("autoscaling", "HorizontalPodAutoscaler", "default", "web");
                w.cluster.delete(&gone, None, None).unwrap();
                w.cluster.events.clear();
                w.relist("HorizontalPodAutoscaler");
            }
            false => w.commit(&[declared(image)]),
        }
        w.settle();
        assert_eq!(w.cluster.get(&web).unwrap()["spec"]["replicas"], 3, "foreign: {foreign}");
        let report = w.report("a");
        assert_eq!((report.counts.drifted, report.counts.in_sync), (0, 1), "{report:#?}");
    }
}
