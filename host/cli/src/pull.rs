//! `tenon pull`

use std::{
    io::{IsTerminal, stderr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use tenon::hub::{DownloadProgress, Hub, HubModel, Watcher};
use tenon_hub::{HubSettings, HuggingFace};
use tokio::runtime;

/// Fetch a model from the Hugging Face Hub into the cache that other programs use too, and print where it is.
///
/// An interrupted download is continued by the next one. The environment variables HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT (a
/// mirror) and HF_HUB_OFFLINE mean what they mean to huggingface_hub.
#[derive(Args)]
pub struct Pull {
    /// hf:OWNER/REPO, hf:OWNER/REPO:QUANT (such as Q8_0) or hf:OWNER/REPO:FILE, with @REVISION after REPO for a branch, tag or commit.
    /// Without QUANT and FILE it is Q4_K_M, else the first GGUF file, else the safetensors of the repository.
    #[arg(value_name = "MODEL")]
    model: HubModel,
}

/// The time between two lines about the progress, if there is no terminal to show a bar on.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Shows the progress: as a bar on a terminal, else in a line now and then.
struct ShownProgress {
    bar: Option<ProgressBar>,
    last_line: Mutex<Instant>,
}

impl Pull {
    pub fn run(self) -> anyhow::Result<()> {
        let hub = HuggingFace::new(HubSettings::of_process());
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let shown = ShownProgress::new();
        let path = runtime.block_on(hub.fetch(&self.model, &shown));
        if let Some(bar) = &shown.bar {
            bar.finish_and_clear();
        }
        println!("{}", path?.display());
        Ok(())
    }
}

impl ShownProgress {
    fn new() -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let template = "[{bar:40}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta}";
            // The template is a constant that parses.
            match ProgressStyle::with_template(template) {
                Ok(style) => bar.with_style(style.progress_chars("=> ")),
                Err(_) => bar,
            }
        });
        Self {
            bar,
            last_line: Mutex::new(Instant::now()),
        }
    }
}

impl Watcher for ShownProgress {
    fn progress(&self, progress: DownloadProgress) {
        let DownloadProgress {
            done_bytes,
            total_bytes,
        } = progress;
        if let Some(bar) = &self.bar {
            bar.set_length(total_bytes);
            bar.set_position(done_bytes);
            return;
        }
        let last_line = self.last_line.lock();
        let mut last_line = last_line.unwrap_or_else(PoisonError::into_inner);
        if last_line.elapsed() >= LINE_INTERVAL {
            *last_line = Instant::now();
            eprintln!("{} of {}", HumanBytes(done_bytes), HumanBytes(total_bytes));
        }
    }

    fn note(&self, sentence: &str) {
        match &self.bar {
            Some(bar) => bar.println(sentence),
            None => eprintln!("{sentence}"),
        }
    }
}
