//! Metrics of this process from the operating system, under their conventional names.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{Label, counter, gauge};

/// Ticks per second of the CPU times in `/proc` (`USER_HZ`): always 100 on Linux.
const TICKS_PER_SECOND: u64 = 100;

/// Reads the values again. A value that cannot be read stays unchanged.
pub(super) fn update() {
    if let Some(bytes) = resident_bytes() {
        gauge!("process_resident_memory_bytes").set(bytes);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is open for this read.
        gauge!("process_open_fds").set(number(open.count().saturating_sub(1)));
    }
    if let Some(ticks) = cpu_ticks() {
        counter!("process_cpu_seconds_total").absolute(ticks / TICKS_PER_SECOND);
    }
}

/// Sets the version and the start time of the program.
pub(super) fn set_process_info() {
    gauge!("cuponera_build_info", vec![Label::new("version", env!("CARGO_PKG_VERSION"))]).set(1.0);
    if let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) {
        gauge!("process_start_time_seconds").set(now.as_secs_f64());
    }
}

/// Parses `VmRSS: 1234 kB`.
fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u32 = line.split_whitespace().next()?.parse().ok()?;
    Some(f64::from(kilobytes) * 1024.0)
}

/// The 14th and 15th field. The second, the program's name, may contain spaces and ends with a parenthesis.
fn cpu_ticks() -> Option<u64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// Converts a count for a gauge.
fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}
