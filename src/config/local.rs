//! What a command has to know of a gateway on its own machine: where it listens, and where its files are.
//!
//! Only those tables are read. What else the file says is the gateway's: a secret may be a credential or a variable that
//! its service alone has, and an operator who has neither must get in all the same, most of all while the file is wrong.
//! Absent: judging the file, which [`Config::load`](super::Config::load) does.

use std::path::Path;

use super::raw::Table;
use super::{Admin, ConfigErrors, JournalConfig, OperationLimits, Server, read_capped, read_file, read_tables};

/// A gateway on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// Where senders post.
    pub server: Server,
    /// Where operators ask.
    pub admin: Admin,
    /// Where the journal is; its keys only from [`Local::load_with_keys`].
    pub journal: JournalConfig,
    /// How much is kept of what was done.
    pub operations: OperationLimits,
}

impl Local {
    /// Reads these tables of the file at `path`, but for the journal's keys; what is wrong with the rest is no error.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        Self::load_with(path, false)
    }

    /// The same with the journal's keys, which must be readable, for whoever opens the journal itself.
    pub fn load_with_keys(path: &Path) -> Result<Self, ConfigErrors> {
        Self::load_with(path, true)
    }

    fn load_with(path: &Path, wants_keys: bool) -> Result<Self, ConfigErrors> {
        let text = read_file(path)?;
        let env = |name: &str| std::env::var(name).ok();
        let (local, problems, _) = read_tables(&text, path, &env, &read_capped, |root| Self::read(root, wants_keys));
        match local {
            Some(local) if problems.is_empty() => Ok(local),
            _ => Err(ConfigErrors { file: path.to_owned(), problems }),
        }
    }

    fn read(mut root: Table<'_>, wants_keys: bool) -> Self {
        let server = Server::read(root.table("server"));
        let journal = JournalConfig::read(root.table("journal"), wants_keys);
        let admin = Admin::read(root.table("admin"), &server, &journal);
        let operations = OperationLimits::read(root.table("operations"));
        Self { server, admin, journal, operations }
    }
}
