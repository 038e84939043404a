//! The place of the files that are installed with the program.

use std::{
    env, io,
    path::{Path, PathBuf},
};

/// The default plugin directory.
///
/// # Errors
/// The program cannot find itself.
pub fn plugin_directory() -> io::Result<PathBuf> {
    env::current_exe().map(|program| plugins_of(&program))
}

/// The directory `plugins` beside the program. If it does not exist, `lib/tenon/plugins` beside the folder of the program:
/// package managers use that one when they have one folder for all programs.
fn plugins_of(program: &Path) -> PathBuf {
    let beside = program.with_file_name("plugins");
    let prefix = program.parent().and_then(Path::parent);
    let installed = prefix.map(|prefix| prefix.join("lib/tenon/plugins"));
    installed
        .filter(|installed| !beside.is_dir() && installed.is_dir())
        .unwrap_or(beside)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn plugins_are_beside_the_program_or_in_the_lib_folder() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let plugins = || plugins_of(&path("bin/tenon"));
        assert_eq!(plugins(), path("bin/plugins"));
        fs::create_dir_all(path("lib/tenon/plugins")).unwrap();
        assert_eq!(plugins(), path("lib/tenon/plugins"));
        fs::create_dir_all(path("bin/plugins")).unwrap();
        assert_eq!(plugins(), path("bin/plugins"));
    }
}
