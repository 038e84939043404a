//! Opens a plugin's library in this process, and checks that both sides agree on the ABI.

use std::{fs::File, mem, os::fd::AsRawFd};

use abi_stable::{
    StableAbi,
    library::{AbiHeaderRef, LibHeader, RootModule},
};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use tenon_plugin_api::{
    Descriptor, Result as CallResult,
    abi::{
        AbiVersion, BackendBox, HostBox, LOADER_SYMBOL, LayoutMismatch, PluginModule_Ref,
        layouts_agree,
    },
};

/// Why a library cannot be used. The text ends a sentence that begins with the file's name.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot be linked ({0}): install what it needs, or build the plugin for this system")]
    Link(String),
    #[error(
        "was built with another version of abi_stable: build the plugin with this host's tenon-plugin-api {}",
        PluginModule_Ref::VERSION_STRINGS
    )]
    Header,
    #[error("is a library for `{0}`, not a Tenon plugin: move it elsewhere")]
    Foreign(String),
    #[error(
        "was built with tenon-plugin-api {built}, but this host takes plugins of ABI {}, and they differ at {}: \
         build the plugin with this host's tenon-plugin-api",
        AbiVersion::CURRENT,
        mismatch.first_difference
    )]
    Layout {
        built: String,
        mismatch: LayoutMismatch,
    },
    #[error(
        "speaks plugin ABI {0}, but this host {current}: build the plugin with this host's tenon-plugin-api",
        current = AbiVersion::CURRENT
    )]
    Version(AbiVersion),
    #[error("could not set up its root module ({0}): tell the plugin's author")]
    RootModule(String),
    #[error(
        "calls itself `{0}`: a plugin's id is a reverse URI of letters, digits, `-` and `_`, such as org.tenon.echo"
    )]
    Id(String),
}

impl LoadError {
    /// More for the plugin's author. May be empty.
    pub fn details(&self) -> &str {
        match self {
            Self::Layout { mismatch, .. } => &mismatch.report,
            _ => "",
        }
    }
}

/// An open library that speaks this host's ABI. Its backend is not started yet.
pub struct Plugin {
    module: PluginModule_Ref,
    abi: AbiVersion,
    descriptor: Descriptor,
}

impl Plugin {
    /// Opens a library, which runs its constructors: a bad file ends the process here. A library is never closed.
    pub fn open(file: File) -> Result<Self, LoadError> {
        let header = check_layout(upgrade(open_library(file)?)?)?;
        // SAFETY: the layout was checked just now.
        let module = unsafe { header.init_root_module_with_unchecked_layout::<PluginModule_Ref>() };
        let module = module.map_err(|error| LoadError::RootModule(one_line(&error.to_string())))?;
        let abi = module.abi()();
        if abi.major != AbiVersion::CURRENT.major {
            return Err(LoadError::Version(abi));
        }
        let descriptor = Descriptor::from(module.descriptor()());
        if !is_id(&descriptor.id) {
            return Err(LoadError::Id(descriptor.id));
        }
        Ok(Self {
            module,
            abi,
            descriptor,
        })
    }

    /// The ABI that the plugin was built against.
    pub fn abi(&self) -> AbiVersion {
        self.abi
    }

    /// Who the plugin is.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Starts the backend. Call it once per process.
    pub fn init(&self, host: HostBox, options: &str) -> CallResult<BackendBox> {
        let backend = self.module.init()(host, options.into()).into_result();
        backend.map_err(Into::into)
    }
}

/// `dlopen` takes only names. For a name that it knows it returns the library that it knows, even if another file has taken
/// that name. So it gets the name of the open file. The file stays open, so that no other gets this name.
fn open_library(file: File) -> Result<AbiHeaderRef, LoadError> {
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    // Symbols stay separate from other plugins', all are resolved now, and no code is unloaded under running threads.
    let flags = RTLD_NOW | RTLD_LOCAL | libc::RTLD_NODELETE;
    // SAFETY: this runs the library's constructors. The probe in a child process found that they run.
    let library = unsafe { Library::open(Some(&name), flags) }
        .map_err(|error| LoadError::Link(link_error(error, &name)))?;
    mem::forget(file);
    // SAFETY: `export_plugin!` puts a static LibHeader under this name. It begins with an AbiHeader, whose magic `upgrade`
    // checks.
    let header = unsafe { library.get::<AbiHeaderRef>(LOADER_SYMBOL) };
    let header = header.map(|symbol| *symbol);
    let header = header.map_err(|error| LoadError::Link(link_error(error, &name)));
    mem::forget(library);
    header
}

fn upgrade(header: AbiHeaderRef) -> Result<&'static LibHeader, LoadError> {
    let header = header.upgrade().map_err(|_| LoadError::Header)?;
    let name = header.root_mod_consts().base_name();
    if name.as_str() != PluginModule_Ref::BASE_NAME {
        return Err(LoadError::Foreign(name.to_string()));
    }
    Ok(header)
}

fn check_layout(header: &'static LibHeader) -> Result<&'static LibHeader, LoadError> {
    let theirs = header.layout().ok_or(LoadError::Header)?;
    match layouts_agree(PluginModule_Ref::LAYOUT, theirs) {
        Ok(()) => Ok(header),
        Err(mismatch) => Err(LoadError::Layout {
            built: header.version_strings().to_string(),
            mismatch,
        }),
    }
}

/// The linker's message, without the name that we used for the file.
fn link_error(error: libloading::Error, name: &str) -> String {
    let text = match error {
        libloading::Error::DlOpen { source } | libloading::Error::DlSym { source } => {
            source.to_string()
        }
        other => other.to_string(),
    };
    text.trim_start_matches(name)
        .trim_start_matches(": ")
        .to_string()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether this is a valid id. Ids are keys in the configuration and names of cache directories.
fn is_id(id: &str) -> bool {
    let is_name = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    };
    id.contains('.') && id.split('.').all(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_reverse_uris_and_harmless_as_names_of_directories() {
        assert!(is_id("org.tenon.llama-cpp"));
        for id in [
            "",
            "echo",
            "org.",
            "..",
            "org..tenon",
            "org/tenon.echo",
            "org.tenon.écho",
        ] {
            assert!(!is_id(id), "{id}");
        }
    }
}
