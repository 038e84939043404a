//! Opens a plugin's library in this process and checks that both sides mean the same by the ABI.

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

/// Why a library cannot be used, as the end of a sentence that begins with the file's name.
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
    /// What authors want to know on top.
    pub fn details(&self) -> &str {
        match self {
            Self::Layout { mismatch, .. } => &mismatch.report,
            _ => "",
        }
    }
}

/// A library that is open and speaks this host's ABI; its backend is not started.
pub struct Plugin {
    module: PluginModule_Ref,
    abi: AbiVersion,
    descriptor: Descriptor,
}

impl Plugin {
    /// Runs the library's constructors: a bad file ends the process here. It is never closed again.
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

    /// Starts the backend. Once per process.
    pub fn init(&self, host: HostBox, options: &str) -> CallResult<BackendBox> {
        let backend = self.module.init()(host, options.into()).into_result();
        backend.map_err(Into::into)
    }
}

/// `dlopen` takes names only, and answers a name that it knows with the library that it knows, also when another file has
/// taken its place. So it gets the name of the open file, and the file stays open, so that the name is not given twice.
fn open_library(file: File) -> Result<AbiHeaderRef, LoadError> {
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    // Symbols stay apart from other plugins', all are found now or never, and nothing is unloaded under running threads.
    let flags = RTLD_NOW | RTLD_LOCAL | libc::RTLD_NODELETE;
    // SAFETY: the library's constructors run. That they can is what the probe in a child process found out.
    let library = unsafe { Library::open(Some(&name), flags) }
        .map_err(|error| LoadError::Link(link_error(error, &name)))?;
    mem::forget(file);
    // SAFETY: `export_plugin!` puts a static LibHeader under this name, which begins with an AbiHeader; `upgrade` checks
    // its magic.
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

/// The linker's own words, without the name that we opened the file by.
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

/// Ids are keys in configuration and names of cache directories.
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
