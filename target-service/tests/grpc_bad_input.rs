//! What a node answers to requests that no honest client sends: a status that says what is wrong, and never its end.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use firedrill_proto::chat::v1::{
    AcquitRequest, AuditRequest, Caller, ChangeGroupRequest, ContactsRequest, DigestRequest, FenceRequest,
    GroupChangeKind, HistoryRequest, ImportContactsRequest, MembersRequest, OpenRequest, OpenSessionRequest,
    PresenceRequest, SendRequest, SignUpRequest, StatusRequest, SubscribeRequest, admin_client::AdminClient,
    messaging_client::MessagingClient,
};
use rand::RngExt as _;
use target_service::{
    env::{SimDisk, Streams},
    grpc::from_status,
    node::{NodeConfig, Reason},
    process::RunningNode,
};
use tonic::{Code, Status, transport::Channel};

/// Nothing takes this long.
const PATIENCE: Duration = Duration::from_secs(120);

struct Alone {
    messaging: MessagingClient<Channel>,
    admin: AdminClient<Channel>,
    address: SocketAddr,
}

/// Somebody with an account and a session.
#[derive(Clone, Copy)]
struct Somebody {
    user: u64,
    session: u64,
}

impl Somebody {
    const fn caller(self) -> Caller {
        Caller {
            user: self.user,
            device: 1,
            session: self.session,
        }
    }

    fn message(self, to: u64, client_id: u64) -> SendRequest {
        SendRequest {
            sender: self.user,
            device: 1,
            session: self.session,
            recipient: to,
            client_id,
            body: "x".into(),
            ..SendRequest::default()
        }
    }
}

impl Alone {
    async fn of(address: SocketAddr) -> Self {
        let channel = connect(address).await;
        let mut alone = Self {
            messaging: MessagingClient::new(channel.clone()),
            admin: AdminClient::new(channel),
            address,
        };
        // It leads both shards once it has elected itself.
        while alone.messaging.sign_up(sign_up("10000001")).await.is_err()
            || alone.messaging.sign_up(sign_up("10000002")).await.is_err()
            || !alone.leads().await
        {
            tokio::task::yield_now().await;
        }
        alone
    }

    async fn leads(&mut self) -> bool {
        let status = self.admin.status(StatusRequest {}).await.unwrap().into_inner();
        status.shards.iter().all(|shard| shard.leader == 1)
    }

    async fn somebody(&mut self, phone: &str) -> Somebody {
        let user = self.messaging.sign_up(sign_up(phone)).await.unwrap().into_inner().user;
        let open = OpenSessionRequest {
            user,
            device: 1,
            client_nonce: 1,
            ..OpenSessionRequest::default()
        };
        let session = self.messaging.open_session(open).await.unwrap().into_inner().session;
        Somebody { user, session }
    }
}

async fn connect(address: SocketAddr) -> Channel {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.unwrap()
}

fn sign_up(phone: &str) -> SignUpRequest {
    SignUpRequest {
        phone: phone.to_owned(),
        ..SignUpRequest::default()
    }
}

/// The reason in a refused answer, which has to be one of the contract's.
fn reason<T: std::fmt::Debug>(answer: Result<T, Status>) -> Reason {
    let status = answer.unwrap_err();
    let refusal = from_status(&status).unwrap_or_else(|| panic!("not in the contract: {status:?}"));
    assert!(!refusal.message.is_empty());
    refusal.reason
}

/// Runs `work` against a node of its own, within bounds.
fn bounded(work: impl AsyncFnOnce(Alone)) {
    let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (client, peer) = (bind(), bind());
    let address = client.local_addr().unwrap();
    let config = format!(
        "node = 1\nclient_listen = \"{address}\"\npeer_listen = \"{peer}\"\ndata_dir = \"on-no-real-disk\"\nshards = 2\n\
         [peers]\n1 = \"{peer}\"\n",
        peer = peer.local_addr().unwrap()
    );
    let mut config = NodeConfig::parse(&config).unwrap();
    config.bootstrap = true;
    // Its end is at the end of this function, outside of the runtime.
    let _node = RunningNode::start_on(config, client, peer, Arc::new(SimDisk::new())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let work = async { work(Alone::of(address).await).await };
    runtime
        .block_on(async { tokio::time::timeout(PATIENCE, work).await })
        .expect("in time");
}

#[test]
fn oversized_malformed_replayed_and_misrouted_requests_are_told_apart() {
    bounded(async |mut it| {
        let (ann, bob) = (it.somebody("20000001").await, it.somebody("20000002").await);
        let large = SendRequest {
            body: vec![0; 65 << 10].into(),
            ..ann.message(bob.user, 1)
        };
        assert_eq!(reason(it.messaging.send(large).await), Reason::Invalid);
        assert_eq!(
            reason(it.messaging.send(ann.message(ann.user, 1)).await),
            Reason::Invalid
        );
        let device = SendRequest {
            device: 11,
            ..ann.message(bob.user, 1)
        };
        assert_eq!(reason(it.messaging.send(device).await), Reason::Invalid);
        let both = SendRequest {
            group: 5,
            ..ann.message(bob.user, 1)
        };
        assert_eq!(reason(it.messaging.send(both).await), Reason::Invalid);
        let old_map = SendRequest {
            epoch: 7,
            ..ann.message(bob.user, 1)
        };
        assert_eq!(reason(it.messaging.send(old_map).await), Reason::StaleRoute);
        // A session of somebody else's, and one that was never opened.
        let stolen = SendRequest {
            session: ann.session ^ (1 << 48),
            ..ann.message(bob.user, 1)
        };
        assert_eq!(reason(it.messaging.send(stolen).await), Reason::SessionEnded);
        let ahead = SubscribeRequest {
            user: bob.user,
            device: 1,
            session: bob.session,
            after: 99,
            ..SubscribeRequest::default()
        };
        assert_eq!(reason(it.messaging.subscribe(ahead).await.map(drop)), Reason::Resync);
        // A replay is answered like the first; one that means something else is refused.
        for repeated in [false, true] {
            let sent = it.messaging.send(ann.message(bob.user, 1)).await.unwrap().into_inner();
            assert_eq!((sent.position, sent.repeated), (1, repeated));
        }
        let other = SendRequest {
            body: "y".into(),
            ..ann.message(bob.user, 1)
        };
        assert_eq!(reason(it.messaging.send(other).await), Reason::Invalid);
        for phone in ["", "nonsense", "1", &"9".repeat(4000)] {
            assert_eq!(reason(it.messaging.sign_up(sign_up(phone)).await), Reason::Invalid);
        }
        assert_eq!(
            reason(it.admin.digest(DigestRequest { shard: 2 }).await),
            Reason::Invalid
        );
        let fence = FenceRequest {
            shard: 2,
            sessions: vec![1],
            epoch: 0,
        };
        assert_eq!(reason(it.admin.fence(fence).await), Reason::Invalid);
        let import = ImportContactsRequest {
            caller: Some(ann.caller()),
            phones: vec!["2000000".to_owned(); 501],
            epoch: 0,
        };
        assert_eq!(reason(it.messaging.import_contacts(import).await), Reason::Invalid);
        let nobody = ContactsRequest::default();
        assert_eq!(reason(it.messaging.contacts(nobody).await), Reason::NoSuchDevice);
    });
}

#[test]
fn a_stranger_to_a_conversation_gets_nothing_of_it() {
    bounded(async |mut it| {
        let (ann, eve) = (it.somebody("20000001").await, it.somebody("20000003").await);
        let make = ChangeGroupRequest {
            caller: Some(ann.caller()),
            client_id: 1,
            kind: GroupChangeKind::GroupCreate.into(),
            ..ChangeGroupRequest::default()
        };
        let made = it.messaging.change_group(make.clone()).await.unwrap().into_inner();
        let (group, users) = (made.group, vec![eve.user]);
        let change = |caller: Somebody, kind: GroupChangeKind, users: Vec<u64>| ChangeGroupRequest {
            caller: Some(caller.caller()),
            client_id: 7,
            kind: kind.into(),
            group,
            users,
            ..ChangeGroupRequest::default()
        };
        let refused = [
            change(eve, GroupChangeKind::GroupJoin, vec![]),
            change(eve, GroupChangeKind::GroupAdd, users.clone()),
            change(eve, GroupChangeKind::GroupRemove, vec![ann.user]),
            change(eve, GroupChangeKind::GroupLeave, vec![]),
        ];
        for request in refused {
            assert_eq!(reason(it.messaging.change_group(request).await), Reason::NotMember);
        }
        let malformed = [
            change(ann, GroupChangeKind::GroupAdd, vec![]),
            change(ann, GroupChangeKind::GroupAdd, vec![0]),
            change(ann, GroupChangeKind::GroupAdd, (1..=201).collect()),
            change(ann, GroupChangeKind::GroupJoin, users.clone()),
            change(ann, GroupChangeKind::Unspecified, users.clone()),
            ChangeGroupRequest {
                kind: 99,
                ..change(ann, GroupChangeKind::GroupAdd, users.clone())
            },
        ];
        for request in malformed {
            assert_eq!(reason(it.messaging.change_group(request).await), Reason::Invalid);
        }
        let full = change(ann, GroupChangeKind::GroupAdd, (1..=200).collect());
        assert_eq!(reason(it.messaging.change_group(full).await), Reason::GroupFull);
        let nowhere = ChangeGroupRequest {
            group: group ^ 2,
            ..change(ann, GroupChangeKind::GroupAdd, users)
        };
        assert_eq!(
            reason(it.messaging.change_group(nowhere).await),
            Reason::NoSuchConversation
        );
        let say = SendRequest {
            group,
            ..eve.message(0, 1)
        };
        assert_eq!(reason(it.messaging.send(say).await), Reason::NotMember);
        let bob = it.somebody("20000005").await;
        let direct = it.messaging.send(ann.message(bob.user, 9)).await.unwrap().into_inner();
        for conversation in [group, direct.conversation] {
            for (caller, expected) in [
                (Some(eve.caller()), Some(Reason::NotMember)),
                (None, Some(Reason::NotMember)),
                (Some(ann.caller()), None),
            ] {
                let read = HistoryRequest {
                    conversation,
                    caller,
                    ..HistoryRequest::default()
                };
                let read = it.messaging.history(read).await;
                assert_eq!(read.is_ok(), expected.is_none(), "{caller:?}");
                if let Some(expected) = expected {
                    assert_eq!(reason(read), expected);
                }
            }
        }
        let members = MembersRequest {
            caller: Some(eve.caller()),
            group,
            epoch: 0,
        };
        assert_eq!(reason(it.messaging.members(members).await), Reason::NotMember);
        let acquit = AcquitRequest {
            caller: Some(eve.caller()),
            conversation: group,
            read: 1,
            ..AcquitRequest::default()
        };
        assert_eq!(reason(it.messaging.acquit(acquit).await), Reason::NoSuchConversation);
        let audit = AuditRequest {
            conversation: group,
            ..AuditRequest::default()
        };
        let audited = it.admin.audit(audit).await.unwrap().into_inner();
        assert_eq!(
            (audited.last_position, audited.members.len()),
            (1, 1),
            "none of it was done"
        );
    });
}

#[test]
fn other_versions_and_other_bytes_are_refused_by_name() {
    bounded(async |it| {
        let mut raw = tonic::client::Grpc::new(connect(it.address).await);
        for (path, body, code) in [
            ("/chat.v2.Messaging/Send", &b""[..], Code::Unimplemented),
            ("/chat.v1.Messaging/Teleport", b"", Code::Unimplemented),
            ("/chat.v1.Messaging/Send", b"\xff\xff\xff\xff", Code::Internal),
        ] {
            raw.ready().await.unwrap();
            let request = tonic::Request::new(bytes::Bytes::copy_from_slice(body));
            let path = path.parse().unwrap();
            let answer = raw.unary(request, path, Raw).await;
            assert_eq!(answer.unwrap_err().code(), code, "{body:?}");
        }
    });
}

/// Bytes as they are, in both directions.
#[derive(Clone, Copy, Debug, Default)]
struct Raw;

impl tonic::codec::Codec for Raw {
    type Encode = bytes::Bytes;
    type Decode = bytes::Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl tonic::codec::Encoder for Raw {
    type Item = bytes::Bytes;
    type Error = Status;

    fn encode(&mut self, item: bytes::Bytes, to: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put(to, item);
        Ok(())
    }
}

impl tonic::codec::Decoder for Raw {
    type Item = bytes::Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<bytes::Bytes>, Status> {
        let left = bytes::Buf::remaining(from);
        Ok(Some(bytes::Buf::copy_to_bytes(from, left)))
    }
}

#[test]
fn whatever_the_numbers_the_answer_is_in_the_contract_and_the_node_lives() {
    bounded(async |mut it| {
        let ann = it.somebody("20000001").await;
        let mut rng = Streams::new(5).stream("noise");
        let mut seen: BTreeMap<Reason, u32> = BTreeMap::new();
        for round in 0..300 {
            let mut any = || match rng.random_range(0..5) {
                0 => 0,
                1 => u64::MAX,
                2 => ann.user,
                3 => ann.session,
                _ => rng.random(),
            };
            let somebody = Caller {
                user: any(),
                device: (any() % 13) as u32,
                session: any(),
            };
            let caller = Some(somebody);
            let (a, b, c) = (any(), any(), any());
            let messaging = &mut it.messaging;
            let answered = match round % 10 {
                0 => messaging
                    .open(OpenRequest {
                        caller,
                        after: a,
                        epoch: b % 3,
                    })
                    .await
                    .map(drop),
                1 => messaging
                    .sync(OpenRequest {
                        caller,
                        after: a,
                        epoch: b % 3,
                    })
                    .await
                    .map(drop),
                2 => {
                    let (conversation, delivered, read) = (a, b, c);
                    let request = AcquitRequest {
                        caller,
                        conversation,
                        delivered,
                        read,
                        epoch: 0,
                    };
                    messaging.acquit(request).await.map(drop)
                }
                3 => {
                    let request = ChangeGroupRequest {
                        caller,
                        client_id: a,
                        kind: (b % 8) as i32,
                        group: c,
                        users: vec![a, b, c],
                        open: true,
                        epoch: 0,
                    };
                    messaging.change_group(request).await.map(drop)
                }
                4 => messaging
                    .members(MembersRequest {
                        caller,
                        group: a,
                        epoch: 0,
                    })
                    .await
                    .map(drop),
                5 => {
                    let request = HistoryRequest {
                        conversation: a,
                        after: b,
                        limit: c as u32,
                        epoch: 0,
                        caller,
                    };
                    messaging.history(request).await.map(drop)
                }
                6 => messaging
                    .presence(PresenceRequest { user: a, epoch: 0 })
                    .await
                    .map(drop),
                7 => {
                    let after = "\u{10ffff}".repeat((b % 3) as usize);
                    messaging
                        .contacts(ContactsRequest {
                            caller,
                            after,
                            epoch: 0,
                        })
                        .await
                        .map(drop)
                }
                8 => {
                    let request = SubscribeRequest {
                        user: somebody.user,
                        device: somebody.device,
                        session: somebody.session,
                        after: a,
                        incarnation: b,
                        epoch: 0,
                    };
                    messaging.subscribe(request).await.map(drop)
                }
                _ => {
                    let request = SendRequest {
                        sender: somebody.user,
                        device: somebody.device,
                        session: somebody.session,
                        recipient: a,
                        client_id: b,
                        group: c % 2 * c,
                        ..SendRequest::default()
                    };
                    messaging.send(request).await.map(drop)
                }
            };
            if answered.is_err() {
                *seen.entry(reason(answered)).or_default() += 1;
            }
        }
        assert!(seen.len() >= 4, "the noise met several refusals: {seen:?}");
        assert!(!seen.contains_key(&Reason::Maybe), "{seen:?}");
        let bob = it.somebody("20000002").await;
        assert!(
            it.messaging.send(ann.message(bob.user, 1 << 40)).await.is_ok(),
            "and it lives"
        );
    });
}
