//! The readers of an engine. They are told when there may be events. When the last reader of the batch that is being computed
//! leaves, the batch is interrupted: nobody waits for it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst},
};

use tenon_plugin_api::Interrupt;

use super::{event::ReaderPlace, options::OnEvents};

/// Counts the readers of an engine's running batch. The model thread and all readers share it.
pub struct Audience {
    /// Upper half: the number of the batch. Lower half: how many of its readers have not left.
    batch: AtomicU64,
    interrupt: Interrupt,
    on_events: OnEvents,
}

/// Shared by a reader and its sequence: whether the reader has left, and which batch it last waited for.
pub struct Seat {
    audience: Arc<Audience>,
    /// The number of the batch. 0: none.
    batch: AtomicU32,
    has_left: AtomicBool,
}

impl Default for Audience {
    fn default() -> Self {
        Self {
            batch: AtomicU64::new(0),
            interrupt: Interrupt::default(),
            on_events: Arc::new(|| {}),
        }
    }
}

impl Audience {
    /// The readers of an engine. `on_events` is called when there may be events for them.
    pub fn new(on_events: OnEvents) -> Self {
        Self {
            on_events,
            ..Self::default()
        }
    }

    /// Tells the readers that there may be events.
    pub fn notify(&self) {
        (self.on_events)();
    }

    /// The flag that stops a running `forward`.
    pub fn interrupt(&self) -> Interrupt {
        self.interrupt.clone()
    }

    /// Makes the seat of a reader that waits for no batch yet.
    pub fn seat(self: &Arc<Self>) -> Arc<Seat> {
        Arc::new(Seat {
            audience: self.clone(),
            batch: AtomicU32::new(0),
            has_left: AtomicBool::new(false),
        })
    }

    /// Begins a batch for this many readers, and returns its number. Call [`Seat::wait_for`] with it for each reader.
    pub fn begin(&self, readers: usize) -> u32 {
        let last = (self.batch.load(SeqCst) >> 32) as u32;
        let number = last.wrapping_add(1).max(1);
        self.batch
            .store(u64::from(number) << 32 | readers as u64, SeqCst);
        number
    }

    /// Ends the batch. Returns whether it was interrupted. In rare cases the reader of an earlier batch interrupts the next one;
    /// that batch has to be computed again.
    pub fn end(&self) -> bool {
        self.batch.fetch_and(u64::from(u32::MAX) << 32, SeqCst);
        let interrupted = self.interrupt.is_set();
        self.interrupt.set(false);
        interrupted
    }

    fn leave(&self, number: u32) {
        let one_less = |batch: u64| {
            let is_waited_for = batch >> 32 == u64::from(number) && batch as u32 > 0;
            is_waited_for.then(|| batch - 1)
        };
        let before = self.batch.fetch_update(SeqCst, SeqCst, one_less);
        if before.is_ok_and(|batch| batch as u32 == 1) {
            self.interrupt.set(true);
        }
    }
}

impl Seat {
    /// Records that the reader waits for this batch.
    pub fn wait_for(&self, batch: u32) {
        self.batch.store(batch, SeqCst);
        if self.has_left.load(SeqCst) {
            self.give_up();
        }
    }

    /// Records that the reader has left.
    pub fn leave(&self) {
        self.has_left.store(true, SeqCst);
        self.give_up();
    }

    /// Leaves the batch, once.
    fn give_up(&self) {
        match self.batch.swap(0, SeqCst) {
            0 => {}
            batch => self.audience.leave(batch),
        }
    }
}

impl ReaderPlace for Arc<Seat> {
    fn left(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_interrupted_when_its_last_reader_leaves() {
        let audience = Arc::new(Audience::default());
        let seats = [audience.seat(), audience.seat()];
        let interrupt = audience.interrupt();
        let batch = audience.begin(2);
        seats.iter().for_each(|seat| seat.wait_for(batch));
        seats[0].leave();
        seats[0].leave();
        assert!(!interrupt.is_set());
        seats[1].leave();
        assert!(interrupt.is_set() && audience.end() && !interrupt.is_set());
    }

    #[test]
    fn a_reader_that_left_before_is_not_waited_for() {
        let audience = Arc::new(Audience::default());
        let seat = audience.seat();
        seat.leave();
        seat.wait_for(audience.begin(1));
        assert!(audience.end());
    }

    #[test]
    fn readers_of_other_batches_do_not_count() {
        let audience = Arc::new(Audience::default());
        let [early, late] = [audience.seat(), audience.seat()];
        early.wait_for(audience.begin(1));
        assert!(!audience.end());
        late.wait_for(audience.begin(1));
        early.leave();
        assert!(!audience.end());
        late.leave();
        assert!(!audience.end());
    }
}
