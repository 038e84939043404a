//! `tenon models …`

mod facts;
mod list;
mod remove;
mod show;

use clap::Subcommand;

/// List, show and remove the models on this machine.
#[derive(Subcommand)]
pub enum Models {
    List(list::List),
    Show(show::Show),
    Rm(remove::Remove),
}

impl Models {
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(list) => list.run(),
            Self::Show(show) => show.run(),
            Self::Rm(remove) => remove.run(),
        }
    }
}
