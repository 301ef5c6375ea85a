//! The cases of `cargo faults`, and its table.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use http::Method;

use super::declared::Step;
use super::rules::{Fault, Rule, Which};
use super::run::{Hand, Outcome, Rig, Trouble};
use super::things::Thing;
use crate::table::Report;

/// Objects that never leave.
const OBJECTS: usize = 30;

/// What may be asked of `cargo faults`.
#[derive(Debug, Parser)]
#[command(name = "cargo faults", about = "Faults between an agent and its API server, and kills, by the hundred")]
pub struct Args {
    /// How often each case is made
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// Only cases whose name holds this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Say which cases there are
    #[arg(long)]
    list: bool,
    /// Also write the table to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// For the table.
    pub name: String,
    /// What happens.
    pub deed: Deed,
    /// What goes wrong, by the number of the repetition.
    pub trouble: fn(usize) -> Trouble,
    kill: Option<Kill>,
}

/// What happens in a case, besides the trouble.
#[derive(Clone, Copy, Debug)]
pub enum Deed {
    /// In the repository.
    Step(Step),
    /// By somebody's hand.
    Hand(Hand),
}

/// A request at which the agent is killed.
#[derive(Clone, Debug)]
struct Kill {
    which: Which,
    /// How many such requests pass before it.
    after: usize,
    carried_out: bool,
}

impl Case {
    fn new(name: &str, step: Step, trouble: fn(usize) -> Trouble) -> Self {
        Self { name: name.to_owned(), deed: Deed::Step(step), trouble, kill: None }
    }

    /// The agent is killed before such a request reaches the API server, and after it was carried out.
    fn kills(name: &str, deed: Deed, which: Which, after: usize) -> [Self; 2] {
        [false, true].map(|carried_out| Self {
            name: format!("killed {} {name}", if carried_out { "after" } else { "before" }),
            deed,
            trouble: |_| Trouble::None,
            kill: Some(Kill { which: which.clone(), after, carried_out }),
        })
    }

    /// Makes it once.
    ///
    /// # Errors
    /// Not everything became as declared in time.
    pub async fn make(&self, rig: &mut Rig, repetition: usize) -> Result<Outcome> {
        let trouble = match &self.kill {
            Some(Kill { which, after, carried_out }) => {
                let stall = Fault::Stall { carried_out: *carried_out };
                Trouble::Kill(Rule::new(which.clone(), stall).after(*after).once())
            }
            None => (self.trouble)(repetition),
        };
        match self.deed {
            Deed::Step(step) => rig.step(step, trouble).await,
            Deed::Hand(hand) => rig.by_hand(hand, trouble).await,
        }
    }
}

/// Requests for declared objects.
fn managed() -> Which {
    Which::writes().at("/namespaces/subject/configmaps")
}

/// The agent's own records but for the lease, which has a case of its own.
fn records() -> Which {
    Which::writes().at("/namespaces/driftless-system/").but("/leases")
}

fn inventory() -> Which {
    Which::writes().at("driftless-system/configmaps").but("driftless-head")
}

fn refuse(status: u16, retry_after: Option<u32>) -> Vec<Rule> {
    let fault = Fault::Refuse { status, retry_after };
    let spread = |which, every| Rule::new(which, fault.clone()).one_of(every).times(12);
    vec![spread(managed(), 2), spread(records(), 3), spread(Which::methods([Method::GET]), 5)]
}

/// Every case.
#[must_use]
pub fn all() -> Vec<Case> {
    let mut cases = vec![
        Case::new("nothing", Step::Mixed, |_| Trouble::None),
        Case::new("429 with Retry-After", Step::Mixed, |_| Trouble::Faults(refuse(429, Some(1)))),
        Case::new("409", Step::Mixed, |_| Trouble::Faults(refuse(409, None))),
        Case::new("500", Step::Mixed, |_| Trouble::Faults(refuse(500, None))),
        Case::new("503", Step::Mixed, |_| Trouble::Faults(refuse(503, Some(1)))),
        Case::new("504", Step::Mixed, |_| Trouble::Faults(refuse(504, None))),
        Case::new("410 on watches, which are cut", Step::Mixed, |_| {
            Trouble::Cuts(vec![Rule::new(Which::watches(), Fault::Expired).times(6)])
        }),
        Case::new("watches are cut", Step::Mixed, |_| Trouble::Cuts(Vec::new())),
        Case::new("watches are refused", Step::Mixed, |_| {
            Trouble::Cuts(vec![
                Rule::new(Which::watches(), Fault::Refuse { status: 429, retry_after: Some(1) }).times(6),
            ])
        }),
        Case::new("reset before the request", Step::Mixed, |n| {
            Trouble::Faults(vec![
                Rule::new(managed(), Fault::ResetBefore).after(n % 3).one_of(2).times(12),
                Rule::new(records(), Fault::ResetBefore).after(n % 5).one_of(3).times(6),
            ])
        }),
        Case::new("answer lost, of objects", Step::Mixed, |n| {
            Trouble::Faults(vec![Rule::new(managed(), Fault::ResetAfter).after(n % 3).one_of(2).times(12)])
        }),
        Case::new("answer lost, of records", Step::Mixed, |n| {
            Trouble::Faults(vec![Rule::new(records(), Fault::ResetAfter).after(n % 5).one_of(2).times(4)])
        }),
        Case::new("answer lost, of the lease", Step::Mixed, |_| {
            let leases = Which::writes().at("/leases");
            Trouble::Faults(vec![Rule::new(leases, Fault::ResetAfter).times(2)])
        }),
        Case::new("30 s late, objects", Step::Mixed, |n| {
            let late = Fault::Delay(Duration::from_secs(30));
            Trouble::Faults(vec![Rule::new(managed(), late).after(n % 4).one_of(4).times(4)])
        }),
        Case::new("30 s late, records", Step::Mixed, |n| {
            let late = Fault::Delay(Duration::from_secs(30));
            Trouble::Faults(vec![Rule::new(records(), late).after(n % 4).one_of(3).times(2)])
        }),
        Case::new("2 s late, everything", Step::Mixed, |_| {
            let late = Fault::Delay(Duration::from_secs(2));
            Trouble::Faults(vec![Rule::new(Which::any(), late).times(40)])
        }),
        Case::new("API server restarts", Step::Mixed, |_| Trouble::ApiServerRestarts),
        Case::new("API server is killed", Step::Mixed, |_| Trouble::ApiServerDies),
    ];
    let put = |at: &str| Which::methods([Method::PUT]).at(at);
    let apply = || Which::methods([Method::PATCH]).at("/namespaces/subject/configmaps").at("force=true");
    let delete = || Which::methods([Method::DELETE]).at("/namespaces/subject/configmaps");
    let pack = |method| Which::methods([method]).at("driftless-system/secrets");
    for (name, deed, which, after) in [
        ("names of packs are noted", Deed::Step(Step::Change), put("driftless-head"), 0),
        ("a pack is made", Deed::Step(Step::Change), pack(Method::POST), 0),
        ("the head moves", Deed::Step(Step::Change), put("driftless-head"), 1),
        ("an old pack goes", Deed::Step(Step::Change), pack(Method::DELETE), 0),
        ("intents are stored", Deed::Step(Step::Create), inventory(), 0),
        ("the first create", Deed::Step(Step::Create), apply(), 0),
        ("a create in the middle", Deed::Step(Step::Create), apply(), 3),
        ("the last create", Deed::Step(Step::Create), apply(), 5),
        ("the record of creates", Deed::Step(Step::Create), inventory(), 1),
        ("the first change", Deed::Step(Step::Change), apply(), 0),
        ("a change in the middle", Deed::Step(Step::Change), apply(), 15),
        ("the record of changes", Deed::Step(Step::Change), inventory(), 0),
        ("a move between units", Deed::Step(Step::Move), apply(), 1),
        ("the record of moves", Deed::Step(Step::Move), inventory(), 0),
        ("the first delete", Deed::Step(Step::Prune), delete(), 0),
        ("the last delete", Deed::Step(Step::Prune), delete(), 2),
        ("the record of deletes", Deed::Step(Step::Prune), inventory(), 0),
        (
            "fields are taken over",
            Deed::Hand(Hand::Adds),
            Which::methods([Method::PATCH]).content("application/json-patch"),
            0,
        ),
        ("the heal after it", Deed::Hand(Hand::Adds), apply(), 0),
        ("what somebody deleted is made anew", Deed::Hand(Hand::Deletes), apply(), 0),
        ("the record of what was made anew", Deed::Hand(Hand::Deletes), inventory(), 0),
        ("what Flux left is noted", Deed::Step(Step::TakeOver), inventory(), 0),
        (
            "the fields of Flux are taken over",
            Deed::Step(Step::TakeOver),
            Which::methods([Method::PATCH]).content("application/json-patch"),
            0,
        ),
        ("what was Flux's is applied", Deed::Step(Step::TakeOver), apply(), 0),
        ("what Flux left goes", Deed::Step(Step::TakeOver), delete(), 0),
        ("the record after a take-over", Deed::Step(Step::TakeOver), inventory(), 1),
        ("the lease is renewed", Deed::Step(Step::Mixed), put("/leases"), 0),
    ] {
        cases.extend(Case::kills(name, deed, which, after));
    }
    let apply = |at: &str| Which::methods([Method::PATCH]).at(at).at("force=true").but("dryRun");
    let delete = |at: &str| Which::methods([Method::DELETE]).at(at);
    // Of each kind the points at which it behaves otherwise than a ConfigMap.
    for (name, step, which) in [
        ("a Namespace is made", Step::Come(Thing::Space), apply("/namespaces/extra").but("/extra/")),
        ("what is in it is made", Step::Come(Thing::Space), apply("/namespaces/extra/configmaps/inside")),
        (
            "a Namespace with content goes, when approved",
            Step::Leave(Thing::Space),
            delete("/namespaces/extra").but("/extra/"),
        ),
        ("a definition is made", Step::Come(Thing::Definition), apply("/customresourcedefinitions/")),
        ("an object of it is made", Step::Come(Thing::Definition), apply("/widgets/one")),
        ("an object of it goes", Step::Leave(Thing::Definition), delete("/widgets/one")),
        ("a definition goes, when approved", Step::Leave(Thing::Definition), delete("/customresourcedefinitions/")),
        ("a Deployment is made", Step::Come(Thing::Workload), apply("/deployments/web")),
        ("a Deployment is changed", Step::Alter(Thing::Workload), apply("/deployments/web")),
        ("a Deployment moves between units", Step::Carry(Thing::Workload), apply("/deployments/web")),
        ("a Secret is made", Step::Come(Thing::Secret), apply("/subject/secrets/sealed")),
        ("a Secret is changed", Step::Alter(Thing::Secret), apply("/subject/secrets/sealed")),
        ("a Job is deleted to be made anew, when approved", Step::Alter(Thing::Job), delete("/jobs/once")),
        ("the Job is made anew", Step::Alter(Thing::Job), apply("/jobs/once")),
        ("a Job goes", Step::Leave(Thing::Job), delete("/jobs/once")),
        ("an object with holes is made", Step::Come(Thing::Holes), apply("/subject/configmaps/holes")),
        ("an object with holes is changed", Step::Alter(Thing::Holes), apply("/subject/configmaps/holes")),
        ("a delete that takes long", Step::Leave(Thing::Slow), delete("/subject/configmaps/slow")),
        ("the record while it takes long", Step::Leave(Thing::Slow), inventory()),
    ] {
        cases.extend(Case::kills(name, Deed::Step(step), which, 0));
    }
    cases
}

/// What the repetitions of a case came to.
#[derive(Debug, Default)]
struct Sum {
    repetitions: usize,
    struck: usize,
    lost: usize,
    doubled: usize,
    wrong_deletes: usize,
    inventory: usize,
    stuck: usize,
    took: Duration,
    words: Vec<String>,
}

/// Runs what was asked for; the exit code is 0 only if nothing was lost, doubled, or wrongly deleted.
pub async fn run(args: Args) -> ExitCode {
    match run_in(&args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("faults: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run_in(args: &Args) -> Result<bool> {
    let cases: Vec<Case> =
        all().into_iter().filter(|case| args.only.as_ref().is_none_or(|only| case.name.contains(only))).collect();
    if args.list {
        for case in &cases {
            println!("{}", case.name);
        }
        return Ok(true);
    }
    let mut rig = Rig::start(OBJECTS, &mut |text| eprintln!("{text}")).await?;
    let mut rows = Vec::new();
    let (mut clean, mut notes) = (true, Vec::new());
    for case in &cases {
        let sum = repeat(&mut rig, case, args.repetitions.max(1)).await?;
        let wrong = sum.lost + sum.doubled + sum.wrong_deletes + sum.inventory + sum.stuck;
        clean &= wrong == 0;
        eprintln!("{}: {} repetitions, {} wrong, {:.0} s", case.name, sum.repetitions, wrong, sum.took.as_secs_f64());
        notes.extend(sum.words.iter().take(5).map(|words| format!("{}: {words}", case.name)));
        rows.push(
            [sum.repetitions, sum.struck, sum.lost, sum.doubled, sum.wrong_deletes, sum.inventory, sum.stuck]
                .iter()
                .map(usize::to_string)
                .fold(vec![case.name.clone()], |mut row, cell| {
                    row.push(cell);
                    row
                }),
        );
    }
    rig.stop().await?;
    let report = Report {
        title: "Faults between an agent and its API server".into(),
        equal: clean,
        gate:
            "Each repetition is one commit under the fault. Judged by the API server's audit log and by what is in the \
               cluster: lost is what is not as declared in the end, doubled a write beyond the one that was needed, a \
               wrong delete one of what is declared or not ours. Inventory counts records that are not exact, stuck \
               the repetitions that did not become as declared in time."
                .into(),
        columns: vec!["case", "repetitions", "struck", "lost", "doubled", "wrong deletes", "inventory", "stuck"],
        rows,
        notes,
    };
    std::io::stdout().write_all(report.markdown().as_bytes()).context("print the table")?;
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("write {}", file.display()))?;
    }
    Ok(clean)
}

async fn repeat(rig: &mut Rig, case: &Case, repetitions: usize) -> Result<Sum> {
    let begin = Instant::now();
    let mut sum = Sum::default();
    for repetition in 0..repetitions {
        sum.repetitions += 1;
        match case.make(rig, repetition).await {
            Ok(outcome) => {
                sum.struck += outcome.struck;
                sum.lost += outcome.verdict.lost;
                sum.doubled += outcome.verdict.doubled;
                sum.wrong_deletes += outcome.verdict.wrong_deletes;
                sum.inventory += outcome.inventory.len();
                sum.words.extend(outcome.verdict.words);
                sum.words.extend(outcome.inventory);
            }
            Err(error) => {
                sum.stuck += 1;
                sum.words.push(format!("{error:#}"));
                eprintln!("{}: {error:#}\n{}", case.name, rig.logs().await);
                rig.recover().await?;
            }
        }
    }
    sum.took = begin.elapsed();
    Ok(sum)
}
