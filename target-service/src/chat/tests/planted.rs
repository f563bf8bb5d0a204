//! Each plant is seen, and the honest machine shows none of it.

use super::support::{Shard, fence, send};
use crate::chat::{Plant, Reply, ids};

const MESSAGES: u64 = 205;

/// Sends messages from Ann to Bob one at a time and returns what Bob's device was shown, as (sequence, client id, body).
fn shown_with(plant: Option<Plant>) -> Vec<(u64, u64, Vec<u8>)> {
    let mut shard = Shard::alone();
    let ann = shard.user("1111111");
    let bob = shard.user("2222222");
    let session = shard.session(ann, 1, 1);
    shard.session(bob, 1, 1);
    shard.machine.set_plant(plant);
    for n in 1..=MESSAGES {
        shard.run(send((ann, 1, session), bob, n, &format!("message {n}")));
        shard.pump();
        shard.time_ms += 10;
    }
    shard.time_ms += 2000;
    shard.run(fence(&[]));
    let shown = shard.shown(bob, 1);
    let sequences: Vec<u64> = shown.iter().map(|it| it.0).collect();
    assert_eq!(
        sequences,
        (1..=shown.len() as u64).collect::<Vec<_>>(),
        "no gap, whatever the plant"
    );
    shown
}

fn ids_of(shown: &[(u64, u64, Vec<u8>)]) -> Vec<u64> {
    shown.iter().map(|it| it.1).collect()
}

#[test]
fn without_a_plant_everything_is_shown_once_in_order() {
    let shown = shown_with(None);
    assert_eq!(ids_of(&shown), (1..=MESSAGES).collect::<Vec<_>>());
    assert!(shown.iter().all(|it| it.2 == format!("message {}", it.1).into_bytes()));
}

#[test]
fn redeliver_shows_every_fiftieth_twice() {
    let ids = ids_of(&shown_with(Some(Plant::Redeliver)));
    let twice: Vec<u64> = ids.windows(2).filter(|w| w[0] == w[1]).map(|w| w[0]).collect();
    assert_eq!(twice, [50, 100, 150, 200]);
}

#[test]
fn reorder_swaps_neighbours_and_loses_none() {
    let mut ids = ids_of(&shown_with(Some(Plant::Reorder)));
    let back: Vec<u64> = ids.windows(2).filter(|w| w[0] > w[1]).map(|w| w[1]).collect();
    // A delivery that lets another go is not held back itself, but counts.
    assert_eq!(back, [50, 100, 150, 200]);
    ids.sort_unstable();
    assert_eq!(ids, (1..=MESSAGES).collect::<Vec<_>>());
}

#[test]
fn a_delivery_held_back_last_is_let_go_in_time() {
    let mut shard = Shard::alone();
    let ann = shard.user("1111111");
    let bob = shard.user("2222222");
    let session = shard.session(ann, 1, 1);
    shard.session(bob, 1, 1);
    shard.machine.set_plant(Some(Plant::Reorder));
    for n in 1..=50 {
        shard.run(send((ann, 1, session), bob, n, "x"));
    }
    shard.pump();
    assert_eq!(shard.shown(bob, 1).len(), 49);
    shard.time_ms += 1000;
    let applied = shard.apply(fence(&[]));
    assert_eq!(applied.delivered, [bob].into());
    assert_eq!(shard.shown(bob, 1).len(), 50);
}

#[test]
fn drop_delivery_leaves_no_gap_in_the_stream_but_one_in_the_messages() {
    let ids = ids_of(&shown_with(Some(Plant::DropDelivery)));
    let missing: Vec<u64> = (1..=MESSAGES).filter(|id| !ids.contains(id)).collect();
    assert_eq!(missing, [100, 200]);
}

#[test]
fn corrupt_changes_bodies_on_their_way_and_not_in_the_store() {
    let shown = shown_with(Some(Plant::Corrupt));
    let wrong: Vec<u64> = shown
        .iter()
        .filter(|it| it.2 != format!("message {}", it.1).into_bytes())
        .map(|it| it.1)
        .collect();
    assert_eq!(wrong, [100, 200]);
}

#[test]
fn dup_store_stores_a_repeat_again() {
    let mut shard = Shard::alone();
    let ann = shard.user("1111111");
    let bob = shard.user("2222222");
    let session = shard.session(ann, 1, 1);
    shard.machine.set_plant(Some(Plant::DupStore));
    for position in 1..=2 {
        let conversation = ids::conversation_id(ann, bob);
        let want = Reply::Sent {
            conversation,
            position,
            repeated: false,
        };
        assert_eq!(shard.run(send((ann, 1, session), bob, 1, "x")), want);
    }
}

#[test]
fn shrink_history_shows_less_to_whoever_logged_in_anew() {
    for (plant, ends) in [(None, [5, 5]), (Some(Plant::ShrinkHistory), [5, 2])] {
        let mut shard = Shard::alone();
        let ann = shard.user("1111111");
        let bob = shard.user("2222222");
        let session = shard.session(ann, 1, 1);
        shard.machine.set_plant(plant);
        for n in 1..=5 {
            shard.run(send((ann, 1, session), bob, n, "x"));
            shard.pump();
        }
        let mut ended = Vec::new();
        for nonce in 1..=2 {
            let session = shard.session(bob, 1, nonce);
            let page = shard.machine.threads(bob, 1, session, 0).unwrap().unwrap();
            ended.push(page.threads[0].last_position);
        }
        assert_eq!(ended, ends, "{plant:?}");
    }
}

#[test]
fn two_replicas_with_one_plant_stay_alike() {
    for plant in Plant::ALL {
        let name = plant.as_str();
        let digest = || {
            let mut shard = Shard::alone();
            shard.machine.set_plant(Some(*plant));
            let ann = shard.user("1111111");
            let bob = shard.user("2222222");
            let session = shard.session(ann, 1, 1);
            shard.session(bob, 2, 1);
            for n in 1..=120 {
                shard.run(send((ann, 1, session), bob, n, "x"));
                shard.pump();
            }
            shard.machine.digest().unwrap()
        };
        assert_eq!(digest(), digest(), "{name}");
    }
}
