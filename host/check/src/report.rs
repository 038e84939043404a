//! The outcomes of a check, for people and for programs.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
    path::PathBuf,
};

use serde::Serialize;

use crate::{finding::CaseStatus, subject::Subject, table::Case};

/// The outcomes of all cases that were run. As JSON it is a stable document: later versions add keys.
#[derive(Serialize)]
pub struct CheckReport {
    file: PathBuf,
    model: Option<PathBuf>,
    seed: u64,
    /// Number of cases by status.
    counts: BTreeMap<String, usize>,
    cases: Vec<CaseOutcome>,
}

/// How a case ended.
#[derive(Serialize)]
pub struct CaseOutcome {
    name: &'static str,
    /// The promise that a success of the case proves.
    proves: &'static str,
    status: CaseStatus,
    sentence: String,
    /// The end of the plugin's output during the case.
    #[serde(skip_serializing_if = "String::is_empty")]
    output: String,
}

impl CaseOutcome {
    pub fn new(
        case: &'static Case,
        (status, sentence): (CaseStatus, String),
        output: String,
    ) -> Self {
        Self {
            name: case.name,
            proves: case.proves,
            status,
            sentence,
            output,
        }
    }

    fn is_bad(&self) -> bool {
        matches!(self.status, CaseStatus::Failed | CaseStatus::Crashed)
    }
}

impl CheckReport {
    pub fn new(subject: &Subject, cases: Vec<CaseOutcome>) -> Self {
        let mut counts = BTreeMap::new();
        for case in &cases {
            *counts.entry(word(case.status).to_owned()).or_default() += 1;
        }
        Self {
            file: subject.file.clone(),
            model: subject.model.clone(),
            seed: subject.seed,
            counts,
            cases,
        }
    }

    /// Whether no case failed or crashed.
    pub fn passed(&self) -> bool {
        !self.cases.iter().any(CaseOutcome::is_bad)
    }
}

fn word(status: CaseStatus) -> &'static str {
    match status {
        CaseStatus::Success => "success",
        CaseStatus::Warning => "warning",
        CaseStatus::Failed => "failed",
        CaseStatus::Skipped => "skipped",
        CaseStatus::Crashed => "crashed",
    }
}

/// A line for each case. Cases that failed or crashed come with what they prove, and with the end of the plugin's output.
impl Display for CheckReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let width = self.cases.iter().map(|case| case.name.len()).max();
        let width = width.unwrap_or_default();
        for case in &self.cases {
            let (status, name) = (word(case.status), case.name);
            writeln!(f, "{status:<7}  {name:<width$}  {}", case.sentence)?;
            if case.is_bad() {
                writeln!(f, "{:9}promised: {}", "", case.proves)?;
                for line in case.output.lines() {
                    writeln!(f, "{:9}| {line}", "")?;
                }
            }
        }
        let counts = self.counts.iter();
        let counts: Vec<_> = counts
            .map(|(word, count)| format!("{count} {word}"))
            .collect();
        writeln!(f, "{} (seed {})", counts.join(", "), self.seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::CASES;

    #[test]
    fn a_failed_case_says_what_was_promised_and_the_others_are_one_line() {
        let subject = Subject {
            file: "a.so".into(),
            model: None,
            seed: 7,
        };
        let outcome = |at: usize, status, sentence: &str, output: &str| {
            CaseOutcome::new(&CASES[at], (status, sentence.to_owned()), output.to_owned())
        };
        let good = outcome(0, CaseStatus::Success, "it is complete", "noise");
        let passed = CheckReport::new(&subject, vec![good]);
        assert!(passed.passed());
        assert_eq!(passed.to_string().lines().count(), 2);

        let bad = outcome(1, CaseStatus::Crashed, "the process ended", "last words");
        let failed = CheckReport::new(&subject, vec![bad]);
        assert!(!failed.passed());
        let text = failed.to_string();
        assert!(
            text.contains(&format!("promised: {}", CASES[1].proves)),
            "{text}"
        );
        assert!(text.contains("| last words"), "{text}");
        assert!(text.ends_with("1 crashed (seed 7)\n"), "{text}");
    }
}
