//! The functions of `shim.cpp`: calls into llama.cpp that may throw.

use std::ffi::{CStr, c_char};

use llama_cpp_sys_2::{
    ggml_log_level, llama_batch, llama_context, llama_model_quantize_params, llama_token,
    llama_vocab,
};
use tenon_plugin_api::{Code, Error, Result};

const THREW: i32 = -1000;
const OUT_OF_MEMORY: i32 = -1001;

unsafe extern "C" {
    fn tenon_decode(
        context: *mut llama_context,
        batch: *const llama_batch,
        error: *mut c_char,
        error_size: usize,
    ) -> i32;

    fn tenon_tokenize(
        vocab: *const llama_vocab,
        text: *const c_char,
        text_len: i32,
        tokens: *mut llama_token,
        tokens_max: i32,
        add_special: bool,
        parse_special: bool,
        error: *mut c_char,
        error_size: usize,
    ) -> i32;

    fn tenon_quantize(
        input: *const c_char,
        output: *const c_char,
        params: *const llama_model_quantize_params,
        error: *mut c_char,
        error_size: usize,
    ) -> i32;

    /// From now on llama.cpp's log goes to `report`. `report` may return `false` only inside of [`quantize`], which ends
    /// that call.
    pub safe fn tenon_on_text(report: unsafe extern "C" fn(ggml_log_level, *const c_char) -> bool);

    safe fn tenon_reads_file(reads: bool);

    /// Makes llama.cpp call `report` with the reason before it ends the process.
    pub safe fn tenon_on_fatal(report: unsafe extern "C" fn(*const c_char));
}

/// `llama_decode`: returns its status, or the exception that it threw.
///
/// # Safety
/// `context` and every array of `batch` are valid.
pub unsafe fn decode(context: *mut llama_context, batch: &llama_batch) -> Result<i32> {
    // SAFETY: as the caller promises; the error buffer is as long as stated.
    guarded(|error, size| unsafe { tenon_decode(context, batch, error, size) })
}

/// `llama_tokenize` into `tokens`. Returns how many were written; if they do not fit, their number as a negative number.
///
/// # Safety
/// `vocab` is valid.
pub unsafe fn tokenize(
    vocab: *const llama_vocab,
    text: &str,
    tokens: &mut [u32],
    add_special: bool,
    parse_special: bool,
) -> Result<i32> {
    let text_len = i32::try_from(text.len())
        .map_err(|_| Error::invalid("the text is longer than 2 GiB: shorten it"))?;
    let tokens_max = i32::try_from(tokens.len()).unwrap_or(i32::MAX);
    // SAFETY: as the caller promises; text, tokens and the error buffer are as long as stated. Ids are never negative, so
    // `u32` holds them unchanged.
    guarded(|error, size| unsafe {
        tenon_tokenize(
            vocab,
            text.as_ptr().cast(),
            text_len,
            tokens.as_mut_ptr().cast(),
            tokens_max,
            add_special,
            parse_special,
            error,
            size,
        )
    })
}

/// `llama_model_quantize`: returns whether it succeeded, or the exception that it threw.
///
/// # Safety
/// Every pointer in `params` is valid or null.
pub unsafe fn quantize(
    input: &CStr,
    output: &CStr,
    params: &llama_model_quantize_params,
) -> Result<bool> {
    // SAFETY: as the caller promises; the error buffer is as long as stated.
    let status = guarded(|error, size| unsafe {
        tenon_quantize(input.as_ptr(), output.as_ptr(), params, error, size)
    });
    status.map(|status| status == 0)
}

/// Runs `read`, in which llama.cpp reads a file and catches exceptions. A failed assertion that the file causes then becomes
/// an error that llama.cpp logs, instead of ending the process.
pub fn reading<R>(read: impl FnOnce() -> R) -> R {
    struct Reading;
    impl Drop for Reading {
        fn drop(&mut self) {
            tenon_reads_file(false);
        }
    }
    tenon_reads_file(true);
    let _reading = Reading;
    read()
}

fn guarded(call: impl FnOnce(*mut c_char, usize) -> i32) -> Result<i32> {
    let mut error = [0_u8; 256];
    let status = call(error.as_mut_ptr().cast(), error.len());
    let code = match status {
        THREW => Code::INTERNAL,
        OUT_OF_MEMORY => Code::NO_MEMORY,
        status => return Ok(status),
    };
    let text = CStr::from_bytes_until_nul(&error).unwrap_or_default();
    Err(Error::new(
        code,
        format!("llama.cpp failed: {}", text.to_string_lossy()),
    ))
}
