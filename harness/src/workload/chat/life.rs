//! The social loads: each draws one deed after the other at the instants of its schedule, one file for each kind.

use std::{future::Future, pin::Pin, sync::Arc};

use super::{Chat, groups::GroupLife};
use crate::{base::Nanos, history::Class, workload::engine::Intent};

/// Something that somebody is about to do.
pub(super) struct Deed {
    pub(super) intent: Intent,
    pub(super) work: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Deed {
    /// A deed that `work` does, given what is meant.
    pub(super) fn new<F>(chat: &Arc<Chat>, intent: Intent, work: impl FnOnce(Arc<Chat>, Intent) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self {
            work: Box::pin(work(Arc::clone(chat), intent.clone())),
            intent,
        }
    }
}

/// A kind of life.
pub(super) trait Life: Send {
    /// What is done at the instant `intended`.
    fn next(&mut self, chat: &Arc<Chat>, intended: Nanos) -> Deed;
}

/// The life of load `number`; none for one that only sends to people.
pub(super) fn of(chat: &Chat, number: usize) -> Option<Box<dyn Life>> {
    match chat.plan.loads[number].class {
        Class::Group => Some(Box::new(GroupLife::new(chat, number))),
        _ => None,
    }
}
