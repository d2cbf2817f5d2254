//! The settings of the server: for short transactions and bulk COPY on one machine, with full durability.
//!
//! They are passed on the command line, not in `postgresql.conf`, so that new defaults also apply to
//! existing clusters.

use std::fs;

const MIB: u64 = 1 << 20;

/// The usual default of Postgres.
const SHARED_BUFFERS_MIN_MIB: u64 = 128;
/// Larger values gain little over the system's page cache and make a shutdown slower.
const SHARED_BUFFERS_MAX_MIB: u64 = 2048;
const MAINTENANCE_MAX_MIB: u64 = 512;
/// Assumed if the memory size cannot be read.
const MEMORY_UNKNOWN_MIB: u64 = 2048;

/// Settings that do not depend on the machine. All others keep the defaults of Postgres; in particular
/// `fsync`, `synchronous_commit` and `full_page_writes` stay on.
const FIXED: [(&str, &str); 18] = [
    // For the pools of API and workers, with a reserve for interactive sessions.
    ("max_connections", "200"),
    // Bulk imports write much data in a short time: fewer and smoother checkpoints, smaller page images.
    ("max_wal_size", "4GB"),
    ("checkpoint_timeout", "15min"),
    ("checkpoint_completion_target", "0.9"),
    ("wal_compression", "on"),
    // Solid-state disks.
    ("random_page_cost", "1.1"),
    ("effective_io_concurrency", "100"),
    // Compiling a query takes longer than any query of this project runs.
    ("jit", "off"),
    // Tables grow by millions of rows in a minute and coupons change often: vacuum sooner and faster.
    ("autovacuum_naptime", "15s"),
    ("autovacuum_vacuum_scale_factor", "0.05"),
    ("autovacuum_vacuum_insert_scale_factor", "0.1"),
    ("autovacuum_analyze_scale_factor", "0.02"),
    ("autovacuum_vacuum_cost_limit", "1000"),
    // One time zone on all machines.
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("log_min_messages", "warning"),
    // The details of an error name the codes of rows that collide; terse leaves them out.
    ("log_error_verbosity", "terse"),
    // Standard error is the log, whatever postgresql.conf contains.
    ("logging_collector", "off"),
];

/// All settings in order; Postgres uses the last value of each. Defaults first, then the caller's settings,
/// then those that this crate requires.
pub(crate) fn all(callers: &[(String, String)], own: &[(&str, String)]) -> Vec<String> {
    let fixed = FIXED.iter().map(|(name, value)| format!("{name}={value}"));
    let sized = sized(memory_mib()).into_iter().map(|(name, mib)| format!("{name}={mib}MB"));
    let callers = callers.iter().map(|(name, value)| format!("{name}={value}"));
    let own = own.iter().map(|(name, value)| format!("{name}={value}"));
    fixed.chain(sized).chain(callers).chain(own).collect()
}

/// Whether the caller turned durability off, as tests do.
pub(crate) fn is_throwaway(callers: &[(String, String)]) -> bool {
    callers.iter().rfind(|(name, _)| name == "fsync").is_some_and(|(_, value)| value == "off")
}

fn sized(memory_mib: u64) -> [(&'static str, u64); 3] {
    [
        ("shared_buffers", (memory_mib / 4).clamp(SHARED_BUFFERS_MIN_MIB, SHARED_BUFFERS_MAX_MIB)),
        ("effective_cache_size", (memory_mib / 2).max(SHARED_BUFFERS_MIN_MIB)),
        ("maintenance_work_mem", (memory_mib / 32).clamp(64, MAINTENANCE_MAX_MIB)),
    ]
}

/// The memory available to this process: that of the machine, or the limit of the container.
fn memory_mib() -> u64 {
    let machine =
        fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_kib(&text)).map(|kib| kib >> 10);
    let container =
        fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    let container = container.map(|bytes: u64| bytes / MIB);
    machine.into_iter().chain(container).min().unwrap_or(MEMORY_UNKNOWN_MIB)
}

fn total_kib(meminfo: &str) -> Option<u64> {
    meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_follow_the_memory_within_bounds() {
        assert_eq!(sized(256)[0], ("shared_buffers", 128));
        assert_eq!(sized(4096)[0], ("shared_buffers", 1024));
        assert_eq!(sized(65_536)[0], ("shared_buffers", 2048));
        assert_eq!(total_kib("MemTotal:       24684000 kB\nMemFree: 1 kB\n"), Some(24_684_000));
    }

    #[test]
    fn callers_win_over_defaults_and_lose_to_what_we_depend_on() {
        let callers = [("jit".to_owned(), "on".to_owned()), ("port".to_owned(), "1".to_owned())];
        let all = all(&callers, &[("port", "2".into())]);
        let last = |name: &str| all.iter().rfind(|setting| setting.starts_with(name)).cloned();
        assert_eq!(last("jit=").as_deref(), Some("jit=on"));
        assert_eq!(last("port=").as_deref(), Some("port=2"));
    }
}
