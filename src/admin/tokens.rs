//! Tokens: made, listed and revoked; and who the one is that asks.

use std::sync::Arc;

use http::StatusCode;
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::gate::{Caller, caller};
use super::holders::{Held, Holders, NotChanged};
use super::problem::{Answer, Problem, json, json_telling};
use super::{AdminState, json_body, respond, select, wire, with};
use crate::core::role::Role;
use crate::core::timestamp::{Timestamp, parse_span};

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    let asked = warp::path!("whoami").and(warp::get()).and(caller()).map(whoami);
    let listed = warp::path!("tokens").and(warp::get()).and(with(state)).map(list);
    let made =
        warp::path!("tokens").and(warp::post()).and(json_body::<wire::CreateToken>()).and(with(state)).then(create);
    let revoked = warp::path!("tokens" / String).and(warp::delete()).and(with(state)).then(revoke);
    asked.or(listed).unify().or(made).unify().or(revoked).unify().map(respond).boxed()
}

fn whoami(caller: Caller) -> Answer {
    let Caller { held, peer } = caller;
    let peer = peer.map(|peer| peer.to_string());
    Ok(json(StatusCode::OK, &wire::WhoAmI { token: wire::Token::of(&held), peer }))
}

fn list(state: AdminState) -> Answer {
    let items = state.holders.list().iter().map(|held| wire::Token::of(held)).collect();
    Ok(json(StatusCode::OK, &wire::Tokens { items }))
}

async fn create(asked: Result<wire::CreateToken, Problem>, state: AdminState) -> Answer {
    let (now, asked) = (state.engine.now(), asked?);
    let name = select::name("name", Some(&asked.name))?.ok_or_else(|| Problem::parameter("name", "is missing"))?;
    let role = role(&asked.role)?;
    let expires_at = asked.expires.as_deref().map(|end| expiry(end, now)).transpose();
    let expires_at = expires_at.map_err(|what| Problem::parameter("expires", what))?;
    let (token, held) = change(&state, move |holders| holders.create(name, role, expires_at, now)).await?;
    let made = wire::Token { token: Some(token.secret().to_owned()), ..wire::Token::of(&held) };
    let told = format!("{} may {}, id {}", made.name, made.role, made.id.as_deref().unwrap_or("unknown"));
    Ok(json_telling(StatusCode::CREATED, &made, told))
}

async fn revoke(name: String, state: AdminState) -> Answer {
    let held = change(&state, move |holders| holders.revoke(&name)).await?;
    let told = format!("id {}", held.id.as_deref().unwrap_or("unknown"));
    Ok(json_telling(StatusCode::OK, &wire::Token::of(&held), told))
}

async fn change<T: Send + 'static>(
    state: &AdminState,
    change: impl FnOnce(&Holders) -> Result<T, NotChanged> + Send + 'static,
) -> Result<T, Problem> {
    let holders = Arc::clone(&state.holders);
    tokio::task::spawn_blocking(move || change(&holders)).await.map_err(Problem::panicked)?.map_err(Problem::from)
}

fn role(text: &str) -> Result<Role, Problem> {
    Role::from_name(text).ok_or_else(|| {
        let words = Role::ALL.map(Role::as_str).join(", ");
        Problem::parameter("role", &format!("is one of {words}"))
    })
}

/// From when on a token is worth nothing: a time, or how long from now; or what is wrong with that.
pub(crate) fn expiry(text: &str, now: Timestamp) -> Result<Timestamp, &'static str> {
    let end = Timestamp::parse_rfc3339(text).or_else(|| parse_span(text).map(|span| now.after(span)));
    end.ok_or("is neither a span like 90d nor a time like 2026-01-31T12:00:00Z")
}

impl From<NotChanged> for Problem {
    fn from(why: NotChanged) -> Self {
        let status = match why {
            NotChanged::Unknown => StatusCode::NOT_FOUND,
            NotChanged::Taken(_) | NotChanged::First | NotChanged::TooMany => StatusCode::CONFLICT,
            NotChanged::Past => StatusCode::UNPROCESSABLE_ENTITY,
            NotChanged::Failed(_) => return Self::unavailable(why.to_string()),
        };
        Self::new(status, why.to_string())
    }
}

impl wire::Token {
    pub(crate) fn of(held: &Held) -> Self {
        Self {
            name: held.name.to_string(),
            role: held.role.as_str().into(),
            id: held.id.clone(),
            created_at: held.created_at.map(|at| at.to_string()),
            expires_at: held.expires_at.map(|at| at.to_string()),
            last_used_at: held.last_used_at().map(|at| at.to_string()),
            token: None,
        }
    }
}
