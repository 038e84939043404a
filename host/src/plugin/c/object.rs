//! Objects that a plugin in C has made.

use std::{ffi::c_void, ptr};

use tenon_plugin_api::{
    Result,
    abi::c::{self, EmbedderVtable, Growing, ModelVtable, Object, SessionVtable, TokenizerVtable},
};

use super::{
    call::{call, gave},
    read,
};

type Destructor = unsafe extern "C" fn(*mut c_void);

/// A table of functions.
pub trait Table: Growing {
    /// The name of a function that is NULL and must not be. None if there is no such function.
    fn missing(&self) -> Option<&'static str>;
    /// The function that ends an object.
    fn end(&self) -> Option<Destructor>;
}

/// An object of a plugin. Dropping it ends the object.
pub struct Owned<V: Table> {
    pub this: *mut c_void,
    /// The object's table. Functions that the plugin's version of the table lacks are NULL.
    pub table: V,
}

impl<V: Table> Owned<V> {
    /// Has a function make an object.
    pub fn made(
        name: &str,
        make: impl FnOnce(*mut Object<V>, c::Sink<c::Error>) -> u32,
    ) -> Result<Self> {
        let mut made = Object {
            this: ptr::null_mut(),
            vtable: ptr::null(),
        };
        call(name, |error| make(&mut made, error))?;
        // SAFETY: the plugin has filled in the object.
        let table = unsafe { read::grown(made.vtable) };
        let table = table.map_err(|what| gave(name, &what))?;
        match table.missing() {
            Some(function) => Err(gave(
                name,
                &format!("a `{}` with NULL as `{function}`", V::NAME),
            )),
            None => Ok(Self {
                this: made.this,
                table,
            }),
        }
    }
}

impl<V: Table> Drop for Owned<V> {
    fn drop(&mut self) {
        if let Some(end) = self.table.end() {
            // SAFETY: the object is used no more, and this is the thread that may end it.
            unsafe { end(self.this) }
        }
    }
}

macro_rules! tables {
    ($($table:ty: $end:expr, [$($function:ident),*];)*) => {
        $(impl Table for $table {
            fn missing(&self) -> Option<&'static str> {
                let functions = [$((stringify!($function), self.$function.is_none())),*];
                let missing = functions.into_iter().find(|(_, is_missing)| *is_missing);
                missing.map(|(name, _)| name)
            }

            fn end(&self) -> Option<Destructor> {
                let end: fn(&Self) -> Option<Destructor> = $end;
                end(self)
            }
        })*
    };
}

tables! {
    c::BackendVtable: |_| None, [supports, load];
    ModelVtable: |table| table.drop, [drop, info, tokenizer];
    TokenizerVtable: |table| table.drop, [drop, encode, vocabulary];
    SessionVtable: |table| table.drop, [drop, info, forward, logits, free];
    EmbedderVtable: |table| table.drop, [drop, info, embed];
}
