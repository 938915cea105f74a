//! A database file that is made under another name, and gets its own once it is whole. Spec: DPS-STORE-30, DPS-STORE-31.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::private_file;

/// Dropping it removes the file, unless it was given its name.
pub(super) struct Unfinished {
    path: PathBuf,
}

impl Unfinished {
    /// An empty file with mode 0600, in the directory where `whole` is to be.
    pub(super) fn of(whole: &Path) -> io::Result<Self> {
        let name = whole.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
        let path = directory_of(whole).join(format!(".{name}.{}.unfinished", std::process::id()));
        let unfinished = Self { path };
        // Left by a process of the same number that was killed.
        unfinished.remove();
        private_file::options().write(true).create_new(true).open(&unfinished.path)?;
        Ok(unfinished)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name, durably. What has that name already stays: [`io::ErrorKind::AlreadyExists`].
    pub(super) fn keep_as_new(self, whole: &Path) -> io::Result<()> {
        File::open(&self.path)?.sync_all()?;
        match fs::hard_link(&self.path, whole) {
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => return Err(why),
            Ok(()) => {}
            // File systems of removable disks have no second names.
            Err(_) if fs::symlink_metadata(whole).is_ok() => return Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => fs::rename(&self.path, whole)?,
        }
        self.remove();
        private_file::sync_directory(directory_of(whole))
    }

    /// Gives it its name, durably, in one step with taking the name from whatever had it.
    pub(super) fn keep_instead(self, whole: &Path) -> io::Result<()> {
        File::open(&self.path)?.sync_all()?;
        fs::rename(&self.path, whole)?;
        private_file::sync_directory(directory_of(whole))
    }

    fn remove(&self) {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            // Most are not there.
            let _ = fs::remove_file(beside(&self.path, suffix));
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The file that SQLite keeps beside a database under its name and `suffix`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        fs::read_dir(directory).unwrap().map(name).collect()
    }

    /// DPS-STORE-30
    #[test]
    fn what_is_not_finished_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let unfinished = Unfinished::of(&directory.path().join("a.db")).unwrap();
        fs::write(beside(unfinished.path(), "-wal"), "log").unwrap();
        assert_eq!(names(directory.path()).len(), 2);
        drop(unfinished);
        assert!(names(directory.path()).is_empty());
    }

    /// DPS-STORE-30
    #[test]
    fn a_file_that_appeared_meanwhile_is_not_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let whole = directory.path().join("a.db");
        let unfinished = Unfinished::of(&whole).unwrap();
        fs::write(&whole, "another").unwrap();
        let refused = unfinished.keep_as_new(&whole).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(
            (fs::read_to_string(&whole).unwrap().as_str(), names(directory.path()).len()),
            ("another", 1)
        );
        Unfinished::of(&whole).unwrap().keep_instead(&whole).unwrap();
        assert_eq!((fs::read(&whole).unwrap().len(), names(directory.path()).len()), (0, 1));
    }
}
