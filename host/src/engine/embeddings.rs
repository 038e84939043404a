//! The thread that embeds texts, one request after the other, beside the model's own.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Instant,
};

use tenon_plugin_api::{Code, EmbedderInfo, Error, Interrupt};
use tokio::sync::{oneshot, watch};

use super::{
    SubmitError,
    queue::{Queue, Ticket},
};
use crate::plugin::Embedder;

/// A handle. The thread ends when it is dropped.
pub struct Embeddings {
    info: EmbedderInfo,
    queue: Queue,
    jobs: Sender<Job>,
}

/// Vectors on their way. Dropping it cancels the request, even while it is computed.
pub struct Embedding {
    vectors: oneshot::Receiver<Result<Vec<f32>, Error>>,
    interrupt: Interrupt,
}

struct Job {
    /// In the queue, until it begins.
    place: Vec<Ticket>,
    texts: Vec<Vec<u32>>,
    interrupt: Interrupt,
    vectors: oneshot::Sender<Result<Vec<f32>, Error>>,
}

impl Embeddings {
    /// Starts the thread. `max_queue` requests may wait; one more is refused. `alive` is dropped when nothing is left of it.
    pub fn start(
        name: String,
        embedder: Embedder,
        max_queue: usize,
        alive: watch::Sender<()>,
    ) -> Result<Self, Error> {
        let info = embedder.info().clone();
        let (jobs, inbox) = channel();
        let queue = Queue::new(max_queue);
        let pace = queue.clone();
        thread::Builder::new()
            .name(name)
            .spawn(move || {
                run(embedder, inbox, pace);
                drop(alive);
            })
            .map_err(|e| Error::new(Code::INTERNAL, e.to_string()))?;
        Ok(Self { info, queue, jobs })
    }

    /// Facts about the vectors.
    pub fn info(&self) -> &EmbedderInfo {
        &self.info
    }

    /// Queues texts, each of 1 to `max_tokens` known tokens. Never blocks.
    pub fn submit(&self, texts: Vec<Vec<u32>>) -> Result<Embedding, SubmitError> {
        let interrupt = Interrupt::default();
        let (sender, vectors) = oneshot::channel();
        let job = Job {
            place: self.queue.enter(1)?,
            texts,
            interrupt: interrupt.clone(),
            vectors: sender,
        };
        self.jobs
            .send(job)
            .map_err(|_| SubmitError::Stopped(ended()))?;
        Ok(Embedding { vectors, interrupt })
    }
}

impl Embedding {
    /// The vectors: `[texts, dimensions]`, each of length 1.
    pub async fn vectors(mut self) -> Result<Vec<f32>, Error> {
        (&mut self.vectors).await.unwrap_or_else(|_| Err(ended()))
    }
}

impl Drop for Embedding {
    fn drop(&mut self) {
        self.interrupt.set(true);
    }
}

fn run(mut embedder: Embedder, inbox: Receiver<Job>, queue: Queue) {
    for job in inbox {
        drop(job.place);
        if job.interrupt.is_set() {
            continue;
        }
        let started = Instant::now();
        let vectors = embedder.embed(&job.texts, &job.interrupt);
        queue.paced(started.elapsed());
        // Nobody waits any more if the client went away.
        let _ = job.vectors.send(vectors);
    }
}

fn ended() -> Error {
    let message = "the thread for embeddings ended unexpectedly";
    Error::new(Code::INTERNAL, message)
}
