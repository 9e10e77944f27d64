//! Help: what `--help` and `backstop help VERB` say beside the options, like a manual page.
//!
//! What a verb is for and when it is of use, examples that can be run, what its exit codes mean, which variables it
//! reads. `-h` has the examples only. A verb that brings text of its own keeps it; the rest is added behind it.
//! Promises, held by tests: every verb has an example, every example is understood, no line has more than
//! [`WIDTH_MAX`] characters.

use clap::Command;

/// The most characters of a line.
const WIDTH_MAX: usize = 100;

/// A verb: its path, when it is of use, and examples.
type Page = (&'static str, &'static str, &'static [&'static str]);

const PAGES: &[Page] = &[
    (
        "serve",
        "Reads the config, opens the journal, serves until SIGTERM or SIGINT, which let what is under way end \
         (server.drain_timeout). SIGHUP has the config read again. A kill loses nothing that was acknowledged.",
        &["backstop serve", "backstop --config /etc/backstop/gateway.toml serve"],
    ),
    (
        "check",
        "Before a start or a reload, and in a repository that holds the config. Variables and files that the config names \
         must be there. What is allowed but probably not meant is a warning.",
        &["backstop check", "backstop check --effective", "backstop --config staging.toml check"],
    ),
    (
        "send",
        "To try a source: the body is posted as a sender would, and what was answered is printed.",
        &[
            "backstop send --sample call_started",
            "backstop send event.json --source flyflow",
            "echo '{}' | backstop send -",
        ],
    ),
    (
        "call",
        "When somebody asks what became of one call: every event with its key, in order, and each delivery's end.",
        &["backstop call abc123", "backstop call abc123 --output json"],
    ),
    (
        "gaps",
        "For sources with a lifecycle: what began and did not end, what ended and never began, and what has not arrived.",
        &["backstop gaps", "backstop gaps --kind never_ended --output jsonl"],
    ),
    (
        "events",
        "What came in: every accepted event, by the filters, the newest first.",
        &[
            "backstop events --since 1h",
            "backstop events --type 'call_*' --key abc123",
            "backstop events --unrouted --all",
        ],
    ),
    (
        "event",
        "One event's whole story: where it went, every attempt, what was answered, what it waits for.",
        &["backstop event evt_01m84sqrfrf7nrkcmv1kby3zav", "backstop event evt_01m84sqrfrf7nrkcmv1kby3zav --body"],
    ),
    (
        "failed",
        "What was given up, and what is being retried, each with its reason and what it waits for.",
        &["backstop failed", "backstop failed --endpoint crm --since 2h", "backstop failed --parked"],
    ),
    (
        "refused",
        "What was turned away at the door and could still be of use: duplicates, and what its source could not read or \
         believe.",
        &["backstop refused --source flyflow --reason malformed", "backstop refused show ref_1"],
    ),
    ("refused show", "Everything that was kept of one.", &["backstop refused show ref_1"]),
    (
        "refused ingest",
        "Once the source's rules are put right: it is read by the rules of now, and becomes an event.",
        &["backstop refused ingest ref_1"],
    ),
    (
        "failures",
        "When many have failed: alike ones are one line, with how many, since when, where, and one of them.",
        &["backstop failures", "backstop failures --endpoint crm"],
    ),
    (
        "replay",
        "With an id that one goes again at once. With filters a replay begins, which is watched until it has ended; it \
         goes on without being watched, also over a restart. History stays: a replay makes new deliveries of old events. \
         Begin with --dry-run.",
        &[
            "backstop replay evt_01m84sqrfrf7nrkcmv1kby3zav --to crm",
            "backstop replay --endpoint crm --status dead --since 1d --dry-run",
            "backstop replay --endpoint crm --status dead --since 1d --rate 10/s --canary 5",
            "backstop replay --key abc123 --to-url https://staging.example.com/hook",
        ],
    ),
    ("replay watch", "Ends when the replay has; leaving it stops nothing.", &["backstop replay watch rpl_1"]),
    ("replay pause", "Its deliveries that are there already go on.", &["backstop replay pause rpl_1"]),
    ("replay resume", "Also one that has paused itself.", &["backstop replay resume rpl_1"]),
    (
        "replay cancel",
        "What it has made is not taken back: `backstop cancel --made-by` does.",
        &["backstop replay cancel rpl_1"],
    ),
    (
        "replay rerun",
        "With what has failed of it, or with --rest with what it had not come to when it was cancelled.",
        &["backstop replay rerun rpl_1", "backstop replay rerun rpl_1 --rest"],
    ),
    ("replays", "Those that run and those that have ended, the newest first.", &["backstop replays"]),
    (
        "cancel",
        "What is on its way ends; what waits is not sent any more. It can be replayed later.",
        &["backstop cancel dlv_01m84sqrfrf7nrkcmv1kby3zav_0", "backstop cancel --endpoint old-crm"],
    ),
    ("counters", "How many deliveries stand where, what is parked, what was turned away.", &["backstop counters"]),
    (
        "endpoint pause",
        "For a maintenance of theirs: new deliveries gather, those on their way end. It lasts over restarts.",
        &["backstop endpoint pause crm --note 'their maintenance, until 3 pm'"],
    ),
    ("endpoint resume", "What has gathered goes out by a ramp, oldest first.", &["backstop endpoint resume crm"]),
    (
        "audit",
        "After a crash, a damaged disk, or because somebody must know: the log is held against the index, and everything \
         must add up.",
        &["backstop audit", "backstop audit --since 1d", "backstop audit --offline"],
    ),
    (
        "export",
        "For a backup, or to take events elsewhere, from a running gateway; the last line says that it is whole.",
        &["backstop export backup.ndjson", "backstop export --since 1d --type call_ended | gzip"],
    ),
    (
        "import",
        "What `backstop export` wrote becomes new events, each once however often it is done; they go nowhere without \
         --route.",
        &["backstop import backup.ndjson --source flyflow", "backstop import - --source flyflow --route"],
    ),
    (
        "operations",
        "Who paused, replayed, cancelled, reloaded, and what came of it; also who was denied.",
        &["backstop operations --since 1d", "backstop operations --what 'endpoint.*' --who oncall"],
    ),
    (
        "token create",
        "It is printed once, on standard output, and nothing else is.",
        &["backstop token create grafana --role read", "backstop token create oncall --role operate --expires 90d"],
    ),
    ("token list", "A token itself is never shown again.", &["backstop token list"]),
    (
        "token revoke",
        "From the next request on; sessions begun with it end, too.",
        &["backstop token revoke oncall", "backstop token --offline revoke oncall"],
    ),
    ("whoami", "To see which token a command would use, and what it may.", &["backstop whoami"]),
    ("journal verify", "Changes nothing. The gateway must be stopped.", &["backstop journal verify"]),
    (
        "journal rebuild",
        "When the index is lost or damaged; the log is the truth. The gateway must be stopped.",
        &["backstop journal rebuild"],
    ),
    (
        "journal stats",
        "Without a running gateway.",
        &["backstop journal stats", "backstop journal stats --output json"],
    ),
    ("journal export", "Without a running gateway.", &["backstop journal export backup.ndjson"]),
    (
        "demo",
        "In a folder of its own, which is removed again; it needs no config.",
        &["backstop demo", "backstop demo --calls 100"],
    ),
    ("version", "As the API, the metrics and the logs name it.", &["backstop version"]),
];

/// Exit codes, and when they are of use.
const CODES_HERE: &str = "Exit codes: 0 done · 1 failed · 2 the command line or the config makes no sense";
const CODES_THERE: &str = "Exit codes: 0 done · 1 failed · 2 the command line or the config makes no sense · 3 the \
                           gateway did not answer · 4 the gateway refused (no such thing, not as things stand, or not \
                           by this token's role)";

/// The commands with all that is said of them.
pub(crate) fn explained(program: Command) -> Command {
    program.max_term_width(WIDTH_MAX).mut_subcommands(|verb| explain(verb, ""))
}

fn explain(verb: Command, above: &str) -> Command {
    let path = if above.is_empty() { verb.get_name().to_owned() } else { format!("{above} {}", verb.get_name()) };
    let verb = verb.mut_subcommands(|verb| explain(verb, &path));
    if verb.is_hide_set() {
        return verb;
    }
    let page = PAGES.iter().find(|(name, ..)| *name == path);
    let verb = match (page, verb.get_about(), verb.get_long_about()) {
        (Some((_, when, _)), Some(about), None) => {
            let long = format!("{about}\n\n{when}");
            verb.long_about(long)
        }
        _ => verb,
    };
    let own = verb.get_after_help().map(ToString::to_string);
    let examples = own.or_else(|| page.map(|(.., examples)| format!("Examples:\n  {}", examples.join("\n  "))));
    let Some(examples) = examples else { return verb };
    let mut parts = vec![examples.clone()];
    if !examples.contains("Exit codes:") {
        parts.push(if has(&verb, "admin") { CODES_THERE } else { CODES_HERE }.to_owned());
    }
    parts.extend(environment(&verb));
    verb.after_help(examples).after_long_help(parts.join("\n\n"))
}

fn has(verb: &Command, option: &str) -> bool {
    verb.get_arguments().any(|argument| argument.get_long() == Some(option))
}

/// The variables that a verb reads.
fn environment(verb: &Command) -> Option<String> {
    let mut lines = Vec::new();
    if !["demo", "version", "completion"].contains(&verb.get_name()) {
        lines.push("BACKSTOP_CONFIG   as --config".to_owned());
    }
    for argument in verb.get_arguments() {
        if let (Some(variable), Some(option)) = (argument.get_env(), argument.get_long()) {
            lines.push(format!("{:<17} as --{option}", variable.to_string_lossy()));
        }
    }
    if has(verb, "token-file") && verb.get_name() != "health" {
        lines.push("BACKSTOP_TOKEN    the token itself; it goes before --token-file".to_owned());
    }
    if verb.get_name() == "serve" {
        lines.push("NOTIFY_SOCKET     who is told that it serves, reloads and stops (systemd sets it)".to_owned());
    }
    (!lines.is_empty()).then(|| format!("Environment:\n  {}", lines.join("\n  ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use clap::error::ErrorKind;

    use crate::cli::Cli;

    /// Every verb that does something, with its path.
    fn verbs(command: &Command, above: &str, found: &mut Vec<(String, Command)>) {
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
            let path = format!("{above} {}", verb.get_name()).trim_start().to_owned();
            if verb.is_subcommand_required_set() {
                verbs(verb, &path, found);
            } else {
                found.push((path.clone(), verb.clone()));
                verbs(verb, &path, found);
            }
        }
    }

    fn all() -> Vec<(String, Command)> {
        let mut program = explained(Cli::command());
        program.build();
        let mut found = Vec::new();
        verbs(&program, "", &mut found);
        assert!(found.len() > 35, "{}", found.len());
        found
    }

    /// The arguments of a line as a shell would split it, up to where it does more than run one command.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
        for char in line.chars() {
            match char {
                '\'' => {
                    quoted = !quoted;
                    word.get_or_insert_default();
                }
                ' ' if !quoted => words.extend(word.take()),
                char => word.get_or_insert_default().push(char),
            }
        }
        words.extend(word);
        let ends = |word: &String| ["|", ">", "&&", "#"].contains(&word.as_str());
        let end = words.iter().position(ends).unwrap_or(words.len());
        words.truncate(end);
        words
    }

    #[test]
    fn every_verb_has_an_example_and_says_what_its_exit_codes_mean() {
        for (path, mut verb) in all() {
            let long = verb.render_long_help().to_string();
            let example = long.lines().any(|line| {
                line.trim_start().contains(&format!("backstop {path}"))
                    || line.contains(&path) && line.contains("backstop --config")
            });
            assert!(long.contains("Examples:\n") && example, "{path}: {long}");
            assert!(long.contains("Exit codes: 0 "), "{path}: {long}");
            let short = verb.render_help().to_string();
            assert!(short.contains("Examples:\n") && !short.contains("Environment:"), "{path}: {short}");
        }
    }

    #[test]
    fn no_line_is_longer_than_a_terminal_is_wide() {
        let mut program = explained(Cli::command());
        let mut texts = vec![(String::new(), program.render_long_help().to_string())];
        for (path, mut verb) in all() {
            texts.push((path.clone(), verb.render_long_help().to_string()));
            texts.push((path, verb.render_help().to_string()));
        }
        for (path, text) in texts {
            for line in text.lines() {
                assert!(line.chars().count() <= WIDTH_MAX, "{path}: {line}");
            }
        }
    }

    #[test]
    fn every_example_is_understood() {
        let mut count = 0;
        let program = (String::new(), explained(Cli::command()));
        for (path, mut verb) in all().into_iter().chain([program]) {
            let long = verb.render_long_help().to_string();
            let examples =
                long.lines().skip_while(|line| *line != "Examples:").skip(1).take_while(|line| !line.is_empty());
            for line in examples.map(str::trim).filter(|line| line.starts_with("backstop ")) {
                // A remark stands behind two spaces.
                let command = line.split("  ").next().unwrap_or(line);
                let parsed = explained(Cli::command()).try_get_matches_from(words(command));
                let is_help = parsed.as_ref().is_err_and(|error| error.kind() == ErrorKind::DisplayHelp);
                assert!(parsed.is_ok() || is_help, "{path}: {line}: {}", parsed.unwrap_err());
                count += 1;
            }
        }
        assert!(count > 50, "{count}");
    }

    #[test]
    fn no_page_is_of_a_verb_that_is_not_there() {
        let all: Vec<String> = all().into_iter().map(|(path, _)| path).collect();
        for (path, ..) in PAGES {
            assert!(all.iter().any(|known| known == path), "{path}");
        }
    }
}
