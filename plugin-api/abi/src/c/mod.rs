//! The ABI as C sees it: the types of `tenon_plugin.h`, which documents what each means, on which thread it is called and what
//! it returns. The names are those of the header without `tenon_`; `self` is called `this`.
//!
//! Structs that cross on every step are those of this crate, byte for byte. The others begin with their size and only ever grow:
//! a reader copies what the size covers, and what is missing is zero.

mod layout;
mod records;
mod tables;
mod values;

use std::ffi::c_void;

#[doc(hidden)]
pub use layout::LAYOUT_LINES;
pub use records::{
    Device, EmbedderInfo, Error, Estimate, LoadArgs, ModelInfo, SessionArgs, Support, Token,
};
pub use tables::{
    BackendVtable, EmbedderVtable, HostVtable, ModelVtable, Plugin, ProgressVtable, SessionVtable,
    TokenizerVtable,
};
pub use values::{KeyValue, Meta, Str, Strs, Tokens};

/// Name of the symbol of the function that a plugin in C exports. It returns the plugin's table.
pub const C_SYMBOL: &str = "tenon_plugin_c_v1";

/// The function that a plugin in C exports.
pub type PluginFn = unsafe extern "C" fn() -> *const Plugin;

/// An object: what only its maker understands, and a table of functions for it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Object<V> {
    /// The first argument of every function.
    pub this: *mut c_void,
    /// The functions.
    pub vtable: *const V,
}

/// `tenon_host`.
pub type Host = Object<HostVtable>;
/// `tenon_progress`.
pub type Progress = Object<ProgressVtable>;
/// `tenon_backend`.
pub type Backend = Object<BackendVtable>;
/// `tenon_model`.
pub type Model = Object<ModelVtable>;
/// `tenon_tokenizer`.
pub type Tokenizer = Object<TokenizerVtable>;
/// `tenon_session`.
pub type Session = Object<SessionVtable>;
/// `tenon_embedder`.
pub type Embedder = Object<EmbedderVtable>;

/// Where a function puts its results.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Sink<T> {
    /// The first argument of `put`.
    pub this: *mut c_void,
    /// Takes one result.
    pub put: unsafe extern "C" fn(*mut c_void, *const T),
}

/// A struct that begins with its size, and that later versions append to. A new field begins at `SIZE_1_0` or after it: plugins
/// leave rubbish in the padding before that, which their size covers.
///
/// # Safety
/// It is `repr(C)`, its first field is `size: usize`, and it may be zero in every byte.
pub unsafe trait Growing: Copy {
    /// The name in the header.
    const NAME: &'static str;
    /// Its size in ABI 1.0, which is the least that a plugin may state.
    const SIZE_1_0: usize;
}

macro_rules! growing {
    ($($c:ident = $rust:ty: $size:literal,)*) => {
        $(
            // SAFETY: all fields are numbers, pointers and optional functions, and the first is the size.
            unsafe impl Growing for $rust {
                const NAME: &'static str = stringify!($c);
                const SIZE_1_0: usize = $size;
            }
        )*
    };
}

growing! {
    tenon_error = Error: 40,
    tenon_device = Device: 72,
    tenon_support = Support: 48,
    tenon_estimate = Estimate: 72,
    tenon_model_info = ModelInfo: 208,
    tenon_token = Token: 32,
    tenon_embedder_info = EmbedderInfo: 48,
    tenon_host_vtable = HostVtable: 32,
    tenon_progress_vtable = ProgressVtable: 16,
    tenon_load_args = LoadArgs: 96,
    tenon_session_args = SessionArgs: 56,
    tenon_session_vtable = SessionVtable: 88,
    tenon_tokenizer_vtable = TokenizerVtable: 32,
    tenon_embedder_vtable = EmbedderVtable: 32,
    tenon_model_vtable = ModelVtable: 56,
    tenon_backend_vtable = BackendVtable: 48,
    tenon_plugin = Plugin: 136,
}
