//! The settings a server is started with: short transactions and bulk COPY on one machine, durable.
//!
//! Given on the command line and not in `postgresql.conf`, so that better defaults reach clusters made long
//! ago.

use std::fs;

const MIB: u64 = 1 << 20;

/// Twice what Postgres itself would dare on an unknown machine is still safe on the smallest.
const SHARED_BUFFERS_LEAST_MIB: u64 = 128;
/// Beyond this the page cache of the system does as well, and shutting down takes longer.
const SHARED_BUFFERS_MOST_MIB: u64 = 2048;
const MAINTENANCE_MOST_MIB: u64 = 512;
/// Assumed where the machine does not tell.
const MEMORY_UNKNOWN_MIB: u64 = 2048;

/// Independent of the machine. What is absent keeps the default of Postgres: above all `fsync`,
/// `synchronous_commit` and `full_page_writes` stay on.
const FIXED: [(&str, &str); 18] = [
    // The pools of API and workers, with room for people.
    ("max_connections", "200"),
    // Bulk imports write much in little time: fewer, smoother checkpoints, and smaller page images.
    ("max_wal_size", "4GB"),
    ("checkpoint_timeout", "15min"),
    ("checkpoint_completion_target", "0.9"),
    ("wal_compression", "on"),
    // Solid-state disks.
    ("random_page_cost", "1.1"),
    ("effective_io_concurrency", "100"),
    // Compiling a query costs more than any of ours takes.
    ("jit", "off"),
    // Tables grow by millions in a minute and coupons change state often: look sooner, work faster.
    ("autovacuum_naptime", "15s"),
    ("autovacuum_vacuum_scale_factor", "0.05"),
    ("autovacuum_vacuum_insert_scale_factor", "0.1"),
    ("autovacuum_analyze_scale_factor", "0.02"),
    ("autovacuum_vacuum_cost_limit", "1000"),
    // One time zone everywhere.
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("log_min_messages", "warning"),
    // What a statement failed of, without the values: the details name the codes of rows that collide.
    ("log_error_verbosity", "terse"),
    // Standard error is the log, whatever postgresql.conf says.
    ("logging_collector", "off"),
];

/// All settings in the order in which Postgres lets the later win: defaults, the caller's, and those that
/// this crate depends on.
pub(crate) fn all(callers: &[(String, String)], own: &[(&str, String)]) -> Vec<String> {
    let fixed = FIXED.iter().map(|(name, value)| format!("{name}={value}"));
    let sized = sized(memory_mib()).into_iter().map(|(name, mib)| format!("{name}={mib}MB"));
    let callers = callers.iter().map(|(name, value)| format!("{name}={value}"));
    let own = own.iter().map(|(name, value)| format!("{name}={value}"));
    fixed.chain(sized).chain(callers).chain(own).collect()
}

/// Whether the caller gave up durability, as tests do.
pub(crate) fn is_throwaway(callers: &[(String, String)]) -> bool {
    callers.iter().rfind(|(name, _)| name == "fsync").is_some_and(|(_, value)| value == "off")
}

fn sized(memory_mib: u64) -> [(&'static str, u64); 3] {
    [
        ("shared_buffers", (memory_mib / 4).clamp(SHARED_BUFFERS_LEAST_MIB, SHARED_BUFFERS_MOST_MIB)),
        ("effective_cache_size", (memory_mib / 2).max(SHARED_BUFFERS_LEAST_MIB)),
        ("maintenance_work_mem", (memory_mib / 32).clamp(64, MAINTENANCE_MOST_MIB)),
    ]
}

/// What this process may use: the machine's memory, or less in a container.
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
