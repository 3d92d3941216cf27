//! Which health checks are worth a line of the log.
//!
//! Must not know: requests, what is checked.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often repeated refusals of a health check for the same reason are logged.
const PROBES_AGAIN: Duration = Duration::from_secs(60);
/// Paths of refused health checks that are remembered.
const PROBE_PATHS_MAX: usize = 256;

/// The results of health checks, which several probes repeat every few seconds: a refusal is logged
/// when its reason is new at this path, and once a minute while it stays.
#[derive(Debug, Default)]
pub struct Probes(Mutex<HashMap<String, HashMap<&'static str, Instant>>>);

impl Probes {
    /// Whether a check at this path that was refused for this reason, if at all, is to be logged.
    pub fn says_something_new(&self, path: &str, refused: Option<&'static str>) -> bool {
        // The value is whole, so a poisoned lock is safe to use.
        let mut paths = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(reason) = refused else {
            paths.remove(path);
            return false;
        };
        // Clients choose some paths.
        if paths.len() >= PROBE_PATHS_MAX {
            paths.clear();
        }
        let logged = paths.entry(path.to_owned()).or_default();
        let is_known = logged.get(reason).is_some_and(|when| when.elapsed() < PROBES_AGAIN);
        if !is_known {
            logged.insert(reason, Instant::now());
        }
        !is_known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_health_check_that_is_refused_is_told_when_its_reason_is_new() {
        let probes = Probes::default();
        let told = [
            ("/readyz", Some("not_ready")),
            ("/readyz", Some("not_ready")),
            ("/readyz", Some("unhealthy")),
            // Reasons that alternate are told once each, and other checks change nothing.
            ("/readyz", Some("not_ready")),
            ("/livez", None),
            ("/readyz", Some("not_ready")),
            ("/health", Some("not_ready")),
            ("/readyz", None),
            ("/readyz", Some("unhealthy")),
        ];
        let told = told.map(|(path, refused)| probes.says_something_new(path, refused));
        assert_eq!(told, [true, false, true, false, false, false, true, false, true]);
        // Paths that clients make up are forgotten.
        for number in 0..2 * PROBE_PATHS_MAX {
            assert!(probes.says_something_new(&format!("/readyz/{number}"), Some("not_ready")));
        }
        assert!(probes.0.lock().expect("a lock").len() <= PROBE_PATHS_MAX);
    }
}
