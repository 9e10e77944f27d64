//! A config that takes the place of another in a running process: what of it can, and what is otherwise by it.
//!
//! Both questions are answered by the config itself. What holds in the process is put together from both
//! ([`Config::taking_in`], which names every field, so that a new one must be decided about); what is otherwise is
//! found in what [`Config::effective`] says of the two ([`changes`]), which has every key and no secret. Where two
//! secrets differ that look the same there, it is told that they do, and never what they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use toml::{Table, Value};

use super::{Admin, Config, Problem, Server};
use crate::core::dial::Dial;
use crate::core::endpoint::Endpoint;
use crate::core::name::Name;
use crate::core::route::Route;
use crate::core::sign::{Secret, Signing};
use crate::core::source::Source;
use crate::core::verify::Verification;
use crate::core::verify::handshake::Handshake;

/// Something that is otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// How.
    pub kind: Kind,
    /// What: a table, like `server` or `endpoints.crm`, or `routes`.
    pub what: String,
    /// Of what has changed, its keys; of a route, where it leads.
    pub keys: Vec<Key>,
}

/// How something is otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It was not there.
    Added,
    /// It is not there any more.
    Removed,
    /// It is there, and says something else.
    Changed,
}

/// One key of what has changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// Whether only what is secret of it has changed.
    pub secret: bool,
}

impl Kind {
    /// The word used in the API, the CLI and the logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        }
    }
}

impl Config {
    /// What holds in a process that runs by this config once it has taken in `new`: all but what is set up once.
    #[must_use]
    pub fn taking_in(&self, new: Self) -> Self {
        let Self {
            server,
            admin,
            journal: _,
            refusals: _,
            egress,
            operations: _,
            delivery: _,
            log: _,
            sources,
            endpoints,
            retention,
            routes,
            warnings,
        } = new;
        Self {
            server: Server { rate: server.rate, ..self.server.clone() },
            admin: Admin { hosts: admin.hosts, ..self.admin.clone() },
            journal: self.journal.clone(),
            refusals: self.refusals,
            egress,
            operations: self.operations,
            delivery: self.delivery.clone(),
            log: self.log.clone(),
            sources,
            endpoints,
            retention,
            routes,
            warnings,
        }
    }

    /// What of `new`, the content of `file`, cannot hold beside what stays of this one: it was judged by settings that
    /// only a restart takes in.
    #[must_use]
    pub fn misfits(&self, new: &Self, file: &Path) -> Vec<Problem> {
        let file: Arc<Path> = file.into();
        let problem = |key: String, what: &str| {
            let message =
                format!("{what} that this process has; restart it, for journal.segment_mib is read at a start");
            Problem { file: Arc::clone(&file), line: None, key, message }
        };
        let segment = self.journal.segment_bytes;
        let too_large = |source: &&Source| u64::try_from(source.body_max_bytes).unwrap_or(u64::MAX) > segment / 4;
        let large = new.sources.iter().filter(too_large).map(|source| {
            problem(format!("sources.{}.body_max", source.name), "is more than a quarter of the log segments")
        });
        let keeps = new.retention.sources.iter().map(|(name, keep)| (format!("sources.{name}.retention"), keep));
        let all_keeps = keeps.chain([("retention".to_owned(), &new.retention.default)]);
        let small = all_keeps.filter(|(_, keep)| keep.bytes_max.is_some_and(|bytes| bytes < segment * 2));
        let small =
            small.map(|(table, _)| problem(format!("{table}.bytes_max"), "is less than two of the log segments"));
        large.chain(small).collect()
    }
}

/// What is otherwise in `new`.
#[must_use]
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let (before, after) = (tables(old), tables(new));
    let mut hidden = hidden(old, new);
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut changes = Vec::new();
    for name in names {
        let (kind, keys) = match (before.get(name), after.get(name)) {
            (Some(before), Some(after)) => {
                (Kind::Changed, keys(before, after, hidden.remove(name).unwrap_or_default()))
            }
            (None, _) => (Kind::Added, Vec::new()),
            (_, None) => (Kind::Removed, Vec::new()),
        };
        if kind != Kind::Changed || !keys.is_empty() {
            changes.push(Change { kind, what: name.clone(), keys });
        }
    }
    changes.extend(routes(old, new));
    changes
}

/// Each table of a config as it holds, by its name: those of sources and endpoints each by itself.
fn tables(config: &Config) -> BTreeMap<String, Table> {
    // What the config writes of itself is TOML; a test reads it back.
    let whole: Table = config.effective().parse().unwrap_or_default();
    let mut tables = BTreeMap::new();
    for (name, value) in whole {
        match value {
            Value::Table(named) if ["sources", "endpoints"].contains(&name.as_str()) => {
                let own = named.into_iter().filter_map(|(own, value)| match value {
                    Value::Table(table) => Some((format!("{name}.{own}"), table)),
                    _ => None,
                });
                tables.extend(own);
            }
            Value::Table(table) => {
                tables.insert(name, table);
            }
            // The routes, which have no names.
            _ => {}
        }
    }
    tables
}

/// The keys whose values differ, and of the others those of `hidden`, whose secrets do.
fn keys(before: &Table, after: &Table, hidden: BTreeSet<&'static str>) -> Vec<Key> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differ = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    let mut keys: Vec<Key> = differ.map(|name| Key { name: name.clone(), secret: false }).collect();
    for name in hidden {
        if keys.iter().all(|key| key.name != name) {
            keys.push(Key { name: name.to_owned(), secret: true });
        }
    }
    keys.sort();
    keys
}

/// By table: the keys with something secret that differs.
fn hidden(old: &Config, new: &Config) -> BTreeMap<String, BTreeSet<&'static str>> {
    let sources = new.sources.iter().filter_map(|after| {
        let before = old.sources.iter().find(|before| before.name == after.name)?;
        Some((format!("sources.{}", after.name), of_source(before, after)))
    });
    let endpoints = new.endpoints.iter().filter_map(|after| {
        let before = old.endpoints.iter().find(|before| before.name == after.name)?;
        Some((format!("endpoints.{}", after.name), of_endpoint(before, after)))
    });
    let is_sealed_otherwise = old.journal.keys != new.journal.keys;
    let journal = is_sealed_otherwise.then(|| ("journal".to_owned(), BTreeSet::from(["encryption"])));
    sources.chain(endpoints).chain(journal).collect()
}

fn of_source(before: &Source, after: &Source) -> BTreeSet<&'static str> {
    let Verification { tokens, secrets, handshake, .. } = &before.verification;
    let now = &after.verification;
    let verify_tokens = |handshake: &Option<Handshake>| match handshake {
        Some(Handshake::Meta(tokens)) => tokens.clone(),
        _ => Vec::new(),
    };
    let differ = [
        ("token", *tokens != now.tokens),
        ("secrets", *secrets != now.secrets),
        ("verify_token", verify_tokens(handshake) != verify_tokens(&now.handshake)),
    ];
    differ.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}

fn of_endpoint(before: &Endpoint, after: &Endpoint) -> BTreeSet<&'static str> {
    let Dial { egress: _, proxy, tls } = &*before.dial;
    let differ = [
        ("url", before.url != after.url),
        ("secrets", signed_with(&before.signing) != signed_with(&after.signing)),
        ("headers", before.headers != after.headers),
        ("proxy", *proxy != after.dial.proxy),
        ("tls", *tls != after.dial.tls),
    ];
    differ.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}

fn signed_with(signing: &Signing) -> &[Secret] {
    match signing {
        Signing::Off => &[],
        Signing::Standard(secrets) | Signing::Github(secrets) | Signing::Stripe(secrets) => secrets,
    }
}

/// Routes have no names: one that was changed is one that is gone and one that is new.
fn routes(old: &Config, new: &Config) -> Vec<Change> {
    let (before, after) = (old.routes.routes(), new.routes.routes());
    let change = |kind, route: &Route| {
        let source = route.source.as_ref().map_or("every source", |source| source.as_str());
        let types = if route.types.is_empty() { String::new() } else { format!(" ({})", route.types.join(", ")) };
        let endpoints: Vec<&str> = route.endpoints.iter().map(Name::as_str).collect();
        let name = format!("{source}{types} to {}", endpoints.join(", "));
        Change { kind, what: "routes".to_owned(), keys: vec![Key { name, secret: false }] }
    };
    let removed = before.iter().filter(|route| !after.contains(route)).map(|route| change(Kind::Removed, route));
    let added = after.iter().filter(|route| !before.contains(route)).map(|route| change(Kind::Added, route));
    removed.chain(added).collect()
}

/// What is said of something that is otherwise, by what it is, how it is, and its keys with whether they are secret.
pub fn line<'a>(what: &str, kind: &str, keys: impl Iterator<Item = (&'a str, bool)>) -> String {
    let keys: Vec<String> =
        keys.map(|(name, secret)| format!("{name}{}", if secret { " (secret)" } else { "" })).collect();
    let space = if keys.is_empty() { "" } else { " " };
    format!("{what}: {kind}{space}{}", keys.join(", "))
}

impl fmt::Display for Change {
    /// In a line, like `endpoints.crm: changed timeout, secrets (secret)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.keys.iter().map(|key| (key.name.as_str(), key.secret));
        f.write_str(&line(&self.what, self.kind.as_str(), keys))
    }
}

#[cfg(test)]
mod tests;
