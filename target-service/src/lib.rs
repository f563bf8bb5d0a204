//! A replicated messaging service worth breaking.
//!
//! Data flows one way: a front (`grpc`, or the simulation) hands client calls to a node's loop (`node`), which proposes
//! commands to replicas (`consensus`), makes them durable (`storage`) and applies them to the chat state (`chat`).
//! Time, randomness, the network and the disk are reached only through `env`.

pub mod chat;
pub mod client;
pub mod consensus;
pub mod discovery;
pub mod edge;
pub mod env;
pub mod grpc;
pub mod node;
pub mod placement;
mod plant;
pub mod process;
pub mod registry;
pub mod sim;
pub mod statuspage;
pub mod storage;
