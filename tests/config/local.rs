//! What operators' commands read of the file: what the gateway's service alone has is not asked for.

use backstop::config::Local;

/// A file whose secrets nobody has, with `more` in it.
#[allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]
fn file(more: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.toml");
    let text = format!(
        "{more}\n[sources.flyflow]\npreset = \"flyflow\"\ntoken = \"${{BACKSTOP_TEST_NOBODY_HAS}}\"\n\
         [endpoints.crm]\nurl = \"not a url\"\nsecrets = [\"credential:nobody-has\"]\n"
    );
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn where_the_gateway_is_can_be_read_without_its_secrets() {
    let (folder, path) = file("[admin]\nlisten = \"127.0.0.1:9\"\n[journal]\ndir = \"there\"");
    assert!(backstop::config::Config::load(&path).is_err(), "the gateway itself needs them");
    let local = Local::load(&path).unwrap();
    assert_eq!(local.admin.listen, "127.0.0.1:9".parse().unwrap());
    assert_eq!(local.admin.token_file, folder.path().join("there/admin.token"));
}

#[test]
fn the_journals_keys_are_asked_of_whoever_opens_it() {
    let (_folder, path) = file("[journal]\nencryption = { keys = [\"file:nobody-has\"] }");
    assert_eq!(Local::load(&path).unwrap().journal.keys, vec![]);
    let errors = Local::load_with_keys(&path).unwrap_err();
    assert_eq!(errors.problems.iter().map(|problem| &*problem.key).collect::<Vec<_>>(), ["journal.encryption.keys[0]"]);
}

#[test]
fn what_is_wrong_with_what_is_read_is_said() {
    for (more, key) in [("[admin]\nlisten = 7", "admin.listen"), ("[journal]\ndirectory = \"x\"", "journal.directory")]
    {
        let (_folder, path) = file(more);
        let errors = Local::load(&path).unwrap_err();
        assert_eq!(errors.problems.iter().map(|problem| &*problem.key).collect::<Vec<_>>(), [key]);
    }
    let (_folder, path) = file("journal = ");
    assert!(Local::load(&path).unwrap_err().to_string().contains("not TOML"));
}
