//! Who holds tokens, and what each may do: the file of the named tokens, and the first token beside it.
//!
//! ```text
//! {"version":1,"tokens":[{"name":"ci","role":"read","id":"1f2e3d4c","sha256":"…","created_at":"2026-01-31T12:00:00.000Z",
//!  "expires_at":null,"last_used_at":null}]}
//! ```
//!
//! Hashes, no tokens; readable by its owner only, refused otherwise. Every change puts a whole new file there, synced
//! before anybody hears of it, so a power cut leaves the one or the other. The holder of the token in `admin.token`
//! is called `admin`, may everything, and is not in the file. When a token was last used is remembered by the hour,
//! and by the hour written: a request costs no write. Absent: who asks for what, which is [`super::gate`]'s.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use super::auth::{self, Shape, Token, TokenError, TokenHash};
use crate::core::name::Name;
use crate::core::role::Role;
use crate::core::timestamp::Timestamp;

/// What the holder of the first token is called.
pub const FIRST: &str = "admin";
/// Who changes something in the directory of a stopped gateway, by no token at all.
pub const OFFLINE: &str = "offline";
/// Most named tokens: each is compared with what every request shows.
pub const NAMED_MAX: usize = 200;
/// Longest file, in bytes: far more than [`NAMED_MAX`] tokens take.
const FILE_MAX_BYTES: u64 = 1 << 20;
const VERSION: u32 = 1;
/// How finely it is told when a token was last used, in milliseconds.
const USED_STEP: u64 = 3_600_000;

/// Everybody who holds a token.
#[derive(Debug)]
pub struct Holders {
    path: PathBuf,
    first: Arc<Held>,
    named: RwLock<Arc<Vec<Arc<Held>>>>,
    /// Held while the file is written.
    writing: Mutex<()>,
}

/// One token, as far as it is kept.
#[derive(Debug)]
pub struct Held {
    /// What its holder is called.
    pub name: Name,
    /// What its holder may.
    pub role: Role,
    /// What the token is called by; that of `admin.token` has none if it was not made here.
    pub id: Option<String>,
    /// When it was made; unknown of the first.
    pub created_at: Option<Timestamp>,
    /// From when on it is worth nothing.
    pub expires_at: Option<Timestamp>,
    hash: TokenHash,
    /// The hour of its last use, in milliseconds; 0 is never. And what of that is in the file.
    used: AtomicU64,
    used_written: AtomicU64,
}

/// Why a token is not taken.
#[derive(Debug, Clone)]
pub(super) enum NotKnown {
    /// Nobody holds it.
    Nobody,
    /// It was cut or mistyped.
    Broken,
    /// It was worth something until then.
    Expired(Arc<Held>),
}

/// Why the tokens stay as they are.
#[derive(Debug)]
pub enum NotChanged {
    /// There is one of this name.
    Taken(Name),
    /// There is none of this name.
    Unknown,
    /// It is the first, which a file of its own has.
    First,
    /// There are [`NAMED_MAX`] of them.
    TooMany,
    /// It would be worth nothing from the start.
    Past,
    /// The file cannot be written, or there is no randomness.
    Failed(TokenError),
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    tokens: Vec<StoredToken>,
}

#[derive(Serialize, Deserialize)]
struct StoredToken {
    name: String,
    role: String,
    id: String,
    sha256: String,
    created_at: String,
    expires_at: Option<String>,
    last_used_at: Option<String>,
}

impl Holders {
    /// The holder of `first`, and those in the file at `path`, which need not be there.
    ///
    /// # Errors
    /// If the file is not what it should be: with half of the tokens nobody could rely on what was revoked.
    pub fn open(path: &Path, first: &Token) -> Result<Self, TokenError> {
        let named = match auth::read_private(path, FILE_MAX_BYTES) {
            Ok(text) => {
                let wrong = |why: String| TokenError::Unreadable(path.to_owned(), why);
                read(&text).map_err(wrong)?
            }
            Err(TokenError::Io(_, error)) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let name = Name::new(FIRST).map_err(|_| TokenError::Malformed(path.to_owned()))?;
        let id = first.id().map(str::to_owned);
        let first = Held::new(name, Role::Admin, id, first.hash());
        let named = RwLock::new(Arc::new(named));
        Ok(Self { path: path.to_owned(), first: Arc::new(first), named, writing: Mutex::default() })
    }

    /// Every token, the first one first, then by name.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Held>> {
        let mut all = vec![Arc::clone(&self.first)];
        all.extend(self.named().iter().cloned());
        all
    }

    /// Who holds this.
    pub(super) fn identify(&self, text: &str, now: Timestamp) -> Result<Arc<Held>, NotKnown> {
        self.identify_hash(&TokenHash::of(text), now).map_err(|why| match why {
            NotKnown::Nobody if Shape::of(text) == Shape::Broken => NotKnown::Broken,
            why => why,
        })
    }

    /// Who holds the token that this is of. Compares all there are, whichever it is.
    pub(super) fn identify_hash(&self, hash: &TokenHash, now: Timestamp) -> Result<Arc<Held>, NotKnown> {
        let named = self.named();
        let mut found = None;
        for held in std::iter::once(&self.first).chain(named.iter()) {
            if held.hash.matches(hash) {
                found = Some(held);
            }
        }
        let held = found.ok_or(NotKnown::Nobody)?;
        if held.expires_at.is_some_and(|end| end <= now) {
            return Err(NotKnown::Expired(Arc::clone(held)));
        }
        held.used.fetch_max(now.millis() - now.millis() % USED_STEP, Ordering::Relaxed);
        Ok(Arc::clone(held))
    }

    /// Makes a token. Nobody can ever be told it again. Blocks on the disk.
    ///
    /// # Errors
    /// See [`NotChanged`].
    pub fn create(
        &self,
        name: Name,
        role: Role,
        expires_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(Token, Arc<Held>), NotChanged> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let named = self.named();
        if [FIRST, OFFLINE].contains(&name.as_str()) || named.iter().any(|held| held.name == name) {
            return Err(NotChanged::Taken(name));
        }
        if named.len() >= NAMED_MAX {
            return Err(NotChanged::TooMany);
        }
        if expires_at.is_some_and(|end| end <= now) {
            return Err(NotChanged::Past);
        }
        let token = Token::generate().map_err(NotChanged::Failed)?;
        let held = Held::new(name, role, token.id().map(str::to_owned), token.hash());
        let held = Arc::new(Held { created_at: Some(now), expires_at, ..held });
        let mut all = (*named).clone();
        all.push(Arc::clone(&held));
        all.sort_by(|one, other| one.name.cmp(&other.name));
        self.replace(all)?;
        Ok((token, held))
    }

    /// From now on the token of this name is worth nothing. Blocks on the disk.
    ///
    /// # Errors
    /// See [`NotChanged`].
    pub fn revoke(&self, name: &str) -> Result<Arc<Held>, NotChanged> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if name == FIRST {
            return Err(NotChanged::First);
        }
        let mut all = (*self.named()).clone();
        let at = all.iter().position(|held| held.name.as_str() == name).ok_or(NotChanged::Unknown)?;
        let held = all.remove(at);
        self.replace(all)?;
        Ok(held)
    }

    /// Whether the file does not say yet when a token was last used.
    pub(super) fn is_behind(&self) -> bool {
        self.named().iter().any(|held| held.is_behind())
    }

    /// Writes when tokens were last used. Blocks on the disk.
    ///
    /// # Errors
    /// If the file cannot be written; it says what it said before.
    pub fn note_used(&self) -> io::Result<()> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_behind() { self.write(&self.named()) } else { Ok(()) }
    }

    fn replace(&self, all: Vec<Arc<Held>>) -> Result<(), NotChanged> {
        let failed = |error| NotChanged::Failed(TokenError::Io(self.path.clone(), error));
        self.write(&all).map_err(failed)?;
        *self.named.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(all);
        Ok(())
    }

    fn write(&self, all: &[Arc<Held>]) -> io::Result<()> {
        let (tokens, used): (Vec<StoredToken>, Vec<u64>) = all.iter().map(|held| held.stored()).unzip();
        let bytes = serde_json::to_vec(&Stored { version: VERSION, tokens })?;
        auth::write_private(&self.path, &bytes)?;
        for (held, used) in all.iter().zip(used) {
            held.used_written.store(used, Ordering::Relaxed);
        }
        Ok(())
    }

    fn named(&self) -> Arc<Vec<Arc<Held>>> {
        Arc::clone(&self.named.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Held {
    const fn new(name: Name, role: Role, id: Option<String>, hash: TokenHash) -> Self {
        let (used, used_written) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { name, role, id, created_at: None, expires_at: None, hash, used, used_written }
    }

    /// The hour of its last use, if it was ever used.
    #[must_use]
    pub fn last_used_at(&self) -> Option<Timestamp> {
        Some(Timestamp::from_millis(self.used.load(Ordering::Relaxed))).filter(|used| *used > Timestamp::ZERO)
    }

    /// What is kept of the token.
    pub(super) const fn hash(&self) -> TokenHash {
        self.hash
    }

    fn is_behind(&self) -> bool {
        self.used.load(Ordering::Relaxed) != self.used_written.load(Ordering::Relaxed)
    }

    /// As it stands in the file, and the last use that this says.
    fn stored(&self) -> (StoredToken, u64) {
        let used = self.last_used_at();
        let stored = StoredToken {
            name: self.name.to_string(),
            role: self.role.as_str().to_owned(),
            id: self.id.clone().unwrap_or_default(),
            sha256: self.hash.to_hex(),
            created_at: self.created_at.unwrap_or_default().to_string(),
            expires_at: self.expires_at.map(|end| end.to_string()),
            last_used_at: used.map(|used| used.to_string()),
        };
        (stored, used.unwrap_or_default().millis())
    }
}

/// The tokens in a file's text, by name.
fn read(text: &str) -> Result<Vec<Arc<Held>>, String> {
    let stored: Stored = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if stored.version != VERSION {
        return Err(format!("its version is {}, and this is for version {VERSION}", stored.version));
    }
    let mut all: Vec<Arc<Held>> = Vec::with_capacity(stored.tokens.len());
    for token in stored.tokens {
        let name = token.name.clone();
        let held = restored(token).ok_or_else(|| format!("token `{name}` is not what a token should be"))?;
        if held.name.as_str() == FIRST || all.iter().any(|other| other.name == held.name) {
            return Err(format!("there are two tokens `{name}`"));
        }
        all.push(Arc::new(held));
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(all)
}

fn restored(token: StoredToken) -> Option<Held> {
    let time = |text: Option<String>| text.map(|text| Timestamp::parse_rfc3339(&text).ok_or(())).transpose().ok();
    let used = time(token.last_used_at)?.unwrap_or_default().millis();
    let hash = TokenHash::from_hex(&token.sha256)?;
    let id = Some(token.id).filter(|id| !id.is_empty());
    let held = Held::new(Name::new(&token.name).ok()?, Role::from_name(&token.role)?, id, hash);
    Some(Held {
        created_at: Some(Timestamp::parse_rfc3339(&token.created_at)?),
        expires_at: time(token.expires_at)?,
        used: AtomicU64::new(used),
        used_written: AtomicU64::new(used),
        ..held
    })
}

impl std::fmt::Display for NotChanged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Taken(name) => {
                write!(f, "there is a token `{name}` already; revoke it first, or choose another name")
            }
            Self::Unknown => f.write_str("there is no token of this name"),
            Self::First => f.write_str(
                "this is the token of the admin token file; for a new one remove that file and restart the gateway",
            ),
            Self::TooMany => write!(f, "there are {NAMED_MAX} tokens; revoke one first"),
            Self::Past => f.write_str("the token would have expired already"),
            Self::Failed(error) => write!(f, "{error}"),
        }
    }
}

#[cfg(test)]
mod tests;
