//! What a person at a terminal sees while a run goes on: the phases with the one it is in, and the faults that last.

#![cfg(target_os = "linux")]

mod common;

use std::{fs::File, io::Read as _, sync::mpsc};

use common::{Bench, PATIENCE, small};
use nix::pty::{Winsize, openpty};

/// Reads the terminal until `wanted` was shown; all that was shown so far on failure.
fn until(pieces: &mpsc::Receiver<Vec<u8>>, shown: &mut String, wanted: &str) {
    while !shown.contains(wanted) {
        match pieces.recv_timeout(PATIENCE) {
            Ok(piece) => shown.push_str(&String::from_utf8_lossy(&piece)),
            Err(error) => panic!("`{wanted}` was not shown ({error}); seen:\n{shown}"),
        }
    }
}

#[test]
fn a_terminal_shows_the_phase_and_the_faults_that_last() {
    let bench = Bench::new();
    let scenario = bench.scenario(&small("  - at: 500ms\n    freeze: { node: n1 }\n    heal_after: 2s"));
    let size = Winsize {
        ws_row: 40,
        ws_col: 200,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let terminal = openpty(Some(&size), None).expect("a terminal");
    let scenario = scenario.to_str().expect("a temporary path is text");
    let mut command = bench.firedrill(&["run", scenario, "--out", "out"]);
    command
        .env("TERM", "xterm")
        .stdout(std::process::Stdio::null())
        .stderr(terminal.slave);
    let mut child = command.spawn().expect("the command starts");
    // Its copy of the other end keeps the terminal open, and would do so after the run.
    drop(command);
    let mut master = File::from(terminal.master);
    let (tell, pieces) = mpsc::channel();
    std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = master.read(&mut piece) {
            if tell.send(piece[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut shown = String::new();
    for wanted in ["[warm-up]", "[disturb]", "⚡1-freeze n1", "backlog", "[settle]"] {
        until(&pieces, &mut shown, wanted);
    }
    // Drawn again and again while it settles: healed, the fault is not among those that last any more.
    let from = shown.rfind("[settle]").expect("it was shown");
    let mut rest = shown.split_off(from + "[settle]".len());
    until(&pieces, &mut rest, "[settle]");
    assert!(!rest.contains('⚡'), "{rest}");
    child.wait().expect("it is our child");
}
