//! The config file as TOML: tables and values that know their line and key, and take note of what is wrong.
//!
//! A derived serde type would stop at the first error; these readers note every problem, give back a
//! placeholder and go on, and the caller throws all of it away if anything was noted. A key that no
//! reader asked for is unknown, and refused by [`Table::done`]. Absent: what any key means.

use std::cell::RefCell;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{Problem, near};
use super::scalar;

/// Looks an environment variable up.
pub type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;
/// Reads a file that holds a secret.
pub type ReadFile<'a> = dyn Fn(&Path) -> io::Result<String> + 'a;

/// What marks a text as the name of a file that holds the value.
const FILE_PREFIX: &str = "file:";
/// What marks a text as the name of a systemd credential that holds the value.
const CREDENTIAL_PREFIX: &str = "credential:";
/// Where systemd puts a service's credentials.
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// A file being read: where it is, what surrounds it, and what was found wrong so far.
pub(super) struct Input<'a> {
    file: Arc<Path>,
    /// Byte offsets of the line ends, ascending.
    line_ends: Vec<usize>,
    env: &'a Env<'a>,
    read_file: &'a ReadFile<'a>,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

/// A key and where it stands.
#[derive(Clone)]
pub(super) struct Place<'a> {
    input: &'a Input<'a>,
    pub(super) key: String,
    /// Byte offset of the value, or of the key where the value is a table.
    pub(super) offset: Option<usize>,
}

/// A table, present or not, and the keys asked of it.
pub(super) struct Table<'a> {
    pub(super) place: Place<'a>,
    entries: Option<&'a DeTable<'a>>,
    known: Vec<&'static str>,
}

/// One value.
pub(super) struct Value<'a> {
    pub(super) place: Place<'a>,
    value: &'a DeValue<'a>,
}

impl<'a> Input<'a> {
    pub(super) fn new(file: &Path, text: &str, env: &'a Env<'a>, read_file: &'a ReadFile<'a>) -> Self {
        let line_ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect();
        let (problems, warnings) = (RefCell::default(), RefCell::default());
        Self { file: file.into(), line_ends, env, read_file, problems, warnings }
    }

    /// The whole file as a table.
    pub(super) fn root(&'a self, entries: &'a DeTable<'a>) -> Table<'a> {
        let place = Place { input: self, key: String::new(), offset: None };
        Table { place, entries: Some(entries), known: Vec::new() }
    }

    /// The folder that relative paths start from: the file's own.
    pub(super) fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    /// Notes an error of the TOML itself. Its message names no value; its `Display` would.
    pub(super) fn refuse_syntax(&self, text: &str, error: &toml::de::Error) {
        let span = error.span();
        let duplicate = error.message() == "duplicate key";
        let key = span.clone().and_then(|span| text.get(span)).filter(|_| duplicate).unwrap_or_default();
        let place = Place { input: self, key: key.to_owned(), offset: span.map(|span| span.start) };
        if duplicate {
            place.refuse("stands here a second time; keep one of the two");
        } else {
            place.refuse(format!("not TOML: {}", error.message()));
        }
    }

    /// What was found wrong, and what is probably not meant, each in the file's order.
    pub(super) fn into_found(self) -> (Vec<Problem>, Vec<Problem>) {
        let sorted = |mut found: Vec<Problem>| {
            found.sort_by_key(|problem| problem.line);
            found
        };
        (sorted(self.problems.into_inner()), sorted(self.warnings.into_inner()))
    }

    /// Resolves `${NAME}` from the environment; `$${` stands for a plain `${`.
    fn expand(&self, text: &str, place: &Place<'_>) -> Option<String> {
        let mut whole = true;
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(plain) = before.strip_suffix('$') {
                out.push_str(plain);
                out.push_str("${");
                rest = after;
                continue;
            }
            out.push_str(before);
            let Some((name, tail)) = after.split_once('}').filter(|(name, _)| scalar::is_variable(name)) else {
                place.refuse("`${` begins `${VARIABLE}`, which this is not; write `$${` for a plain `${`");
                return None;
            };
            match (self.env)(name) {
                Some(value) => out.push_str(&value),
                None => {
                    place.refuse(format!("the environment variable {name} is not set"));
                    whole = false;
                }
            }
            rest = tail;
        }
        out.push_str(rest);
        whole.then_some(out)
    }
}

impl<'a> Place<'a> {
    /// Notes that what stands here is wrong.
    pub(super) fn refuse(&self, message: impl Into<String>) {
        let problem = self.problem(message);
        self.input.problems.borrow_mut().push(problem);
    }

    /// Notes that what stands here is allowed but probably not meant.
    pub(super) fn warn(&self, message: impl Into<String>) {
        let problem = self.problem(message);
        self.input.warnings.borrow_mut().push(problem);
    }

    /// What is to be said of this place.
    pub(super) fn problem(&self, message: impl Into<String>) -> Problem {
        let line = self.offset.map(|offset| self.input.line_ends.partition_point(|end| *end < offset) + 1);
        Problem { file: Arc::clone(&self.input.file), line, key: self.key.clone(), message: message.into() }
    }

    /// The folder that relative paths start from.
    pub(super) fn folder(&self) -> &'a Path {
        self.input.folder()
    }

    fn child(&self, name: &str, offset: usize) -> Self {
        let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let quoted = if !name.is_empty() && name.bytes().all(bare) { name.to_owned() } else { format!("{name:?}") };
        let key = if self.key.is_empty() { quoted } else { format!("{}.{quoted}", self.key) };
        Self { input: self.input, key, offset: Some(offset) }
    }
}

impl<'a> Table<'a> {
    /// What stands under `name`, which is a known key from now on.
    pub(super) fn get(&mut self, name: &'static str) -> Option<Value<'a>> {
        self.known.push(name);
        let (key, value) = self.entries?.get_key_value(name)?;
        Some(self.value(key, value))
    }

    /// Whether something stands under `name`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.is_some_and(|entries| entries.contains_key(name))
    }

    /// The table under `name`, or one without entries.
    pub(super) fn table(&mut self, name: &'static str) -> Table<'a> {
        let absent = Place { key: name.to_owned(), ..self.place.clone() };
        self.get(name).and_then(|value| value.table()).unwrap_or(Table {
            place: absent,
            entries: None,
            known: Vec::new(),
        })
    }

    /// Every key of a table whose keys are names chosen by the user, in the file's order.
    pub(super) fn entries(&self) -> Vec<(&'a str, Value<'a>)> {
        let entries = self.entries.into_iter().flat_map(DeTable::iter);
        let mut values: Vec<_> = entries.map(|(key, value)| (key.get_ref().as_ref(), self.value(key, value))).collect();
        values.sort_by_key(|(_, value)| value.place.offset);
        values
    }

    /// Where `name` stands, or where it would.
    pub(super) fn place_of(&self, name: &str) -> Place<'a> {
        let found = self.entries.and_then(|entries| entries.get_key_value(name));
        match found {
            Some((key, value)) => self.value(key, value).place,
            None => Place { offset: self.place.offset, ..self.place.child(name, 0) },
        }
    }

    /// Refuses every key that was not asked for.
    pub(super) fn done(self) {
        for (name, value) in self.entries() {
            if self.known.contains(&name) {
                continue;
            }
            let hint = match near(name, self.known.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            value.place.refuse(format!("unknown key; {hint}"));
        }
    }

    /// What `read` makes of the value, if it is there and right.
    pub(super) fn read<T>(&mut self, name: &'static str, read: impl FnOnce(&Value<'a>) -> Option<T>) -> Option<T> {
        self.get(name).and_then(|value| read(&value))
    }

    /// What `parse` makes of the text, if it is there and right.
    pub(super) fn parsed<T>(&mut self, name: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        self.read(name, |value| value.parsed(parse))
    }

    pub(super) fn flag(&mut self, name: &'static str, default: bool) -> bool {
        self.read(name, Value::flag).unwrap_or(default)
    }

    pub(super) fn duration(&mut self, name: &'static str, default: Duration) -> Duration {
        self.parsed(name, scalar::duration).unwrap_or(default)
    }

    /// A whole number in `range`.
    pub(super) fn count<N>(&mut self, name: &'static str, range: RangeInclusive<u32>, default: N) -> N
    where
        N: TryFrom<u32>,
    {
        self.read(name, |value| value.integer(range)).and_then(|number| N::try_from(number).ok()).unwrap_or(default)
    }

    /// A whole number of MiB in `range`, as bytes.
    pub(super) fn mib(&mut self, name: &'static str, range: RangeInclusive<u32>, default_mib: u32) -> u64 {
        u64::from(self.count(name, range, default_mib)) << 20
    }

    fn value(&self, key: &Spanned<std::borrow::Cow<'a, str>>, value: &'a Spanned<DeValue<'a>>) -> Value<'a> {
        // A table's own span may begin elsewhere; its key is where people look.
        let span = if value.get_ref().is_table() { key.span() } else { value.span() };
        Value { place: self.place.child(key.get_ref(), span.start), value: value.get_ref() }
    }
}

impl<'a> Value<'a> {
    /// The text, with `${NAME}` resolved.
    pub(super) fn text(&self) -> Option<String> {
        match self.value.as_str() {
            Some(text) => self.place.input.expand(text, &self.place),
            None => self.wrong_type("a string"),
        }
    }

    /// Whether the value is a text rather than something else.
    pub(super) fn is_text(&self) -> bool {
        self.value.is_str()
    }

    /// The text, or what the file holds that `file:<path>` or `credential:<name>` names, without its last line end.
    pub(super) fn secret(&self) -> Option<String> {
        let text = self.text()?;
        let (path, what) = if let Some(path) = text.strip_prefix(FILE_PREFIX) {
            (self.place.folder().join(path), "the file named after `file:`")
        } else if let Some(name) = text.strip_prefix(CREDENTIAL_PREFIX) {
            (self.credential(name)?, "the credential named after `credential:`")
        } else {
            return Some(text);
        };
        match (self.place.input.read_file)(&path) {
            Ok(text) => {
                let line = text.strip_suffix('\n').unwrap_or(&text);
                Some(line.strip_suffix('\r').unwrap_or(line).to_owned())
            }
            // The path may come from the environment, and with it by mistake a secret: it is not shown.
            Err(error) => {
                self.place.refuse(format!("{what} cannot be read: {}", error.kind()));
                None
            }
        }
    }

    /// What `parse` makes of the secret.
    pub(super) fn secret_of<T>(&self, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        match parse(&self.secret()?) {
            Ok(parsed) => Some(parsed),
            Err(message) => {
                self.place.refuse(message);
                None
            }
        }
    }

    /// The file that the text names (`credential:<name>` too), and what is in it.
    pub(super) fn file(&self) -> Option<(PathBuf, String)> {
        let text = self.text()?;
        let path = match text.strip_prefix(CREDENTIAL_PREFIX) {
            Some(name) => self.credential(name)?,
            None => self.place.folder().join(text.strip_prefix(FILE_PREFIX).unwrap_or(&text)),
        };
        // What is a file's content in place of its name must not be shown as its name.
        if text.is_empty() || text.contains(char::is_control) || text.contains("-----BEGIN") {
            self.place.refuse("must be the path of a file, not what is in it");
            return None;
        }
        match (self.place.input.read_file)(&path) {
            Ok(content) => Some((path, content)),
            Err(error) => {
                self.place.refuse(format!("{} cannot be read: {}", path.display(), error.kind()));
                None
            }
        }
    }

    /// Where systemd put the credential of this name.
    fn credential(&self, name: &str) -> Option<PathBuf> {
        let is_name = !name.is_empty() && !matches!(name, "." | "..") && !name.contains(['/', '\0']);
        if !is_name {
            self.place
                .refuse("names no credential after `credential:`; its name is that of LoadCredential=, without a path");
            return None;
        }
        let folder = (self.place.input.env)(CREDENTIALS_VARIABLE).filter(|folder| !folder.is_empty());
        if folder.is_none() {
            self.place.refuse(format!(
                "names a systemd credential, but {CREDENTIALS_VARIABLE} is not set; give the service LoadCredential= or \
                 SetCredentialEncrypted=, or use `file:` or `${{VARIABLE}}`"
            ));
        }
        Some(PathBuf::from(folder?).join(name))
    }

    pub(super) fn parsed<T>(&self, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        match parse(&self.text()?) {
            Ok(parsed) => Some(parsed),
            Err(message) => {
                self.place.refuse(message);
                None
            }
        }
    }

    pub(super) fn flag(&self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.wrong_type("true or false"))
    }

    /// Whether the value is a whole number rather than something else.
    pub(super) fn is_integer(&self) -> bool {
        self.value.is_integer()
    }

    /// Whether the value is a table rather than something else.
    pub(super) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    pub(super) fn integer(&self, range: RangeInclusive<u32>) -> Option<u32> {
        let Some(integer) = self.value.as_integer() else { return self.wrong_type("a whole number") };
        let number = u32::from_str_radix(integer.as_str(), integer.radix()).ok();
        let found = number.filter(|number| range.contains(number));
        if found.is_none() {
            self.place.refuse(format!("must be {} to {}", range.start(), range.end()));
        }
        found
    }

    /// A number with or without a decimal point.
    pub(super) fn number(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let number: Option<f64> = match self.value {
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str().parse().ok(),
            DeValue::Float(float) => float.as_str().parse().ok(),
            _ => return self.wrong_type("a number"),
        };
        let found = number.filter(|number| range.contains(number));
        if found.is_none() {
            self.place.refuse(format!("must be {:?} to {:?}", range.start(), range.end()));
        }
        found
    }

    /// The items of an array of at most `count_max`.
    pub(super) fn items(&self, count_max: usize) -> Option<Vec<Value<'a>>> {
        let Some(array) = self.value.as_array() else { return self.wrong_type("an array") };
        if array.len() > count_max {
            self.place.refuse(format!("holds {} items; at most {count_max} are allowed", array.len()));
            return None;
        }
        let item = |(index, item): (usize, &'a Spanned<DeValue<'a>>)| {
            let place = Place {
                key: format!("{}[{index}]", self.place.key),
                offset: Some(item.span().start),
                ..self.place.clone()
            };
            Value { place, value: item.get_ref() }
        };
        Some(array.iter().enumerate().map(item).collect())
    }

    pub(super) fn table(&self) -> Option<Table<'a>> {
        let Some(entries) = self.value.as_table() else { return self.wrong_type("a table") };
        Some(Table { place: self.place.clone(), entries: Some(entries), known: Vec::new() })
    }

    /// Notes that the value is not what it should be.
    pub(super) fn wrong_type<T>(&self, expected: &str) -> Option<T> {
        let found = self.value.type_str();
        let article = if found.starts_with(['a', 'i']) { "an" } else { "a" };
        self.place.refuse(format!("must be {expected}, not {article} {found}"));
        None
    }
}
