//! The files that checks read, as paths relative to the root and text.

use std::path::{Path, PathBuf};

use crate::step::Failure;

/// A file of the repository.
pub(crate) struct SourceFile {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
}

/// Folders that hold what was built or downloaded, never what was written.
const GENERATED: [&str; 6] = ["target", "artifacts", "coverage", "corpus", "__pycache__", ".pytest_cache"];

/// Every file under `folder` (relative to `root`) whose name ends with one of `endings`, sorted. A folder that does not
/// exist holds none.
///
/// # Errors
/// The file or folder that cannot be read.
pub(crate) fn files(root: &Path, folder: &str, endings: &[&str]) -> Result<Vec<SourceFile>, Failure> {
    let mut found = Vec::new();
    let start = root.join(folder);
    if start.is_dir() {
        walk(&start, &mut found)
            .map_err(|error| Failure::new("read sources", format!("{folder}: {error}")))?;
    }
    found.sort();
    let wanted =
        found.into_iter().filter(|path| endings.iter().any(|end| path.to_string_lossy().ends_with(end)));
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Failure::new("read sources", format!("{}: {error}", path.display())))?;
        let path = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        Ok(SourceFile { path, text })
    };
    wanted.map(read).collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let generated = GENERATED.iter().any(|name| entry.file_name() == *name);
        if entry.file_type()?.is_dir() {
            if !generated {
                walk(&entry.path(), found)?;
            }
        } else {
            found.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_subfolders_but_not_among_what_was_built() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let found = files(root, "src", &[".rs"]).unwrap();
        assert!(found.iter().any(|file| file.path == "src/main.rs" && file.text.contains("fn main()")));
        assert!(files(root, "src", &[".py"]).unwrap().is_empty());
        assert!(files(root, "no-such-folder", &[".rs"]).unwrap().is_empty());
        let built = files(root.parent().unwrap(), "", &["CACHEDIR.TAG"]).unwrap();
        assert!(built.is_empty(), "{}", built[0].path);
    }
}
