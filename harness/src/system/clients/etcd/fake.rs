//! An etcd in memory, for tests: the three calls that the client makes, served over gRPC.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tokio::net::TcpListener;
use tonic::{body::Body, codegen::http, transport};

use super::api;

/// An etcd of one lock, with the transactions that the client sends.
#[derive(Clone, Default)]
pub(in crate::system::clients) struct FakeEtcd(Arc<Mutex<Keys>>);

#[derive(Default)]
struct Keys {
    revision: i64,
    keys: BTreeMap<Bytes, api::KeyValue>,
    /// The revisions that ranges asked for.
    ranges: Vec<i64>,
}

impl Keys {
    fn header(&self) -> Option<api::Header> {
        Some(api::Header {
            revision: self.revision,
        })
    }

    fn put(&mut self, put: api::PutRequest) -> api::PutResponse {
        self.revision += 1;
        let created = self.keys.get(&put.key).map_or(self.revision, |old| old.create_revision);
        let new = api::KeyValue {
            key: put.key.clone(),
            create_revision: created,
            value: put.value,
        };
        self.keys.insert(put.key, new);
        api::PutResponse { header: self.header() }
    }

    fn range(&mut self, range: &api::RangeRequest) -> api::RangeResponse {
        self.ranges.push(range.revision);
        // A page is smaller than what is asked for, as etcd's may be.
        let limit = usize::try_from(range.limit).unwrap().min(2);
        let found: Vec<api::KeyValue> = self
            .keys
            .range(range.key.clone()..)
            .map(|(_, kv)| kv.clone())
            .filter(|kv| {
                if range.range_end.is_empty() {
                    kv.key == range.key
                } else {
                    kv.key < range.range_end
                }
            })
            .collect();
        let more = range.limit > 0 && found.len() > limit;
        api::RangeResponse {
            header: self.header(),
            kvs: if more { found[..limit].to_vec() } else { found },
            more,
        }
    }

    fn txn(&mut self, txn: api::TxnRequest) -> api::TxnResponse {
        let holds = txn.compare.iter().all(|compare| {
            assert_eq!(compare.target, api::TARGET_CREATE);
            let created = self.keys.get(&compare.key).map_or(0, |kv| kv.create_revision);
            compare.create_revision == Some(created)
        });
        let mut responses = Vec::new();
        for op in if holds { txn.success } else { txn.failure } {
            if let Some(put) = op.put {
                self.put(put);
            }
            let range = op.range.map(|range| self.range(&range));
            responses.push(api::ResponseOp { range });
        }
        api::TxnResponse {
            header: self.header(),
            succeeded: holds,
            responses,
        }
    }
}

impl tonic::server::NamedService for FakeEtcd {
    const NAME: &'static str = "etcdserverpb.KV";
}

type Boxed<T> = std::pin::Pin<Box<dyn Future<Output = T> + Send>>;

/// One method of the fake.
struct Method<Q, A>(FakeEtcd, fn(&mut Keys, Q) -> A);

impl<Q: Send + 'static, A: Send + 'static> tonic::server::UnaryService<Q> for Method<Q, A> {
    type Response = A;
    type Future = Boxed<Result<tonic::Response<A>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<Q>) -> Self::Future {
        let answer = (self.1)(&mut self.0.0.lock().unwrap(), request.into_inner());
        Box::pin(async move { Ok(tonic::Response::new(answer)) })
    }
}

impl tonic::codegen::Service<http::Request<Body>> for FakeEtcd {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Boxed<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        fn serve<Q, A>(
            fake: FakeEtcd,
            request: http::Request<Body>,
            method: fn(&mut Keys, Q) -> A,
        ) -> Boxed<Result<http::Response<Body>, Infallible>>
        where
            Q: prost::Message + Default + 'static,
            A: prost::Message + Default + 'static,
        {
            let codec: tonic_prost::ProstCodec<A, Q> = tonic_prost::ProstCodec::default();
            let mut grpc = tonic::server::Grpc::new(codec);
            Box::pin(async move { Ok(grpc.unary(Method(fake, method), request).await) })
        }
        let fake = self.clone();
        match request.uri().path() {
            "/etcdserverpb.KV/Txn" => serve(fake, request, Keys::txn),
            "/etcdserverpb.KV/Put" => serve(fake, request, Keys::put),
            "/etcdserverpb.KV/Range" => serve(fake, request, |keys, range: api::RangeRequest| keys.range(&range)),
            other => panic!("{other}"),
        }
    }
}

impl FakeEtcd {
    /// Serves on loopback for as long as the test's runtime lasts.
    pub(in crate::system::clients) async fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        tokio::spawn(
            transport::Server::builder()
                .add_service(self.clone())
                .serve_with_incoming(incoming),
        );
        address
    }

    /// The revisions that ranges have asked for.
    pub(in crate::system::clients) fn ranges(&self) -> Vec<i64> {
        self.0.lock().unwrap().ranges.clone()
    }
}
