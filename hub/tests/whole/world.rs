//! A hub on loopback with a real Git repository, and the admin API over its socket.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use driftless_hub::{Config, Hub, InitOptions, clock, init};
use driftless_protocol::api::{JoinTokenCreated, JoinTokenRequest, Problem};
use driftless_protocol::id::Digest;
use driftless_protocol::quic::tls::cluster_uri;
use driftless_protocol::token::JoinToken;
use driftless_store::{Certificate, Location, Store};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, Identity, Ledger, enrol};

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) address: std::net::SocketAddr,
    pub(crate) admin: std::net::SocketAddr,
    config: PathBuf,
    running: Option<(CancellationToken, tokio::task::JoinHandle<Result<(), String>>)>,
}

impl World {
    /// A hub over a repository with these files.
    pub(crate) async fn start(files: &[(&str, &str)]) -> Self {
        // RUST_LOG=debug shows what the hub does.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let dir = tempfile::tempdir().unwrap();
        let repo = dir.path().join("repo");
        std::fs::create_dir(&repo).unwrap();
        git(&repo, &["init", "-q", "-b", "main"]);
        write(&repo, files);
        git(&repo, &["add", "-A"]);
        git(&repo, &["commit", "-q", "--allow-empty", "-m", "first"]);
        let hub = dir.path().join("hub");
        let any = "127.0.0.1:0".parse().unwrap();
        let options = InitOptions {
            dir: hub.clone(),
            addresses: vec!["127.0.0.1:1".into()],
            listen: any,
            admin_listen: any,
            admin_address: "127.0.0.1:1".into(),
            server_name: "hub.test".into(),
            context: hub.join("context.yaml"),
            source: Some((format!("file://{}", repo.display()), "main".into())),
            root: None,
        };
        let config = init(&options, clock::seconds()).await.unwrap();
        let unset = "127.0.0.1:0".parse().unwrap();
        let mut world = Self { dir, address: unset, admin: unset, config, running: None };
        world.resume().await;
        world
    }

    /// Starts the hub again, on the port it had.
    pub(crate) async fn resume(&mut self) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        let (stop, hub) = loop {
            let mut config = Config::load(&self.config).unwrap();
            config.fleet.listen = self.address;
            let stop = CancellationToken::new();
            match Hub::bind(config, stop.clone()).await {
                Ok(hub) => break (stop, hub),
                // What a killed hub held is let go of a moment later, since it shares this process.
                Err(error) if tokio::time::Instant::now() > deadline => panic!("the hub does not start: {error:?}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        self.address = hub.fleet_address().unwrap();
        self.admin = hub.admin_address().unwrap();
        self.running = Some((stop, tokio::spawn(hub.run())));
    }

    /// Stops the hub in order.
    pub(crate) async fn stop(&mut self) {
        let (stop, task) = self.running.take().unwrap();
        stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(30), task).await.expect("the hub does not stop");
        ended.unwrap().unwrap();
    }

    /// Gives a cluster a certificate that ended that long ago as its newest, while the hub is away: as if it had been away since.
    pub(crate) async fn expire(&mut self, identity: &Identity, ago: Duration) -> Identity {
        self.stop().await;
        let read = |name: &str| std::fs::read_to_string(self.path(&format!("hub/keys/{name}"))).unwrap();
        let ca = rcgen::KeyPair::from_pem(&read("ca.key")).unwrap();
        let issuer = rcgen::Issuer::from_ca_cert_pem(&read("ca.crt"), ca).unwrap();
        let end = clock::seconds() - ago.as_secs();
        let at = |seconds| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
        let mut params = rcgen::CertificateParams::default();
        (params.not_before, params.not_after) = (at(end - 86_400), at(end));
        params.subject_alt_names = vec![rcgen::SanType::URI(cluster_uri(identity.grant.cluster).try_into().unwrap())];
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let key = rcgen::KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &issuer).unwrap().der().to_vec();

        let store = Store::open(&Location::Sqlite(self.path("hub/hub.db")), clock::seconds()).await.unwrap();
        let (cluster, digest) = (identity.grant.cluster, Digest::of(&der));
        let record = Certificate { digest, serial: "1".into(), not_after: end };
        assert!(store.issued(cluster, Digest::of(b"its key"), record, der.clone()).await.unwrap());
        store.admit(cluster, digest, clock::millis()).await.unwrap();
        store.close().await;
        self.resume().await;
        let mut expired = identity.same(key);
        expired.grant.chain = vec![der];
        expired
    }

    /// Changes the start file and starts the hub again with it.
    pub(crate) async fn reconfigure(&mut self, from: &str, to: &str) {
        self.stop().await;
        let text = std::fs::read_to_string(&self.config).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&self.config, text.replacen(from, to, 1)).unwrap();
        self.resume().await;
    }

    /// Kills the hub: nothing is finished, as far as one process can show it.
    pub(crate) async fn kill(&mut self) {
        let (_, task) = self.running.take().unwrap();
        task.abort();
        let _ = task.await;
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// Commits these files (empty text: removed) and tells the hub.
    pub(crate) async fn commit(&self, files: &[(&str, &str)]) {
        let repo = self.path("repo");
        write(&repo, files);
        git(&repo, &["add", "-A"]);
        git(&repo, &["commit", "-q", "-m", "change"]);
        let _: serde_json::Value = self.post("/reconcile", &serde_json::json!({})).await.unwrap();
    }

    pub(crate) async fn token(&self, name: &str, labels: &[(&str, &str)]) -> JoinToken {
        let request = JoinTokenRequest {
            name: name.parse().unwrap(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ttl_seconds: None,
        };
        let created: JoinTokenCreated = self.post("/join-tokens", &request).await.unwrap();
        JoinToken::parse(&created.token).unwrap()
    }

    /// Enrols a cluster and connects its agent.
    pub(crate) async fn cluster(&self, name: &str, labels: &[(&str, &str)]) -> (Identity, Agent) {
        let token = self.token(name, labels).await;
        let identity = enrol(self.address, &token, &format!("uid-{name}")).await.unwrap();
        let agent = Agent::start(self.address, &identity, Arc::new(Mutex::new(Ledger::default())));
        (identity, agent)
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        self.call("GET", path, None).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Problem> {
        self.call("POST", path, Some(serde_json::to_vec(body).unwrap())).await
    }

    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<T, Problem> {
        let stream = tokio::net::UnixStream::connect(self.path("hub/admin.sock")).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = http::Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header("host", "hub")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        connection.abort();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if status.is_success() {
            Ok(serde_json::from_str(&text).unwrap_or_else(|e| panic!("{method} {path}: {e}: {text}")))
        } else {
            Err(serde_json::from_str(&text).unwrap_or_else(|e| panic!("{method} {path}: {status}: {e}: {text}")))
        }
    }

    /// Waits until an answer of the API is so.
    pub(crate) async fn until<T: DeserializeOwned + std::fmt::Debug>(
        &self,
        what: &str,
        path: &str,
        mut test: impl FnMut(&T) -> bool,
    ) -> T {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let answer = self.get::<T>(path).await;
            match &answer {
                Ok(answer_ok) if test(answer_ok) => return answer.unwrap(),
                _ => {}
            }
            assert!(tokio::time::Instant::now() < deadline, "never: {what}; the hub says {answer:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn write(repo: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = repo.join(path);
        if text.is_empty() {
            std::fs::remove_file(path).unwrap();
            continue;
        }
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

pub(crate) fn git(repo: &Path, args: &[&str]) {
    let output = std::process::Command::new("git")
        .current_dir(repo)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .args(["-c", "user.name=Test", "-c", "user.email=test@example.org"])
        .args(args)
        .output()
        .expect("git is needed for this test");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}
