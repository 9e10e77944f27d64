//! The bytes of replays: as they are opened, and as they move on.
//!
//! Version 2 of both came with terms, with what is skipped counted by its reason, and with filters by several
//! keys, by ids, by event time and by replay. Version 1 is read as a replay without any of that. Version 3 of a replay
//! as it is opened says who asked for it.

use std::time::Duration;

use super::ReplayAdvanced;
use crate::core::delivery::{Reason, Status};
use crate::core::failure::FailureGroup;
use crate::core::filter::{Filter, Pick};
use crate::core::id::EventId;
use crate::core::rate::Rate;
use crate::core::replay::{Freeze, Hold, Replay, ReplayState, Request, Skipped, Terms, Turn};
use crate::journal::codec::{Reader, Write};

/// The version that is written of a replay as it is opened.
pub(crate) const VERSION: u8 = 3;
/// The version that is written of a replay as it moves on.
pub(super) const ADVANCE_VERSION: u8 = 2;
/// The version that terms came with.
const TERMS_VERSION: u8 = 2;

pub(crate) fn encode_replay(replay: &Replay, out: &mut Vec<u8>) {
    out.replay(replay.id);
    out.time(replay.created_at);
    encode_filter(&replay.filter, out);
    out.option(replay.to.as_ref(), |out, name| out.text(name.as_str()));
    out.event(replay.freeze.before);
    out.time(replay.freeze.at);
    encode_terms(&replay.terms, out);
    out.option(replay.request.as_ref(), |out, request| {
        out.text(&request.key);
        out.raw(&request.digest);
    });
    out.option(replay.cursor, |out, id| out.delivery(id));
    out.number(replay.selected);
    out.number(replay.queued);
    encode_skipped(replay.skipped, out);
    out.byte(replay.state as u8);
    out.option(replay.hold, |out, hold| out.byte(hold as u8));
    out.flag(replay.canary_passed);
    out.number(replay.forgiven);
    out.option(replay.by.as_ref(), |out, by| out.text(by.as_str()));
}

/// Reads a replay as this version of it was written.
pub(crate) fn decode_replay(from: &mut Reader, version: u8) -> Option<Replay> {
    let is_new = version >= TERMS_VERSION;
    let (id, created_at) = (from.replay()?, from.time()?);
    let filter = decode_filter(from, version)?;
    let to = from.option(Reader::name)?;
    let freeze = match is_new {
        true => Freeze { before: from.event()?, at: from.time()? },
        false => Freeze { before: EventId::from_u128(id.as_u128()), at: created_at },
    };
    let terms = if is_new { decode_terms(from)? } else { Terms::default() };
    let request = if is_new { from.option(decode_request)? } else { None };
    let cursor = from.option(Reader::delivery)?;
    let (selected, queued) = (from.number()?, from.number()?);
    let skipped = decode_skipped(from, version)?;
    let state = ReplayState::from_code(from.byte()?)?;
    let hold = if is_new { from.option(|from| Hold::from_code(from.byte()?))? } else { None };
    let (canary_passed, forgiven) = if is_new { (from.flag()?, from.number()?) } else { (false, 0) };
    let by = if version >= VERSION { from.option(Reader::name)? } else { None };
    Some(Replay {
        id,
        created_at,
        filter,
        freeze,
        to,
        terms,
        request,
        by,
        cursor,
        selected,
        queued,
        skipped,
        state,
        hold,
        canary_passed,
        forgiven,
    })
}

fn decode_request(from: &mut Reader) -> Option<Request> {
    Some(Request { key: from.text()?, digest: *from.take(16)?.first_chunk()? })
}

fn encode_terms(terms: &Terms, out: &mut Vec<u8>) {
    out.option(terms.rate, |out, rate| {
        out.number(u64::from(rate.count));
        out.span(rate.per);
        out.number(u64::from(rate.burst));
    });
    out.flag(terms.newest_first);
    out.list(&terms.max_ages, |out, (pattern, age)| {
        out.text(pattern);
        out.span(*age);
    });
    out.flag(terms.skip_if_delivered_later);
    out.option(terms.stop_after_failures, |out, count| out.number(count));
    out.option(terms.canary, |out, count| out.number(count));
}

fn decode_terms(from: &mut Reader) -> Option<Terms> {
    let rate = from.option(|from| {
        let (count, per, burst): (u32, Duration, u32) = (from.small()?, from.span()?, from.small()?);
        let is_one = count > 0 && burst > 0 && per > Duration::ZERO;
        is_one.then_some(Rate { count, per, burst })
    })?;
    Some(Terms {
        rate,
        newest_first: from.flag()?,
        max_ages: from.list(|from| Some((from.text()?, from.span()?)))?,
        skip_if_delivered_later: from.flag()?,
        stop_after_failures: from.option(Reader::number)?,
        canary: from.option(Reader::number)?,
    })
}

fn encode_skipped(skipped: Skipped, out: &mut Vec<u8>) {
    let Skipped { waiting, too_old, delivered_later, body_gone, nowhere } = skipped;
    for count in [waiting, too_old, delivered_later, body_gone, nowhere] {
        out.number(count);
    }
}

fn decode_skipped(from: &mut Reader, version: u8) -> Option<Skipped> {
    let waiting = from.number()?;
    if version < TERMS_VERSION {
        return Some(Skipped { waiting, ..Skipped::default() });
    }
    let (too_old, delivered_later) = (from.number()?, from.number()?);
    Some(Skipped { waiting, too_old, delivered_later, body_gone: from.number()?, nowhere: from.number()? })
}

fn encode_filter(filter: &Filter, out: &mut Vec<u8>) {
    out.option(filter.endpoint.as_ref(), |out, name| out.text(name.as_str()));
    out.option(filter.source.as_ref(), |out, name| out.text(name.as_str()));
    out.list(&filter.types, |out, pattern| out.text(pattern));
    out.list(&filter.keys, |out, key| out.text(key));
    out.list(&filter.statuses, |out, status| out.text(status.as_str()));
    out.option(filter.reason, |out, reason| out.byte(reason as u8));
    out.option(filter.since, |out, time| out.time(time));
    out.option(filter.until, |out, time| out.time(time));
    out.flag(filter.superseded);
    out.flag(filter.unrouted);
    out.list(&filter.picks, |out, pick| match *pick {
        Pick::Event(id) => {
            out.byte(1);
            out.event(id);
        }
        Pick::Delivery(id) => {
            out.byte(2);
            out.delivery(id);
        }
    });
    out.option(filter.occurred_since, |out, time| out.time(time));
    out.option(filter.occurred_until, |out, time| out.time(time));
    out.option(filter.replay, |out, id| out.replay(id));
    out.option(filter.group, |out, group| out.number(group.as_u64()));
}

fn decode_filter(from: &mut Reader, version: u8) -> Option<Filter> {
    let is_new = version >= TERMS_VERSION;
    let old = Filter {
        endpoint: from.option(Reader::name)?,
        source: from.option(Reader::name)?,
        types: from.list(Reader::text)?,
        keys: if is_new { from.list(Reader::text)? } else { from.option(Reader::text)?.into_iter().collect() },
        statuses: from.list(|from| Status::from_name(&from.text()?))?,
        reason: from.option(|from| Reason::from_code(from.byte()?))?,
        since: from.option(Reader::time)?,
        until: from.option(Reader::time)?,
        superseded: from.flag()?,
        unrouted: from.flag()?,
        ..Filter::default()
    };
    if !is_new {
        return Some(old);
    }
    Some(Filter {
        picks: from.list(|from| match from.byte()? {
            1 => from.event().map(Pick::Event),
            2 => from.delivery().map(Pick::Delivery),
            _ => None,
        })?,
        occurred_since: from.option(Reader::time)?,
        occurred_until: from.option(Reader::time)?,
        replay: from.option(Reader::replay)?,
        group: from.option(|from| from.number().map(FailureGroup::from_u64))?,
        ..old
    })
}

pub(super) fn encode_advance(advanced: &ReplayAdvanced, out: &mut Vec<u8>) {
    out.replay(advanced.id);
    out.option(advanced.cursor, |out, id| out.delivery(id));
    out.number(advanced.selected);
    encode_skipped(advanced.skipped, out);
    out.list(&advanced.made, |out, (id, endpoint)| {
        out.delivery(*id);
        out.text(endpoint.as_str());
    });
    out.time(advanced.at);
    out.flag(advanced.finished);
}

pub(super) fn decode_advance(from: &mut Reader, version: u8) -> Option<ReplayAdvanced> {
    Some(ReplayAdvanced {
        id: from.replay()?,
        cursor: from.option(Reader::delivery)?,
        selected: from.number()?,
        skipped: decode_skipped(from, version)?,
        made: from.list(|from| Some((from.delivery()?, from.name()?)))?,
        at: from.time()?,
        finished: from.flag()?,
    })
}

pub(super) fn encode_turn(turn: Turn, out: &mut Vec<u8>) {
    match turn {
        Turn::Pause(hold) => {
            out.byte(1);
            out.byte(hold as u8);
        }
        Turn::Resume { forgiven } => {
            out.byte(2);
            out.number(forgiven);
        }
        Turn::PassCanary => out.byte(3),
    }
}

pub(super) fn decode_turn(from: &mut Reader) -> Option<Turn> {
    Some(match from.byte()? {
        1 => Turn::Pause(Hold::from_code(from.byte()?)?),
        2 => Turn::Resume { forgiven: from.number()? },
        3 => Turn::PassCanary,
        _ => return None,
    })
}
