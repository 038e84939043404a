use tenon_plugin_api::{Code, Error};

/// An error that is the plugin's fault.
pub fn plugin_fault(what: &str) -> Error {
    Error::new(
        Code::INTERNAL,
        format!("the plugin {what}: tell its author"),
    )
}

/// An error for a plugin that says something which only a later host understands.
pub fn newer_plugin(what: &str) -> Error {
    Error::new(
        Code::UNSUPPORTED,
        format!("the plugin {what} in a way that this host does not know: update Tenon"),
    )
}
