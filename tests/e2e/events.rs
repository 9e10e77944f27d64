//! What senders post.

/// A call that began, as Flyflow documents its events.
pub(crate) const CALL_STARTED: &str =
    r#"{"event_type": "call_started", "call_id": "abc123", "timestamp": "2023-06-08T10:29:00Z", "data": {}}"#;

/// The event that Flyflow's documentation shows.
pub(crate) const TOOL_CALL: &str = r#"{
"event_type": "tool_call",
"call_id": "abc123",
"timestamp": "2023-06-08T10:30:00Z",
"data": {
"tool_name": "example_tool",
"tool_input": {
"param1": "value1",
"param2": "value2"
},
"tool_output": {
"result": "tool execution successful"
}
}
}"#;

/// A call that ended.
pub(crate) const CALL_ENDED: &str =
    r#"{"event_type": "call_ended", "call_id": "abc123", "timestamp": "2023-06-08T10:31:00Z", "data": {}}"#;

/// A call's whole story.
pub(crate) const CALL: [&str; 3] = [CALL_STARTED, TOOL_CALL, CALL_ENDED];

/// The end of the call `number`.
pub(crate) fn call_ended(number: usize) -> String {
    format!(
        r#"{{"event_type": "call_ended", "call_id": "call-{number}", "timestamp": "2023-06-08T10:31:00Z", "data": {{}}}}"#
    )
}

/// The id of an event's delivery in `slot`.
pub(crate) fn delivery(event: &str, slot: u16) -> String {
    format!("dlv_{}_{slot}", event.strip_prefix("evt_").unwrap())
}
