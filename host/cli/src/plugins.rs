//! `tenon plugins …`

mod new;
mod search;
mod show;
mod template;

use clap::{Args, Subcommand};
use tenon::plugin::{InstalledPlugin, Registry, UnusedFile};
use tenon_check::Check;

use self::{new::New, search::Search, show::Show};

/// List and check plugins, show what they are, and begin new ones.
#[derive(Subcommand)]
pub enum Plugins {
    List(List),
    Show(Show),
    Check(Check),
    New(New),
}

/// List the plugins that can be used, and why other files in the plugin directories cannot.
#[derive(Args)]
pub struct List {
    #[command(flatten)]
    search: Search,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Print all that is known about files that cannot be used.
    #[arg(long)]
    verbose: bool,
}

impl Plugins {
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(list) => list.run(),
            Self::Show(show) => show.run(),
            Self::Check(check) => match check.run()? {
                true => Ok(()),
                false => std::process::exit(1),
            },
            Self::New(new) => new.run(),
        }
    }
}

impl List {
    fn run(self) -> anyhow::Result<()> {
        let registry = Registry::load(&self.search.options()?);
        if self.json {
            println!("{}", serde_json::to_string_pretty(&registry)?);
        } else {
            print_text(&registry, self.verbose);
        }
        Ok(())
    }
}

fn print_text(registry: &Registry, verbose: bool) {
    for plugin in registry.plugins() {
        let InstalledPlugin {
            facts,
            path,
            passed_over,
            ..
        } = &**plugin;
        println!(
            "{} {} · {} · ABI {} · {}",
            facts.id,
            facts.version,
            facts.name,
            facts.abi,
            path.display()
        );
        for file in passed_over {
            print_unused("  not used", file, verbose);
        }
    }
    for file in registry.refused() {
        print_unused("refused", file, verbose);
    }
    for warning in registry.warnings() {
        eprintln!("warning: {warning}");
    }
}

fn print_unused(what: &str, file: &UnusedFile, verbose: bool) {
    println!("{what}: {}", file.reason);
    if verbose && !file.details.is_empty() {
        println!("{}", file.details.trim_end());
    }
}
