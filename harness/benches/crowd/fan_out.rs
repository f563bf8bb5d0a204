//! One message after the other to a group, from the moment it is sent until the last of its members was shown it.

use std::time::Duration;

use firedrill::{base::Nanos, target::group_of};
use firedrill_proto::chat::v1::{
    Caller, ChangeGroupRequest, GroupChangeKind, SendRequest, SubscribeRequest, subscribe_event::Event,
};
use target_service::client::Client;
use tokio::sync::mpsc;

use crate::{
    accounts::{account, client_of, patiently},
    common::{Bench, Distribution, Result, Table},
    messaging,
    rig::Rig,
};

/// Members, the sender included: the most that a group may have, and two smaller ones.
const SIZES: [usize; 3] = [2, 50, 200];
/// Shards of the service, as in the scenarios.
const SHARDS: u32 = 4;
const DEVICE: u32 = 1;
/// For so long a message may be on its way to the last member.
const SHOWN_WITHIN: Duration = Duration::from_secs(30);

/// One member's device was shown the message with this number.
struct Shown {
    client_id: u64,
    at: Nanos,
}

/// Measures and prints.
pub(crate) async fn measure(bench: &Bench) -> Result<()> {
    let sizes = if bench.args.quick { &SIZES[..1] } else { &SIZES[..] };
    let rounds = bench.args.rounds(3, 200);
    let settings = [("volatile_write_cache", false.into())];
    let rig = Rig::start(
        bench,
        "fanout",
        messaging::messaging(bench.args.seed, SHARDS, &settings)?,
    )
    .await?;
    for shard in 0..SHARDS {
        rig.well(&group_of(shard)).await?;
    }
    let client = client_of(&rig).await?;
    let mut people = Vec::new();
    for number in 0..sizes.iter().copied().max().unwrap_or_default() as u64 {
        people.push(account(&rig, &client.on_lane(number), number, DEVICE).await?);
    }
    let head = [&["members, until"][..], &Distribution::HEAD].concat();
    let mut table = Table::new("From the sending of a message to a group", &head);
    for (number, &size) in (1..).zip(sizes) {
        let (acknowledged, half, last) = group(&rig, &client, &people[..size], number, rounds).await?;
        for (until, samples) in [
            ("acknowledged", acknowledged),
            ("half were shown it", half),
            ("all were", last),
        ] {
            table.row(format!("{size}, {until}"), Distribution::of(samples).cells());
        }
    }
    table.note(format!(
        "{rounds} messages of 256 bytes to each group, each sent when the one before it was shown to all. Members are spread \
         over {SHARDS} shards; each has one device with an open stream, the sender too."
    ));
    bench.print(&table);
    rig.tear_down().await
}

type Samples = Vec<Duration>;

/// Messages to one group: until the acknowledgement, until half of the members were shown it, until all were.
async fn group(
    rig: &Rig,
    client: &Client,
    people: &[(u64, u64)],
    number: u64,
    rounds: u32,
) -> Result<(Samples, Samples, Samples)> {
    let [(maker, session), ..] = *people else {
        return Err("a group has a maker".into());
    };
    let make = ChangeGroupRequest {
        caller: Some(Caller {
            user: maker,
            device: DEVICE,
            session,
        }),
        client_id: number << 32,
        kind: GroupChangeKind::GroupCreate.into(),
        users: people[1..].iter().map(|(user, _)| *user).collect(),
        ..ChangeGroupRequest::default()
    };
    let group = patiently(rig, async || client.change_group(make.clone()).await)
        .await?
        .group;
    let (tell, mut shown) = mpsc::unbounded_channel();
    let mut listeners = tokio::task::JoinSet::new();
    for (lane, (user, session)) in (0..).zip(people) {
        let listen = SubscribeRequest {
            user: *user,
            device: DEVICE,
            session: *session,
            ..SubscribeRequest::default()
        };
        let lane = client.on_lane(lane);
        let mut stream = patiently(rig, async || lane.subscribe(listen).await).await?;
        let (tell, clock) = (tell.clone(), rig.clock);
        listeners.spawn(async move {
            while let Ok(event) = stream.next().await {
                let Event::Delivery(delivery) = event else { continue };
                let at = clock.now();
                let client_id = delivery.client_id;
                if delivery.conversation == group && tell.send(Shown { client_id, at }).is_err() {
                    return;
                }
            }
        });
    }
    let (mut acknowledged, mut half, mut last) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=u64::from(rounds) {
        let client_id = (number << 32) + round;
        let request = SendRequest {
            sender: maker,
            device: DEVICE,
            session,
            client_id,
            body: vec![b'x'; 256].into(),
            group,
            ..SendRequest::default()
        };
        let sent = rig.clock.now();
        patiently(rig, async || client.send(request.clone()).await).await?;
        acknowledged.push(rig.clock.now().since(sent));
        let mut times = Vec::with_capacity(people.len());
        while times.len() < people.len() {
            let next = tokio::time::timeout(SHOWN_WITHIN, shown.recv()).await;
            let Ok(Some(Shown { client_id: it, at })) = next else {
                let (have, want) = (times.len(), people.len());
                return Err(format!("after {SHOWN_WITHIN:?} a message was shown to {have} of {want}").into());
            };
            if it == client_id {
                times.push(at.since(sent));
            }
        }
        times.sort_unstable();
        half.push(times[(times.len() - 1) / 2]);
        last.extend(times.last());
    }
    Ok((acknowledged, half, last))
}
