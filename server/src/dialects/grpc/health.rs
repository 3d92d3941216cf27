//! `grpc.health.v1`: a service is serving if a forward pass succeeds on every model.
//!
//! Must not know: any other service.

use std::time::Duration;

use futures_util::stream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_server};

use super::SERVICES;
use super::calls::{Calls, Replies};

/// How often health is checked for watchers.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// The service.
pub struct Health(pub Calls);

impl Health {
    async fn status(&self) -> ServingStatus {
        // Not serving during shutdown either: calls are still answered, but no more are wanted.
        if self.0.app().ready().await.is_ok() {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        }
    }

    /// The next status other than `last`, checked at once and then periodically; `None` after
    /// shutdown.
    async fn next(&self, last: Option<ServingStatus>, known: bool) -> Option<ServingStatus> {
        loop {
            let ending = self.0.is_stopping();
            let status = match known {
                true => self.status().await,
                false => ServingStatus::ServiceUnknown,
            };
            if last != Some(status) {
                return Some(status);
            }
            if ending {
                return None;
            }
            tokio::select! {
                () = tokio::time::sleep(WATCH_INTERVAL) => {}
                // Only while serving, so that it fires once; what follows is the end.
                () = self.0.app().left(), if status == ServingStatus::Serving => {}
                () = self.0.stopped() => {}
            }
        }
    }
}

/// Whether a service exists here; the empty name is the whole server.
fn is_known(service: &str) -> bool {
    service.is_empty() || SERVICES.contains(&service)
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    type WatchStream = Replies<HealthCheckResponse>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        if !is_known(&service) {
            return Err(Status::not_found(format!("there is no service {service:?}")));
        }
        Ok(Response::new(response(self.status().await)))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = is_known(&request.into_inner().service);
        let health = Self(self.0.clone());
        let statuses = stream::unfold((health, None), move |(health, last)| async move {
            let status = health.next(last, known).await?;
            Some((Ok(response(status)), (health, Some(status))))
        });
        Ok(Response::new(Box::pin(statuses)))
    }
}
