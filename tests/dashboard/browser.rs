//! A real browser, by WebDriver: headless Chromium, told what to do over plain HTTP.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http;

/// Browsers are large: one at a time.
static ALONE: Mutex<()> = Mutex::new(());
const FLAGS: [&str; 8] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// Keys as WebDriver writes them.
pub(crate) const ENTER: &str = "\u{e007}";
pub(crate) const ESCAPE: &str = "\u{e00c}";

/// A browser with one window. It is closed when this is dropped.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    _profile: TempDir,
    _alone: MutexGuard<'static, ()>,
}

/// Whether there is a browser. Where there must be one, it is an error if there is none.
fn is_there() -> bool {
    let is =
        |name: &str| Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if is("chromedriver") && is("chromium") {
        return true;
    }
    assert!(
        std::env::var("CI").is_err(),
        "chromium and chromedriver must be installed (Debian: chromium, chromium-driver)"
    );
    eprintln!("SKIPPED: no chromium and chromedriver here (Debian: apt install chromium chromium-driver)");
    false
}

impl Browser {
    /// A browser, if there is one on this machine.
    pub(crate) fn open(width: u32, height: u32, scheme: &str) -> Option<Self> {
        if !is_there() {
            return None;
        }
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut driver =
            Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            let port = line.strip_prefix("ChromeDriver was started successfully on port ")?;
            Some(port.trim_end_matches('.').parse().unwrap())
        });
        std::thread::spawn(move || lines.for_each(drop));
        let profile = tempfile::tempdir().unwrap();
        let mut args: Vec<String> = FLAGS.map(str::to_owned).into();
        args.push(format!("--user-data-dir={}", profile.path().display()));
        let wanted = json!({ "browserName": "chrome", "goog:chromeOptions": { "args": args },
            "goog:loggingPrefs": { "browser": "ALL" }, "timeouts": { "script": 60_000 },
            "unhandledPromptBehavior": "ignore" });
        let mut browser =
            Self { driver, port: port.unwrap(), session: String::new(), _profile: profile, _alone: alone };
        let begun = browser.ask("POST", "/session", &json!({ "capabilities": { "alwaysMatch": wanted } }));
        browser.session = format!("/session/{}", begun["sessionId"].as_str().unwrap());
        browser.be(width, height, scheme);
        Some(browser)
    }

    /// Takes this size and colour scheme.
    pub(crate) fn be(&self, width: u32, height: u32, scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.cdp("Emulation.setDeviceMetricsOverride", &size);
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" }] });
        self.cdp("Emulation.setEmulatedMedia", &features);
    }

    pub(crate) fn visit(&self, url: &str) {
        self.tell("POST", "/url", &json!({ "url": url }));
    }

    /// What a script comes to, a promise of it included.
    pub(crate) fn run(&self, script: &str, arguments: &[Value]) -> Value {
        self.tell("POST", "/execute/sync", &json!({ "script": script, "args": arguments }))
    }

    /// Waits until an expression is true; what it comes to. It is looked at before every frame, so nothing is slept.
    #[track_caller]
    pub(crate) fn until(&self, expression: &str) -> Value {
        let script = format!(
            "return new Promise((found, gone) => {{ const end = performance.now() + 50000; const look = () => {{ \
             let is; try {{ is = ({expression}); }} catch {{ is = false; }} \
             if (is) found(is); else if (performance.now() > end) gone(new Error('never')); else requestAnimationFrame(look); \
             }}; look(); }});"
        );
        let answer = self.try_tell("POST", "/execute/sync", &json!({ "script": script, "args": [] }));
        let shown = || self.run("return location.href + '\\n' + document.body.innerText", &[]);
        answer.unwrap_or_else(|error| {
            panic!("`{expression}` never came: {error}\n{}", shown().as_str().unwrap_or_default())
        })
    }

    /// Presses keys where the focus is.
    pub(crate) fn press(&self, keys: &str) {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })])
            .collect();
        let actions = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] });
        self.tell("POST", "/actions", &actions);
    }

    /// Clicks the first element, of those that fit, whose text has this in it.
    #[track_caller]
    pub(crate) fn click(&self, selector: &str, text: &str) {
        self.until(&format!("{}.length", found(selector, text)));
        let element = self.run(
            &format!("const one = {}[0]; one.scrollIntoView({{block: 'center'}}); return one;", found(selector, text)),
            &[],
        );
        let id = element.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned();
        self.tell("POST", &format!("/element/{id}/click"), &json!({}));
    }

    /// The cookies that the browser has of this page.
    pub(crate) fn cookies(&self) -> Value {
        self.tell("GET", "/cookie", &Value::Null)
    }

    /// What the page or the browser complained about since this was last asked.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let all = self.tell("POST", "/se/log", &json!({ "type": "browser" }));
        let bad = |line: &&Value| ["SEVERE", "WARNING"].contains(&line["level"].as_str().unwrap_or_default());
        let lines = all.as_array().unwrap().iter().filter(bad);
        lines.map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Keeps a picture as `target/screenshots/<name>.png`.
    pub(crate) fn picture(&self, name: &str) {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
        std::fs::create_dir_all(&folder).unwrap();
        let taken = self.cdp("Page.captureScreenshot", &json!({ "format": "png" }));
        let bytes = base64::engine::general_purpose::STANDARD.decode(taken["data"].as_str().unwrap()).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), bytes).unwrap();
    }

    fn cdp(&self, command: &str, parameters: &Value) -> Value {
        self.tell("POST", "/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    #[track_caller]
    fn tell(&self, method: &str, path: &str, body: &Value) -> Value {
        self.try_tell(method, path, body).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn try_tell(&self, method: &str, path: &str, body: &Value) -> Result<Value, Value> {
        let answer = self.ask(method, &format!("{}{path}", self.session), body);
        if answer["error"].is_string() { Err(answer) } else { Ok(answer) }
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let headers = "content-type: application/json\r\n";
        let driver = format!("127.0.0.1:{}", self.port);
        http::ask(&driver, method, path, headers, body.as_bytes()).unwrap().json()["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let _closed = self.try_tell("DELETE", "", &Value::Null).is_ok();
        }
        let _ended = self.driver.kill().is_ok() && self.driver.wait().is_ok();
    }
}

/// An expression for the visible elements that fit.
pub(crate) fn found(selector: &str, text: &str) -> String {
    format!(
        "[...document.querySelectorAll({})].filter((one) => one.textContent.includes({}) && one.getClientRects().length && !one.disabled)",
        json!(selector),
        json!(text)
    )
}
