//! The service itself: answers from what is shown, and streams that push.

use super::aspect::{Aspect, unreadable};
use super::externalscaler::external_scaler_server::{ExternalScaler, ExternalScalerServer};
use super::externalscaler::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec, MetricValue,
    ScaledObjectRef,
};
use super::interest::{Interest, Waiting};
use super::listen;
use super::push::Push;
use crate::snapshot::{Row, Snapshot};
use crate::tls::Tls;
use futures_util::Stream;
use futures_util::stream;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// Streams that may be open at once: twice the most queues, for a stream that was cut may linger while its successor is there.
const STREAMS: u32 = 20_000;
/// A request holds the metadata of one trigger; an open stream keeps a queue's name of it, so that all of them stay under 160 MB.
const REQUEST_MAX: usize = 8 * 1024;
/// How long a connection may be silent before it is asked whether it lives, and how long the answer may take.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// How long open calls have to end at shutdown.
const DRAIN: Duration = Duration::from_secs(5);

/// The reflection service's own description of what is served.
const DESCRIPTORS: &[u8] = include_bytes!("externalscaler.bin");

/// KEDA's external scaler.
#[derive(Clone)]
pub struct Scaler {
    /// What `/metrics` shows.
    pub shown: watch::Receiver<Arc<Snapshot>>,
    /// Whose first job is waited for.
    pub interest: Arc<Interest>,
    /// Turns true at shutdown.
    pub closing: watch::Receiver<bool>,
}

/// Serves gRPC until `closing` turns true, with health (`grpc.health.v1`) and reflection (v1) beside it.
pub async fn serve(listener: TcpListener, tls: Option<Tls>, scaler: Scaler) {
    let mut closing = scaler.closing.clone();
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<ExternalScalerServer<Scaler>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1();
    let reflection = match reflection {
        Ok(service) => Some(service),
        Err(error) => {
            tracing::error!(%error, "gRPC reflection can't be served");
            None
        }
    };
    let server = Server::builder()
        .max_concurrent_streams(STREAMS)
        .http2_max_header_list_size(16 * 1024)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .add_service(ExternalScalerServer::new(scaler.clone()).max_decoding_message_size(REQUEST_MAX))
        .add_service(health_service)
        .add_optional_service(reflection);
    let mut until = closing.clone();
    let stop = async move {
        let _ = until.wait_for(|closing| *closing).await;
    };
    let serving = server.serve_with_incoming_shutdown(listen::incoming(listener, tls), stop);
    let late = async {
        let _ = closing.wait_for(|closing| *closing).await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        ended = serving => if let Err(error) = ended {
            tracing::error!(%error, "gRPC is no longer served");
        },
        () = late => tracing::warn!("some gRPC calls did not end in time"),
    }
}

impl Scaler {
    fn row<T>(&self, aspect: &Aspect, of: impl FnOnce(&Row) -> Result<T, Status>) -> Result<T, Status> {
        let shown = Arc::clone(&self.shown.borrow());
        match shown.row(&aspect.queue) {
            Some(row) => of(row),
            None if !shown.polled => Err(Status::unavailable("the first poll is under way")),
            None => Err(Status::not_found(format!(
                "queue {:?} is not watched; name it in QUEUES or QUEUES_FILE of queue-exporter, or correct it in the trigger",
                aspect.queue
            ))),
        }
    }
}

type Pushes = Pin<Box<dyn Stream<Item = Result<IsActiveResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ExternalScaler for Scaler {
    async fn is_active(&self, request: Request<ScaledObjectRef>) -> Result<Response<IsActiveResponse>, Status> {
        let aspect = Aspect::of(&request.get_ref().scaler_metadata)?;
        let active = |row: &Row| {
            let reading = row.reading.as_ref().ok_or_else(|| unreadable(row))?;
            let unknown = || Status::failed_precondition("whether any job waits can't be known now");
            reading.is_active().ok_or_else(unknown)
        };
        Ok(Response::new(IsActiveResponse { result: self.row(&aspect, active)? }))
    }

    type StreamIsActiveStream = Pushes;

    async fn stream_is_active(&self, request: Request<ScaledObjectRef>) -> Result<Response<Pushes>, Status> {
        let aspect = Aspect::of(&request.get_ref().scaler_metadata)?;
        let waiting = self.interest.wait_for(&aspect.queue, STREAMS as usize);
        let waiting = waiting.ok_or_else(|| Status::resource_exhausted("too many streams are open"))?;
        let state = Pusher { shown: self.shown.clone(), closing: self.closing.clone(), waiting, push: Push::default() };
        Ok(Response::new(Box::pin(stream::unfold(state, Pusher::next))))
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        let aspect = Aspect::of(&request.get_ref().scaler_metadata)?;
        let target = self.row(&aspect, |row| aspect.target(&row.id.policy))?;
        let name = aspect.metric.name().to_string();
        let spec = MetricSpec { metric_name: name, target_size: rounded_up(target), target_size_float: target };
        Ok(Response::new(GetMetricSpecResponse { metric_specs: vec![spec] }))
    }

    async fn get_metrics(&self, request: Request<GetMetricsRequest>) -> Result<Response<GetMetricsResponse>, Status> {
        let request = request.into_inner();
        let aspect = Aspect::of(&request.scaled_object_ref.unwrap_or_default().scaler_metadata)?;
        let value = self.row(&aspect, |row| aspect.value(row))?;
        let value = MetricValue {
            metric_name: request.metric_name,
            metric_value: rounded_up(value),
            metric_value_float: value,
        };
        Ok(Response::new(GetMetricsResponse { metric_values: vec![value] }))
    }

    type StreamMetricSpecStream = Pin<Box<dyn Stream<Item = Result<GetMetricSpecResponse, Status>> + Send>>;

    /// Targets change only with the configuration, and that with a restart.
    async fn stream_metric_spec(
        &self,
        _: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamMetricSpecStream>, Status> {
        Err(Status::unimplemented("targets do not change while queue-exporter runs"))
    }
}

/// For clients that know whole numbers only: KEDA before 2.17, and a value of 0, of which KEDA reads this field.
fn rounded_up(number: f64) -> i64 {
    number.ceil() as i64
}

/// One open stream. It holds nothing back for a slow reader: a message is made when there is room for it.
struct Pusher {
    shown: watch::Receiver<Arc<Snapshot>>,
    closing: watch::Receiver<bool>,
    waiting: Waiting,
    push: Push,
}

impl Pusher {
    async fn next(mut self) -> Option<(Result<IsActiveResponse, Status>, Self)> {
        loop {
            let shown = Arc::clone(&self.shown.borrow_and_update());
            let reading = shown.row(self.waiting.label()).and_then(|row| row.reading.as_deref());
            if self.push.look(reading, Instant::now()) {
                return Some((Ok(IsActiveResponse { result: true }), self));
            }
            drop(shown);
            tokio::select! {
                changed = self.shown.changed() => changed.ok()?,
                _ = self.closing.wait_for(|closing| *closing) => return None,
            }
        }
    }
}
