//! The channel that carries a sequence's events from the model thread to their reader.
//!
//! The buffer is allocated once. Sending does not wake the reader: the sender wakes it once a step, however many events
//! there were. A full channel never blocks the sender, which must ask for room before it makes events.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::TryRecvError,
    },
    task::{Context, Poll},
};

use crossbeam_queue::ArrayQueue;
use futures_util::task::AtomicWaker;

/// The model thread's end of the channel. Dropping it ends the channel.
#[derive(Debug)]
pub struct Sender<T>(Arc<Buffer<T>>);

/// The reader's end of the channel. Dropping it tells the sender that nobody listens.
#[derive(Debug)]
pub struct Receiver<T>(Arc<Buffer<T>>);

#[derive(Debug)]
struct Buffer<T> {
    events: ArrayQueue<T>,
    reader: AtomicWaker,
    /// Whether either end was dropped.
    closed: AtomicBool,
}

/// A channel with room for `capacity` events.
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let buffer = Arc::new(Buffer {
        events: ArrayQueue::new(capacity),
        reader: AtomicWaker::new(),
        closed: AtomicBool::new(false),
    });
    (Sender(buffer.clone()), Receiver(buffer))
}

impl<T> Sender<T> {
    /// How many events can be sent now.
    pub fn room(&self) -> usize {
        self.0.events.capacity() - self.0.events.len()
    }

    /// Puts an event into the channel. An event that finds no room is lost: ask for [`room`](Self::room) first.
    pub fn send(&self, event: T) {
        let sent = self.0.events.push(event);
        debug_assert!(sent.is_ok(), "no room was asked for");
    }

    /// Tells the reader that there are events.
    pub fn wake(&self) {
        self.0.reader.wake();
    }

    /// Whether the reader is gone.
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Relaxed)
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.reader.wake();
    }
}

impl<T> Receiver<T> {
    /// The next event. None once the sender is gone and all events were read.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// The next event, if there is one.
    ///
    /// # Errors
    /// `Empty`: there is none now. `Disconnected`: the sender is gone, and all events were read.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        // `closed` is read before the queue, so that events sent before the end are still seen.
        let closed = self.0.closed.load(Ordering::Acquire);
        self.0.events.pop().ok_or(match closed {
            true => TryRecvError::Disconnected,
            false => TryRecvError::Empty,
        })
    }

    fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<T>> {
        if let Ok(event) = self.try_recv() {
            return Poll::Ready(Some(event));
        }
        self.0.reader.register(context.waker());
        match self.try_recv() {
            Ok(event) => Poll::Ready(Some(event)),
            Err(TryRecvError::Disconnected) => Poll::Ready(None),
            Err(TryRecvError::Empty) => Poll::Pending,
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn events_arrive_in_order_and_then_the_end() {
        let (sender, mut receiver) = channel(2);
        sender.send(1);
        sender.send(2);
        assert_eq!(sender.room(), 0);
        drop(sender);
        assert_eq!(receiver.recv().await, Some(1));
        assert_eq!(receiver.recv().await, Some(2));
        assert_eq!(receiver.recv().await, None);
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken() {
        let (sender, mut receiver) = channel(1);
        let reader = tokio::spawn(async move { (receiver.recv().await, receiver.recv().await) });
        tokio::task::yield_now().await;
        sender.send(7);
        sender.wake();
        drop(sender);
        assert_eq!(reader.await.unwrap(), (Some(7), None));
    }

    #[test]
    fn a_reader_that_left_is_noticed() {
        let (sender, receiver) = channel::<u32>(1);
        assert!(!sender.is_closed());
        drop(receiver);
        assert!(sender.is_closed());
    }
}
