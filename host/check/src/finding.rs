//! The outcomes of cases.

use serde::{Deserialize, Serialize};
use tenon_plugin_api::{Code, Error};

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaseStatus {
    Success,
    Warning,
    Failed,
    Skipped,
    Crashed,
}

/// Why a case did not succeed.
#[derive(Debug)]
pub struct Finding {
    status: CaseStatus,
    /// The observation, and what the author should do.
    sentence: String,
    /// The case that the broken promise belongs to. None: the case that found it.
    belongs_to: Option<String>,
}

/// What a case returns: a sentence about its success, or a finding.
pub type Checked<T = String> = Result<T, Finding>;

/// The name in an error's `meta` of the case that a broken promise belongs to.
const CASE: &str = "org.tenon.check.case";

impl Finding {
    /// A promise is broken.
    pub fn failed(sentence: impl Into<String>) -> Self {
        Self::new(CaseStatus::Failed, sentence)
    }

    /// Something is not as it should be, but no promise is broken.
    pub fn warning(sentence: impl Into<String>) -> Self {
        Self::new(CaseStatus::Warning, sentence)
    }

    /// The case does not apply.
    pub fn skipped(sentence: impl Into<String>) -> Self {
        Self::new(CaseStatus::Skipped, sentence)
    }

    fn new(status: CaseStatus, sentence: impl Into<String>) -> Self {
        Self {
            status,
            sentence: sentence.into(),
            belongs_to: None,
        }
    }

    /// Says that the broken promise belongs to this case, unless the finding names a case already.
    pub fn of(self, case: &str) -> Self {
        Self {
            belongs_to: self.belongs_to.or_else(|| Some(case.to_owned())),
            ..self
        }
    }

    /// Says at the beginning of the sentence when the finding was made.
    pub fn prefixed(self, when: &str) -> Self {
        Self {
            sentence: format!("{when}: {}", self.sentence),
            ..self
        }
    }

    /// Status and sentence as the case that made the finding reports them.
    pub fn told_by(self, case: &str) -> (CaseStatus, String) {
        match self.belongs_to {
            Some(other) if other != case && self.status != CaseStatus::Skipped => (
                CaseStatus::Skipped,
                format!("{}: see {other}", self.sentence),
            ),
            _ => (self.status, self.sentence),
        }
    }
}

/// A call that should have worked did not.
impl From<Error> for Finding {
    fn from(error: Error) -> Self {
        let sentence = format!("a call failed with {:?} ({})", error.code, error.message);
        Self {
            belongs_to: error.meta.get(CASE).map(str::to_owned),
            ..Self::failed(sentence)
        }
    }
}

/// An error that breaks the promise of this case, even if another case meets it.
pub fn broken(case: &str, what: &str) -> Error {
    let mut error = Error::new(Code::INTERNAL, what);
    error.meta.set(CASE, case);
    error
}

/// Fails unless something holds.
pub fn ensure(holds: bool, sentence: impl FnOnce() -> String) -> Checked<()> {
    match holds {
        true => Ok(()),
        false => Err(Finding::failed(sentence())),
    }
}

/// Skips the case if the plugin does not support the call.
pub fn unless_unsupported<T>(result: tenon_plugin_api::Result<T>) -> Checked<T> {
    result.map_err(|error| match error.code {
        Code::UNSUPPORTED => {
            Finding::skipped(format!("not done by this plugin: {}", error.message))
        }
        _ => error.into(),
    })
}

/// Fails unless a call fails with this code.
pub fn refused<T>(what: &str, result: tenon_plugin_api::Result<T>, wanted: Code) -> Checked<()> {
    match result {
        Ok(_) => Err(Finding::failed(format!(
            "{what} was accepted: answer {wanted:?}"
        ))),
        Err(error) if error.code == wanted => Ok(()),
        Err(error) => Err(Finding::failed(format!(
            "{what} was refused with {:?} ({}): answer {wanted:?}",
            error.code, error.message
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_of_another_case_is_not_held_against_this_one() {
        let found = || Finding::from(broken("forward/rows-in-order", "the rows are in disorder"));
        assert_eq!(
            found().told_by("forward/rows-in-order").0,
            CaseStatus::Failed
        );
        let (status, sentence) = found().of("fork/isolated").told_by("fork/isolated");
        assert_eq!(status, CaseStatus::Skipped);
        assert!(
            sentence.ends_with("see forward/rows-in-order"),
            "{sentence}"
        );
        let own = Finding::failed("wrong").told_by("fork/isolated");
        assert_eq!(own.0, CaseStatus::Failed);
    }
}
