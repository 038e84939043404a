//! What a worker has to tell the server, on its way to the socket.

use std::{
    io, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{
    frames::frame,
    messages::{Answer, Id, News},
    socket::Sending,
};
use crate::engine::Event;

/// News that are not written yet. Clones are the same outbox.
#[derive(Clone, Default)]
pub struct Outbox(Arc<Waiting>);

#[derive(Default)]
struct Waiting {
    news: Mutex<Vec<News>>,
    arrived: Notify,
}

impl Outbox {
    /// Adds news.
    pub fn tell(&self, news: News) {
        self.news().push(news);
        self.0.arrived.notify_one();
    }

    /// Adds the answer to a call.
    pub fn answer(&self, call: Id, answer: Answer) {
        self.tell(News::Answer { call, answer });
    }

    /// Adds an event. Events that arrive one after the other share a message, so a step is one message.
    pub fn event(&self, sequence: Id, event: Event) {
        let mut news = self.news();
        match news.last_mut() {
            Some(News::Events(events)) => events.push((sequence, event)),
            _ => news.push(News::Events(vec![(sequence, event)])),
        }
        drop(news);
        self.0.arrived.notify_one();
    }

    /// Writes news as they come.
    ///
    /// # Errors
    /// The socket cannot be written: the server is gone.
    pub async fn deliver(self, socket: Sending) -> io::Result<()> {
        loop {
            self.0.arrived.notified().await;
            let news = mem::take(&mut *self.news());
            for news in news {
                socket.write_all(&frame(&news)?).await?;
            }
        }
    }

    fn news(&self) -> MutexGuard<'_, Vec<News>> {
        self.0.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
