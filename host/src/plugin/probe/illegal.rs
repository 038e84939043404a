//! Illegal instructions: the signal handler of a child (a trial or a worker) reports the bytes, and the host explains them.

use std::{
    ffi::{c_int, c_void},
    io::{self, Write},
    mem,
    os::fd::{AsFd, IntoRawFd},
    ptr, slice,
    sync::atomic::{AtomicI32, Ordering},
};

use super::messages::{TrialMessage, TrialStep};

/// Most bytes of an instruction.
const MAX_LEN: usize = 15;
/// Smallest page size. An instruction's bytes are not read beyond its page, because the next page may be missing.
const PAGE_BYTES: usize = 4096;

/// File descriptor that the handler writes to.
static HOST: AtomicI32 = AtomicI32::new(-1);

/// Installs a handler that reports the instruction as `TrialMessage::Illegal` before this process dies of SIGILL.
///
/// # Errors
/// The file descriptor cannot be duplicated.
pub fn report_to(host: &impl AsFd) -> io::Result<()> {
    // The file descriptor stays open as long as there may be a signal.
    let host = host.as_fd().try_clone_to_owned()?;
    HOST.store(host.into_raw_fd(), Ordering::Relaxed);
    // SAFETY: all zeros is an action without flags and mask. The handler calls only what is safe in a signal handler.
    let result = unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = report as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGILL, &action, ptr::null_mut())
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn report(_signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel passes a valid pointer.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    // A code of 0 or less means that a process sent the signal. Then there is no address.
    if code > 0 {
        let len = MAX_LEN.min(PAGE_BYTES - address % PAGE_BYTES);
        // SAFETY: the CPU has just read this address, and the bytes are in one page.
        let bytes = unsafe { slice::from_raw_parts(address as *const u8, len) };
        write_message(bytes);
    }
    // SAFETY: no pointers are passed. The signal is delivered again when this handler returns, and ends the process.
    unsafe {
        libc::signal(libc::SIGILL, libc::SIG_DFL);
        libc::raise(libc::SIGILL);
    }
}

/// Writes the message without allocating, because the interrupted code may have been allocating.
fn write_message(bytes: &[u8]) {
    let mut line = [0; 96];
    let size = line.len();
    let mut rest = &mut line[..];
    // The line has room for the whole message.
    let _ = rest.write_all(b"{\"Illegal\":[");
    for (at, byte) in bytes.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let _ = write!(rest, "{comma}{byte}");
    }
    let _ = rest.write_all(b"]}\n");
    let len = size - rest.len();
    // SAFETY: the buffer has `len` bytes.
    unsafe { libc::write(HOST.load(Ordering::Relaxed), line.as_ptr().cast(), len) };
}

/// Explains the line that the handler printed in a child. The text ends a sentence that begins with the library's name. None: the
/// handler has not written the line.
pub fn reason_in(line: &[u8]) -> Option<String> {
    match serde_json::from_slice(line) {
        Ok(TrialMessage::Illegal(bytes)) => Some(reason(&bytes, None)),
        _ => None,
    }
}

/// Why a library that executed these bytes is not used, and in which step it did, if known. The text ends a sentence that begins with
/// the library's name.
pub fn reason(bytes: &[u8], step: Option<&TrialStep>) -> String {
    let when = step.map_or_else(String::new, |step| format!(" while {step}"));
    match explain(bytes) {
        InstructionKind::Needs {
            features,
            instruction,
        } => format!(
            "needs {features}, which this CPU or its kernel does not offer (`{instruction}`{when}): use a build for this CPU, \
             or put the file into the folder of its level (such as x86-64-v4)"
        ),
        InstructionKind::Trap => format!(
            "ended itself{when} (with the illegal instruction of `__builtin_trap` and the like): tell its author"
        ),
        InstructionKind::Unknown => format!(
            "executes an instruction that this CPU does not know{when} ({bytes:02x?}): use a build for this CPU"
        ),
    }
}

/// Kinds of instructions that a CPU does not execute.
#[derive(Debug, PartialEq, Eq)]
enum InstructionKind {
    /// An instruction of an extension.
    Needs {
        features: String,
        instruction: String,
    },
    /// An instruction that is illegal on purpose.
    Trap,
    Unknown,
}

#[cfg(target_arch = "x86_64")]
fn explain(bytes: &[u8]) -> InstructionKind {
    use iced_x86::{Code, Decoder, DecoderOptions};

    let instruction = Decoder::new(64, bytes, DecoderOptions::NONE).decode();
    let features = instruction.cpuid_features().iter();
    let features: Vec<String> = features.map(|feature| format!("{feature:?}")).collect();
    match instruction.code() {
        Code::INVALID => InstructionKind::Unknown,
        Code::Ud2 => InstructionKind::Trap,
        _ => InstructionKind::Needs {
            features: features.join(" and "),
            instruction: format!("{:?}", instruction.mnemonic()).to_lowercase(),
        },
    }
}

/// On other processors the extension of an instruction is not looked up.
#[cfg(not(target_arch = "x86_64"))]
fn explain(bytes: &[u8]) -> InstructionKind {
    // `udf` is all zeros except for a 16-bit operand.
    match bytes {
        [_, _, 0, 0, ..] if cfg!(target_arch = "aarch64") => InstructionKind::Trap,
        _ => InstructionKind::Unknown,
    }
}

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: &str) {
        let reason = reason(bytes, Some(&TrialStep::Init));
        assert!(reason.contains(expected), "{reason} is not: {expected}");
    }

    #[test]
    fn an_extension_is_named_by_an_instruction_of_it() {
        check(
            &[0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc0],
            "needs AVX512F, which this CPU or its kernel does not offer (`vaddps` while starting (`init`))",
        );
        check(&[0x62, 0xf1, 0x7c, 0x28, 0x58, 0xc0], "AVX512VL");
        check(&[0x62, 0xf2, 0x7d, 0x48, 0x50, 0xc0], "needs AVX512_VNNI,");
        check(&[0xc4, 0xe2, 0x7d, 0x50, 0xc0], "needs AVX_VNNI,");
        check(&[0xc5, 0xfc, 0x58, 0xc0], "needs AVX,");
        check(&[0xc5, 0xfd, 0xfe, 0xc0], "needs AVX2,");
        check(&[0xc4, 0xe2, 0x7d, 0x98, 0xc0], "needs FMA,");
        check(&[0xc4, 0xe2, 0x7d, 0x13, 0xc0], "needs F16C,");
        check(&[0xc4, 0xe2, 0xf8, 0xf2, 0xc0], "needs BMI1,");
        check(&[0xc4, 0xe2, 0xfb, 0xf5, 0xc0], "needs BMI2,");
        check(&[0xc4, 0xe2, 0x78, 0x49, 0x00], "needs AMX_TILE,");
        check(&[0xc4, 0xe2, 0x73, 0x5e, 0xc2], "needs AMX_INT8,");
        check(&[0x66, 0x0f, 0x38, 0x17, 0xc0], "needs SSE4_1,");
    }

    #[test]
    fn traps_and_unknown_bytes_are_no_extension() {
        check(&[0x0f, 0x0b], "ended itself while starting (`init`)");
        check(
            &[0x06, 0x01],
            "does not know while starting (`init`) ([06, 01])",
        );
        check(&[0x62], "does not know");
        check(&[], "does not know");
    }

    #[test]
    fn the_line_of_the_handler_is_a_message() {
        use std::{
            io::{BufRead, BufReader},
            os::unix::net::UnixStream,
        };

        let (host, handler) = UnixStream::pair().unwrap();
        HOST.store(handler.into_raw_fd(), Ordering::Relaxed);
        let bytes = [255; MAX_LEN];
        write_message(&bytes);
        let mut line = String::new();
        BufReader::new(host).read_line(&mut line).unwrap();
        let message: TrialMessage = serde_json::from_str(&line).unwrap();
        assert!(matches!(message, TrialMessage::Illegal(sent) if sent == bytes));
    }

    #[test]
    fn the_line_of_a_worker_is_told_from_what_libraries_print() {
        let reason = reason_in(b"{\"Illegal\":[15,11]}\n");
        assert!(reason.unwrap().starts_with("ended itself (with"));
        for other in ["{\"Done\":{\"pid\":1}}", "Illegal", ""] {
            assert_eq!(reason_in(other.as_bytes()), None, "{other}");
        }
    }
}
