//! The holders of tokens: known, revoked, expired, and a file of theirs that is not as it should be.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn open(folder: &Path) -> Holders {
    Holders::open(&folder.join("tokens.json"), &Token::new("0123456789abcdef").unwrap()).unwrap()
}

#[test]
fn tokens_are_known_again_after_a_restart_and_not_once_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let holders = open(folder.path());
    let (read, _) = holders.create(name("ci"), Role::Read, None, NOW).unwrap();
    let (operate, _) = holders.create(name("oncall"), Role::Operate, None, NOW).unwrap();
    for holders in [&holders, &open(folder.path())] {
        let known = |text: &str| match holders.identify(text, NOW) {
            Ok(held) => (held.name.to_string(), Some(held.role)),
            Err(why) => (format!("{why:?}"), None),
        };
        assert_eq!(known(read.secret()), ("ci".to_owned(), Some(Role::Read)));
        assert_eq!(known(operate.secret()), ("oncall".to_owned(), Some(Role::Operate)));
        assert_eq!(known("0123456789abcdef"), (FIRST.to_owned(), Some(Role::Admin)));
        assert_eq!(known("0123456789abcdeg"), ("Nobody".to_owned(), None));
        let cut = read.secret().strip_suffix(|_: char| true).unwrap();
        assert_eq!(known(cut), ("Broken".to_owned(), None));
    }
    let text = std::fs::read_to_string(folder.path().join("tokens.json")).unwrap();
    assert!(!text.contains(read.secret()) && text.contains(read.id().unwrap()));
    holders.revoke("ci").unwrap();
    for holders in [&holders, &open(folder.path())] {
        assert!(matches!(holders.identify(read.secret(), NOW), Err(NotKnown::Nobody)));
        assert!(holders.identify(operate.secret(), NOW).is_ok());
    }
}

#[test]
fn names_are_given_once_and_the_first_one_never() {
    let folder = tempfile::tempdir().unwrap();
    let holders = open(folder.path());
    holders.create(name("ci"), Role::Read, None, NOW).unwrap();
    assert!(matches!(holders.create(name("ci"), Role::Admin, None, NOW), Err(NotChanged::Taken(_))));
    assert!(matches!(holders.create(name(FIRST), Role::Read, None, NOW), Err(NotChanged::Taken(_))));
    assert!(matches!(holders.create(name("x"), Role::Read, Some(NOW), NOW), Err(NotChanged::Past)));
    assert!(matches!(holders.revoke(FIRST), Err(NotChanged::First)));
    assert!(matches!(holders.revoke("x"), Err(NotChanged::Unknown)));
    for number in 1..NAMED_MAX {
        let held = Held::new(name(&format!("n{number}")), Role::Read, None, TokenHash::of(&number.to_string()));
        let mut all = (*holders.named()).clone();
        all.push(Arc::new(held));
        *holders.named.write().unwrap() = Arc::new(all);
    }
    assert!(matches!(holders.create(name("x"), Role::Read, None, NOW), Err(NotChanged::TooMany)));
}

#[test]
fn a_token_is_worth_nothing_from_its_end_on() {
    let folder = tempfile::tempdir().unwrap();
    let holders = open(folder.path());
    let end = Timestamp::from_millis(NOW.millis() + 1000);
    let (token, _) = holders.create(name("ci"), Role::Read, Some(end), NOW).unwrap();
    assert!(holders.identify(token.secret(), Timestamp::from_millis(end.millis() - 1)).is_ok());
    for holders in [&holders, &open(folder.path())] {
        let Err(NotKnown::Expired(held)) = holders.identify(token.secret(), end) else { panic!("it has not expired") };
        assert_eq!((&held.name, held.expires_at), (&name("ci"), Some(end)));
    }
}

#[test]
fn the_last_use_is_told_by_the_hour_and_written_once_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let holders = open(folder.path());
    let (token, held) = holders.create(name("ci"), Role::Read, None, NOW).unwrap();
    assert_eq!((held.last_used_at(), holders.is_behind()), (None, false));
    holders.identify(token.secret(), NOW).unwrap();
    assert!(holders.is_behind());
    holders.note_used().unwrap();
    holders.identify(token.secret(), Timestamp::from_millis(NOW.millis() + 1)).unwrap();
    assert!(!holders.is_behind());
    let again = open(folder.path()).list().pop().unwrap();
    assert_eq!(again.last_used_at().unwrap().to_string(), "2023-11-14T22:00:00.000Z");
    holders.identify(token.secret(), Timestamp::from_millis(NOW.millis() + USED_STEP)).unwrap();
    assert!(holders.is_behind());
}

#[test]
fn a_file_that_is_not_what_it_should_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, first) = (folder.path().join("tokens.json"), Token::new("0123456789abcdef").unwrap());
    open(folder.path()).create(name("ci"), Role::Read, None, NOW).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let good = std::fs::read_to_string(&path).unwrap();
    let whole = good.strip_suffix("]}").unwrap();
    let (_, token) = whole.split_once('[').unwrap();
    let twice = format!("{whole},{token}]}}");
    let bad = [
        String::new(),
        good.strip_suffix('}').unwrap().to_owned(),
        good.replace("\"version\":1", "\"version\":2"),
        good.replace("\"read\"", "\"root\""),
        good.replace("\"ci\"", "\"C I\""),
        good.replace("\"ci\"", "\"admin\""),
        good.replace("\"sha256\":\"", "\"sha256\":\"0"),
        good.replace("\"expires_at\":null", "\"expires_at\":\"never\""),
        twice,
    ];
    for text in bad {
        assert_ne!(text, good);
        std::fs::write(&path, &text).unwrap();
        let refused = Holders::open(&path, &first).unwrap_err();
        assert!(matches!(refused, TokenError::Unreadable(..)), "{text}: {refused}");
        assert!(refused.to_string().contains("tokens.json"));
    }
    std::fs::write(&path, good).unwrap();
    assert!(Holders::open(&path, &first).is_ok());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(Holders::open(&path, &first), Err(TokenError::Exposed(_, 0o640))));
}
