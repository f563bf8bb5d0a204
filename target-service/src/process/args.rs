//! What the command line says, and the configuration that comes of it.

use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;

use super::{
    edge::{self, Edge},
    lifetime::{USAGE, run},
};
use crate::node::NodeConfig;

/// Arguments of one node. Can stand in another program's command line.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The node's configuration (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Its id, instead of the file's
    #[arg(long, value_name = "ID")]
    pub node: Option<u64>,
    /// Where everything durable is, instead of the file's `data_dir`
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where clients are served, instead of the file's `client_listen`
    #[arg(long, value_name = "ADDR")]
    pub client_listen: Option<SocketAddr>,
    /// Where peers are served, instead of the file's `peer_listen`
    #[arg(long, value_name = "ADDR")]
    pub peer_listen: Option<SocketAddr>,
    /// The highest version of the protocol that it speaks, instead of the file's `versions.protocol`
    #[arg(long, value_name = "VERSION")]
    pub protocol: Option<u32>,
    /// Found a new cluster if the folder is empty: for the first start of each founder, and never again
    #[arg(long)]
    pub bootstrap: bool,
    /// Die at once when this parent process does (Linux)
    #[arg(long, value_name = "PID")]
    pub die_with_parent: Option<i32>,
}

impl Args {
    /// The file's configuration, with what the arguments change, checked.
    ///
    /// # Errors
    /// Names the file, the key, its value and what to do.
    pub fn node_config(&self) -> Result<NodeConfig, String> {
        let file = self.config.display();
        let text = read(&self.config)?;
        let mut config = NodeConfig::parse(&text).map_err(|error| format!("{file}: {error}"))?;
        if let Some(node) = self.node {
            config.node = node;
        }
        if let Some(data_dir) = &self.data_dir {
            config.data_dir.clone_from(data_dir);
        }
        if let Some(client_listen) = self.client_listen {
            config.client_listen = client_listen;
        }
        if let Some(peer_listen) = self.peer_listen {
            config.peer_listen = peer_listen;
        }
        if let Some(protocol) = self.protocol {
            config.versions.protocol = protocol;
        }
        config.bootstrap = self.bootstrap;
        config
            .check()
            .map_err(|error| format!("{file}, with the arguments' changes: {error}"))?;
        Ok(config)
    }
}

/// Longest configuration file, in bytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

fn read(file: &Path) -> Result<String, String> {
    let name = file.display();
    let bytes = fs::metadata(file).map_err(|error| format!("{name}: {error}"))?.len();
    if bytes > CONFIG_BYTES_MAX {
        return Err(format!(
            "{name}: {bytes} bytes long: a configuration has at most {CONFIG_BYTES_MAX}"
        ));
    }
    fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))
}

/// One node of a replicated messaging service, or what stands around the nodes.
#[derive(Debug, Parser)]
#[command(
    name = "target-service",
    version,
    args_conflicts_with_subcommands = true,
    arg_required_else_help = true
)]
struct Command {
    #[command(flatten)]
    args: Option<Args>,
    #[command(subcommand)]
    edge: Option<Edge>,
}

/// Runs what `args` say (the program's name first), a node unless they say otherwise, until it is stopped or fails. To be called from the main
/// thread, on no runtime.
pub fn run_from_args<I>(args: I) -> ExitCode
where
    I: IntoIterator,
    I::Item: Into<OsString> + Clone,
{
    match Command::try_parse_from(args) {
        Ok(Command { edge: Some(edge), .. }) => edge::run(&edge),
        Ok(Command { args: Some(args), .. }) => run(&args),
        Ok(_) => ExitCode::from(USAGE),
        Err(error) => {
            // A closed terminal is no reason to fail.
            let _ = error.print();
            if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
node = 1
client_listen = "127.0.0.1:7001"
peer_listen = "127.0.0.1:7101"
data_dir = "data/1"
shards = 2
[peers]
1 = "127.0.0.1:7101"
2 = "127.0.0.1:7102"
"#;

    fn args(dir: &Path, text: &str, more: &[&str]) -> Args {
        let file = dir.join("node.toml");
        fs::write(&file, text).unwrap();
        let mut line = vec!["target-service", "--config", file.to_str().unwrap()];
        line.extend(more);
        Command::try_parse_from(line).unwrap().args.unwrap()
    }

    #[test]
    fn arguments_change_what_the_file_says() {
        let dir = tempfile::tempdir().unwrap();
        let more = [
            "--node",
            "2",
            "--data-dir",
            "elsewhere",
            "--client-listen",
            "127.0.0.1:1",
        ];
        let config = args(dir.path(), TEXT, &more).node_config().unwrap();
        assert_eq!(config.node, 2);
        assert_eq!(config.data_dir, Path::new("elsewhere"));
        assert_eq!(config.client_listen.port(), 1);
        assert_eq!(config.peer_listen.port(), 7101);
    }

    #[test]
    fn what_can_not_work_names_the_file_and_the_value() {
        let dir = tempfile::tempdir().unwrap();
        for (text, more, words) in [
            (TEXT, &["--node", "9"][..], "9"),
            ("shards = 2", &[], "node.toml"),
            (&TEXT.replace("shards = 2", "shards = 0"), &[], "shards is 0"),
        ] {
            let error = args(dir.path(), text, more).node_config().unwrap_err();
            assert!(error.contains(words) && error.contains("node.toml"), "{error}");
        }
        let mut absent = args(dir.path(), TEXT, &[]);
        absent.config = dir.path().join("absent.toml");
        assert!(absent.node_config().unwrap_err().contains("absent.toml"));
    }

    #[test]
    fn usage_errors_are_2() {
        assert_eq!(
            format!("{:?}", run_from_args(["target-service"])),
            format!("{:?}", ExitCode::from(2))
        );
    }
}
