//! Calls functions of a plugin in C, and collects what they put into sinks.

use std::ffi::c_void;

use tenon_plugin_api::{
    Code, Error, Result,
    abi::c::{self, Growing, Sink},
};

use super::read;
use crate::plugin::fault::plugin_fault;

/// A value that was read, or a text that says what is wrong with it.
type ReadResult<T> = std::result::Result<T, String>;

/// A struct that a plugin puts into a sink.
pub trait SinkRecord: Growing {
    /// The struct's content as an ordinary Rust type.
    type Plain;

    /// Copies the content.
    ///
    /// # Safety
    /// All pointers in it are NULL or valid.
    unsafe fn plain(&self) -> ReadResult<Self::Plain>;
}

/// An error that is the plugin's fault: `function` gave something wrong.
pub fn gave(function: &str, what: &str) -> Error {
    plugin_fault(&format!("gave {what} in `{function}`"))
}

/// A function that must not be NULL. Objects without it are refused when they are made.
pub fn there<F>(function: Option<F>, name: &str) -> Result<F> {
    function.ok_or_else(|| gave(name, "NULL instead of a function"))
}

/// Calls a function that may fail.
pub fn call(name: &str, function: impl FnOnce(Sink<c::Error>) -> u32) -> Result<()> {
    let mut told = None;
    let mut note = |error: *const c::Error| {
        // SAFETY: the plugin hands over a valid error.
        told = Some(unsafe { read::grown(error).and_then(|error| message(&error)) });
    };
    match function(sink(&mut note)) {
        0 => Ok(()),
        code => Err(failed(name, Code(code), told)),
    }
}

/// Calls a function that puts any number of records into a sink.
pub fn collect<R: SinkRecord>(
    name: &str,
    function: impl FnOnce(Sink<R>, Sink<c::Error>) -> u32,
) -> Result<Vec<R::Plain>> {
    let mut all = Ok(Vec::new());
    let mut take = |record: *const R| {
        let Ok(records) = &mut all else { return };
        // SAFETY: the plugin puts valid records.
        match unsafe { read::grown(record).and_then(|record| record.plain()) } {
            Ok(plain) => records.push(plain),
            Err(what) => all = Err(what),
        }
    };
    call(name, |error| function(sink(&mut take), error))?;
    all.map_err(|what: String| gave(name, &what))
}

/// Calls a function that puts exactly one record into a sink.
pub fn one<R: SinkRecord>(
    name: &str,
    function: impl FnOnce(Sink<R>, Sink<c::Error>) -> u32,
) -> Result<R::Plain> {
    let mut all = collect(name, function)?;
    match (all.pop(), all.len()) {
        (Some(only), 0) => Ok(only),
        (None, _) => Err(gave(name, &format!("no `{}`", R::NAME))),
        (Some(_), more) => Err(gave(name, &format!("{} times a `{}`", more + 1, R::NAME))),
    }
}

/// A sink that passes each record to a closure. The sink must not be used after the closure's end.
pub fn sink<T, F: FnMut(*const T)>(take: &mut F) -> Sink<T> {
    Sink {
        this: (&raw mut *take).cast(),
        put: put::<T, F>,
    }
}

unsafe extern "C" fn put<T, F: FnMut(*const T)>(this: *mut c_void, record: *const T) {
    // SAFETY: `sink` made this pointer of such a closure, and the plugin uses the sink on one thread.
    let take = unsafe { &mut *this.cast::<F>() };
    take(record);
}

/// Copies the sentence and the details of an error. The caller sets the code.
///
/// # Safety
/// All pointers in it are NULL or valid.
unsafe fn message(error: &c::Error) -> ReadResult<Error> {
    // SAFETY: the caller says so.
    unsafe {
        let mut told = Error::new(Code::INTERNAL, read::words(error.message));
        told.meta = read::meta(error.meta)?;
        Ok(told)
    }
}

#[cold]
fn failed(name: &str, code: Code, told: Option<ReadResult<Error>>) -> Error {
    let mut error = match told {
        Some(Ok(told)) => told,
        Some(Err(what)) => return gave(name, &what),
        None if code.0 > Code::INTERNAL.0 => gave(name, &format!("the unknown code {}", code.0)),
        None => Error::from(code),
    };
    // Codes of a later version are treated as `INTERNAL`.
    error.code = Code(code.0.min(Code::INTERNAL.0));
    error
}
