//! How other commands find a running `dev` of the same user. Spec: DPS-CLI-6, DPS-CLI-7.
//!
//! Each `dev` holds a locked file in a directory that only its user can enter. The lock ends with the process, however it ends.

use std::fmt;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use dps_proto::ids::IdScope;
use serde::Deserialize;
use serde_json::Value;

use crate::invocation::quoted;

/// Most bytes of an announcement.
const ANNOUNCEMENT_BYTES_MAX: u64 = 1024 * 1024;

/// An announced `dev`. Dropping it takes the announcement back.
#[derive(Debug)]
pub(crate) struct Announcement {
    path: PathBuf,
    /// Tells the living from the dead.
    _lock: File,
}

/// What is read of the contract of a running `dev`. Members that a `dev` may not have are optional.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunningDev {
    /// Its process, as the file is named.
    #[serde(skip)]
    pub(crate) pid: String,
    pub(crate) id_scope: String,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) service_connection_string: Option<String>,
    pub(crate) https: Option<Listener>,
    pub(crate) admin: Option<Admin>,
}

/// Where it listens.
#[derive(Clone, Deserialize)]
pub(crate) struct Listener {
    address: IpAddr,
    port: u16,
}

/// Its admin listener.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Admin {
    #[serde(flatten)]
    pub(crate) listener: Listener,
    pub(crate) token_file: PathBuf,
}

impl Listener {
    /// Where to connect from this machine: one that listens on every address does so on loopback.
    pub(crate) fn reachable(&self) -> SocketAddr {
        let address = match self.address {
            IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            other => other,
        };
        SocketAddr::new(address, self.port)
    }
}

/// Why there is not one running `dev` to speak to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoRunningDev {
    /// None is announced.
    #[error("no `harbormaster dev` of this user is running")]
    None,
    /// More than one, so that none is meant.
    #[error("several `harbormaster dev` of this user are running: {}", described(.0))]
    Several(Vec<RunningDev>),
    /// The directory is another's, or open to others.
    #[error(transparent)]
    Directory(#[from] BadDirectory),
    /// It wrote something else.
    #[error("{path}: {why}")]
    Unreadable { path: PathBuf, why: String },
}

impl fmt::Debug for RunningDev {
    /// Without the connection string, which holds a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

impl RunningDev {
    /// What tells it from others, and how to reach it.
    fn describe(&self) -> String {
        let Self { pid, id_scope, .. } = self;
        let admin = self.admin.as_ref().map(|Admin { listener, token_file }| {
            format!(
                " (--admin {} --admin-token-file {})",
                listener.reachable(),
                quoted(&token_file.display().to_string())
            )
        });
        format!("process {pid} with ID scope {id_scope}{}", admin.unwrap_or_default())
    }
}

fn described(running: &[RunningDev]) -> String {
    running.iter().map(RunningDev::describe).collect::<Vec<_>>().join(", ")
}

impl NoRunningDev {
    /// Of several, the one with this ID scope.
    pub(crate) fn with_id_scope(self, id_scope: &IdScope) -> Result<RunningDev, Self> {
        let Self::Several(running) = self else { return Err(self) };
        let has_it = |dev: &&RunningDev| dev.id_scope.eq_ignore_ascii_case(id_scope.as_str());
        match running.iter().filter(has_it).collect::<Vec<_>>()[..] {
            [only] => Ok(only.clone()),
            _ => Err(Self::Several(running)),
        }
    }

    /// What went wrong and what to do; `instead` is what makes a running `dev` needless.
    pub(crate) fn or_give(&self, instead: &str) -> anyhow::Error {
        match self {
            Self::None => anyhow!("{self}: start one, or give {instead}"),
            Self::Several(_) | Self::Directory(_) | Self::Unreadable { .. } => {
                anyhow!("{self}; give {instead}")
            }
        }
    }
}

/// Why the directory of announcements is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadDirectory {
    /// What is written there could be read, or was written, by somebody else.
    #[error("{0}: it is not a directory of this user with mode 0700: remove it")]
    NotOurs(PathBuf),
    /// The system refused.
    #[error("{path}: {why}")]
    Io { path: PathBuf, why: io::Error },
}

/// Makes a `dev` known to the other commands of its user.
pub(crate) fn announce(contract: &Value) -> Result<Announcement, BadDirectory> {
    announce_in(&directory(), contract)
}

/// The one running `dev` of this user.
pub(crate) fn find() -> Result<RunningDev, NoRunningDev> {
    let mut running = all_in(&directory())?;
    match running.pop() {
        None => Err(NoRunningDev::None),
        Some(only) if running.is_empty() => Ok(only),
        Some(last) => {
            running.push(last);
            Err(NoRunningDev::Several(running))
        }
    }
}

/// Where a session's own files belong, else where every user may write.
fn directory() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(session) if session.is_absolute() && session.is_dir() => session.join("harbormaster"),
        _ => std::env::temp_dir().join(format!("harbormaster-{}", rustix::process::geteuid().as_raw())),
    }
}

fn announce_in(directory: &Path, contract: &Value) -> Result<Announcement, BadDirectory> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(why) if why.kind() != io::ErrorKind::AlreadyExists => return Err(io_at(directory)(why)),
        _ => check(directory)?,
    }
    let path = directory.join(format!("{}.json", std::process::id()));
    // Locked and whole before it has its name: nobody sees it half made, or takes it for one of the dead. Its mode is 0600.
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.as_file().lock()?;
        writeln!(file, "{contract}")?;
        Ok(file.persist(&path)?)
    };
    let lock = write().map_err(io_at(&path))?;
    Ok(Announcement { path, _lock: lock })
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // One that stays is known by its missing lock.
        let _ = fs::remove_file(&self.path);
    }
}

/// The living; what the dead left is removed.
fn all_in(directory: &Path) -> Result<Vec<RunningDev>, NoRunningDev> {
    match fs::symlink_metadata(directory) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        _ => check(directory)?,
    }
    let mut running = Vec::new();
    for entry in fs::read_dir(directory).map_err(io_at(directory))? {
        let path = entry.map_err(io_at(directory))?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            running.extend(living(&path)?);
        }
    }
    running.sort_by(|one, other| one.pid.cmp(&other.pid));
    Ok(running)
}

fn living(path: &Path) -> Result<Option<RunningDev>, NoRunningDev> {
    let file = match File::open(path) {
        Ok(file) => file,
        // It ended just now.
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(io_at(path)(why).into()),
    };
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(why)) => return Err(io_at(path)(why).into()),
        Ok(()) => {
            // Somebody else may be as quick.
            let _ = fs::remove_file(path);
            return Ok(None);
        }
    }
    let mut text = String::new();
    let unreadable = |why: String| NoRunningDev::Unreadable { path: path.to_owned(), why };
    file.take(ANNOUNCEMENT_BYTES_MAX).read_to_string(&mut text).map_err(|why| unreadable(why.to_string()))?;
    let mut dev: RunningDev = serde_json::from_str(&text).map_err(|why| unreadable(why.to_string()))?;
    dev.pid = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Some(dev))
}

/// A directory in a place where all may write can have been made by anybody.
fn check(directory: &Path) -> Result<(), BadDirectory> {
    let found = fs::symlink_metadata(directory).map_err(io_at(directory))?;
    let ours =
        found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0;
    if ours { Ok(()) } else { Err(BadDirectory::NotOurs(directory.to_owned())) }
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> BadDirectory {
    move |why| BadDirectory::Io { path: path.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;

    fn contract() -> Value {
        json!({"idScope": "0ne00000001", "caFile": "/ca.pem", "later": {"more": 1}})
    }

    /// DPS-CLI-6
    #[test]
    fn an_announcement_is_found_until_it_is_taken_back_and_only_its_user_can_read_it() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("harbormaster");
        assert!(all_in(&directory).unwrap().is_empty());
        let announcement = announce_in(&directory, &contract()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&announcement.path)), (0o700, 0o600));
        let found = all_in(&directory).unwrap();
        assert_eq!(found[0].pid, std::process::id().to_string());
        assert_eq!(found[0].id_scope, "0ne00000001");
        assert_eq!(found[0].service_connection_string, None);
        drop(announcement);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    }

    #[test]
    fn who_listens_everywhere_is_reached_on_loopback() {
        for (address, expected) in
            [("0.0.0.0", "127.0.0.1:1"), ("::", "[::1]:1"), ("127.0.0.2", "127.0.0.2:1")]
        {
            let listener = Listener { address: address.parse().unwrap(), port: 1 };
            assert_eq!(listener.reachable().to_string(), expected);
        }
    }

    /// DPS-CLI-6
    #[test]
    fn what_a_dead_process_left_is_ignored_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
        let stale = directory.path().join("4711.json");
        fs::write(&stale, contract().to_string()).unwrap();
        assert!(all_in(directory.path()).unwrap().is_empty());
        assert!(!stale.exists());
    }

    /// DPS-CLI-6
    #[test]
    fn a_directory_that_is_open_to_others_or_a_link_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(directory.path(), &link).unwrap();
        assert!(matches!(announce_in(&link, &contract()), Err(BadDirectory::NotOurs(_))));
        assert!(matches!(all_in(&link), Err(NoRunningDev::Directory(BadDirectory::NotOurs(_)))));
        for mode in [0o750, 0o701] {
            fs::set_permissions(directory.path(), Permissions::from_mode(mode)).unwrap();
            assert!(matches!(announce_in(directory.path(), &contract()), Err(BadDirectory::NotOurs(_))));
            assert!(matches!(all_in(directory.path()), Err(NoRunningDev::Directory(_))));
        }
    }
}
