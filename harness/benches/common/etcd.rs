//! etcd as the repository's own scenario starts it: three nodes with storage of their own.

use std::path::Path;

use firedrill::{
    plan, scenario,
    system::{self, System, SystemKind, missing},
};

use crate::common::Result;

/// The scenario whose system it is.
const SCENARIO: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../scenarios/systems/etcd-leader-kill.yaml"
);

/// Three nodes, with `flags` on their command line as well; the reason when there is no etcd on this machine.
pub(crate) fn etcd(flags: &[String]) -> Result<std::result::Result<Box<dyn System>, String>> {
    let loaded = scenario::load(Path::new(SCENARIO)).map_err(|error| error.render(false))?;
    let plan = plan::plan(&loaded, None, "process").map_err(|error| error.to_string())?;
    let mut spec = plan.systems.into_iter().next().ok_or("the scenario has no system")?;
    if missing(&spec).is_some() {
        return Ok(Err("not installed".to_owned()));
    }
    let SystemKind::Command(command) = &mut spec.kind else {
        return Err("the scenario's system is not a command".into());
    };
    command.command.extend_from_slice(flags);
    Ok(Ok(system::build(&spec, plan.seed)?))
}
