//! How far something is, on standard error: a bar on a terminal, else a line every few seconds.

use std::cell::Cell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::say::note;

/// How often a log gets a line.
const LINE_EVERY: Duration = Duration::from_secs(5);
const BAR: &str = "{bar:28} {msg}";

/// Something under way.
#[derive(Debug)]
pub(crate) enum Progress {
    /// On a terminal.
    Bar(ProgressBar),
    /// In a log.
    Lines(Cell<Instant>),
    /// Not wanted.
    Silent,
}

impl Progress {
    /// Starts to show it, unless that is not wanted.
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

    /// Shows how far it is, in parts of a total if that is known.
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
    /// Takes the bar away: what is said next starts on a clean line.
    fn drop(&mut self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
