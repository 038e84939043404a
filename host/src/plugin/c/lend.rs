//! Lends the host's data to a plugin in C for the time of a call.

use std::ptr;

use tenon_plugin_api::{
    LoadArgs, Meta, Result, SessionArgs,
    abi::c::{self, KeyValue, Str, Strs},
};

/// Lends a text.
pub fn text(text: &str) -> Str {
    Str {
        ptr: text.as_ptr(),
        len: text.len(),
    }
}

/// Runs `call` with the arguments of a load, lent in C's form.
pub fn with_load_args<R>(
    args: &LoadArgs,
    call: impl FnOnce(*const c::LoadArgs) -> Result<R>,
) -> Result<R> {
    let devices: Vec<Str> = args.devices.iter().map(|device| text(device)).collect();
    let meta = facts(&args.meta);
    let path = args.path.to_string_lossy();
    call(&c::LoadArgs {
        size: size_of::<c::LoadArgs>(),
        path: text(&path),
        devices: Strs {
            ptr: devices.as_ptr(),
            len: devices.len(),
        },
        quantize: args.quantize.as_deref().map_or(ABSENT, text),
        options: text(&args.options),
        threads: args.threads,
        meta: list(&meta),
    })
}

/// Runs `call` with the arguments of a session, lent in C's form.
pub fn with_session_args<R>(
    args: &SessionArgs,
    call: impl FnOnce(*const c::SessionArgs) -> Result<R>,
) -> Result<R> {
    let meta = facts(&args.meta);
    call(&c::SessionArgs {
        size: size_of::<c::SessionArgs>(),
        max_sequences: args.max_sequences,
        kv_tokens: args.kv_tokens,
        context_length: args.context_length,
        max_batch_tokens: args.max_batch_tokens,
        threads: args.threads,
        interrupt: args.interrupt.flag(),
        meta: list(&meta),
    })
}

const ABSENT: Str = Str {
    ptr: ptr::null(),
    len: 0,
};

fn facts(meta: &Meta) -> Vec<KeyValue> {
    let facts = meta.iter().map(|(key, value)| KeyValue {
        key: text(key),
        value: text(value),
    });
    facts.collect()
}

fn list(facts: &[KeyValue]) -> c::Meta {
    c::Meta {
        ptr: facts.as_ptr(),
        len: facts.len(),
    }
}
