//! `driftless plan`: what a change in Git would do to the clusters, before it is merged.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use driftless_protocol::id::Revision;
use driftless_render::flux::{Cache, RenderedCluster};
use driftless_render::plan::{
    ClusterPlan, Counts, LiveObject, Plan as FleetPlan, PlanRevision, Redactor, UnitState, WarningCode, plan_cluster,
};
use driftless_render::tree::Entry;

use crate::args::{ClusterChoice, Output, Plan, PlanFailOn};
use crate::client::Client;
use crate::error::{CliError, Kind};
use crate::live::{self, Proposed};
use crate::plan::{markdown, terminal};
use crate::repo::{CACHE_BYTES, ClusterRoot, Repo, State};
use crate::ui;

/// What `--head` calls the files on disk.
const ON_DISK: &str = "worktree";

/// Units named in one message.
const NAMED: usize = 5;

/// Plans, prints, and judges what was printed.
pub fn run(args: &Plan, output: Output) -> Result<ExitCode, CliError> {
    let (plan, _) = make(args)?;
    print(args, output, &plan)?;
    judge(&plan, &args.fail_on)
}

/// The same, with what the API servers of the clusters would say.
pub async fn run_live(args: &Plan, output: Output, client: &Client) -> Result<ExitCode, CliError> {
    let (mut plan, proposed) = make(args)?;
    plan.live = live::ask(client, proposed).await;
    print(args, output, &plan)?;
    judge(&plan, &args.fail_on)
}

fn print(args: &Plan, output: Output, plan: &FleetPlan) -> Result<(), CliError> {
    match output {
        Output::Markdown => ui::write_stdout(&markdown::render(plan, args.max_length)),
        output => ui::print(output, plan, || {
            let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            terminal::render(plan, terminal::Style { colour, objects: args.objects })
        }),
    }
}

/// The plan, and what each cluster's API server is to be asked when it is live.
fn make(args: &Plan) -> Result<(FleetPlan, Vec<Proposed>), CliError> {
    let repo = Repo::open_with(&args.dir, &args.clusters)?;
    let head = if args.head == ON_DISK { repo.work_tree()? } else { repo.at(&args.head)? };
    let (base, base_name) = base(&repo, &head, args)?;
    let revision = |name: &str, state: &State| PlanRevision {
        name: name.to_owned(),
        commit: Some(state.root.revision.commit.clone()).filter(|c| !c.is_empty()),
    };
    let compared = compare(&base, &head, args)?;
    let (clusters, proposed): (Vec<_>, Vec<_>) =
        compared.into_iter().map(|(name, plan, proposed)| ((name, plan), proposed)).unzip();
    let plan = FleetPlan::of(revision(&base_name, &base), revision(&args.head, &head), clusters);
    Ok((plan, proposed.into_iter().flatten().collect()))
}

/// The state before: as asked for, else where the head left the default branch.
fn base(repo: &Repo, head: &State, args: &Plan) -> Result<(State, String), CliError> {
    if let Some(base) = &args.base {
        let revision = repo.resolve(base)?;
        return Ok((repo.base_at(&revision)?, base.clone()));
    }
    let git = repo.git()?;
    let failed = |e: driftless_source::RepositoryError| {
        CliError::new(Kind::Usage, format!("cannot tell what to compare with: {e}")).hint("name it: --base REV")
    };
    let on_disk = head.root.revision.commit.is_empty();
    let tip = if on_disk { git.resolve("HEAD").map_err(failed)? } else { head.root.revision.clone() };
    let Some(branch) = git.main_branch() else {
        return Err(CliError::new(Kind::Usage, "cannot tell what to compare with: the default branch is not known")
            .hint("name it: --base REV"));
    };
    // What is published decides: a local branch may hold the very commits that are to be reviewed.
    let published = format!("origin/{branch}");
    let (name, main) = match git.resolve(&format!("refs/remotes/{published}")) {
        Ok(revision) => (published, revision),
        Err(_) => (branch.clone(), git.resolve(&format!("refs/heads/{branch}")).map_err(failed)?),
    };
    let base = git.merge_base(&main, &tip).map_err(failed)?;
    if base.commit == tip.commit && !on_disk {
        let message = format!("{} is part of {name} already: there is nothing before it to compare with", args.head);
        let shallow = if git.is_shallow() {
            "; the clone is shallow and has only its newest commits: fetch the whole history first (`git fetch --unshallow`, \
             or in a pipeline `fetch-depth: 0` (GitHub Actions), `GIT_DEPTH: 0` (GitLab CI))"
        } else {
            ""
        };
        return Err(CliError::new(Kind::Usage, message).hint(format!(
            "name what to compare with: --base {}~1, or plan what is not committed: --head {ON_DISK}{shallow}",
            args.head
        )));
    }
    let revision = Revision { reference: name.clone(), ..base };
    Ok((repo.base_at(&revision)?, name))
}

type Compared = (driftless_protocol::id::ClusterName, ClusterPlan, Option<Proposed>);

/// The plan of every cluster that is meant.
fn compare(base: &State, head: &State, args: &Plan) -> Result<Vec<Compared>, CliError> {
    let choice = &args.clusters;
    let (before, after) = (roots(base, choice), roots(head, choice));
    // A side without clusters is a change like another; both are a mistake.
    let (before, after) = match (before, after) {
        (Err(e), Ok(after)) if e.kind == Kind::NotFound => (Vec::new(), after),
        (Ok(before), Err(e)) if e.kind == Kind::NotFound => (before, Vec::new()),
        (before, after) => (before?, after?),
    };
    // A cluster is its root folder: its name may depend on which others there are.
    let mut pairs: BTreeMap<&str, RootPair<'_>> = BTreeMap::new();
    before.iter().for_each(|c| pairs.entry(&c.path).or_default().0 = Some(c));
    after.iter().for_each(|c| pairs.entry(&c.path).or_default().1 = Some(c));
    // A folder that no longer looks like a root is one to the hub while it is there: what it held would be deleted.
    for (path, pair) in &mut pairs {
        match *pair {
            (Some(root), None) if is_folder(head, path)? => pair.1 = Some(root),
            (None, Some(root)) if is_folder(base, path)? => pair.0 = Some(root),
            _ => {}
        }
    }
    let pairs = chosen(pairs.into_values().collect(), &choice.clusters)?;
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|e| CliError::new(Kind::Failed, format!("no random numbers: {e}")))?;
    let redactor = Redactor::new(key);
    if same_files(base, head) {
        let nothing = RenderedCluster::default();
        let equal = plan_cluster(Some(&nothing), Some(&nothing), &redactor);
        return Ok(pairs.iter().filter_map(|(a, b)| b.or(*a)).map(|c| (c.name.clone(), equal.clone(), None)).collect());
    }
    let cache = Cache::new(CACHE_BYTES);
    let rendered = |state: &State, roots: Vec<&ClusterRoot>| -> BTreeMap<String, RenderedCluster> {
        let roots: Vec<ClusterRoot> = roots.into_iter().cloned().collect();
        let rendered = state.render(&roots, &cache);
        roots.into_iter().map(|r| r.path).zip(rendered).collect()
    };
    let before = rendered(base, pairs.iter().filter_map(|p| p.0).collect());
    let after = rendered(head, pairs.iter().filter_map(|p| p.1).collect());
    let plan = |(a, b): &(Option<&ClusterRoot>, Option<&ClusterRoot>)| {
        let shown = b.or(*a)?;
        let plan = plan_cluster(before.get(&shown.path), after.get(&shown.path), &redactor);
        let head = after.get(&shown.path).filter(|_| args.live && !plan.is_empty());
        let proposed = head.map(|head| Proposed::of(&shown.name, &plan, head));
        Some((shown.name.clone(), plan, proposed))
    };
    Ok(pairs.iter().filter_map(plan).collect())
}

fn is_folder(state: &State, path: &str) -> Result<bool, CliError> {
    let entry = state.root.tree.entry(path);
    let entry =
        entry.map_err(|e| CliError::new(Kind::Failed, format!("cannot read {path} in {}: {e}", state.name())))?;
    Ok(matches!(entry, Some(Entry::Folder { .. } | Entry::Link { .. })))
}

/// Two trees with one identity hold the same files.
fn same_files(base: &State, head: &State) -> bool {
    let id = |state: &State| state.root.tree.entry("").ok().flatten();
    id(base).is_some() && id(base) == id(head)
}

/// Every root of a state, with facts; which of them are meant is decided over both states.
fn roots(state: &State, choice: &ClusterChoice) -> Result<Vec<ClusterRoot>, CliError> {
    let mut choice = choice.clone();
    if choice.paths.is_empty() || choice.paths.iter().any(|p| p.contains("{name}")) {
        choice.clusters.clear();
    }
    if let Some(dir) = choice.facts.as_ref().filter(|f| f.is_dir()) {
        choice.facts = Some(dir.join("{name}.yaml"));
    }
    state.clusters(&choice)
}

type RootPair<'a> = (Option<&'a ClusterRoot>, Option<&'a ClusterRoot>);

fn chosen<'a>(pairs: Vec<RootPair<'a>>, wanted: &[String]) -> Result<Vec<RootPair<'a>>, CliError> {
    let is = |pair: &RootPair<'_>, wanted: &str| {
        let plain = wanted.trim_start_matches("./").trim_end_matches('/');
        [pair.0, pair.1].into_iter().flatten().any(|c| c.name.as_str() == wanted || c.path == plain)
    };
    if let Some(unknown) = wanted.iter().find(|wanted| !pairs.iter().any(|pair| is(pair, wanted))) {
        let known: Vec<String> =
            pairs.iter().filter_map(|p| p.1.or(p.0)).map(|c| format!("{} ({})", c.name, c.path)).collect();
        return Err(CliError::new(Kind::NotFound, format!("no cluster {unknown} was found in either revision"))
            .hint(format!("found were: {}; name another root with --path", known.join(", "))));
    }
    Ok(pairs.into_iter().filter(|pair| wanted.is_empty() || wanted.iter().any(|w| is(pair, w))).collect())
}

/// The exit code: what was planned may not be what a pipeline lets pass.
fn judge(plan: &FleetPlan, fail_on: &[PlanFailOn]) -> Result<ExitCode, CliError> {
    let warnings = || plan.groups.iter().flat_map(|g| &g.plan.warnings);
    let broken: Vec<String> = warnings()
        .filter(|w| w.code == WarningCode::UnitBreaks)
        .filter_map(|w| w.unit.as_ref().map(ToString::to_string))
        .take(NAMED + 1)
        .collect();
    if !broken.is_empty() {
        let more = if broken.len() > NAMED { " and more" } else { "" };
        let named = broken.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        return Err(CliError::new(
            Kind::Failed,
            format!("units that could be built before cannot be built now: {named}{more}"),
        )
        .hint("the plan says why, with file and line; until it is mended the clusters keep what they have"));
    }
    let counts: &Counts = &plan.counts;
    let held = plan.groups.iter().flat_map(|g| &g.plan.units).filter(|u| u.state.after == UnitState::Held).count();
    for condition in fail_on {
        let reason = match condition {
            PlanFailOn::Deletes if counts.deletes > 0 => format!("{} objects are deleted", counts.deletes),
            PlanFailOn::Deletes if plan.groups.iter().any(|g| deletes_held(&g.plan)) => {
                "objects are deleted once approved".to_owned()
            }
            PlanFailOn::Held if held > 0 => format!("{held} units are held"),
            PlanFailOn::Held if counts.approvals > 0 => format!("{} changes wait for approval", counts.approvals),
            PlanFailOn::Live if plan.live.iter().any(|l| l.objects.iter().any(LiveObject::is_refused)) => {
                "an API server would refuse objects".to_owned()
            }
            PlanFailOn::Live if plan.live.iter().any(|l| l.problem.is_some()) => {
                "not every API server could be asked".to_owned()
            }
            PlanFailOn::Warnings if counts.warnings > 0 => format!("there are {} warnings", counts.warnings),
            _ => continue,
        };
        return Err(CliError::new(Kind::Failed, format!("--fail-on {}: {reason}", condition.as_str())));
    }
    Ok(ExitCode::SUCCESS)
}

fn deletes_held(plan: &ClusterPlan) -> bool {
    plan.warnings.iter().any(|w| matches!(w.code, WarningCode::DeletesHeld | WarningCode::UnknownDeletes))
}
