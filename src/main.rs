//! The `backstop` program: everything is in the library.

fn main() -> std::process::ExitCode {
    backstop::cli::main()
}
