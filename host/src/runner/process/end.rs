//! How a worker ended, in words.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

/// Why a worker ended. `printed` is what it printed just before.
pub fn description(status: Option<ExitStatus>, printed: Option<String>) -> String {
    let how = match status {
        None => "it does not react to SIGKILL".to_owned(),
        Some(status) => match (status.signal(), status.code()) {
            (Some(signal), _) => name(signal),
            (_, Some(code)) => format!("it exited with {code}"),
            _ => status.to_string(),
        },
    };
    match printed {
        Some(line) => format!("the model's worker ended: {how}, {line}"),
        None => format!("the model's worker ended: {how}"),
    }
}

/// The name of a signal.
fn name(signal: i32) -> String {
    let name = match signal {
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGILL => "SIGILL",
        libc::SIGINT => "SIGINT",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGSYS => "SIGSYS",
        libc::SIGTERM => "SIGTERM",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGXCPU => "SIGXCPU",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_words() {
        let check = |raw: i32, printed: Option<&str>, expected| {
            let status = ExitStatus::from_raw(raw);
            let printed = printed.map(str::to_owned);
            assert_eq!(description(Some(status), printed), expected);
        };
        check(
            libc::SIGABRT,
            Some("GGML_ASSERT(n > 0) failed"),
            "the model's worker ended: SIGABRT, GGML_ASSERT(n > 0) failed",
        );
        check(libc::SIGSEGV, None, "the model's worker ended: SIGSEGV");
        check(3 << 8, None, "the model's worker ended: it exited with 3");
        check(40, None, "the model's worker ended: signal 40");
    }
}
