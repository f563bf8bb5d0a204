//! What many people at once cost: how long a message to a large group takes until everybody was shown it, and the memory of
//! a session that does nothing.

#[path = "../common/accounts.rs"]
mod accounts;
#[path = "../common/mod.rs"]
mod common;
mod fan_out;
mod memory;
#[path = "../common/messaging.rs"]
mod messaging;
#[path = "../common/rig.rs"]
mod rig;
mod sessions;

use std::process::ExitCode;

use common::{About, Bench, Result};

const ABOUT: About = About {
    name: "crowd",
    measures: "the fan-out of a message to a group, and the memory of idle sessions",
};

fn main() -> ExitCode {
    common::main(&ABOUT, measure)
}

async fn measure(bench: &Bench) -> Result<()> {
    if bench.args.wants("fan-out") {
        fan_out::measure(bench).await?;
    }
    if bench.args.wants("sessions") {
        sessions::measure(bench).await?;
    }
    Ok(())
}
