//! Opens the library in a file that is already open.

use std::{
    ffi::{CStr, c_char},
    fs::{self, File, OpenOptions},
    mem,
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use abi_stable::library::AbiHeaderRef;
use libloading::os::unix::{Library as Handle, RTLD_LOCAL, RTLD_NOW};
use tenon_plugin_api::abi::{
    CRATE_SYMBOL, LOADER_SYMBOL,
    c::{C_SYMBOL, PluginFn},
};

/// An open library. It is never closed.
pub struct Library {
    pub entry: EntryPoint,
    /// Name and version of the crate that it was built from. Empty if it does not say.
    pub built_from: String,
}

/// The entry that a library exports as a plugin.
pub enum EntryPoint {
    Rust(AbiHeaderRef),
    C(PluginFn),
}

impl Library {
    /// Opens the library, which runs its constructors.
    ///
    /// # Errors
    /// The linker's message.
    pub fn open(file: File) -> Result<Self, String> {
        let (path, keeps_path) = place(file);
        let handle = load(&path)?;
        // The path stays valid for the library, which may ask where it is.
        mem::forget(keeps_path);
        let entry = entry(&handle).map_err(|error| message(error, &path));
        let built_from = built_from(&handle);
        mem::forget(handle);
        Ok(Self {
            entry: entry?,
            built_from,
        })
    }
}

/// A path under which `dlopen` loads this file, and what must stay open for it.
///
/// `dlopen` takes only names. If it has opened a name before, it returns the library that it opened then, even if another file
/// has taken the name since. So it gets a name that was never used before: the file's name in its directory, which is named by a
/// new descriptor. This directory becomes `$ORIGIN`, so the library finds others beside it. If another file has taken the name,
/// only the descriptor of the file leads to it, and there is no `$ORIGIN`.
fn place(file: File) -> (PathBuf, File) {
    match named(&file) {
        Some((directory, path)) => (path, directory),
        None => (descriptor(&file), file),
    }
}

fn named(file: &File) -> Option<(File, PathBuf)> {
    let path = fs::read_link(descriptor(file)).ok()?;
    let mut options = OpenOptions::new();
    let options = options.read(true).custom_flags(libc::O_PATH);
    let directory = options.open(path.parent()?).ok()?;
    let path = descriptor(&directory).join(path.file_name()?);
    let (found, wanted) = (fs::metadata(&path).ok()?, file.metadata().ok()?);
    let same = (found.dev(), found.ino()) == (wanted.dev(), wanted.ino());
    same.then_some((directory, path))
}

fn descriptor(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

fn load(path: &Path) -> Result<Handle, String> {
    // Symbols stay separate from other plugins', all are resolved now, and no code is unloaded under running threads.
    let flags = RTLD_NOW | RTLD_LOCAL | libc::RTLD_NODELETE;
    // SAFETY: this runs the library's constructors. The probe in a child process found that they run.
    unsafe { Handle::open(Some(path), flags) }.map_err(|error| message(error, path))
}

/// A library that exports both is a plugin in Rust.
fn entry(handle: &Handle) -> Result<EntryPoint, libloading::Error> {
    // SAFETY: `export_plugin!` puts a static LibHeader under this name. It begins with an AbiHeader, whose magic `upgrade`
    // checks.
    if let Ok(header) = unsafe { handle.get::<AbiHeaderRef>(LOADER_SYMBOL) } {
        return Ok(EntryPoint::Rust(*header));
    }
    // SAFETY: `tenon_plugin.h` declares a function with this name and type.
    let exported = unsafe { handle.get::<PluginFn>(C_SYMBOL) };
    exported.map(|exported| EntryPoint::C(*exported))
}

fn built_from(handle: &Handle) -> String {
    // SAFETY: `export_plugin!` puts a text that ends with a zero byte under this name.
    let text = unsafe {
        let symbol = handle.get::<*const c_char>(CRATE_SYMBOL);
        symbol.map(|symbol| CStr::from_ptr(*symbol))
    };
    text.map_or_else(
        |_| String::new(),
        |text| text.to_string_lossy().into_owned(),
    )
}

/// The linker's message, without the name that we used for the file.
fn message(error: libloading::Error, path: &Path) -> String {
    let text = match error {
        libloading::Error::DlOpen { source } | libloading::Error::DlSym { source } => {
            source.to_string()
        }
        other => other.to_string(),
    };
    let path = path.to_string_lossy();
    text.trim_start_matches(&*path)
        .trim_start_matches(": ")
        .to_string()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Builds a shared library in a folder from C, and opens the file.
    fn build(folder: &Path, name: &str, source: &str, flags: &[&str]) -> File {
        let (path, code) = (folder.join(name), folder.join("source.c"));
        fs::write(&code, source).unwrap();
        let mut compiler = Command::new("cc");
        let compiler = compiler.args(["-shared", "-fPIC", "-o"]).arg(&path);
        let status = compiler.arg(code).args(flags).status();
        assert!(status.unwrap().success());
        File::open(path).unwrap()
    }

    /// What the library's function `answer` returns.
    fn answer(file: File) -> Result<i32, String> {
        let (path, keeps_path) = place(file);
        let handle = load(&path)?;
        mem::forget(keeps_path);
        // SAFETY: the sources below define it so.
        let answer = unsafe { *handle.get::<extern "C" fn() -> i32>("answer").unwrap() };
        Ok(answer())
    }

    #[test]
    fn a_library_finds_others_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let own = "int own(void) { return 7; }";
        build(folder, "libown.so.1", own, &["-Wl,-soname,libown.so.1"]);
        let source = "int own(void); int answer(void) { return own(); }";
        let (beside, dependency) = ("-Wl,-rpath,$ORIGIN", folder.join("libown.so.1"));
        let flags = [dependency.to_str().unwrap(), beside];
        let plugin = build(folder, "plugin.so", source, &flags);
        assert_eq!(answer(plugin), Ok(7));
    }

    #[test]
    fn the_open_file_is_loaded_whatever_has_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let build = |answer: i32| {
            let source = format!("int answer(void) {{ return {answer}; }}");
            build(folder, "plugin.so", &source, &[])
        };
        let first = build(1);
        fs::rename(folder.join("plugin.so"), folder.join("old.so")).unwrap();
        let second = build(2);
        fs::remove_file(folder.join("plugin.so")).unwrap();
        let third = build(3);
        let answers = [first, second, third].map(answer);
        assert_eq!(answers, [Ok(1), Ok(2), Ok(3)]);
    }
}
