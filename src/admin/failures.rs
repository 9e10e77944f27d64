//! Failures: what is dead or retried, in groups that look alike.
//!
//! The groups are gathered when they are asked for, by one walk over the exceptions; nothing of them is kept.
//! Memory is bounded by [`GROUPS_MAX`]: what belongs to none of the first so many is counted together, and the
//! answer says so.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use http::StatusCode;
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::problem::{Answer, Problem, json};
use super::select::{self, Of, Pairs};
use super::{AdminState, GET, only, query, respond, wire, with};
use crate::core::attempt::Reply;
use crate::core::delivery::{Delivery, Status};
use crate::core::event::EventHead;
use crate::core::failure::{FailureGroup, excerpt};
use crate::core::id::DeliveryId;
use crate::core::timestamp::Timestamp;
use crate::journal::{Journal, JournalError, Query};

/// Most groups that are told apart.
const GROUPS_MAX: usize = 1000;
/// Deliveries looked at in one piece.
const PAGE: usize = 1000;
/// How much of a sample's body is shown, in characters.
const TEXT_MAX: usize = 200;

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    let listed = warp::path!("failures").and(only(GET)).and(query()).and(with(state)).then(list);
    listed.map(respond).boxed()
}

async fn list(parameters: Pairs, state: AdminState) -> Answer {
    if let Some((name, _)) = parameters.iter().find(|(name, _)| name == "order" || name == "cursor") {
        return Err(Problem::parameter(name, "is not known here: groups come on one page, the largest first"));
    }
    let query = select::listing::<DeliveryId>(Of::Failing, parameters, state.engine.now())?;
    let failures = state.engine.read(move |journal| gather(journal, query)).await?;
    Ok(json(StatusCode::OK, &failures))
}

/// A group so far.
struct Group {
    delivery: Delivery,
    head: EventHead,
    count: u64,
    dead: u64,
    first_at: Timestamp,
    last_at: Timestamp,
}

/// What has failed and fits, in at most `query.limit` groups.
fn gather(journal: &dyn Journal, query: Query<DeliveryId>) -> Result<wire::Failures, JournalError> {
    let (mut groups, mut deliveries) = (BTreeMap::<FailureGroup, Group>::new(), 0);
    let limit = query.limit;
    // The newest first: where there are too many groups, those of now are told apart.
    let mut query = Query { newest_first: true, limit: PAGE, ..query };
    loop {
        let page = journal.deliveries(&query)?;
        for (head, delivery) in page.items {
            let Some(id) = delivery.group else { continue };
            deliveries += 1;
            let full = groups.len() == GROUPS_MAX;
            match groups.entry(id) {
                Entry::Occupied(group) => group.into_mut().add(&delivery),
                Entry::Vacant(place) if !full => {
                    place.insert(Group::new(head, delivery));
                }
                Entry::Vacant(_) => {}
            }
        }
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    let count = groups.len();
    let mut largest: Vec<(FailureGroup, Group)> = groups.into_iter().collect();
    largest.sort_by_key(|(id, group)| (std::cmp::Reverse(group.count), *id));
    largest.truncate(limit);
    let items = largest.into_iter().map(|(id, group)| group.shown(id, journal));
    let items = items.collect::<Result<Vec<_>, _>>()?;
    let other = deliveries - items.iter().map(|group| group.count).sum::<u64>();
    Ok(wire::Failures { items, deliveries, groups: count, other })
}

impl Group {
    fn new(head: EventHead, delivery: Delivery) -> Self {
        let (dead, at) = (u64::from(is_dead(&delivery)), delivery.changed_at);
        Self { head, delivery, count: 1, dead, first_at: at, last_at: at }
    }

    fn add(&mut self, delivery: &Delivery) {
        self.count += 1;
        self.dead += u64::from(is_dead(delivery));
        self.first_at = self.first_at.min(delivery.changed_at);
        self.last_at = self.last_at.max(delivery.changed_at);
    }

    fn shown(self, id: FailureGroup, journal: &dyn Journal) -> Result<wire::FailureGroup, JournalError> {
        let Self { delivery, head, count, dead, first_at, last_at } = self;
        let attempts = journal.attempts(delivery.id)?;
        let text = attempts.last().map_or_else(String::new, |attempt| match &attempt.reply {
            Reply::Answer(answer) => excerpt(&answer.body, TEXT_MAX),
            Reply::Failure(failure) => excerpt(failure.detail.as_bytes(), TEXT_MAX),
        });
        Ok(wire::FailureGroup {
            id: id.to_string(),
            endpoint: delivery.endpoint.to_string(),
            class: delivery.last_failure.map_or("status", |class| class.as_str()).into(),
            status: delivery.last_status,
            count,
            dead,
            first_at: first_at.to_string(),
            last_at: last_at.to_string(),
            sample: wire::FailureSample {
                delivery: delivery.id.to_string(),
                event: head.id.to_string(),
                event_type: head.event_type,
                key: head.key,
                text,
            },
        })
    }
}

fn is_dead(delivery: &Delivery) -> bool {
    delivery.status() == Status::Dead
}
