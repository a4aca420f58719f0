//! The flag of commands that serve: where others may ask them how they stand.

use std::net::SocketAddr;

use kadwire::status::{self, Serving, Source};

use super::exit::Failure;
use super::options::socket;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct StatusFlag {
    /// Serve /status (JSON, read by `kadwire why`) and /metrics (Prometheus) over HTTP here, such as 127.0.0.1:6060. Whoever reaches it may read it
    #[arg(long = "status", value_name = "IP:PORT", value_parser = socket)]
    address: Option<SocketAddr>,
}

impl StatusFlag {
    /// Begins to serve the status of `source`, if that is asked for; until the result is dropped.
    pub(super) async fn serve(&self, source: impl Source) -> Result<Option<Serving>, Failure> {
        let Some(address) = self.address else { return Ok(None) };
        let failed = |error| Failure::of("--status", format!("cannot listen on {address}: {error}"));
        status::serve(address, source).await.map(Some).map_err(failed)
    }
}
