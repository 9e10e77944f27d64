//! Each deliberate mistake is found, or the simulation proves nothing.
//!
//! Built only with the feature `test-mutants`: `cargo test --features test-mutants --test sim mutants`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use backstop::core::mutant::{self, Mutant};

use super::plan::Plan;
use super::world::run;

/// The first seed that shows the mistake, and how it did: a promise broken, or an assertion of the code's own.
fn first_found(mutant: Mutant, seeds: u64, plan: fn(u64) -> Plan) -> Option<(u64, String)> {
    mutant::set(Some(mutant));
    let found = (0..seeds).find_map(|seed| match catch_unwind(AssertUnwindSafe(|| run(plan(seed), false))) {
        Ok(Ok(_)) => None,
        Ok(Err(violation)) => Some((seed, violation)),
        Err(_) => Some((seed, "an assertion failed".to_owned())),
    });
    mutant::set(None);
    found
}

#[test]
fn mutants_do_not_survive() {
    let chaos: fn(u64) -> Plan = Plan::chaos;
    // Words of what may be seen of it first, by `|`.
    let mutants = [
        (Mutant::AckBeforeCommit, chaos, "was acknowledged and is not in the journal"),
        (Mutant::ReleaseBeforeCommit, chaos, "was on its way|attempt "),
        (Mutant::RetryForgotten, chaos, "never ended"),
        (Mutant::MarkPastFlights, chaos, "never ended|passed Some"),
        (Mutant::WindowIgnored, chaos, "its window is"),
        (Mutant::RateIgnored, chaos, "within its rate's span"),
        (Mutant::CircuitForgotten, chaos, "has forgotten its circuit"),
        (Mutant::ProbeSpendsAttempt, Plan::outages, "is dead after"),
        (Mutant::OpenCircuitAdmits, chaos, "a probe or none"),
        (Mutant::LineSkippedAfterRestart, chaos, "passed Some"),
        (Mutant::RetryHoldsNobody, chaos, "passed Some"),
        (Mutant::SilenceIgnored, chaos, "sent into the silence"),
        (Mutant::PauseForgotten, chaos, "which is paused"),
        (Mutant::ReloadForgetsFlights, chaos, "was on its way|attempt |never ended|passed Some|an assertion failed"),
        (Mutant::LiveLetGo, chaos, "is still to be delivered"),
        (Mutant::RestIgnored, chaos, "came to rest at"),
        (Mutant::ClockJumpIgnored, chaos, "ms early|passed Some|never ended"),
    ];
    for (mutant, plan, word) in mutants {
        let (seed, how) = first_found(mutant, 200, plan).unwrap_or_else(|| panic!("nobody noticed {mutant:?}"));
        println!("{mutant:?}: seed {seed}: {how}");
        assert!(word.split('|').any(|word| how.contains(word)), "{mutant:?} was found by chance: {how}");
    }
}
