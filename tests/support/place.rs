//! A place to run backstop in: a temporary folder with a gateway.toml, gateways and verbs run there.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::http::{self, Answer};
use crate::lines::Lines;

/// Never reached: what a test waits for comes, or the test fails.
pub(crate) const LONG: Duration = Duration::from_secs(60);
/// How often a gateway is asked for what it cannot tell by itself.
const POLL: Duration = Duration::from_millis(5);

/// What every config begins with.
const COMMON: &str = r#"
server.listen = "127.0.0.1:0"
admin.listen = "127.0.0.1:0"
journal.segment_mib = 4
journal.ballast_mib = 1
journal.disk_free_min_mib = 1
"#;

/// A folder with a config.
pub(crate) struct Place {
    folder: TempDir,
    environment: Vec<(&'static str, String)>,
}

/// A gateway that runs. It is killed when it is dropped.
pub(crate) struct Gateway {
    child: Child,
    config: PathBuf,
    environment: Vec<(&'static str, String)>,
    token: String,
    pub(crate) log: Lines,
    pub(crate) ingest: String,
    pub(crate) admin: String,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// What it printed; it must have done what it was told.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// The same, printed as JSON.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// Its one sentence; it must have failed with this exit code.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.starts_with("backstop: "), "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "{self:?}");
        self.err
    }
}

impl Place {
    /// A folder with this config, behind what every config has.
    pub(crate) fn new(config: &str) -> Self {
        Self::within(&std::env::temp_dir(), config)
    }

    /// The same, in this folder.
    pub(crate) fn within(folder: &Path, config: &str) -> Self {
        let place = Self { folder: tempfile::tempdir_in(folder).unwrap(), environment: Vec::new() };
        place.configure(config);
        place
    }

    /// From now on everything is run with this variable.
    pub(crate) fn set(&mut self, variable: &'static str, value: impl Into<String>) {
        self.environment.push((variable, value.into()));
    }

    /// Replaces the config.
    pub(crate) fn configure(&self, config: &str) {
        self.write("gateway.toml", &format!("{COMMON}{config}"));
    }

    /// Replaces the config by one that takes no events before this many MiB are free.
    pub(crate) fn configure_free_min(&self, mib: u32, config: &str) {
        let common = COMMON.replace("free_min_mib = 1\n", &format!("free_min_mib = {mib}\n"));
        self.write("gateway.toml", &format!("{common}{config}"));
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a gateway; returns when it serves.
    #[track_caller]
    pub(crate) fn serve(&self) -> Gateway {
        let config = self.path("gateway.toml");
        let mut serve = backstop(&config, ["serve"]);
        serve.envs(self.environment.clone());
        let mut child = serve.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Lines::of(child.stderr.take().unwrap());
        let serving = log.first(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["message"] == "serving").then_some(line)
        });
        let serving = serving.unwrap_or_else(|| panic!("it does not serve: {:#?}", log.so_far()));
        let address = |name: &str| serving[name].as_str().unwrap().to_owned();
        let token = std::fs::read_to_string(self.path("backstop-data/admin.token")).unwrap().trim().to_owned();
        let environment = self.environment.clone();
        Gateway { child, config, environment, token, ingest: address("ingest"), admin: address("admin"), log }
    }

    /// Runs a command that needs no gateway.
    pub(crate) fn run<const N: usize>(&self, arguments: [&str; N]) -> Ran {
        finish(&mut self.command(arguments))
    }

    /// A command that needs no gateway, to be run.
    pub(crate) fn command<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let mut command = backstop(&self.path("gateway.toml"), arguments);
        command.envs(self.environment.clone());
        command
    }
}

impl Gateway {
    /// Posts to the source `flyflow`.
    pub(crate) fn post(&self, body: &str) -> Answer {
        http::ask(&self.ingest, "POST", "/in/flyflow", "content-type: application/json\r\n", body.as_bytes()).unwrap()
    }

    /// Posts what must be accepted; the event's id.
    #[track_caller]
    pub(crate) fn accept(&self, body: &str) -> String {
        let answer = self.post(body);
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Asks the admin API.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let headers = format!("authorization: Bearer {}\r\n", self.token);
        http::ask(&self.admin, method, &format!("/api/v1/{path}"), &headers, body.as_bytes()).unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.ask("GET", path, "").json()
    }

    /// Asks until the answer is as it should become.
    #[track_caller]
    pub(crate) fn until(&self, path: &str, fits: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..LONG.as_millis() / POLL.as_millis() {
            let got = self.get(path);
            if fits(&got) {
                return got;
            }
            std::thread::sleep(POLL);
        }
        panic!("{path} does not become as it should: {}", self.get(path));
    }

    /// Waits until `endpoint` has this many deliveries standing there; how many stand where.
    #[track_caller]
    pub(crate) fn until_count(&self, endpoint: &str, status: &str, count: usize) -> Value {
        self.until("counters", |counters| counters["endpoints"][endpoint][status] == count)
    }

    /// Runs a verb against this gateway.
    pub(crate) fn verb<const N: usize>(&self, arguments: [&str; N]) -> Ran {
        finish(&mut self.command(arguments))
    }

    /// A verb against this gateway, to be run.
    pub(crate) fn command<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let mut command = backstop(&self.config, arguments);
        command.envs(self.environment.clone());
        command.env("BACKSTOP_ADMIN", format!("http://{}", self.admin));
        command.env("BACKSTOP_INGEST", format!("http://{}", self.ingest));
        command
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal: TERM or INT.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits until it has ended by itself: its exit code, and every line of its log.
    #[track_caller]
    pub(crate) fn ended(mut self) -> (Option<i32>, Vec<Value>) {
        let lines = self.log.all();
        let json = |line: &String| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        (self.child.wait().unwrap().code(), lines.iter().map(json).collect())
    }

    /// Stops it in order.
    #[track_caller]
    pub(crate) fn stop(self) -> Vec<Value> {
        self.signal("TERM");
        let (code, log) = self.ended();
        assert_eq!(code, Some(0), "{log:#?}");
        log
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _gone = self.child.kill().and_then(|()| self.child.wait()).is_ok();
    }
}

/// The binary, with nothing said by the environment.
fn backstop<I: IntoIterator<Item: AsRef<OsStr>>>(config: &Path, arguments: I) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstop"));
    for name in
        ["BACKSTOP_CONFIG", "BACKSTOP_ADMIN", "BACKSTOP_INGEST", "BACKSTOP_TOKEN", "BACKSTOP_CA", "NOTIFY_SOCKET"]
    {
        command.env_remove(name);
    }
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OTEL_")) {
        command.env_remove(name);
    }
    command.arg("--config").arg(config).args(arguments).stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn finish(command: &mut Command) -> Ran {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// The lines of a log that tell of attempts.
pub(crate) fn attempts(log: &[Value]) -> Vec<&Value> {
    log.iter().filter(|line| line["message"] == "attempt").collect()
}
