//! The address book by itself: filled, read from CometBFT's `addrbook.json`, and written.
//!
//! - `cargo run --example address_book -- fill FILE COUNT` keeps so many made-up addresses, marks every third good, and writes the file;
//! - `cargo run --example address_book -- good FILE` reads a file, marks every address good, and writes it again.
//! - `cargo run --release --example address_book -- time FILE COUNT` fills a book and says how long it takes to answer as a seed, to be
//!   written, and how long it is not to be had meanwhile.
//!
//! Each prints one line of JSON: how many addresses were tried, are kept, were reached, and how many lines of the file were left out, or the
//! times. The interop tests and `benches/versus` hold it against CometBFT's own book.

use std::{
    error::Error,
    hint::black_box,
    net::Ipv4Addr,
    path::Path,
    time::{Instant, SystemTime},
};

use kadwire::book::{Book, BookConfig, Origin, file};
use kadwire_wire::address::{PeerAddress, PeerId};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["fill", path, count] => fill(Path::new(path), count.parse()?),
        ["good", path] => good(Path::new(path)),
        ["time", path, count] => times(Path::new(path), count.parse()?),
        _ => Err("usage: address_book fill FILE COUNT | good FILE | time FILE COUNT".into()),
    }
}

fn fill(path: &Path, count: u32) -> Result<(), Box<dyn Error>> {
    let book = full(count)?;
    book.snapshot().write(path)?;
    report(count as usize, &book, 0);
    Ok(())
}

fn full(count: u32) -> Result<Book, Box<dyn Error>> {
    let mut book = Book::new(BookConfig { seed: 1, ..BookConfig::default() });
    for n in 0..count {
        let (address, from) = (address(n)?, address(n % 997 * 64)?);
        book.add(now(), &address, &Origin { id: from.id(), socket: from.socket_addr() })?;
        if n % 3 == 0 {
            book.mark_good(now(), &address.id());
        }
    }
    Ok(book)
}

fn times(path: &Path, count: u32) -> Result<(), Box<dyn Error>> {
    let mut book = full(count)?;
    let answer = average(200, || Ok(book.selection_with_bias(30)))?;
    let held = average(10, || Ok(book.snapshot()))?;
    let save = average(10, || Ok(book.snapshot().write(path)?))?;
    println!(
        r#"{{"kept":{},"answer_us":{:.3},"held_ms":{:.3},"save_ms":{:.3}}}"#,
        book.len(),
        answer * 1e6,
        held * 1e3,
        save * 1e3
    );
    Ok(())
}

/// Seconds that one of so many calls takes.
#[expect(clippy::disallowed_methods, reason = "driver: it measures time")]
fn average<T>(calls: u32, mut call: impl FnMut() -> Result<T, Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let started = Instant::now();
    for _ in 0..calls {
        black_box(call()?);
    }
    Ok(started.elapsed().as_secs_f64() / f64::from(calls))
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
