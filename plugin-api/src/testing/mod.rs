//! For the unit tests of a backend: a host, progress, and a driver that calls a session as the server does. Needs the feature
//! `testing`:
//!
//! ```toml
//! [dev-dependencies]
//! tenon-plugin-api = { version = "1", features = ["testing"] }
//! ```
//!
//! 1. [`TestHost`] starts the backend, and [`progress`] loads a model.
//! 2. A [`Driver`] makes a session. [`Driver::generate`] answers prompts all at once, as the server would.
//!    [`Driver::append`] is a single step and returns its rows of logits.
//! 3. [`distance`] says how far two rows of logits are apart. Rows are equal up to [`TOLERANCE`].
//!
//! `tenon plugins check` drives a built library in the same way, and compares rows with the same function.
//!
//! ```
//! use tenon_plugin_api::{*, testing::*};
//! # use std::path::Path;
//! # struct Mine;
//! # struct MyModel;
//! # struct MySession(SessionInfo, KvLedger, Vec<u32>, Vec<f32>);
//! # impl Backend for Mine {
//! #     fn descriptor() -> Descriptor { Descriptor::new("org.example.mine", "Mine", "0.1.0") }
//! #     fn init(_: Host, _: &str) -> Result<Self> { Ok(Self) }
//! #     fn supports(&self, _: &Path) -> Support { Support::no("it loads nothing") }
//! #     fn load(&self, _: &LoadArgs, progress: &Progress) -> Result<Box<dyn Model>> {
//! #         progress.report(None, "loading")?;
//! #         Ok(Box::new(MyModel))
//! #     }
//! # }
//! # impl Model for MyModel {
//! #     fn info(&self) -> ModelInfo { ModelInfo::new("mine", 64, 256) }
//! #     fn tokenizer(&self) -> Result<Box<dyn Tokenizer>> { Ok(Box::new(ByteTokenizer::new(&[]))) }
//! #     fn session(&self, args: &SessionArgs) -> Result<Box<dyn Session>> {
//! #         let info = SessionInfo::grant(args, 64)?;
//! #         let ledger = KvLedger::new(info.max_sequences, info.kv_tokens);
//! #         Ok(Box::new(MySession(info, ledger, vec![0; info.kv_tokens as usize], Vec::new())))
//! #     }
//! # }
//! # impl Session for MySession {
//! #     fn info(&self) -> SessionInfo { self.0 }
//! #     fn forward(&mut self, batch: &Batch<'_>, out: &mut [SpanOut]) -> Result<()> {
//! #         self.3.clear();
//! #         for ((span, tokens), out) in batch.iter().zip(out) {
//! #             out.first_row = (self.3.len() / 256) as u32;
//! #             if let Err(code) = self.1.append(span) { out.status = code; continue; }
//! #             let cells = self.1.cells(span.seq);
//! #             for (&cell, &token) in cells[span.start as usize..].iter().zip(tokens) {
//! #                 self.2[cell as usize] = token;
//! #             }
//! #             for end in cells.len() + 1 - span.rows as usize..=cells.len() {
//! #                 // The next byte is the one after the last.
//! #                 let next = (self.2[cells[end - 1] as usize] + 1) % 256;
//! #                 self.3.extend((0..256).map(|token| if token == next { 9.0 } else { 0.0 }));
//! #             }
//! #         }
//! #         Ok(())
//! #     }
//! #     fn logits(&mut self, row: u32) -> Result<&[f32]> {
//! #         let row = self.3.chunks_exact(256).nth(row as usize);
//! #         row.ok_or_else(|| Error::invalid("no such row"))
//! #     }
//! #     fn ledger(&mut self) -> Option<&mut KvLedger> { Some(&mut self.1) }
//! # }
//! # fn main() -> Result<()> {
//! let backend = Mine::init(TestHost::default().host(), "{}")?;
//! let model = backend.load(&LoadArgs::default(), &progress(|_, _| true))?;
//! let mut driver = Driver::new(&*model, &SessionArgs {
//!     max_sequences: 2,
//!     max_batch_tokens: 3,
//!     ..SessionArgs::default()
//! })?;
//!
//! // Two prompts at once, the first of them in chunks.
//! let greedy = SampleParams::default();
//! let answers = driver.generate(&[b"xyzabc".map(u32::from).as_slice(), &[65]], &greedy, 0, 3)?;
//! assert_eq!(answers, [b"def".map(u32::from), b"BCD".map(u32::from)]);
//!
//! // In one piece or in two, a prompt gives the same row.
//! let whole = driver.append(&[Part::new(0, &[1, 2, 3])])?.remove(0);
//! driver.append(&[Part::new(1, &[1, 2])])?;
//! let parts = driver.append(&[Part::new(1, &[3])])?.remove(0);
//! assert!(distance(&whole[0], &parts[0]) <= TOLERANCE);
//! # Ok(())
//! # }
//! ```

mod driver;
mod exactness;
mod host;

pub use driver::{Driver, Part, Row};
pub use exactness::{TOLERANCE, distance};
pub use host::{TestHost, progress};
