//! The root module: the one symbol that a plugin exports.

#![allow(
    non_camel_case_types,
    reason = "the name that abi_stable gives to references"
)]

use abi_stable::{
    StableAbi,
    library::RootModule,
    package_version_strings,
    sabi_types::VersionStrings,
    std_types::{RResult, RStr},
};

use crate::{BackendBox, DescriptorRecord, ErrorRecord, HostBox};

/// Name of the symbol under which a plugin exports its `LibHeader`: the name that `abi_stable` 0.11 itself uses.
pub const LOADER_SYMBOL: &str = "_1as_0lib_1header_0root_bmodule_bloader";

/// Name of the exported symbol of a `u64`: 1 if panics unwind in the library, 0 if they abort.
pub const UNWINDS_SYMBOL: &str = "tenon_plugin_unwinds";

/// Name of the exported symbol of a text that ends with a zero byte: name and version of the crate that the library was built
/// from. A host that cannot use the library names it so.
pub const CRATE_SYMBOL: &str = "tenon_plugin_crate";

/// Version of this ABI. A plugin and a host with the same `major` work together whatever their `minor`.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbiVersion {
    /// Changes when old plugins stop loading.
    pub major: u32,
    /// Changes when something optional is added.
    pub minor: u32,
}

impl AbiVersion {
    /// The version that this crate describes, which is the crate's own.
    pub const CURRENT: Self = Self {
        major: number(env!("CARGO_PKG_VERSION_MAJOR")),
        minor: number(env!("CARGO_PKG_VERSION_MINOR")),
    };
}

const fn number(digits: &str) -> u32 {
    match u32::from_str_radix(digits, 10) {
        Ok(number) => number,
        Err(_) => panic!("cargo writes versions as numbers"),
    }
}

impl std::fmt::Display for AbiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What a plugin's library exports. [`export_module!`](crate::export_module) exports it.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginModule_Ref)))]
#[sabi(missing_field(option))]
pub struct PluginModule {
    /// `[any thread]` The ABI that the plugin was built against.
    pub abi: extern "C" fn() -> AbiVersion,
    /// `[any thread]` Who the plugin is. Callable before `init`.
    pub descriptor: extern "C" fn() -> DescriptorRecord,
    /// `[any thread, once per process]` Starts the backend. The second argument is the JSON object of the plugin's options.
    #[sabi(last_prefix_field)]
    pub init: extern "C" fn(HostBox, RStr<'_>) -> RResult<BackendBox, ErrorRecord>,
}

impl RootModule for PluginModule_Ref {
    abi_stable::declare_root_module_statics! {PluginModule_Ref}
    const BASE_NAME: &'static str = "tenon_plugin";
    const NAME: &'static str = "tenon_plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

/// Exports a function that makes the root module, under the names that hosts look for. Call it once per library. The SDK's
/// `export_plugin!` calls it.
#[macro_export]
macro_rules! export_module {
    ($make:expr) => {
        /// The CPU features that this library was compiled for, under the name in `CPU_FEATURES_SYMBOL`.
        #[unsafe(export_name = "tenon_plugin_cpu_features")]
        pub static TENON_PLUGIN_CPU_FEATURES: u64 = $crate::COMPILED_FOR;

        #[cfg(panic = "abort")]
        compile_error!("a Tenon plugin needs `panic = \"unwind\"`, so that a panic in it does not end the server");

        /// Whether panics unwind in this library, under the name in `UNWINDS_SYMBOL`.
        #[unsafe(export_name = "tenon_plugin_unwinds")]
        pub static TENON_PLUGIN_UNWINDS: u64 = cfg!(panic = "unwind") as u64;

        const _: () = {
            const CRATE: &str =
                concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"), "\0");

            /// Name and version of this crate, under the name in `CRATE_SYMBOL`.
            #[unsafe(export_name = "tenon_plugin_crate")]
            pub static TENON_PLUGIN_CRATE: [u8; CRATE.len()] = {
                let mut bytes = [0; CRATE.len()];
                bytes.copy_from_slice(CRATE.as_bytes());
                bytes
            };
        };

        /// The library's root module, under the name in `LOADER_SYMBOL`.
        #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
        pub static TENON_PLUGIN: $crate::abi_stable::library::LibHeader = {
            // `$make` sees this name, so it is one that no plugin has.
            extern "C" fn tenon_plugin_root_module() -> $crate::abi_stable::library::RootModuleResult {
                $crate::abi_stable::library::__call_root_module_loader($make)
            }
            // SAFETY: the function returns the root module of the type that is named here.
            unsafe {
                $crate::abi_stable::library::LibHeader::from_constructor::<$crate::PluginModule_Ref>(
                    tenon_plugin_root_module,
                    $crate::abi_stable::library::CheckTypeLayout::Yes,
                )
            }
        };
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn loader_symbol_is_the_one_abi_stable_looks_for() {
        assert_eq!(
            super::LOADER_SYMBOL,
            abi_stable::library::ROOT_MODULE_LOADER_NAME
        );
    }
}
