//! What operators ask of a node.

use std::time::Duration;

use firedrill_proto::chat::v1::{
    DigestRequest, DigestResponse, FenceCommand, FenceRequest, QueueStatus, Route, RoutesResponse,
    SetVerificationRequest, SetVerificationResponse, StatusResponse, StorageStatus, TransferLeaderRequest,
    TransferLeaderResponse, command,
};

use super::{
    api::{Answer, Reason, Refusal},
    calls::Ask,
    inbox::Inbox,
    quarantine::Quarantined,
    run::Node,
    shard::{RETRY_BUSY, Shard},
    waiting::Waiting,
};
use crate::{chat::validate, consensus::NoTransfer};

impl Node {
    pub(super) fn set_verification(&mut self, request: &SetVerificationRequest) -> SetVerificationResponse {
        let (delay, failing) = self
            .courier
            .set(Duration::from_millis(request.delay_ms), request.failing);
        tracing::info!(request.delay_ms, request.failing, "verification was changed");
        SetVerificationResponse {
            delay_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            failing,
        }
    }

    pub(super) fn fence(&mut self, request: FenceRequest, deadline: Option<Duration>, waiting: Waiting) {
        if let Err(refused) = validate::fence(request.sessions.len()) {
            return self.refuse(waiting, &refused);
        }
        let ask = Ask {
            shard: request.shard,
            epoch: request.epoch,
            deadline,
        };
        let command = FenceCommand {
            sessions: request.sessions,
        };
        self.propose(ask, command::Command::Fence(command), waiting);
    }

    pub(super) fn transfer(&mut self, request: &TransferLeaderRequest) -> Answer<TransferLeaderResponse> {
        let ask = Ask {
            shard: request.shard,
            epoch: 0,
            deadline: None,
        };
        self.admit(ask, false)?;
        let shunned = self.shunned();
        let Some(shard) = self.shards.get_mut(&request.shard) else {
            return Err(Refusal::new(Reason::NotLeader, "the shard is not held here"));
        };
        if request.to == self.config.node {
            return Ok(TransferLeaderResponse { to: request.to });
        }
        match shard.replica.transfer(request.to, &shunned) {
            Ok(to) => Ok(TransferLeaderResponse { to }),
            Err(why) => {
                let voters = shard.replica.voters();
                let message = format!("node {} of {voters:?} can't take over: {why}", request.to);
                Err(match why {
                    NoTransfer::NoVoter => shard.refusal(Reason::Invalid, message),
                    NoTransfer::NotLeader => shard.refusal(Reason::NotLeader, message),
                    NoTransfer::Stopping | NoTransfer::Silent | NoTransfer::Behind { .. } => {
                        shard.refusal(Reason::Overloaded, message).after(RETRY_BUSY)
                    }
                })
            }
        }
    }

    pub(super) fn digest(&self, request: &DigestRequest) -> Answer<DigestResponse> {
        let Some(shard) = self.shards.get(&request.shard) else {
            return Err(Refusal::new(Reason::Invalid, self.not_held(request.shard)));
        };
        let (applied, term) = shard.machine.applied();
        let digest = shard.machine.digest();
        let digest =
            digest.map_err(|error| shard.refusal(Reason::Maybe, format!("failed to read the state: {error}")))?;
        Ok(DigestResponse { applied, digest, term })
    }

    pub(super) fn routes_answer(&self) -> RoutesResponse {
        let leaders = self.leaders();
        let routes = (0..self.routes.shards()).map(|shard| Route {
            shard,
            nodes: self.routes.members(shard).to_vec(),
            leader: leaders.get(&shard).copied().unwrap_or_default(),
        });
        RoutesResponse {
            epoch: self.routes.epoch(),
            shards: self.routes.shards(),
            routes: routes.collect(),
        }
    }

    pub(super) fn status(&self, inbox: &Inbox) -> StatusResponse {
        let log = self.log.stats();
        let proposals: usize = self.shards.values().map(|shard| shard.pending.len()).sum();
        let streams: usize = self.shards.values().map(|shard| shard.streams.len()).sum();
        let early = inbox.refused.load(std::sync::atomic::Ordering::Relaxed);
        StatusResponse {
            node: self.config.node,
            zone: self.config.zone.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            plant: self.config.plant.map_or("", crate::plant::Plant::as_str).to_owned(),
            map_epoch: self.routes.epoch(),
            placement: Some(self.placement_status()),
            shards: self.shards.values().map(Shard::status).collect(),
            uptime_ms: u64::try_from(self.clock.now().as_millis()).unwrap_or(u64::MAX),
            queues: Some(QueueStatus {
                inbox: inbox.calls.len() as u64,
                inbox_max: inbox.calls_max as u64,
                proposals: proposals as u64,
                proposals_max: (self.config.bounds.proposals_per_shard * self.shards.len()) as u64,
                streams: streams as u64,
                streams_max: self.config.bounds.streams as u64,
                refused: self.refused + early,
            }),
            storage: Some(StorageStatus {
                log_bytes: log.bytes,
                log_segments: log.segments,
                syncs: log.syncs,
                sync_us_p50: self.sync_times.quantile_us(0.5),
                sync_us_p99: self.sync_times.quantile_us(0.99),
                snapshot_bytes: self.outgoing.bytes(),
                snapshots_out: self.outgoing.len() as u64,
                snapshots_in: self.incoming.len() as u64,
            }),
            admission: Some(self.admission()),
            protocol_least: self.config.versions.speaks().least(),
            protocol_most: self.config.versions.speaks().most(),
            build: self.config.versions.build.as_str().to_owned(),
            quarantined: self.quarantined.values().map(Quarantined::status).collect(),
        }
    }
}
