//! Real listeners: who gets in, as whom, and how they end.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use axum::{Extension, Router};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Client, shown, tls_client};
use crate::clock;
use crate::http::guard::Times;
use crate::http::listen::{Limits, bind_socket, run_socket, run_tls};
use crate::http::tls::AdminTls;
use crate::http::{Actor, Api};
use crate::pki::{AgentRequest, Authority};
use driftless_protocol::id::ClusterId;

fn authority() -> Authority {
    let (certificate, key) = Authority::create("test", clock::seconds()).unwrap();
    Authority::load(certificate, &key).unwrap()
}

fn api() -> Api {
    let who = |Extension(Actor(name)): Extension<Actor>| async move { name };
    Api::over(Router::new().route("/who", get(who)), Times::default())
}

struct Served {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

async fn serve(authority: &Authority, limits: Limits) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = authority.issue_server(&["hub.test".to_owned()], clock::seconds()).unwrap();
    let tls = Arc::new(AdminTls::new(authority, &server).unwrap());
    let stop = CancellationToken::new();
    let task = tokio::spawn(run_tls(api(), listener, tls, limits, stop.clone()));
    Served { address, stop, task }
}

impl Served {
    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// An agent's certificate of this authority.
fn agent(authority: &Authority) -> Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&key).unwrap();
    let request = AgentRequest::parse(request.der()).unwrap();
    let issued = authority.issue_agent(ClusterId::from_bytes([7; 16]), &request, clock::seconds()).unwrap();
    let chain = vec![CertificateDer::from(issued.der)];
    Some((chain, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))))
}

#[tokio::test]
async fn only_operators_of_the_authority_get_in() {
    let (ours, theirs) = (authority(), authority());
    let served = serve(&ours, Limits::default()).await;
    let now = clock::seconds();

    for (what, identity) in
        [("no certificate", None), ("another authority's", shown(&theirs.issue_admin("alice", now).unwrap()))]
    {
        // TLS 1.3: a client learns of the refusal with its first answer.
        let answer = match tls_client(served.address, &ours, identity).await {
            Ok(mut client) => client.get("/who").await.map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        assert!(answer.is_err(), "{what}: {answer:?}");
    }

    let mut client = tls_client(served.address, &ours, agent(&ours)).await.unwrap();
    let got = client.get("/who").await.unwrap();
    assert_eq!(got.status, 403);
    let detail = got.problem().detail;
    assert!(detail.contains("agent of cluster 0707") && detail.contains("driftless://admin/"), "{detail}");

    // Valid for a client, but it names nobody.
    let nobody = ours.issue_admin("a b:c", now).unwrap();
    let mut client = tls_client(served.address, &ours, shown(&nobody)).await.unwrap();
    assert!(client.get("/who").await.unwrap().problem().detail.contains("names no operator"));

    let mut client = tls_client(served.address, &ours, shown(&ours.issue_admin("alice", now).unwrap())).await.unwrap();
    for _ in 0..2 {
        assert_eq!(&client.get("/who").await.unwrap().body[..], b"alice", "one connection, two requests");
    }
    served.end().await;
    assert!(client.get("/who").await.is_err(), "the idle connection was ended with the hub");
    client.connection.await.unwrap().ok();
}

#[tokio::test]
async fn whoever_says_nothing_is_cut_and_takes_no_place_for_good() {
    let ours = authority();
    let limits = Limits {
        handshakes: 1,
        handshake: Duration::from_millis(100),
        head: Duration::from_millis(100),
        ..Limits::default()
    };
    let served = serve(&ours, limits).await;
    let mut silent = TcpStream::connect(served.address).await.unwrap();
    assert_eq!(silent.read(&mut [0; 16]).await.unwrap(), 0, "a handshake that never comes is ended");
    let alice = shown(&ours.issue_admin("alice", clock::seconds()).unwrap());
    let mut silent_after = None;
    for _ in 0..20 {
        // Machines under load take longer than this test's short time for a handshake.
        if let Ok(mut client) =
            tls_client(served.address, &ours, alice.as_ref().map(|(c, k)| (c.clone(), k.clone_key()))).await
            && let Ok(got) = client.get("/who").await
        {
            assert_eq!(&got.body[..], b"alice");
            silent_after = Some(client);
            break;
        }
    }
    let client = silent_after.expect("the place of the silent one is free again");
    client.connection.await.unwrap().ok(); // ends by itself: idle
    served.end().await;
}

#[tokio::test]
async fn a_full_listener_lets_the_next_one_in_when_a_place_is_free() {
    let ours = authority();
    let limits = Limits { connections: 1, ..Limits::default() };
    let served = serve(&ours, limits).await;
    let admin = |name: &str| shown(&ours.issue_admin(name, clock::seconds()).unwrap());
    let mut first = tls_client(served.address, &ours, admin("first")).await.unwrap();
    assert_eq!(&first.get("/who").await.unwrap().body[..], b"first");
    let mut second = tls_client(served.address, &ours, admin("second")).await.unwrap();
    let asked = tokio::spawn(async move { second.get("/who").await.map(|got| got.body) });
    assert_eq!(&first.get("/who").await.unwrap().body[..], b"first", "the first keeps its place");
    drop(first.sender);
    assert_eq!(&asked.await.unwrap().unwrap()[..], b"second");
    served.end().await;
}

#[tokio::test]
async fn the_socket_knows_its_peer_and_goes_with_the_hub() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let uid = std::fs::metadata(folder.path()).unwrap().uid();
    // Left over by a hub that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listener = bind_socket(&path).unwrap();
    let found = std::fs::symlink_metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left in the folder");

    let stop = CancellationToken::new();
    let task = tokio::spawn(run_socket(api(), listener, path.clone(), Limits::default(), stop.clone()));
    let mut client = Client::over(UnixStream::connect(&path).await.unwrap()).await.unwrap();
    assert_eq!(client.get("/who").await.unwrap().body, format!("uid:{uid}"));
    assert!(bind_socket(&path).unwrap_err().to_string().contains("another hub"), "one in use is not taken away");
    assert_eq!(client.get("/who").await.unwrap().status, 200);
    stop.cancel();
    task.await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn only_our_own_socket_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    std::fs::write(&path, "somebody's file").unwrap();
    assert!(bind_socket(&path).unwrap_err().to_string().contains("no socket"));
    assert_eq!(std::fs::read(&path).unwrap(), b"somebody's file");
    std::fs::remove_file(&path).unwrap();

    let listener = bind_socket(&path).unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(run_socket(api(), listener, path.clone(), Limits::default(), stop.clone()));
    // It serves, hence it has looked at its file.
    let mut client = Client::over(UnixStream::connect(&path).await.unwrap()).await.unwrap();
    assert_eq!(client.get("/who").await.unwrap().status, 200);
    std::fs::rename(&path, folder.path().join("moved")).unwrap();
    let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    stop.cancel();
    task.await.unwrap();
    assert!(path.exists(), "another hub's socket stays");
    drop(other);
}
