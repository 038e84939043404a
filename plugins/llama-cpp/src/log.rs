//! llama.cpp's log: lines go to the host's log, and the reason of a failure goes into the returned error.

use std::{
    cell::RefCell,
    ffi::{CStr, c_char},
    sync::OnceLock,
};

use llama_cpp_sys_2::{
    GGML_LOG_LEVEL_CONT, GGML_LOG_LEVEL_ERROR, GGML_LOG_LEVEL_INFO, GGML_LOG_LEVEL_WARN,
    ggml_log_level,
};
use tenon_plugin_api::{Code, Error, Host, LogLevel};

use crate::shim;

const TARGET: &str = "llama.cpp";

/// The host whose log is used. llama.cpp has one log for the process, and never says which model a line is about.
static HOST: OnceLock<Host> = OnceLock::new();

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

#[derive(Default)]
struct State {
    line: LogLine,
    capture: Option<Capture>,
    /// The first error since the capture began. Later errors only name the callers that passed it on.
    reason: String,
    watcher: Option<Watcher>,
}

/// Receives whole lines, and returns whether to go on.
type Watcher = Box<dyn FnMut(&str) -> bool>;

#[derive(Clone, Copy, PartialEq)]
enum Capture {
    /// Lines are also logged. Errors are logged as details, because the caller returns the reason.
    Logged,
    /// Nothing is logged.
    Silent,
}

/// From now on sends llama.cpp's log to `host`, and also the reason when llama.cpp ends the process.
pub fn install(host: Host) {
    // A second backend in the process has the same host.
    let _ = HOST.set(host);
    redirect();
}

/// Stops llama.cpp from writing its log and its reason to the standard error.
pub fn redirect() {
    shim::tenon_on_text(on_text);
    shim::tenon_on_fatal(on_fatal);
}

/// Runs `call`, which logs as usual, and returns the reason that llama.cpp gave if it failed.
pub fn with_reason<R>(call: impl FnOnce() -> R) -> (R, String) {
    capture(Capture::Logged, call)
}

/// Runs `call` without logging, and returns the reason that llama.cpp gave if it failed. Allocates only if it did.
pub fn silently<R>(call: impl FnOnce() -> R) -> (R, String) {
    capture(Capture::Silent, call)
}

/// Like [`silently`], but every line goes to `watcher`. Use it only for [`shim::quantize`]: no other call can be stopped at a
/// line of the log.
pub fn watched<R>(
    watcher: impl FnMut(&str) -> bool + 'static,
    call: impl FnOnce() -> R,
) -> (R, String) {
    STATE.with_borrow_mut(|state| state.watcher = Some(Box::new(watcher)));
    let result = silently(call);
    STATE.with_borrow_mut(|state| state.watcher = None);
    result
}

/// An error for something that llama.cpp refused, with the reason that [`with_reason`] and the like returned.
pub fn failure(what: &str, reason: &str) -> Error {
    let code = match reason.contains("alloc") {
        true => Code::NO_MEMORY,
        false => Code::INVALID,
    };
    match reason {
        "" => Error::new(code, format!("{what}, and gives no reason")),
        reason => Error::new(code, format!("{what}: {reason}")),
    }
}

fn capture<R>(capture: Capture, call: impl FnOnce() -> R) -> (R, String) {
    STATE.with_borrow_mut(|state| state.capture = Some(capture));
    let result = call();
    let reason = STATE.with_borrow_mut(|state| {
        state.capture = None;
        std::mem::take(&mut state.reason)
    });
    (result, reason)
}

unsafe extern "C" fn on_text(level: ggml_log_level, text: *const c_char) -> bool {
    // SAFETY: llama.cpp passes a C string that lives for the call.
    let text = unsafe { CStr::from_ptr(text) };
    let mut go_on = true;
    let line = STATE.with_borrow_mut(|state| {
        let silent = state.capture == Some(Capture::Silent) && state.watcher.is_none();
        if silent && level != GGML_LOG_LEVEL_ERROR {
            return None;
        }
        let (level, line) = state.line.push(level, &text.to_string_lossy())?;
        if let Some(watcher) = &mut state.watcher {
            go_on = watcher(&line);
        }
        state.judge(level, line)
    });
    if let (Some((level, line)), Some(host)) = (line, HOST.get()) {
        host.log(level, TARGET, &line);
    }
    go_on
}

unsafe extern "C" fn on_fatal(reason: *const c_char) {
    // SAFETY: llama.cpp passes a C string that lives for the call.
    let reason = unsafe { CStr::from_ptr(reason) }.to_string_lossy();
    if let Some(host) = HOST.get() {
        let message = format!("llama.cpp ends the process: {}", reason.trim_end());
        host.log(LogLevel::ERROR, TARGET, &message);
    }
}

impl State {
    /// Whether and how to log a line.
    fn judge(&mut self, level: ggml_log_level, line: String) -> Option<(LogLevel, String)> {
        let failed = level == GGML_LOG_LEVEL_ERROR;
        if failed && self.capture.is_some() && self.reason.is_empty() {
            self.reason = without_function(&line).to_owned();
        }
        match self.capture {
            Some(Capture::Silent) => None,
            Some(Capture::Logged) if failed => Some((LogLevel::DEBUG, line)),
            _ => Some((host_level(level, &line), line)),
        }
    }
}

/// Joins pieces of text into lines.
#[derive(Default)]
struct LogLine {
    level: ggml_log_level,
    text: String,
}

impl LogLine {
    /// Appends a piece. Returns the whole line once its end is there.
    fn push(&mut self, level: ggml_log_level, text: &str) -> Option<(ggml_log_level, String)> {
        if level != GGML_LOG_LEVEL_CONT {
            self.level = level;
        }
        self.text.push_str(text);
        if !self.text.ends_with('\n') {
            return None;
        }
        let line = std::mem::take(&mut self.text);
        Some((self.level, line.trim_end().to_owned())).filter(|(_, line)| !line.is_empty())
    }
}

fn host_level(level: ggml_log_level, line: &str) -> LogLevel {
    // The line is about the whole pool, which many sequences share. A single sequence never gets longer than the host was
    // granted.
    let about_pool = line.ends_with("possible training context overflow");
    match level {
        GGML_LOG_LEVEL_ERROR => LogLevel::ERROR,
        GGML_LOG_LEVEL_WARN if !about_pool => LogLevel::WARN,
        GGML_LOG_LEVEL_WARN | GGML_LOG_LEVEL_INFO => LogLevel::DEBUG,
        _ => LogLevel::TRACE,
    }
}

/// A line without the name of the C++ function, with which llama.cpp begins its lines.
fn without_function(line: &str) -> &str {
    match line.split_once(": ") {
        Some((function, rest)) if !function.contains(' ') => rest,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_lines_with_the_level_of_their_beginning() {
        let mut line = LogLine::default();
        assert_eq!(line.push(GGML_LOG_LEVEL_WARN, "tensors: "), None);
        assert_eq!(line.push(GGML_LOG_LEVEL_CONT, "12"), None);
        let whole = line.push(GGML_LOG_LEVEL_CONT, " of 30\n");
        assert_eq!(
            whole,
            Some((GGML_LOG_LEVEL_WARN, "tensors: 12 of 30".into()))
        );
        assert_eq!(line.push(GGML_LOG_LEVEL_INFO, "\n"), None);
    }

    #[test]
    fn the_first_error_of_a_call_is_its_reason() {
        let error = |text: &CStr| {
            // SAFETY: the text is a C string.
            unsafe { on_text(GGML_LOG_LEVEL_ERROR, text.as_ptr()) };
        };
        let ((), reason) = silently(|| {
            error(c"load_tensors: missing tensor 'a': b\n");
            error(c"load: failed to load model\n");
        });
        assert_eq!(reason, "missing tensor 'a': b");
        assert_eq!(silently(|| ()).1, "");
    }
}
