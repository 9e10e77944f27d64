//! The simulation: the real scheduler, dispatcher and committer over the model of a journal, with endpoints,
//! senders, operators, clocks and crashes made of one seed. The same seed is the same run, to the last step.
//!
//! A failing seed is printed; `BACKSTOP_SIM_SEED=<seed> cargo test --test sim chaos -- --nocapture` runs it alone
//! and prints every step; `<first>..<last>` runs as many as wanted.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, its helpers too")]

mod check;
mod far;
#[cfg(feature = "test-mutants")]
mod mutants;
mod plan;
mod post;
mod process;
mod truth;
mod world;

use std::ops::Range;

use plan::Plan;
use world::{Report, run};

/// Runs a plan for each seed, or for those that are asked for; what all of them came to.
fn run_all(seeds: Range<u64>, plan: fn(u64) -> Plan) -> Vec<Report> {
    let asked = std::env::var("BACKSTOP_SIM_SEED").ok();
    let seeds = asked.as_deref().map_or(seeds, |asked| {
        let (from, to) = asked.split_once("..").unwrap_or((asked, asked));
        from.parse().unwrap()..to.parse::<u64>().unwrap() + 1
    });
    let tells = asked.is_some() && seeds.end - seeds.start == 1;
    seeds.map(|seed| run(plan(seed), tells).unwrap_or_else(|violation| panic!("{violation}"))).collect()
}

#[test]
fn every_promise_holds_through_chaos() {
    let reports = run_all(0..200, Plan::chaos);
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    println!(
        "{} seeds: {} events, {} attempts, {} probes, {} out of order, {} dead, {} let go of, {} crashes",
        reports.len(),
        sum(|report| report.events as u64),
        sum(|report| report.attempts),
        sum(|report| report.probes),
        sum(|report| report.out_of_order),
        sum(|report| report.dead as u64),
        sum(|report| report.let_go),
        sum(|report| u64::from(report.crashes)),
    );
    if reports.len() > 1 {
        let all: [fn(&Report) -> u64; 4] =
            [|report| report.probes, |report| report.out_of_order, |report| report.dead as u64, |report| report.let_go];
        assert!(all.into_iter().all(|of| sum(of) > 100), "a simulation in which nothing goes wrong shows nothing");
    }
}

#[test]
fn an_outage_of_days_costs_no_delivery() {
    let reports = run_all(0..40, Plan::outages);
    assert!(reports.iter().all(|report| report.probes > 10));
}

#[test]
fn a_month_goes_by() {
    let reports = run_all(0..1, Plan::month);
    println!("{reports:?}");
    assert!(reports.iter().all(|report| report.events == 4000 && report.crashes > 10 && report.let_go > 1000));
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..10 {
        assert_eq!(run(Plan::chaos(seed), false).unwrap(), run(Plan::chaos(seed), false).unwrap());
    }
}
