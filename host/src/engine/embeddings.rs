//! The thread that embeds texts, beside the model thread. Clients take turns, with a few texts each time.

use std::{
    mem,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Instant,
};

use tenon_plugin_api::{Code, Error, Interrupt};
use tokio::sync::{oneshot, watch};

use super::{
    ClientId, EmbeddingError, Failure, SubmitError,
    plugin_calls::Stopwatch,
    queue::{Queue, Ticket},
    shares::{Origin, Shares},
};
use crate::plugin::Embedder;

/// Handle of the thread. The thread ends when the handle is dropped.
pub struct Embeddings {
    queue: Queue,
    inbox: Sender<EmbedderMessage>,
}

/// A pending answer. Dropping it cancels the request, even while it is computed.
pub struct Embedding {
    vectors: oneshot::Receiver<Result<Vec<f32>, Failure>>,
    interrupt: Interrupt,
}

enum EmbedderMessage {
    Job(EmbeddingJob),
    /// The embedder of the model after a reload.
    Embedder(Embedder),
}

struct EmbeddingJob {
    origin: Origin,
    /// Place in the queue, until the job begins.
    place: Vec<Ticket>,
    /// Texts that are still to be embedded.
    texts: Vec<Vec<u32>>,
    /// Vectors of the texts that are done.
    done: Vec<f32>,
    interrupt: Interrupt,
    /// None once the job is answered.
    vectors: Option<oneshot::Sender<Result<Vec<f32>, Failure>>>,
}

/// Tokens after which it is another client's turn.
const TURN_TOKENS: usize = 512;

impl Embeddings {
    /// Starts the thread. `max_queue` requests may wait; one more is refused. `stopwatch` measures the calls of the plugin.
    /// `alive` is dropped when the thread ends.
    pub fn start(
        name: String,
        embedder: Embedder,
        max_queue: usize,
        stopwatch: Arc<Stopwatch>,
        alive: watch::Sender<()>,
    ) -> Result<Self, Error> {
        let (sender, inbox) = channel();
        let queue = Queue::new(max_queue);
        let scheduler = EmbeddingScheduler {
            embedder,
            stopwatch,
            jobs: Vec::new(),
            shares: Shares::new(0),
            queue: queue.clone(),
        };
        thread::Builder::new()
            .name(name)
            .spawn(move || {
                run(scheduler, inbox);
                drop(alive);
            })
            .map_err(|e| Error::new(Code::INTERNAL, e.to_string()))?;
        Ok(Self {
            queue,
            inbox: sender,
        })
    }

    /// Replaces the embedder after the model was loaded again.
    pub fn replace(&self, embedder: Embedder) {
        // Sending fails only if the thread has ended, and the old embedder with it.
        let _ = self.inbox.send(EmbedderMessage::Embedder(embedder));
    }

    /// Queues a client's texts. Each has 1 to `max_tokens` known tokens. Never blocks.
    pub fn submit(&self, client: ClientId, texts: Vec<Vec<u32>>) -> Result<Embedding, SubmitError> {
        let interrupt = Interrupt::default();
        let (sender, vectors) = oneshot::channel();
        let place = self.queue.enter(client, 1)?;
        let arrival = place.first().map_or(0, |ticket| ticket.number);
        let job = EmbeddingJob {
            origin: Origin {
                client,
                request: arrival,
                arrival,
                priority: 0,
            },
            place,
            texts,
            done: Vec::new(),
            interrupt: interrupt.clone(),
            vectors: Some(sender),
        };
        self.inbox
            .send(EmbedderMessage::Job(job))
            .map_err(|_| SubmitError::Stopped(ended()))?;
        Ok(Embedding { vectors, interrupt })
    }
}

impl Embedding {
    /// The vectors: `[texts, dimensions]`, each normalized to length 1.
    pub async fn vectors(mut self) -> Result<Vec<f32>, EmbeddingError> {
        let vectors = (&mut self.vectors).await;
        vectors
            .unwrap_or_else(|_| Err(ended().into()))
            .map_err(Into::into)
    }
}

impl Drop for Embedding {
    fn drop(&mut self) {
        self.interrupt.set(true);
    }
}

/// The thread's embedder, and the jobs that wait for their next turn.
struct EmbeddingScheduler {
    embedder: Embedder,
    stopwatch: Arc<Stopwatch>,
    jobs: Vec<EmbeddingJob>,
    shares: Shares,
    queue: Queue,
}

fn run(mut scheduler: EmbeddingScheduler, inbox: Receiver<EmbedderMessage>) {
    while let Ok(message) = inbox.recv() {
        let mut last_end = Instant::now();
        scheduler.take(message);
        while let Some(mut job) = scheduler.next() {
            let embedder = &mut scheduler.embedder;
            let tokens = scheduler.stopwatch.time(|| job.embed(embedder));
            scheduler.shares.charge(job.origin.client, tokens as u32);
            match job.texts.is_empty() {
                true => {
                    scheduler.queue.paced(last_end.elapsed());
                    last_end = Instant::now();
                }
                // The job must be back before new ones are added: adding forgets the shares of clients without a job.
                false => scheduler.jobs.push(job),
            }
            inbox.try_iter().for_each(|message| scheduler.take(message));
        }
    }
}

impl EmbeddingScheduler {
    fn take(&mut self, message: EmbedderMessage) {
        match message {
            EmbedderMessage::Job(job) => self.add(job),
            EmbedderMessage::Embedder(embedder) => self.embedder = embedder,
        }
    }

    /// Adds a new job. If too many jobs wait then, the client that has most of them loses one.
    fn add(&mut self, job: EmbeddingJob) {
        let jobs = &self.jobs;
        let has_jobs = |client| jobs.iter().any(|job| job.origin.client == client);
        self.shares.join(job.origin.client, has_jobs);
        self.jobs.push(job);
        while let Some(retry_after_secs) = self.queue.overfull()
            && let Some(at) = self.youngest_of_most()
        {
            let mut displaced = self.jobs.remove(at);
            displaced.answer(Err(Failure::Displaced { retry_after_secs }));
        }
    }

    /// The youngest job that has not begun, of the client that has most such jobs.
    fn youngest_of_most(&self) -> Option<usize> {
        let new = || {
            let jobs = self.jobs.iter().enumerate();
            jobs.filter(|(_, job)| !job.place.is_empty())
        };
        let count = |client| new().filter(|(_, job)| job.origin.client == client).count();
        let youngest = new().max_by_key(|(_, job)| (count(job.origin.client), job.origin.arrival));
        youngest.map(|(at, _)| at)
    }

    /// Removes and returns the job whose turn it is.
    fn next(&mut self) -> Option<EmbeddingJob> {
        self.jobs.retain(|job| !job.interrupt.is_set());
        let place = |job: &EmbeddingJob| self.shares.place(job.origin, [].into_iter());
        let jobs = self.jobs.iter().enumerate();
        let (at, _) = jobs.min_by_key(|(_, job)| place(job))?;
        let mut job = self.jobs.remove(at);
        job.place.clear();
        Some(job)
    }
}

impl EmbeddingJob {
    /// Embeds a few texts. Answers the request if they were the last ones. Returns how many tokens they had.
    fn embed(&mut self, embedder: &mut Embedder) -> usize {
        let mut tokens = 0;
        let fits = |text: &&Vec<u32>| {
            let fits = tokens < TURN_TOKENS;
            tokens += if fits { text.len() } else { 0 };
            fits
        };
        let few = self.texts.iter().take_while(fits).count();
        let rest = self.texts.split_off(few);
        let few = mem::replace(&mut self.texts, rest);
        match embedder.embed(&few, &self.interrupt) {
            Ok(vectors) => self.done.extend(vectors),
            Err(error) => {
                self.texts.clear();
                self.answer(Err(error.into()));
                return tokens;
            }
        }
        if self.texts.is_empty() {
            let vectors = mem::take(&mut self.done);
            self.answer(Ok(vectors));
        }
        tokens
    }

    fn answer(&mut self, vectors: Result<Vec<f32>, Failure>) {
        if let Some(sender) = self.vectors.take() {
            // Sending fails if the client is gone.
            let _ = sender.send(vectors);
        }
    }
}

fn ended() -> Error {
    let message = "the thread for embeddings ended unexpectedly";
    Error::new(Code::INTERNAL, message)
}
