//! Replays: planned, tried, begun, listed, watched, paused, stopped, begun again. The work goes on in the engine.

use http::StatusCode;
use sha2::{Digest as _, Sha256};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::gate::{Caller, caller};
use super::problem::{Answer, Problem, json, json_telling};
use super::select::{self, Of};
use super::{AdminState, GET, GET_OR_POST, POST, json_body, only, respond, see_through, wire, with};
use crate::core::event::TYPE_LEN_MAX;
use crate::core::id::ReplayId;
use crate::core::rate::Rate;
use crate::core::replay::{REQUEST_KEY_LEN_MAX, Replay, Request, Terms};
use crate::core::timestamp::parse_span;
use crate::egress;
use crate::engine::{Again, COPIES_MAX, NotDone, ReplayOrder};

/// Copies that a trial sends unless told.
const COPIES_DEFAULT: usize = 20;
/// Most patterns of `max_age`.
const MAX_AGES_MAX: usize = 64;

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    let all = warp::path!("replays").and(only(GET_OR_POST));
    let listed = all.clone().and(warp::get()).and(with(state)).then(list);
    let key = warp::header::optional::<String>("idempotency-key");
    let begun = all.and(warp::post()).and(key).and(json_body::<wire::OpenReplay>());
    let begun = begun.and(caller()).and(with(state)).then(open);
    let shown = warp::path!("replays" / String).and(only(GET)).and(with(state)).then(show);
    let verb = warp::path!("replays" / String / String).and(only(POST));
    let again = warp::path!("replays" / String / "rerun").and(only(POST));
    let again = again.and(key).and(json_body::<wire::ReplayAgain>()).and(caller()).and(with(state)).then(rerun);
    let turned = verb.and(with(state)).then(turn);
    listed.or(begun).unify().or(shown).unify().or(again).unify().or(turned).unify().map(respond).boxed()
}

async fn list(state: AdminState) -> Answer {
    let (replays, counted) = state.engine.read(|journal| Ok((journal.replays()?, journal.counters().replays))).await?;
    let items = replays.iter().map(|replay| wire::Replay::new(replay, counted.get(&replay.id))).collect();
    Ok(json(StatusCode::OK, &wire::Replays { items }))
}

async fn open(
    key: Option<String>,
    asked: Result<wire::OpenReplay, Problem>,
    caller: Caller,
    state: AdminState,
) -> Answer {
    let asked = asked?;
    let order = ReplayOrder { by: Some(caller.held.name.clone()), ..order(&asked, key, &state)? };
    if asked.filter == wire::Selection::default() {
        let detail =
            "say what is meant: an empty filter would be every failed delivery, which is {\"status\": [\"failed\"]}";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    if let Some(url) = asked.to_url {
        return attempt(order, url, asked.copies, state).await;
    }
    if asked.dry_run {
        let rate = order.terms.rate;
        let plan = state.engine.plan_replay(order).await?;
        return Ok(json_telling(
            StatusCode::OK,
            &wire::Plan::new(&plan, rate),
            "a plan: nothing was changed".to_owned(),
        ));
    }
    let engine = state.engine.clone();
    let (replay, is_new) = see_through(async move { engine.open_replay(order).await }).await?;
    shown_begun((replay, is_new), &state).await
}

async fn shown_begun((replay, is_new): (Replay, bool), state: &AdminState) -> Answer {
    if is_new {
        let told = replay.id.to_string();
        return Ok(json_telling(StatusCode::ACCEPTED, &wire::Replay::new(&replay, None), told));
    }
    let told = format!("{}, begun before by the same request", replay.id);
    Ok(json_telling(StatusCode::OK, &find(state, replay.id).await?, told))
}

async fn attempt(order: ReplayOrder, url: String, copies: Option<usize>, state: AdminState) -> Answer {
    if order.filter.unrouted || order.to.is_some() || order.terms != Terms::default() || order.request.is_some() {
        let what = "goes with a filter and `copies` alone: nothing is made, and copies are of deliveries";
        return Err(Problem::parameter("to_url", what));
    }
    let wrong = |error: egress::TargetError| Problem::parameter("to_url", &error.to_string());
    egress::target(&url).map_err(wrong)?;
    let trial = state.engine.try_url(order, &url, copies.unwrap_or(COPIES_DEFAULT), egress::is_same_origin).await?;
    Ok(json_telling(StatusCode::OK, &wire::Trial::from(&trial), "a trial: nothing was changed".to_owned()))
}

fn order(asked: &wire::OpenReplay, key: Option<String>, state: &AdminState) -> Result<ReplayOrder, Problem> {
    let filter = select::filter(Of::Deliveries, &asked.filter, state.engine.now())?;
    let to = select::name("to", asked.to.as_deref())?;
    if asked.copies.is_some_and(|copies| !(1..=COPIES_MAX).contains(&copies)) {
        return Err(Problem::parameter("copies", "is a number from 1 to 100"));
    }
    if asked.copies.is_some() && asked.to_url.is_none() {
        return Err(Problem::parameter("copies", "is for a trial: it goes with `to_url`"));
    }
    let request = key.map(|key| request(key, asked)).transpose()?;
    Ok(ReplayOrder { filter, to, terms: terms(asked)?, request, by: None })
}

fn terms(asked: &wire::OpenReplay) -> Result<Terms, Problem> {
    let rate = asked.rate.as_deref().map(rate).transpose()?;
    let newest_first = match asked.order.as_deref() {
        None | Some("oldest") => false,
        Some("newest") => true,
        Some(_) => return Err(Problem::parameter("order", "is `oldest` or `newest`")),
    };
    if asked.max_age.len() > MAX_AGES_MAX {
        return Err(Problem::parameter("max_age", "names more than 64 types"));
    }
    let max_age = |(pattern, age): (&String, &String)| {
        let start = pattern.strip_suffix('*').unwrap_or(pattern);
        let is_type = !pattern.is_empty() && !start.contains('*') && start.len() <= TYPE_LEN_MAX;
        let age = parse_span(age).filter(|_| is_type);
        let what = "has an event type (`*` only at its end) and a span like 5m or 7d for each";
        Ok((pattern.clone(), age.ok_or_else(|| Problem::parameter("max_age", what))?))
    };
    for (name, count) in [("stop_after_failures", asked.stop_after_failures), ("canary", asked.canary)] {
        if count == Some(0) {
            return Err(Problem::parameter(name, "is at least 1"));
        }
    }
    Ok(Terms {
        rate,
        newest_first,
        max_ages: asked.max_age.iter().map(max_age).collect::<Result<_, Problem>>()?,
        skip_if_delivered_later: asked.skip_if_delivered_later,
        stop_after_failures: asked.stop_after_failures,
        canary: asked.canary,
    })
}

/// A rate with a burst of as many as it gives in a second: makes are committed in slices, not one by one.
fn rate(text: &str) -> Result<Rate, Problem> {
    let (count, per) = Rate::parse(text).map_err(|error| Problem::parameter("rate", &format!("is {error}")))?;
    let burst = u32::try_from(u128::from(count) * 1000 / per.as_millis().max(1)).unwrap_or(u32::MAX).max(1);
    Ok(Rate { count, per, burst })
}

/// What the client calls this request, and a digest of it: one key stands for one request.
fn request(key: String, asked: &impl serde::Serialize) -> Result<Request, Problem> {
    if key.is_empty() || key.len() > REQUEST_KEY_LEN_MAX {
        return Err(Problem::parameter("Idempotency-Key", "has 1 to 255 bytes"));
    }
    let text = serde_json::to_vec(asked).unwrap_or_default();
    let digest = Sha256::digest(text).first_chunk().copied().unwrap_or_default();
    Ok(Request { key, digest })
}

async fn show(id: String, state: AdminState) -> Answer {
    let replay = find(&state, parse(&id)?).await?;
    Ok(json(StatusCode::OK, &replay))
}

async fn turn(id: String, verb: String, state: AdminState) -> Answer {
    let id = parse(&id)?;
    let engine = state.engine.clone();
    let done = async move {
        match verb.as_str() {
            "pause" => engine.pause_replay(id).await,
            "resume" => engine.resume_replay(id).await,
            "cancel" => engine.cancel_replay(id).await,
            _ => Err(NotDone::Missing),
        }
    };
    see_through(done).await?;
    let replay = find(&state, id).await?;
    Ok(json(StatusCode::OK, &replay))
}

async fn rerun(
    id: String,
    key: Option<String>,
    asked: Result<wire::ReplayAgain, Problem>,
    caller: Caller,
    state: AdminState,
) -> Answer {
    let asked = asked?;
    let request = key.map(|key| request(key, &(&id, &asked))).transpose()?;
    let which = match asked.what.as_deref() {
        None | Some("failed") => Again::Failed,
        Some("rest") => Again::Rest,
        Some(_) => return Err(Problem::parameter("what", "is `failed` or `rest`")),
    };
    let id = parse(&id)?;
    let engine = state.engine.clone();
    let by = Some(caller.held.name.clone());
    let begun = see_through(async move { engine.replay_again(id, which, request, by).await }).await?;
    shown_begun(begun, &state).await
}

async fn find(state: &AdminState, id: ReplayId) -> Result<wire::Replay, Problem> {
    let replay = state.engine.replay(id).await?;
    let counted = state.engine.read(|journal| Ok(journal.counters().replays)).await?;
    Ok(wire::Replay::new(&replay, counted.get(&id)))
}

fn parse(id: &str) -> Result<ReplayId, Problem> {
    id.parse().map_err(|error| Problem::missing(&format!("there is no such replay: {error}")))
}
