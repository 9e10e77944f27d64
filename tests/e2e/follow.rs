//! What happens, followed from the command line: `tail` shows it, `listen` has copies of it.

use std::net::TcpListener;
use std::process::{Child, Stdio};

use backstop::core::sign::{Secret, Signing};
use backstop::core::timestamp::Timestamp;
use serde_json::Value;

use crate::events::call_ended;
use crate::http;
use crate::lines::Lines;
use crate::place::{Gateway, Place};
use crate::sink::{BROKEN, OK, Post, Sink};

/// A healthy endpoint, and one that nobody listens at.
fn config(sink: &Sink) -> String {
    format!(
        r#"
        [sources.flyflow]
        preset = "flyflow"
        [sources.other]
        [endpoints.crm]
        url = "{}"
        [endpoints.billing]
        url = "http://127.0.0.1:1/"
        breaker = "off"
        retry = {{ initial = "1ms", interval_max = "1ms", attempts_max = 1 }}
        [[routes]]
        source = "flyflow"
        endpoints = ["crm", "billing"]
        "#,
        sink.url()
    )
}

/// A verb that goes on until it is interrupted.
struct Following {
    child: Child,
    out: Lines,
    err: Lines,
}

impl Following {
    fn begin<const N: usize>(gateway: &Gateway, arguments: [&str; N]) -> Self {
        let mut command = gateway.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (Lines::of(child.stdout.take().unwrap()), Lines::of(child.stderr.take().unwrap()));
        Self { child, out, err }
    }

    /// Waits for a word on stderr that has `what` in it; the line.
    #[track_caller]
    fn says(&self, what: &str) -> String {
        let found = self.err.first(|line| line.contains(what).then(|| line.to_owned()));
        found.unwrap_or_else(|| panic!("it does not say {what:?}: {:?}", self.err.so_far()))
    }

    /// Waits for a line of JSON that fits.
    #[track_caller]
    fn prints(&self, fits: impl Fn(&Value) -> bool) -> Value {
        let found = self.out.first(|line| serde_json::from_str(line).ok().filter(&fits));
        found.unwrap_or_else(|| panic!("it does not print it: {:#?}", self.out.so_far()))
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(std::process::Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Interrupts it: all that it printed.
    #[track_caller]
    fn interrupt(mut self) -> Vec<String> {
        self.signal("INT");
        let lines = self.out.all();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{:?}", self.err.so_far());
        lines
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _gone = self.child.kill().and_then(|()| self.child.wait()).is_ok();
    }
}

/// A place whose gateway is found where it was after a restart: on a loopback address that no other test has.
fn steady_place(address: &str, config: &str) -> Place {
    let place = Place::new("");
    let admin = TcpListener::bind((address, 0)).unwrap().local_addr().unwrap();
    let listeners = format!("server.listen = \"127.0.0.1:0\"\nadmin.listen = \"{admin}\"\n");
    let journal = "journal.segment_mib = 4\njournal.ballast_mib = 1\njournal.disk_free_min_mib = 1\n";
    place.write("gateway.toml", &format!("{listeners}{journal}{config}"));
    place
}

#[test]
fn tail_shows_what_happens_and_only_what_was_asked_for() {
    let sink = Sink::answering(OK);
    let place = Place::new(&config(&sink));
    let gateway = place.serve();
    let all = Following::begin(&gateway, ["tail", "--output", "jsonl"]);
    let dead = Following::begin(&gateway, ["tail", "--output", "jsonl", "--what", "attempts", "--status", "dead"]);
    let people = Following::begin(&gateway, ["tail", "--source", "flyflow"]);
    all.prints(|line| line["what"] == "begun");
    dead.prints(|line| line["what"] == "begun");
    people.says("following since");

    let id = gateway.accept(&call_ended(1));
    let event = all.prints(|line| line["what"] == "event");
    assert_eq!(
        (&event["id"], &event["type"], &event["key"]),
        (&Value::from(id), &"call_ended".into(), &"call-1".into())
    );
    assert_eq!(event["endpoints"], serde_json::json!(["crm", "billing"]));
    let taken = all.prints(|line| line["what"] == "attempt" && line["endpoint"] == "crm");
    assert_eq!(
        (&taken["status"], &taken["last_status"], &taken["number"]),
        (&"delivered".into(), &200.into(), &1.into())
    );
    let gone = all.prints(|line| line["what"] == "attempt" && line["endpoint"] == "billing");
    assert_eq!((&gone["status"], &gone["reason"]), (&"dead".into(), &"attempts_exhausted".into()));
    assert_eq!((&gone["failure"]["class"], &gone["event"]), (&"refused".into(), &event["id"]));
    assert_eq!(dead.prints(|line| line["what"] != "begun"), gone, "nothing else is told");
    gateway.verb(["endpoint", "pause", "crm", "--note", "moving"]).ok();
    let paused = all.prints(|line| line["what"] == "endpoint");
    assert_eq!((&paused["endpoint"], &paused["pause"]["note"]), (&"crm".into(), &"moving".into()));

    let has = |word: &str| people.out.first(|line| line.contains(word).then(|| line.to_owned())).unwrap();
    assert!(has("  event  ").contains("flyflow  call_ended  call-1  evt_"), "{:?}", people.out.so_far());
    assert!(has("  crm  delivered  #1 200 in ").ends_with(taken["id"].as_str().unwrap()));
    assert!(has("  billing  dead  #1 refused in ").contains("call_ended  call-1  dlv_"));
    let lines = people.interrupt();
    assert!(!lines.iter().any(|line| line.contains("  endpoint  ")), "an endpoint has no source: {lines:?}");
    assert_eq!(dead.interrupt().len(), 2);
    all.interrupt();

    let none = Following::begin(&gateway, ["tail", "--source", "flyfow", "--endpoint", "crm"]);
    none.says("the gateway has no source flyfow now, so nothing will come; it has flyflow, other, backstop");
    none.says("following since");
    assert_eq!(none.err.so_far().len(), 2, "the endpoint is there");
    none.interrupt();
    let wrong = gateway.verb(["tail", "--status", "nonsense"]).failed(2);
    assert!(wrong.contains("`status` is one of"), "{wrong}");
    assert!(gateway.verb(["tail", "--admin", "http://127.0.0.1:1"]).failed(3).contains("does not answer"));
}

#[test]
fn a_token_that_is_revoked_is_told_nothing_more() {
    let place = Place::new("[sources.flyflow]\npreset = \"flyflow\"\n");
    let gateway = place.serve();
    let token = gateway.verb(["token", "create", "dev", "--role", "read"]).ok();
    let mut command = gateway.command(["tail", "--output", "jsonl"]);
    command.env("BACKSTOP_TOKEN", token.trim());
    let mut tail = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (out, err) = (Lines::of(tail.stdout.take().unwrap()), Lines::of(tail.stderr.take().unwrap()));
    assert!(out.first(|line| line.contains("begun").then_some(())).is_some());
    gateway.accept(&call_ended(1));
    assert!(out.first(|line| line.contains("call-1").then_some(())).is_some());
    gateway.verb(["token", "revoke", "dev"]).ok();
    gateway.accept(&call_ended(2));
    let said = err.all();
    assert!(said.last().unwrap().contains("this token is nobody's"), "{said:?}");
    assert_eq!(tail.wait().unwrap().code(), Some(1));
    assert!(!out.all().iter().any(|line| line.contains("call-2")));
}

#[test]
fn tail_ends_when_nobody_reads_it_any_more() {
    let place = Place::new("[sources.flyflow]\npreset = \"flyflow\"\n");
    let gateway = place.serve();
    let mut tail = gateway.command(["tail"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let err = Lines::of(tail.stderr.take().unwrap());
    assert!(err.first(|line| line.contains("following since").then_some(())).is_some());
    // Nothing happens that it would print: that nobody reads has to be seen without it.
    drop(tail.stdout.take());
    assert_eq!(err.all().len(), 1);
    assert_eq!(tail.wait().unwrap().code(), Some(0));
}

#[test]
fn tail_comes_again_and_says_what_it_did_not_see() {
    let place = steady_place("127.0.77.1", "[sources.flyflow]\npreset = \"flyflow\"\n");
    let gateway = place.serve();
    let tail = Following::begin(&gateway, ["tail", "--output", "jsonl"]);
    tail.prints(|line| line["what"] == "begun");
    gateway.accept(&call_ended(1));
    let seen = tail.prints(|line| line["key"] == "call-1");
    gateway.stop();
    tail.says("the gateway ends the stream; coming again");
    let gateway = place.serve();
    let back = tail.says("back since ");
    let last = seen["received_at"].as_str().unwrap();
    assert!(back.ends_with(&format!("what happened after {last} is not shown, lists have it")), "{back}");
    gateway.accept(&call_ended(2));
    tail.prints(|line| line["key"] == "call-2");
    gateway.kill();
    tail.says("the connection to the gateway is lost; coming again");
    let lines = tail.interrupt();
    assert_eq!(lines.iter().filter(|line| line.contains("\"what\":\"begun\"")).count(), 2, "{lines:?}");
}

/// What a receiver is told, but for where it is and what marks a copy.
fn said(post: &Post) -> (Vec<(String, String)>, String) {
    let is_own = |(name, _): &&(String, String)| name != "host" && name != "backstop-listen";
    (post.headers().iter().filter(is_own).cloned().collect(), post.body.clone())
}

#[test]
fn listen_has_what_an_endpoint_gets_and_leaves_no_trace() {
    let (crm, local) = (Sink::answering(OK), Sink::answering(OK));
    let place = Place::new(&config(&crm));
    let gateway = place.serve();
    let reader = gateway.verb(["token", "create", "dev", "--role", "read"]).ok();
    let operations = gateway.get("operations")["items"].as_array().unwrap().len();
    let before = gateway.accept(&call_ended(0));
    let mut command =
        gateway.command(["listen", &local.url(), "--source", "flyflow", "--unsigned", "--output", "jsonl"]);
    command.env("BACKSTOP_TOKEN", reader.trim());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (out, err) = (Lines::of(child.stdout.take().unwrap()), Lines::of(child.stderr.take().unwrap()));
    let listen = Following { child, out, err };
    assert!(listen.says("copies of events of flyflow go to").ends_with("/webhook, unsigned"));

    let headers = "content-type: text/x-odd\r\nx-trace: a, b\r\nx-trace: c\r\ncookie: secret\r\n";
    let odd = "\0 not JSON,\r\n  and sp\u{e9}cial  ";
    http::ask(&gateway.ingest, "POST", "/in/flyflow", headers, odd.as_bytes()).unwrap();
    http::ask(&gateway.ingest, "POST", "/in/other", "", b"{}").unwrap();
    gateway.accept(&call_ended(1));
    let copies = local.wait_for(2);
    gateway.until_count("crm", "delivered", 3);
    let mut delivered = crm.posts();
    delivered.retain(|post| post.header("backstop-delivery") != Some(&crate::events::delivery(&before, 0)));
    delivered.sort_by_key(|post| post.header("backstop-delivery").unwrap().to_owned());
    assert_eq!(copies.iter().map(said).collect::<Vec<_>>(), delivered.iter().map(said).collect::<Vec<_>>());
    assert_eq!(copies[0].header("backstop-listen"), Some("true"));
    assert!(copies[0].header("cookie").is_none() && copies[0].header("content-type") == Some("text/x-odd"));

    local.answer(BROKEN);
    let id = gateway.accept(&call_ended(2));
    let refused = listen.prints(|line| line["event"] == id.as_str());
    assert_eq!((&refused["last_status"], &refused["outcome"]), (&500.into(), &"retryable".into()));
    gateway.until_count("crm", "delivered", 4);
    gateway.until_count("billing", "dead", 4);
    let counters = gateway.get("counters");
    assert_eq!((&counters["accepted"], &counters["endpoints"]["crm"]["attempts"]), (&5.into(), &4.into()));
    assert_eq!(gateway.get("operations")["items"].as_array().unwrap().len(), operations, "looking is no operation");
    assert!(gateway.verb(["audit"]).ok().contains("nothing differs"));
    assert_eq!(listen.interrupt().len(), 3);
    assert_eq!(local.posts().len(), 3, "what is refused is not sent again, and the other source's is not sent");
}

#[test]
fn listen_signs_with_a_secret_that_it_shows_and_begins_where_it_is_told() {
    let local = Sink::answering(OK);
    let place = Place::new("[sources.flyflow]\npreset = \"flyflow\"\n");
    let gateway = place.serve();
    let ids: Vec<String> = (0..120).map(|number| gateway.accept(&call_ended(number))).collect();
    let listen = Following::begin(&gateway, ["listen", &local.url(), "--since", "1h", "--type", "call_*"]);
    let shown = listen.says("a secret of this run");
    let secret = shown.split(' ').find(|word| word.starts_with("whsec_")).unwrap().trim_end_matches(',');
    let signing = Signing::Standard(vec![Secret::standard(secret).unwrap()]);
    let copies = local.wait_for(120);
    assert_eq!(copies.iter().map(Post::id).collect::<Vec<_>>(), ids, "in order, and each once");
    for post in &copies {
        let time: u64 = post.header("webhook-timestamp").unwrap().parse().unwrap();
        let signed = signing.headers(post.id(), Timestamp::from_millis(time * 1000), post.body.as_bytes());
        for (name, value) in signed {
            assert_eq!(post.header(name), Some(value.as_str()), "{name}");
        }
    }
    assert!(listen.out.first(|line| line.contains("call-119").then(|| line.contains("  200 in "))).unwrap());
    listen.interrupt();
    assert!(gateway.verb(["listen", "nowhere at all"]).err.contains("write a port like 3000"));
}

#[test]
fn listen_leaves_nothing_out_while_the_gateway_is_away() {
    let local = Sink::answering(OK);
    let place = steady_place("127.0.77.2", "[sources.flyflow]\npreset = \"flyflow\"\n");
    let gateway = place.serve();
    let listen = Following::begin(&gateway, ["listen", &local.url()]);
    listen.says("copies of events go to");
    let mut ids = vec![gateway.accept(&call_ended(0))];
    local.wait_for(1);
    gateway.stop();
    listen.says("the gateway ends the stream; coming again, and nothing is left out");
    let gateway = place.serve();
    // Some of it before the command is back.
    ids.extend((1..50).map(|number| gateway.accept(&call_ended(number))));
    local.wait_for(50);
    listen.says("back since");
    gateway.kill();
    listen.says("the connection to the gateway is lost; coming again, and nothing is left out");
    let gateway = place.serve();
    ids.extend((50..100).map(|number| gateway.accept(&call_ended(number))));
    local.wait_for(100);
    listen.interrupt();
    let copied: Vec<String> = local.posts().iter().map(|post| post.id().to_owned()).collect();
    assert_eq!(copied, ids, "in order, and each once");
}
