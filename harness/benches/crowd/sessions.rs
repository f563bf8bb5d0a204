//! Sessions that do nothing but hear heartbeats, all at one node, and what they take of its memory.

use std::time::Duration;

use firedrill::target::group_of;
use firedrill_proto::chat::v1::SubscribeRequest;

use crate::{
    accounts::{account, client_of, patiently},
    common::{Bench, Result, Table},
    memory::resident,
    messaging,
    rig::Rig,
};

/// Sessions that are opened, and after how many the memory is looked at.
const SESSIONS: usize = 15_000;
const LOOK_EVERY: usize = 5_000;
const QUICK: usize = 40;
/// The memory that a small machine gives one node.
const MEMORY: u64 = 2 << 30;
/// Heartbeats go on for this long before each look.
const IDLE_FOR: Duration = Duration::from_secs(3);
/// A device's stream has to have told where it stands.
const TOLD_WITHIN: Duration = Duration::from_secs(30);
const DEVICES: usize = 10;

/// Measures and prints.
pub(crate) async fn measure(bench: &Bench) -> Result<()> {
    let (count, every) = match bench.args.quick {
        true => (QUICK, QUICK),
        false => (SESSIONS, LOOK_EVERY),
    };
    let settings = [("bounds.streams", (SESSIONS + 1).into())];
    let rig = Rig::start(bench, "sessions", messaging::messaging(bench.args.seed, 1, &settings)?).await?;
    let leader = rig.well(&group_of(0)).await?;
    let config = rig.system.node_spec(&leader)?.dir.join("node.toml");
    let client = client_of(&rig).await?;
    let mut devices = Vec::with_capacity(count);
    for number in 0..count {
        let (user, device) = ((number / DEVICES) as u64, (number % DEVICES) as u32 + 1);
        let (user, session) = account(&rig, &client.on_lane(user), user, device).await?;
        devices.push((user, device, session));
    }
    rig.clock.sleep(IDLE_FOR).await;
    let empty = resident(&config)?;
    let mut table = Table::new(
        "Resident memory of a node with idle sessions",
        &[
            "sessions",
            "resident MiB",
            "KiB for each session",
            "sessions within 2 GiB",
        ],
    );
    table.row("0", [mebibytes(empty)]);
    let mut streams = Vec::with_capacity(count);
    for (at, (user, device, session)) in (1..).zip(devices) {
        let listen = SubscribeRequest {
            user,
            device,
            session,
            ..SubscribeRequest::default()
        };
        let lane = client.on_lane(at as u64);
        let mut stream = patiently(&rig, async || lane.subscribe(listen).await).await?;
        let told = tokio::time::timeout(TOLD_WITHIN, stream.next()).await;
        told.map_err(|_| "a stream says nothing")?
            .map_err(|end| format!("a stream ended: {end}"))?;
        streams.push(stream);
        if at % every == 0 {
            rig.clock.sleep(IDLE_FOR).await;
            let now = resident(&config)?;
            let each = now.saturating_sub(empty) as f64 / at as f64;
            let fit = if each > 0.0 {
                (MEMORY.saturating_sub(empty)) as f64 / each
            } else {
                f64::INFINITY
            };
            table.row(
                at.to_string(),
                [mebibytes(now), format!("{:.1}", each / 1024.0), format!("{fit:.0}")],
            );
        }
    }
    table.note(
        "All at the leader of one shard, over one connection for each lane of the client. The last column is what the row's \
         bytes for each session leave room for: beyond what was opened it is a calculation.",
    );
    bench.print(&table);
    drop(streams);
    rig.tear_down().await
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}
