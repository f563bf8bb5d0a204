//! One node of the messaging service, as a program. Everything is in `target_service::process`.

fn main() -> std::process::ExitCode {
    target_service::process::main_from_args(std::env::args_os())
}
