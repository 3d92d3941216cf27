//! Proxima, the server: command line, configuration, wire formats, downloads, metrics.
