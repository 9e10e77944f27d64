//! `backstop completion SHELL`: a script that has a shell complete verbs and options, made of the same commands that are
//! parsed.

use clap_complete::{Shell, generate};

use super::exit::Failure;
use super::screen::print;

/// Print a script that completes verbs and options, for a shell to source
///
/// Do it once, where the shell looks for such scripts.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  backstop completion bash > ~/.local/share/bash-completion/completions/backstop
  backstop completion zsh > \"${fpath[1]}/_backstop\"
  backstop completion fish > ~/.config/fish/completions/backstop.fish
  source <(backstop completion bash)        only in this shell")]
pub(crate) struct Args {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script for `commands`.
pub(crate) fn run(args: &Args, mut commands: clap::Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut commands, "backstop", &mut script);
    print(&script)
}
