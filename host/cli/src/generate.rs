//! `tenon generate`

use std::{fs, path::PathBuf};

use clap::{Args, Command};
use clap_complete::{Shell, generate_to};

/// Write the man pages and the completions of shells. `make dist` puts them into the files of a release.
#[derive(Args)]
pub struct Generate {
    /// The directory to write into, laid out as `/usr/share`.
    directory: PathBuf,
}

/// Where each shell looks for completions, below `/usr/share`.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions"),
    (Shell::Fish, "fish/vendor_completions.d"),
    (Shell::Zsh, "zsh/site-functions"),
];

impl Generate {
    pub fn run(self, program: Command) -> anyhow::Result<()> {
        let mut program = without_hidden(&program);
        let pages = self.directory.join("man/man1");
        fs::create_dir_all(&pages)?;
        clap_mangen::generate_to(program.clone(), pages)?;
        for (shell, place) in COMPLETIONS {
            let place = self.directory.join(place);
            fs::create_dir_all(&place)?;
            generate_to(shell, &mut program, "tenon", place)?;
        }
        Ok(())
    }
}

/// A copy of a command without its hidden commands and options. Completions would offer them.
fn without_hidden(command: &Command) -> Command {
    let shown = command
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set());
    let mut copy = Command::new(command.get_name().to_owned())
        .args(
            command
                .get_arguments()
                .filter(|argument| !argument.is_hide_set())
                .cloned(),
        )
        .subcommands(shown.map(without_hidden));
    if let Some(about) = command.get_about() {
        copy = copy.about(about.clone());
    }
    if let Some(about) = command.get_long_about() {
        copy = copy.long_about(about.clone());
    }
    match command.get_version() {
        Some(version) => copy.version(version.to_owned()),
        None => copy,
    }
}
