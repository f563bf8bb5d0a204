//! The processes at the edge: the gateway, the directory, and the status page, around the pure cores of `discovery`,
//! `registry` and `statuspage`. Here are their configurations, their gRPC and their loops.
//!
//! ```text
//!  clients ----> gateway ----> nodes          the gateway's way to the nodes is the back-end plane, and so is its way to
//!     |            |  ^----> gateways         other gateways: cut it, and clients stay connected to gateways that have
//!     v            v                          nothing to give them
//!  directory <-----+                          the directory stands on the client plane and needs nobody
//!  status page ----> all of them              the page asks, and needs nobody's answer to speak
//! ```

mod config;
mod directory;
mod forward;
mod gateway;
mod page;
mod publish;
mod registry;
mod registry_wire;
mod watch;

pub use config::{DirectoryConfig, GatewayConfig, PAGE_PLANT, PageConfig, RegistryConfig};
pub use directory::serve_directory;
pub use gateway::serve_gateway;
pub use page::serve_page;

/// The version that processes at the edge say they are.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Completes once somebody asks for it, or nobody is left to ask for anything else.
async fn wanted(mut asked: tokio::sync::watch::Receiver<bool>) {
    let _ = asked.wait_for(|asked| *asked).await;
}

/// Locks what only plain code between awaits ever holds.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
