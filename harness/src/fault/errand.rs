//! What is asked of the system itself: it is asked, and then shown to have done it by a way of its own.

use super::evidence::Evidence;
use super::nodes::Nodes;
use crate::system::Errand;

impl Nodes {
    /// Asks the system for what ends by itself: when it began to, and when that was done.
    pub(super) async fn errand_to_its_end(&self, errand: &Errand) -> Result<(Evidence, Evidence), String> {
        let text = self.system.order(errand, true).await?;
        let began = Evidence {
            at: self.clock.now(),
            text,
        };
        let text = self.system.proof(errand, true).await?;
        let ended = Evidence {
            at: self.clock.now(),
            text,
        };
        Ok((began, ended))
    }

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
