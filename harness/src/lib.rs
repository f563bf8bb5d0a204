//! firedrill rehearses outages on a replicated service, and measures how long it takes to come back and whether it
//! lost anything. ARCHITECTURE.md at the top of the repository is the map.

pub mod backend;
pub mod base;
pub mod check;
pub mod cli;
pub mod controller;
pub mod fault;
pub mod grpc;
pub mod history;
pub mod plan;
pub mod recovery;
pub mod report;
pub mod scenario;
pub mod system;
pub mod target;
pub mod telemetry;
pub mod workload;
