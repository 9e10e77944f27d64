//! `backstop send`: posts an event to the gateway, as a sender would.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use http::header::WWW_AUTHENTICATE;
use serde::Serialize;
use serde_json::{Value, json};

use super::client;
use super::exit::Failure;
use super::output::Output;
use super::reach::{Asked, Whence};
use super::text::plain;
use crate::admin::ADMIN_REALM;
use crate::engine::{Clock as _, SystemClock};

/// Post an event: a file, standard input, or a sample
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The body; `-` is standard input
    #[arg(value_name = "FILE", required_unless_present = "sample", conflicts_with = "sample")]
    file: Option<PathBuf>,
    /// A Flyflow event with a fresh call id and the time of now
    #[arg(long, value_enum)]
    sample: Option<Sample>,
    /// The source it is posted to
    #[arg(long, value_name = "NAME", default_value = "flyflow")]
    source: String,
    /// Its content type
    #[arg(long, value_name = "TYPE", default_value = "application/json")]
    content_type: String,
    /// The ingest listener's base URL [default: server.listen of the config]
    #[arg(long, env = "BACKSTOP_INGEST", value_name = "URL")]
    ingest: Option<String>,
    /// The certificate authority of an https listener, in PEM form, besides those of this machine [default: the
    /// certificate of server.tls, where the config says where the listener is]
    #[arg(long, env = "BACKSTOP_CA", value_name = "PATH")]
    ca: Option<PathBuf>,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// The events that Flyflow sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Sample {
    /// A call begins
    CallStarted,
    /// A call ended
    CallEnded,
    /// A tool was called
    ToolCall,
}

/// What the gateway said.
#[derive(Debug, Serialize)]
struct Sent {
    status: u16,
    id: Option<String>,
    answer: String,
}

/// Posts the event and prints what the gateway said.
pub(crate) async fn run(args: &Args, config: &Path) -> Result<(), Failure> {
    let mut ca = args.ca.clone();
    let (base, whence) = match &args.ingest {
        Some(url) => (client::base_url("--ingest", url)?, Whence::given("--ingest", "BACKSTOP_INGEST", url)),
        None => {
            let server = client::local(config)?.server;
            let url = client::url_of(server.listen, server.tls.is_some());
            ca = ca.or(server.tls.map(|tls| tls.certificates));
            (client::base_url("server.listen", &url)?, Whence::setting("server.listen", config))
        }
    };
    let mut url = base.clone();
    if let Ok(mut parts) = url.path_segments_mut() {
        parts.pop_if_empty().extend(["in", &args.source]);
    }
    let body = body(args)?;
    let request = client::http(ca.as_deref())?.post(url).header("content-type", &args.content_type).body(body);
    let asked = Asked { what: "the gateway", base: base.to_string(), whence };
    let unreachable = |error: reqwest::Error| asked.silent(&error);
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let wants = response.headers().get(WWW_AUTHENTICATE).and_then(|wants| wants.to_str().ok());
    if wants.is_some_and(|wants| wants.contains(ADMIN_REALM)) {
        return Err(asked.stranger("the admin API answers, not the ingest listener"));
    }
    let answer = response.bytes().await.map_err(unreachable)?;
    if !status.is_success() {
        return Err(asked.refused(status.as_u16(), &answer));
    }
    let id =
        serde_json::from_slice(&answer).ok().and_then(|answer: Value| Some(answer.get("id")?.as_str()?.to_owned()));
    let sent = Sent { status: status.as_u16(), id, answer: String::from_utf8_lossy(&answer).into_owned() };
    args.output.show(&sent, |sent| format!("{} {}\n", sent.status, plain(sent.id.as_ref().unwrap_or(&sent.answer))))
}

fn body(args: &Args) -> Result<Vec<u8>, Failure> {
    let unreadable = |what: &str, error: std::io::Error| Failure::usage(format!("{what} cannot be read: {error}"));
    match (&args.sample, &args.file) {
        (Some(sample), _) => {
            let now = SystemClock.now();
            let call_id = format!("call-{:x}-{:x}", now.millis(), std::process::id());
            Ok(sample.payload(&call_id, &now.to_string()).to_string().into_bytes())
        }
        (None, Some(path)) if path.as_os_str() != "-" => {
            std::fs::read(path).map_err(|error| unreadable(&path.display().to_string(), error))
        }
        _ => {
            let mut body = Vec::new();
            std::io::stdin().read_to_end(&mut body).map_err(|error| unreadable("standard input", error))?;
            Ok(body)
        }
    }
}

impl Sample {
    /// The event as Flyflow documents it.
    pub(crate) fn payload(self, call_id: &str, timestamp: &str) -> Value {
        let (event_type, data) = match self {
            Self::CallStarted => ("call_started", json!({})),
            Self::CallEnded => ("call_ended", json!({})),
            Self::ToolCall => (
                "tool_call",
                json!({
                    "tool_name": "example_tool",
                    "tool_input": { "param1": "value1", "param2": "value2" },
                    "tool_output": { "result": "tool execution successful" },
                }),
            ),
        };
        json!({ "event_type": event_type, "call_id": call_id, "timestamp": timestamp, "data": data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_what_flyflow_documents() {
        let documented = r#"{"event_type": "tool_call", "call_id": "abc123", "timestamp": "2023-06-08T10:30:00Z",
            "data": {"tool_name": "example_tool", "tool_input": {"param1": "value1", "param2": "value2"},
            "tool_output": {"result": "tool execution successful"}}}"#;
        let documented: Value = serde_json::from_str(documented).unwrap();
        assert_eq!(Sample::ToolCall.payload("abc123", "2023-06-08T10:30:00Z"), documented);
        assert_eq!(Sample::CallEnded.payload("x", "t")["event_type"], "call_ended");
        assert_eq!(Sample::CallStarted.payload("x", "t")["data"], json!({}));
    }
}
