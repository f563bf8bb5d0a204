//! The clients against tiny servers on loopback: what each failure is taken for, and who is asked next.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};
use tonic::transport;

use super::{etcd::fake::FakeEtcd, *};
use crate::{
    history::Outcome,
    workload::{
        client::{Answered, Put},
        payload,
    },
};

/// For what must come: long enough for a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(20);

/// A server that does `with` to each connection, by its number from 0. Ends with the test.
struct Server {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn server<F, A>(with: F) -> Server
where
    F: Fn(TcpStream, usize) -> A + Send + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    let task = tokio::spawn(async move {
        let mut serving = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            serving.spawn(with(stream, count.fetch_add(1, Ordering::SeqCst)));
        }
    });
    Server {
        address,
        accepted,
        task: task.abort_handle(),
    }
}

/// An address at which nobody listens.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    listener.local_addr().unwrap()
}

/// Reads one request of HTTP/1.1 to its end; false when the connection ended instead.
async fn read_request(stream: &mut TcpStream) -> bool {
    let mut text = Vec::new();
    loop {
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return false,
            Ok(count) => text.extend_from_slice(&piece[..count]),
        }
        let head = String::from_utf8_lossy(&text).to_lowercase();
        let Some((head, _)) = head.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if text.len() >= head.len() + 4 + length.unwrap_or(0_usize) {
            return true;
        }
    }
}

async fn answer(stream: &mut TcpStream, status: &str, body: &str) {
    let length = body.len();
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
    // The client may have gone.
    let _ = stream.write_all(text.as_bytes()).await;
}

/// Answers every request on a connection.
async fn answer_all(mut stream: TcpStream, status: &'static str, body: &'static str) {
    while read_request(&mut stream).await {
        answer(&mut stream, status, body).await;
    }
}

fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

fn client(name: &str, addresses: &[SocketAddr], options: &ClientOptions) -> Arc<dyn OpClient> {
    let nodes = (1..).zip(addresses).map(|(number, address)| ClientNode {
        name: format!("n{number}"),
        address: *address,
    });
    (find(name).expect("a client of that name").open)(nodes.collect(), options)
}

async fn request(client: &Arc<dyn OpClient>) -> Answered<()> {
    tokio::time::timeout(SOON, client.request(SOON))
        .await
        .expect("an answer")
}

fn outcome<T>(answered: &Answered<T>) -> (Option<Outcome>, String) {
    match &answered.result {
        Ok(_) => (None, answered.by.clone().unwrap_or_default()),
        Err(failure) => (Some(failure.outcome()), failure.reason.clone()),
    }
}

#[tokio::test]
async fn http_keeps_its_connection_and_moves_on_from_a_node_that_refuses() {
    let dead = nobody().await;
    let well = server(|stream, _| answer_all(stream, "204 No Content", "")).await;
    let client = client("http", &[dead, well.address], &ClientOptions::default());
    assert_eq!(
        outcome(&request(&client).await),
        (Some(Outcome::Failed), "connection refused".to_owned())
    );
    for _ in 0..3 {
        assert_eq!(outcome(&request(&client).await), (None, "n2".to_owned()));
    }
    assert_eq!(well.accepted.load(Ordering::SeqCst), 1, "one connection for all");
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_request_leaves_the_outcome_unknown() {
    let broken = server(|mut stream, _| async move {
        read_request(&mut stream).await;
        reset(stream);
    })
    .await;
    let cut_short = server(|mut stream, _| async move {
        read_request(&mut stream).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
            .await;
    })
    .await;
    let client = client("http", &[broken.address, cut_short.address], &ClientOptions::default());
    for reason in ["connection lost", "answer cut short"] {
        assert_eq!(
            outcome(&request(&client).await),
            (Some(Outcome::Unknown), reason.to_owned())
        );
    }
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_meanwhile_is_no_failure() {
    let (tell, told) = tokio::sync::watch::channel(0);
    let tell = Arc::new(tell);
    let once = server(move |mut stream, _| {
        let tell = Arc::clone(&tell);
        async move {
            read_request(&mut stream).await;
            answer(&mut stream, "200 OK", "").await;
            drop(stream);
            tell.send_modify(|closed| *closed += 1);
        }
    })
    .await;
    let client = client("http", &[once.address], &ClientOptions::default());
    for round in 1..=5 {
        assert_eq!(outcome(&request(&client).await).0, None, "round {round}");
        let mut told = told.clone();
        tokio::time::timeout(SOON, told.wait_for(|closed| *closed >= round))
            .await
            .unwrap()
            .unwrap();
    }
}

#[tokio::test]
async fn statuses_are_taken_for_what_they_say() {
    for (status, expected, retryable) in [
        ("200 OK", None, true),
        ("404 Not Found", Some(Outcome::Failed), false),
        ("503 Service Unavailable", Some(Outcome::Failed), true),
        ("500 Internal Server Error", Some(Outcome::Unknown), true),
    ] {
        let server = server(move |stream, _| answer_all(stream, status, "")).await;
        let answered = request(&client("http", &[server.address], &ClientOptions::default())).await;
        assert_eq!(outcome(&answered).0, expected, "{status}");
        let failure = answered.result.err();
        assert!(failure.is_none_or(|failure| failure.retryable == retryable), "{status}");
    }
}

#[tokio::test]
async fn an_attempt_that_is_given_up_moves_on_to_the_next_node() {
    let silent = server(|mut stream, _| async move { while read_request(&mut stream).await {} }).await;
    let well = server(|stream, _| answer_all(stream, "200 OK", "")).await;
    let client = client("http", &[silent.address, well.address], &ClientOptions::default());
    let given_up = tokio::time::timeout(Duration::from_millis(20), client.request(SOON)).await;
    assert!(given_up.is_err());
    assert_eq!(outcome(&request(&client).await), (None, "n2".to_owned()));
}

#[tokio::test]
async fn tcp_wants_a_sign_of_life() {
    let options = ClientOptions {
        send: "ping\n".to_owned(),
        expect: "pong".to_owned(),
        ..ClientOptions::default()
    };
    let reply = |text: &'static str| {
        server(move |mut stream, _| async move {
            let mut got = [0; 5];
            if stream.read_exact(&mut got).await.is_ok() && got == *b"ping\n" {
                let _ = stream.write_all(text.as_bytes()).await;
            }
        })
    };
    let (well, wrong, short) = (reply("pong and more").await, reply("gnop").await, reply("po").await);
    let dead = nobody().await;
    for (address, expected) in [
        (well.address, (None, "n1".to_owned())),
        (wrong.address, (Some(Outcome::Unknown), "unexpected answer".to_owned())),
        (short.address, (Some(Outcome::Unknown), "answer cut short".to_owned())),
        (dead, (Some(Outcome::Failed), "connection refused".to_owned())),
    ] {
        assert_eq!(outcome(&request(&client("tcp", &[address], &options)).await), expected);
    }
    // With nothing expected: whoever closes is there, whoever resets or stays silent is not.
    let closes = server(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 16]).await;
    })
    .await;
    let resets = server(|stream, _| async move { reset(stream) }).await;
    let bare = ClientOptions::default();
    assert_eq!(
        outcome(&request(&client("tcp", &[closes.address], &bare)).await).0,
        None
    );
    assert_eq!(
        outcome(&request(&client("tcp", &[resets.address], &bare)).await).0,
        Some(Outcome::Unknown)
    );
}

#[tokio::test]
async fn grpc_health_follows_what_the_service_says() {
    let (reporter, service) = tonic_health::server::health_reporter();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let serving = tokio::spawn(
        transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming),
    );
    let health = client("grpc_health", &[address], &ClientOptions::default());
    assert_eq!(outcome(&request(&health).await), (None, "n1".to_owned()));
    reporter
        .set_service_status("", tonic_health::ServingStatus::NotServing)
        .await;
    assert_eq!(
        outcome(&request(&health).await),
        (Some(Outcome::Failed), "NOT_SERVING".to_owned())
    );
    let options = ClientOptions {
        path: "nobody.Knows".to_owned(),
        ..ClientOptions::default()
    };
    let unknown = request(&client("grpc_health", &[address], &options)).await;
    assert!(unknown.result.is_err_and(|failure| !failure.retryable));
    serving.abort();
    let dead = client("grpc_health", &[nobody().await], &ClientOptions::default());
    assert_eq!(
        outcome(&request(&dead).await),
        (Some(Outcome::Failed), "connection refused".to_owned())
    );
}

async fn fake_etcd() -> (FakeEtcd, Arc<dyn OpClient>) {
    let fake = FakeEtcd::default();
    let address = fake.serve().await;
    (fake, client("etcd", &[address], &ClientOptions::default()))
}

fn put_of(item: u64) -> Put {
    Put {
        item,
        log: "k:0-0".to_owned(),
        body: payload::encode(item, 64),
    }
}

#[tokio::test]
async fn an_etcd_put_takes_effect_once_and_not_behind_the_fence() {
    let (_fake, etcd) = fake_etcd().await;
    assert_eq!(etcd.put(&put_of(5), SOON).await.result, Ok(Some(1)));
    assert_eq!(etcd.put(&put_of(9), SOON).await.result, Ok(Some(2)));
    let again = etcd.put(&put_of(5), SOON).await;
    assert_eq!(
        (again.result, again.by.as_deref()),
        (Ok(Some(1)), Some("n1")),
        "where it was created"
    );
    assert_eq!(etcd.fence(SOON).await.result, Ok(()));
    assert_eq!(
        outcome(&etcd.put(&put_of(6), SOON).await),
        (Some(Outcome::Failed), "fenced".to_owned())
    );
    assert_eq!(
        etcd.put(&put_of(9), SOON).await.result,
        Ok(Some(2)),
        "what was there before is still there"
    );
    let read = etcd.read("k:0-0", SOON).await.result.expect("read");
    let seen: Vec<_> = read.iter().map(|item| (item.position, item.item)).collect();
    assert_eq!(seen, [(1, Some(5)), (2, Some(9))]);
    assert_eq!(etcd.parts(), [ETCD_GROUP]);
}

#[tokio::test]
async fn an_etcd_log_is_read_page_by_page_as_of_one_moment() {
    let (fake, etcd) = fake_etcd().await;
    // Put in another order than that of their keys: positions order a log.
    for item in [7, 3, 9, 1, 5] {
        etcd.put(&put_of(item), SOON).await.result.expect("put");
    }
    let read = etcd.read("k:0-0", SOON).await.result.expect("read");
    let seen: Vec<_> = read.iter().filter_map(|item| item.item).collect();
    assert_eq!(seen, [7, 3, 9, 1, 5]);
    assert_eq!(fake.ranges(), [0, 5, 5], "later pages are of the first one's revision");
    assert_eq!(etcd.read("k:0-1", SOON).await.result, Ok(Vec::new()));
    let dead = client("etcd", &[nobody().await], &ClientOptions::default());
    assert_eq!(
        outcome(&dead.put(&put_of(1), SOON).await),
        (Some(Outcome::Failed), "connection refused".to_owned())
    );
}

#[test]
fn every_client_has_its_own_name() {
    let names: std::collections::BTreeSet<&str> = ALL.iter().map(|client| client.name).collect();
    assert_eq!(names.len(), ALL.len());
    assert!(
        ALL.iter()
            .all(|info| !info.about.is_empty() && find(info.name).is_some())
    );
    assert!(find("carrier-pigeon").is_none());
}
