//! queue-exporter.
pub mod anchors;
pub mod curve;
pub mod fifo;
pub mod flow;
pub mod reads;
