//! Chooses the variant of a library that is used.

use std::{
    fs::{self, File, FileType, OpenOptions},
    io,
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::Path,
    sync::{Mutex, OnceLock},
};

use super::{
    InstalledPlugin, UnusedFile,
    cpu::{Cpu, CpuLevel},
    discover::{LibraryBuilds, Variant},
    elf,
    probe::{ProbeSettings, Probed, Refusal},
};

/// Tries the variants that the CPU can run, the highest level first, until one can be used.
///
/// # Errors
/// If none can be used: every variant with its reason.
pub fn try_out(
    library: &LibraryBuilds,
    cpu: &Cpu,
    probe: &ProbeSettings,
) -> Result<InstalledPlugin, Vec<UnusedFile>> {
    let SelectedBuilds {
        to_try,
        mut passed_over,
    } = select(library, cpu);
    for (at, variant) in to_try.iter().enumerate() {
        match try_variant(&variant.path, cpu, probe) {
            Ok((library, Probed { facts, answers })) => {
                let lower = to_try[at + 1..].iter();
                passed_over.extend(lower.map(|lower| lower_than(variant, lower)));
                return Ok(InstalledPlugin {
                    facts,
                    answers,
                    later_answers: Mutex::default(),
                    path: variant.path.clone(),
                    level: variant.level,
                    passed_over,
                    library,
                    backend: OnceLock::new(),
                });
            }
            Err(Refusal { reason, details }) => {
                let unused = UnusedFile::new(&variant.path, &reason, details);
                tracing::warn!("{}", unused.reason);
                passed_over.push(unused);
            }
        }
    }
    if to_try.is_empty() {
        for unused in &passed_over {
            tracing::warn!("{}", unused.reason);
        }
    }
    Err(passed_over)
}

/// The variants of a library, divided by what a CPU can run.
#[derive(Debug)]
struct SelectedBuilds<'a> {
    /// Variants to try, the highest level first.
    to_try: Vec<&'a Variant>,
    /// Variants that this CPU cannot run.
    passed_over: Vec<UnusedFile>,
}

fn select<'a>(library: &'a LibraryBuilds, cpu: &Cpu) -> SelectedBuilds<'a> {
    let mut selection = SelectedBuilds {
        to_try: Vec::new(),
        passed_over: Vec::new(),
    };
    for variant in library.0.iter().rev() {
        let lacks = |level: CpuLevel| Some((level, cpu.lacks(level.features())?));
        match variant.level.and_then(lacks) {
            Some((level, lacks)) => {
                let reason = format!("is for {}, and this CPU lacks {lacks}", level.name());
                let unused = UnusedFile::new(&variant.path, &reason, String::new());
                selection.passed_over.push(unused);
            }
            None => selection.to_try.push(variant),
        }
    }
    selection
}

fn lower_than(used: &Variant, lower: &Variant) -> UnusedFile {
    let reason = format!(
        "is for lesser CPUs than this one, which uses {}",
        used.path.display()
    );
    UnusedFile::new(&lower.path, &reason, String::new())
}

fn try_variant(path: &Path, cpu: &Cpu, probe: &ProbeSettings) -> Result<(File, Probed), Refusal> {
    let library = probe.trusted.verified(path, open(path)?);
    let library = library.map_err(|error| Refusal::new(error.to_string()))?;
    elf::check(&library, cpu).map_err(|error| Refusal::new(error.to_string()))?;
    let probed = probe.run(path, &library)?;
    Ok((library, probed))
}

/// Opens a regular file. Other kinds are refused: reading them may block forever, and opening them may have effects.
fn open(path: &Path) -> Result<File, Refusal> {
    let unreadable = |error: io::Error| {
        Refusal::new(format!(
            "cannot be read ({error}): check its permissions, or where it links to"
        ))
    };
    let kind = fs::metadata(path).map_err(unreadable)?.file_type();
    if !kind.is_file() {
        let reason = format!("is {}, not a file: move it elsewhere", name(kind));
        return Err(Refusal::new(reason));
    }
    // If a pipe takes the file's place at this moment, opening does not block, and the checks of the content find out.
    let mut options = OpenOptions::new();
    let options = options.read(true).custom_flags(libc::O_NONBLOCK);
    options.open(path).map_err(unreadable)
}

fn name(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_dir() => "a directory",
        kind if kind.is_fifo() => "a named pipe",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, process::Command};

    use super::*;

    #[cfg(target_arch = "x86_64")]
    fn library(levels: &[Option<CpuLevel>]) -> LibraryBuilds {
        let variant = |level: &Option<CpuLevel>| {
            Variant::new(level.map_or("plain", CpuLevel::name).into(), *level)
        };
        LibraryBuilds(levels.iter().map(variant).collect())
    }

    /// Checks which variants a CPU tries, and the reason given for the first variant that it passes over.
    #[cfg(target_arch = "x86_64")]
    fn check(levels: &[Option<CpuLevel>], cpu: &Cpu, expected: &[&str], passed_over: &str) {
        let library = library(levels);
        let selection = select(&library, cpu);
        let to_try = selection.to_try.iter().map(|variant| &variant.path);
        assert!(to_try.eq(expected.iter().map(Path::new)), "{selection:?}");
        let rest = levels.len() - expected.len();
        assert_eq!(selection.passed_over.len(), rest);
        let first = selection.passed_over.first();
        let first = first.map_or("", |unused| &unused.reason);
        assert!(first.contains(passed_over), "{first}");
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_highest_level_that_a_cpu_has_comes_first() {
        use CpuLevel::{V2, V3, V4};
        let all = [None, Some(V2), Some(V3), Some(V4)];
        let cpu = |features| Cpu { features };
        let [v2, v3, v4] = [V2, V3, V4].map(|level| cpu(level.features()));
        let names = ["x86-64-v4", "x86-64-v3", "x86-64-v2", "plain"];
        check(&all, &v4, &names, "");
        let v4_not = "x86-64-v4 is for x86-64-v4, and this CPU lacks ";
        check(&all, &v3, &names[1..], v4_not);
        check(&all, &v2, &names[2..], v4_not);
        check(&all, &cpu(0), &names[3..], v4_not);
        check(&[None, Some(V4)], &v2, &["plain"], v4_not);
        check(&[Some(V3), Some(V4)], &v2, &[], v4_not);
        check(
            &[Some(V3)],
            &v2,
            &[],
            "x86-64-v3 is for x86-64-v3, and this CPU lacks AVX, AVX2",
        );
        // Like a virtual machine that hides some features.
        let holes = cpu(V4.features() & !V3.features() | V2.features());
        check(&all, &holes, &names[2..], "lacks AVX, AVX2, BMI1");
    }

    #[test]
    fn only_regular_files_are_opened_and_links_to_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let link = |to: &str, name| std::os::unix::fs::symlink(to, path(name)).unwrap();
        fs::write(path("file.so"), "").unwrap();
        fs::create_dir(path("directory.so")).unwrap();
        let made = Command::new("mkfifo").arg(path("pipe.so")).status();
        assert!(made.unwrap().success());
        let _socket = UnixListener::bind(path("socket.so")).unwrap();
        link("file.so", "link.so");
        link("pipe.so", "link-to-pipe.so");
        link("missing.so", "dangling.so");
        link("loop.so", "loop.so");
        link("/dev/null", "device.so");

        assert!(open(&path("file.so")).is_ok());
        assert!(open(&path("link.so")).is_ok());
        for (name, expected) in [
            ("directory.so", "is a directory, not a file"),
            ("pipe.so", "is a named pipe, not a file"),
            ("link-to-pipe.so", "is a named pipe, not a file"),
            ("socket.so", "is a socket, not a file"),
            ("device.so", "is a device, not a file"),
            ("dangling.so", "cannot be read (No such file"),
            ("loop.so", "cannot be read (Too many levels"),
        ] {
            let reason = open(&path(name)).unwrap_err().reason;
            assert!(reason.contains(expected), "{reason}");
        }
    }
}
