//! A whole backend on one page: the template to start from, and the backend of Tenon's own exact tests.
//!
//! It has no weights, and its tokens are bytes. In a chat it repeats the last user message; elsewhere its logits are
//! pseudo-random. A model is a file `NAME.echo` with the number of milliseconds that a step takes (empty: 0).

use std::{
    fs,
    hash::*,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use tenon_plugin_api::{options::NoOptions, *};

const CONTROL: [&str; 4] = ["<|begin|>", "<|end|>", "<|user|>", "<|assistant|>"];
const BEGIN: u32 = 256;
const VOCAB_SIZE: u32 = BEGIN + CONTROL.len() as u32;
/// Length of a row of logits: longer than the vocabulary, as in many real models.
const LOGITS_WIDTH: usize = 288;

/// A hash without a random key, so that every process gives the same logits.
const HASH: BuildHasherDefault<DefaultHasher> = BuildHasherDefault::new();

/// How often a step looks whether it has to stop.
const POLL: Duration = Duration::from_millis(10);

struct Echo;
struct EchoModel(Duration);

struct EchoSession {
    info: SessionInfo,
    ledger: KvLedger,
    /// The token in each cell of the ledger: `[kv_tokens]`.
    kv: Vec<u32>,
    /// `[rows, LOGITS_WIDTH]`
    logits: Vec<f32>,
    /// Scratch: the tokens of one sequence.
    past: Vec<u32>,
    step: Duration,
    interrupt: Interrupt,
}

export_plugin!(Echo);

impl Backend for Echo {
    fn descriptor() -> Descriptor {
        let mut descriptor = Descriptor::new("org.tenon.echo", "Echo", env!("CARGO_PKG_VERSION"))
            .with_options::<NoOptions>()
            .with_model_options::<NoOptions>();
        descriptor.vendor = "Tenon".into();
        descriptor.license = env!("CARGO_PKG_LICENSE").into();
        descriptor
    }

    fn init(_host: Host, _options: &str) -> Result<Self> {
        Ok(Self)
    }

    fn supports(&self, path: &Path) -> Support {
        match path.extension() {
            Some(extension) if extension == "echo" => Support::yes(100, "an echo model"),
            _ => Support::no("not a .echo file"),
        }
    }

    fn load(&self, args: &LoadArgs, _progress: &Progress) -> Result<Box<dyn Model>> {
        if let Some(device) = args.devices.iter().find(|device| *device != "cpu") {
            return Err(Error::no_device(device, &["cpu".to_owned()]));
        }
        let text = fs::read_to_string(&args.path).map_err(|e| Error::io(&args.path, &e))?;
        let step_ms = format!("0{}", text.trim()).parse();
        let step_ms = step_ms.map_err(|_| Error::invalid("an echo model holds one number"))?;
        Ok(Box::new(EchoModel(Duration::from_millis(step_ms))))
    }
}

impl Model for EchoModel {
    fn info(&self) -> ModelInfo {
        let mut info = ModelInfo::new("echo", 8192, VOCAB_SIZE);
        info.logits_width = LOGITS_WIDTH as u32;
        info.bos = Some(BEGIN);
        info.eos = vec![BEGIN + 1];
        info.chat_template = Some(include_str!("chat_template.jinja").into());
        info.capabilities = Capabilities::CANONICAL_TOKENIZER;
        info
    }

    fn tokenizer(&self) -> Result<Box<dyn Tokenizer>> {
        Ok(Box::new(ByteTokenizer::new(&CONTROL)))
    }

    fn session(&self, args: &SessionArgs) -> Result<Box<dyn Session>> {
        let info = SessionInfo::grant(args, 8192)?;
        Ok(Box::new(EchoSession {
            info,
            ledger: KvLedger::new(info.max_sequences, info.kv_tokens),
            kv: vec![0; info.kv_tokens as usize],
            logits: Vec::new(),
            past: Vec::new(),
            step: self.0,
            interrupt: args.interrupt.clone(),
        }))
    }
}

impl Session for EchoSession {
    fn info(&self) -> SessionInfo {
        self.info
    }

    fn forward(&mut self, batch: &Batch<'_>, out: &mut [SpanOut]) -> Result<()> {
        self.logits.clear();
        self.pretend_to_compute()?;
        self.info.check_batch(batch)?;
        for ((span, tokens), out) in batch.iter().zip(out) {
            out.first_row = (self.logits.len() / LOGITS_WIDTH) as u32;
            let valid = span.check(tokens, VOCAB_SIZE, self.info.context_length);
            match valid.and_then(|()| self.ledger.append(span)) {
                Ok(()) => self.run(span, tokens),
                Err(code) => out.status = code,
            }
        }
        Ok(())
    }

    fn logits(&mut self, row: u32) -> Result<&[f32]> {
        let rows = self.logits.chunks_exact(LOGITS_WIDTH);
        let found = rows.clone().nth(row as usize);
        found.ok_or_else(|| Error::no_row(row, rows.len()))
    }

    fn ledger(&mut self) -> Option<&mut KvLedger> {
        Some(&mut self.ledger)
    }
}

impl EchoSession {
    /// Waits as long as a step takes, unless the host stops it.
    fn pretend_to_compute(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.interrupt.check()?;
            let left = self.step.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            sleep(left.min(POLL));
        }
    }

    fn run(&mut self, span: &Span, tokens: &[u32]) {
        let cells = self.ledger.cells(span.seq);
        for (&cell, &token) in cells[span.start as usize..].iter().zip(tokens) {
            self.kv[cell as usize] = token;
        }
        self.past.clear();
        self.past
            .extend(cells.iter().map(|&cell| self.kv[cell as usize]));
        for later in (0..span.rows as usize).rev() {
            predict(&self.past[..self.past.len() - later], &mut self.logits);
        }
    }
}

/// The model: appends the row of logits for the token after `past`.
fn predict(past: &[u32], logits: &mut Vec<f32>) {
    let row = logits.len();
    let seed = HASH.hash_one(past);
    let noise = |token| (HASH.hash_one((seed, token)) >> 40) as f32 / (1 << 21) as f32;
    logits.extend((0..VOCAB_SIZE).map(noise));
    logits.resize(row + LOGITS_WIDTH, f32::NEG_INFINITY);
    // Inside an answer, the next token is the one at the same place in the last user message.
    let last = |control| past.iter().rposition(|&token| token == control);
    if let (Some(answer), Some(message)) = (last(BEGIN + 3), last(BEGIN + 2))
        && let Some(&next) = past.get(message + past.len() - answer)
    {
        logits[row + next as usize] += 30.0;
    }
}
