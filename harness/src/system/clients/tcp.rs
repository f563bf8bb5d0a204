//! Connects, says something if told to, and waits for an answer that begins as expected.
//!
//! With nothing expected it ends its own side and waits until the node says anything or ends the other: a connection that
//! is only accepted shows the operating system, or a link, and not that anybody is there.

use std::time::Duration;

use async_trait::async_trait;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{ClientNode, ClientOptions, http1::not_connected, rotation::Rotation};
use crate::{
    history::ReadItem,
    workload::client::{Answered, CallFailure, OpClient, Put},
};

/// Each request is a connection of its own.
pub(super) struct Tcp {
    nodes: Rotation,
    send: Vec<u8>,
    expect: Vec<u8>,
}

impl Tcp {
    pub(super) fn new(nodes: Vec<ClientNode>, options: &ClientOptions) -> Self {
        Self {
            nodes: Rotation::new(nodes),
            send: options.send.clone().into_bytes(),
            expect: options.expect.clone().into_bytes(),
        }
    }

    async fn ask(&self, node: &ClientNode) -> Result<(), CallFailure> {
        let connected = TcpStream::connect(node.address).await;
        let mut stream = connected.map_err(|error| not_connected(&error))?;
        let lost = |_| CallFailure::unknown("connection lost");
        if !self.send.is_empty() {
            stream.write_all(&self.send).await.map_err(lost)?;
        }
        if self.expect.is_empty() {
            stream.shutdown().await.map_err(lost)?;
            let _ended_or_said = stream.read(&mut [0]).await.map_err(lost)?;
            return Ok(());
        }
        let mut got = vec![0; self.expect.len()];
        let mut filled = 0;
        while filled < got.len() {
            let count = stream.read(&mut got[filled..]).await.map_err(lost)?;
            if count == 0 {
                return Err(CallFailure::unknown("answer cut short"));
            }
            filled += count;
        }
        if got != self.expect {
            return Err(CallFailure::unknown("unexpected answer"));
        }
        Ok(())
    }
}

#[async_trait]
impl OpClient for Tcp {
    fn parts(&self) -> Vec<String> {
        Vec::new()
    }

    fn needs(&self, _log: &str) -> String {
        String::new()
    }

    async fn put(&self, _put: &Put, _within: Duration) -> Answered<Option<u64>> {
        Answered::failed(super::not_taken("tcp"))
    }

    async fn request(&self, _within: Duration) -> Answered<()> {
        let Some(attempt) = self.nodes.try_current() else {
            return Answered::failed(CallFailure::refused("no nodes"));
        };
        let by = Some(attempt.node().name.clone());
        match self.ask(attempt.node()).await {
            Ok(()) => {
                attempt.went_well();
                Answered::ok((), by)
            }
            Err(failure) => Answered::failed(failure),
        }
    }

    async fn fence(&self, _within: Duration) -> Answered<()> {
        // Nothing is ever put.
        Answered::ok((), None)
    }

    async fn read(&self, _log: &str, _within: Duration) -> Answered<Vec<ReadItem>> {
        Answered::failed(super::not_taken("tcp"))
    }
}
