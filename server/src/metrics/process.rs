//! The metrics of the process.
//!
//! Must not know: which models it serves.

use std::time::SystemTime;

use prometheus::{Gauge, IntCounter, IntGaugeVec, Registry, core::Collector, opts};

use crate::logging;

/// Metrics read at every scrape.
#[derive(Debug)]
pub struct Process {
    resident: Gauge,
    log_lost: IntCounter,
}

impl Process {
    /// Registers them, and those that never change: the version of this build, and when the
    /// process started.
    pub fn new(registry: &Registry) -> Self {
        let build = opts!("proxima_build_info", "1; the build is in the labels");
        let build = IntGaugeVec::new(build, &["version"]).expect("names and labels are valid");
        registered(registry, &build);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let started = gauge("process_start_time_seconds", "start of the server, as a Unix time");
        registered(registry, &started);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        started.set(now.as_secs_f64());
        let resident = gauge("proxima_resident_bytes", "memory in RAM");
        registered(registry, &resident);
        let lost =
            opts!("proxima_log_lines_lost_total", "log lines that standard error did not accept");
        let log_lost = IntCounter::with_opts(lost).expect("the name is valid");
        registered(registry, &log_lost);
        Self { resident, log_lost }
    }

    /// Reads them again.
    pub fn update(&self) {
        self.resident.set(resident_bytes());
        self.log_lost.inc_by(logging::lost().saturating_sub(self.log_lost.get()));
    }
}

fn gauge(name: &str, help: &str) -> Gauge {
    Gauge::new(name, help).expect("the name is valid")
}

fn registered<M: Collector + Clone + 'static>(registry: &Registry, metric: &M) {
    registry.register(Box::new(metric.clone())).expect("names are different");
}

/// Resident memory of this process in bytes; 0 if the system does not say.
fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<f64>().ok());
    kilobytes.unwrap_or(0.0) * 1024.0
}
