//! Durability of the real binary: killed, cut off from power, out of disk.
//!
//! Minutes long, the last two for root only, so nothing of it runs by default:
//!
//! ```text
//! cargo test --release --test durability -- --ignored --nocapture --test-threads 1
//! ```
//!
//! `CYCLES` and `SEED` in the environment change how often and which. A harness that cannot fail proves
//! nothing: built with the feature `test-no-sync`, in a target folder of its own, the gateway acknowledges
//! without syncing, and then the power cuts must lose acknowledged events, or the test fails.
//!
//! `gateway` is the process · `load` the senders · `sink` the endpoints · `image` the disk · `rig` holds
//! them together and says what must be true after each start.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, its helpers too")]

mod full;
mod gateway;
mod http;
mod image;
mod load;
mod rig;
mod sink;

use image::{Cut, Image};
use rig::Rig;

/// Most acknowledged events between two cuts.
const ACKNOWLEDGED_MAX: usize = 1200;
const LIMITS: &str = "segment_mib = 4\nballast_mib = 1\ndisk_free_min_mib = 8\n";
/// The sparse image never needs it all.
const IMAGE_MIB: u64 = 8 << 10;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
#[ignore = "takes minutes; run by hand"]
fn killed_at_any_moment_nothing_acknowledged_is_lost() {
    let folder = rig::folder();
    let mut rig = Rig::new(folder.path(), folder.path().join("journal"), LIMITS, setting("SEED", 1));
    let cycles = setting("CYCLES", 100);
    let mut killed_starts = 0;
    for _ in 0..cycles {
        let gateway = rig.start();
        rig.check(&gateway);
        rig.run(gateway, ACKNOWLEDGED_MAX, |gateway, _| gateway.kill());
        for _ in 0..rig.rng.u8(..3) {
            killed_starts += 1;
            rig.start_and_kill();
        }
    }
    finish(&mut rig);
    assert!(rig.report(&format!("{cycles} times SIGKILL while serving, {killed_starts} times while starting")));
}

#[test]
#[ignore = "takes minutes and needs root; run by hand"]
fn when_the_power_is_cut_nothing_acknowledged_is_lost() {
    if !image::is_root() {
        return;
    }
    let folder = rig::folder();
    let mut image = Image::make(folder.path(), IMAGE_MIB);
    let mut rig = Rig::new(folder.path(), image.mount_point.join("journal"), LIMITS, setting("SEED", 1));
    let (cycles, mut cut_starts, mut kills) = (setting("CYCLES", 40), 0, 0);
    for cycle in 0..cycles {
        let cut = if cycle % 2 == 0 { Cut::Nothing } else { Cut::JournalFlushed };
        if rig.rng.u8(..3) == 0 {
            cut_starts += 1;
            rig.boot_again();
            rig.start_and_kill();
            image.cut(cut, || {});
            image.mount_again();
        }
        rig.boot_again();
        let mut gateway = rig.start();
        rig.check(&gateway);
        if rig.rng.bool() {
            // What the killed process wrote and did not sync is read by the next one, and then cut.
            kills += 1;
            rig.run(gateway, ACKNOWLEDGED_MAX, |gateway, _| gateway.kill());
            gateway = rig.start();
        }
        let ends_itself = rig.rng.bool();
        rig.run(gateway, ACKNOWLEDGED_MAX, |gateway, posted| {
            image.cut(cut, || posted.set_cut());
            if ends_itself {
                assert!(!gateway.wait().success(), "a gateway whose journal failed ends with an error");
            } else {
                gateway.kill();
            }
        });
        image.mount_again();
    }
    rig.boot_again();
    let what = format!("{cycles} power cuts while serving, {cut_starts} after a start cut short, {kills} SIGKILLs");
    if cfg!(feature = "test-no-sync") {
        let gateway = rig.start();
        rig.check(&gateway);
        rig.report(&format!("WITHOUT SYNC: {what}"));
        assert!(rig.lost() > 0, "without its syncs the gateway must lose events, or the cuts prove nothing");
        return;
    }
    finish(&mut rig);
    assert!(rig.report(&what));
}

/// After the last cycle: all is there, all is delivered, all agrees, and a clean stop is one.
fn finish(rig: &mut Rig) {
    let gateway = rig.start();
    rig.check_all(&gateway);
    rig.reconcile(&gateway);
    rig.note(&gateway.complaints);
    assert!(gateway.terminate().success());
    let gateway = rig.start();
    rig.check(&gateway);
    rig.reconcile(&gateway);
    rig.note(&gateway.complaints);
    assert!(gateway.terminate().success());
}
