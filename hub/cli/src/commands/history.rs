//! `driftless history`: what agents did to objects, and when.

use std::process::ExitCode;

use driftless_protocol::api::{HistoryEntry, List};
use driftless_protocol::report::EventKind;

use super::steer::parse_span;
use super::unit::{line, parse_unit};
use crate::args::{History, Output};
use crate::client::{Client, escape};
use crate::error::CliError;
use crate::ui::{self, Table, ago};

/// `driftless history`.
pub async fn history(client: &Client, output: Output, args: &History, now: u64) -> Result<ExitCode, CliError> {
    let since = now.saturating_sub(parse_span("since", &args.since)?.saturating_mul(1000));
    let mut path = format!("/history?since={since}&limit={}", args.limit);
    if let Some(cluster) = &args.cluster {
        path.push_str(&format!("&cluster={}", escape(cluster)));
    }
    if let Some(unit) = &args.unit {
        let id = parse_unit(unit)?;
        path.push_str(&format!("&namespace={}&name={}", escape(&id.namespace), escape(&id.name)));
    }
    let entries: List<HistoryEntry> = client.get(&path).await?;
    ui::print(output, &entries.items, || table(&entries.items, now))?;
    if entries.items.is_empty() && output == Output::Table {
        ui::note("nothing was done in that time");
    }
    Ok(ExitCode::SUCCESS)
}

fn table(entries: &[HistoryEntry], now: u64) -> String {
    let mut table = Table::new(&["AGE", "CLUSTER", "UNIT", "WHAT", "OBJECT", "DETAIL"]);
    for entry in entries {
        let event = &entry.event;
        let what = match event.what {
            EventKind::Applied => "applied",
            EventKind::Healed => "healed",
            EventKind::Pruned => "pruned",
            EventKind::Released => "released",
            EventKind::Contested => "contested",
            EventKind::ContestEnded => "contest ended",
            EventKind::Added => "added by others",
        };
        let took = event.took_ms.map_or(String::new(), |ms| format!(" (took {ms} ms)"));
        table.row(vec![
            ago(now, event.at),
            entry.cluster.to_string(),
            entry.unit.to_string(),
            what.to_owned(),
            event.key.to_string(),
            line(&format!("{}{took}", event.detail)),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use driftless_protocol::id::UnitId;
    use driftless_protocol::object::ObjectKey;
    use driftless_protocol::report::RecentEvent;

    use super::*;

    #[test]
    fn a_row_says_when_where_and_what() {
        let key = ObjectKey { group: "".into(), kind: "ConfigMap".into(), namespace: "shop".into(), name: "x".into() };
        let detail = "data.k 2 -> 1 (manager kubectl)\n".to_owned();
        let event = RecentEvent { at: 60_000, what: EventKind::Healed, key, detail, took_ms: Some(7) };
        let unit = UnitId::kustomization("flux-system", "shop");
        let text = table(&[HistoryEntry { cluster: "staging".parse().unwrap(), unit, event }], 180_000);
        let last = text.lines().last().unwrap_or_default();
        assert_eq!(
            last.split_whitespace().collect::<Vec<_>>().join(" "),
            "2m0s staging flux-system/shop healed ConfigMap shop/x data.k 2 -> 1 (manager kubectl) (took 7 ms)"
        );
    }
}
