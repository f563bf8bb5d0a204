//! Accounts of the messaging service and clients at its nodes, past all links.

use std::{collections::BTreeMap, time::Duration};

use target_service::client::{Attempt, ChannelOptions, Channels, Client};

use crate::{common::Result, rig::Rig};

const WITHIN: Duration = Duration::from_secs(5);
/// Attempts at each call that prepares something, and the wait between two of them.
const TRIES: u32 = 100;
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// A client at the nodes' own addresses, which knows who leads.
pub(crate) async fn client_of(rig: &Rig) -> Result<Client> {
    let mut addresses = BTreeMap::new();
    for (id, node) in (1..).zip(&rig.system.roster().nodes) {
        let spec = rig.system.node_spec(&node.name)?;
        let own = spec.listens.first().ok_or("a node listens nowhere")?;
        addresses.insert(id, own.to_string());
    }
    let client = Client::new(Channels::new(addresses, ChannelOptions::default())).with_timeout(WITHIN);
    client.refresh_routes().await.map_err(|error| error.to_string())?;
    Ok(client)
}

/// Makes the account of a number, with a device that is logged in; gives its id and the session.
pub(crate) async fn account(rig: &Rig, client: &Client, number: u64, device: u32) -> Result<(u64, u64)> {
    let phone = format!("+999{number:010}");
    let signed_up = patiently(rig, async || client.sign_up(&phone).await).await?;
    let opened = patiently(rig, async || client.open_session(signed_up.user, device, number).await).await?;
    Ok((signed_up.user, opened.session))
}

/// Tries until it is done.
pub(crate) async fn patiently<T>(rig: &Rig, call: impl AsyncFn() -> Attempt<T>) -> Result<T> {
    let mut last = String::new();
    for _ in 0..TRIES {
        match call().await.outcome {
            Ok(answer) => return Ok(answer),
            Err(error) => last = error.to_string(),
        }
        rig.clock.sleep(AGAIN_AFTER).await;
    }
    Err(format!("not done in {TRIES} attempts: {last}").into())
}
