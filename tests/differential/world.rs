//! What a history happens in: a Redis, a clock that only the history moves, and cuts of the exporter's connection.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// When a history begins, in milliseconds since 1970.
pub const START: u64 = 1_795_600_000_123;

/// No cut.
const NEVER: u32 = u32::MAX;

/// The clock that the exporter is handed, and the one connection of the producers and workers.
pub struct Wire {
    connection: Mutex<redis::Connection>,
    now: AtomicU64,
    calls: AtomicU32,
    cut_at: AtomicU32,
}

impl Wire {
    pub fn new(connection: redis::Connection) -> Self {
        Self {
            connection: Mutex::new(connection),
            now: AtomicU64::new(START),
            calls: AtomicU32::new(0),
            cut_at: AtomicU32::new(NEVER),
        }
    }

    /// The time in seconds. The exporter asks for it just before it sends a round and just after the replies came: that is
    /// where its connection is cut, so that a seed always cuts at the same place.
    pub fn clock(&self) -> f64 {
        if self.calls.fetch_add(1, Ordering::Relaxed) == self.cut_at.load(Ordering::Relaxed) {
            self.cut();
        }
        self.now.load(Ordering::Relaxed) as f64 / 1e3
    }

    /// Closes every connection but this one.
    pub fn cut(&self) {
        let mut connection = self.connection.lock().unwrap();
        redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").query::<u64>(&mut connection).unwrap();
    }

    /// Arms a cut at one of the next calls of the clock, or none.
    pub fn arm(&self, cut_at: Option<u8>) {
        self.calls.store(0, Ordering::Relaxed);
        self.cut_at.store(cut_at.map_or(NEVER, u32::from), Ordering::Relaxed);
    }
}

/// The side of the producers and workers.
pub struct World {
    wire: Arc<Wire>,
    pipe: redis::Pipeline,
    waiting: usize,
    /// The time in milliseconds since 1970.
    pub now: u64,
    /// Between which moments each batch of commands was run.
    pub batches: Vec<(Instant, Instant)>,
    /// The first batch that the last look did not see; 0 where that look came to nothing.
    pub looked: usize,
    /// The same of the last look that saw something.
    pub last_good: usize,
}

impl World {
    pub fn new(wire: &Arc<Wire>) -> Self {
        let (wire_too, pipe) = (Arc::clone(wire), redis::Pipeline::new());
        let mut world =
            Self { wire: wire_too, pipe, waiting: 0, now: START, batches: Vec::new(), looked: 0, last_good: 0 };
        wire.now.store(START, Ordering::Relaxed);
        say!(world, "FLUSHALL");
        world
    }

    /// Adds a command to the batch.
    pub fn add(&mut self, command: redis::Cmd) {
        self.pipe.add_command(command).ignore();
        self.waiting += 1;
    }

    /// The number of the batch that is being filled.
    pub fn batch(&self) -> usize {
        self.batches.len()
    }

    /// Runs the batch. A command that Redis refuses is a fault of the model.
    pub fn flush(&mut self) -> Result<(), String> {
        self.wire.now.store(self.now, Ordering::Relaxed);
        if self.waiting == 0 {
            return Ok(());
        }
        let before = Instant::now();
        let result = self.pipe.query::<()>(&mut *self.wire.connection.lock().unwrap());
        self.batches.push((before, Instant::now()));
        (self.pipe, self.waiting) = (redis::Pipeline::new(), 0);
        result.map_err(|error| format!("a command of the model: {error}"))
    }
}
