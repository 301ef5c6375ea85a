//! The source-controller's part: what Git holds, as an archive that the kustomize-controller fetches.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::ports;
use crate::world::Content;

/// Archives by path.
type Archives = Arc<Mutex<BTreeMap<String, Bytes>>>;

/// Serves archives over HTTP; ends when dropped.
#[derive(Debug)]
pub(super) struct Artifacts {
    address: SocketAddr,
    archives: Archives,
    _listening: AbortOnDropHandle<()>,
}

impl Artifacts {
    pub(super) fn start() -> Result<Self> {
        let listener = ports::listen().context("listen on a port")?;
        let address = listener.local_addr()?;
        let archives = Archives::default();
        let listening = AbortOnDropHandle::new(tokio::spawn(accept(listener, Arc::clone(&archives))));
        Ok(Self { address, archives, _listening: listening })
    }

    /// Makes an archive of it, and answers with the `status.artifact` of its source.
    pub(super) async fn publish(&self, revision: &str, content: &Content) -> Result<Value> {
        let folder = tempfile::tempdir().context("create a folder")?;
        let (files, archive) = (folder.path().join("files"), folder.path().join("archive.tar.gz"));
        std::fs::create_dir(&files).context("create a folder")?;
        content.write(&files)?;
        let status = tokio::process::Command::new("tar")
            .args(["--create", "--gzip", "--sort=name", "--owner=0", "--group=0", "--file"])
            .arg(&archive)
            .arg("--directory")
            .arg(&files)
            .arg(".")
            .stdin(Stdio::null())
            .status()
            .await
            .context("run tar")?;
        ensure!(status.success(), "tar: {status}");
        let archive = std::fs::read(&archive).context("read the archive")?;
        let digest: String = Sha256::digest(&archive).iter().map(|byte| format!("{byte:02x}")).collect();
        let path = format!("gitrepository/flux-system/flux-system/{digest}.tar.gz");
        let artifact = json!({
            "digest": format!("sha256:{digest}"),
            "lastUpdateTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "path": path,
            "revision": revision,
            "size": archive.len(),
            "url": format!("http://{}/{path}", self.address),
        });
        self.archives.lock().unwrap_or_else(PoisonError::into_inner).insert(format!("/{path}"), archive.into());
        Ok(artifact)
    }
}

async fn accept(listener: TcpListener, archives: Archives) {
    // Dropped, and so aborted, with this task.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                let archives = Arc::clone(&archives);
                connections.spawn(async move {
                    let service = service_fn(|request| {
                        let answer = answer(&request, &archives);
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    if let Err(error) = serving.await {
                        tracing::debug!(%error, "artifacts: a connection ended early");
                    }
                });
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

fn answer(request: &Request<Incoming>, archives: &Archives) -> Response<Full<Bytes>> {
    let found = archives.lock().unwrap_or_else(PoisonError::into_inner).get(request.uri().path()).cloned();
    let mut response = Response::new(Full::new(found.clone().unwrap_or_default()));
    if found.is_none() {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    response
}
