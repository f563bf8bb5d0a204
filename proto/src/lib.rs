//! The wire contracts: `chat.v1` (the messaging service) and `firedrill.v1` (the controller).
//!
//! Generated from the `.proto` files beside this package, which are the documentation of every message and field.

/// The messaging service: clients, peers and operators.
#[expect(missing_docs, reason = "generated; the .proto files hold the docs")]
pub mod chat {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("chat.v1");
    }
}

/// The controller of runs.
pub mod firedrill {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("firedrill.v1");
    }
}

/// The encoded descriptors of every service, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
