//! The settings that the admin API goes by: read as one by a request, swapped as one when the config is read again.
//!
//! `GET /api/v1/config` shows all that hold, as the file would have to say it, without what is secret.

use http::StatusCode;
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::hosts::Hosts;
use super::imports::Importer;
use super::problem::{Answer, Problem, json};
use super::refusals::Reader;
use super::{AdminState, GET, only, respond, with};
use crate::core::source::Source;

/// What the config says that the admin API goes by.
pub struct Settings {
    /// Makes events of requests that were refused.
    pub read: Box<Reader>,
    /// Makes events of exported ones.
    pub import: Box<Importer>,
    /// Who may send.
    pub sources: Vec<Source>,
    /// By which names the admin API may be asked.
    pub hosts: Hosts,
    /// All that holds, as TOML without secrets.
    pub effective: String,
}

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    warp::path!("config").and(only(GET)).and(with(state)).then(show).map(respond).boxed()
}

async fn show(state: AdminState) -> Answer {
    let bug = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "this is a bug in backstop: its config is not TOML");
    let config: toml::Table = state.settings.load().effective.parse().map_err(bug)?;
    Ok(json(StatusCode::OK, &config))
}
