//! The settings of an endpoint's flow: what each shape means, and each mistake by its line and key.

use std::time::Duration;

use backstop::core::breaker::BreakerPolicy;
use backstop::core::endpoint::{Endpoint, Order};
use backstop::core::rate::Rate;
use backstop::core::window::Concurrency;

use crate::{assert_endpoint_problems, parse, problems};

/// The endpoint with `settings` and nothing else but a URL, where one may have as many attempts on their way as can be set.
fn endpoint(settings: &str) -> Endpoint {
    let config = parse(&format!("[delivery]\nin_flight_max = 20000\n[endpoints.x]\nurl = \"http://x\"\n{settings}\n"));
    config.unwrap_or_else(|errors| panic!("{settings}\n{errors}")).endpoints.remove(0)
}

#[test]
fn an_endpoint_without_settings_has_the_cores_defaults() {
    let plain = endpoint("");
    assert!(plain == Endpoint::new(plain.name.clone(), plain.url.clone()));
    assert_eq!(plain.concurrency, Concurrency { min: 1, max: 16 });
    assert_eq!((plain.rate, plain.order, plain.order_hold_max), (None, Order::None, Duration::from_secs(900)));
    let policy = BreakerPolicy {
        failures: 5,
        failure_rate: 0.5,
        samples_min: 20,
        window: Duration::from_secs(60),
        probe_initial: Duration::from_secs(5),
        probe_max: Duration::from_secs(300),
    };
    assert_eq!(plain.breaker, Some(policy));
}

#[test]
fn a_window_is_fixed_by_a_number_and_bounded_by_a_table() {
    for (setting, min, max) in [
        ("1", 1, 1),
        ("10000", 10_000, 10_000),
        ("{}", 1, 16),
        ("{ min = 2 }", 2, 16),
        ("{ min = 20 }", 20, 20),
        ("{ max = 1 }", 1, 1),
        ("{ min = 10000, max = 10000 }", 10_000, 10_000),
    ] {
        let read = endpoint(&format!("concurrency = {setting}")).concurrency;
        assert_eq!(read, Concurrency { min, max }, "{setting}");
    }
    assert_endpoint_problems(&[
        ("concurrency = 0", "concurrency", "must be 1 to 10000"),
        ("concurrency = 10001", "concurrency", "must be 1 to 10000"),
        (
            "concurrency = \"4\"",
            "concurrency",
            "must be a whole number or a table like { min = 1, max = 16 }, not a str",
        ),
        ("concurrency = 1.5", "concurrency", "not a float"),
        ("concurrency = { min = 0 }", "concurrency.min", "must be 1 to 10000"),
        ("concurrency = { max = 0 }", "concurrency.max", "must be 1 to 10000"),
        ("concurrency = { max = 10001 }", "concurrency.max", "must be 1 to 10000"),
        ("concurrency = { min = 5, max = 4 }", "concurrency.min", "more than max"),
        ("concurrency = { mim = 5 }", "concurrency.mim", "did you mean `min`?"),
        ("concurrency_max = 16", "concurrency_max", "did you mean `concurrency`?"),
    ]);
}

#[test]
fn no_window_is_wider_than_what_one_endpoint_may_have() {
    let x = |in_flight_max: usize, setting: &str| {
        parse(&format!("[delivery]\nin_flight_max = {in_flight_max}\n[endpoints.x]\nurl = \"http://x\"\n{setting}\n"))
    };
    for (in_flight_max, setting, min, max) in [
        (1024, "concurrency = 512", 512, 512),
        (1024, "concurrency = { max = 512 }", 1, 512),
        (1, "concurrency = 1", 1, 1),
        // What nobody has asked for gives way.
        (10, "", 1, 5),
        (1, "", 1, 1),
        (10, "concurrency = { min = 3 }", 3, 5),
    ] {
        let read = x(in_flight_max, setting).unwrap().endpoints.remove(0).concurrency;
        assert_eq!(read, Concurrency { min, max }, "{in_flight_max}: {setting}");
    }
    for (in_flight_max, setting, key, most) in [
        (1024, "concurrency = 513", "concurrency", 512),
        (1024, "concurrency = { max = 513 }", "concurrency.max", 512),
        (10, "concurrency = { min = 6 }", "concurrency.min", 5),
        (3, "concurrency = { min = 2, max = 9 }", "concurrency.min", 1),
    ] {
        let told = x(in_flight_max, setting).unwrap_err().to_string();
        let (key, most) = (format!("endpoints.x.{key}"), format!("may have, {most}: half of delivery.in_flight_max"));
        assert!(told.contains(&key) && told.contains(&most), "{told}");
    }
}

#[test]
fn a_rate_bursts_for_a_second_unless_it_says_otherwise() {
    for (setting, count, secs, burst) in [
        ("\"10/s\"", 10, 1, 10),
        ("\"600/min\"", 600, 60, 10),
        ("\"59/min\"", 59, 60, 1),
        ("\"1/h\"", 1, 3600, 1),
        ("\"5000/h\"", 5000, 3600, 1),
        ("\"1000000/s\"", 1_000_000, 1, 1_000_000),
        ("\"60000000/min\"", 60_000_000, 60, 1_000_000),
        ("{ limit = \"600/min\" }", 600, 60, 10),
        ("{ limit = \"600/min\", burst = 1 }", 600, 60, 1),
        ("{ limit = \"1/h\", burst = 1000000 }", 1, 3600, 1_000_000),
    ] {
        let read = endpoint(&format!("rate = {setting}")).rate;
        assert_eq!(read, Some(Rate { count, per: Duration::from_secs(secs), burst }), "{setting}");
    }
    assert_endpoint_problems(&[
        ("rate = \"10\"", "rate", "\"600/min\""),
        ("rate = \"10/day\"", "rate", "\"600/min\""),
        ("rate = \"0/s\"", "rate", "at least 1"),
        ("rate = \"1000001/s\"", "rate", "at most 1000000/s"),
        ("rate = \"60000001/min\"", "rate", "at most 1000000/s"),
        ("rate = \"4294967296/h\"", "rate", "at most 4294967295"),
        ("rate = 10", "rate", "must be a text like \"10/s\" or a table"),
        ("rate = {}", "rate.limit", "is missing"),
        ("rate = { burst = 5 }", "rate.limit", "is missing"),
        ("rate = { limit = 600 }", "rate.limit", "must be a string"),
        ("rate = { limit = \"1000001/s\" }", "rate.limit", "at most 1000000/s"),
        ("rate = { limit = \"1/s\", burst = 0 }", "rate.burst", "must be 1 to 1000000"),
        ("rate = { limit = \"1/s\", burst = 1000001 }", "rate.burst", "must be 1 to 1000000"),
        ("rate = { limit = \"1/s\", bursts = 2 }", "rate.bursts", "did you mean `burst`?"),
        ("rates = \"1/s\"", "rates", "did you mean `rate`?"),
    ]);
}

#[test]
fn a_breaker_is_off_or_a_table() {
    assert_eq!(endpoint("breaker = \"off\"").breaker, None);
    assert_eq!(endpoint("breaker = {}").breaker, Some(BreakerPolicy::default()));
    let short = endpoint("breaker = { probe_max = \"2s\" }").breaker.unwrap();
    assert_eq!((short.probe_initial, short.probe_max), (Duration::from_secs(2), Duration::from_secs(2)));
    let text = "breaker = { failures = 10000, failure_rate = 1, samples_min = 1, window = \"1s\", \
                probe_initial = \"1h\", probe_max = \"1h\" }";
    let policy = BreakerPolicy {
        failures: 10_000,
        failure_rate: 1.0,
        samples_min: 1,
        window: Duration::from_secs(1),
        probe_initial: Duration::from_secs(3600),
        probe_max: Duration::from_secs(3600),
    };
    assert_eq!(endpoint(text).breaker, Some(policy));
    assert_endpoint_problems(&[
        ("breaker = \"on\"", "breaker", "must be \"off\" or a table"),
        (
            "breaker = false",
            "breaker",
            "must be \"off\" or a table like { failures = 5, probe_max = \"5m\" }, not a boo",
        ),
        ("breaker = { failures = 0 }", "breaker.failures", "must be 1 to 10000"),
        ("breaker = { failures = 10001 }", "breaker.failures", "must be 1 to 10000"),
        ("breaker = { failure_rate = 0 }", "breaker.failure_rate", "must be above 0"),
        ("breaker = { failure_rate = -0.0 }", "breaker.failure_rate", "must be above 0"),
        ("breaker = { failure_rate = 1.01 }", "breaker.failure_rate", "must be 0.0 to 1.0"),
        ("breaker = { failure_rate = nan }", "breaker.failure_rate", "must be 0.0 to 1.0"),
        ("breaker = { failure_rate = \"50%\" }", "breaker.failure_rate", "must be a number"),
        ("breaker = { samples_min = 0 }", "breaker.samples_min", "must be 1 to 1000000"),
        ("breaker = { samples_min = 1000001 }", "breaker.samples_min", "must be 1 to 1000000"),
        ("breaker = { window = \"999ms\" }", "breaker.window", "must be at least 1s"),
        ("breaker = { window = \"8785h\" }", "breaker.window", "from 1ms to"),
        ("breaker = { probe_initial = \"0s\" }", "breaker.probe_initial", "from 1ms"),
        ("breaker = { probe_max = \"8785h\" }", "breaker.probe_max", "from 1ms to"),
        ("breaker = { probe_initial = \"6m\" }", "breaker.probe_initial", "longer than probe_max"),
        ("breaker = { failurs = 5 }", "breaker.failurs", "did you mean `failures`?"),
    ]);
}

#[test]
fn an_order_has_a_hold_and_no_order_has_none() {
    let quarter = Duration::from_secs(900);
    for (settings, order, hold_max) in [
        ("order = \"none\"", Order::None, quarter),
        ("order = \"key\"", Order::Key, quarter),
        ("order = \"endpoint\"\nconcurrency = 16", Order::Endpoint, quarter),
        ("order_hold_max = \"1m\"\norder = \"key\"", Order::Key, Duration::from_secs(60)),
        ("order = \"endpoint\"\norder_hold_max = \"8784h\"", Order::Endpoint, Duration::from_secs(8784 * 3600)),
    ] {
        let read = endpoint(settings);
        assert_eq!((read.order, read.order_hold_max), (order, hold_max), "{settings}");
    }
    assert_endpoint_problems(&[
        ("order = \"keys\"", "order", "must be \"none\", \"key\" or \"endpoint\""),
        ("order = true", "order", "must be a string"),
        ("order_hold_max = \"1m\"", "order_hold_max", "order is \"none\""),
        ("order = \"none\"\norder_hold_max = \"15m\"", "order_hold_max", "order is \"none\""),
        ("order = \"key\"\norder_hold_max = \"0s\"", "order_hold_max", "from 1ms"),
        ("order = \"key\"\norder_hold_max = \"8785h\"", "order_hold_max", "from 1ms to"),
        ("order = \"key\"\norder_hold_max = 60", "order_hold_max", "must be a string"),
        ("ordr = \"key\"", "ordr", "did you mean `order`?"),
    ]);
    // A wrong order does not make its hold wrong too.
    let problems = problems("[endpoints.x]\nurl = \"http://x\"\norder = \"keys\"\norder_hold_max = \"1m\"\n");
    assert_eq!(problems.iter().map(|problem| problem.line).collect::<Vec<_>>(), [Some(3)]);
}
