//! What is known to be wrong, and is left out of the comparison until it is mended.

/// A stream that was deleted and made anew between two looks, with a group that has read nothing from either: the age is that of
/// the first entry of the old one.
pub const STREAM_MADE_ANEW: bool = true;

/// BullMQ: a look that asks for what is beside the list again, while the next prioritized job and the oldest one of the list are
/// both new, takes the time of the first for that of the second, until another job is the oldest.
pub const PRIORITIZED_FOR_OLDEST: bool = true;

/// Lists: a look that finds the newest element of the last one gone, while no other element of it was kept in mind, takes the jobs
/// that are left for new ones: they are counted again, and their age is too low.
pub const NEWEST_REMOVED: bool = true;

/// RQ, asynq and SAQ: the time of the oldest job is read once and kept for its id, though they stamp it anew when the job comes back:
/// the age is then that of its first coming.
pub const RESTAMPED: bool = true;

/// apalis: whether a worker is alive is told by the heartbeat that the look before saw.
pub const BEAT_OF_LAST_LOOK: bool = true;

/// Bull: while all jobs have a priority, the age seen from outside is said to be the least without its error being taken off.
pub const ONLY_PRIORITIES: bool = true;

/// Lists: elements that were removed from the middle are taken to be missing still when all that stood before them has left: the age is
/// that of one of them.
pub const HOLES_STAY: bool = true;
