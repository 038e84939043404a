//! Opens a plugin's library in this process, and checks that both sides agree on the ABI.

use std::fs::File;

use abi_stable::{
    StableAbi,
    library::{AbiHeaderRef, LibHeader, RootModule},
    sabi_types::VersionStrings,
};
use tenon_plugin_api::{
    Descriptor, Result as CallResult,
    abi::{AbiVersion, BackendBox, HostBox, PluginModule_Ref, layouts_agree},
};

use super::{
    c::CPlugin,
    library::{EntryPoint, Library},
    other_abi::OtherAbi,
};

/// Why a library cannot be used. The text ends a sentence that begins with the file's name.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot be linked ({0}): install what it needs, or build the plugin for this system")]
    Link(String),
    #[error(
        "{built_from}was built with another version of abi_stable than this host, which takes plugins of ABI {major}.x: \
         build the plugin with tenon-plugin-api {major}",
        major = AbiVersion::CURRENT.major
    )]
    Header { built_from: String },
    #[error("is a library for `{0}`, not a Tenon plugin: move it elsewhere")]
    Foreign(String),
    #[error("{0}")]
    OtherAbi(OtherAbi),
    #[error("{0}")]
    Table(String),
    #[error("could not set up its root module ({0}): tell the plugin's author")]
    RootModule(String),
    #[error(
        "calls itself `{0}`: a plugin's id is a reverse URI of letters, digits, `-` and `_`, such as org.tenon.echo"
    )]
    Id(String),
    #[error("says of itself that {0}")]
    Descriptor(String),
}

impl LoadError {
    /// More for the plugin's author. May be empty.
    pub fn details(&self) -> &str {
        match self {
            Self::OtherAbi(OtherAbi {
                mismatch: Some(mismatch),
                ..
            }) => &mismatch.report,
            _ => "",
        }
    }
}

/// An open library that speaks this host's ABI. Its backend is not started yet.
pub struct Plugin {
    root: Root,
    abi: AbiVersion,
    descriptor: Descriptor,
}

/// The entry that starts the backend.
enum Root {
    Rust(PluginModule_Ref),
    C(Box<CPlugin>),
}

impl Plugin {
    /// Opens a library, which runs its constructors: a bad file ends the process here. A library is never closed.
    pub fn open(file: File) -> Result<Self, LoadError> {
        let library = Library::open(file).map_err(LoadError::Link)?;
        let plugin = match library.entry {
            EntryPoint::Rust(header) => Self::in_rust(header, &library.built_from)?,
            EntryPoint::C(exported) => {
                Self::in_c(CPlugin::read(exported).map_err(LoadError::Table)?)
            }
        };
        if !is_id(&plugin.descriptor.id) {
            return Err(LoadError::Id(plugin.descriptor.id));
        }
        let understood = plugin.descriptor.meta.check();
        understood.map_err(|error| LoadError::Descriptor(error.message))?;
        Ok(plugin)
    }

    fn in_rust(header: AbiHeaderRef, built_from: &str) -> Result<Self, LoadError> {
        let header = check_header(header, built_from)?;
        // SAFETY: the layout was checked just now.
        let module = unsafe { header.init_root_module_with_unchecked_layout::<PluginModule_Ref>() };
        let module = module.map_err(|error| LoadError::RootModule(one_line(&error.to_string())))?;
        Ok(Self {
            root: Root::Rust(module),
            abi: module.abi()(),
            descriptor: Descriptor::from(module.descriptor()()),
        })
    }

    fn in_c(plugin: CPlugin) -> Self {
        Self {
            abi: plugin.abi(),
            descriptor: plugin.descriptor().clone(),
            root: Root::C(Box::new(plugin)),
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
        match &self.root {
            Root::Rust(module) => Ok(module.init()(host, options.into()).into_result()?),
            Root::C(plugin) => plugin.init(host, options),
        }
    }
}

/// Checks that the library is a plugin whose types are those of this host.
fn check_header(header: AbiHeaderRef, built_from: &str) -> Result<&'static LibHeader, LoadError> {
    let no_header = || LoadError::Header {
        built_from: match built_from {
            "" => String::new(),
            name => format!("({name}) "),
        },
    };
    let header = header.upgrade().map_err(|_| no_header())?;
    let name = header.root_mod_consts().base_name();
    if name.as_str() != PluginModule_Ref::BASE_NAME {
        return Err(LoadError::Foreign(name.to_string()));
    }
    let theirs = header.layout().ok_or_else(no_header)?;
    layouts_agree(PluginModule_Ref::LAYOUT, theirs).map_err(|mismatch| {
        LoadError::OtherAbi(OtherAbi {
            built_from: built_from.into(),
            abi: abi(header.version_strings()),
            mismatch: Some(mismatch),
        })
    })?;
    Ok(header)
}

/// The ABI of the crate with this version: its major and minor number.
fn abi(version: VersionStrings) -> String {
    let version = version.version.as_str();
    let patch = version.rfind('.');
    version[..patch.unwrap_or(version.len())].to_owned()
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
