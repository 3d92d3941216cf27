//! Routes with their list: the router is made of them, and the OpenAPI document lists them.
//!
//! Must not know: which routes there are.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodRouter, get, post};

use super::App;

/// Handlers by path and method.
#[derive(Default)]
pub struct Routes {
    router: Router<Arc<App>>,
    listed: Vec<Listed>,
}

/// A route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Its path, as axum writes it.
    pub path: &'static str,
    /// Its method, in lower case.
    pub method: &'static str,
    /// The path with the same handler that the OpenAPI document describes.
    pub described: &'static str,
}

impl Routes {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what reads: at these paths, of which the first is described.
    pub fn get<H, T>(self, paths: &[&'static str], handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        self.add("get", paths, &get(handler))
    }

    /// Adds what takes a body: at these paths, of which the first is described.
    pub fn post<H, T>(self, paths: &[&'static str], handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        self.add("post", paths, &post(handler))
    }

    fn add(
        mut self,
        method: &'static str,
        paths: &[&'static str],
        handler: &MethodRouter<Arc<App>>,
    ) -> Self {
        for path in paths {
            self.router = self.router.route(path, handler.clone());
            self.listed.push(Listed { path, method, described: paths[0] });
        }
        self
    }

    /// These and others.
    pub fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.listed.extend(other.listed);
        self
    }

    /// These, with a layer around their handlers.
    pub fn layer(self, add: impl FnOnce(Router<Arc<App>>) -> Router<Arc<App>>) -> Self {
        Self { router: add(self.router), listed: self.listed }
    }

    /// The list.
    pub fn listed(&self) -> &[Listed] {
        &self.listed
    }

    /// What serves them.
    pub fn router(self) -> Router<Arc<App>> {
        self.router
    }
}
