//! The command `firedrill`. Everything is in `firedrill::cli`, except that the same binary is also a node.

fn main() -> std::process::ExitCode {
    #[cfg(feature = "messaging")]
    if let Some(ended) = firedrill::system::run_node(std::env::args_os()) {
        return ended;
    }
    firedrill::cli::main()
}
