//! What the API servers would say, as lines.

use driftless_protocol::ask::DryRunOutcome;
use driftless_render::plan::{LiveClusters, LiveObject, Plan};

use super::lines::Line;
use super::{names, one_line, plural};

/// Lines for one set of clusters.
const LINES: usize = 200;
/// Fields named of those that change hands.
const TAKEN: usize = 5;

/// For each set of clusters a heading, and what is to be said.
pub(super) fn sections(plan: &Plan) -> Vec<(String, Vec<Line>)> {
    plan.live.iter().map(|live| (heading(live), lines(live))).collect()
}

fn heading(live: &LiveClusters) -> String {
    let clusters = names(live.clusters.iter(), 20);
    let refused = live.objects.iter().filter(|o| o.is_refused()).count();
    let expected = live.objects.iter().filter(|o| o.expected.is_some()).count();
    let mut text = format!("{clusters}: {} tried, {} accepted", plural(live.tried, "object"), live.accepted);
    if refused > 0 {
        text.push_str(&format!(", {refused} would be refused"));
    }
    if expected > 0 {
        text.push_str(&format!(", {expected} cannot be told before the change"));
    }
    text
}

fn lines(live: &LiveClusters) -> Vec<Line> {
    let mut out: Vec<Line> = live.problem.iter().map(|problem| Line::Warn(one_line(problem))).collect();
    // What would be refused first.
    let mut objects: Vec<&LiveObject> = live.objects.iter().collect();
    objects.sort_by_key(|object| !object.is_refused());
    for object in objects {
        of_object(object, &mut out);
    }
    let more = out.len().saturating_sub(LINES);
    out.truncate(LINES);
    if more > 0 {
        out.push(Line::Note(format!("{more} more lines")));
    }
    out
}

fn of_object(object: &LiveObject, out: &mut Vec<Line>) {
    let result = &object.result;
    let which = format!("{} (unit {})", result.key, object.unit);
    let words = one_line(&result.message);
    match (result.outcome, &object.expected) {
        (DryRunOutcome::Accepted, _) => {}
        (DryRunOutcome::NotTried, _) => out.push(Line::Note(one_line(&format!("{which}: not tried: {words}")))),
        (_, Some(why)) => out.push(Line::Note(one_line(&format!("{which}: not told yet: {why}")))),
        (outcome, None) => out.push(Line::Warn(one_line(&format!("{which}: {}: {words}", outcome.as_str())))),
    }
    if !result.takes.is_empty() {
        let named: Vec<String> =
            result.takes.iter().take(TAKEN).map(|t| format!("{} from {}", t.field, t.manager)).collect();
        let more = result.takes.len().saturating_sub(TAKEN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        out.push(Line::Note(one_line(&format!("{which}: takes {}{more}", named.join(", ")))));
    }
    for warning in &result.warnings {
        out.push(Line::Note(one_line(&format!("{which}: the API server warns: {warning}"))));
    }
}

#[cfg(test)]
mod tests {
    use driftless_protocol::ask::{DryRunResult, FieldTaken};
    use driftless_protocol::id::UnitId;
    use driftless_protocol::object::ObjectKey;

    use super::*;

    fn object(name: &str, outcome: DryRunOutcome) -> LiveObject {
        let key = ObjectKey { group: "".into(), kind: "ConfigMap".into(), namespace: "a".into(), name: name.into() };
        let result =
            DryRunResult { key, outcome, message: "its\nwords".into(), takes: Vec::new(), warnings: Vec::new() };
        LiveObject { unit: UnitId::kustomization("flux-system", "apps"), result, expected: None }
    }

    #[test]
    fn refusals_come_first_and_nothing_moves_the_cursor() {
        let mut taken = object("taken", DryRunOutcome::Accepted);
        taken.result.takes = vec![FieldTaken { field: ".data.k".into(), manager: "kubectl".into() }];
        let mut waits = object("waits", DryRunOutcome::NoNamespace);
        waits.expected = Some("it is made first".into());
        let live = LiveClusters {
            clusters: vec!["prod".parse().unwrap()],
            problem: None,
            tried: 4,
            accepted: 2,
            objects: vec![taken, waits, object("no", DryRunOutcome::Denied)],
        };
        assert_eq!(
            heading(&live),
            "prod: 4 objects tried, 2 accepted, 1 would be refused, 1 cannot be told before the change"
        );
        let lines = lines(&live);
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], Line::Warn("ConfigMap a/no (unit flux-system/apps): denied: its\\u{a}words".into()));
        assert!(matches!(&lines[1], Line::Note(text) if text.contains("takes .data.k from kubectl")), "{lines:?}");
        assert!(matches!(&lines[2], Line::Note(text) if text.contains("it is made first")), "{lines:?}");
    }
}
