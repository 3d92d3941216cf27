//! How many connections the system's limit of open files allows.
//!
//! Must not know: what is served.

use super::listen::CONNECTIONS_MAX;

/// Files open besides connections: of models, of image downloads, of the programs that decode
/// videos.
const OTHER_FILES: usize = 256;
/// The minimum number of connections of a listener.
const CONNECTIONS_MIN: usize = 16;
/// The minimum number of open files: the process has some twenty of its own, and the rest must do
/// for connections and for loading a model.
const FILES_MIN: usize = 64;

/// Raises the limit of open files as far as the system allows and connections need.
///
/// # Errors
/// If hardly anyone could connect within the limit, with advice.
pub fn check() -> Result<(), String> {
    match raised(CONNECTIONS_MAX + OTHER_FILES) {
        Some(files) if files < FILES_MIN => Err(format!(
            "the open-file limit is {files}, at least {FILES_MIN} is needed; raise it with \
             `ulimit -n 8192`, or LimitNOFILE of a systemd unit"
        )),
        _ => Ok(()),
    }
}

/// Connections that each of `listeners` listeners may have at a time. Raises the limit of open
/// files as far as the system allows and connections need; if that is not enough, idle connections
/// are closed sooner.
pub fn connections_max(listeners: usize) -> usize {
    let wanted = CONNECTIONS_MAX * listeners + OTHER_FILES;
    let connections = share(raised(wanted), listeners);
    if connections < CONNECTIONS_MAX {
        tracing::warn!(
            "the limit of open files leaves room for {connections} connections instead of \
             {CONNECTIONS_MAX}; `ulimit -n {wanted}` makes room for all"
        );
    }
    connections
}

/// Each listener's share of a limit of open files; the maximum if there is no limit.
fn share(files: Option<usize>, listeners: usize) -> usize {
    let Some(files) = files else { return CONNECTIONS_MAX };
    // If there are few, half of them are for others.
    let others = OTHER_FILES.min(files / 2);
    ((files - others) / listeners.max(1)).clamp(CONNECTIONS_MIN, CONNECTIONS_MAX)
}

/// The limit of open files, raised to `wanted` if allowed; `None` if there is no limit.
#[cfg(unix)]
fn raised(wanted: usize) -> Option<usize> {
    use rustix::process::{Resource, getrlimit, setrlimit};

    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current?;
    let allowed = limit.maximum.unwrap_or(u64::MAX).min(wanted as u64);
    if allowed > before {
        limit.current = Some(allowed);
        if setrlimit(Resource::Nofile, limit).is_ok() {
            return usize::try_from(allowed).ok();
        }
    }
    usize::try_from(before).ok()
}

/// Elsewhere (Windows) sockets use no file descriptors, so there is no limit to raise.
#[cfg(not(unix))]
fn raised(_: usize) -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_others() {
        assert_eq!(share(None, 2), CONNECTIONS_MAX);
        assert_eq!(share(Some(1_000_000), 2), CONNECTIONS_MAX);
        assert_eq!(share(Some(1024), 1), 1024 - OTHER_FILES);
        assert_eq!(share(Some(1024), 2), (1024 - OTHER_FILES) / 2);
        assert_eq!(share(Some(200), 1), 100);
        assert_eq!(share(Some(0), 1), CONNECTIONS_MIN);
    }

    #[cfg(unix)]
    #[test]
    fn the_limit_is_never_lowered() {
        let before = raised(0);
        assert_eq!(raised(1), before);
    }
}
