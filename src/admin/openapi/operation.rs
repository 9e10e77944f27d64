//! One operation of the description, and the answers that all of them have.

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::core::role::Role;

/// Something that can be asked for.
pub(super) struct Operation {
    pub(super) method: Method,
    /// With names where the table of routes has `{}`.
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    about: Option<&'static str>,
    tag: &'static str,
    parameters: Vec<Value>,
    body: Option<Value>,
    answers: Map<String, Value>,
}

/// Problems that more than one operation has: the status, what it is called here, when.
const REFUSALS: &[(StatusCode, &str, &str)] = &[
    (StatusCode::BAD_REQUEST, "BadRequest", "A parameter or a field is wrong; `parameter` says which."),
    (StatusCode::UNAUTHORIZED, "Unauthorized", "No token was shown, or one that is nobody's or has expired."),
    (
        StatusCode::FORBIDDEN,
        "Forbidden",
        "The token's role may not; `required_role` says which may. Or another page than \
        the gateway's own has had a session's request sent.",
    ),
    (StatusCode::NOT_FOUND, "NotFound", "There is no such thing."),
    (StatusCode::REQUEST_TIMEOUT, "Timeout", "The body took too long to arrive."),
    (StatusCode::CONFLICT, "Conflict", "Not as things stand; `detail` says why."),
    (StatusCode::GONE, "Gone", "It is out of retention, or was lost to damage on disk."),
    (StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", "The body is larger than what is taken here."),
    (StatusCode::MISDIRECTED_REQUEST, "Misdirected", "The `Host` is none of the admin listener's names."),
    (StatusCode::UNPROCESSABLE_ENTITY, "Unprocessable", "It can be read and makes no sense here; `detail` says why."),
    (StatusCode::TOO_MANY_REQUESTS, "TooMany", "Too many tokens that are nobody's came from this address."),
    (HEAD_TOO_LARGE, "HeadTooLarge", "The path, the parameters and the headers together are larger than what is read."),
    (StatusCode::SERVICE_UNAVAILABLE, "Unavailable", "The gateway cannot do it now; ask again after `Retry-After`."),
];

/// Said by the listener, before anything else looks, and without a body.
const HEAD_TOO_LARGE: StatusCode = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;

impl Operation {
    pub(super) fn get(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(Method::GET, path, id, summary)
    }

    pub(super) fn post(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(Method::POST, path, id, summary)
    }

    pub(super) fn delete(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(Method::DELETE, path, id, summary)
    }

    fn new(method: Method, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        let (parameters, answers) = (super::parameters::of_path(path), Map::new());
        Self { method, path, id, summary, about: None, tag: "", parameters, body: None, answers }
    }

    pub(super) fn tagged(self, tag: &'static str) -> Self {
        Self { tag, ..self }
    }

    /// More than the summary says.
    pub(super) fn about(self, about: &'static str) -> Self {
        Self { about: Some(about), ..self }
    }

    pub(super) fn takes(mut self, parameters: impl IntoIterator<Item = Value>) -> Self {
        self.parameters.extend(parameters);
        self
    }

    /// A JSON body; without one, all of it is as by default.
    pub(super) fn body(self, schema: &Value, example: &Value) -> Self {
        self.bytes(false, "application/json", &json!({ "schema": schema, "example": example }))
    }

    /// A JSON body that has to be there.
    pub(super) fn whole_body(self, schema: &Value, example: &Value) -> Self {
        self.bytes(true, "application/json", &json!({ "schema": schema, "example": example }))
    }

    /// A body of another kind.
    pub(super) fn bytes(self, required: bool, media: &str, content: &Value) -> Self {
        let body = json!({ "required": required, "content": { media: content } });
        Self { body: Some(body), ..self }
    }

    /// Answers like this in JSON.
    pub(super) fn says(self, status: u16, what: &str, schema: &Value) -> Self {
        let is_look = self.method == Method::GET;
        let operation = self.sends(status, what, "application/json", &json!({ "schema": schema }));
        if is_look { operation.tells_apart(status) } else { operation }
    }

    /// Answers like this in another form.
    pub(super) fn sends(mut self, status: u16, what: &str, media: &str, content: &Value) -> Self {
        let answer = json!({ "description": what, "content": { media: content } });
        self.answers.insert(status.to_string(), answer);
        self
    }

    /// Answers without a body.
    pub(super) fn nothing(mut self, status: u16, what: &str) -> Self {
        self.answers.insert(status.to_string(), json!({ "description": what }));
        self
    }

    /// The answer has this header.
    pub(super) fn header(mut self, status: u16, name: &str, header: &Value) -> Self {
        if let Some(answer) = self.answers.get_mut(&status.to_string()) {
            put_header(answer, name, header);
        }
        self
    }

    /// The answer has an ETag, and is not sent to who has it.
    pub(super) fn tells_apart(mut self, status: u16) -> Self {
        let etag = json!({ "$ref": "#/components/headers/ETag" });
        self.parameters.push(super::parameters::if_none_match());
        let same = json!({ "description": "Nothing has changed.", "headers": { "ETag": etag } });
        self.answers.insert("304".to_owned(), same);
        self.header(status, "ETag", &etag)
    }

    /// May be refused like this, besides what its kind may be refused for.
    pub(super) fn refuses(mut self, statuses: &[StatusCode]) -> Self {
        for status in statuses {
            self.refuse(*status);
        }
        self
    }

    fn refuse(&mut self, status: StatusCode) {
        if let Some((_, name, _)) = REFUSALS.iter().find(|(other, ..)| *other == status) {
            let answer = json!({ "$ref": format!("#/components/responses/{name}") });
            self.answers.entry(status.as_str()).or_insert(answer);
        }
    }

    /// The path as the table of routes has it.
    pub(super) fn nameless_path(&self) -> String {
        nameless(self.path)
    }

    /// The path, the method, and what the document says of them; `role` is what it takes.
    pub(super) fn written(mut self, role: Option<Role>) -> (String, Method, Value) {
        let is_in = |place: &str| self.parameters.iter().any(|parameter| parameter["in"] == place);
        let (has_query, has_path) = (is_in("query"), is_in("path"));
        if role.is_some() {
            let refusals = [
                StatusCode::UNAUTHORIZED,
                StatusCode::FORBIDDEN,
                StatusCode::MISDIRECTED_REQUEST,
                StatusCode::TOO_MANY_REQUESTS,
                HEAD_TOO_LARGE,
                StatusCode::SERVICE_UNAVAILABLE,
            ];
            refusals.into_iter().for_each(|status| self.refuse(status));
        }
        if has_query || self.body.is_some() {
            self.refuse(StatusCode::BAD_REQUEST);
        }
        if has_path {
            self.refuse(StatusCode::NOT_FOUND);
        }
        if self.method != Method::GET {
            self.refuse(StatusCode::REQUEST_TIMEOUT);
            self.refuse(StatusCode::PAYLOAD_TOO_LARGE);
        }
        let mut written = json!({
            "operationId": self.id,
            "summary": self.summary,
            "tags": [self.tag],
            "responses": self.answers,
        });
        match role {
            Some(role) => put(&mut written, "x-required-role", role.as_str()),
            None => put(&mut written, "security", json!([])),
        }
        if let Some(about) = self.about {
            put(&mut written, "description", about);
        }
        if !self.parameters.is_empty() {
            put(&mut written, "parameters", self.parameters);
        }
        if let Some(body) = self.body {
            put(&mut written, "requestBody", body);
        }
        (self.path.to_owned(), self.method, written)
    }
}

/// Puts a field into an object.
pub(super) fn put(object: &mut Value, name: &str, value: impl Into<Value>) {
    if let Value::Object(fields) = object {
        fields.insert(name.to_owned(), value.into());
    }
}

fn put_header(answer: &mut Value, name: &str, header: &Value) {
    if let Value::Object(fields) = answer {
        put(fields.entry("headers").or_insert_with(|| json!({})), name, header.clone());
    }
}

/// A path with `{}` for each of its names.
pub(super) fn nameless(path: &str) -> String {
    let part = |part| if str::starts_with(part, '{') { "{}" } else { part };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// The headers that answers have.
pub(super) fn headers() -> Value {
    json!({
        "ETag": { "description": "Stands for exactly this answer.", "required": true, "schema": { "type": "string" } },
        "Retry-After": { "description": "In so many seconds it may be better.", "required": true,
            "schema": { "type": "integer", "minimum": 0 } },
        "WWW-Authenticate": { "description": "How to show who asks.", "required": true,
            "schema": { "type": "string" } },
    })
}

/// The problems that operations have.
pub(super) fn refusals() -> Value {
    let mut all = Map::new();
    for (status, name, what) in REFUSALS {
        let example = json!({ "type": "about:blank", "title": status.canonical_reason(), "status": status.as_u16(),
            "detail": what });
        let content = json!({ "schema": { "$ref": "#/components/schemas/Problem" }, "example": example });
        let mut answer = json!({ "description": what });
        if *status != HEAD_TOO_LARGE {
            put(&mut answer, "content", json!({ "application/problem+json": content }));
        }
        let header = match *status {
            StatusCode::UNAUTHORIZED => Some("WWW-Authenticate"),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Some("Retry-After"),
            _ => None,
        };
        if let Some(header) = header {
            let to = json!({ "$ref": format!("#/components/headers/{header}") });
            put_header(&mut answer, header, &to);
        }
        all.insert((*name).to_owned(), answer);
    }
    all.into()
}
