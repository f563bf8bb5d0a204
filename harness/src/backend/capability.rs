//! What a backend or a system can do, so that what can not be done is refused by name before the run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Something a fault may need. A plan is refused when neither the backend nor the system has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// The backend starts and kills nodes.
    Processes,
    /// The backend freezes and resumes nodes.
    Freeze,
    /// The backend's links between nodes can be cut, per direction.
    Links,
    /// The backend's links between clients and nodes can be cut, per direction.
    ClientLinks,
    /// The backend's links can delay.
    Delay,
    /// What a node had not synced is gone when it dies.
    VolatileDisk,
    /// The system says who leads.
    Observe,
    /// The system moves a leader when asked.
    LeaderTransfer,
    /// The run's own clients can be made to ask for more or for less.
    Load,
    /// The run's own clients have sessions that they can drop.
    Sessions,
    /// The system verifies sign-ups, and whoever carries its codes can be made to fail.
    Verification,
    /// The system moves a replica when asked.
    Placement,
    /// The system has a directory in which gateways are found, and which can be made to answer something else.
    Discovery,
}

impl Capability {
    /// Its name, as in messages and plans.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Processes => "processes",
            Self::Freeze => "freeze",
            Self::Links => "links",
            Self::ClientLinks => "client_links",
            Self::Delay => "delay",
            Self::VolatileDisk => "volatile_disk",
            Self::Observe => "observe",
            Self::LeaderTransfer => "leader_transfer",
            Self::Load => "load",
            Self::Sessions => "sessions",
            Self::Verification => "verification",
            Self::Placement => "placement",
            Self::Discovery => "discovery",
        }
    }
}

impl std::fmt::Display for Capability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
