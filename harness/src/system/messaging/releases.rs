//! Releases: what a node is started as, and what it says that it is.
//!
//! Every binary can pass for any of them: it speaks the first version of the protocol, the second, or is the build of the
//! second that can't send.

use std::path::Path;

use firedrill_proto::chat::v1::StatusResponse;
use target_service::node::{Build, NodeConfig};

use super::SystemError;

/// What a node's own status says.
pub(super) fn of(status: &StatusResponse) -> String {
    if status.build.is_empty() || status.build == Build::Good.as_str() {
        return match status.protocol_most {
            0 => String::new(),
            most => most.to_string(),
        };
    }
    status.build.clone()
}

/// What a release is in a node's configuration: the highest version that it speaks, and the build.
pub(super) fn settings(release: &str) -> Result<(u32, Build), SystemError> {
    match release {
        "1" => Ok((1, Build::Good)),
        "2" => Ok((2, Build::Good)),
        "2-bad" => Ok((2, Build::SecondBad)),
        other => Err(SystemError(format!(
            "there is no release {other} of the messaging service"
        ))),
    }
}

/// Has the node of this configuration file be that release from its next start on.
pub(super) fn set(file: &Path, release: &str) -> Result<(), SystemError> {
    let no = |what: &str, error: &dyn std::fmt::Display| {
        SystemError(format!("failed to {what} {}: {error}", file.display()))
    };
    let text = std::fs::read_to_string(file).map_err(|error| no("read", &error))?;
    let mut config = NodeConfig::parse(&text).map_err(|error| no("understand", &error))?;
    (config.versions.protocol, config.versions.build) = settings(release)?;
    let text = config.to_toml().map_err(|error| no("write", &error))?;
    // Whole or not at all: a node that starts in between reads the one or the other.
    let beside = file.with_extension("toml.new");
    std::fs::write(&beside, text).map_err(|error| no("write beside", &error))?;
    std::fs::rename(&beside, file).map_err(|error| no("replace", &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::RELEASES;

    #[test]
    fn every_release_that_a_scenario_can_name_is_one_and_says_so() {
        for release in RELEASES {
            let (protocol, build) = settings(release).unwrap();
            let status = StatusResponse {
                protocol_least: 1,
                protocol_most: protocol,
                build: build.as_str().to_owned(),
                ..StatusResponse::default()
            };
            assert_eq!(of(&status), *release);
        }
        assert!(settings("3").is_err());
        assert_eq!(
            of(&StatusResponse::default()),
            "",
            "who says nothing runs nothing that is known"
        );
    }
}
