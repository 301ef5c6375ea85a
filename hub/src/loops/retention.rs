//! Drops what nobody can ask for any more, and renews the hub's own certificates.

use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::shared::Shared;

/// Often enough that a day of busy commits leaves little behind.
const EVERY: Duration = Duration::from_secs(600);
/// Expired join tokens are kept for a week, so that a late agent is told "expired" and not "unknown".
const TOKENS_MS: u64 = 7 * 86_400_000;
/// What agents did is kept for a month.
const HISTORY_MS: u64 = 30 * 86_400_000;
/// Certificates of the hub last 30 days.
const RENEW: Duration = Duration::from_secs(86_400);

pub(crate) async fn run(shared: Arc<Shared>, admin_tls: Option<Arc<crate::http::tls::AdminTls>>) {
    let mut renewed = std::time::Instant::now();
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        match shared.store.collect_blobs().await {
            Ok(0) => {}
            Ok(blobs) => tracing::debug!(blobs, "unreferenced blobs were removed"),
            Err(error) => tracing::warn!(error = %crate::chain(&error), "unreferenced blobs cannot be removed"),
        }
        if let Err(error) = shared.store.forget_tokens(clock::millis().saturating_sub(TOKENS_MS)).await {
            tracing::warn!(error = %crate::chain(&error), "expired join tokens cannot be removed");
        }
        if let Err(error) = shared.store.forget_history(clock::millis().saturating_sub(HISTORY_MS)).await {
            tracing::warn!(error = %crate::chain(&error), "old history cannot be removed");
        }
        if renewed.elapsed() >= RENEW {
            match crate::hub::renew_certificates(&shared, admin_tls.as_deref()) {
                Ok(()) => renewed = std::time::Instant::now(),
                Err(error) => {
                    tracing::error!(error = %crate::chain(&error), "the hub's certificates cannot be renewed")
                }
            }
        }
    }
}
