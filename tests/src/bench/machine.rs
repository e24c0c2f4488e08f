//! What the kernel counts: CPU time, memory and wake-ups of a process.

use std::time::Duration;

use anyhow::Context;

/// CPU time of all threads of a process, from schedstat (nanoseconds).
///
/// # Errors
/// When the process is gone.
pub fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let mut total = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let run: u64 = text.split_ascii_whitespace().next().context("schedstat")?.parse()?;
        total += run;
    }
    Ok(Duration::from_nanos(total))
}

/// Proportional set size in KiB.
///
/// # Errors
/// When the process is gone.
pub fn pss_kib(pid: u32) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find(|line| line.starts_with("Pss:")).context("no Pss")?;
    Ok(line.split_ascii_whitespace().nth(1).context("no value")?.parse()?)
}

/// How often a process went to sleep by itself: once for each wake-up.
///
/// # Errors
/// When the process is gone.
pub fn wake_ups(pid: u32) -> anyhow::Result<u64> {
    let mut total = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("status"))?;
        let line = text.lines().find(|line| line.starts_with("voluntary_ctxt_switches"));
        let count = line.and_then(|line| line.split_ascii_whitespace().nth(1));
        total += count.context("no count")?.parse::<u64>()?;
    }
    Ok(total)
}

/// One line about the machine and its load.
pub fn head() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let model = read("/proc/cpuinfo");
    let model = model.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    let load = load.split_ascii_whitespace().next().unwrap_or("?").to_owned();
    format!(
        "{cores} cores, {model}, Linux {}, load {load}",
        read("/proc/sys/kernel/osrelease").trim()
    )
}
