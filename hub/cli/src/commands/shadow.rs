//! `driftless shadow`: what Driftless would change in a cluster, unit by unit, before it is allowed to.

use std::process::ExitCode;

use driftless_protocol::api::{Shadow, ShadowUnit};
use driftless_protocol::report::{FluxState, ObjectState, Ready, ShadowReport, reason};

use super::unit::line;
use crate::args::Output;
use crate::client::{Client, escape};
use crate::error::CliError;
use crate::ui::{self, Table};

/// `driftless shadow`.
pub async fn run(client: &Client, output: Output, cluster: &str, differing: bool) -> Result<ExitCode, CliError> {
    let mut shadow: Shadow = client.get(&format!("/clusters/{}/shadow", escape(cluster))).await?;
    let zero = shadow.zero;
    if differing {
        shadow.units.retain(|unit| !unit.suspended && unit.reason != reason::SHADOW_EQUAL);
    }
    ui::print(output, &shadow, || text(&shadow))?;
    Ok(if zero { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(shadow: &Shadow) -> String {
    let mut text = summary(shadow);
    if !shadow.units.is_empty() {
        text.push('\n');
        text.push_str(&table(&shadow.units));
    }
    for unit in &shadow.units {
        details(unit, &mut text);
    }
    text
}

fn summary(shadow: &Shadow) -> String {
    let cluster = &shadow.cluster;
    if !shadow.shadow {
        return format!(
            "{cluster} is not in shadow mode (chart value `shadow` of driftless-agent): its agent writes, and nothing is compared\n"
        );
    }
    let mut notes = String::new();
    if !shadow.connected {
        notes.push_str("; its agent is not connected, this is what it told last");
    }
    if !shadow.newest {
        notes.push_str("; the newest commit has not been compared yet");
    }
    let total =
        |of: fn(&ShadowReport) -> u32| -> u32 { shadow.units.iter().filter_map(|u| u.counts.as_ref()).map(of).sum() };
    let differing = total(ShadowReport::differences);
    if shadow.zero {
        let compared = total(|counts| counts.equal);
        return format!(
            "{cluster}: zero differences in {compared} objects of {} units; nothing was written{notes}\n",
            shadow.units.len()
        );
    }
    format!(
        "{cluster}: {differing} objects differ, {} are not compared yet; nothing was written{notes}\n",
        total(|counts| counts.open)
    )
}

fn table(units: &[ShadowUnit]) -> String {
    let mut table = Table::new(&[
        "UNIT",
        "FLUX",
        "OBJECTS",
        "EQUAL",
        "MISSING",
        "DIFFER",
        "REFUSED",
        "ONLY FLUX",
        "NOT FLUX",
        "OPEN",
        "STATE",
    ]);
    for unit in units {
        let count = |of: fn(&ShadowReport) -> u32| match unit.counts.as_ref().map(of) {
            None | Some(0) => "-".to_owned(),
            Some(n) => n.to_string(),
        };
        let state = match (unit.suspended, unit.reason.as_str()) {
            (true, _) => "suspended, not compared".to_owned(),
            (_, reason::SHADOW_EQUAL) => "zero differences".to_owned(),
            (_, reason::SHADOW_DIFFERS) => "differs".to_owned(),
            _ => unit.message.clone(),
        };
        table.row(vec![
            unit.unit.to_string(),
            flux(unit.flux.as_ref()),
            unit.objects.to_string(),
            count(|c| c.equal),
            count(|c| c.missing),
            count(|c| c.differing),
            count(|c| c.refused),
            count(|c| c.only_flux_count),
            count(|c| c.only_ours_count),
            count(|c| c.open),
            state,
        ]);
    }
    table.render()
}

/// Flux's own object of a unit, in a few words.
pub(super) fn flux(flux: Option<&FluxState>) -> String {
    let Some(flux) = flux else { return "no Kustomization".to_owned() };
    let state = match (flux.stopped, flux.suspended, flux.ready) {
        (true, ..) => "suspended",
        (_, true, _) => "being suspended",
        (_, _, Ready::True) => "runs, ready",
        (_, _, Ready::False) => "runs, not ready",
        (_, _, Ready::Unknown) => "runs",
    };
    match &flux.revision {
        Some(revision) => format!("{state}, {}", super::get::short_revision(Some(revision))),
        None => state.to_owned(),
    }
}

fn details(unit: &ShadowUnit, text: &mut String) {
    let Some(counts) = &unit.counts else { return };
    if counts.zero() {
        return;
    }
    text.push_str(&format!("\n{}:\n", unit.unit));
    for object in &unit.differences {
        // Its fields say it better.
        if object.state == ObjectState::Drifted && unit.fields.iter().any(|field| field.key == object.key) {
            continue;
        }
        text.push_str(&format!("  {}: {}\n", object.key, line(&object.message)));
    }
    let mut last = None;
    for field in &unit.fields {
        if last != Some(&field.key) {
            text.push_str(&format!("  {} differs:\n", field.key));
            last = Some(&field.key);
        }
        let value = |value: &Option<String>, none: &str| value.as_deref().map_or(none.to_owned(), line);
        let manager = field.manager.as_deref().map(|m| format!(" (manager {})", line(m))).unwrap_or_default();
        text.push_str(&format!(
            "    {}: Git {}, live {}{manager}\n",
            line(&field.path),
            value(&field.desired, "does not declare it"),
            value(&field.live, "nothing")
        ));
    }
    for (what, ids, count) in [
        ("only in Flux's inventory", &counts.only_flux, counts.only_flux_count),
        ("not in Flux's inventory", &counts.only_ours, counts.only_ours_count),
    ] {
        for id in ids {
            let fate = counts.fate_of(id).map(|fate| format!(": {}", line(&fate))).unwrap_or_default();
            text.push_str(&format!("  {what}: {}{fate}\n", line(id)));
        }
        let listed = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        if count > listed {
            text.push_str(&format!("  {what}: and {} more\n", count - listed));
        }
    }
    let listed = unit.fields.len() + unit.differences.len();
    if listed >= driftless_protocol::report::LIST_LIMIT {
        text.push_str("  the lists are cut; the counts above are not\n");
    }
}

#[cfg(test)]
mod tests {
    use driftless_protocol::id::UnitId;
    use driftless_protocol::object::ObjectKey;
    use driftless_protocol::report::{DriftClass, FieldDrift, Leftover, LeftoverFate};

    use super::*;

    fn unit(counts: ShadowReport, reason: &str) -> ShadowUnit {
        ShadowUnit {
            unit: UnitId::kustomization("flux-system", "apps"),
            ready: Ready::True,
            reason: reason.into(),
            message: String::new(),
            suspended: false,
            objects: 2,
            flux: Some(FluxState {
                ready: Ready::True,
                revision: Some("main@sha1:0123456789".into()),
                ..FluxState::default()
            }),
            counts: Some(counts),
            differences: Vec::new(),
            fields: Vec::new(),
        }
    }

    fn shadow(unit: ShadowUnit, zero: bool) -> Shadow {
        Shadow {
            cluster: "prod".parse().unwrap(),
            shadow: true,
            connected: true,
            newest: true,
            zero,
            units: vec![unit],
        }
    }

    #[test]
    fn a_person_reads_what_would_change_and_that_nothing_would() {
        let equal = unit(ShadowReport { equal: 2, ..ShadowReport::default() }, reason::SHADOW_EQUAL);
        let words = text(&shadow(equal, true));
        assert!(words.starts_with("prod: zero differences in 2 objects of 1 units; nothing was written\n"), "{words}");
        assert!(words.contains("runs, ready, main@sha1:01234567"), "{words}");

        let counts = ShadowReport {
            equal: 1,
            differing: 1,
            fields: 1,
            only_flux: vec!["default_old__ConfigMap".into()],
            only_flux_count: 3,
            leftovers: vec![Leftover {
                id: "default_old__ConfigMap".into(),
                fate: LeftoverFate::Deleted,
                why: String::new(),
            }],
            would_delete: 1,
            ..ShadowReport::default()
        };
        let mut differs = unit(counts, reason::SHADOW_DIFFERS);
        differs.fields.push(FieldDrift {
            key: ObjectKey {
                group: "apps".into(),
                kind: "Deployment".into(),
                namespace: "a".into(),
                name: "web".into(),
            },
            path: "spec.replicas".into(),
            pointer: None,
            desired: Some("3".into()),
            live: Some("5\x1b[2J".into()),
            manager: Some("kubectl".into()),
            at: None,
            class: DriftClass::Human,
            mode: None,
        });
        let words = text(&shadow(differs, false));
        for part in [
            "prod: 4 objects differ, 0 are not compared yet",
            "Deployment.apps a/web differs:\n    spec.replicas: Git 3, live 5 [2J (manager kubectl)",
            "only in Flux's inventory: default_old__ConfigMap: would be adopted and deleted\n  only in Flux's inventory: and 2 more",
        ] {
            assert!(words.contains(part), "{part}: {words}");
        }
        let off = Shadow { shadow: false, ..shadow(unit(ShadowReport::default(), ""), false) };
        assert!(text(&off).contains("prod is not in shadow mode"), "{}", text(&off));
    }
}
