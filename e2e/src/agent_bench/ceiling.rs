//! The ceiling: the same applies without anybody who thinks, as fast as the API server takes them.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Request;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use tokio::task::JoinSet;

use super::audit::{Span, now};
use super::objects::Object;

/// Server-side applies of these objects over so many connections, each body sent once. What the answers say is not read.
pub(super) async fn flood(client: &Client, objects: &[Object], connections: usize) -> Result<Span> {
    let mut lanes: Vec<Vec<(String, Bytes)>> = vec![Vec::new(); connections.max(1)];
    let count = lanes.len();
    for (n, object) in objects.iter().enumerate() {
        let uri = format!("{}?fieldManager=bench-raw&force=true", object.path());
        lanes[n % count].push((uri, object.bytes()));
    }
    let mut working = JoinSet::new();
    let first = now();
    for lane in lanes {
        let client = client.clone();
        working.spawn(async move {
            for (uri, body) in lane {
                let request = Request::patch(&uri)
                    .header(CONTENT_TYPE, "application/apply-patch+yaml")
                    .body(Body::from(body))
                    .context("make a request")?;
                let answer = client.send(request).await.with_context(|| format!("PATCH {uri}"))?;
                let status = answer.status();
                let text = answer.into_body().collect().await.context("read an answer")?.to_bytes();
                ensure!(status.is_success(), "PATCH {uri}: {status} {}", String::from_utf8_lossy(&text));
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = working.join_next().await {
        done.context("a lane of the flood")??;
    }
    Ok(Span { count: objects.len(), first, last: now() })
}
