//! A key that one library uses in two ways: its type tells which.
//!
//! Cost of a look: that of the layout which it turns out to be; one round for TYPE alone until the key exists, and again
//! when it has become another.

use super::{Layout, Observation};
use crate::fifo::Look;
use crate::reads::{Ask, Read, ReadError, Replies, Reply};
use bytes::Bytes;

/// A type as Redis names it, and how a key of it is read.
pub(super) type Way = (&'static str, Box<dyn Layout>);

/// One such key.
pub(super) struct Detect {
    key: Bytes,
    ways: [Way; 2],
    kind: Option<&'static str>,
    asked: bool,
    /// As what it was read in vain at this look, and why.
    refused: Option<(&'static str, ReadError)>,
}

impl Detect {
    /// The first way is how a key that does not exist is read.
    pub fn boxed(key: Bytes, ways: [Way; 2]) -> Box<dyn Layout> {
        Box::new(Self { key, ways, kind: None, asked: false, refused: None })
    }

    fn way(&mut self) -> Option<&mut Box<dyn Layout>> {
        let kind = self.kind?;
        self.ways.iter_mut().find(|(name, _)| *name == kind).map(|(_, layout)| layout)
    }
}

impl Layout for Detect {
    fn key(&self) -> &Bytes {
        &self.key
    }

    fn ask(&mut self, ask: &mut Ask, now: f64) {
        self.asked = self.kind.is_none();
        if self.asked {
            ask.plain.push(Read::Type(self.key.clone()));
        } else if let Some(layout) = self.way() {
            layout.ask(ask, now);
        }
    }

    fn answer(&mut self, replies: &mut Replies, look: Look) -> Result<Option<Observation>, ReadError> {
        // Of this look alone, however it ends.
        let refused = self.refused.take();
        if !self.asked {
            let Some(layout) = self.way() else { return Ok(None) };
            let result = layout.answer(replies, look);
            return match result {
                // It has become another since the last look, or a key beside it is of a wrong type.
                Err(error) if error.kind() == "wrong_type" => {
                    self.refused = self.kind.take().map(|kind| (kind, error));
                    Ok(None)
                }
                result => result,
            };
        }
        let Reply::Bytes(found) = replies.take()? else { return Err(ReadError::Shape("no type")) };
        let [(first, _), (second, _)] = &self.ways;
        let known = [*first, *second];
        self.kind = match known.into_iter().find(|name| name.as_bytes() == found) {
            Some(kind) => Some(kind),
            None if found.as_ref() == b"none" => Some(*first),
            None => {
                return Err(ReadError::Mismatch(format!(
                    "{} is of type {}; it should be a {} or a {}",
                    String::from_utf8_lossy(&self.key),
                    String::from_utf8_lossy(&found),
                    first,
                    second
                )));
            }
        };
        match refused {
            Some((kind, error)) if self.kind == Some(kind) => Err(error),
            _ => Ok(None),
        }
    }
}
