//! `tenon models rm`

use std::io::{IsTerminal, Write, stderr, stdin};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use indicatif::HumanBytes;
use tenon::hub::HubModel;
use tenon_hub::{HubSettings, HuggingFace};

/// Remove a model from the cache of the Hugging Face Hub, after a question.
#[derive(Args)]
pub struct Remove {
    /// The model, as `tenon models list` names it. hf:OWNER/REPO is all that the cache has of the repository.
    #[arg(value_name = "MODEL")]
    model: HubModel,
    /// Remove it without a question.
    #[arg(long)]
    yes: bool,
}

impl Remove {
    pub fn run(self) -> anyhow::Result<()> {
        let model = &self.model;
        let hub = HuggingFace::new(HubSettings::of_process());
        let place = hub.cache().place();
        let removal = hub.cache().removal(model);
        let removal = removal.map_err(|why| anyhow!("{model} is not in {place}: {why}"))?;
        let size = HumanBytes(removal.size_bytes);
        if !self.yes && !agrees(&format!("remove {model} ({size}) from {place}?"))? {
            bail!("nothing was removed");
        }
        removal
            .carry_out()
            .with_context(|| format!("not all of {model} could be removed from {place}"))?;
        println!("removed {model}, {size}");
        Ok(())
    }
}

fn agrees(question: &str) -> anyhow::Result<bool> {
    if !stdin().is_terminal() {
        bail!("nobody can be asked whether to {question} give --yes");
    }
    eprint!("{question} [y/N] ");
    stderr().flush()?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}
