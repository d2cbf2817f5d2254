//! What the system knows of this process, under the names that all programs use for it.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{Label, counter, gauge};

/// Ticks of the CPU times in `/proc`: what Linux shows programs is always this (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// Reads it anew. What cannot be read keeps its value.
pub(super) fn look() {
    if let Some(bytes) = resident_bytes() {
        gauge!("process_resident_memory_bytes").set(bytes);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is for this look.
        gauge!("process_open_fds").set(number(open.count().saturating_sub(1)));
    }
    if let Some(ticks) = cpu_ticks() {
        counter!("process_cpu_seconds_total").absolute(ticks / TICKS_PER_SECOND);
    }
}

/// Says once which program this is, and since when it runs.
pub(super) fn introduce() {
    gauge!("cuponera_build_info", vec![Label::new("version", env!("CARGO_PKG_VERSION"))]).set(1.0);
    if let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) {
        gauge!("process_start_time_seconds").set(now.as_secs_f64());
    }
}

/// From `VmRSS: 1234 kB`.
fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u32 = line.split_whitespace().next()?.parse().ok()?;
    Some(f64::from(kilobytes) * 1024.0)
}

/// The 14th and 15th field; the second, the program's name, may have blanks of its own and ends with a bracket.
fn cpu_ticks() -> Option<u64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// A count as a gauge takes it.
fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}
