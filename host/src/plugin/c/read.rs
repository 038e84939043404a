//! Reads the values that a plugin in C points to. An error says what is wrong: its text follows "the plugin gave".

use std::{borrow::Cow, mem::MaybeUninit, slice};

use tenon_plugin_api::{
    Meta,
    abi::c::{self, Growing, Str},
};

/// More bytes than any version of a table will have.
const MAX_SIZE: usize = 1 << 16;

/// Copies the part of a struct that its size covers. The rest is zero.
///
/// # Safety
/// The pointer is NULL, or leads to as many bytes as the first word there says.
pub unsafe fn grown<T: Growing>(from: *const T) -> Result<T, String> {
    if from.is_null() || !from.is_aligned() {
        return Err(format!("no `{}` but the address {from:p}", T::NAME));
    }
    // SAFETY: the caller says so, and `Growing` types begin with their size.
    let size = unsafe { from.cast::<usize>().read() };
    if size < T::SIZE_1_0 || size > MAX_SIZE || !size.is_multiple_of(align_of::<T>()) {
        return Err(format!(
            "a `{}` whose size is {size} bytes, where ABI 1.x has {} or more",
            T::NAME,
            T::SIZE_1_0
        ));
    }
    let mut whole = MaybeUninit::<T>::zeroed();
    let bytes = size.min(size_of::<T>());
    // SAFETY: both have that many bytes, and `Growing` types may be zero where nothing is copied to.
    unsafe {
        from.cast::<u8>()
            .copy_to_nonoverlapping(whole.as_mut_ptr().cast(), bytes);
        Ok(whole.assume_init())
    }
}

/// Borrows an array.
///
/// # Safety
/// The pointer is NULL, or leads to `len` elements that live for `'a`.
pub unsafe fn list<'a, T>(from: *const T, len: usize, what: &str) -> Result<&'a [T], String> {
    if len == 0 {
        return Ok(&[]);
    }
    let bytes = len.checked_mul(size_of::<T>());
    if bytes.is_none_or(|bytes| bytes > isize::MAX as usize) {
        return Err(format!("{len} elements as `{what}`"));
    }
    if from.is_null() || !from.is_aligned() {
        return Err(format!("the address {from:p} as `{what}`"));
    }
    // SAFETY: the pointer and the length were checked; the caller answers for what is there.
    Ok(unsafe { slice::from_raw_parts(from, len) })
}

/// Borrows a struct that does not grow.
///
/// # Safety
/// The pointer is NULL, or leads to a struct that lives for `'a`.
pub unsafe fn one<'a, T>(from: *const T, name: &str) -> Result<&'a T, String> {
    if from.is_null() || !from.is_aligned() {
        return Err(format!("no `{name}` but the address {from:p}"));
    }
    // SAFETY: the pointer was checked; the caller answers for what is there.
    Ok(unsafe { &*from })
}

/// Copies a text. NULL is the empty text.
///
/// # Safety
/// The conditions of [`list`].
pub unsafe fn text(from: Str, what: &str) -> Result<String, String> {
    // SAFETY: the caller says so.
    let bytes = unsafe { list(from.ptr, from.len, what)? };
    let text = String::from_utf8(bytes.to_vec());
    text.map_err(|_| format!("a text that is not UTF-8 as `{what}`"))
}

/// Copies a text. NULL means that there is none.
///
/// # Safety
/// The conditions of [`list`].
pub unsafe fn optional_text(from: Str, what: &str) -> Result<Option<String>, String> {
    match from.ptr.is_null() && from.len == 0 {
        true => Ok(None),
        // SAFETY: the caller says so.
        false => unsafe { text(from, what) }.map(Some),
    }
}

/// Reads a text for people, whatever its bytes are.
///
/// # Safety
/// The conditions of [`list`].
pub unsafe fn words<'a>(from: Str) -> Cow<'a, str> {
    // SAFETY: the caller says so.
    let bytes = unsafe { list(from.ptr, from.len, "a text") };
    bytes.map_or(
        "(an address that is not valid)".into(),
        String::from_utf8_lossy,
    )
}

/// Copies named facts.
///
/// # Safety
/// The conditions of [`list`], for the list and for the texts in it.
pub unsafe fn meta(from: c::Meta) -> Result<Meta, String> {
    let mut meta = Meta::default();
    // SAFETY: the caller says so.
    unsafe {
        for fact in list(from.ptr, from.len, "meta")? {
            meta.set(text(fact.key, "meta")?, text(fact.value, "meta")?);
        }
    }
    Ok(meta)
}

/// Reads a flag, which is 0 or 1.
pub fn flag(value: u32, what: &str) -> Result<bool, String> {
    match value {
        0 | 1 => Ok(value == 1),
        other => Err(format!("{other} as `{what}`, which is 0 or 1")),
    }
}
