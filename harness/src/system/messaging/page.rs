//! The status page: how it is laid out, and how it is asked. Nobody's links stand between it and what it asks, nor between
//! it and who asks it: it is to tell of outages, not to share them.

use std::{collections::BTreeMap, fmt::Write as _, net::SocketAddr, time::Duration};

use firedrill_proto::chat::v1::{Said, SayRequest, status_page_client::StatusPageClient};
use target_service::edge::{PAGE_PLANT, PageConfig};
use tonic::transport::{Channel, Endpoint};

use super::{MessagingSpec, SystemError};
use crate::{
    history::{Statement, Word},
    system::StatusPageSpec,
};

/// Its name among the processes.
pub(super) const PAGE: &str = "status-page";
/// A number that no user of a run has: that of the page's own account.
const PHONE: &str = "+997000000002";
/// How long it may take to answer; then it has said nothing.
const SAY_WITHIN: Duration = Duration::from_secs(1);

/// The plant that `spec` asks of its status page.
pub(super) fn plant(spec: &MessagingSpec) -> Option<&str> {
    spec.plant.as_deref().filter(|plant| *plant == PAGE_PLANT)
}

/// What the page is given to look at.
pub(super) struct Sights {
    pub(super) listen: SocketAddr,
    pub(super) directory: SocketAddr,
    pub(super) nodes: BTreeMap<String, String>,
    pub(super) gateways: BTreeMap<String, String>,
}

/// The page's configuration file.
pub(super) fn text(spec: &MessagingSpec, page: StatusPageSpec, sights: &Sights) -> Result<String, SystemError> {
    let Sights { listen, directory, .. } = sights;
    let (shards, calm) = (spec.shards, page.backlog_calm);
    let mut text = format!(
        "listen = \"{listen}\"\ndirectory = \"{directory}\"\nshards = {shards}\nbacklog_calm = {calm}\nphone = \"{PHONE}\"\n"
    );
    if let Some(plant) = plant(spec) {
        let _ = writeln!(text, "plant = \"{plant}\"");
    }
    for (table, entries) in [("nodes", &sights.nodes), ("gateways", &sights.gateways)] {
        let _ = writeln!(text, "[{table}]");
        for (key, address) in entries {
            let _ = writeln!(text, "\"{key}\" = \"{address}\"");
        }
    }
    PageConfig::parse(&text).map_err(|e| SystemError(format!("the status page's configuration: {e}")))?;
    Ok(text)
}

/// Whoever looks at the page.
pub(super) struct Reader(StatusPageClient<Channel>);

impl Reader {
    /// Dials `address` when it is first asked, and again when the connection broke. On a runtime.
    pub(super) fn of(address: SocketAddr) -> Result<Self, SystemError> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"));
        let endpoint = endpoint.map_err(|e| SystemError(format!("the status page's address {address}: {e}")))?;
        let channel = endpoint.connect_timeout(SAY_WITHIN).tcp_nodelay(true).connect_lazy();
        Ok(Self(StatusPageClient::new(channel)))
    }

    /// What the page says; none when it says nothing in time.
    pub(super) async fn look(&self) -> Option<Statement> {
        let mut client = self.0.clone();
        let said = tokio::time::timeout(SAY_WITHIN, client.say(SayRequest {})).await;
        let said = said.ok()?.ok()?.into_inner();
        let word = match said.said() {
            Said::AllClear => Word::AllClear,
            Said::Degraded => Word::Degraded,
            Said::Down => Word::Down,
            Said::Unknown | Said::Unspecified => Word::Unknown,
        };
        Some(Statement {
            said: word,
            sessions: said.sessions,
            sessions_before: said.sessions_before,
            backlog: said.backlog,
            reasons: said.reasons,
        })
    }
}
