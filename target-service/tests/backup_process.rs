//! The program's words for operators: a backup is taken while a node serves, its folder is lost, and it begins anew from the
//! backup; and a folder that the cluster can't do without is not emptied.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use target_service::{
    client::{ChannelOptions, Channels, Client},
    env::Clock,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_target-service");

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// A child that is gone when the test is.
struct Running(Child);

impl Running {
    /// Starts a node, and waits until it serves.
    fn node(config: &str, more: &[&str]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["--config", config]).args(more);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.starts_with("ready"), "{line:?}");
        Self(child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn said(args: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = Command::new(PROGRAM).args(args).output().unwrap();
    let words = [stdout, stderr].concat();
    (status.code(), String::from_utf8_lossy(&words).into_owned())
}

fn config(dir: &Path, client: &str) -> String {
    let (peer, file) = (free_address(), dir.join("node.toml"));
    let (data, backups) = (dir.join("data"), dir.join("backups"));
    let text = format!(
        "node = 1\nclient_listen = {client:?}\npeer_listen = {peer:?}\ndata_dir = {data:?}\nbackup_dir = {backups:?}\n\
         shards = 2\n[peers]\n1 = {peer:?}\n"
    );
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

/// Signs one number up, again and again until the node leads; whether it was new.
fn sign_up(client: &str, phone: &str) -> (u64, bool) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let clock = Clock::system();
        let channels = Channels::new([(1, client.to_owned())].into(), ChannelOptions::default());
        let client = Client::new(channels).with_timeout(Duration::from_secs(5));
        let mut last = None;
        for _ in 0..100 {
            let _ = client.refresh_routes().await;
            match client.sign_up(phone).await.outcome {
                Ok(answer) => return (answer.user, answer.created),
                Err(error) => last = Some(error),
            }
            clock.sleep(Duration::from_millis(50)).await;
        }
        panic!("nobody signs {phone} up: {last:?}");
    })
}

#[test]
fn a_node_begins_anew_from_its_backup_and_is_not_emptied_where_it_is_the_only_one() {
    let dir = tempfile::tempdir().unwrap();
    let client = free_address();
    let file = config(dir.path(), &client);
    let node = Running::node(&file, &["--bootstrap"]);
    let users: Vec<(u64, bool)> = ["15550001", "15550002"].map(|phone| sign_up(&client, phone)).into();
    let (code, words) = said(&["backup", "--id", "first", "--at", &client]);
    assert_eq!(code, Some(0), "{words}");
    let (code, words) = said(&["status", "--addr", &client]);
    assert!(
        code == Some(0) && words.contains("backup  first finished, 2 of 2 shards"),
        "{words}"
    );
    let (code, words) = said(&["backup", "--id", "../first", "--at", &client]);
    assert!(code == Some(69) && words.contains("is no id of a backup"), "{words}");

    // While it runs, nobody empties or restores its folder.
    let wipe = ["wipe", "--config", &file, "--node", "1", "--ask", &client];
    let (code, words) = said(&wipe);
    assert!(
        code == Some(70) && words.contains("another process uses this data folder"),
        "{words}"
    );
    drop(node);
    let (code, words) = said(&wipe[..5]);
    assert!(
        code == Some(70) && words.contains("nobody who was asked holds shard 0"),
        "{words}"
    );
    let from = dir.path().join("backups/node-1/first");
    let restore = ["restore", "--config", &file, "--from", from.to_str().unwrap()];
    let (code, words) = said(&restore);
    assert!(code == Some(70) && words.contains("the identity of a node"), "{words}");

    fs::remove_dir_all(dir.path().join("data")).unwrap();
    let (code, words) = said(&restore);
    assert!(code == Some(0) && words.contains("restored first at node 1"), "{words}");
    let _node = Running::node(&file, &[]);
    for (phone, (user, _)) in ["15550001", "15550002"].into_iter().zip(users) {
        assert_eq!(sign_up(&client, phone), (user, false), "{phone} has its account");
    }
}

#[test]
fn a_restore_of_nothing_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = config(dir.path(), &free_address());
    let nowhere = dir.path().join("nowhere");
    let (code, words) = said(&["restore", "--config", &file, "--from", nowhere.to_str().unwrap()]);
    assert!(code == Some(70) && words.contains("nowhere"), "{words}");
    let (code, words) = said(&["restore", "--config", &file]);
    assert!(code == Some(2) && words.contains("--from"), "{words}");
    let (code, words) = said(&["wipe", "--config", &file]);
    assert!(code == Some(2) && words.contains("--node"), "{words}");
}
