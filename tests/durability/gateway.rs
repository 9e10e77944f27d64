//! The real binary as a process, from its start to whichever end.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::http::Client;

/// Which boot of the machine the gateway believes to be in.
pub(crate) enum Boot<'a> {
    /// The one that is.
    Same,
    /// The one whose id is in this file: the kernel's own is hidden behind it, for this process only.
    Other(&'a Path),
}

/// A running gateway. Killed when dropped.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) ingest: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) token: String,
    /// What it has warned of or complained about.
    pub(crate) complaints: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    /// Starts it; returns when it serves, or with what it said if it ended instead.
    pub(crate) fn start(config: &Path, token_file: &Path, boot: &Boot<'_>) -> Result<Self, String> {
        let (mut child, log) = spawn(config, boot);
        let complaints: Arc<Mutex<Vec<String>>> = Arc::default();
        let mut lines = BufReader::new(log).lines().map_while(Result::ok);
        let Some(serving) = lines.by_ref().find(|line| is_serving(line, &complaints)) else {
            let status = child.wait().unwrap();
            return Err(format!("{status}: {}", complaints.lock().unwrap().join("\n")));
        };
        let noted = Arc::clone(&complaints);
        std::thread::spawn(move || lines.for_each(|line| note(&line, &noted)));
        let serving: Value = serde_json::from_str(&serving).unwrap();
        let addr = |name: &str| serving[name].as_str().unwrap().parse().unwrap();
        let token = std::fs::read_to_string(token_file).map_err(|error| format!("no token: {error}"))?;
        Ok(Self { child, ingest: addr("ingest"), admin: addr("admin"), token: token.trim().to_owned(), complaints })
    }

    /// Starts it and kills it after `moment`, wherever in its start that may be.
    pub(crate) fn start_and_kill(config: &Path, boot: &Boot<'_>, moment: std::time::Duration) {
        let (mut child, log) = spawn(config, boot);
        // The moment is the point of it; nothing depends on what has happened by then.
        std::thread::sleep(moment);
        child.kill().unwrap();
        child.wait().unwrap();
        drop(log);
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.child.wait().unwrap()
    }

    /// How it ended by itself.
    pub(crate) fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// `GET` of the admin API: status and body.
    pub(crate) fn get(&self, path: &str) -> (u16, Vec<u8>) {
        let answer = Client::new(self.admin).ask(path, Some(&self.token), b"").unwrap();
        (answer.status(), answer.body)
    }

    /// A `GET` that answers 200 with JSON.
    pub(crate) fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already.
        let _killed = self.child.kill().is_ok();
        let _waited = self.child.wait().is_ok();
    }
}

fn spawn(config: &Path, boot: &Boot<'_>) -> (Child, ChildStderr) {
    let binary = env!("CARGO_BIN_EXE_backstop");
    let mut command = match boot {
        Boot::Same => Command::new(binary),
        Boot::Other(id) => {
            let mut command = Command::new("unshare");
            let script = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
            command.args(["--mount", "--propagation", "slave", "sh", "-c", script]).arg(id).arg(binary);
            command
        }
    };
    command.arg("--config").arg(config).arg("serve").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let log = child.stderr.take().unwrap();
    (child, log)
}

fn is_serving(line: &str, complaints: &Mutex<Vec<String>>) -> bool {
    note(line, complaints);
    let line: Value = serde_json::from_str(line).unwrap_or_default();
    line["message"] == "serving"
}

/// Attempts that failed are the sink's doing and no complaint.
fn note(line: &str, complaints: &Mutex<Vec<String>>) {
    let parsed: Value = serde_json::from_str(line).unwrap_or_default();
    if parsed["level"] != "INFO" && parsed["message"] != "attempt" {
        complaints.lock().unwrap().push(line.to_owned());
    }
}
