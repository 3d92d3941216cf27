//! Proxima, the server: command line, configuration, wire formats, downloads, metrics.
//!
//! Must not know: how models compute or how batches are formed.

#![forbid(unsafe_code)]

pub mod about;
mod admit;
pub mod bench;
pub mod bulk;
pub mod cli;
pub mod command;
pub mod config;
pub mod dialects;
pub mod encoding;
pub mod failure;
pub mod health;
pub mod http;
pub mod hub;
pub mod logging;
pub mod media;
mod memory;
pub mod metrics;
pub mod models;
pub mod noted;
pub mod openapi;
pub mod router;
pub mod serve;
mod shares;
pub mod show;
pub mod signals;
pub mod verify;

#[cfg(test)]
mod served;

#[cfg(test)]
#[path = "../../tests/support/bad_bodies.rs"]
mod bad_bodies;
#[cfg(test)]
#[path = "../../tests/support/fake_model.rs"]
mod fake_model;
