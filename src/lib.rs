//! See ARCHITECTURE.md.
pub mod book;
pub mod candidate;
pub mod crawl;
pub mod dial;
pub mod peers;
