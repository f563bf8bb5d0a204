//! A machine driven command by command, and a disk that forgets what was not synced.

use std::sync::{Arc, Mutex};

use firedrill_proto::chat::v1::{
    AcceptOutboxCommand, AcknowledgeCommand, Command, FenceCommand, OpenSessionCommand, SendCommand, SignUpCommand,
    TrimOutboxCommand, command::Command as Kind,
};
use redb::{Database, StorageBackend, backends::InMemoryBackend};

use crate::chat::{Applied, Committed, Machine, Reply, Settings};

pub(super) fn memory() -> Database {
    Database::builder().create_with_backend(InMemoryBackend::new()).unwrap()
}

/// A command at log time `time_ms`.
pub(super) fn at(time_ms: u64, kind: Kind) -> Command {
    Command {
        time_ms,
        proposer: 1,
        ticket: 7,
        command: Some(kind),
    }
}

/// One shard, alone or of several, with the log it has applied.
pub(super) struct Shard {
    pub(super) machine: Machine,
    pub(super) time_ms: u64,
    pub(super) log: Vec<Committed>,
}

impl Shard {
    pub(super) fn alone() -> Self {
        Self::with(0, 1, Settings::default())
    }

    pub(super) fn with(shard: u32, shards: u32, settings: Settings) -> Self {
        Self {
            machine: Machine::open_with(memory(), shard, shards, settings).unwrap(),
            time_ms: 1000,
            log: Vec::new(),
        }
    }

    pub(super) fn apply(&mut self, kind: Kind) -> Applied {
        let entry = Committed {
            index: self.machine.applied().0 + 1,
            term: 1,
            command: Some(at(self.time_ms, kind)),
        };
        self.log.push(entry.clone());
        self.machine.apply(&[entry]).unwrap()
    }

    pub(super) fn run(&mut self, kind: Kind) -> Reply {
        let applied = self.apply(kind);
        assert_eq!(applied.outcomes.len(), 1);
        assert_eq!((applied.outcomes[0].proposer, applied.outcomes[0].ticket), (1, 7));
        applied.outcomes[0].reply.clone()
    }

    pub(super) fn user(&mut self, phone: &str) -> u64 {
        match self.run(sign_up(phone)) {
            Reply::SignedUp { user, .. } => user,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn session(&mut self, user: u64, device: u32, nonce: u64) -> u64 {
        match self.run(open(user, device, nonce)) {
            Reply::Opened { session, .. } => session,
            other => panic!("{other:?}"),
        }
    }

    /// Carries everything from this shard's outbox to itself.
    pub(super) fn pump(&mut self) -> Reply {
        let after = self.machine.accepted_through(0).unwrap();
        let items = self.machine.outbox_pending(0, after, 1000).unwrap();
        let reply = self.run(Kind::AcceptOutbox(AcceptOutboxCommand { from_shard: 0, items }));
        let Reply::Accepted { through, .. } = reply else {
            panic!("{reply:?}");
        };
        self.run(trim(0, through));
        reply
    }

    /// What a device would be shown from its start, as (sequence, client id, body).
    pub(super) fn shown(&self, user: u64, device: u32) -> Vec<(u64, u64, Vec<u8>)> {
        let owed = self.machine.deliveries(user, device, 0, 1000).unwrap();
        owed.into_iter()
            .map(|it| (it.sequence, it.client_id, it.body.to_vec()))
            .collect()
    }
}

pub(super) fn sign_up(phone: &str) -> Kind {
    Kind::SignUp(SignUpCommand {
        phone: phone.into(),
        ..SignUpCommand::default()
    })
}

pub(super) fn open(user: u64, device: u32, client_nonce: u64) -> Kind {
    Kind::OpenSession(OpenSessionCommand {
        user,
        device,
        client_nonce,
    })
}

pub(super) fn send(from: (u64, u32, u64), recipient: u64, client_id: u64, body: &str) -> Kind {
    Kind::Send(SendCommand {
        sender: from.0,
        device: from.1,
        session: from.2,
        recipient,
        client_id,
        body: body.as_bytes().to_vec().into(),
        group: 0,
    })
}

pub(super) fn acknowledge(device: (u64, u32, u64), sequence: u64) -> Kind {
    Kind::Acknowledge(AcknowledgeCommand {
        user: device.0,
        device: device.1,
        session: device.2,
        sequence,
    })
}

pub(super) fn trim(to_shard: u32, through: u64) -> Kind {
    Kind::TrimOutbox(TrimOutboxCommand { to_shard, through })
}

pub(super) fn fence(sessions: &[u64]) -> Kind {
    Kind::Fence(FenceCommand {
        sessions: sessions.to_vec(),
    })
}

/// A disk whose synced content can be taken at any moment, as a power loss would leave it.
#[derive(Clone, Debug, Default)]
pub(super) struct ForgetfulDisk(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    live: Vec<u8>,
    synced: Vec<u8>,
}

impl ForgetfulDisk {
    /// The disk after a power loss now.
    pub(super) fn after_power_loss(&self) -> Self {
        let synced = self.0.lock().unwrap().synced.clone();
        Self(Arc::new(Mutex::new(Content {
            live: synced.clone(),
            synced,
        })))
    }

    pub(super) fn database(&self) -> Database {
        Database::builder().create_with_backend(self.clone()).unwrap()
    }
}

impl StorageBackend for ForgetfulDisk {
    fn len(&self) -> std::io::Result<u64> {
        Ok(self.0.lock().unwrap().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.0.lock().unwrap().live[offset..offset + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.lock().unwrap().live.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> std::io::Result<()> {
        let mut content = self.0.lock().unwrap();
        content.synced = content.live.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        self.0.lock().unwrap().live[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }
}
