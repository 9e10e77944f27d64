//! A terminal of 80 columns, without anybody in front of it: what a command prints there.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// As wide as this.
pub(crate) const WIDTH: u16 = 80;

/// Runs a command with both its outputs on the terminal; its exit code and what stands there in the end.
pub(crate) fn on_terminal(mut command: Command) -> (Option<i32>, String) {
    let keeper = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&keeper).unwrap();
    unlockpt(&keeper).unwrap();
    let name = ptsname(&keeper, Vec::new()).unwrap();
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
    let side = OpenOptions::new().read(true).write(true).open(path).unwrap();
    tcsetwinsize(&side, Winsize { ws_row: 24, ws_col: WIDTH, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    for name in ["COLUMNS", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        if !command.get_envs().any(|(set, _)| set == name) {
            command.env_remove(name);
        }
    }
    command.env("TERM", "xterm").stdout(side.try_clone().unwrap()).stderr(side);
    let mut child = command.spawn().unwrap();
    // The last holders of the other side go with the command.
    drop(command);
    let (mut shown, mut part) = (Vec::new(), [0; 4096]);
    let mut keeper = File::from(keeper);
    // At the end Linux reports an error in place of nothing.
    while let Ok(count @ 1..) = keeper.read(&mut part) {
        shown.extend_from_slice(&part[..count]);
    }
    (child.wait().unwrap().code(), String::from_utf8(shown).unwrap().replace("\r\n", "\n"))
}
