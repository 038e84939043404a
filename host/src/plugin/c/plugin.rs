//! The table that the library of a plugin in C exports.

use abi_stable::sabi_trait::TD_Opaque;
use tenon_plugin_api::{
    Descriptor, Result as CallResult,
    abi::{
        AbiVersion, BackendBox, BackendObject_TO, HostBox,
        c::{Growing, Plugin, PluginFn},
    },
};

use super::{
    backend::CBackend,
    call::there,
    lend,
    object::Owned,
    read::{grown, meta, text},
    services,
};
use crate::plugin::other_abi::OtherAbi;

/// A plugin in C that speaks this host's ABI. Its backend is not started yet.
pub struct CPlugin {
    table: Plugin,
    abi: AbiVersion,
    descriptor: Descriptor,
}

impl CPlugin {
    /// Reads the table that the library's function returns.
    ///
    /// # Errors
    /// What is wrong with the table. The text ends a sentence that begins with the file's name.
    pub fn read(exported: PluginFn) -> Result<Self, String> {
        // SAFETY: the library exports the function under a name that says what it is.
        let table = unsafe { exported() };
        // SAFETY: it returns a table that lives until the process ends.
        unsafe {
            let abi = check_abi(table)?;
            let table = grown(table).map_err(not_a_table)?;
            if table.init.is_none() {
                return Err(not_a_table("a `tenon_plugin` with NULL as `init`".into()));
            }
            let descriptor = descriptor(&table).map_err(not_a_table)?;
            Ok(Self {
                table,
                abi,
                descriptor,
            })
        }
    }

    /// The ABI that the plugin was built against.
    pub fn abi(&self) -> AbiVersion {
        self.abi
    }

    /// The plugin's id, name, version and other facts.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Starts the backend. Call it once per process.
    pub fn init(&self, host: HostBox, options: &str) -> CallResult<BackendBox> {
        const NAME: &str = "tenon_plugin.init";
        let init = there(self.table.init, NAME)?;
        let host = services::host(host);
        // SAFETY: this is the first call of the plugin, and everything lent lives for the call.
        let made = Owned::made(NAME, |made, error| unsafe {
            init(host, lend::text(options), made, error)
        });
        let backend = CBackend::new(made?);
        Ok(BackendObject_TO::from_value(backend, TD_Opaque))
    }
}

/// The plugin's ABI, from the first words of its table, which no version moves.
///
/// # Safety
/// The pointer is NULL or leads to a table.
unsafe fn check_abi(table: *const Plugin) -> Result<AbiVersion, String> {
    if table.is_null() || !table.is_aligned() {
        return Err(not_a_table(format!("no table but the address {table:p}")));
    }
    // SAFETY: the caller says so. A table is at least as long as these words.
    let (major, minor) = unsafe {
        let major = (&raw const (*table).abi_major).read();
        (major, (&raw const (*table).abi_minor).read())
    };
    if major != AbiVersion::CURRENT.major {
        let other = OtherAbi {
            built_from: String::new(),
            abi: format!("{major}.{minor}"),
            mismatch: None,
        };
        return Err(other.to_string());
    }
    Ok(AbiVersion { major, minor })
}

/// # Safety
/// All pointers in the table are NULL or valid.
unsafe fn descriptor(table: &Plugin) -> Result<Descriptor, String> {
    // SAFETY: the caller says so.
    unsafe {
        let [id, name] = [text(table.id, "id")?, text(table.name, "name")?];
        let mut descriptor = Descriptor::new(id, name, text(table.version, "version")?);
        descriptor.vendor = text(table.vendor, "vendor")?;
        descriptor.license = text(table.license, "license")?;
        descriptor.build = text(table.build, "build")?;
        descriptor.meta = meta(table.meta)?;
        Ok(descriptor)
    }
}

fn not_a_table(what: String) -> String {
    let name = Plugin::NAME;
    format!("gave {what} in `tenon_plugin_c_v1`: fill in a `{name}` as tenon_plugin.h says")
}
