//! How many threads can compute at once: the physical cores that this process may use.
//!
//! The two hardware threads of a core share its vector and matrix units, so a second one adds
//! little to a GEMM and takes cache from the first.
//!
//! Must not know: what is computed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Physical cores that this process may use, at most its CPU quota (cgroup), at least 1.
pub fn usable() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let listed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let cores = listed.and_then(list).and_then(|cpus| {
        let topology = Path::new("/sys/devices/system/cpu");
        physical(&cpus, |cpu| {
            let path = topology.join(format!("cpu{cpu}/topology/thread_siblings_list"));
            list(&fs::read_to_string(path).ok()?)
        })
    });
    // Without topology information, every hardware thread counts.
    cores.map_or(allowed, |cores| cores.clamp(1, allowed))
}

/// Number of cores of these hardware threads, a core being the set of its hardware threads; `None`
/// if any is unknown.
fn physical(
    cpus: &BTreeSet<usize>,
    siblings: impl Fn(usize) -> Option<BTreeSet<usize>>,
) -> Option<usize> {
    let cores: Option<BTreeSet<_>> = cpus.iter().map(|cpu| siblings(*cpu)).collect();
    cores.map(|cores| cores.len())
}

/// Parses a CPU list like `0-3,8`, as Linux writes it.
fn list(text: &str) -> Option<BTreeSet<usize>> {
    let mut numbers = BTreeSet::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        numbers.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_threads_of_a_core_count_once() {
        // Four cores, whose second hardware threads are numbered after all first ones, as on Intel.
        let intel = |cpu: usize| Some(BTreeSet::from([cpu % 4, cpu % 4 + 4]));
        let cores = |text: &str| physical(&list(text).expect("a list"), intel);
        assert_eq!(cores("0-7"), Some(4));
        assert_eq!(cores("0-3"), Some(4));
        assert_eq!(cores("0,4"), Some(1));
        assert_eq!(cores("1-2,5"), Some(2));
        // Siblings numbered consecutively, as in some virtual machines.
        let pairs = |cpu: usize| Some(BTreeSet::from([cpu / 2 * 2, cpu / 2 * 2 + 1]));
        assert_eq!(physical(&list("0-3").expect("a list"), pairs), Some(2));
        assert_eq!(physical(&list("0-3").expect("a list"), |_| None), None);
    }

    #[test]
    fn lists_are_read_as_linux_writes_them() {
        assert_eq!(list("\t0-2,7\n"), Some(BTreeSet::from([0, 1, 2, 7])));
        assert_eq!(list(""), None);
        assert_eq!(list("a-b"), None);
    }

    #[test]
    fn there_is_a_core_to_use_and_no_more_than_allowed() {
        let allowed = std::thread::available_parallelism().map_or(1, usize::from);
        assert!((1..=allowed).contains(&usable()));
    }
}
