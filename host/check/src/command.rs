//! The command: its arguments, and the choice of cases.

use std::{path::PathBuf, time::Duration};

use anyhow::bail;
use clap::Args;

use crate::{
    process,
    report::CheckReport,
    subject::Subject,
    table::{CASES, Case},
};

/// Check a plugin by what its ABI promises, case by case. Exits with 1 if a case failed or crashed.
#[derive(Args)]
pub struct Check {
    /// The plugin's library.
    file: PathBuf,
    /// A model of the plugin: a file or directory. Without it most cases are skipped. A tiny one will do.
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Run only these cases; the name of a group (such as `forward`) stands for all its cases.
    #[arg(long, value_name = "CASE", num_args = 1..)]
    include: Vec<String>,
    /// Do not run these cases, or groups of cases.
    #[arg(long, value_name = "CASE", num_args = 1..)]
    exclude: Vec<String>,
    /// Seed of random data [default: another one each time; it is printed].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Most seconds that a case may take.
    #[arg(long, value_name = "SECS", default_value_t = 120)]
    time_limit: u64,
    /// Run this case in this process. The checker starts itself with this argument.
    #[arg(long, value_name = "CASE", hide = true)]
    case_in_this_process: Option<String>,
}

impl Check {
    /// Runs the cases and prints their outcomes. False if one failed or crashed.
    ///
    /// # Errors
    /// An argument is wrong, or no child process can be started.
    pub fn run(self) -> anyhow::Result<bool> {
        let subject = Subject {
            file: existing(self.file)?,
            model: self.model.map(existing).transpose()?,
            seed: self.seed.unwrap_or_else(|| fastrand::u64(..1 << 32)),
        };
        if let Some(name) = &self.case_in_this_process {
            process::run_here(named(name)?, &subject)?;
            return Ok(true);
        }
        let cases = chosen(&self.include, &self.exclude)?;
        let limit = Duration::from_secs(self.time_limit.max(1));
        let outcomes = cases
            .into_iter()
            .map(|case| process::run(case, &subject, limit));
        let report = CheckReport::new(&subject, outcomes.collect::<std::io::Result<_>>()?);
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(&report)?),
            false => print!("{report}"),
        }
        Ok(report.passed())
    }
}

fn existing(path: PathBuf) -> anyhow::Result<PathBuf> {
    match path.canonicalize() {
        Ok(path) => Ok(path),
        Err(error) => bail!("{}: {error}", path.display()),
    }
}

fn named(name: &str) -> anyhow::Result<&'static Case> {
    let found = CASES.iter().find(|case| case.name == name);
    found.ok_or_else(|| anyhow::anyhow!("there is no case `{name}`"))
}

/// The cases that are included and not excluded.
fn chosen(include: &[String], exclude: &[String]) -> anyhow::Result<Vec<&'static Case>> {
    for name in include.iter().chain(exclude) {
        if !CASES.iter().any(|case| is_meant(case, name)) {
            let names: Vec<_> = CASES.iter().map(|case| case.name).collect();
            bail!(
                "there is no case or group `{name}`: choose from {}",
                names.join(", ")
            );
        }
    }
    let among = |names: &[String], case| names.iter().any(|name| is_meant(case, name));
    let cases = CASES
        .iter()
        .filter(|case| include.is_empty() || among(include, case));
    Ok(cases.filter(|case| !among(exclude, case)).collect())
}

fn is_meant(case: &Case, name: &str) -> bool {
    case.name == name || case.group() == name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(include: &[&str], exclude: &[&str]) -> Vec<&'static str> {
        let owned = |names: &[&str]| {
            names
                .iter()
                .map(|&name| name.to_owned())
                .collect::<Vec<_>>()
        };
        let cases = chosen(&owned(include), &owned(exclude)).unwrap();
        cases.iter().map(|case| case.name).collect()
    }

    #[test]
    fn cases_are_chosen_by_name_or_group() {
        assert_eq!(names(&[], &[]).len(), CASES.len());
        let free = ["free/idempotent", "free/id-reuse-clean"];
        assert_eq!(names(&["free"], &[]), free);
        assert_eq!(names(&["free"], &["free/idempotent"]), free[1..]);
        assert!(!names(&[], &["free"]).contains(&free[0]));
        let wrong = chosen(&["fre".to_owned()], &[]).err().unwrap();
        assert!(
            wrong.to_string().contains("no case or group `fre`"),
            "{wrong}"
        );
    }
}
