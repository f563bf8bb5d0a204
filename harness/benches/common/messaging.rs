//! The messaging service as benchmarks start it: three nodes, as in the scenarios.

use std::collections::BTreeMap;

use firedrill::system::{Messaging, MessagingSpec, System};

use crate::common::Result;

/// Nodes of a cluster.
pub(crate) const NODES: u32 = 3;

/// Three nodes with `shards` shards, at the service's own defaults but for `settings`.
pub(crate) fn messaging(seed: u64, shards: u32, settings: &[(&str, serde_json::Value)]) -> Result<Box<dyn System>> {
    let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
    let spec = MessagingSpec {
        nodes: NODES,
        zones: Vec::new(),
        shards,
        login_per_s: None,
        plant: None,
        gateways: None,
        latency_ms: BTreeMap::new(),
        replicas: None,
        verification: None,
        status_page: None,
        settings: settings.collect::<BTreeMap<_, _>>(),
    };
    let system = Messaging::new("main", &spec, seed)?;
    Ok(Box::new(system.with_program(env!("CARGO_BIN_EXE_firedrill").into())))
}
