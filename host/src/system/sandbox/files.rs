//! The files that a sandboxed process may use, restricted with Landlock.

use std::{
    env, fs, mem,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, Scope, make_bitflags, path_beneath_rules,
};

/// The version of Landlock whose restrictions are used. Later versions restrict sockets, which `calls.rs` does on all kernels.
const VERSION: ABI = ABI::V7;

/// Paths that programs, the dynamic linker, loaders of GPU drivers and the clock read. Files about users, hosts and certificates
/// are not among them, because there is no network. Other processes' memory and environment below `/proc` stay closed, because
/// Landlock refuses the accesses of a debugger, and `mod.rs` gives up the privileges that would still have them.
const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/nix/store",
    "/run/opengl-driver",
    "/opt/cuda",
    "/opt/intel",
    "/opt/rocm",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/etc/nvidia",
    "/etc/OpenCL",
    "/etc/vulkan",
    "/proc",
    "/sys",
    // This program, under any name.
    "/proc/self/exe",
];

/// Devices that store nothing.
const PLAIN_DEVICES: &[&str] = &[
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];

/// Prefixes of the names of accelerator devices.
const ACCELERATORS: &[&str] = &[
    "accel",
    "davinci",
    "devmm_svm",
    "dri",
    "dxg",
    "hisi_hdc",
    "kfd",
    "neuron",
    "nvgpu",
    "nvhost",
    "nvidia",
    "nvmap",
];

/// Shared memory. CUDA and OpenMP runtimes create files there.
const SHARED_MEMORY: &str = "/dev/shm";

/// The threads of this process. Writing there names them: CUDA starts only if it can name its threads.
const THREADS: &str = "/proc/self/task";

/// Restricts this thread, and those that it starts, to these paths and those of the system. Also refuses TCP, and signals to
/// processes outside of the sandbox. Returns a sentence if the kernel cannot do all of this.
pub fn restrict(
    readable: &[PathBuf],
    writable: &[PathBuf],
) -> Result<Option<String>, RulesetError> {
    let shared = PathBuf::from(SHARED_MEMORY);
    let linked = readable.iter().flat_map(|path| links(path));
    let rules = Ruleset::default()
        .handle_access(AccessFs::from_all(VERSION))?
        .handle_access(AccessNet::from_all(VERSION))?
        .scope(Scope::from_all(VERSION))?
        .create()?
        .add_rules(path_beneath_rules(SYSTEM, reading()))?
        .add_rules(path_beneath_rules(library_path(), reading()))?
        .add_rules(path_beneath_rules(readable, reading()))?
        .add_rules(path_beneath_rules(linked, reading()))?
        .add_rules(path_beneath_rules(PLAIN_DEVICES, device()))?
        .add_rules(path_beneath_rules(accelerators(), device()))?
        .add_rules(path_beneath_rules([shared], writing()))?
        .add_rules(path_beneath_rules(writable, writing()))?;
    let status = match PathFd::new(THREADS) {
        Ok(threads) => {
            let rules = rules.add_rule(PathBeneath::new(&threads, AccessFs::WriteFile))?;
            // The rule is bound to the kernel's inode of the directory, which an open file keeps in memory.
            mem::forget(threads);
            rules.restrict_self()?
        }
        Err(_) => rules.restrict_self()?,
    };
    Ok(what_is_missing(status.landlock))
}

fn reading() -> BitFlags<AccessFs> {
    AccessFs::from_read(VERSION)
}

/// Rights in a directory to write to. A new file cannot be executed, and cannot be a device: a device that root makes could open
/// any disk.
fn writing() -> BitFlags<AccessFs> {
    AccessFs::from_all(VERSION) & !make_bitflags!(AccessFs::{Execute | MakeChar | MakeBlock})
}

fn device() -> BitFlags<AccessFs> {
    make_bitflags!(AccessFs::{ReadFile | WriteFile | ReadDir | IoctlDev})
}

/// The directories that the dynamic linker searches first.
fn library_path() -> Vec<PathBuf> {
    let path = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    env::split_paths(&path).collect()
}

fn accelerators() -> impl Iterator<Item = PathBuf> {
    entries(Path::new("/dev")).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        ACCELERATORS.iter().any(|begin| name.starts_with(begin))
    })
}

/// The links in a directory and in the directories in it. Empty if the path is a file.
fn links(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let folders = entries(directory).filter(|path| path.is_dir() && !path.is_symlink());
    let inner = folders.flat_map(|folder| entries(&folder).collect::<Vec<_>>());
    let all = entries(directory).chain(inner);
    all.filter(|path| path.is_symlink())
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

fn what_is_missing(landlock: LandlockStatus) -> Option<String> {
    let missing = match landlock {
        LandlockStatus::Available { effective_abi, .. } if effective_abi < ABI::V3 => {
            "this kernel is older than Linux 6.2: models' workers can truncate any file of the server's user, and send signals to its processes"
        }
        LandlockStatus::Available { effective_abi, .. } if effective_abi < ABI::V6 => {
            "this kernel is older than Linux 6.12: models' workers can send signals to processes of the server's user"
        }
        LandlockStatus::Available { .. } => return None,
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => {
            "Landlock is off or missing in this kernel: models' workers can read and write the files of the server's user (it needs Linux 5.13, and `landlock` in /sys/kernel/security/lsm)"
        }
    };
    Some(missing.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kernel_has_its_sentence() {
        let available = |effective_abi| LandlockStatus::Available {
            effective_abi,
            kernel_abi: None,
        };
        for (status, expected) in [
            (LandlockStatus::NotImplemented, Some("read and write")),
            (LandlockStatus::NotEnabled, Some("read and write")),
            (available(ABI::V2), Some("truncate")),
            (available(ABI::V5), Some("send signals")),
            (available(VERSION), None),
        ] {
            let sentence = what_is_missing(status);
            let matches = match (&sentence, expected) {
                (Some(sentence), Some(words)) => sentence.contains(words),
                (sentence, expected) => sentence.is_none() && expected.is_none(),
            };
            assert!(matches, "{sentence:?} for {status:?}");
        }
    }
}
