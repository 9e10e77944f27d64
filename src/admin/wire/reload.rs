//! What a reload came to, on the wire.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Word;

/// A config that was taken in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reloaded {
    /// What is otherwise now.
    pub applied: Vec<ConfigChange>,
    /// What the file has otherwise, too, and a process takes in at its start only.
    pub needs_restart: Vec<ConfigChange>,
    /// What is allowed but probably not meant, each with its file, line and key.
    pub warnings: Vec<String>,
}

/// Something of the config that is otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigChange {
    /// `added`, `removed` or `changed`.
    pub kind: Word,
    /// What: a table, like `server` or `endpoints.crm`, or `routes`.
    pub what: String,
    /// Of what has changed, its keys; of a route, where it leads.
    pub keys: Vec<ConfigKey>,
}

/// One key of what has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigKey {
    /// Its name.
    pub name: String,
    /// Whether only what is secret of it has changed.
    pub secret: bool,
}
