//! Where a program is on this machine, and how to get one that is not.

use std::{
    env,
    ffi::OsStr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::super::{CommandSpec, SystemKind, SystemSpec};
use crate::backend::disk;

/// How to get programs that scenarios of ours use.
const INSTALL: &[(&str, &str)] = &[(
    "etcd",
    "on Debian and Ubuntu `apt-get install etcd-server`, elsewhere from etcd.io",
)];

/// What `spec` needs and this machine lacks, with the remedy; none when there is nothing.
#[must_use]
pub fn missing(spec: &SystemSpec) -> Option<String> {
    let SystemKind::Command(command) = &spec.kind else {
        return None;
    };
    missing_program(&spec.name, command).or_else(|| {
        command.disk?;
        let why = disk::available().err()?;
        Some(format!(
            "system `{}` needs disks of its own (volatile_disk), and {why}",
            spec.name
        ))
    })
}

fn missing_program(system: &str, command: &CommandSpec) -> Option<String> {
    let program = command.command.first()?;
    // A path that is filled in is only known once there is a run.
    if program.contains('{') || find(program).is_some() {
        return None;
    }
    let remedy = INSTALL
        .iter()
        .find(|(name, _)| name == program)
        .map_or("install it, or give its path", |(_, how)| how);
    Some(format!(
        "system `{system}` needs the program `{program}`, which is not on this machine; {remedy}"
    ))
}

/// The program as an absolute path: by its path from here, or in the folders of PATH.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    find_in(program, &env::var_os("PATH").unwrap_or_default())
}

fn find_in(program: &str, path: &OsStr) -> Option<PathBuf> {
    if program.contains('/') {
        return std::path::absolute(program).ok().filter(|path| is_program(path));
    }
    env::split_paths(path)
        .map(|folder| folder.join(program))
        .find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use super::*;
    use crate::system::CommandSpec;

    #[test]
    fn programs_are_found_by_name_and_by_path_and_must_be_executable() {
        let dir = tempfile::tempdir().unwrap();
        let (program, text) = (dir.path().join("server"), dir.path().join("notes"));
        for path in [&program, &text] {
            fs::write(path, "").unwrap();
        }
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&text, fs::Permissions::from_mode(0o644)).unwrap();
        let path = dir.path().as_os_str();
        assert_eq!(find_in("server", path), Some(program.clone()));
        assert_eq!(find_in("notes", path), None);
        assert_eq!(find_in(program.to_str().unwrap(), OsStr::new("")), Some(program));
        assert_eq!(find_in("absent", path), None);
    }

    #[test]
    fn what_is_missing_is_named_with_the_way_to_get_it() {
        let spec = |program: &str| SystemSpec {
            name: "main".to_owned(),
            kind: SystemKind::Command(CommandSpec {
                nodes: BTreeMap::new(),
                command: vec![program.to_owned()],
                env: BTreeMap::new(),
                ports: vec!["client".to_owned()],
                peers: String::new(),
                ready: "tcp:client".to_owned(),
                disk: None,
                client: "tcp".to_owned(),
            }),
        };
        let said = missing(&spec("no-such-program-anywhere")).unwrap();
        assert!(
            said.contains("`no-such-program-anywhere`") && said.contains("install it"),
            "{said}"
        );
        assert_eq!(missing(&spec("/bin/sh")), None);
    }
}
