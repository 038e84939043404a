//! `llama_model_quantize`: makes a GGUF file at another level from a GGUF file.
//!
//! llama.cpp reports its progress, its plan and the reason of a failure only in its log, so this module reads the log.

use std::{
    ffi::{CStr, CString},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use llama_cpp_sys_2 as sys;
use tenon_plugin_api::{Code, Error, Result};

use crate::{
    file_types,
    gguf::{self, c_path},
    log, shim,
};

/// Receives the finished fraction and what is being done. Its error stops the work.
pub type Report<'a> = &'a (dyn Fn(Option<f32>, &str) -> Result<()> + Sync);

/// The result that quantizing would have.
#[derive(Debug, PartialEq, Eq)]
pub struct DryRun {
    /// Size of the weights in bytes, exact to a hundredth of a MiB.
    pub weight_bytes: u64,
    /// Number of tensors that would get another type because of their shape.
    pub fallback_tensors: u32,
}

/// Finds out what quantizing to `level` would result in, without writing a file.
///
/// # Errors
/// `UNSUPPORTED` for a level that cannot be made; the errors that llama.cpp has for the file.
pub fn dry_run(input: &Path, level: &str) -> Result<DryRun> {
    let mut params = params(level)?;
    params.dry_run = true;
    let (lines, inbox) = mpsc::channel();
    // A dry run does not read the name of the output.
    call(input, c"", &params, move |line| {
        lines.send(line.to_owned()).is_ok()
    })?;
    let (mut weight_bytes, mut fallback_tensors) = (None, 0);
    for line in inbox {
        weight_bytes = weight_bytes.or_else(|| quantized_bytes(&line));
        fallback_tensors = fallbacks(&line).unwrap_or(fallback_tensors);
    }
    let weight_bytes = weight_bytes.ok_or_else(|| {
        Error::new(
            Code::INTERNAL,
            "llama.cpp did not say how large the quantized file will be",
        )
    })?;
    Ok(DryRun {
        weight_bytes,
        fallback_tensors,
    })
}

/// Writes `input` at `level` to `output`. `output` is not synced to the disk.
///
/// # Errors
/// As [`dry_run`]; `IO`, `CANCELLED`. After an error, the part that was written stays.
pub fn write(input: &Path, output: &Path, level: &str, threads: u32, report: Report) -> Result<()> {
    let c_output = c_path(output)?;
    let stop = Arc::new(AtomicBool::new(false));
    let (progress, inbox) = mpsc::channel();
    let watcher = {
        let stop = Arc::clone(&stop);
        move |line: &str| {
            let Some(fraction) = finished(line) else {
                return true;
            };
            let _ = progress.send(fraction);
            !stop.load(Ordering::Relaxed)
        }
    };
    let message = format!("quantizing to {level}");
    let written = thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut params = params(level)?;
            params.nthread = i32::try_from(threads).unwrap_or(i32::MAX);
            params.allow_requantize = true;
            call(input, &c_output, &params, watcher)
        });
        for fraction in inbox {
            if report(Some(fraction), &message).is_err() {
                stop.store(true, Ordering::Relaxed);
            }
        }
        worker.join()
    });
    if stop.load(Ordering::Relaxed) {
        return Err(Error::new(Code::CANCELLED, "quantizing was cancelled"));
    }
    let panicked = |_| {
        Err(Error::new(
            Code::INTERNAL,
            "the thread that quantizes panicked",
        ))
    };
    written.unwrap_or_else(panicked)?;
    gguf::check_model(output)
}

fn params(level: &str) -> Result<sys::llama_model_quantize_params> {
    let file_type = file_types::file_type(level)
        .ok_or_else(|| Error::unsupported(&format!("quantizing to {level}")))?;
    // SAFETY: it only fills a struct.
    let mut params = unsafe { sys::llama_model_quantize_default_params() };
    params.ftype = file_type;
    Ok(params)
}

/// Quantizes. `watcher` gets the lines of the log and returns whether to go on.
fn call(
    input: &Path,
    output: &CStr,
    params: &sys::llama_model_quantize_params,
    watcher: impl FnMut(&str) -> bool + 'static,
) -> Result<()> {
    let name: CString = c_path(input)?;
    // SAFETY: every pointer in the parameters is null.
    let quantize = || shim::reading(|| unsafe { shim::quantize(&name, output, params) });
    let (done, reason) = log::watched(watcher, quantize);
    match done? {
        true => Ok(()),
        // The C++ library reports this for every file that cannot be written, whatever the reason is.
        false if reason.contains("iostream error") => Err(Error::new(
            Code::IO,
            "the quantized file cannot be written: the disk is full, or the limit on the size of files (ulimit -f) is too low",
        )),
        false => Err(log::failure(
            &format!("llama.cpp cannot quantize {}", input.display()),
            &reason,
        )),
    }
}

/// `[  12/ 272] blk.0.…`: a tensor is finished. Returns the finished fraction.
fn finished(line: &str) -> Option<f32> {
    let (done, rest) = line.strip_prefix('[')?.split_once('/')?;
    let (total, _) = rest.split_once(']')?;
    let (done, total): (f32, f32) = (done.trim().parse().ok()?, total.trim().parse().ok()?);
    Some(done / total)
}

/// `…: quant size  =   135.00 MiB (8.50 BPW)`
fn quantized_bytes(line: &str) -> Option<u64> {
    let (_, size) = line.split_once("quant size")?;
    let (size, _) = size.trim_start_matches([' ', '=']).split_once(" MiB")?;
    let mebibytes: f64 = size.trim().parse().ok()?;
    Some((mebibytes * f64::from(1 << 20)) as u64)
}

/// `…: WARNING: 180 of 272 tensor(s) required fallback quantization`
fn fallbacks(line: &str) -> Option<u32> {
    let rest = line.strip_suffix("required fallback quantization")?;
    let (_, counts) = rest.split_once("WARNING: ")?;
    counts.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_understood() {
        let tensor = "[  68/ 272]   blk.4.ffn_up.weight - [  576,  1536,     1,     1], type =   q4_1, size = 0.53 MiB";
        assert_eq!(finished(tensor), Some(0.25));
        assert_eq!(finished("llama_model_loader: [1]"), None);
        let size = "llama_model_quantize_impl: quant size  =     1.50 MiB (8.50 BPW)";
        assert_eq!(quantized_bytes(size), Some(3 << 19));
        let fallback = "llama_model_quantize_impl: WARNING: 180 of 272 tensor(s) required fallback quantization";
        assert_eq!(fallbacks(fallback), Some(180));
        assert_eq!(fallbacks(size), None);
    }
}
