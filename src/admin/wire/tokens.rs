//! Tokens on the wire.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Word, forms};
use crate::core::role::Role;

/// The body of `POST /tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name", "role"]))]
pub struct CreateToken {
    /// What its holder is called from now on.
    #[schemars(regex(pattern = forms::NAME))]
    pub name: String,
    /// `read`, `operate` or `admin`.
    #[schemars(extend("enum" = Role::ALL.map(Role::as_str)))]
    pub role: String,
    /// From when on it is worth nothing: a span from now like `90d`, or a time. `null` is never.
    #[schemars(regex(pattern = forms::SPAN_OR_TIME))]
    pub expires: Option<String>,
}

/// A token, which only the answer to `POST /tokens` has.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Token {
    /// What its holder is called; `admin` is whoever can read the admin token file.
    pub name: String,
    /// What its holder may: `read`, `operate` or `admin`.
    pub role: Word,
    /// The eight digits behind `bst_`: by these a leaked token is found again.
    pub id: Option<String>,
    /// When it was made; unknown of `admin`.
    pub created_at: Option<String>,
    /// From when on it is worth nothing.
    pub expires_at: Option<String>,
    /// The hour of its last use; of `admin` since the gateway began.
    pub last_used_at: Option<String>,
    /// The token itself. It is told once and kept nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// Every token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tokens {
    /// `admin` first, then by name.
    pub items: Vec<Token>,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WhoAmI {
    /// By which token.
    #[serde(flatten)]
    pub token: Token,
    /// From which address.
    pub peer: Option<String>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("name", &self.name).field("role", &self.role).finish_non_exhaustive()
    }
}
