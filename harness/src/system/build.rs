//! From a plan's words to a system: the one place that knows every kind.

use super::{Command, MessagingSpec, System, SystemError, SystemKind, SystemSpec, scripted::Scripted};

/// The system that `spec` describes; nothing is taken or started yet. `seed` is the run's.
///
/// # Errors
/// When the spec can't be, or this build doesn't carry that kind of system.
pub fn build(spec: &SystemSpec, seed: u64) -> Result<Box<dyn System>, SystemError> {
    match &spec.kind {
        SystemKind::Messaging(messaging) => build_messaging(&spec.name, messaging, seed),
        SystemKind::Command(command) => Ok(Box::new(Command::new(&spec.name, command)?)),
        SystemKind::Scripted(scripted) => Ok(Box::new(Scripted::new(&spec.name, scripted)?)),
    }
}

#[cfg(feature = "messaging")]
fn build_messaging(name: &str, spec: &MessagingSpec, seed: u64) -> Result<Box<dyn System>, SystemError> {
    Ok(Box::new(super::Messaging::new(name, spec, seed)?))
}

#[cfg(not(feature = "messaging"))]
fn build_messaging(name: &str, _spec: &MessagingSpec, _seed: u64) -> Result<Box<dyn System>, SystemError> {
    Err(SystemError(format!(
        "system {name} is of kind `messaging`, which this build does not carry: build it with the feature `messaging`"
    )))
}
