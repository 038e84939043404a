//! Texts, lists and named facts.

#![expect(missing_docs, reason = "tenon_plugin.h documents the fields")]

/// `tenon_str`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Str {
    pub ptr: *const u8,
    pub len: usize,
}

/// `tenon_strs`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Strs {
    pub ptr: *const Str,
    pub len: usize,
}

/// `tenon_tokens`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Tokens {
    pub ptr: *const u32,
    pub len: usize,
}

/// `tenon_key_value`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KeyValue {
    pub key: Str,
    pub value: Str,
}

/// `tenon_meta`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Meta {
    pub ptr: *const KeyValue,
    pub len: usize,
}
