//! `tenon chat`

use std::{
    fs,
    io::{self, IsTerminal, Write},
};

use anyhow::Context;
use clap::Args;
use rustyline::{DefaultEditor, error::ReadlineError};
use tokio::{runtime::Runtime, signal};

use crate::{
    markdown::Markdown,
    printable::printable,
    reply::{PartialAnswer, Piece},
    request::{Message, SamplingArgs},
    target::{Target, TargetArgs},
};

/// Chat in the terminal.
#[derive(Args)]
pub struct Chat {
    /// A model's file or directory, a model on the Hugging Face Hub (see `tenon pull`), or the URL of a running server.
    #[arg(default_value = "http://localhost:8080")]
    target: String,
    /// The system message, which comes before the conversation.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    server: TargetArgs,
}

const HELP: &str = "\
/system TEXT         tell the model something before the conversation; without a text: forget it
/clear               begin a new conversation
/save FILE           write the conversation to a file
/tokens-per-second   show the speed of each answer, or show it no more
/quit                end, as Ctrl-D does
A line that ends with \\ goes on in the next one. Ctrl-C stops an answer.";

/// A conversation and how it is shown.
struct TerminalConversation {
    target: Target,
    sampling: SamplingArgs,
    system: Option<String>,
    messages: Vec<Message>,
    shows_figures: bool,
    has_colours: bool,
}

impl Chat {
    /// Chats until the user ends it.
    ///
    /// # Errors
    /// The server cannot be reached or started, or the terminal cannot be read.
    pub fn run(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let target = runtime.block_on(self.server.connect(&self.target))?;
        println!(
            "{} at {}. /help lists the commands.",
            target.model,
            target.server.url()
        );
        let conversation = TerminalConversation {
            target,
            sampling: self.sampling,
            system: self.system,
            messages: Vec::new(),
            shows_figures: false,
            has_colours: io::stdout().is_terminal(),
        };
        conversation.go_on(&runtime)
    }
}

impl TerminalConversation {
    fn go_on(mut self, runtime: &Runtime) -> anyhow::Result<()> {
        let mut editor = DefaultEditor::new()?;
        loop {
            let text = match read(&mut editor) {
                Ok(text) => text,
                Err(ReadlineError::Interrupted) => continue,
                Err(ReadlineError::Eof) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            // A line that the history does not take is only missing there.
            let _ = editor.add_history_entry(&text);
            match text.trim().strip_prefix('/') {
                None if text.trim().is_empty() => {}
                None => runtime.block_on(self.ask(text)),
                Some("quit") => return Ok(()),
                Some(command) => self.obey(command),
            }
        }
    }

    fn obey(&mut self, command: &str) {
        let (name, argument) = command.split_once(' ').unwrap_or((command, ""));
        let argument = argument.trim();
        match name {
            "help" => println!("{HELP}"),
            "clear" => self.messages.clear(),
            "system" => self.system = (!argument.is_empty()).then(|| argument.to_owned()),
            "tokens-per-second" => self.shows_figures = !self.shows_figures,
            "save" => match self.save(argument) {
                Ok(()) => println!("written to {argument}"),
                Err(error) => println!("{error:#}"),
            },
            _ => println!("there is no command /{name}: /help lists them"),
        }
    }

    /// Writes the conversation in Markdown.
    fn save(&self, path: &str) -> anyhow::Result<()> {
        let parts = self.whole().into_iter();
        let parts = parts.map(|message| format!("## {}\n\n{}\n\n", message.role, message.content));
        let text: String = parts.collect();
        fs::write(path, text).with_context(|| format!("cannot write {path:?}: /save FILE"))
    }

    /// Asks, and shows the answer until it ends or is stopped. A question that fails is forgotten.
    async fn ask(&mut self, text: String) {
        self.messages.push(Message::new("user", text));
        let body = self.sampling.body(&self.target.model, &self.whole());
        let mut screen = Screen::new(self.has_colours);
        let mut reply = PartialAnswer::default();
        let answered = tokio::select! {
            answered = reply.read(&self.target.server, body, |piece| screen.show(&piece)) => answered,
            _ = signal::ctrl_c() => Ok(()),
        };
        screen.end();
        if let Err(error) = answered {
            println!("{error:#}");
        }
        match reply.text.is_empty() {
            true => _ = self.messages.pop(),
            false => self.messages.push(Message::new("assistant", &reply.text)),
        }
        if let Some(figures) = reply.figures().filter(|_| self.shows_figures) {
            println!("{figures}");
        }
    }

    fn whole(&self) -> Vec<Message> {
        let system = self.system.iter().map(|text| Message::new("system", text));
        system.chain(self.messages.iter().cloned()).collect()
    }
}

/// Reads a line, with the lines that continue it.
fn read(editor: &mut DefaultEditor) -> rustyline::Result<String> {
    let mut text = editor.readline("> ")?;
    while text.ends_with('\\') {
        text.pop();
        text.push('\n');
        text += &editor.readline("… ")?;
    }
    Ok(text)
}

/// An answer on the screen.
struct Screen {
    markdown: Option<Markdown>,
    is_empty: bool,
    is_reasoning: bool,
}

const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

impl Screen {
    fn new(has_colours: bool) -> Self {
        Self {
            markdown: has_colours.then(Markdown::default),
            is_empty: true,
            is_reasoning: false,
        }
    }

    fn show(&mut self, piece: &Piece<'_>) {
        match piece {
            Piece::Reasoning(text) => self.write(&self.dimmed(&printable(text)), true),
            Piece::Text(text) => {
                let text = printable(text);
                let text = match &mut self.markdown {
                    Some(markdown) => markdown.piece(&text),
                    None => text.into_owned(),
                };
                self.write(&text, false);
            }
        }
    }

    fn dimmed(&self, text: &str) -> String {
        match &self.markdown {
            Some(_) => format!("{DIM}{text}{RESET}"),
            None => text.to_owned(),
        }
    }

    /// Ends the line, if anything was shown.
    fn end(&mut self) {
        if self.is_empty {
            return;
        }
        let rest = self.markdown.as_mut().map(Markdown::end);
        self.write(&(rest.unwrap_or_default() + "\n"), self.is_reasoning);
    }

    /// Prints a text, with an empty line between the reasoning and the answer.
    fn write(&mut self, text: &str, is_reasoning: bool) {
        let mut out = io::stdout();
        let between = if self.is_reasoning && !is_reasoning {
            "\n\n"
        } else {
            ""
        };
        self.is_reasoning = is_reasoning;
        self.is_empty = false;
        // A terminal that is gone ends the program at the next question.
        let _ = write!(out, "{between}{text}").and_then(|()| out.flush());
    }
}
