//! The events of a worker's sequences, on their way to the server.
//!
//! The model thread sends those of a step by itself, in one message. Waking a task for this would take as long as sending, and
//! the task would then take a core from the threads that compute the next step.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc, Mutex, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc::TryRecvError,
    },
};

use super::{
    frames::frame_in,
    line::Line,
    messages::{Id, News},
    window,
};
use crate::engine::{Event, Generation};

/// Sequences whose events are sent over a line. Clones share them.
#[derive(Clone)]
pub struct Relays(Arc<RelayTable>);

struct RelayTable {
    line: Arc<Line>,
    open: Mutex<OpenRelays>,
    /// There may be events that nobody has looked for.
    is_due: AtomicBool,
}

#[derive(Default)]
struct OpenRelays {
    sequences: HashMap<Id, SequenceRelay>,
    /// Memory for the events of a message.
    events: Vec<(Id, Event)>,
    /// Memory for a message.
    frame: Vec<u8>,
}

struct SequenceRelay {
    generation: Generation,
    /// How many events the reader has room for.
    room: usize,
}

impl Relays {
    pub fn new(line: Arc<Line>) -> Self {
        Self(Arc::new(RelayTable {
            line,
            open: Mutex::default(),
            is_due: AtomicBool::new(false),
        }))
    }

    /// Begins to send the events of a sequence.
    pub fn admit(&self, sequence: Id, generation: Generation) {
        let room = window::EVENTS;
        let relay = SequenceRelay { generation, room };
        self.change(|sequences| drop(sequences.insert(sequence, relay)));
    }

    /// Makes room for as many events as the reader of a sequence took.
    pub fn widen(&self, sequence: Id, events: u32) {
        self.change(|sequences| {
            if let Some(relay) = sequences.get_mut(&sequence) {
                relay.room = (relay.room + events as usize).min(window::EVENTS);
            }
        });
    }

    /// Drops a sequence, which cancels it.
    pub fn leave(&self, sequence: Id) {
        self.change(|sequences| drop(sequences.remove(&sequence)));
    }

    /// Sends the events that have arrived. If another thread is sending already, that thread looks once more, so the model thread
    /// never waits.
    pub fn deliver(&self) {
        self.0.is_due.store(true, SeqCst);
        while self.0.is_due.load(SeqCst) {
            let mut open = match self.0.open.try_lock() {
                Ok(open) => open,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            self.0.is_due.store(false, SeqCst);
            open.send(&self.0.line);
        }
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<Id, SequenceRelay>)) {
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut open.sequences);
        drop(open);
        self.deliver();
    }
}

impl OpenRelays {
    fn send(&mut self, line: &Line) {
        let events = &mut self.events;
        self.sequences.retain(|id, relay| relay.take(*id, events));
        if events.is_empty() {
            return;
        }
        let news = News::Events(mem::take(events));
        match frame_in(mem::take(&mut self.frame), &news) {
            Ok(frame) => {
                line.send(&frame);
                self.frame = frame;
            }
            Err(error) => tracing::error!("the server cannot be sent tokens: {error}"),
        }
        if let News::Events(mut events) = news {
            events.clear();
            self.events = events;
        }
    }
}

impl SequenceRelay {
    /// Takes events as far as the reader has room. Returns whether more may come.
    fn take(&mut self, id: Id, events: &mut Vec<(Id, Event)>) -> bool {
        while self.room > 0 {
            match self.generation.try_next() {
                Ok(event) => events.push((id, event)),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return false,
            }
            self.room -= 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixStream, thread};

    use futures_util::StreamExt;

    use super::{
        super::{frames::messages, socket::halves},
        *,
    };
    use crate::engine::{ReaderPlace, Sender, channel};

    struct Nowhere;

    impl ReaderPlace for Nowhere {
        fn left(&mut self) {}
    }

    fn relayed(relays: &Relays, sequence: Id) -> Sender<Event> {
        let (sender, events) = channel(10 * window::EVENTS);
        relays.admit(sequence, Generation::new(events, Nowhere));
        sender
    }

    fn token(token: u32) -> Event {
        let logprobs = None;
        Event::Token { token, logprobs }
    }

    /// Relays, and the tokens of each message at the other end.
    fn pair() -> (Relays, impl StreamExt<Item = Vec<(Id, u32)>> + Unpin) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (_, sending) = halves(ours).unwrap();
        let (receiving, kept_open) = halves(theirs).unwrap();
        let news = messages(receiving).map(move |news| {
            let _ = &kept_open;
            let Ok(News::Events(events)) = news else {
                panic!("only events are sent");
            };
            let token = |(id, event)| match event {
                Event::Token { token, .. } => (id, token),
                other => panic!("{other:?}"),
            };
            events.into_iter().map(token).collect()
        });
        (Relays::new(Arc::new(Line::new(sending))), news)
    }

    #[tokio::test]
    async fn the_events_of_a_step_are_one_message() {
        let (relays, mut messages) = pair();
        let senders: Vec<_> = (0..3).map(|id| relayed(&relays, id)).collect();
        for step in 0..2 {
            senders.iter().for_each(|sender| sender.send(token(step)));
            relays.deliver();
            let mut message = messages.next().await.unwrap();
            message.sort_unstable();
            assert_eq!(message, [(0, step), (1, step), (2, step)]);
        }
    }

    #[tokio::test]
    async fn a_sequence_waits_for_its_reader() {
        let (relays, mut messages) = pair();
        let (slow, other) = (relayed(&relays, 1), relayed(&relays, 2));
        (0..300).for_each(|at| slow.send(token(at)));
        relays.deliver();
        assert_eq!(messages.next().await.unwrap().len(), window::EVENTS);
        other.send(token(7));
        relays.deliver();
        assert_eq!(messages.next().await.unwrap(), [(2, 7)]);
        relays.widen(1, window::REPORTED);
        let next: Vec<_> = (128..192).map(|at| (1, at)).collect();
        assert_eq!(messages.next().await.unwrap(), next);
    }

    #[tokio::test]
    async fn events_of_many_threads_all_arrive_in_order() {
        let (relays, mut messages) = pair();
        let sender = relayed(&relays, 1);
        let looker = relays.clone();
        let looking = thread::spawn(move || (0..20_000).for_each(|_| looker.widen(1, 1)));
        let sending = thread::spawn(move || {
            for at in 0..5_000 {
                while sender.room() == 0 {
                    thread::yield_now();
                }
                sender.send(token(at));
                relays.deliver();
                relays.widen(1, 1);
            }
        });
        let mut arrived = Vec::new();
        while arrived.len() < 5_000 {
            arrived.extend(messages.next().await.unwrap());
        }
        let expected: Vec<_> = (0..5_000).map(|at| (1, at)).collect();
        assert_eq!(arrived, expected);
        sending.join().unwrap();
        looking.join().unwrap();
    }
}
