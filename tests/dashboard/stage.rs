//! What the browser looks at: the real program, and a receiver that answers as it is told.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::http;
use crate::place::{Gateway, Place};

/// A gateway with its receiver.
pub(crate) struct Stage {
    pub(crate) gateway: Gateway,
    _place: Place,
    pub(crate) receiver: Receiver,
}

/// Answers every POST with its status and body; a GET is shown its page.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) address: String,
    status: Arc<AtomicU16>,
    body: Arc<Mutex<String>>,
    page: Arc<Mutex<String>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver = Self {
            address: listener.local_addr().unwrap().to_string(),
            status: Arc::new(AtomicU16::new(200)),
            body: Arc::new(Mutex::new("{\"ok\":true}".to_owned())),
            page: Arc::default(),
        };
        let own = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let own = own.clone();
                std::thread::spawn(move || own.serve(stream.unwrap()));
            }
        });
        receiver
    }

    /// From now on it answers so.
    pub(crate) fn answer(&self, status: u16, body: &str) {
        *self.body.lock().unwrap() = body.to_owned();
        self.status.store(status, Ordering::SeqCst);
    }

    pub(crate) fn show(&self, page: &str) {
        *self.page.lock().unwrap() = page.to_owned();
    }

    fn serve(&self, stream: TcpStream) {
        let mut out = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).unwrap_or(0) == 0 {
                    return;
                }
            }
            let length = head.to_lowercase();
            let length = length
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |it| it.parse().unwrap());
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_err() {
                return;
            }
            let (status, kind, text) = if head.starts_with("GET") {
                (200, "text/html", self.page.lock().unwrap().clone())
            } else {
                (self.status.load(Ordering::SeqCst), "application/json", self.body.lock().unwrap().clone())
            };
            let length = text.len();
            let answer = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\nx-from: <b>there</b>\r\ncontent-length: {length}\r\n\r\n{text}"
            );
            if out.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

impl Stage {
    /// A gateway with the endpoints `crm` (which is receiver's) and `down` (where nobody is).
    pub(crate) fn open() -> Self {
        let receiver = Receiver::start();
        let config = format!(
            r#"
            [sources.flyflow]
            preset = "flyflow"
            lifecycle = {{ start = "call_started", end = "call_ended", timeout = "1s" }}
            [sources.shop]
            type = "/topic"
            strict = true
            [endpoints.crm]
            url = "http://{}/hook"
            retry = {{ attempts_max = 2, initial = "1ms", interval_max = "2ms" }}
            breaker = "off"
            [endpoints.down]
            url = "http://127.0.0.1:9/hook"
            retry = {{ initial = "10m" }}
            [[routes]]
            endpoints = ["crm"]
            [[routes]]
            types = ["call_ended"]
            endpoints = ["down"]
            "#,
            receiver.address
        );
        let place = Place::new(&config);
        Self { gateway: place.serve(), _place: place, receiver }
    }

    /// Posts an event of a call; its id.
    pub(crate) fn post(&self, event_type: &str, key: &str, data: &Value) -> String {
        let body =
            json!({ "event_type": event_type, "call_id": key, "timestamp": "2026-01-31T12:00:00Z", "data": data });
        let headers = "content-type: application/json\r\nx-note: <img src=x onerror=window.fired=1>\r\n";
        let answer =
            http::ask(&self.gateway.ingest, "POST", "/in/flyflow", headers, body.to_string().as_bytes()).unwrap();
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Signs in; the overview is shown.
    pub(crate) fn enter(&self, browser: &Browser) {
        browser.visit(&format!("http://{}/", self.gateway.admin));
        browser.until("document.querySelector('input[name=token]')");
        browser.run("document.querySelector('input[name=token]').value = arguments[0]", &[json!(self.gateway.token())]);
        browser.click("button", "Sign in");
        browser.until("document.querySelector('.screen-overview .lane') && document.querySelector('.side .live').dataset.status === 'live'");
    }

    /// Goes to a screen, by its address.
    pub(crate) fn go(&self, browser: &Browser, hash: &str, until: &str) {
        browser.run("location.hash = arguments[0]", &[json!(hash)]);
        browser.until(until);
    }
}
