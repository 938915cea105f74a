//! How a shell calls this program, for commands that are printed to be pasted. Spec: DPS-DEV-3.

use std::env;
use std::ffi::OsStr;
use std::path::Path;

const NAME: &str = "harbormaster";

/// `harbormaster` where the shell finds this very program under that name, else the path of the program.
pub(crate) fn command() -> String {
    let Ok(program) = env::current_exe() else { return NAME.to_owned() };
    let directory = env::current_dir().ok();
    of(&program, env::var_os("PATH").as_deref(), directory.as_deref())
}

fn of(program: &Path, search_path: Option<&OsStr>, directory: Option<&Path>) -> String {
    let found = search_path.into_iter().flat_map(env::split_paths).map(|folder| folder.join(NAME));
    let first = found.into_iter().find(|path| path.is_file()).and_then(|path| path.canonicalize().ok());
    if first.is_some() && first == program.canonicalize().ok() {
        return NAME.to_owned();
    }
    match directory.and_then(|directory| program.strip_prefix(directory).ok()) {
        // Without a slash the shell would search for it.
        Some(relative) => quoted(&format!("./{}", relative.display())),
        None => quoted(&program.display().to_string()),
    }
}

/// A word as a POSIX shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// DPS-DEV-3
    #[test]
    fn a_printed_command_is_the_name_where_the_shell_finds_it_else_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let (here, elsewhere) = (folder.path().join("it's here"), folder.path().join("elsewhere"));
        for directory in [&here, &elsewhere] {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join(NAME), "").unwrap();
        }
        let program = here.join(NAME);
        let on_path = |folders: &[&Path]| env::join_paths(folders).unwrap();
        assert_eq!(of(&program, Some(&on_path(&[&here, &elsewhere])), None), "harbormaster");
        let quoted = format!(r"'{}/it'\''s here/harbormaster'", folder.path().display());
        assert_eq!(of(&program, Some(&on_path(&[&elsewhere, &here])), None), quoted, "another comes first");
        assert_eq!(of(&program, None, Some(&elsewhere)), quoted);
        assert_eq!(of(&program, None, Some(&here)), "./harbormaster");
        assert_eq!(of(&elsewhere.join(NAME), None, Some(folder.path())), "./elsewhere/harbormaster");
    }
}
