//! Why a configuration is refused.

/// Everything that is wrong with a configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("\n"))]
pub struct ConfigError {
    /// At least one problem, a sentence each.
    pub problems: Vec<String>,
}

impl ConfigError {
    pub(super) fn unless_empty(problems: Vec<String>) -> Result<(), Self> {
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Self { problems }),
        }
    }
}
