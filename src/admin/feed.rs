//! The feed: what happens, as it happens (server-sent events), for whoever follows it.
//!
//! The stream begins with `begun`. Each message is one JSON object, which says by `what` what it is: an `event` that was
//! accepted, an `attempt` with what became of its delivery, an `endpoint` that stands otherwise, `missed` with how many
//! were left out because the client did not keep up, `bye` at the end of the gateway, or of the token. Only what is durable
//! is told, and nothing to a token that has been revoked meanwhile. A comment every few seconds shows that the stream is
//! still there.

use futures_util::{Stream, stream};
use tokio::sync::watch;
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::sse::Event;

use super::gate::{Caller, caller};
use super::problem::{Answer, Problem};
use super::select::{self, Pairs};
use super::sse::{COME_AGAIN, QUIET_MAX, streamed};
use super::wire::Happening;
use super::{AdminState, GET, only, query, respond, with};
use crate::core::delivery::Status;
use crate::core::name::Name;
use crate::core::route::type_matches;
use crate::core::timestamp::Timestamp;
use crate::engine::Health;
use crate::engine::feed::{Follower, Happened, Told};

/// What somebody wants to be told. Every part that is set must fit; what has no such part does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Wanted {
    kinds: Vec<Kind>,
    endpoint: Option<Name>,
    source: Option<Name>,
    types: Vec<String>,
    keys: Vec<String>,
    statuses: Vec<Status>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Events,
    Attempts,
    Endpoints,
}

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    warp::path!("feed").and(only(GET)).and(query()).and(caller()).and(with(state)).then(follow).map(respond).boxed()
}

async fn follow(parameters: Pairs, caller: Caller, state: AdminState) -> Answer {
    let wanted = Wanted::read(parameters)?;
    let follower = state.engine.follow();
    let follower =
        follower.ok_or_else(|| Problem::unavailable("too many follow already; lists can be read meanwhile"))?;
    let (health, next) = (state.engine.health(), Next::Begun(state.engine.now()));
    let looks = tokio::time::interval(QUIET_MAX);
    let following = Following { follower, wanted, caller, state, health, looks, next };
    Ok(streamed(told(following)))
}

/// One who follows, and what it is told next.
struct Following {
    follower: Follower,
    wanted: Wanted,
    caller: Caller,
    state: AdminState,
    health: watch::Receiver<Health>,
    /// When it is seen whether the caller may still be told anything.
    looks: tokio::time::Interval,
    next: Next,
}

enum Next {
    Begun(Timestamp),
    Whatever,
    Nothing,
}

fn told(following: Following) -> impl Stream<Item = Event> {
    stream::unfold(following, |mut following| async move {
        let happening = match following.next {
            Next::Nothing => return None,
            Next::Begun(at) => {
                following.next = Next::Whatever;
                Happening::Begun { at: at.to_string() }
            }
            Next::Whatever => following.whatever().await,
        };
        // A happening always serializes: its maps have text keys, and nothing in it can fail.
        let data = serde_json::to_string(&happening).unwrap_or_default();
        let event = Event::default().event(happening.what()).data(data);
        let event = if matches!(happening, Happening::Begun { .. }) { event.retry(COME_AGAIN) } else { event };
        Some((event, following))
    })
}

impl Following {
    async fn whatever(&mut self) -> Happening {
        loop {
            let told = tokio::select! {
                told = self.follower.next() => told,
                _ = self.health.wait_for(|health| *health != Health::Running) => Told::End,
                // Who is told nothing keeps no place for a token that is worth nothing any more.
                _ = self.looks.tick() => {
                    if self.caller.may_still(&self.state) { continue } else { Told::End }
                }
            };
            match told {
                Told::Happened(happened) if !self.wanted.admits(&happened) => {}
                Told::Happened(happened) if self.caller.may_still(&self.state) => return Happening::from(&*happened),
                Told::Missed(count) => return Happening::Missed { count },
                Told::Happened(_) | Told::End => {
                    self.next = Next::Nothing;
                    return Happening::Bye;
                }
            }
        }
    }
}

impl Wanted {
    fn read(parameters: Pairs) -> Result<Self, Problem> {
        let (mut endpoint, mut source) = (None, None);
        let (mut kinds, mut types, mut keys, mut statuses) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (name, value) in parameters {
            match name.as_str() {
                "what" => select::split(&mut kinds, &value)?,
                "endpoint" => select::once(&mut endpoint, &name, value)?,
                "source" => select::once(&mut source, &name, value)?,
                "type" => select::split(&mut types, &value)?,
                "key" => keys.push(value),
                "status" => select::split(&mut statuses, &value)?,
                _ => {
                    let known = "is not known here; known are what, endpoint, source, type, key, status";
                    return Err(Problem::parameter(&name, known));
                }
            }
        }
        Ok(Self {
            kinds: select::several("what", &kinds, kind)?,
            endpoint: select::name("endpoint", endpoint.as_deref())?,
            source: select::name("source", source.as_deref())?,
            types: select::several("type", &types, select::event_type)?,
            keys: select::several("key", &keys, |key| Ok(key.to_owned()))?,
            statuses: select::several("status", &statuses, select::status)?,
        })
    }

    fn admits(&self, happened: &Happened) -> bool {
        match happened {
            Happened::Accepted(head, endpoints) => {
                self.wants(Kind::Events)
                    && self.statuses.is_empty()
                    && self.endpoint.as_ref().is_none_or(|endpoint| endpoints.contains(endpoint))
                    && self.admits_event(Some((&head.source, &head.event_type, head.key.as_ref())))
            }
            Happened::Attempted(attempted) => {
                let event = attempted.about.event.as_ref();
                self.wants(Kind::Attempts)
                    && (self.statuses.is_empty() || self.statuses.contains(&attempted.status()))
                    && self.endpoint.as_ref().is_none_or(|endpoint| *endpoint == attempted.about.endpoint)
                    && self.admits_event(event.map(|(source, of, key)| (source, of, key.as_ref())))
            }
            Happened::Stood { endpoint, .. } => {
                self.wants(Kind::Endpoints)
                    && self.statuses.is_empty()
                    && self.endpoint.as_ref().is_none_or(|wanted| wanted == endpoint)
                    && self.admits_event(None)
            }
        }
    }

    fn wants(&self, kind: Kind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }

    fn admits_event(&self, event: Option<(&Name, &String, Option<&String>)>) -> bool {
        let Some((source, event_type, key)) = event else {
            return self.source.is_none() && self.types.is_empty() && self.keys.is_empty();
        };
        self.source.as_ref().is_none_or(|wanted| wanted == source)
            && (self.types.is_empty() || self.types.iter().any(|pattern| type_matches(pattern, event_type)))
            && (self.keys.is_empty() || key.is_some_and(|key| self.keys.contains(key)))
    }
}

fn kind(text: &str) -> Result<Kind, Problem> {
    match text {
        "events" => Ok(Kind::Events),
        "attempts" => Ok(Kind::Attempts),
        "endpoints" => Ok(Kind::Endpoints),
        _ => Err(Problem::parameter("what", "is one of events, attempts, endpoints")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::attempt::{Failure, FailureClass, Outcome};
    use crate::core::delivery::{Reason, Step};
    use crate::core::event::EventHead;
    use crate::core::id::EventId;
    use crate::core::standing::Standing;
    use crate::engine::feed::Attempted;
    use crate::telemetry::About;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn wanted(pairs: &[(&str, &str)]) -> Wanted {
        Wanted::read(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()).unwrap()
    }

    /// An event of flyflow, an attempt at it for crm that failed, and crm, which stands otherwise.
    fn all() -> [Happened; 3] {
        let head = EventHead {
            id: EventId::from_u128(1),
            received_at: Timestamp::ZERO,
            source: name("flyflow"),
            event_type: "call_ended".to_owned(),
            key: Some("c1".to_owned()),
            occurred_at: None,
            body_bytes: 2,
        };
        let about = About {
            event: Some((head.source.clone(), head.event_type.clone(), head.key.clone())),
            body_bytes: 2,
            ..About::new(head.id.delivery(0), name("crm"))
        };
        let attempted = Attempted {
            about,
            number: 1,
            started_at: Timestamp::ZERO,
            took_ms: 3,
            outcome: Outcome::Retryable,
            came_back: Err(Failure { class: FailureClass::Refused, detail: "nobody listens".to_owned() }),
            probe: false,
            step: Step::Retry { due: Timestamp::from_millis(1000) },
            reason: Reason::RetryAfter,
        };
        let stood = Happened::Stood { at: Timestamp::ZERO, endpoint: name("crm"), standing: Standing::default() };
        [Happened::Accepted(head, vec![name("crm")]), Happened::Attempted(Box::new(attempted)), stood]
    }

    #[test]
    fn who_follows_is_told_what_was_asked_for() {
        let fits = |pairs: &[(&str, &str)]| all().map(|happened| wanted(pairs).admits(&happened));
        assert_eq!(fits(&[]), [true; 3]);
        assert_eq!(fits(&[("what", "events,endpoints")]), [true, false, true]);
        assert_eq!(fits(&[("endpoint", "crm")]), [true; 3]);
        assert_eq!(fits(&[("endpoint", "billing")]), [false; 3]);
        assert_eq!(fits(&[("source", "flyflow")]), [true, true, false]);
        assert_eq!(fits(&[("type", "call_*")]), [true, true, false]);
        assert_eq!(fits(&[("type", "tool_call")]), [false; 3]);
        assert_eq!(fits(&[("key", "c0"), ("key", "c1")]), [true, true, false]);
        assert_eq!(fits(&[("status", "retrying")]), [false, true, false]);
        assert_eq!(fits(&[("status", "failed,delivered")]), [false; 3]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (name, value) in [("what", "all"), ("status", "x"), ("typo", "x"), ("endpoint", "a b"), ("type", "")] {
            let read = Wanted::read(vec![(name.to_owned(), value.to_owned())]);
            assert!(read.is_err(), "{name}={value}");
        }
        assert!(Wanted::read(vec![("key".to_owned(), "x".to_owned()); 65]).is_err(), "too many");
    }

    #[test]
    fn what_is_told_is_read_again_and_says_what_it_is() {
        for happened in all() {
            let happening = Happening::from(&happened);
            let text = serde_json::to_string(&happening).unwrap();
            assert!(text.starts_with(&format!("{{\"what\":\"{}\"", happening.what())), "{text}");
            assert_eq!(serde_json::from_str::<Happening>(&text).unwrap(), happening);
        }
        let later: Happening = serde_json::from_str(r#"{"what":"something_new","x":1}"#).unwrap();
        assert_eq!(later, Happening::Unknown);
    }
}
