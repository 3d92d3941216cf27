//! Routes with a list of them, which the OpenAPI document is generated from.
//!
//! Must not know: which routes exist.

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
    /// Its path, in axum's syntax.
    pub path: &'static str,
    /// Its method, in lower case.
    pub method: &'static str,
    /// The path of the same handler that the OpenAPI document describes.
    pub described: &'static str,
}

impl Routes {
    /// No routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a `GET` handler at these paths, the first of which is described.
    pub fn get<H, T>(self, paths: &[&'static str], handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        self.add("get", paths, &get(handler))
    }

    /// Adds a `POST` handler at these paths, the first of which is described.
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

    /// These routes and others.
    pub fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.listed.extend(other.listed);
        self
    }

    /// These routes, with a layer around their handlers.
    pub fn layer(self, add: impl FnOnce(Router<Arc<App>>) -> Router<Arc<App>>) -> Self {
        Self { router: add(self.router), listed: self.listed }
    }

    /// The list.
    pub fn listed(&self) -> &[Listed] {
        &self.listed
    }

    /// The router that serves them.
    pub fn router(self) -> Router<Arc<App>> {
        self.router
    }
}
