//! The transport over real sockets, with processes that come, go and fall silent.

use std::{collections::BTreeSet, sync::Mutex};

use firedrill_proto::chat::v1::{Goodbye, peer_message::Message};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};

use super::*;
use crate::{
    env::SimDisk,
    grpc::serve_peers,
    node::{Identity, Protocols},
};

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    From(u64, Vec<u64>),
    Reset(u64),
}

#[derive(Clone)]
struct Ear(mpsc::UnboundedSender<Heard>);

impl PeerSink for Ear {
    fn deliver(&self, from: u64, messages: Vec<PeerMessage>) {
        let term = |message: PeerMessage| match message.message {
            Some(Message::Goodbye(goodbye)) => goodbye.term,
            other => panic!("not one of ours: {other:?}"),
        };
        let _ = self.0.send(Heard::From(from, messages.into_iter().map(term).collect()));
    }

    fn peer_reset(&self, peer: u64) {
        let _ = self.0.send(Heard::Reset(peer));
    }
}

fn message(term: u64) -> PeerMessage {
    PeerMessage {
        shard: 0,
        message: Some(Message::Goodbye(Goodbye {
            term,
            ..Goodbye::default()
        })),
    }
}

/// A node without anything but its transport, on a runtime of its own: dropping it is its death.
struct Bare {
    transport: PeerTransport,
    runtime: Option<tokio::runtime::Runtime>,
    heard: Mutex<mpsc::UnboundedReceiver<Heard>>,
}

impl Bare {
    fn start(node: u64, listener: std::net::TcpListener, peers: &BTreeMap<u64, String>) -> Self {
        let (ear, heard) = mpsc::unbounded_channel();
        let transport = PeerTransport::new(node, peers);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let options = PeerOptions {
            // Busy machines: silence is judged late here, so that only what a test does ends a connection.
            connect_timeout: Duration::from_secs(5),
            keepalive_timeout: Duration::from_secs(20),
            ..PeerOptions::default()
        };
        let guard = runtime.enter();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let served = serve_peers(
            listener,
            transport.clone(),
            options,
            Ear(ear.clone()),
            std::future::pending(),
        );
        runtime.spawn(served);
        runtime.spawn(
            transport
                .clone()
                .run(options, Streams::new(node), Clock::system(), Ear(ear)),
        );
        drop(guard);
        Self {
            transport,
            runtime: Some(runtime),
            heard: Mutex::new(heard),
        }
    }

    fn next(&self) -> Heard {
        let mut heard = self.heard.lock().unwrap();
        let runtime = self.runtime.as_ref().unwrap();
        runtime.block_on(async {
            let bounded = tokio::time::timeout(Duration::from_secs(30), heard.recv());
            bounded.await.expect("within thirty seconds").expect("the node lives")
        })
    }

    /// Says `term` again and again, since a transport may drop, until `other` has heard it.
    fn reaches(&self, other: &Self, from: u64, to: u64, term: u64) {
        for _ in 0..3000 {
            self.transport.send(to, vec![message(term)]);
            let mut heard = other.heard.lock().unwrap();
            let runtime = other.runtime.as_ref().unwrap();
            let word = runtime.block_on(async { tokio::time::timeout(Duration::from_millis(10), heard.recv()).await });
            if let Ok(Some(Heard::From(node, terms))) = word
                && node == from
                && terms.contains(&term)
            {
                return;
            }
        }
        panic!("term {term} of node {from} was never heard");
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

fn listeners(count: u64) -> (Vec<std::net::TcpListener>, BTreeMap<u64, String>) {
    let listeners: Vec<_> = (0..count)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let address = |at: &std::net::TcpListener| at.local_addr().unwrap().to_string();
    let peers = (1..).zip(&listeners).map(|(id, at)| (id, address(at))).collect();
    (listeners, peers)
}

#[test]
fn messages_arrive_in_order_and_a_death_is_told_once_and_a_return_is_noticed() {
    let (mut at, peers) = listeners(2);
    let second_at = at.pop().unwrap();
    let first = Bare::start(1, at.pop().unwrap(), &peers);
    let second = Bare::start(2, second_at, &peers);

    first.reaches(&second, 1, 2, 1);
    let terms: Vec<u64> = (100..400).collect();
    for term in &terms {
        first.transport.send(2, vec![message(*term)]);
    }
    let mut heard = Vec::new();
    while heard.len() < terms.len() {
        if let Heard::From(1, said) = second.next() {
            heard.extend(said.into_iter().filter(|term| *term >= 100));
        }
    }
    assert_eq!(heard, terms);

    second.reaches(&first, 2, 1, 7);
    drop(second);
    let told = loop {
        match first.next() {
            Heard::From(2, _) => {}
            other => break other,
        }
    };
    assert_eq!(told, Heard::Reset(2));

    let address = &peers[&2];
    let listener = std::net::TcpListener::bind(address).expect("the port of the dead node is free again");
    let second = Bare::start(2, listener, &peers);
    first.reaches(&second, 1, 2, 9);
    second.reaches(&first, 2, 1, 9);
    let again: BTreeSet<_> = std::iter::from_fn(|| first.heard.lock().unwrap().try_recv().ok())
        .filter(|word| matches!(word, Heard::Reset(_)))
        .map(|word| format!("{word:?}"))
        .collect();
    assert!(again.is_empty(), "one death, told more than once: {again:?}");
}

#[test]
fn a_peer_that_never_lived_is_not_reported_dead() {
    let (mut at, peers) = listeners(2);
    drop(at.pop());
    let first = Bare::start(1, at.pop().unwrap(), &peers);
    let runtime = first.runtime.as_ref().unwrap();
    // Ten attempts are refused while this waits, by the back-off's own bounds.
    let mut heard = first.heard.lock().unwrap();
    let quiet = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(2), heard.recv()).await });
    assert!(quiet.is_err(), "heard {quiet:?}");
}

#[test]
fn silence_is_not_death() {
    let (mut at, peers) = listeners(2);
    // A listener that accepts in its backlog and never says a word: what a cut network or a frozen process looks like.
    let mute = at.pop().unwrap();
    let transport = PeerTransport::new(1, &peers);
    let (ear, mut heard) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let options = PeerOptions {
            connect_timeout: Duration::from_millis(20),
            ..PeerOptions::default()
        };
        // As if the peer had been heard of, and its stream had ended.
        drop(transport.incoming(2));
        let run = transport
            .clone()
            .run(options, Streams::new(1), Clock::system(), Ear(ear));
        let _ = tokio::time::timeout(Duration::from_secs(1), run).await;
        assert!(heard.try_recv().is_err());
    });
    drop(mute);
}

#[test]
fn closing_sends_the_rest_and_ends() {
    let (mut at, peers) = listeners(2);
    let second = Bare::start(2, at.pop().unwrap(), &peers);
    let transport = PeerTransport::new(1, &peers);
    let (ear, _heard) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (ended, has_ended) = oneshot::channel();
    runtime.block_on(async {
        let options = PeerOptions {
            connect_timeout: Duration::from_secs(5),
            ..PeerOptions::default()
        };
        let run = transport
            .clone()
            .run(options, Streams::new(1), Clock::system(), Ear(ear));
        let task = tokio::spawn(async move {
            run.await;
            let _ = ended.send(());
        });
        transport.send(2, vec![message(5)]);
        while transport.counts()[&2].sent == 0 {
            tokio::task::yield_now().await;
        }
        transport.send(2, vec![message(6)]);
        transport.close();
        transport.send(2, vec![message(7)]);
        tokio::time::timeout(Duration::from_secs(30), has_ended)
            .await
            .expect("it ends")
            .unwrap();
        task.await.unwrap();
    });
    let mut terms = Vec::new();
    while terms.len() < 2 {
        if let Heard::From(1, said) = second.next() {
            terms.extend(said);
        }
    }
    assert_eq!(terms, [5, 6]);
    assert_eq!(transport.counts()[&2], PeerCounts { dropped: 1, sent: 2 });
}

fn book(node: u64, incarnation: u64) -> PeerBook {
    let own = Identity {
        node,
        cluster: "c".to_owned(),
        incarnation,
    };
    let agreed = BTreeMap::from([("state.outbox_max".to_owned(), "1000".to_owned())]);
    PeerBook::open(own, agreed, Protocols::ALL, Arc::new(SimDisk::new())).unwrap()
}

#[test]
fn a_peer_is_heard_only_as_the_one_that_it_was_first() {
    let (mut at, peers) = listeners(2);
    let second_at = at.pop().unwrap();
    let first = Bare::start(1, at.pop().unwrap(), &peers);
    first.transport.identify(book(1, 10));
    let open = |incarnation: Option<u64>, cluster: &str, outbox_max: &str| {
        first.runtime.as_ref().unwrap().block_on(async {
            let mut client = ReplicationClient::connect(format!("http://{}", peers[&1]))
                .await
                .unwrap();
            let mut request = Request::new(tokio_stream::empty());
            let headers = request.metadata_mut();
            headers.insert(NODE_HEADER, 2.into());
            headers.insert(CLUSTER_HEADER, cluster.parse().unwrap());
            let agreed = format!("shards=4 state.outbox_max={outbox_max}");
            headers.insert(AGREED_HEADER, agreed.parse().unwrap());
            if let Some(incarnation) = incarnation {
                headers.insert(INCARNATION_HEADER, incarnation.into());
            }
            let refused = |status: tonic::Status| (status.code(), status.message().to_owned());
            client.deliver(request).await.map(drop).map_err(refused)
        })
    };
    let precondition = |opened: Result<(), (Code, String)>| {
        let (code, why) = opened.unwrap_err();
        assert_eq!(code, Code::FailedPrecondition, "{why}");
        why
    };
    precondition(open(None, "c", "1000"));
    precondition(open(Some(20), "other", "1000"));
    let second = Bare::start(2, second_at, &peers);
    second.transport.identify(book(2, 20));
    second.reaches(&first, 2, 1, 5);
    precondition(open(Some(21), "c", "1000"));
    let why = precondition(open(Some(20), "c", "10"));
    assert!(
        why.contains("state.outbox_max is 10 at node 2 and 1000 at node 1"),
        "{why}"
    );
    assert_eq!(open(Some(20), "c", "1000"), Ok(()));
}
