//! Who may read what is on disk: its owner and nobody else.
//!
//! Whatever is made here is made with mode 0600, folders with 0700, and [`keep_private`] sees to what others make
//! for us (sled makes files of its own). What is found wider is mended at a start and told, because what was in it
//! could be read until then. Absent: the tokens' files, which are refused when others could read them.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What the group and all others may do.
const OTHERS: u32 = 0o077;
/// What the journal keeps in its folder.
const OWN: [&str; 7] = ["LOCK", "ballast", "index", "index.state", "log", "operations", "refused"];

/// Something that others could read.
#[derive(Debug, PartialEq, Eq)]
pub struct Exposed {
    /// How many files and folders.
    pub count: u64,
    /// One of them.
    pub example: PathBuf,
    /// Its mode, as it was.
    pub mode: u32,
    /// Why it is so still, if it is.
    pub unmended: Option<String>,
}

/// From now on this process makes no file that others can read.
pub fn keep_private() {
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
}

/// Takes from everybody else what is the journal's in `dir`, and the folder itself.
///
/// # Errors
/// If the folder cannot be looked through. What cannot be mended is no error: it may be meant so.
pub fn mend(dir: &Path) -> io::Result<Option<Exposed>> {
    let mut exposed = None;
    if dir.is_dir() {
        mend_one(dir, &mut exposed)?;
        for own in OWN {
            mend_all(&dir.join(own), &mut exposed)?;
        }
    }
    Ok(exposed)
}

fn mend_all(path: &Path, exposed: &mut Option<Exposed>) -> io::Result<()> {
    let is_folder = match fs::symlink_metadata(path) {
        // A link leads out of the folder, and what is there is not ours alone.
        Ok(found) if found.is_symlink() => return Ok(()),
        Ok(found) => found.is_dir(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    mend_one(path, exposed)?;
    if is_folder {
        for entry in fs::read_dir(path)? {
            mend_all(&entry?.path(), exposed)?;
        }
    }
    Ok(())
}

fn mend_one(path: &Path, exposed: &mut Option<Exposed>) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o7777;
    if mode & OTHERS == 0 {
        return Ok(());
    }
    let mended = fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS));
    let found = exposed.get_or_insert_with(|| Exposed { count: 0, example: path.to_owned(), mode, unmended: None });
    found.count += 1;
    if let Err(error) = mended {
        found.unmended.get_or_insert_with(|| error.to_string());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn open(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_others_could_read_is_the_owners_afterwards() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("data");
        fs::create_dir_all(dir.join("index/blobs")).unwrap();
        fs::create_dir(dir.join("log")).unwrap();
        for file in ["index/db", "log/0.log", "LOCK", "others-own"] {
            fs::write(dir.join(file), b"x").unwrap();
            open(&dir.join(file), 0o644);
        }
        for folder in ["", "index", "index/blobs", "log"] {
            open(&dir.join(folder), 0o755);
        }
        let exposed = mend(&dir).unwrap().unwrap();
        assert_eq!((exposed.count, exposed.mode, exposed.unmended), (7, 0o755, None));
        assert_eq!(exposed.example, dir);
        for (path, expected) in [("", 0o700), ("index/blobs", 0o700), ("index/db", 0o600), ("log/0.log", 0o600)] {
            assert_eq!(mode(&dir.join(path)), expected, "{path}");
        }
        assert_eq!(mode(&dir.join("others-own")), 0o644, "it is not ours");
        assert_eq!(mend(&dir).unwrap(), None);
    }

    #[test]
    fn nothing_is_followed_out_of_the_folder_and_a_missing_one_is_well() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(mend(&place.path().join("gone")).unwrap(), None);
        let outside = place.path().join("outside");
        fs::write(&outside, b"x").unwrap();
        open(&outside, 0o644);
        let dir = place.path().join("data");
        fs::create_dir(&dir).unwrap();
        open(&dir, 0o700);
        std::os::unix::fs::symlink(&outside, dir.join("log")).unwrap();
        assert_eq!(mend(&dir).unwrap(), None);
        assert_eq!(mode(&outside), 0o644);
    }
}
