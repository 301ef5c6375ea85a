//! Questions that operators have the hub ask: an agent that only answers, and what operators are told.

use std::time::Duration;

use driftless_protocol::api::{DryRunRequest, Problem, problem};
use driftless_protocol::ask::{
    ASKS_OPEN, Answer, DryRunAnswer, DryRunObject, OrphansAnswer, OrphansQuestion, Question, refusal,
};
use driftless_protocol::id::UnitId;
use driftless_protocol::message::{AgentToHub, Hello, HubToAgent, WIRE_VERSION};
use driftless_protocol::object::ObjectKey;
use driftless_protocol::quic::{self, stream};
use quinn::Connection;

use crate::agent::{Identity, enrol, session_tls};
use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(30);

/// A session that says hello, takes what it is sent, and nothing else.
async fn connect(world: &World, identity: &Identity, wire_max: u8) -> (Connection, tokio::task::JoinHandle<()>) {
    let endpoint = quic::agent_endpoint("127.0.0.1:0".parse().unwrap()).unwrap();
    let name = &identity.token.server_name;
    let connection = quic::connect(&endpoint, session_tls(identity), world.address, name, PATIENCE).await.unwrap();
    let (mut sender, mut receiver) = stream::open_control(&connection).await.unwrap();
    let hello = Hello {
        wire_max,
        agent_version: "0.0.9".into(),
        cluster: identity.grant.cluster,
        kube_uid: identity.kube_uid.clone(),
        ratchet: None,
        trust_version: 1,
        session: 1,
        pod: "pod-0".into(),
    };
    sender.send(&AgentToHub::Hello(hello)).await.unwrap();
    let welcome = receiver.receive().await.unwrap();
    assert!(matches!(welcome, Some(HubToAgent::Welcome(w)) if w.wire == wire_max.min(WIRE_VERSION)));
    let reading = tokio::spawn(async move {
        // Both halves are kept open until the hub ends.
        let _sender = sender;
        let _endpoint = endpoint;
        while let Ok(Some(_)) = receiver.receive().await {}
    });
    (connection, reading)
}

async fn start() -> (World, Identity) {
    let world = World::start(&[]).await;
    let token = world.token("prod", &[]).await;
    let identity = enrol(world.address, &token, "uid-prod").await.unwrap();
    (world, identity)
}

async fn orphans(world: &World) -> Result<OrphansAnswer, Problem> {
    world.get("/clusters/prod/orphans?namespaces=a,b&kinds=&system=true").await
}

/// The next question, answered with this.
async fn answer_one(connection: &Connection, answer: Answer) -> Question {
    let mut asked = tokio::time::timeout(PATIENCE, stream::accept_ask(connection)).await.unwrap().unwrap();
    let question = Question::unpack(&asked.read().await.unwrap()).unwrap();
    asked.answer(&answer.pack()).await.unwrap();
    question
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_answer_is_said_to_be_away_or_too_old() {
    let (mut world, identity) = start().await;
    let away = orphans(&world).await.unwrap_err();
    assert_eq!((away.code.as_str(), away.status), (problem::UNAVAILABLE, 503));
    assert!(away.detail.contains("the agent of prod is not connected"), "{}", away.detail);

    let (connection, _reading) = connect(&world, &identity, 2).await;
    let old = orphans(&world).await.unwrap_err();
    assert_eq!(old.code, problem::CONFLICT);
    for words in ["too old to answer", "version 0.0.9, wire version 2"] {
        assert!(old.detail.contains(words), "{}", old.detail);
    }
    connection.close(quic::close::DONE, b"");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_reach_the_agent_and_its_answer_comes_back() {
    let (mut world, identity) = start().await;
    let (connection, _reading) = connect(&world, &identity, WIRE_VERSION).await;
    let found = OrphansAnswer { found: 7, looked: 9, ..OrphansAnswer::default() };
    let (told, question) = tokio::join!(orphans(&world), answer_one(&connection, Answer::Orphans(found.clone())));
    assert_eq!(told.unwrap(), found);
    let wanted = OrphansQuestion { namespaces: vec!["a".into(), "b".into()], kinds: Vec::new(), system: true };
    assert_eq!(question, Question::Orphans(wanted));

    // A refusal is told in its words; another answer is none.
    let key = ObjectKey { group: "".into(), kind: "ConfigMap".into(), namespace: "a".into(), name: "b".into() };
    let object = DryRunObject { unit: UnitId::kustomization("a", "apps"), key, account: None, body: "{}".into() };
    let request = DryRunRequest { objects: vec![object] };
    for (answer, code, words) in [
        (Answer::refused(refusal::DISABLED, "switched off here"), problem::FORBIDDEN, "switched off here"),
        (Answer::refused(refusal::UNKNOWN, "what?"), problem::CONFLICT, "what?"),
        (Answer::Orphans(found), problem::UNAVAILABLE, "another question"),
    ] {
        let asked = world.post::<DryRunAnswer>("/clusters/prod/dry-run", &request);
        let (told, question) = tokio::join!(asked, answer_one(&connection, answer));
        let problem = told.unwrap_err();
        assert_eq!(problem.code, code, "{problem:?}");
        assert!(problem.detail.contains(words), "{problem:?}");
        let Question::DryRun(question) = question else { panic!("another question") };
        assert_eq!(question.objects, request.objects);
    }
    let empty: Result<DryRunAnswer, Problem> = world.post("/clusters/prod/dry-run", &DryRunRequest::default()).await;
    assert_eq!(empty.unwrap_err().code, problem::BAD_REQUEST);
    let audit: serde_json::Value = world.get("/audit").await.unwrap();
    let actions: Vec<&str> = audit["items"].as_array().unwrap().iter().filter_map(|r| r["action"].as_str()).collect();
    assert!(actions.contains(&"orphans") && actions.contains(&"dryRun"), "{actions:?}");
    connection.close(quic::close::DONE, b"");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_few_are_open_and_all_are_told_when_the_agent_is_lost() {
    let (mut world, identity) = start().await;
    let (connection, _reading) = connect(&world, &identity, WIRE_VERSION).await;
    let asked: Vec<_> = (0..ASKS_OPEN + 2).map(|_| orphans(&world)).collect();
    let held = async {
        let mut open = Vec::new();
        for _ in 0..ASKS_OPEN {
            let mut asked = tokio::time::timeout(PATIENCE, stream::accept_ask(&connection)).await.unwrap().unwrap();
            asked.read().await.unwrap();
            open.push(asked);
        }
        let more = tokio::time::timeout(Duration::from_millis(300), stream::accept_ask(&connection)).await;
        assert!(more.is_err(), "a fifth question at a time");
        // One answered makes room for the next.
        let found = OrphansAnswer { found: 1, ..OrphansAnswer::default() };
        open.pop().unwrap().answer(&Answer::Orphans(found).pack()).await.unwrap();
        let mut next = tokio::time::timeout(PATIENCE, stream::accept_ask(&connection)).await.unwrap().unwrap();
        next.read().await.unwrap();
        connection.close(quic::close::DONE, b"");
    };
    let (told, ()) = tokio::join!(futures::future::join_all(asked), held);
    let (good, bad): (Vec<_>, Vec<_>) = told.into_iter().partition(Result::is_ok);
    assert_eq!((good.len(), bad.len()), (1, ASKS_OPEN + 1));
    for problem in bad.into_iter().filter_map(Result::err) {
        assert_eq!(problem.code, problem::UNAVAILABLE);
        assert!(problem.detail.contains("was lost") || problem.detail.contains("not connected"), "{problem:?}");
    }
    world.stop().await;
}
