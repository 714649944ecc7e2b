//! KEDA's external scaler: the same numbers over gRPC, and a push when the first job comes.
//!
//! KEDA asks for the values of a ScaledObject at each of its polls and each sync of the HPA, from the snapshot that `/metrics` shows;
//! nothing here reads Redis. A stream that is open for a queue without a job makes the poller look at it more often ([`crate::poll`]).

mod aspect;
#[rustfmt::skip]
pub mod externalscaler;
mod interest;
mod listen;
mod push;
mod service;

pub use aspect::Aspect;
pub use interest::{Interest, Waiting};
pub use service::{Scaler, serve};
