//! The loop against an API server that answers or is silent, without anything to enforce.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use tokio::sync::oneshot;

use super::*;
use crate::cluster::discovery::tests::Server;

const HOUR: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(20);
const NOW: Millis = 1_795_260_000_000;

/// A driver at work, and all it talks with.
struct World {
    server: Server,
    leadership: watch::Sender<Leadership>,
    kinds: watch::Sender<u64>,
    queries: mpsc::Sender<Query>,
    reports: mpsc::Receiver<ToHub>,
    _to_driver: mpsc::Sender<FromHub>,
    running: JoinSet<Result<(), ApiError>>,
}

fn leader(term: u64, left: Duration) -> Leadership {
    Leadership::Leader { term, until: Instant::now() + left }
}

impl World {
    fn new(first: Leadership, clock: fn() -> Millis) -> Self {
        let server = Server::new(&[]);
        let maps = "/api/v1/namespaces/driftless-system/configmaps";
        server.answer(maps, 200, json!({"items": []}));
        for absent in [&format!("{maps}/driftless-contests"), "/apis/driftless.dev/v1alpha1/pauses"] {
            server.answer(absent, 404, json!({"message": "not found", "code": 404}));
        }
        let (leadership, leads) = watch::channel(first);
        let (kinds, kinds_changed) = watch::channel(0);
        let (queries, of_driver) = mpsc::channel(1);
        let (to_hub, reports) = mpsc::channel(64);
        let (to_driver, from_hub) = mpsc::channel(1);
        let api = server.api();
        let setup = Setup {
            applier_client: api.client().clone(),
            api,
            config: kube::Config::new("http://127.0.0.1:1".parse().expect("an address")),
            applier: applier("driftless-applier"),
            rules: Rules::new([0; 32]),
            leadership: leads,
            term: 1,
            stored: None,
            from_hub,
            to_hub,
            queries: of_driver,
            kinds_changed,
            pod: "agent-0".into(),
            board: Board::new(false, clock()),
            fact_config_maps: Vec::new(),
            clock,
        };
        let mut running = JoinSet::new();
        running.spawn(run(setup, CancellationToken::new()));
        Self { server, leadership, kinds, queries, reports, _to_driver: to_driver, running }
    }

    async fn ended(&mut self) -> Result<(), ApiError> {
        let ended = tokio::time::timeout(PATIENCE, self.running.join_next()).await;
        ended.expect("it goes on").expect("it ran").expect("it did not panic")
    }

    /// Whether the loop goes round.
    async fn answers(&self) -> Arc<Served> {
        let (answer, served) = oneshot::channel();
        self.queries.send(Query::Served { answer }).await.expect("it runs");
        tokio::time::timeout(PATIENCE, served).await.expect("it is held up").expect("an answer")
    }

    /// The next report of the cluster.
    async fn report(&mut self) -> ClusterReport {
        loop {
            match self.reports.recv().await.expect("it runs") {
                ToHub::Cluster(report) => return report,
                _ => continue,
            }
        }
    }
}

#[tokio::test]
async fn an_api_server_that_is_silent_about_its_kinds_holds_up_nothing() {
    let world = World::new(leader(1, HOUR), || NOW);
    assert!(world.answers().await.any_version("apps", "Deployment").is_some());
    world.server.silent("/apis");
    world.kinds.send_modify(|n| *n += 1);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(1) {
        let served = tokio::time::timeout(Duration::from_millis(200), world.answers()).await.expect("it is held up");
        assert!(served.any_version("apps", "Deployment").is_some(), "what was known stays");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_term_that_is_over_ends_the_leading_also_when_the_next_has_begun() {
    let mut world = World::new(leader(1, HOUR), || NOW);
    world.answers().await;
    world.leadership.send_replace(leader(1, 2 * HOUR));
    world.answers().await;
    world.leadership.send_replace(leader(2, HOUR));
    assert_eq!(world.ended().await, Ok(()));
}

#[tokio::test]
async fn nothing_is_reported_while_nothing_may_be_done() {
    let mut world = World::new(leader(1, Duration::ZERO), || NOW);
    world.answers().await;
    let early = tokio::time::timeout(Duration::from_millis(500), world.report()).await;
    assert!(early.is_err(), "{early:?}");
    world.leadership.send_replace(leader(1, HOUR));
    let report = tokio::time::timeout(PATIENCE, world.report()).await.expect("a report");
    assert_eq!((report.leader.as_str(), report.kubernetes_version.as_str()), ("agent-0", "v1.36.0"));
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_leading_begin_again() {
    static CLOCK: AtomicU64 = AtomicU64::new(NOW);
    let mut world = World::new(leader(1, HOUR), || CLOCK.load(Ordering::Relaxed));
    world.answers().await;
    CLOCK.fetch_add(3_600_000, Ordering::Relaxed);
    world.leadership.send_replace(leader(1, HOUR));
    world.answers().await;
    CLOCK.fetch_sub(3_600_000, Ordering::Relaxed);
    // As each renewal of the lease wakes it.
    world.leadership.send_replace(leader(1, HOUR));
    assert_eq!(world.ended().await, Err(ApiError::Answer(CLOCK_WENT_BACK.to_owned())));
}
