//! The parts of the differential fuzz.

/// Adds a command of a producer or worker to the world's batch.
macro_rules! say {
    ($world:expr, $name:literal $(, $word:expr)* $(,)?) => {{
        #[allow(unused_mut)]
        let mut command = redis::cmd($name);
        $(command.arg($word);)*
        $world.add(command);
    }};
}

pub mod check;
pub mod counters;
pub mod history;
pub mod jobs;
pub mod libraries;
pub mod run;
pub mod truth;
pub mod world;
