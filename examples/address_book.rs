//! The address book by itself: filled, read from CometBFT's `addrbook.json`, and written.
//!
//! - `cargo run --example address_book -- fill FILE COUNT` keeps so many made-up addresses, marks every third good, and writes the file;
//! - `cargo run --example address_book -- good FILE` reads a file, marks every address good, and writes it again.
//!
//! Each prints one line of JSON: how many addresses were tried, are kept, were reached, and how many lines of the file were left out. The
//! interop tests hold it against CometBFT's own book.

use std::{error::Error, net::Ipv4Addr, path::Path, time::SystemTime};

use kadwire::book::{Book, BookConfig, Origin, file};
use kadwire_wire::address::{PeerAddress, PeerId};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["fill", path, count] => fill(Path::new(path), count.parse()?),
        ["good", path] => good(Path::new(path)),
        _ => Err("usage: address_book fill FILE COUNT | good FILE".into()),
    }
}

fn fill(path: &Path, count: u32) -> Result<(), Box<dyn Error>> {
    let mut book = Book::new(BookConfig { seed: 1, ..BookConfig::default() });
    for n in 0..count {
        let (address, from) = (address(n)?, address(n % 997 * 64)?);
        book.add(now(), &address, &Origin { id: from.id(), socket: from.socket_addr() })?;
        if n % 3 == 0 {
            book.mark_good(now(), &address.id());
        }
    }
    book.snapshot().write(path)?;
    report(count as usize, &book, 0);
    Ok(())
}

fn good(path: &Path) -> Result<(), Box<dyn Error>> {
    let file::Loaded { mut book, left_out, .. } =
        file::load(path, BookConfig { seed: 1, ..BookConfig::default() }, now())?;
    let ids: Vec<PeerId> = book.addresses().map(PeerAddress::id).collect();
    for id in &ids {
        book.mark_good(now(), id);
    }
    book.snapshot().write(path)?;
    report(ids.len(), &book, left_out);
    Ok(())
}

fn report(tried: usize, book: &Book, left_out: usize) {
    println!(r#"{{"tried":{tried},"kept":{},"reached":{},"left_out":{left_out}}}"#, book.len(), book.old_len());
}

/// The peers of number 0 to 0xffff are in networks of their own, 256 in each /16 from 44.0/16 on.
fn address(n: u32) -> Result<PeerAddress, Box<dyn Error>> {
    let id: PeerId = format!("{n:040x}").parse()?;
    Ok(PeerAddress::from_socket(id, (Ipv4Addr::from(0x2c00_0001 + (n << 8)), 26_656).into())?)
}

#[expect(clippy::disallowed_methods, reason = "driver: the book is told the time")]
fn now() -> SystemTime {
    SystemTime::now()
}
