//! How much memory this process may still use, as far as the system says.
//!
//! Must not know: what uses it.

use std::fs;
use std::path::Path;

use crate::command::CommandError;

/// A memory limit, and how much of it is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LimitLeft {
    bytes: u64,
    of: &'static str,
}

/// Checks whether a model whose weights take `needed` bytes can be loaded.
///
/// # Errors
/// If it cannot, with the limit that prevents it.
pub fn check(folder: &Path, needed: u64) -> Result<(), CommandError> {
    let Some(left) = limits_left().into_iter().min_by_key(|left| left.bytes) else { return Ok(()) };
    if needed <= left.bytes {
        return Ok(());
    }
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    Err(CommandError::failure(format!(
        "{}: its weights take at least {:.2} GB of memory, and {} leaves {:.2} GB; raise it, serve \
         fewer or smaller models, or load this one with fewer bits (--dtype)",
        folder.display(),
        gigabytes(needed),
        left.of,
        gigabytes(left.bytes),
    )))
}

/// What is left of each limit. Empty if the system does not say.
fn limits_left() -> Vec<LimitLeft> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (status, machine) = (read("/proc/self/status"), read("/proc/meminfo"));
    let mut limits_left = limits(&status);
    let swap = kilobytes(&machine, "SwapFree:").unwrap_or(0);
    let free = kilobytes(&machine, "MemAvailable:").map(|bytes| bytes.saturating_add(swap));
    limits_left.extend(free.map(|bytes| LimitLeft { bytes, of: "the machine" }));
    limits_left.extend(container(&read("/proc/self/cgroup"), Path::new("/sys/fs/cgroup")));
    limits_left
}

/// What is left of the process's resource limits.
#[cfg(unix)]
fn limits(status: &str) -> Vec<LimitLeft> {
    use rustix::process::{Resource, getrlimit};
    let left = |resource, taken: &str, of| {
        let limit = getrlimit(resource).current?;
        let taken = kilobytes(status, taken).unwrap_or(0);
        Some(LimitLeft { bytes: limit.saturating_sub(taken), of })
    };
    [
        left(Resource::As, "VmSize:", "the limit of its address space (ulimit -v)"),
        left(Resource::Data, "VmData:", "the limit of its data (ulimit -d)"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(not(unix))]
fn limits(_: &str) -> Vec<LimitLeft> {
    Vec::new()
}

/// What is left of the container's limit, counting file pages that can be reclaimed as free: the
/// minimum over the process's control group and its ancestors.
fn container(groups: &str, root: &Path) -> Option<LimitLeft> {
    let number = |path: &Path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let line = |prefix: &str| groups.lines().find_map(|line| line.strip_prefix(prefix));
    let second = line("0::").map(|path| (root.to_owned(), path, "memory.max", "memory.current"));
    let first = groups.lines().find_map(|line| line.split_once(":memory:")).map(|(_, path)| {
        (root.join("memory"), path, "memory.limit_in_bytes", "memory.usage_in_bytes")
    });
    let mut least = None;
    for (root, path, limit, taken) in first.into_iter().chain(second) {
        for folder in Path::new(path.trim_start_matches('/')).ancestors() {
            let folder = root.join(folder);
            let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
            let files = stat.lines().find_map(|line| line.strip_prefix("inactive_file "));
            let files = files.and_then(|bytes| bytes.trim().parse::<u64>().ok()).unwrap_or(0);
            let (limit, taken) = (number(&folder.join(limit)), number(&folder.join(taken)));
            let left = limit.map(|limit| (limit + files).saturating_sub(taken.unwrap_or(0)));
            least = least.into_iter().chain(left).min();
        }
    }
    least.map(|bytes| LimitLeft { bytes, of: "the container's limit" })
}

/// A value in kB from `/proc`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_are_read() {
        let text = "VmPeak:\t  200 kB\nVmSize:\t  100 kB\n";
        assert_eq!(kilobytes(text, "VmSize:"), Some(102_400));
        assert_eq!(kilobytes(text, "VmData:"), None);
    }

    #[test]
    fn the_tightest_of_the_groups_around_a_process_counts() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let pod = root.path().join("kubepods/pod1");
        fs::create_dir_all(pod.join("container")).expect("made");
        let write = |folder: &Path, limit: &str, taken: &str| {
            fs::write(folder.join("memory.max"), limit).expect("written");
            fs::write(folder.join("memory.current"), taken).expect("written");
        };
        write(&pod, "1000\n", "300\n");
        fs::write(pod.join("memory.stat"), "anon 200\ninactive_file 100\n").expect("written");
        write(&pod.join("container"), "max\n", "250\n");
        let left = container("0::/kubepods/pod1/container\n", root.path());
        assert_eq!(left.map(|left| left.bytes), Some(800));
        assert_eq!(container("0::/\n", root.path()), None, "a group without a limit");
        let old = root.path().join("memory/docker/1");
        fs::create_dir_all(&old).expect("made");
        fs::write(old.join("memory.limit_in_bytes"), "500").expect("written");
        fs::write(old.join("memory.usage_in_bytes"), "100").expect("written");
        let left = container("4:memory:/docker/1\n0::/\n", root.path());
        assert_eq!(left.map(|left| left.bytes), Some(400));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_model_that_does_not_fit_is_refused_with_what_is_in_the_way() {
        assert_eq!(check(Path::new("m"), 0), Ok(()));
        let error = check(Path::new("m"), u64::MAX).expect_err("no machine has it");
        assert!(error.message.starts_with("m: its weights take"), "{}", error.message);
    }
}
