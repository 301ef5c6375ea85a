//! `driftless describe` and `driftless why`: one unit, in depth.

use std::process::ExitCode;

use driftless_protocol::api::{List, Place, Stage, StepState, UnitDetail, UnitRow, Why, WhyLive, delete_list_id};
use driftless_protocol::bundle::Reason;
use driftless_protocol::id::UnitId;
use driftless_protocol::report::{InputReport, InputStatus, ObjectState, UnitReport};

use super::get::{pause_text, short_revision};
use crate::args::{Output, UnitRef, Why as WhyArgs};
use crate::client::{Client, escape};
use crate::error::{CliError, Kind};
use crate::ui::{self, ago};

/// Reads `name` or `namespace/name`.
pub fn parse_unit(text: &str) -> Result<UnitId, CliError> {
    let (namespace, name) = text.split_once('/').unwrap_or(("flux-system", text));
    let plain = |t: &str| {
        t.starts_with(|c: char| c.is_ascii_alphanumeric())
            && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
    };
    if !plain(namespace) || !plain(name) {
        return Err(CliError::new(Kind::Usage, format!("{text:?} is no unit: expected NAME or NAMESPACE/NAME")));
    }
    Ok(UnitId::kustomization(namespace, name))
}

/// The unit and the one cluster meant: named, or the only one that has it.
async fn resolve(client: &Client, unit: &UnitRef) -> Result<(String, UnitId), CliError> {
    let id = parse_unit(&unit.unit)?;
    if let Some(cluster) = &unit.cluster {
        return Ok((cluster.clone(), id));
    }
    let path = format!("/units?namespace={}&name={}", escape(&id.namespace), escape(&id.name));
    let rows: List<UnitRow> = client.get(&path).await?;
    match rows.items.as_slice() {
        [] => Err(CliError::new(Kind::NotFound, format!("no cluster has the unit {id}"))
            .hint("`driftless get units` lists all")),
        [row] => Ok((row.cluster.to_string(), id)),
        rows => {
            let names: Vec<String> = rows.iter().map(|r| r.cluster.to_string()).collect();
            Err(CliError::new(Kind::Usage, format!("{} clusters have the unit {id}: {}", rows.len(), names.join(", ")))
                .hint("name one with --cluster"))
        }
    }
}

fn path(cluster: &str, unit: &UnitId) -> String {
    format!("/clusters/{}/units/{}/{}", escape(cluster), escape(&unit.namespace), escape(&unit.name))
}

/// `driftless why`.
pub async fn why(client: &Client, output: Output, args: &WhyArgs, now: u64) -> Result<ExitCode, CliError> {
    let (cluster, id) = resolve(client, &args.unit).await?;
    let object = args.object.as_deref().map(escape).unwrap_or_default();
    let query = format!("live={}&object={object}", !args.no_live);
    let why: Why = client.get(&format!("{}/why?{query}", path(&cluster, &id))).await?;
    ui::print(output, &why, || why_text(&why, now))?;
    Ok(ExitCode::SUCCESS)
}

fn why_text(why: &Why, now: u64) -> String {
    let mut text = format!("{} in cluster {}: {}\n\n", why.unit, why.cluster, line(&why.summary));
    for step in &why.steps {
        let mark = match step.state {
            StepState::Ok => "ok     ",
            StepState::Waiting => "WAITING",
            StepState::Failed => "FAILED ",
            StepState::Unknown => "-      ",
        };
        let name = match step.stage {
            Stage::Source => "source",
            Stage::Render => "render",
            Stage::Rollout => "rollout",
            Stage::Offer => "offer",
            Stage::Transport => "transport",
            Stage::Pause => "pause",
            Stage::Dependency => "dependency",
            Stage::Apply => "apply",
            Stage::Approval => "approval",
            Stage::Health => "health",
            Stage::Pods => "pods",
            Stage::Drift => "drift",
            Stage::Contest => "contest",
        };
        text.push_str(&format!("  {mark}  {name:<10}  {}", line(&step.message)));
        if let Some(since) = step.since {
            text.push_str(&format!(" ({})", ago(now, since)));
        }
        text.push('\n');
        let place = step.file.as_ref().map(|file| match step.line {
            Some(line) => format!("{file}:{line}"),
            None => file.clone(),
        });
        // The revision is said where somebody has to look.
        let revision = step.revision.as_ref().filter(|_| step.state != StepState::Ok);
        let revision = revision.map(|revision| short_revision(Some(revision)));
        let at = match (place, revision) {
            (Some(place), Some(revision)) => format!("{place} ({revision})"),
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => continue,
        };
        text.push_str(&format!("  {:21}  at {}\n", "", line(&at)));
    }
    if let Some(reported) = why.reported_at {
        let away = why.steps.iter().any(|s| s.stage == Stage::Transport && s.state != StepState::Ok);
        if away {
            text.push_str(&format!(
                "\nWhat is said of the cluster is as of its last report, {} ago.\n",
                ago(now, reported)
            ));
        }
    }
    if let Some(live) = &why.live {
        live_text(live, now, &mut text);
    }
    text
}

/// What the agent saw, object by object.
fn live_text(live: &WhyLive, now: u64, text: &mut String) {
    for object in &live.objects {
        let name = object.key.as_ref().map(ToString::to_string).unwrap_or_default();
        text.push_str(&format!("\n{}: {}", line(&name), line(&object.state)));
        if object.pods > 0 {
            let more =
                if object.pods_more > 0 { format!(", {} more not looked at", object.pods_more) } else { String::new() };
            text.push_str(&format!(" ({} of {} pods well{more})", object.pods_well, object.pods));
        }
        text.push('\n');
        if let Some(problem) = &object.problem {
            text.push_str(&format!("  not wholly looked at: {}\n", line(problem)));
        }
        for cause in &object.causes {
            let alike = if cause.count > 1 { format!(" and {} alike", cause.count - 1) } else { String::new() };
            let since = cause.since.map(|at| format!(" ({})", ago(now, at))).unwrap_or_default();
            text.push_str(&format!("  {}{alike}: {}{since}\n", line(&cause.at.to_string()), line(&cause.message)));
            text.push_str(&format!("      to do: {}\n", line(&cause.hint)));
        }
        if !object.events.is_empty() {
            text.push_str("  Events:\n");
        }
        for event in &object.events {
            let age = if event.at > 0 { ago(now, event.at) } else { "?".to_owned() };
            let times = if event.count > 1 { format!(" x{}", event.count) } else { String::new() };
            let (object, reason, message) = (event.object.to_string(), line(&event.reason), line(&event.message));
            text.push_str(&format!("    {age:>7}  {}  {reason}{times}  {message}\n", line(&object)));
        }
    }
    if live.more > 0 {
        text.push_str(&format!("\n{} more objects are not healthy; name one to look into it\n", live.more));
    }
}

/// `driftless describe`.
pub async fn describe(client: &Client, output: Output, unit: &UnitRef, now: u64) -> Result<ExitCode, CliError> {
    let (cluster, id) = resolve(client, unit).await?;
    let detail: UnitDetail = client.get(&path(&cluster, &id)).await?;
    ui::print(output, &detail, || describe_text(&detail, now))?;
    Ok(ExitCode::SUCCESS)
}

fn describe_text(detail: &UnitDetail, now: u64) -> String {
    let row = &detail.row;
    let mut text = format!("Unit:       {}\nCluster:    {}\n", row.unit, row.cluster);
    text.push_str(&format!("Ready:      {:?}  {}\n", row.ready, row.reason));
    text.push_str(&format!("Message:    {}\n", line(&row.message)));
    text.push_str(&format!("Revision:   {}\n", short_revision(row.revision.as_deref())));
    let applied = row.last_applied.map_or("never".to_owned(), |at| format!("{} ago", ago(now, at)));
    text.push_str(&format!("Applied:    {applied}\n"));
    text.push_str(&format!("Source:     {} {}\n", detail.source, detail.path));
    if let Some(at) = &detail.defined_at {
        text.push_str(&format!("Defined at: {}\n", place(at)));
    }
    if !detail.depends_on.is_empty() {
        let names: Vec<String> = detail.depends_on.iter().map(ToString::to_string).collect();
        text.push_str(&format!("Depends on: {}\n", names.join(", ")));
    }
    text.push_str(&format!("Drift mode: {:?}{}\n", row.drift_mode, if row.suspended { ", suspended" } else { "" }));
    if let Some(flux) = detail.report.as_ref().and_then(|r| r.flux.as_ref()) {
        text.push_str(&format!("Flux:       {}\n", line(&super::shadow::flux(Some(flux)))));
    }
    for intent in &detail.intents {
        let age = ago(now, intent.at);
        text.push_str(&format!(
            "Intent:     {} by {}, {age} ago: {}\n",
            intent.what,
            intent.actor,
            line(&intent.reason)
        ));
    }
    if !detail.problems.is_empty() {
        text.push_str("\nIn Git:\n");
        for problem in &detail.problems {
            text.push_str(&format!("  {}\n", reason(problem)));
        }
    }
    if !detail.withheld.is_empty() {
        text.push_str("\nWithheld (kept in the cluster, not sent):\n");
        for object in &detail.withheld {
            text.push_str(&format!("  {}: {}\n", object.key, reason(&object.reason)));
        }
    }
    if let Some(report) = &detail.report {
        report_text(report, detail, now, &mut text);
    }
    text
}

fn report_text(report: &UnitReport, detail: &UnitDetail, now: u64, text: &mut String) {
    let c = report.counts;
    text.push_str(&format!(
        "\nObjects:    {} declared, {} in sync, {} failed, {} unhealthy, {} not served, {} withheld, {} drifted, {} left alone\n",
        c.objects, c.in_sync, c.failed, c.unhealthy, c.not_served, c.withheld, c.drifted, c.left_alone
    ));
    if let Some(waiting) = &report.waiting {
        text.push_str(&format!("Waits on:   {} ({})\n", line(&waiting.on), ago(now, waiting.since)));
    }
    text.push_str(&inputs_text(&report.unit.namespace, &report.inputs));
    for pause in &report.pauses {
        text.push_str(&format!("Pause:      {}\n", line(&pause_text(pause, now))));
    }
    if report.counts.paused > 0 {
        text.push_str(&format!("            {} objects are held back by it\n", report.counts.paused));
    }
    for object in &report.objects {
        let state = match object.state {
            ObjectState::Pending => "pending",
            ObjectState::Failed => "FAILED",
            ObjectState::NotServed => "not served",
            ObjectState::Withheld => "withheld",
            ObjectState::InProgress => "in progress",
            ObjectState::Unhealthy => "UNHEALTHY",
            ObjectState::Drifted => "drifted",
            ObjectState::LeftAlone => "left alone",
        };
        let age = ago(now, object.since);
        text.push_str(&format!("  {state:<11}  {} ({age}): {}\n", object.key, line(&object.message)));
        let declared = detail.objects.iter().find(|o| o.key == object.key);
        if let Some(at) = declared.and_then(|o| o.at.as_ref()) {
            text.push_str(&format!("  {:11}  at {}\n", "", place(at)));
        }
    }
    if let Some(shadow) = &report.shadow {
        for (what, ids, count) in [
            ("Only in Flux's inventory", &shadow.only_flux, shadow.only_flux_count),
            ("Not in Flux's inventory", &shadow.only_ours, shadow.only_ours_count),
        ] {
            if count > 0 {
                text.push_str(&format!("\n{what} ({count}):\n"));
                for id in ids {
                    let fate = shadow.fate_of(id).map(|fate| format!(": {}", line(&fate))).unwrap_or_default();
                    text.push_str(&format!("  {}{fate}\n", line(id)));
                }
            }
        }
    }
    if !report.drift.is_empty() {
        text.push_str(if report.shadow.is_some() { "\nDifferences:\n" } else { "\nDrift:\n" });
        for field in &report.drift {
            let value = |v: &Option<String>| v.as_deref().map_or("(absent)".to_owned(), line);
            let manager = field.manager.as_deref().unwrap_or("unknown");
            text.push_str(&format!(
                "  {}  {}: declared {}, live {}  (manager {manager}, {:?})\n",
                field.key,
                field.path,
                value(&field.desired),
                value(&field.live),
                field.class
            ));
        }
    }
    if !report.contests.is_empty() {
        text.push_str("\nContests (a field goes back and forth with another manager):\n");
        for contest in &report.contests {
            let manager = contest.manager.as_deref().unwrap_or("unknown");
            let path = if contest.path.is_empty() { "the object" } else { &contest.path };
            text.push_str(&format!(
                "  {}  {}: manager {}, {} heals within 10 min, since {}\n      {}\n",
                contest.key,
                line(path),
                line(manager),
                contest.flips,
                ago(now, contest.since),
                line(&contest.hint)
            ));
        }
    }
    if !report.additions.is_empty() {
        text.push_str(
            "\nAdded by others where it matters for security; it stays. What is expected is declared, or left to them by \
             driftless.dev/ignore:\n",
        );
        for added in &report.additions {
            text.push_str(&format!(
                "  {}  {}: {}  (manager {}, {:?}, since {})\n",
                added.key,
                line(&added.path),
                line(&added.live),
                line(&added.manager),
                added.class,
                ago(now, added.since)
            ));
        }
    }
    if !report.held_deletes.is_empty() {
        let list = delete_list_id(&report.unit, report.held_deletes.iter().map(|held| &held.key));
        text.push_str(&format!(
            "\nDeletes that wait for approval: driftless approve {list} --cluster {} --reason TEXT\n",
            detail.row.cluster
        ));
        for held in &report.held_deletes {
            text.push_str(&format!("  {}: {}\n", held.key, line(&held.why)));
        }
        let more = report.counts.held_deletes as usize;
        if more > report.held_deletes.len() {
            text.push_str(&format!("  and {} more, listed when these are gone\n", more - report.held_deletes.len()));
        }
    }
    if report.counts.approved_deletes > 0 {
        text.push_str(&format!("\nApproved deletes under way: {}\n", report.counts.approved_deletes));
    }
    if let Some(end) = &report.pause_ended {
        let how = if end.expired { "its time was over" } else { "removed" };
        let age = ago(now, end.at);
        text.push_str(&format!(
            "\nPause {} ended {age} ago ({how}); it had held back {}:\n",
            line(&end.name),
            end.count
        ));
        for held in &end.held {
            text.push_str(&format!("  {}\n", line(held)));
        }
        if end.count as usize > end.held.len() {
            text.push_str(&format!("  and {} more\n", end.count as usize - end.held.len()));
        }
    }
    if !report.recent.is_empty() {
        text.push_str("\nLately:\n");
        for event in &report.recent {
            let took = event.took_ms.map_or(String::new(), |ms| format!(", took {ms} ms"));
            text.push_str(&format!(
                "  {:>7} ago  {:?}  {}  {}{took}\n",
                ago(now, event.at),
                event.what,
                event.key,
                line(&event.detail)
            ));
        }
    }
}

/// Where the values come from that the agent fills in, weakest first.
fn inputs_text(namespace: &str, inputs: &[InputReport]) -> String {
    let mut text = String::new();
    for (at, input) in inputs.iter().enumerate() {
        let label = if at == 0 { "Filled from:" } else { "" };
        let status = match input.status {
            InputStatus::Unread => "not read yet",
            InputStatus::Found => "found",
            InputStatus::Missing => "MISSING",
            InputStatus::Failed => "UNREADABLE",
        };
        let why = if input.message.is_empty() { String::new() } else { format!(": {}", line(&input.message)) };
        let namespace = if input.namespace.is_empty() { namespace } else { &line(&input.namespace) };
        text.push_str(&format!("{label:<12} {} {namespace}/{}  {status}{why}\n", input.kind, line(&input.name)));
    }
    text
}

fn reason(reason: &Reason) -> String {
    let at = match (&reason.file, reason.line) {
        (Some(file), Some(line)) => format!("{file}:{line}: "),
        (Some(file), None) => format!("{file}: "),
        _ => String::new(),
    };
    line(&format!("{at}{}: {}", reason.code, reason.message))
}

fn place(at: &Place) -> String {
    if at.line == 0 {
        format!("{} ({})", at.file, at.source)
    } else {
        format!("{}:{} ({})", at.file, at.line, at.source)
    }
}

/// One line, without control characters: what a cluster says may not move the cursor.
pub(super) fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_named_as_people_type_them() {
        assert_eq!(parse_unit("apps").unwrap(), UnitId::kustomization("flux-system", "apps"));
        assert_eq!(parse_unit("team/apps").unwrap(), UnitId::kustomization("team", "apps"));
        for bad in ["", "/a", "a/", "a/b/c", "a b", "../x"] {
            assert!(parse_unit(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn inputs_are_shown_with_how_they_stand() {
        use driftless_protocol::bundle::LateKind;
        let input = |kind, name: &str, status, message: &str| InputReport {
            kind,
            name: name.into(),
            namespace: String::new(),
            status,
            message: message.into(),
        };
        let inputs = [
            input(LateKind::ConfigMap, "cluster", InputStatus::Found, ""),
            input(LateKind::Secret, "keys", InputStatus::Failed, "forbidden:\nask the platform team"),
        ];
        assert_eq!(
            inputs_text("apps", &inputs),
            "Filled from: ConfigMap apps/cluster  found\n             Secret apps/keys  UNREADABLE: forbidden: ask the platform team\n"
        );
        assert_eq!(inputs_text("apps", &[]), "");
    }
}
