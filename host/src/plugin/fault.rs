use tenon_plugin_api::{Code, Error};

/// An error that is the plugin's fault.
pub fn plugin_fault(what: &str) -> Error {
    Error::new(
        Code::INTERNAL,
        format!("the plugin {what}: tell its author"),
    )
}
