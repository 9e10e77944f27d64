//! The disk as the log needs it: a folder of flat files with explicit syncs.
//!
//! The trait is small so that a simulated disk can stand in for it and lose, tear or refuse anything that
//! was not synced. [`Folder`] is the real one. What it promises after `Ok`: [`Disk::create`] — the file, its
//! whole length and its name survive a power cut; [`DiskFile::sync`] — so does every write before it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder of files.
pub trait Disk: Send + Sync + 'static {
    /// The names in the folder, in any order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes a file of `len` zero bytes that are really allocated, durably. Replaces nothing.
    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file that is there.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Removes a file, durably.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Bytes that may still be allocated.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// One file.
pub trait DiskFile: Send + Sync {
    /// Its length, in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Fills `buffer` from `offset`; an error if the file ends before.
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`. Not durable before [`DiskFile::sync`].
    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes every write before it durable. After an error nothing is known of any of them; it must not be retried.
    fn sync(&self) -> io::Result<()>;
}

/// A real folder.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder at `path`, made if it is not there, readable by its owner only.
    pub fn open(path: &Path) -> io::Result<Self> {
        create_private_dir(path)?;
        Ok(Self { path: path.to_owned() })
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// Makes a folder (and what leads to it) with mode 0700, durably. One that is there is left as it is.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_private_dir(parent)?;
    std::fs::DirBuilder::new().mode(0o700).create(path)?;
    File::open(parent)?.sync_all()
}

/// Bytes that may still be allocated on the file system of `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    room(path).map(|(free, _)| free)
}

/// The same, and how many bytes that file system has in all.
pub fn room(path: &Path) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(path)?;
    Ok((stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize)))
}

/// Allocates `len` bytes of `file`, really.
pub fn allocate(file: &File, len: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len) {
        Ok(()) => Ok(()),
        // A file system without it: writing the zeros allocates too.
        Err(rustix::io::Errno::OPNOTSUPP) => write_zeros(file, len),
        Err(error) => Err(error.into()),
    }
}

fn write_zeros(file: &File, len: u64) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < len {
        let part = usize::try_from(len - offset).unwrap_or(zeros.len()).min(zeros.len());
        file.write_all_at(zeros.get(..part).unwrap_or_default(), offset)?;
        offset += part as u64;
    }
    Ok(())
}

impl Disk for Folder {
    fn list(&self) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn DiskFile>> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = self.path.join(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        let made = allocate(&file, len).and_then(|()| file.sync_all()).and_then(|()| self.sync_names());
        if let Err(error) = made {
            // What could not be allocated whole must not look like a segment at the next start.
            std::fs::remove_file(&path)?;
            return Err(error);
        }
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.path.join(name))?;
        Ok(Arc::new(file))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))?;
        self.sync_names()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        free_bytes(&self.path)
    }
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        if cfg!(feature = "test-no-sync") { Ok(()) } else { self.sync_data() }
    }
}
