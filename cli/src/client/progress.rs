//! Progress on standard error: a bar on a terminal, otherwise a line every 5 s.

use std::cell::Cell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::print::note;

/// The interval between lines.
const LINE_EVERY: Duration = Duration::from_secs(5);
const BAR: &str = "{bar:28} {msg}";

/// The progress of an operation.
#[derive(Debug)]
pub(crate) enum Progress {
    /// On a terminal.
    Bar(ProgressBar),
    /// Not on a terminal; the time of the last line.
    Lines(Cell<Instant>),
    /// Under `--quiet`.
    Silent,
}

impl Progress {
    /// Starts to show progress, unless `is_quiet`.
    pub(crate) fn start(is_quiet: bool) -> Self {
        if is_quiet {
            return Self::Silent;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines(Cell::new(Instant::now()));
        }
        let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self::Bar(ProgressBar::no_length().with_style(style.progress_chars("━╸─")))
    }

    /// Shows the progress, as a share of the total if that is known.
    pub(crate) fn at(&self, done: u64, total: Option<u64>, message: impl FnOnce() -> String) {
        match self {
            Self::Bar(bar) => {
                if let Some(total) = total {
                    bar.set_length(total.max(1));
                }
                bar.set_position(done);
                bar.set_message(message());
            }
            Self::Lines(said_at) if said_at.get().elapsed() >= LINE_EVERY => {
                said_at.set(Instant::now());
                note(&message());
            }
            Self::Lines(_) | Self::Silent => {}
        }
    }
}

impl Drop for Progress {
    /// Clears the bar, so that further output starts on a clean line.
    fn drop(&mut self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
