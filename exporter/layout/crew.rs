//! The workers of a library that keeps what each of them is at under a key of its own.
//!
//! The library's register of workers is read at each look; their own keys a [`BATCH`] at a time, those read longest ago
//! first, for a worker writes them every 5 to 10 s only. Until each was read once nothing is said of a queue. Workers beyond
//! [`MOST`] are left out, and counted.
//!
//! Cost of a look: SCARD, SSCAN of up to [`MOST`] members, and the worker's reads for up to [`BATCH`] of them.

use crate::reads::{Read, ReadError, Replies};
use bytes::Bytes;
use std::collections::{BTreeMap, HashSet};

/// Workers whose keys are read at one look.
const BATCH: usize = 64;
/// Workers that are followed. SSCAN is asked for twice as many, for it counts places, not members.
const MOST: u64 = 1_024;

/// The workers of one namespace, each with a report.
pub(super) struct Crew<R> {
    register: Bytes,
    /// The last report of each, and the look at which it was read; `None` before the first. One that is gone, though it is
    /// registered still, has none, and waits for its turn like the others.
    reports: BTreeMap<Bytes, Option<(u64, Option<R>)>>,
    look: u64,
    /// Whose keys were asked for, in that order.
    asked: Vec<Bytes>,
    left_out: u64,
}

impl<R> Crew<R> {
    /// The crew in this register, a set of names.
    pub fn new(register: Bytes) -> Self {
        Self { register, reports: BTreeMap::new(), look: 0, asked: Vec::new(), left_out: 0 }
    }

    /// The reads of the first round.
    pub fn register(&self) -> [Read; 2] {
        [
            Read::MemberCount(self.register.clone()),
            Read::Members { key: self.register.clone(), cursor: Bytes::from_static(b"0"), count: 2 * MOST },
        ]
    }

    /// Takes their replies.
    ///
    /// # Errors
    /// Where the register can't be read.
    pub fn registered(&mut self, replies: &mut Replies) -> Result<(), ReadError> {
        let count = replies.count()?;
        let (mut members, _) = replies.members()?;
        members.truncate(MOST as usize);
        self.look += 1;
        self.left_out = count.saturating_sub(members.len() as u64);
        let members: HashSet<Bytes> = members.into_iter().collect();
        self.reports.retain(|name, _| members.contains(name));
        for name in members {
            // Copied, for the reply shares its memory with the whole batch of replies.
            self.reports.entry(name).or_default();
        }
        let mut longest_ago: Vec<(u64, &Bytes)> =
            self.reports.iter().map(|(name, report)| (report.as_ref().map_or(0, |(look, _)| *look), name)).collect();
        longest_ago.sort_unstable();
        self.asked = longest_ago.into_iter().take(BATCH).map(|(_, name)| Bytes::copy_from_slice(name)).collect();
        Ok(())
    }

    /// Those whose keys are to be read in the second round.
    pub fn asked(&self) -> &[Bytes] {
        &self.asked
    }

    /// Takes the reports of the second round; `None` of a worker that is gone, though it is registered still.
    ///
    /// # Errors
    /// Where a report can't be read.
    pub fn reported(
        &mut self,
        mut report: impl FnMut(&Bytes) -> Result<Option<R>, ReadError>,
    ) -> Result<(), ReadError> {
        for name in std::mem::take(&mut self.asked) {
            let found = report(&name)?;
            self.reports.insert(name, Some((self.look, found)));
        }
        Ok(())
    }

    /// The reports so far.
    pub fn reports(&self) -> impl Iterator<Item = (&Bytes, &R)> {
        self.reports.iter().filter_map(|(name, report)| Some((name, report.as_ref()?.1.as_ref()?)))
    }

    /// Workers without a report: beyond the most that are followed, or not come to yet.
    pub fn left_out(&self) -> u64 {
        self.left_out + self.reports.values().filter(|report| report.is_none()).count() as u64
    }

    /// Whether all that are followed have given a report: before, sums of them say nothing.
    pub fn is_read(&self) -> bool {
        self.reports.values().all(Option::is_some)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::reads::Reply;

    /// Workers that are gone, though they are registered, keep none of the others waiting.
    #[test]
    fn each_gets_its_turn() {
        let names: Vec<Bytes> = (0..200).map(|number| Bytes::from(format!("{number:03}"))).collect();
        let mut crew: Crew<u64> = Crew::new(Bytes::from_static(b"workers"));
        for look in 1..=8 {
            let members = names.iter().map(|name| Reply::Bytes(name.clone())).collect();
            let members = Reply::Array(vec![Reply::Bytes(Bytes::from_static(b"0")), Reply::Array(members)]);
            crew.registered(&mut Replies::new(vec![Ok(Reply::Int(200)), Ok(members)])).unwrap();
            // The first hundred are gone.
            crew.reported(|name| Ok((name.as_ref() >= b"100".as_slice()).then_some(look))).unwrap();
            assert_eq!((crew.is_read(), crew.left_out()), (look >= 4, 200_u64.saturating_sub(look * 64)));
        }
        let reports: Vec<u64> = crew.reports().map(|(_, look)| *look).collect();
        assert_eq!((reports.len(), reports.iter().min()), (100, Some(&5)));
    }
}
