//! The directory that holds the database and the secrets of one process. Spec: DPS-STORE-8.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::private_file;

const LOCK_FILE: &str = "lock";

/// A data directory in use by this process. It is free again when the value is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Holds the operating system's lock for as long as it is open.
    _lock: File,
}

/// Why a data directory or a file in it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process has it open.
    #[error("the data directory {} is in use by {holder}; a data directory serves one process at a time", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Such as `process 4711`.
        holder: String,
    },
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// What it was about.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A name that would lead out of the directory.
    #[error("{0:?} is not the name of a file in the data directory")]
    BadName(String),
}

impl DataDir {
    /// Opens a data directory, creating it with mode 0700 if there is none, and locks it. If others have rights to it
    /// already, a warning is logged and the rights stay.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, DataDirError> {
        let path = path.into();
        private_file::create_directory(&path).map_err(at(&path))?;
        private_file::warn_if_open_to_others(&path).map_err(at(&path))?;
        let lock = lock(&path)?;
        Ok(Self { path, _lock: lock })
    }

    /// Whether the directory was used as one, and may be now.
    pub fn is_one(path: &Path) -> bool {
        path.join(LOCK_FILE).exists()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of the file of that name in the directory, whether or not it is there.
    pub fn file(&self, name: &str) -> Result<PathBuf, DataDirError> {
        let mut parts = Path::new(name).components();
        match (parts.next(), parts.next()) {
            (Some(std::path::Component::Normal(part)), None) if part == name => Ok(self.path.join(name)),
            _ => Err(DataDirError::BadName(name.to_owned())),
        }
    }

    /// The content of a secret file; if there is none, what `make` gives, durable and with mode 0600 before this returns.
    /// A crash leaves the whole file or none.
    pub fn secret_file<M, B>(&self, name: &str, make: M) -> Result<Zeroizing<Vec<u8>>, DataDirError>
    where
        M: FnOnce() -> B,
        B: Into<Zeroizing<Vec<u8>>>,
    {
        let path = self.file(name)?;
        match fs::read(&path) {
            Ok(bytes) => {
                let bytes = Zeroizing::new(bytes);
                private_file::warn_if_open_to_others(&path).map_err(at(&path))?;
                Ok(bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let bytes = make().into();
                self.create(&path, name, &bytes).map_err(at(&path))?;
                Ok(bytes)
            }
            Err(error) => Err(at(&path)(error)),
        }
    }

    fn create(&self, path: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
        let unfinished = self.path.join(format!(".{name}.unfinished"));
        // Left by a crash, perhaps with another mode; the lock says that no one is writing it now.
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = private_file::options().write(true).create_new(true).open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        private_file::sync_directory(&self.path)
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> DataDirError {
    move |source| DataDirError::Io { path: path.to_owned(), source }
}

fn lock(directory: &Path) -> Result<File, DataDirError> {
    let path = directory.join(LOCK_FILE);
    let mut file = private_file::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(DataDirError::InUse { path: directory.to_owned(), holder: holder(&mut file) });
        }
        Err(TryLockError::Error(error)) => return Err(at(&path)(error)),
    }
    let written = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
    written.map_err(at(&path))?;
    Ok(file)
}

/// Who has the lock, as far as its file tells.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(20).read_to_string(&mut text));
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(process)) => format!("process {process}"),
        _ => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        text.as_bytes().to_vec()
    }

    #[cfg(unix)]
    #[track_caller]
    fn mode(path: &Path, expected: u32) {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, expected, "{path:?}");
    }

    /// DPS-STORE-8
    #[test]
    fn a_data_directory_serves_one_process_at_a_time_and_says_which() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let first = DataDir::open(&path).unwrap();
        let refused = DataDir::open(&path).unwrap_err();
        assert!(matches!(&refused, DataDirError::InUse { .. }), "{refused}");
        assert!(refused.to_string().contains(&format!("process {}", std::process::id())), "{refused}");
        drop(first);
        DataDir::open(&path).unwrap();
    }

    /// DPS-STORE-8
    #[cfg(unix)]
    #[test]
    fn the_directory_is_0700_and_its_files_are_0600() {
        let parent = tempfile::tempdir().unwrap();
        let data = DataDir::open(parent.path().join("above/data")).unwrap();
        data.secret_file("key", || bytes("secret")).unwrap();
        mode(data.path(), 0o700);
        mode(&data.file("key").unwrap(), 0o600);
        mode(&data.file(LOCK_FILE).unwrap(), 0o600);
    }

    /// DPS-STORE-8
    #[cfg(unix)]
    #[test]
    fn the_rights_of_a_directory_that_was_there_are_left_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = tempfile::tempdir().unwrap();
        fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o750)).unwrap();
        DataDir::open(parent.path()).unwrap();
        mode(parent.path(), 0o750);
    }

    #[test]
    fn a_secret_file_is_made_once_and_read_after() {
        let parent = tempfile::tempdir().unwrap();
        let data = DataDir::open(parent.path()).unwrap();
        // As a crash in the middle of its creation leaves it.
        fs::write(parent.path().join(".key.unfinished"), "sec").unwrap();
        assert_eq!(*data.secret_file("key", || bytes("secret")).unwrap(), bytes("secret"));
        assert_eq!(*data.secret_file("key", || bytes("another")).unwrap(), bytes("secret"));
        assert!(!parent.path().join(".key.unfinished").exists());
    }

    #[test]
    fn a_name_that_leads_out_of_the_directory_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let data = DataDir::open(parent.path()).unwrap();
        for name in ["", ".", "..", "../key", "a/b", "/etc/key", "key/"] {
            let refused = data.secret_file(name, || bytes("secret"));
            assert!(matches!(refused, Err(DataDirError::BadName(_))), "{name:?}: {refused:?}");
        }
    }
}
