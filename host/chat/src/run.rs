//! `tenon run`

use std::io::{self, IsTerminal, Read, Write};

use anyhow::bail;
use clap::Args;

use crate::{
    printable::printable,
    reply::{PartialAnswer, Piece},
    request::{FormArgs, Message, SamplingArgs},
    target::TargetArgs,
};

/// Print one answer, and end.
///
/// Text from a pipe is put below the question: cat report.txt | tenon run MODEL "Summarise this."
#[derive(Args)]
pub struct Run {
    /// A model's file or directory, a model on the Hugging Face Hub (see `tenon pull`), or the URL of a running server.
    target: String,
    /// The question.
    question: Vec<String>,
    /// The system message, which comes before the question.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    form: FormArgs,
    #[command(flatten)]
    server: TargetArgs,
}

impl Run {
    /// Answers the question on stdout.
    ///
    /// # Errors
    /// There is no question, the server cannot be reached or started, or it refuses the request.
    pub fn run(self) -> anyhow::Result<()> {
        let messages = self.messages()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(self.answer(&messages))
    }

    async fn answer(&self, messages: &[Message]) -> anyhow::Result<()> {
        let mut body = self.sampling.body("", messages);
        self.form.add_to(&mut body)?;
        let target = self.server.connect(&self.target).await?;
        body.insert("model".to_owned(), target.model.into());
        let mut reply = PartialAnswer::default();
        let shown = reply.read(&target.server, body, print).await;
        // If the reader is gone, there is nobody to tell.
        let _ = writeln!(io::stdout());
        shown?;
        if reply.finish_reason.as_deref() == Some("length") {
            eprintln!("the answer was cut off: it had as many tokens as it may have");
        }
        Ok(())
    }

    fn messages(&self) -> anyhow::Result<Vec<Message>> {
        let mut question = self.question.join(" ");
        if !io::stdin().is_terminal() {
            let mut piped = String::new();
            io::stdin().read_to_string(&mut piped)?;
            let parts = [question.trim(), piped.trim()];
            question = parts.map(str::to_owned).join("\n\n").trim().to_owned();
        }
        if question.is_empty() {
            bail!("there is no question: tenon run MODEL \"What is the capital of Japan?\"");
        }
        let system = self.system.iter().map(|text| Message::new("system", text));
        Ok(system.chain([Message::new("user", question)]).collect())
    }
}

/// Prints the answer's text, and no reasoning.
fn print(piece: Piece<'_>) {
    if let Piece::Text(text) = piece {
        let mut out = io::stdout();
        let text = match out.is_terminal() {
            true => printable(text),
            false => text.into(),
        };
        // If the reader is gone, such as `head`, the answer is still read to its end.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}
