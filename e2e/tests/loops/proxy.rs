//! Faults between the agent and its API server, and an agent that is killed: a few cases of `cargo faults`, once each.
//! Nothing may be lost, done twice, or wrongly deleted.

use anyhow::{Result, ensure};
use driftless_e2e::faults::cases::{self, Case};
use driftless_e2e::faults::run::Rig;
use driftless_e2e::world::Steps;

use crate::common::Room;

/// Those that take no long waits, one of each sort.
const CASES: [&str; 16] = [
    "429 with Retry-After",
    "503",
    "410 on watches, which are cut",
    "reset before the request",
    "answer lost, of objects",
    "answer lost, of records",
    "answer lost, of the lease",
    "killed after intents are stored",
    "killed after a create in the middle",
    "killed before the record of changes",
    "killed after the first delete",
    "killed after fields are taken over",
    "killed after a Namespace is made",
    "killed before a Deployment moves between units",
    "killed after the Job is made anew",
    "killed after a delete that takes long",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxy() -> Result<()> {
    let _room = Room::wait().await?;
    let mut rig = Rig::start(12, &mut |text| println!("            {text}")).await?;
    let mut steps = Steps::new();
    let all = cases::all();
    for name in CASES {
        let case = all.iter().find(|case| case.name == name);
        steps.run(name, once(&mut rig, case)).await;
    }
    let (world, _folder) = rig.into_world();
    steps.finish(world).await
}

async fn once(rig: &mut Rig, case: Option<&Case>) -> Result<()> {
    let Some(case) = case else { anyhow::bail!("there is no such case") };
    match case.make(rig, 0).await {
        Ok(outcome) => {
            ensure!(outcome.struck > 0, "the fault never struck");
            ensure!(outcome.clean(), "{:?} {:?}", outcome.verdict, outcome.inventory);
            Ok(())
        }
        Err(error) => {
            // The next case must not suffer for it.
            rig.recover().await?;
            Err(error)
        }
    }
}
