//! `backstop completion SHELL`: a script that has a shell complete verbs and options, made of the same commands that are
//! parsed.

use clap_complete::{Shell, generate};

use super::exit::Failure;
use super::screen::print;

/// What is completed.
const NAME: &str = "backstop";

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
pub(crate) fn run(args: &Args, commands: &clap::Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut shown(commands), NAME, &mut script);
    print(&script)
}

/// Without old words, which are still known but nobody should learn.
fn shown(commands: &clap::Command) -> clap::Command {
    let verbs = commands.get_subcommands().filter(|verb| !verb.is_hide_set());
    clap::Command::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .args(commands.get_arguments().cloned())
        .subcommands(verbs.cloned())
}
