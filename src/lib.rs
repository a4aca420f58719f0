//! See ARCHITECTURE.md.
pub mod crawl;
