//! `backstop token` and `backstop whoami`: who may operate the gateway.
//!
//! With `--offline` the tokens of a stopped gateway are changed, in its directory and under its lock.

use std::path::Path;

use clap::Subcommand;

use super::client::{self, Client, Remote};
use super::exit::{Exit, Failure};
use super::screen::say;
use super::table::Table;
use super::text::{Text, plain};
use crate::admin::auth;
use crate::admin::holders::{Holders, NotChanged, OFFLINE};
use crate::admin::tokens::expiry;
use crate::admin::wire::{CreateToken, Token, Tokens, WhoAmI};
use crate::config::Local;
use crate::core::name::Name;
use crate::core::operation::{Operation, Outcome, Who};
use crate::core::role::Role;
use crate::engine::{Clock as _, SystemClock};
use crate::gateway::{OPERATIONS, TOKENS, operation_limits};
use crate::journal::embedded::DirLock;
use crate::journal::operations::Operations;

/// Say who may operate the gateway: make, list and revoke tokens
#[derive(Debug, clap::Args)]
// They may stand behind the verb as well.
#[command(mut_args(|arg| arg.global(true)))]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
    /// Of a stopped gateway, in its directory
    #[arg(long, global = true)]
    offline: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a token and print it, this once
    Create(CreateArgs),
    /// List the tokens: who holds them, what they may, when they were last used
    List,
    /// Make the token of this name worth nothing
    Revoke(RevokeArgs),
}

#[derive(Debug, Clone, clap::Args)]
struct CreateArgs {
    /// What its holder is called from now on
    name: String,
    /// What it may: read (look), operate (pause, resume, replay, cancel, take in) or admin (tokens, too)
    #[arg(long, value_parser = ["read", "operate", "admin"])]
    role: String,
    /// From when on it is worth nothing: a span like 90d, or 2026-01-31T12:00:00Z [default: never]
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
}

#[derive(Debug, clap::Args)]
struct RevokeArgs {
    name: String,
}

/// Show whose token this is, and what it may
#[derive(Debug, clap::Args)]
pub(crate) struct WhoAmIArgs {
    #[command(flatten)]
    remote: Remote,
}

/// Makes, lists or revokes.
pub(crate) async fn run(args: &Args, config: &Path) -> Result<(), Failure> {
    let desk =
        if args.offline { Desk::Stopped(config) } else { Desk::Running(Box::new(Client::new(&args.remote, config)?)) };
    let output = args.remote.output;
    match &args.verb {
        Verb::Create(asked) => output.show(&desk.create(asked).await?, made),
        Verb::List => output.show(&desk.list().await?, |tokens| listed(&tokens.items)),
        Verb::Revoke(asked) => {
            let revoked = |token: &Token| format!("{} is revoked\n", plain(&token.name));
            output.show(&desk.revoke(&asked.name).await?, revoked)
        }
    }
}

/// Says who asks.
pub(crate) async fn whoami(args: &WhoAmIArgs, config: &Path) -> Result<(), Failure> {
    let who: WhoAmI = Client::new(&args.remote, config)?.get(&["whoami"], &[]).await?;
    args.remote.output.show(&who, |WhoAmI { token, peer }| {
        let until = token.expires_at.as_ref().map(|end| format!(", until {end}")).unwrap_or_default();
        let peer = peer.as_deref().unwrap_or("somewhere");
        plain(&format!("{}, role {}{until}, from {peer}", token.name, token.role)) + "\n"
    })
}

/// Where tokens are asked for.
enum Desk<'a> {
    Running(Box<Client>),
    Stopped(&'a Path),
}

impl Desk<'_> {
    async fn create(&self, asked: &CreateArgs) -> Result<Token, Failure> {
        let CreateArgs { name, role, expires } = asked.clone();
        match self {
            Self::Running(client) => client.post(&["tokens"], &CreateToken { name, role, expires }).await,
            Self::Stopped(config) => changed(config, ("token.create", None), |holders| {
                let now = SystemClock.now();
                let name = Name::new(&name).map_err(|error| Failure::usage(format!("{name}: {error}")))?;
                let role = Role::from_name(&role).ok_or_else(|| Failure::usage("there is no such role"))?;
                let end = expires.as_deref().map(|end| expiry(end, now)).transpose();
                let end = end.map_err(|what| Failure::usage(format!("--expires {what}")))?;
                let (token, held) = holders.create(name, role, end, now).map_err(refused)?;
                Ok(Token { token: Some(token.secret().to_owned()), ..Token::of(&held) })
            }),
        }
    }

    async fn list(&self) -> Result<Tokens, Failure> {
        match self {
            Self::Running(client) => client.get(&["tokens"], &[]).await,
            Self::Stopped(config) => stopped(config, |holders, _| {
                Ok(Tokens { items: holders.list().iter().map(|held| Token::of(held)).collect() })
            }),
        }
    }

    async fn revoke(&self, name: &str) -> Result<Token, Failure> {
        match self {
            Self::Running(client) => client.delete(&["tokens", name]).await,
            Self::Stopped(config) => changed(config, ("token.revoke", Some(name)), |holders| {
                holders.revoke(name).map(|held| Token::of(&held)).map_err(refused)
            }),
        }
    }
}

/// Asks the tokens of a stopped gateway, while nobody else has its directory.
fn stopped<T>(config: &Path, ask: impl FnOnce(&Holders, &Local) -> Result<T, Failure>) -> Result<T, Failure> {
    let config = client::local(config)?;
    let _lock = DirLock::take(&config.journal.dir).map_err(failed)?;
    let first = auth::load(&config.admin.token_file).map_err(failed)?;
    let holders = Holders::open(&config.journal.dir.join(TOKENS), &first).map_err(failed)?;
    ask(&holders, &config)
}

/// Changes the tokens of a stopped gateway, and notes that as the gateway would.
fn changed(
    config: &Path,
    (what, object): (&str, Option<&str>),
    change: impl FnOnce(&Holders) -> Result<Token, Failure>,
) -> Result<Token, Failure> {
    stopped(config, |holders, config| {
        let now = SystemClock.now();
        let (dir, limits) = (config.journal.dir.join(OPERATIONS), operation_limits(config.operations));
        let (operations, _) = Operations::open(&dir, limits, now).map_err(failed)?;
        let who = Some(Who { name: OFFLINE.to_owned(), token: None, role: Role::Admin });
        let (what, object, parameters) = (what.to_owned(), object.map(str::to_owned), String::new());
        let operation = Operation { at: now, who, from: None, what, object, parameters, repeats: 0 };
        let id = operations.begin(&operation.bounded()).map_err(failed)?;
        let changed = change(holders);
        let outcome = match &changed {
            Ok(token) => (200, format!("{} may {}, id {}", token.name, token.role, token.id.as_deref().unwrap_or("-"))),
            Err(Failure { exit: Exit::Failed, message }) => (500, message.clone()),
            Err(failure) => (409, failure.message.clone()),
        };
        let outcome = Outcome::new(SystemClock.now(), outcome.0, &outcome.1);
        operations.end(id, &outcome).map_err(failed)?;
        changed
    })
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::failed(error.to_string())
}

fn refused(why: NotChanged) -> Failure {
    let exit = if matches!(why, NotChanged::Failed(_)) { Exit::Failed } else { Exit::Refused };
    Failure { exit, message: why.to_string() }
}

/// The token alone, so that it can be put where it is needed; what is said about it goes to stderr.
fn made(token: &Token) -> String {
    let until = token.expires_at.as_ref().map_or_else(|| "it does not expire".to_owned(), |end| format!("until {end}"));
    let said = format!("{}, role {}, {until}; this is the only time that it is shown", token.name, token.role);
    say(&plain(&said));
    format!("{}\n", token.token.as_deref().unwrap_or_default())
}

fn listed(tokens: &[Token]) -> Text {
    let mut table = Table::new(&["NAME", "ROLE", "ID", "CREATED", "EXPIRES", "LAST USED (HOUR)"]);
    for token in tokens {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let expires = token.expires_at.as_deref().unwrap_or("never");
        let (id, made, used) = (text(&token.id), text(&token.created_at), text(&token.last_used_at));
        table.row([&token.name, &token.role, &id, &made, expires, &used]);
    }
    table.text("there is no token")
}
