//! Which trace contexts are kept.

use super::{open, plain};

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_context_is_kept_if_it_is_one() {
    const PARENT: &str = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
    const STATE: &str = "tracestate: congo=t61rcWkgMzE\r\n";
    let door = open(vec![plain("plain")]).await;
    let kept = |headers: &str| {
        let event = door.event(door.request("POST", "/in/plain", headers, b"{}").id());
        event.draft.headers.iter().map(|header| header.name.clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(kept(&format!("{PARENT}{STATE}{STATE}")), "traceparent tracestate tracestate");
    assert_eq!(kept(&PARENT.replace("traceparent", "TraceParent")), "traceparent");
    assert_eq!(kept(&format!("{PARENT}tracestate: nonsense\r\n")), "traceparent");
    for astray in [
        STATE.to_owned(),
        format!("{PARENT}{PARENT}{STATE}"),
        format!("{}{STATE}", PARENT.replace("00-4", "ff-4")),
        format!("{}{STATE}", PARENT.replace("-01", "")),
        "traceparent: \r\n".to_owned(),
    ] {
        assert_eq!(kept(&astray), "", "{astray}");
    }
}
