//! What an etcd node says of itself, over the JSON form of its API: who leads, and how far it is.

use std::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, de};

use super::{super::http1::Http1, GROUP};
use crate::history::{GroupStatus, NodeStatus};

#[derive(Debug, Deserialize)]
struct Header {
    #[serde(default, deserialize_with = "number")]
    member_id: u64,
}

/// Numbers that are left out are 0.
#[derive(Debug, Deserialize)]
struct StatusAnswer {
    header: Header,
    #[serde(default, deserialize_with = "number")]
    leader: u64,
    #[serde(default, rename = "raftTerm", deserialize_with = "number")]
    raft_term: u64,
    #[serde(default, rename = "raftIndex", deserialize_with = "number")]
    raft_index: u64,
    #[serde(default, rename = "raftAppliedIndex", deserialize_with = "number")]
    raft_applied_index: u64,
    #[serde(default, rename = "dbSize", deserialize_with = "number")]
    db_size: u64,
}

/// 64-bit numbers stand in JSON as text.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Number(u64),
    }
    match Either::deserialize(deserializer)? {
        Either::Number(number) => Ok(number),
        Either::Text(text) => text
            .parse()
            .map_err(|_| de::Error::custom(format!("`{text}` is not a number"))),
    }
}

/// What etcd's raft says of itself, among the variables that every node publishes.
#[derive(Debug, Deserialize)]
struct Variables {
    #[serde(rename = "raft.status")]
    raft: RaftStatus,
}

#[derive(Debug, Deserialize)]
struct RaftStatus {
    term: u64,
    #[serde(rename = "raftState")]
    state: String,
}

/// What the node at `address` says of itself; none when it says nothing that can be read.
///
/// The term in its status is that of the last entry applied: a new leader names the term before its own until it has
/// applied its first entry. So whoever says that it leads is asked for its raft's own status too, which is of one moment.
pub(in crate::system::clients) async fn status(http: &Http1, address: SocketAddr) -> Option<NodeStatus> {
    let asked = http
        .post(address, "/v3/maintenance/status", Bytes::from_static(b"{}"))
        .await;
    let asked = asked.ok().filter(|answer| answer.status.is_success())?;
    let mut status = translate(&serde_json::from_slice(&asked.body).ok()?);
    if status.groups.iter().any(|group| group.leader) {
        let asked = http.get(address, "/debug/vars").await;
        confirm(
            &mut status,
            &asked.ok().filter(|answer| answer.status.is_success())?.body,
        )?;
    }
    Some(status)
}

/// Puts right what a status says of leading; none when the variables can't be read.
fn confirm(status: &mut NodeStatus, variables: &[u8]) -> Option<()> {
    let raft = serde_json::from_slice::<Variables>(variables).ok()?.raft;
    for group in &mut status.groups {
        group.leader = raft.state == "StateLeader";
        group.term = raft.term;
    }
    Some(())
}

fn translate(answer: &StatusAnswer) -> NodeStatus {
    let group = GroupStatus {
        group: GROUP.to_owned(),
        leader: answer.leader != 0 && answer.leader == answer.header.member_id,
        term: answer.raft_term,
        commit: answer.raft_index,
        // Versions before 3.4 don't tell them apart.
        applied: if answer.raft_applied_index == 0 {
            answer.raft_index
        } else {
            answer.raft_applied_index
        },
        digest: 0,
    };
    #[expect(clippy::cast_precision_loss, reason = "a size in bytes far below 2^53")]
    let gauges = [("db_bytes".to_owned(), answer.db_size as f64)];
    NodeStatus {
        groups: vec![group],
        backlog: 0,
        placement: None,
        gauges: gauges.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> GroupStatus {
        let answer = serde_json::from_str(text).expect("readable");
        translate(&answer).groups.remove(0)
    }

    #[test]
    fn a_node_leads_when_it_names_itself() {
        let says = |leader: &str| {
            format!(
                r#"{{"header":{{"member_id":"7"}},{leader}"raftTerm":"3","raftIndex":"20","raftAppliedIndex":"19","dbSize":"4096"}}"#
            )
        };
        let leads = read(&says(r#""leader":"7","#));
        assert_eq!(
            (leads.leader, leads.term, leads.commit, leads.applied),
            (true, 3, 20, 19)
        );
        assert!(!read(&says(r#""leader":"8","#)).leader, "somebody else");
        assert!(!read(&says("")).leader, "nobody: what is 0 is left out");
        let says =
            |state: &str| format!(r#"{{"memstats":{{}},"raft.status":{{"id":"7","term":4,"raftState":"{state}"}}}}"#);
        let mut status = NodeStatus {
            groups: vec![leads],
            ..NodeStatus::default()
        };
        assert_eq!(confirm(&mut status, says("StateLeader").as_bytes()), Some(()));
        assert_eq!(
            (status.groups[0].leader, status.groups[0].term),
            (true, 4),
            "its own term"
        );
        assert_eq!(confirm(&mut status, says("StateFollower").as_bytes()), Some(()));
        assert!(!status.groups[0].leader, "it no longer does");
        assert_eq!(confirm(&mut status, b"{}"), None);
        assert!(serde_json::from_str::<StatusAnswer>(r#"{"header":{},"leader":"x"}"#).is_err());
    }
}
