//! Where the gateway stands: its sources as the config has them, and how full its disk is.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::StatusCode;
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::problem::{Answer, Problem, json};
use super::{AdminState, GET, only, respond, wire, with};
use crate::core::source::{self as read, DedupRule, Source};
use crate::core::verify::Scheme;
use crate::core::verify::handshake::Handshake;
use crate::journal::disk;

/// Most files of the journal's folder that are looked at.
const FILES_MAX: usize = 100_000;

/// What the config says of it.
#[derive(Debug, Clone)]
pub struct Site {
    /// The journal's folder.
    pub journal: PathBuf,
    /// With less than this free no new events are taken.
    pub disk_free_min_bytes: u64,
    /// Where to.
    pub ingest: SocketAddr,
}

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    let sources = warp::path!("sources").and(only(GET)).and(with(state)).then(sources);
    let disk = warp::path!("disk").and(only(GET)).and(with(state)).then(disk);
    sources.or(disk).unify().map(respond).boxed()
}

async fn sources(state: AdminState) -> Answer {
    let held = state.engine.read(|journal| Ok(journal.counters().sources)).await?;
    let shown = |source: &Source| {
        let held = held.get(&source.name).copied().unwrap_or_default();
        let verification = &source.verification;
        wire::Source {
            name: source.name.to_string(),
            verification: scheme(&verification.scheme).into(),
            handshake: verification.handshake.as_ref().map(|handshake| asks(handshake).into()),
            path_token: !verification.tokens.is_empty(),
            public_url: verification.public_url.clone(),
            event_type: places(&source.type_at),
            key: places(&source.key_at),
            time: places(&source.time_at),
            strict: source.strict,
            dedup: dedup(&source.dedup).into(),
            body_max_bytes: source.body_max_bytes,
            held: wire::Held { events: held.events, bytes: held.bytes, live_bytes: held.live_bytes },
        }
    };
    let items = state.settings.load().sources.iter().map(shown).collect();
    Ok(json(StatusCode::OK, &wire::Sources { items, listens_on: state.site.ingest.to_string() }))
}

fn places(places: &[read::Place]) -> Vec<String> {
    places.iter().map(read::Place::to_string).collect()
}

const fn scheme(scheme: &Scheme) -> &'static str {
    match scheme {
        Scheme::Open => "open",
        Scheme::Credential(_) => "credential",
        Scheme::Standard => "standard",
        Scheme::Hmac(_) => "hmac",
        Scheme::Twilio => "twilio",
        Scheme::ClientState => "client_state",
    }
}

const fn asks(handshake: &Handshake) -> &'static str {
    match handshake {
        Handshake::Slack => "slack",
        Handshake::Zoom => "zoom",
        Handshake::Meta(_) => "meta",
        Handshake::Microsoft => "microsoft",
    }
}

const fn dedup(rule: &DedupRule) -> &'static str {
    match rule {
        DedupRule::Off => "off",
        DedupRule::Header(_) => "header",
        DedupRule::Message => "message",
        DedupRule::Fields { .. } => "fields",
    }
}

async fn disk(state: AdminState) -> Answer {
    Ok(json(StatusCode::OK, &room(&state).await?))
}

/// How full the disk is.
pub(super) async fn room(state: &AdminState) -> Result<wire::Disk, Problem> {
    let (site, full) = (Arc::clone(&state.site), state.engine.is_full());
    let room = tokio::task::spawn_blocking(move || {
        let room = disk::room(&site.journal)?;
        Ok::<_, std::io::Error>((room, size_of(&site.journal, &mut { FILES_MAX }), site.disk_free_min_bytes))
    });
    let unreadable = |error: std::io::Error| Problem::unavailable(format!("the disk does not say: {error}"));
    let ((free_bytes, total_bytes), journal_bytes, free_min_bytes) =
        room.await.map_err(Problem::panicked)?.map_err(unreadable)?;
    Ok(wire::Disk { journal_bytes, free_bytes, total_bytes, free_min_bytes, full })
}

/// Bytes that the files in a folder take up. What goes away while it is looked at counts nothing.
fn size_of(folder: &Path, files: &mut usize) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut sum: u64 = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Some(left) = files.checked_sub(1) else { break };
        *files = left;
        let Ok(metadata) = entry.metadata() else { continue };
        let own = if metadata.is_dir() { size_of(&entry.path(), files) } else { metadata.blocks().saturating_mul(512) };
        sum = sum.saturating_add(own);
    }
    sum
}
