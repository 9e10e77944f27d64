//! The command line: `backstop VERB`.
//!
//! Local verbs work on the config and the journal's directory; remote verbs speak to a running gateway by
//! its admin API. Without a verb, `serve`. Every command ends by one of the codes in [`exit`].

mod audit;
mod call;
mod cancel;
mod check;
mod client;
mod completion;
mod demo;
mod endpoints;
mod events;
mod exit;
mod export;
mod failed;
mod failures;
mod filters;
mod health;
mod help;
mod import;
mod journal;
mod listen;
mod operations;
mod output;
mod progress;
mod reach;
mod refused;
mod reload;
mod replay;
mod screen;
mod send;
mod serve;
mod stream;
mod table;
mod tail;
mod text;
mod token;
mod totals;
mod waits;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use exit::Failure;
use screen::Colour;

use crate::journal::private;

/// A webhook reliability gateway with replay: journal first, acknowledge second, deliver until delivered.
#[derive(Debug, Parser)]
#[command(name = "backstop", version, propagate_version = false, after_help = AFTER_HELP)]
struct Cli {
    /// The config file
    #[arg(long, short, global = true, env = "BACKSTOP_CONFIG", value_name = "PATH", default_value = "gateway.toml")]
    #[arg(help_heading = EVERYWHERE)]
    config: PathBuf,
    /// When to show colours; NO_COLOR and CLICOLOR_FORCE say it, too
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = Colour::Auto)]
    #[arg(help_heading = EVERYWHERE)]
    color: Colour,
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// What the options of every verb stand under in help.
const EVERYWHERE: &str = "With every verb";
const AFTER_HELP: &str = "\
Examples:
  backstop demo                                   see it work, without a config
  backstop check && backstop serve                run a gateway
  backstop failed --since 1h                      what did not arrive
  backstop replay --status dead --since 1h        have it delivered again
  backstop help replay                            all about one verb

Exit codes: 0 done · 1 failed · 2 the command line or the config makes no sense · 3 the gateway did not \
answer · 4 the gateway refused (no such thing, not as things stand, or not by this token's role)";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the gateway (what happens without a verb, too)
    Serve,
    Check(check::Args),
    Reload(reload::Args),
    Health(health::Args),
    Send(send::Args),
    Call(call::Args),
    Gaps(call::GapsArgs),
    Tail(tail::Args),
    Listen(listen::Args),
    Events(events::ListArgs),
    Event(events::ShowArgs),
    Failed(failed::Args),
    Refused(refused::Args),
    Failures(failures::Args),
    Replay(Box<replay::Args>),
    Replays(replay::ListArgs),
    Cancel(cancel::Args),
    /// Show the running totals
    Counters(totals::Args),
    Endpoint(endpoints::Args),
    #[command(hide = true)]
    Endpoints(endpoints::ListArgs),
    #[command(hide = true)]
    Pause(endpoints::PauseArgs),
    #[command(hide = true)]
    Resume(endpoints::ResumeArgs),
    Audit(audit::Args),
    Export(export::Args),
    Import(import::Args),
    Operations(operations::Args),
    Token(token::Args),
    Whoami(token::WhoAmIArgs),
    Journal(journal::Args),
    Demo(demo::Args),
    Completion(completion::Args),
    /// Print the version
    Version,
}

/// Runs the program: reads the command line, does it, says how it ended.
#[must_use]
pub fn main() -> ExitCode {
    let cli = parse();
    cli.color.hold();
    // Before there is a second thread: what is written here are events, settings and tokens.
    private::keep_private();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    exit::conclude(match runtime {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => Err(Failure::failed(format!("no threads to run on: {error}"))),
    })
}

/// The command line; what makes no sense, and what asks for help, ends here.
fn parse() -> Cli {
    let matches = help::explained(Cli::command()).get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let config = &cli.config;
    match cli.verb.unwrap_or(Verb::Serve) {
        Verb::Serve => serve::run(config).await,
        Verb::Check(args) => check::run(&args, config),
        Verb::Reload(args) => reload::run(&args, config).await,
        Verb::Health(args) => health::run(&args, config).await,
        Verb::Send(args) => send::run(&args, config).await,
        Verb::Call(args) => call::run(&args, config).await,
        Verb::Gaps(args) => call::gaps(&args, config).await,
        Verb::Tail(args) => tail::run(&args, config).await,
        Verb::Listen(args) => listen::run(&args, config).await,
        Verb::Events(args) => events::list(&args, config).await,
        Verb::Event(args) => events::show(&args, config).await,
        Verb::Failed(args) => failed::run(&args, config).await,
        Verb::Refused(args) => refused::run(&args, config).await,
        Verb::Failures(args) => failures::run(&args, config).await,
        Verb::Replay(args) => replay::run(&args, config).await,
        Verb::Replays(args) => replay::list(&args, config).await,
        Verb::Cancel(args) => cancel::run(&args, config).await,
        Verb::Counters(args) => totals::counters(&args, config).await,
        Verb::Endpoint(args) => endpoints::run(&args, config).await,
        Verb::Endpoints(args) => endpoints::list(&args, config).await,
        Verb::Pause(args) => endpoints::pause(&args, config).await,
        Verb::Resume(args) => endpoints::resume(&args, config).await,
        Verb::Audit(args) => audit::run(&args, config).await,
        Verb::Export(args) => export::run(&args, config).await,
        Verb::Import(args) => import::run(&args, config).await,
        Verb::Operations(args) => operations::run(&args, config).await,
        Verb::Token(args) => token::run(&args, config).await,
        Verb::Whoami(args) => token::whoami(&args, config).await,
        Verb::Journal(args) => journal::run(&args, config),
        Verb::Demo(args) => demo::run(&args).await,
        Verb::Completion(args) => completion::run(&args, &Cli::command()),
        Verb::Version => screen::print(format!("backstop {}\n", env!("CARGO_PKG_VERSION")).as_bytes()),
    }
}
