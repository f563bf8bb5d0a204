//! People open the app: they see their own conversations, current or not. After the load everybody does so once more, until
//! the answer is current.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;

use super::{
    Chat,
    crowd::{Crowd, Somebody, everybody},
    life::{Deed, Life},
};
use crate::{
    base::Nanos,
    history::{Answer, Class, Subject},
    workload::{
        client::{Answered, CallFailure},
        home::Home,
    },
};

/// People who are asked after the load, at most.
const ASKED_MAX: usize = 1000;
/// Those asked at one time.
const ASKED_AT_ONCE: usize = 32;
/// How long all of them may take.
const ASKED_WITHIN: Duration = Duration::from_secs(10);
const CALL_WITHIN: Duration = Duration::from_secs(3);

/// Opens the app for one after the other.
pub(super) struct Opening(Crowd);

impl Opening {
    pub(super) fn new(chat: &Chat, load: usize) -> Self {
        Self(Crowd::of(chat, load))
    }
}

impl Life for Opening {
    fn next(&mut self, chat: &Arc<Chat>, intended: Nanos) -> Deed {
        let (who, policy) = (self.0.next(chat), self.0.policy.clone());
        let needs = who.client(chat).home_of_user(who.user(chat));
        let intent = who.intends(chat, Class::Open, needs, intended, Subject::Nothing);
        Deed::new(chat, intent, |chat, intent| async move {
            let began = chat.plan.engine.clock.now();
            let client = who.client(&chat);
            let call = || client.open(who.caller(&chat), policy.within);
            // What became of it has been recorded.
            if let Ok(home) = chat.plan.engine.perform(&intent, &policy, call).await {
                who.told(&chat, began, seen(home));
            }
        })
    }
}

fn seen(home: Home) -> Answer {
    Answer::Threads {
        current: home.current,
        more: home.more,
        threads: home.threads,
    }
}

/// Everybody opens the app once more; who gets no current answer in time has none.
pub(super) async fn once_more(chat: &Arc<Chat>) {
    let deadline = chat.plan.engine.clock.now().plus(ASKED_WITHIN);
    let mut waiting = everybody(chat).into_iter().take(ASKED_MAX);
    let mut tasks = JoinSet::new();
    loop {
        while tasks.len() < ASKED_AT_ONCE
            && let Some(person) = waiting.next()
        {
            let chat = Arc::clone(chat);
            tasks.spawn(async move { opens(&chat, Somebody::at_first_device(&chat, person), deadline).await });
        }
        if tasks.join_next().await.is_none() {
            return;
        }
    }
}

async fn opens(chat: &Chat, who: Somebody, deadline: Nanos) {
    let client = who.client(chat);
    let call = || async move {
        let answered = client.open(who.caller(chat), CALL_WITHIN).await;
        match &answered.result {
            Ok(home) if !home.current => Answered::failed(CallFailure::refused("not current")),
            _ => answered,
        }
    };
    let began = chat.plan.engine.clock.now();
    if let Ok(home) = chat.insist(&format!("open {}", who.user(chat)), deadline, call).await {
        who.told(chat, began, seen(home));
    }
}
