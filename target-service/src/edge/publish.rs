//! A gateway's word to the directory: probes of the store, and what follows from them by its health rule.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use super::lock;
use crate::{
    client::{Client, Directory},
    discovery::{Publication, Publisher, Word},
    env::Clock,
};

/// What a gateway knows of its door.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DoorState {
    /// Whether the store is within reach; none before probes have told.
    pub(super) reaches: Option<bool>,
    /// Whether the directory has the door.
    pub(super) published: bool,
}

/// Probes the store every `every`, and tells the directory, for ever.
pub(super) async fn keep_published(
    store: Client,
    directory: Option<Directory>,
    mut publisher: Publisher,
    door: Publication,
    every: Duration,
    clock: Clock,
    state: Arc<Mutex<DoorState>>,
) {
    let store = store.with_timeout(every);
    loop {
        let started = clock.now();
        let answered = tokio::time::timeout(every, store.refresh_routes()).await;
        let reached = matches!(answered, Ok(Ok(())));
        publisher.probed(reached, clock.now());
        lock(&state).reaches = publisher.reaches();
        if let Some(directory) = &directory
            && let Some(word) = publisher.word(clock.now())
        {
            let told = tell(directory, &door, word).await;
            match told {
                Ok(()) => {
                    tracing::debug!(?word, "the directory was told");
                    publisher.told(word, clock.now());
                    lock(&state).published = word != Word::Withdraw;
                }
                Err(error) => tracing::warn!(?word, %error, "the directory was not told"),
            }
        }
        clock.sleep_until(started + every).await;
    }
}

async fn tell(directory: &Directory, door: &Publication, word: Word) -> Result<(), crate::client::CallError> {
    match word {
        Word::Publish { healthy } => {
            let said = Publication {
                healthy,
                ..door.clone()
            };
            directory.publish(&said).await
        }
        Word::Withdraw => directory.withdraw(&door.name, door.generation).await,
    }
}
