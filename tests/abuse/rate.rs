//! Rates at the door: of a source, and of all.

use std::time::Duration;

use backstop::core::rate::Rate;
use backstop::core::refused::Why;
use backstop::core::source::Source;
use backstop::journal::refused::Wanted;

use crate::{open, plain, statuses};

/// One now, and none for a long time.
const ONCE: Rate = Rate { count: 1, per: Duration::from_secs(3600), burst: 1 };
const POST: &[u8] = b"POST /in/plain HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nab";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_the_rate_is_refused_counted_and_noted_once_in_a_while() {
    let door = open(Source { rate: Some(ONCE), ..plain() }, None).await;
    let told = door.all(&[POST, POST, POST, POST]);
    assert_eq!(statuses(&told), [202, 429, 429, 429], "the connection goes on");
    let told = String::from_utf8(told).unwrap();
    let retry_after: u64 = told.split("retry-after: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
    assert!((3500..=3600).contains(&retry_after), "{retry_after}");
    assert!(told.contains("the rate of this source"), "{told}");
    assert_eq!((door.events().len(), door.intake.counts()["rate"]), (1, 3));
    door.refusals.settle();
    let (source, why, since, until, after) = (None, None, None, None, None);
    let wanted = Wanted { source, why, since, until, after, newest_first: false, limit: 10 };
    let (kept, _) = door.refusals.list(&wanted);
    assert_eq!(kept.len(), 1, "one a second, however many come");
    assert_eq!((kept[0].refused.why, kept[0].whole), (Why::Rate, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_for_another_reason_uses_up_nothing() {
    let door = open(Source { rate: Some(ONCE), ..plain() }, None).await;
    let large = format!("POST /in/plain HTTP/1.1\r\nhost: x\r\ncontent-length: 2000\r\n\r\n{}", "x".repeat(2000));
    assert_eq!(statuses(&door.all(&[large.as_bytes()])), [413]);
    assert_eq!(statuses(&door.all(&[POST, POST])), [202, 429]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_of_all_is_for_all() {
    let door = open(plain(), Some(ONCE)).await;
    let told = door.all(&[POST, POST]);
    assert_eq!(statuses(&told), [202, 429]);
    assert!(String::from_utf8(told).unwrap().contains("the rate of this gateway"));
}
