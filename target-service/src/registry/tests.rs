//! Members alone, hosts with their queues, and what a flap costs in either mode.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{
    flap::{Flap, Heal},
    *,
};
use crate::env::Streams;

const NS: [u32; 5] = [8, 16, 24, 32, 48];

fn member(id: MemberId, members: u32, incarnation: u64, mode: Mode) -> Member {
    let options = MemberOptions {
        mode,
        idle_rounds: 2,
        ..MemberOptions::default()
    };
    let rng = Streams::new(7).stream(&format!("member {id}"));
    Member::new(id, 0..members, incarnation, options, rng)
}

/// Carries everything that is said until nobody says anything more, in an order of no meaning; bounded.
fn carry(members: &mut [Member]) -> usize {
    let mut carried = 0;
    loop {
        let said: Vec<Envelope> = members.iter_mut().flat_map(Member::drain).collect();
        if said.is_empty() {
            return carried;
        }
        for Envelope { from, to, body } in said {
            carried += 1;
            assert!(carried < 1_000_000, "they never stop");
            members[to as usize].receive(from, &body);
        }
    }
}

fn mesh(members: &mut [Member]) {
    let ids: Vec<MemberId> = members.iter().map(Member::id).collect();
    for member in members.iter_mut() {
        for id in &ids {
            member.link_up(*id);
        }
    }
}

fn rounds(members: &mut [Member], many: usize) {
    for _ in 0..many {
        for member in members.iter_mut() {
            member.tick();
        }
        carry(members);
    }
}

#[test]
fn a_session_is_found_where_it_is_open_and_not_where_it_was() {
    for mode in Mode::ALL {
        let mut members: Vec<Member> = (0..4).map(|id| member(id, 4, 1, mode)).collect();
        mesh(&mut members);
        carry(&mut members);
        assert!(members[1].open(77));
        rounds(&mut members, 20);
        assert!(members.iter().all(|member| member.holder(77) == Some(1)), "{mode}");
        members[1].end(77);
        members[3].open(77);
        rounds(&mut members, 20);
        assert!(members.iter().all(|member| member.holder(77) == Some(3)), "{mode}");
        assert!(members.iter().all(|member| member.sessions() == 1), "{mode}");
        // Whoever can't be reached is not said to hold anything.
        members[0].link_down(3);
        assert_eq!((members[0].holder(77), members[0].sessions()), (None, 0));
    }
}

#[test]
fn a_member_that_starts_anew_forgets_and_is_believed() {
    let mut members: Vec<Member> = (0..3).map(|id| member(id, 3, 5, Mode::Digests)).collect();
    members[2].open(9);
    mesh(&mut members);
    rounds(&mut members, 20);
    assert_eq!(members[0].holder(9), Some(2));
    // Its clock went back: its new life has a lower number than its last one.
    members[2] = member(2, 3, 4, Mode::Digests);
    members[2].open(10);
    let ids: Vec<MemberId> = vec![0, 1];
    for id in ids {
        members[id as usize].link_down(2);
        members[id as usize].link_up(2);
        members[2].link_up(id);
    }
    rounds(&mut members, 40);
    assert!(
        members
            .iter()
            .all(|member| member.holder(9).is_none() && member.holder(10) == Some(2))
    );
}

#[test]
fn a_session_beyond_the_bound_is_refused_and_one_that_is_open_is_not() {
    let options = MemberOptions {
        sessions_max: 2,
        ..MemberOptions::default()
    };
    let mut full = Member::new(0, [0], 1, options, Streams::new(1).stream("x"));
    assert!(full.open(1) && full.open(2) && full.open(2) && !full.open(3));
    full.end(1);
    assert!(full.open(3));
    assert_eq!(full.own_sessions(), 2);
}

#[test]
fn a_full_queue_drops_counts_and_never_grows() {
    let mut host = Host::new([member(0, 8, 1, Mode::Digests)], 3);
    let says = |from| Envelope {
        from,
        to: 0,
        body: Body::Digest(std::iter::empty().collect()),
    };
    let taken: Vec<bool> = (1..6).map(|from| host.deliver(says(from))).collect();
    assert_eq!(taken, [true, true, true, false, false]);
    while host.take_in().is_some() {}
    let status = host.status();
    assert_eq!(
        (status.queue, status.queue_peak, status.queue_max, status.dropped),
        (0, 3, 3, 2)
    );
    assert_eq!(status.received, 3);
}

#[test]
fn ends_that_were_forgotten_are_told_as_a_whole() {
    let mut members: Vec<Member> = (0..2).map(|id| member(id, 2, 1, Mode::Digests)).collect();
    mesh(&mut members);
    members[0].open(1);
    rounds(&mut members, 10);
    members[0].link_down(1);
    members[1].link_down(0);
    members[0].end(1);
    for session in 2..5000 {
        members[0].open(session);
        members[0].end(session);
    }
    members[0].open(5000);
    mesh(&mut members);
    rounds(&mut members, 10);
    assert_eq!((members[1].holder(1), members[1].holder(5000)), (None, Some(0)));
    assert_eq!(members[0].print(), members[1].print());
}

fn counted(mode: Mode, seed: u64) -> Vec<(u32, u64)> {
    let count = |members| {
        let heal = flap::run(Flap {
            sessions: 4,
            ..Flap::new(mode, members, seed)
        });
        assert!(
            heal.agreed_ms.is_some(),
            "{members} members, {mode}, seed {seed}: {heal:?}"
        );
        (members, heal.messages)
    };
    NS.map(count).into()
}

/// The promise of this registry, and the story of what went before it.
#[test]
fn a_heal_costs_the_naive_registry_more_than_n_squared_and_digests_at_most_that() {
    let naive = counted(Mode::Naive, 1);
    let steep = growth::exponent(&naive).unwrap();
    assert!(steep > 2.5, "naive grows with n^{steep:.2}: {naive:?}");
    for seed in [1, 2, 3] {
        let digests = counted(Mode::Digests, seed);
        let flat = growth::exponent(&digests).unwrap();
        assert!(flat <= 2.0, "digests grow with n^{flat:.2}: {digests:?}");
        assert!(
            digests.iter().zip(&naive).all(|(few, many)| few.1 < many.1),
            "{digests:?} {naive:?}"
        );
    }
}

#[test]
fn the_same_seed_counts_the_same() {
    let of = |seed| -> Heal { flap::run(Flap::new(Mode::Digests, 16, seed)) };
    assert_eq!(of(5), of(5));
    assert_ne!(of(5).print, of(6).print);
}

/// The same network, the same narrow queues: the storm fills them and loses what finds no room, digests hardly use them.
#[test]
fn a_storm_fills_every_queue_and_digests_do_not() {
    let narrow = |mode| {
        flap::run(Flap {
            queue_max: 128,
            flaps: 3,
            sessions: 4,
            ..Flap::new(mode, 32, 4)
        })
    };
    let (naive, digests) = (narrow(Mode::Naive), narrow(Mode::Digests));
    assert!(
        naive.queue_peak == 128 && naive.dropped * 10 > naive.messages,
        "{naive:?}"
    );
    assert!(digests.agreed_ms.is_some() && digests.dropped == 0, "{digests:?}");
    assert!(digests.messages * 10 < naive.messages, "{digests:?} {naive:?}");
    // With room for next to nothing digests are lost too, and asked for again.
    let tiny = flap::run(Flap {
        queue_max: 2,
        ..Flap::new(Mode::Digests, 32, 4)
    });
    assert!(tiny.dropped > 0 && tiny.agreed_ms.is_some(), "{tiny:?}");
}

#[test]
fn what_is_lost_is_asked_for_again_but_not_by_the_naive_registry() {
    for (mode, found) in [(Mode::Digests, Some(1)), (Mode::Naive, None)] {
        let mut members: Vec<Member> = (0..3).map(|id| member(id, 3, 1, mode)).collect();
        mesh(&mut members);
        rounds(&mut members, 20);
        members[1].open(5);
        members[1].tick();
        assert!(!members[1].drain().is_empty(), "{mode}: something was lost");
        rounds(&mut members, 40);
        assert_eq!(members[0].holder(5), found, "{mode}");
    }
}

#[derive(Clone, Debug)]
enum Act {
    Open(u32, u64),
    End(u32, u64),
    Tick(u32),
    Link(u32, u32, bool),
    Restart(u32),
    /// Carries the message at this place of all that are under way, or loses it.
    Carry(usize, bool),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let who = 0_u32..4;
    let act = prop_oneof![
        3 => (who.clone(), 0_u64..6).prop_map(|(at, session)| Act::Open(at, session)),
        2 => (who.clone(), 0_u64..6).prop_map(|(at, session)| Act::End(at, session)),
        4 => who.clone().prop_map(Act::Tick),
        4 => (who.clone(), who.clone(), any::<bool>()).prop_map(|(a, b, up)| Act::Link(a, b, up)),
        1 => who.prop_map(Act::Restart),
        8 => (any::<usize>(), any::<bool>()).prop_map(|(at, lose)| Act::Carry(at, lose)),
    ];
    proptest::collection::vec(act, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever was lost, late, repeated or restarted: once all reach each other, all know exactly what each owner has.
    #[test]
    fn members_agree_on_the_truth_in_the_end(acts in acts()) {
        let mut members: Vec<Member> = (0..4).map(|id| member(id, 4, 1, Mode::Digests)).collect();
        let mut truth = vec![BTreeSet::new(); 4];
        let mut under_way: Vec<Envelope> = Vec::new();
        let mut lives = 1;
        for act in acts {
            match act {
                Act::Open(at, session) => {
                    members[at as usize].open(session);
                    truth[at as usize].insert(session);
                }
                Act::End(at, session) => {
                    members[at as usize].end(session);
                    truth[at as usize].remove(&session);
                }
                Act::Tick(at) => members[at as usize].tick(),
                Act::Link(a, b, true) => members[a as usize].link_up(b),
                Act::Link(a, b, false) => members[a as usize].link_down(b),
                Act::Restart(at) => {
                    lives += 1;
                    members[at as usize] = member(at, 4, lives, Mode::Digests);
                    truth[at as usize].clear();
                }
                Act::Carry(at, lose) if !under_way.is_empty() => {
                    let at = at % under_way.len();
                    // A message that is carried may come again later.
                    let envelope = if lose { under_way.swap_remove(at) } else { under_way[at].clone() };
                    if !lose {
                        members[envelope.to as usize].receive(envelope.from, &envelope.body);
                    }
                }
                Act::Carry(..) => {}
            }
            under_way.extend(members.iter_mut().flat_map(Member::drain));
            under_way.truncate(200);
        }
        mesh(&mut members);
        rounds(&mut members, 40);
        for member in &members {
            prop_assert_eq!(member.print(), members[0].print());
            prop_assert_eq!(member.sessions(), truth.iter().map(BTreeSet::len).sum::<usize>());
        }
        for (at, sessions) in truth.iter().enumerate() {
            prop_assert_eq!(members[at].own_sessions(), sessions.len());
        }
        for session in 0..6 {
            let holder = members[0].holder(session);
            let open = truth.iter().any(|sessions| sessions.contains(&session));
            prop_assert_eq!(holder.is_some(), open);
            prop_assert!(holder.is_none_or(|at| truth[at as usize].contains(&session)));
        }
    }
}
