//! A client of the external scaler, as KEDA is one.

use queue_exporter::scaler::externalscaler::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, ScaledObjectRef,
};
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// A connection.
#[derive(Clone)]
pub struct Scaler {
    pub channel: Channel,
}

/// A trigger of a ScaledObject by its metadata, `queue=a,metric=backlog`.
pub fn trigger(metadata: &str) -> ScaledObjectRef {
    let pairs = metadata.split(',').filter_map(|pair| pair.split_once('='));
    let scaler_metadata = pairs.map(|(key, value)| (key.into(), value.into())).collect();
    ScaledObjectRef { name: "worker".into(), namespace: "jobs".into(), scaler_metadata }
}

impl Scaler {
    /// To `port` of this machine; connects at the first call.
    pub fn new(port: u16) -> Self {
        Self { channel: Endpoint::try_from(format!("http://127.0.0.1:{port}")).unwrap().connect_lazy() }
    }

    pub async fn unary<Q, A>(&self, path: &'static str, question: Q) -> Result<A, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut client = Grpc::new(self.channel.clone());
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = http_path(path);
        Ok(client.unary(Request::new(question), path, ProstCodec::default()).await?.into_inner())
    }

    pub async fn is_active(&self, metadata: &str) -> Result<bool, Status> {
        let answer: IsActiveResponse = self.unary("/externalscaler.ExternalScaler/IsActive", trigger(metadata)).await?;
        Ok(answer.result)
    }

    pub async fn target(&self, metadata: &str) -> Result<(String, f64), Status> {
        let path = "/externalscaler.ExternalScaler/GetMetricSpec";
        let answer: GetMetricSpecResponse = self.unary(path, trigger(metadata)).await?;
        let spec = answer.metric_specs.into_iter().next().unwrap();
        Ok((spec.metric_name, spec.target_size_float))
    }

    /// As KEDA reads it: the whole number where the other is not over 0.
    pub async fn value(&self, metadata: &str) -> Result<f64, Status> {
        let question =
            GetMetricsRequest { scaled_object_ref: Some(trigger(metadata)), metric_name: "backlog".to_string() };
        let answer: GetMetricsResponse = self.unary("/externalscaler.ExternalScaler/GetMetrics", question).await?;
        let value = answer.metric_values.into_iter().next().unwrap();
        assert_eq!(value.metric_name, "backlog");
        Ok(if value.metric_value_float > 0.0 { value.metric_value_float } else { value.metric_value as f64 })
    }

    pub async fn stream(&self, metadata: &str) -> Result<Streaming<IsActiveResponse>, Status> {
        let mut client = Grpc::new(self.channel.clone());
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = http_path("/externalscaler.ExternalScaler/StreamIsActive");
        let codec: ProstCodec<ScaledObjectRef, IsActiveResponse> = ProstCodec::default();
        Ok(client.server_streaming(Request::new(trigger(metadata)), path, codec).await?.into_inner())
    }
}

fn http_path(path: &'static str) -> tonic::codegen::http::uri::PathAndQuery {
    tonic::codegen::http::uri::PathAndQuery::from_static(path)
}
