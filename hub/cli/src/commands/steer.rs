//! `driftless reconcile`, `suspend`, `resume`, `drift-mode`, `freeze`, `unfreeze`, `cluster join-token`, `cluster remove`: what changes something.

use std::collections::BTreeMap;
use std::process::ExitCode;

use driftless_protocol::api::{
    Done, DriftModeRequest, FreezeRequest, JoinTokenCreated, JoinTokenRequest, ReconcileRequest, SuspendRequest,
};
use driftless_protocol::bundle::DriftMode;
use driftless_protocol::id::ClusterName;

use super::unit::parse_unit;
use crate::args::{DriftModeWord, OptionalUnit, Output, SetDriftMode, Steer};
use crate::client::{Client, escape};
use crate::error::{CliError, Kind};
use crate::ui;

pub(super) fn cluster_name(text: &str) -> Result<ClusterName, CliError> {
    text.parse().map_err(|e| CliError::new(Kind::Usage, format!("{e}")))
}

pub(super) fn print_done(output: Output, done: &Done) -> Result<ExitCode, CliError> {
    ui::print(output, done, || done.messages.iter().map(|m| format!("{m}\n")).collect())?;
    Ok(ExitCode::SUCCESS)
}

/// `driftless reconcile`. Fails when a source could not be fetched: what follows would be the old state.
pub async fn reconcile(client: &Client, output: Output, unit: &OptionalUnit) -> Result<ExitCode, CliError> {
    let request = ReconcileRequest {
        cluster: unit.cluster.as_deref().map(cluster_name).transpose()?,
        unit: unit.unit.as_deref().map(parse_unit).transpose()?,
        source: None,
    };
    print_done(output, &client.post("/reconcile", &request).await?)
}

/// `driftless suspend` and `driftless resume`.
pub async fn steer(client: &Client, output: Output, verb: &str, steer: &Steer) -> Result<ExitCode, CliError> {
    let request = SuspendRequest {
        cluster: steer.cluster.as_deref().map(cluster_name).transpose()?,
        unit: parse_unit(&steer.unit)?,
        reason: steer.reason.clone(),
    };
    print_done(output, &client.post(&format!("/{verb}"), &request).await?)
}

/// `driftless drift-mode`.
pub async fn drift_mode(client: &Client, output: Output, set: &SetDriftMode) -> Result<ExitCode, CliError> {
    let request = DriftModeRequest {
        cluster: set.cluster.as_deref().map(cluster_name).transpose()?,
        unit: set.unit.as_deref().map(parse_unit).transpose()?,
        mode: match set.mode {
            DriftModeWord::Correct => Some(DriftMode::Correct),
            DriftModeWord::Warn => Some(DriftMode::Warn),
            DriftModeWord::Observe => Some(DriftMode::Observe),
            DriftModeWord::Git => None,
        },
        reason: set.reason.clone(),
    };
    print_done(output, &client.post("/drift-mode", &request).await?)
}

/// `driftless freeze` and `driftless unfreeze`.
pub async fn freeze(
    client: &Client,
    output: Output,
    verb: &str,
    cluster: Option<&str>,
    reason: &str,
) -> Result<ExitCode, CliError> {
    let request = FreezeRequest { cluster: cluster.map(cluster_name).transpose()?, reason: reason.to_owned() };
    print_done(output, &client.post(&format!("/{verb}"), &request).await?)
}

/// `driftless cluster join-token`. The token alone goes to stdout, so that it can be piped.
pub async fn join_token(
    client: &Client,
    output: Output,
    name: &str,
    labels: &[String],
    ttl: &str,
) -> Result<ExitCode, CliError> {
    let request = JoinTokenRequest {
        name: cluster_name(name)?,
        labels: parse_labels(labels)?,
        ttl_seconds: Some(parse_span("ttl", ttl)?),
    };
    let created: JoinTokenCreated = client.post("/join-tokens", &request).await?;
    ui::print(output, &created, || format!("{}\n", created.token))?;
    if output == Output::Table {
        ui::note(&format!(
            "single use, for cluster {}, within {ttl}. On that cluster:\n  helm upgrade --install driftless-agent charts/driftless-agent --namespace driftless-system --create-namespace --set join.token=<token>",
            created.name
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// `driftless cluster remove`.
pub async fn remove(client: &Client, output: Output, name: &str) -> Result<ExitCode, CliError> {
    let name = cluster_name(name)?;
    print_done(output, &client.delete(&format!("/clusters/{}", escape(name.as_str()))).await?)
}

fn parse_labels(labels: &[String]) -> Result<BTreeMap<String, String>, CliError> {
    labels
        .iter()
        .map(|label| match label.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(CliError::new(Kind::Usage, format!("--label {label:?}: expected KEY=VALUE"))),
        })
        .collect()
}

/// `90s`, `30m`, `24h` in seconds.
pub(super) fn parse_span(flag: &str, text: &str) -> Result<u64, CliError> {
    let wrong = || CliError::new(Kind::Usage, format!("--{flag} {text:?}: expected a time such as 90s, 30m or 24h"));
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(unit).filter(|s| *s > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_read_with_their_unit() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("24h", 86_400)] {
            assert_eq!(parse_span("ttl", text).unwrap(), seconds);
        }
        for bad in ["", "5", "h", "0s", "-1h", "1d", "1é", "99999999999999999999h"] {
            assert!(parse_span("ttl", bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn labels_need_a_key() {
        assert_eq!(parse_labels(&["a=b".into(), "c=".into()]).unwrap().len(), 2);
        assert!(parse_labels(&["=b".into()]).is_err());
        assert!(parse_labels(&["ab".into()]).is_err());
    }
}
