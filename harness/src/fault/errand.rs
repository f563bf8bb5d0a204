//! What is asked of the system itself: it is asked, and then shown to have done it by a way of its own.

use super::evidence::Evidence;
use super::nodes::Nodes;
use crate::system::Errand;

impl Nodes {
    /// Asks the system for it, or to end it. The instant is that of its agreeing; that it is so is shown thereafter.
    pub(super) async fn errand(&self, errand: &Errand, on: bool) -> Result<Evidence, String> {
        let agreed = self.system.order(errand, on).await?;
        let at = self.clock.now();
        let seen = self.system.proof(errand, on).await?;
        Ok(Evidence {
            at,
            text: format!("{agreed}; {seen}"),
        })
    }
}
