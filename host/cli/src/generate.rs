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
    pub fn run(self, mut program: Command) -> anyhow::Result<()> {
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
