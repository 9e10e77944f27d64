//! The desk: which sources there are, how often they may send, and where their events go: read as one, swapped as one.
//!
//! A request is taken in by the desk that stood when it came, from who may send to which endpoints get it. What a new
//! desk has like the one before it takes over as it is: a rate that did not change goes on where it stood.

use std::collections::HashMap;
use std::sync::Arc;

use super::ack::Template;
use super::limit::Limit;
use crate::core::name::Name;
use crate::core::rate::Rate;
use crate::core::source::Source;
use crate::engine::Rules;
use crate::telemetry::Intake;
use crate::telemetry::measures::Taken;

/// What requests are taken in by.
pub(super) struct Desk {
    pub(super) sources: HashMap<Name, Arc<Entrance>>,
    /// Of all sources.
    pub(super) limit: Option<Arc<Limit>>,
    /// Where events go.
    pub(super) rules: Arc<Rules>,
}

/// One source's way in.
pub(super) struct Entrance {
    pub(super) source: Source,
    pub(super) ack: Template,
    pub(super) limit: Option<Arc<Limit>>,
    /// What comes of its requests; a source that is back goes on where it stood.
    pub(super) measured: Arc<Taken>,
}

impl Desk {
    /// A desk where there was none.
    pub(super) fn new(sources: Vec<Source>, rate: Option<Rate>, rules: Arc<Rules>, intake: &Intake) -> Self {
        let nothing = Self { sources: HashMap::new(), limit: None, rules: Arc::clone(&rules) };
        nothing.next(sources, rate, rules, intake)
    }

    /// The desk that comes after this one.
    pub(super) fn next(&self, sources: Vec<Source>, rate: Option<Rate>, rules: Arc<Rules>, intake: &Intake) -> Self {
        let entrance = |source: Source| {
            let before = self.sources.get(&source.name);
            let entrance = match before {
                Some(before) if before.source == source => Arc::clone(before),
                _ => {
                    let (ack, limit) = (Template::new(&source.ack), before.and_then(|before| before.limit.as_ref()));
                    let limit = next_limit(limit, source.rate);
                    let measured = intake.taken.of(&source.name);
                    Arc::new(Entrance { source, ack, limit, measured })
                }
            };
            (entrance.source.name.clone(), entrance)
        };
        let sources = sources.into_iter().map(entrance).collect();
        Self { sources, limit: next_limit(self.limit.as_ref(), rate), rules }
    }
}

/// The same limit, if it is one of the same rate.
fn next_limit(before: Option<&Arc<Limit>>, rate: Option<Rate>) -> Option<Arc<Limit>> {
    let rate = rate?;
    let same = before.filter(|limit| limit.rate() == rate);
    Some(same.map_or_else(|| Arc::new(Limit::new(rate)), Arc::clone))
}
