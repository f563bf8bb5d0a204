//! People look who is there.

use std::sync::Arc;

use super::{
    Chat,
    crowd::Crowd,
    life::{Deed, Life},
};
use crate::{
    base::Nanos,
    history::{Answer, Class, Subject},
};

/// One after the other asks after somebody.
pub(super) struct Watching(Crowd);

impl Watching {
    pub(super) fn new(chat: &Chat, load: usize) -> Self {
        Self(Crowd::of(chat, load))
    }
}

impl Life for Watching {
    fn next(&mut self, chat: &Arc<Chat>, intended: Nanos) -> Deed {
        let (who, policy) = (self.0.next(chat), self.0.policy.clone());
        let of = chat.world.people[self.0.anybody()].user;
        let needs = who.client(chat).home_of_user(of);
        let intent = who.intends(chat, Class::Presence, needs, intended, Subject::Nothing);
        Deed::new(chat, intent, move |chat, intent| async move {
            let began = chat.plan.engine.clock.now();
            let client = who.client(&chat);
            let call = || client.presence(of, policy.within);
            // What became of it has been recorded.
            if let Ok(devices) = chat.plan.engine.perform(&intent, &policy, call).await {
                who.told(&chat, began, Answer::Presence { whose: of, devices });
            }
        })
    }
}
