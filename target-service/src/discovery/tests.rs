//! The three machines, alone and together.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn said(name: &str, zone: &str, generation: u64) -> Publication {
    Publication {
        name: name.to_owned(),
        zone: zone.to_owned(),
        address: format!("{name}:1"),
        generation,
        lease: at(1000),
        healthy: true,
    }
}

fn directory(keep_last: bool) -> Directory {
    Directory::new(DirectoryOptions {
        ttl: at(500),
        negative_ttl: at(200),
        keep_last,
        names_max: 4,
        ..DirectoryOptions::default()
    })
}

fn names(answer: &Answer) -> Vec<&str> {
    answer.doors.iter().map(|door| door.name.as_str()).collect()
}

fn first(lookup: &Lookup) -> &str {
    match lookup {
        Lookup::Doors(doors) => &doors[0].name,
        other => panic!("no doors: {other:?}"),
    }
}

#[test]
fn a_lease_runs_out_unless_it_is_renewed() {
    let mut directory = directory(false);
    directory.publish(&said("a", "x", 1), at(0)).unwrap();
    directory.publish(&said("b", "x", 1), at(0)).unwrap();
    directory.publish(&said("a", "x", 1), at(900)).unwrap();
    assert_eq!(names(&directory.resolve(at(999))), ["a", "b"]);
    assert_eq!(names(&directory.resolve(at(1000))), ["a"]);
    let empty = directory.resolve(at(1900));
    assert_eq!((empty.doors.len(), empty.ttl), (0, at(200)));
    assert_eq!(directory.counts().answered_empty, 1);
}

#[test]
fn an_earlier_life_neither_brings_a_door_back_nor_takes_one_away() {
    let mut directory = directory(false);
    directory.publish(&said("a", "x", 7), at(0)).unwrap();
    let outlived = directory.withdraw("a", 6).unwrap_err();
    assert!(outlived.to_string().contains("generation 7"), "{outlived}");
    assert_eq!(directory.look(at(1)).doors.len(), 1);
    directory.withdraw("a", 7).unwrap();
    // A plan that was drawn long ago and arrives late.
    assert!(directory.publish(&said("a", "x", 6), at(2)).is_err());
    assert!(directory.look(at(3)).doors.is_empty());
    directory.publish(&said("a", "x", 8), at(4)).unwrap();
    assert_eq!(directory.look(at(5)).doors.len(), 1);
    assert_eq!(directory.counts().refused, 2);
}

#[test]
fn what_can_not_be_published_is_refused_with_its_values() {
    let mut directory = directory(false);
    let wrong = [
        Publication {
            name: String::new(),
            ..said("a", "x", 1)
        },
        Publication {
            address: String::new(),
            ..said("a", "x", 1)
        },
        Publication {
            lease: Duration::ZERO,
            ..said("a", "x", 1)
        },
        Publication {
            lease: at(7_200_000),
            ..said("a", "x", 1)
        },
    ];
    for publication in wrong {
        assert!(matches!(
            directory.publish(&publication, at(0)),
            Err(PublishError::Invalid(_))
        ));
    }
    for name in ["a", "b", "c", "d"] {
        directory.publish(&said(name, "x", 1), at(0)).unwrap();
    }
    let full = directory.publish(&said("e", "x", 1), at(0)).unwrap_err();
    assert_eq!(full, PublishError::Full { names_max: 4 });
}

#[test]
fn one_that_can_not_work_is_handed_out_only_when_nobody_can() {
    let mut directory = directory(false);
    let sick = |name| Publication {
        healthy: false,
        ..said(name, "x", 1)
    };
    directory.publish(&sick("a"), at(0)).unwrap();
    directory.publish(&said("b", "x", 1), at(0)).unwrap();
    assert_eq!(names(&directory.look(at(1))), ["b"]);
    directory.publish(&sick("b"), at(2)).unwrap();
    assert_eq!(names(&directory.look(at(3))), ["a", "b"]);
}

#[test]
fn a_directory_that_keeps_the_last_never_goes_dark_by_silence_but_obeys_a_withdrawal() {
    let mut directory = directory(true);
    directory.publish(&said("a", "x", 1), at(0)).unwrap();
    directory.publish(&said("b", "x", 1), at(0)).unwrap();
    directory.withdraw("b", 1).unwrap();
    let answer = directory.resolve(at(60_000));
    assert_eq!((names(&answer), answer.kept), (vec!["a"], true));
    assert_eq!(directory.live(at(60_000)), 0);
}

#[test]
fn distortions_end_by_themselves() {
    let mut directory = directory(false);
    directory.publish(&said("a", "x", 1), at(0)).unwrap();
    directory.distort(Some(Distortion::Empty), at(100), at(10));
    assert!(directory.look(at(99)).doors.is_empty());
    assert_eq!(directory.look(at(100)).doors.len(), 1);
    directory.distort(Some(Distortion::Poison("nowhere:9".to_owned())), at(300), at(200));
    assert_eq!(directory.look(at(250)).doors[0].address, "nowhere:9");
    directory.distort(Some(Distortion::Without(["a".to_owned()].into())), at(300), at(260));
    assert!(directory.look(at(270)).doors.is_empty());
    let true_ttl = directory.look(at(300)).ttl;
    directory.distort(Some(Distortion::Ttl(at(77))), at(300), at(280));
    assert_eq!(
        (names(&directory.look(at(290))), directory.look(at(290)).ttl),
        (vec!["a"], at(77))
    );
    assert_ne!(true_ttl, at(77));
    directory.distort(Some(Distortion::Stale), at(900), at(300));
    directory.withdraw("a", 1).unwrap();
    // Said again, it still shows what it showed: a lease on a fault is renewed, not a new fault.
    directory.distort(Some(Distortion::Stale), at(950), at(400));
    assert_eq!(names(&directory.look(at(940))), ["a"]);
    directory.distort(None, at(0), at(941));
    assert!(directory.look(at(942)).doors.is_empty());
}

#[test]
fn answers_are_cached_the_empty_and_the_missing_ones_too() {
    let mut directory = directory(false);
    let mut cache = Resolver::new(
        "x",
        ResolverOptions {
            failure_ttl: at(50),
            ..ResolverOptions::default()
        },
    );
    assert_eq!(cache.lookup(0, at(0)), Lookup::Ask);
    cache.answered(directory.resolve(at(0)), at(0));
    // The gateway comes right after the question: for the negative TTL nobody who asked sees it.
    directory.publish(&said("a", "x", 1), at(1)).unwrap();
    assert_eq!(cache.lookup(0, at(199)), Lookup::Dark { until: at(200) });
    assert_eq!(cache.lookup(0, at(200)), Lookup::Ask);
    cache.answered(directory.resolve(at(200)), at(200));
    // And it goes right after the answer: for the TTL everybody still dials it.
    directory.withdraw("a", 1).unwrap();
    assert_eq!(first(&cache.lookup(0, at(699))), "a");
    assert_eq!(cache.lookup(0, at(700)), Lookup::Ask);
    cache.unanswered(at(700));
    assert_eq!(cache.lookup(0, at(749)), Lookup::Dark { until: at(750) });
    assert_eq!(cache.lookup(0, at(750)), Lookup::Ask);
    assert_eq!(cache.asked(), 3);
}

#[test]
fn stale_doors_outlive_a_directory_that_is_silent_but_not_one_that_says_none() {
    let options = ResolverOptions {
        serve_stale: true,
        ..ResolverOptions::default()
    };
    let mut cache = Resolver::new("x", options);
    let mut directory = directory(false);
    directory.publish(&said("a", "x", 1), at(0)).unwrap();
    cache.answered(directory.resolve(at(0)), at(0));
    cache.unanswered(at(500));
    assert_eq!(first(&cache.lookup(0, at(501))), "a");
    cache.answered(directory.resolve(at(2000)), at(2000));
    assert!(matches!(cache.lookup(0, at(2001)), Lookup::Dark { .. }));
}

#[test]
fn clients_take_a_door_of_their_own_zone_and_another_when_it_is_shut() {
    let mut directory = directory(false);
    for (name, zone) in [("a1", "a"), ("a2", "a"), ("b1", "b")] {
        directory.publish(&said(name, zone, 1), at(0)).unwrap();
    }
    let mut cache = Resolver::new("b", ResolverOptions::default());
    cache.answered(directory.resolve(at(0)), at(0));
    assert!((0..50).all(|lane| first(&cache.lookup(lane, at(1))) == "b1"));
    cache.shut("b1", at(1));
    let elsewhere: Vec<_> = (0..50)
        .map(|lane| first(&cache.lookup(lane, at(2))).to_owned())
        .collect();
    assert!(
        ["a1", "a2"].iter().all(|door| elsewhere.iter().any(|at| at == door)),
        "both take some"
    );
    assert!(!elsewhere.contains(&"b1".to_owned()));
    cache.open("b1");
    assert_eq!(first(&cache.lookup(0, at(3))), "b1");
}

/// One gateway's minute: a probe and a word every 100 ms, the store out of reach from 10 s to 30 s.
fn minute(rule: HealthRule, name: &str, readmit_over: Duration) -> Vec<(u64, Word)> {
    let options = PublisherOptions {
        rule,
        readmit_over,
        ..PublisherOptions::default()
    };
    let mut publisher = Publisher::new(name, options);
    let mut words = Vec::new();
    for tick in 0..600 {
        let (ms, now) = (tick * 100, at(tick * 100));
        publisher.probed(!(10_000..30_000).contains(&ms), now);
        if let Some(word) = publisher.word(now) {
            words.push((ms, word));
            publisher.told(word, now);
        }
    }
    words
}

#[test]
fn on_withdraws_a_gateway_that_is_well_itself_when_the_store_is_out_of_reach() {
    let words = minute(HealthRule::On, "a", Duration::ZERO);
    let withdrawn: Vec<u64> = words
        .iter()
        .filter(|(_, word)| *word == Word::Withdraw)
        .map(|(ms, _)| *ms)
        .collect();
    assert_eq!(withdrawn, [10_200], "once, after three failed probes");
    let back = words.iter().find(|(ms, _)| *ms > 10_200).unwrap();
    assert_eq!(*back, (30_100, Word::Publish { healthy: true }));
    assert_eq!(words[0].0, 100, "not before the first probes have told");
}

#[test]
fn off_and_fail_static_never_withdraw_and_fail_static_says_how_it_is() {
    for (rule, sick) in [(HealthRule::Off, true), (HealthRule::FailStatic, false)] {
        let words = minute(rule, "a", Duration::ZERO);
        assert!(words.iter().all(|(_, word)| *word != Word::Withdraw), "{rule}");
        let during = words.iter().find(|(ms, _)| (10_200..30_000).contains(ms)).unwrap();
        assert_eq!(during.1, Word::Publish { healthy: sick }, "{rule}");
        assert!(
            words.windows(2).all(|two| two[1].0 - two[0].0 <= 3000),
            "{rule}: a lease was let go"
        );
    }
}

#[test]
fn readmission_is_spread_and_each_name_has_its_place() {
    let over = at(20_000);
    let back = |name: &str| {
        minute(HealthRule::On, name, over)
            .into_iter()
            .find(|(ms, _)| *ms > 10_200)
            .unwrap()
            .0
    };
    let mut times: Vec<u64> = (0..10).map(|i| back(&format!("gw{i}"))).collect();
    assert!(times.iter().all(|ms| (30_100..=50_200).contains(ms)), "{times:?}");
    assert_eq!(back("gw3"), times[3]);
    times.sort_unstable();
    assert!(times[9] - times[0] > 5000, "hardly spread: {times:?}");
}

#[test]
fn a_word_that_was_not_taken_is_said_again_at_a_bounded_rate() {
    let mut publisher = Publisher::new("a", PublisherOptions::default());
    publisher.probed(true, at(0));
    publisher.probed(true, at(0));
    let said = (0..3000).filter(|ms| publisher.word(at(*ms)).is_some()).count();
    assert_eq!(said, 4, "every 750 ms");
}

/// The story of October 2021, and what each rule makes of it: all gateways lose the store at once.
#[test]
fn with_the_rule_on_all_go_dark_at_once_and_fail_static_never_does() {
    for (rule, dark) in [
        (HealthRule::On, true),
        (HealthRule::Off, false),
        (HealthRule::FailStatic, false),
    ] {
        let mut directory = directory(false);
        let mut gateways: Vec<_> = (0..4)
            .map(|i| {
                let options = PublisherOptions {
                    rule,
                    renew_every: at(300),
                    ..PublisherOptions::default()
                };
                (format!("gw{i}"), Publisher::new(&format!("gw{i}"), options))
            })
            .collect();
        let mut cache = Resolver::new("x", ResolverOptions::default());
        let (mut dark_from, mut dark_to) = (None, None);
        for tick in 0..400_u64 {
            let now = at(tick * 50);
            let cut = (5000..12_000).contains(&(tick * 50));
            for (name, publisher) in &mut gateways {
                publisher.probed(!cut, now);
                let Some(word) = publisher.word(now) else { continue };
                match word {
                    Word::Publish { healthy } => {
                        let publication = Publication {
                            healthy,
                            ..said(name, "x", 1)
                        };
                        directory.publish(&publication, now).unwrap();
                    }
                    Word::Withdraw => directory.withdraw(name, 1).unwrap(),
                }
                publisher.told(word, now);
            }
            if cache.lookup(0, now) == Lookup::Ask {
                cache.answered(directory.resolve(now), now);
            }
            // The first ticks are dark for want of anybody.
            if tick > 20 && matches!(cache.lookup(0, now), Lookup::Dark { .. }) {
                dark_from.get_or_insert(now);
                dark_to = Some(now);
            }
        }
        assert_eq!(dark_from.is_some(), dark, "{rule}");
        if let (Some(from), Some(to)) = (dark_from, dark_to) {
            assert!(
                from > at(5100) && from <= at(5100 + 550),
                "the cache held for its TTL at most: {from:?}"
            );
            assert!(to > at(12_000), "the emptiness outlived the heal: {to:?}");
            assert!(to <= at(12_050 + 250), "by one negative TTL at most: {to:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever happens: an answer holds nobody who withdrew or whose lease is over, and the highest generation speaks.
    #[test]
    fn a_directory_says_what_was_said_last(
        acts in proptest::collection::vec((0_u8..3, 0_usize..3, 1_u64..4, 1_u64..400, any::<bool>()), 1..60),
    ) {
        let mut directory = directory(false);
        let mut model: std::collections::BTreeMap<String, (u64, Option<Duration>)> = std::collections::BTreeMap::new();
        let mut now = Duration::ZERO;
        for (kind, who, generation, later, healthy) in acts {
            now += at(later);
            let name = format!("gw{who}");
            let held = model.get(&name).map_or(0, |(held, _)| *held);
            let done = match kind {
                0 => directory.withdraw(&name, generation),
                _ => directory.publish(&Publication { healthy, ..said(&name, "x", generation) }, now),
            };
            prop_assert_eq!(done.is_ok(), generation >= held);
            if done.is_ok() && (kind != 0 || held > 0) {
                model.insert(name, (generation, (kind != 0).then_some(now + at(1000))));
            }
            let live = model.values().filter(|(_, until)| until.is_some_and(|until| now < until)).count();
            prop_assert_eq!(directory.live(now), live);
            let answer = directory.resolve(now);
            prop_assert_eq!(answer.doors.is_empty(), live == 0);
            for door in &answer.doors {
                prop_assert!(model[&door.name].1.is_some_and(|until| now < until));
            }
        }
    }

    /// A cache never uses an answer beyond its TTL, and never asks again within it.
    #[test]
    fn a_cache_asks_once_in_a_ttl(
        steps in proptest::collection::vec((1_u64..300, 0_u8..3), 1..80),
    ) {
        let mut cache = Resolver::new("x", ResolverOptions { failure_ttl: at(100), ..ResolverOptions::default() });
        let door = Door { name: "a".to_owned(), zone: String::new(), address: "a:1".to_owned() };
        let (mut now, mut until) = (Duration::ZERO, None);
        for (later, kind) in steps {
            now += at(later);
            let fresh = until.is_some_and(|until| now < until);
            prop_assert_eq!(cache.lookup(1, now) != Lookup::Ask, fresh);
            if !fresh {
                match kind {
                    0 => cache.unanswered(now),
                    1 => cache.answered(Answer { doors: vec![], ttl: at(200), kept: false }, now),
                    _ => cache.answered(Answer { doors: vec![door.clone()], ttl: at(400), kept: false }, now),
                }
                until = Some(now + [at(100), at(200), at(400)][usize::from(kind)]);
                let holds = matches!(cache.lookup(1, now), Lookup::Doors(_));
                prop_assert_eq!(holds, kind == 2);
            }
        }
    }
}
