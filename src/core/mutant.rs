//! Mutants: deliberate mistakes, each of which the simulation must catch, or it proves nothing.
//!
//! They exist only in builds with the feature `test-mutants`, where a test switches one on for its own
//! thread. In every other build [`is`] is constantly false, and nothing of them is left in the code.

/// A mistake that somebody could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The sender is answered before its event is stored.
    AckBeforeCommit,
    /// An attempt's place is free before its outcome is stored.
    ReleaseBeforeCommit,
    /// A failed attempt's retry is forgotten once it is decided.
    RetryForgotten,
    /// A restart begins behind deliveries that were on their way or set aside.
    MarkPastFlights,
    /// Probes of an open circuit use up attempts.
    ProbeSpendsAttempt,
    /// An open circuit lets everything go.
    OpenCircuitAdmits,
    /// After a restart first-time deliveries do not wait for the retries of their line to be known.
    LineSkippedAfterRestart,
    /// A line forgets who waits while one of it waits to be tried again.
    RetryHoldsNobody,
    /// What the endpoint asked for by Retry-After holds one delivery, not the endpoint.
    SilenceIgnored,
    /// A pause does not survive a restart.
    PauseForgotten,
    /// As many go at a time as may at most, whatever the window says.
    WindowIgnored,
    /// As many go as want to.
    RateIgnored,
    /// After a restart every circuit is closed.
    CircuitForgotten,
    /// Waits do not move along when the wall clock is set.
    ClockJumpIgnored,
    /// A lane whose endpoint goes, or keeps another order, does not wait for what is on its way.
    ReloadForgetsFlights,
    /// An event is let go of by its age, whatever is still to be delivered of it.
    LiveLetGo,
    /// An event's age counts from when it was received, not from when it came to rest.
    RestIgnored,
}

#[cfg(feature = "test-mutants")]
mod switch {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! {
        static ON: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Makes this mistake on this thread from now on, or none.
    pub fn set(mutant: Option<Mutant>) {
        ON.set(mutant);
    }

    /// Whether this mistake is to be made.
    #[must_use]
    pub fn is(mutant: Mutant) -> bool {
        ON.get() == Some(mutant)
    }
}

#[cfg(not(feature = "test-mutants"))]
mod switch {
    use super::Mutant;

    /// Whether this mistake is to be made: never.
    #[must_use]
    pub const fn is(_: Mutant) -> bool {
        false
    }
}

pub use switch::*;
