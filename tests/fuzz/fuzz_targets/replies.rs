//! Any replies, of any shape, give an observation or an error: a server may be of another kind or another version.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use queue_exporter::fifo::Look;
use queue_exporter::reads::{Ask, Replies, Reply};
use queue_exporter::layout::{Finder, TABLE};
use queue_exporter::spec::{self, Spec};
use std::time::Instant;

/// Takes a reply off the front of the bytes.
fn reply(bytes: &mut &[u8], depth: u8) -> Reply {
    let Some((kind, rest)) = bytes.split_first() else { return Reply::Nil };
    *bytes = rest;
    match kind % 4 {
        0 => Reply::Nil,
        1 => {
            let (number, rest) = bytes.split_at(bytes.len().min(8));
            *bytes = rest;
            let mut wide = [0; 8];
            wide[..number.len()].copy_from_slice(number);
            Reply::Int(i64::from_le_bytes(wide))
        }
        2 => {
            let length = usize::from(kind / 4).min(bytes.len());
            let (text, rest) = bytes.split_at(length);
            *bytes = rest;
            Reply::Bytes(Bytes::copy_from_slice(text))
        }
        _ if depth == 0 => Reply::Nil,
        _ => Reply::Array((0..kind / 4 % 14).map(|_| reply(bytes, depth - 1)).collect()),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let plain = "list:l?delayed=d&processed=p&time=a&notify=true,stream:s?dead=x,zset:z?in_flight=i,zset:y?unit=none";
    let libraries: Vec<String> = TABLE.iter().map(|entry| format!("{}:q", entry.name)).collect();
    for queue in spec::list(&format!("{plain},{}", libraries.join(","))) {
        let Ok(Spec::Queue(mut queue)) = queue else { panic!("a fault in the specification") };
        let mut rest = bytes;
        let now = Instant::now();
        let look = Look { sent: now, received: now, unix: 1_795_574_013.0, pops: None };
        while !rest.is_empty() {
            let mut ask = Ask::default();
            queue.layout.ask(&mut ask, look.unix);
            let replies = (0..ask.atomic.len() + ask.plain.len()).map(|_| Ok(reply(&mut rest, 3))).collect();
            let _ = queue.layout.answer(&mut Replies::new(replies), look);
        }
    }
    for entry in TABLE {
        let mut rest = bytes;
        let now = Instant::now();
        let look = Look { sent: now, received: now, unix: 1_795_574_013.0, pops: None };
        let mut overview = entry.overview.map(|build| build(&Bytes::from_static(b"p:")));
        let mut finder = Finder::new(entry.register, Bytes::from_static(b"p:"), 60.0);
        while !rest.is_empty() {
            let mut ask = Ask::default();
            finder.ask(&mut ask, look.unix);
            let replies = (0..=ask.plain.len()).map(|_| Ok(reply(&mut rest, 3))).collect();
            let _ = finder.answer(&mut Replies::new(replies));
            let Some(overview) = &mut overview else { continue };
            let mut ask = Ask::default();
            overview.ask(&mut ask, look.unix);
            let replies = (0..=ask.plain.len()).map(|_| Ok(reply(&mut rest, 3))).collect();
            let _ = overview.answer(&mut Replies::new(replies), look);
            let _ = overview.around(b"q");
        }
    }
});
