//! Reports into the store: whatever waits is written in one transaction; a store that fails makes agents wait.

use std::sync::Arc;
use std::time::Duration;

use driftless_store::{ReportContent, ReportWrite};
use tokio::sync::{mpsc, watch};

use crate::shared::Shared;

/// Reports that wait. Beyond it sessions stop reading, and QUIC's flow control stops their agents.
pub(crate) const QUEUE: usize = 512;
/// Reports in one transaction.
const BATCH: usize = 256;
/// After a failed write.
const RETRY: Duration = Duration::from_secs(1);

/// A report with where to say that it is stored.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) write: ReportWrite,
    /// The highest number stored; never blocks.
    pub(crate) stored: watch::Sender<u64>,
}

/// Runs until every session is gone, so that what was received is stored.
pub(crate) async fn run(shared: Arc<Shared>, mut reports: mpsc::Receiver<Report>) {
    let mut batch = Vec::with_capacity(BATCH);
    while reports.recv_many(&mut batch, BATCH).await > 0 {
        let writes: Vec<ReportWrite> = batch.iter().map(|r| r.write.clone()).collect();
        while let Err(error) = shared.store.write_reports(writes.clone()).await {
            tracing::error!(error = %crate::chain(&error), reports = writes.len(), "reports cannot be stored; tried again");
            tokio::select! {
                () = shared.stop.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
        if batch.iter().any(|r| matches!(r.write.content, ReportContent::Facts(_))) {
            // What it renders with may be other now.
            shared.wake.render.notify_one();
        }
        for report in batch.drain(..) {
            // Also one that was older than what is stored: it need not be sent again.
            report.stored.send_if_modified(|n| {
                let newer = report.write.n > *n;
                *n = report.write.n.max(*n);
                newer
            });
        }
        if shared.reports_matter() {
            shared.wake.rollout.notify_one();
        }
    }
}
