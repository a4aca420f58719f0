//! The progress of a crawl, on a terminal's stderr; elsewhere nothing.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use kadwire::crawl::Progress;

/// Redraws at most so often.
const TICK: Duration = Duration::from_millis(100);

pub(super) struct Bar(ProgressBar);

impl Bar {
    /// indicatif hides itself when stderr is no terminal.
    pub(super) fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Bar(bar)
    }

    pub(super) fn show(&self, progress: Progress) {
        if self.0.is_hidden() {
            return;
        }
        let Progress { found, reachable, edges, waiting, in_flight, .. } = progress;
        self.0.set_message(format!(
            "{found} found, {reachable} reachable, {edges} edges; {in_flight} in flight, {waiting} waiting"
        ));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
