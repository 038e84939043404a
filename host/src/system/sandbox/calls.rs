//! The system calls that are refused in a sandbox, with a seccomp filter. They fail with EACCES.

use std::{env, io};

use libc::{BPF_ABS, BPF_JGE, BPF_JMP, BPF_JUMP, BPF_K, BPF_LD, BPF_RET, BPF_STMT, BPF_W};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};

/// System calls that are refused with all arguments: those that connect, reach other processes or change the machine. `io_uring`
/// would do the work of other calls without passing the filter.
const REFUSED: &[i64] = &[
    libc::SYS_connect,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_perf_event_open,
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    libc::SYS_open_by_handle_at,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
];

/// System calls that change the rights, the owner, the times or the attributes of a file by its path, which Landlock does not
/// restrict. The calls that do so by a descriptor stay, because libraries copy files with them; a process has only descriptors of files
/// that it may open.
const ATTRIBUTES_BY_PATH: &[i64] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    libc::SYS_fchownat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_futimesat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    SETXATTRAT,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    REMOVEXATTRAT,
    FILE_SETATTR,
];

/// Numbers of newer system calls, which are the same for all processors. The crate `libc` does not have them for each.
const FCHMODAT2: i64 = 452;
const SETXATTRAT: i64 = 463;
const REMOVEXATTRAT: i64 = 466;
const FILE_SETATTR: i64 = 469;

/// The system calls that make sockets. A socket that needs a connection is allowed if it is a Unix socket, because CUDA makes
/// one to listen at. It reaches nobody, as `connect` is refused. A Unix socket for datagrams would reach the log, systemd and
/// others without a connection.
const SOCKETS: [i64; 2] = [libc::SYS_socket, libc::SYS_socketpair];

/// The bits of a socket's type that are no flags.
const SOCKET_TYPE: u64 = 0xf;

/// The first number of the x32 system calls. They do the same as others under numbers that the filter does not list.
const X32: u32 = 0x4000_0000;

/// Refuses the system calls for this thread and those that it starts. Returns a sentence if the kernel cannot do so.
pub fn restrict() -> Result<Option<String>, BackendError> {
    let filter = filter()?;
    Ok(install(&filter).err().map(|error| {
        format!(
            "this kernel does not restrict system calls (seccomp: {error}): models' workers can use the network"
        )
    }))
}

fn filter() -> Result<Vec<libc::sock_filter>, BackendError> {
    let mut rules: Vec<(i64, Vec<SeccompRule>)> = Vec::new();
    let refused = REFUSED.iter().chain(ATTRIBUTES_BY_PATH);
    rules.extend(refused.map(|call| (*call, Vec::new())));
    rules.push((libc::SYS_utimensat, vec![times_by_path()?]));
    rules.push((libc::SYS_prlimit64, vec![limits_of_others()?]));
    for call in SOCKETS {
        rules.push((call, refused_sockets()?));
    }
    let filter = SeccompFilter::new(
        rules.into_iter().collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EACCES as u32),
        env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    let program = program.iter().map(|step| libc::sock_filter {
        code: step.code,
        jt: step.jt,
        jf: step.jf,
        k: step.k,
    });
    Ok(without_x32().into_iter().chain(program).collect())
}

/// A change of times by a path. Without a path the call changes those of a descriptor.
fn times_by_path() -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![is_not_null(1)?])
}

/// New limits for another process. Landlock does not keep them from the server.
fn limits_of_others() -> Result<SeccompRule, BackendError> {
    let of_other = condition(0, SeccompCmpOp::Ne, 0)?;
    SeccompRule::new(vec![of_other, is_not_null(2)?])
}

/// All sockets except Unix sockets with connections.
fn refused_sockets() -> Result<Vec<SeccompRule>, BackendError> {
    let of_type = |kind: i32| condition(1, SeccompCmpOp::MaskedEq(SOCKET_TYPE), kind);
    let refused = [
        condition(0, SeccompCmpOp::Ne, libc::AF_UNIX),
        of_type(libc::SOCK_DGRAM),
        // The kernel turns this type into a socket for datagrams.
        of_type(libc::SOCK_RAW),
    ];
    let rules = refused.map(|condition| SeccompRule::new(vec![condition?]));
    rules.into_iter().collect()
}

fn is_not_null(argument: u8) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)
}

fn condition(
    argument: u8,
    operator: SeccompCmpOp,
    value: i32,
) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value as u64)
}

/// The first steps of the filter. They load the call's number, and make the x32 calls unknown.
fn without_x32() -> [libc::sock_filter; 3] {
    let unknown = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    // SAFETY: both only fill in a structure.
    unsafe {
        [
            BPF_STMT((BPF_LD | BPF_W | BPF_ABS) as u16, 0),
            BPF_JUMP((BPF_JMP | BPF_JGE | BPF_K) as u16, X32, 0, 1),
            BPF_STMT((BPF_RET | BPF_K) as u16, unknown),
        ]
    }
}

/// Installs a filter. `SPEC_ALLOW` keeps the CPU's speculation, which kernels before 5.16 otherwise restrict for processes
/// with a filter: computing would get slower.
fn install(filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies the program, and does not write to it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            &raw const program,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
