//! A disk that something else fills to the last byte while the gateway runs.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::gateway::Gateway;
use crate::image::{self, Image};
use crate::rig::{self, Rig, wait_for_deliveries};
use crate::{finish, setting};

const IMAGE_MIB: u64 = 1024;
/// Acknowledged events before the disk is filled.
const BACKLOG_MAX: usize = 4000;
/// Posts that must be refused while it is full.
const REFUSED: u64 = 200;
const LOOK_PERIOD: Duration = Duration::from_millis(50);
const LOOKS_MAX: usize = 600;

#[test]
#[ignore = "takes minutes and needs root; run by hand"]
fn a_full_disk_refuses_events_and_delivers_what_is_there() {
    full_disk(64, true);
}

#[test]
#[ignore = "takes minutes and needs root; run by hand"]
fn a_full_disk_without_ballast_waits_for_room() {
    full_disk(1, false);
}

/// `drains`: whether there is ballast enough to store what becomes of all deliveries.
fn full_disk(ballast_mib: u32, drains: bool) {
    if !image::is_root() {
        return;
    }
    let limits = format!("segment_mib = 4\nballast_mib = {ballast_mib}\ndisk_free_min_mib = 128\n");
    let folder = rig::folder();
    let image = Image::make(folder.path(), IMAGE_MIB);
    let mut rig = Rig::new(folder.path(), image.mount_point.join("journal"), &limits, setting("SEED", 1));
    let filler = image.mount_point.join("filler");
    let cycles = setting("CYCLES", 10);
    for _ in 0..cycles {
        rig.sink.set_open(false);
        let mut gateway = rig.start();
        let backlog = rig.rng.usize(1..BACKLOG_MAX);
        rig.load.run(gateway.ingest, |posted| {
            posted.wait_acknowledged(backlog);
            fill(&filler);
            posted.wait_refused(REFUSED);
        });
        rig.sink.set_open(true);
        if drains && rig.rng.bool() {
            // What is there is delivered by the one that met the full disk, or else by the next.
            wait_for_deliveries(&gateway);
        }
        rig.check(&gateway);
        stays(&mut rig, &mut gateway);
        gateway.kill();

        fill(&filler);
        let mut gateway = rig.start();
        assert_eq!(gateway.get("/readyz").0, 503, "a full disk is no place for events");
        rig.check(&gateway);
        if drains {
            wait_for_deliveries(&gateway);
        }
        rig.load.run(gateway.ingest, |posted| posted.wait_refused(REFUSED));
        stays(&mut rig, &mut gateway);

        std::fs::remove_file(&filler).unwrap();
        rig.load.run(gateway.ingest, |posted| posted.wait_acknowledged(10));
        wait_for_ballast(&rig.dir.join("ballast"), u64::from(ballast_mib) << 20);
        rig.check(&gateway);
        stays(&mut rig, &mut gateway);
        gateway.kill();
    }
    finish(&mut rig);
    assert!(rig.report(&format!("{cycles} times a full disk with {ballast_mib} MiB of ballast")));
}

/// A full disk does not end the gateway.
fn stays(rig: &mut Rig, gateway: &mut Gateway) {
    assert!(gateway.is_running(), "{:?}", gateway.complaints);
    rig.note(&gateway.complaints);
}

/// Writes until nothing more fits, whatever the gateway frees meanwhile.
fn fill(path: &Path) {
    let mut file: File = OpenOptions::new().create(true).append(true).open(path).unwrap();
    let mut part = 16 << 20;
    let bytes = vec![0; part];
    while part > 0 {
        let written = file.write_all(&bytes[..part]).and_then(|()| file.sync_data());
        if written.is_err() {
            part /= 2;
        }
    }
    let free_bytes = backstop::journal::disk::free_bytes(path).unwrap();
    assert!(free_bytes < 1 << 20, "{free_bytes} bytes are free of a full disk");
}

fn wait_for_ballast(path: &Path, bytes: u64) {
    for _ in 0..LOOKS_MAX {
        if path.metadata().is_ok_and(|ballast| ballast.len() == bytes) {
            return;
        }
        std::thread::sleep(LOOK_PERIOD);
    }
    panic!("{} is not laid again", path.display());
}
