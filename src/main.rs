//! The `rialto` command.

fn main() -> std::process::ExitCode {
    rialto::cli::main()
}
